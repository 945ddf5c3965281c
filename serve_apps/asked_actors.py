"""What applications ask of the actors: each question bounded in time, and what goes wrong said as they know it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa
import ray

from actors.alerting.definitions import AlertError
from actors.configuration import OutdatedVersion, UnknownVersion
from actors.directory import DATABASE, MARKET_WATCH, METRICS, SUPERVISOR, Handles, collector_name, owner
from config import SettingsError
from serve_apps.shared_answer import NoAnswer
from storage.clickhouse import DatabaseUnavailable, Parameter

READINESS_TIMEOUT_S: Final = 2.0
WATCH_TIMEOUT_S: Final = 2.0
#: The supervisor itself waits 5 s for an actor that does not answer, and says so in its rows.
LOOK_TIMEOUT_S: Final = 8.0
#: What may have to be read from the disk, or by the database.
READ_TIMEOUT_S: Final = 60.0
_AWAY: Final = "The actors that know do not answer now; ask again in a moment."


_actors: Final = Handles()


def actor(name: str) -> Any:
    """Its handle, kept for as long as there is this process; see `Handles`."""
    return _actors[name]


class Supervised:
    """What is collected, by the supervisor; see `serve_apps.subscriptions.Collection`."""

    async def symbols(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._look("symbols")
        return rows

    async def status(self) -> dict[str, dict[str, Any]]:
        said: dict[str, dict[str, Any]] = await self._look("status")
        return said

    async def add(self, exchange: str, symbols: list[str]) -> dict[str, str]:
        said: dict[str, str] = await self._ask("add_symbols", exchange, symbols)
        return said

    async def remove(self, exchange: str, symbols: list[str]) -> list[str]:
        removed: list[str] = await self._ask("remove_symbols", exchange, symbols)
        return removed

    async def integrity(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._look("integrity")
        return rows

    async def gaps(self, exchange: str | None, symbol: str | None, open_only: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._look("gaps", exchange, symbol, open_only)
        return found

    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._look("quality", exchange, symbol, hours)
        return rows

    async def configuration(self) -> dict[str, Any]:
        said: dict[str, Any] = await self._configured("configuration")
        return said

    async def configuration_versions(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._configured("configuration_versions")
        return rows

    async def configure(self, values: dict[str, Any], note: str, user: str, expected: int | None) -> dict[str, Any]:
        said: dict[str, Any] = await self._configured("configure", values, note, user, expected)
        return said

    async def roll_back(self, version: int, note: str, user: str) -> dict[str, Any]:
        said: dict[str, Any] = await self._configured("roll_back", version, note, user)
        return said

    async def _configured(self, method: str, *arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(getattr(actor(SUPERVISOR), method).remote(*arguments), LOOK_TIMEOUT_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SettingsError | OutdatedVersion | UnknownVersion):
                raise error.cause from None
            if isinstance(error.cause, OSError):
                raise NoAnswer("The change cannot be kept: the disk of the data folder refuses it.") from None
            raise
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            raise NoAnswer(_AWAY) from None

    async def _look(self, method: str, *arguments: Any) -> Any:
        """Ask what somebody may look at again and again: rather no answer than a late one."""
        try:
            return await asyncio.wait_for(self._ask(method, *arguments), LOOK_TIMEOUT_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            raise NoAnswer(_AWAY) from None

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(actor(SUPERVISOR), method).remote(*arguments)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SettingsError):
                raise LookupError(str(error.cause)) from None
            raise


class Shards:
    """The shards, each asked about the symbols it owns. ValueError where one refuses, `NoAnswer`."""

    def ask(self, method: str) -> Callable[..., Awaitable[Any]]:
        """A method of the shard of (exchange, symbol), which are its first arguments."""

        async def asked(exchange: str, symbol: str, *arguments: Any) -> Any:
            return await told(owner(exchange, symbol), method, exchange, symbol, *arguments)

        return asked


async def told(name: str, method: str, *arguments: Any, within_s: float = READ_TIMEOUT_S) -> Any:
    """What an actor says; ValueError, KeyError and `DatabaseUnavailable` of it as themselves, `NoAnswer` when it does
    not say anything in time."""
    try:
        actor(name)
    except ValueError:
        raise NoAnswer(_AWAY) from None
    try:
        return await asyncio.wait_for(_actors.ask(name, method, *arguments), within_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError | KeyError | DatabaseUnavailable):
            raise error.cause from None
        raise
    except (TimeoutError, ray.exceptions.RayError):
        raise NoAnswer(_AWAY) from None


async def query(sql: str, parameters: Mapping[str, Parameter]) -> pa.Table:
    """Rows of the database; `DatabaseUnavailable`, `NoAnswer`."""
    rows: pa.Table = await told(DATABASE, "query", sql, parameters)
    return rows


async def book(exchange: str, symbol: str, levels: int | None) -> pa.RecordBatch:
    """See `serve_apps.books.Books`."""
    try:
        actor(collector_name(exchange))
    except ValueError:
        raise KeyError(exchange) from None
    found: list[pa.RecordBatch] = await told(
        collector_name(exchange), "book", [symbol], levels, within_s=LOOK_TIMEOUT_S
    )
    if not found:
        raise KeyError(symbol)
    return found[0]


def listed_by(exchanges: Iterable[str]) -> Callable[[], Awaitable[dict[str, pa.Table | None]]]:
    """What these exchanges list, None where nobody knows; see `Collector.instruments`. A collector that does not answer
    keeps what it said last."""
    known: dict[str, pa.Table | None] = dict.fromkeys(exchanges)

    async def one(exchange: str) -> None:
        with suppress(NoAnswer):
            found = await told(collector_name(exchange), "instruments", within_s=WATCH_TIMEOUT_S)
            known[exchange] = found if found is not None else known[exchange]

    async def ask() -> dict[str, pa.Table | None]:
        await asyncio.gather(*map(one, known))
        return dict(known)

    return ask


def watched(method: str) -> Callable[[], Awaitable[pa.RecordBatch]]:
    """Asks the market watch."""

    async def ask() -> pa.RecordBatch:
        try:
            asked = getattr(actor(MARKET_WATCH), method).remote()
            rows: pa.RecordBatch = await asyncio.wait_for(asked, WATCH_TIMEOUT_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            raise NoAnswer("Whoever watches the quotes does not answer now; ask again in a moment.") from None
        return rows

    return ask


class SupervisedAlerts:
    """Alerts, by the supervisor; see `serve_apps.alerts.Alerts`."""

    async def add_alert(self, given: dict[str, Any]) -> dict[str, Any]:
        alert: dict[str, Any] = await self._ask("add_alert", given)
        return alert

    async def change_alert(self, alert_id: str, given: dict[str, Any]) -> dict[str, Any]:
        alert: dict[str, Any] = await self._ask("change_alert", alert_id, given)
        return alert

    async def remove_alert(self, alert_id: str) -> None:
        await self._ask("remove_alert", alert_id)

    async def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._ask("alerts")
        return found

    async def alert(self, alert_id: str) -> dict[str, Any]:
        alert: dict[str, Any] = await self._ask("alert", alert_id)
        return alert

    async def deliveries(self, alert_id: str | None, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._ask("deliveries", alert_id, limit)
        return found

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            asked = getattr(actor(SUPERVISOR), method).remote(*arguments)
            return await asyncio.wait_for(asked, LOOK_TIMEOUT_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AlertError):
                raise error.cause from None
            raise
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            raise NoAnswer(_AWAY) from None


async def metrics_text() -> bytes:
    """See `Metrics.text`; `NoAnswer`."""
    said: bytes = await told(METRICS, "text", within_s=LOOK_TIMEOUT_S)
    return said


async def readiness() -> tuple[bool, dict[str, Any]]:
    """What the supervisor says; not ready when it does not answer."""
    try:
        return await asyncio.wait_for(actor(SUPERVISOR).readiness.remote(), READINESS_TIMEOUT_S)
    except (TimeoutError, ValueError, ray.exceptions.RayError):
        return False, {"status": "starting", "feeds": {}}
