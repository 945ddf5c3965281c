"""The Ray Serve applications of rayfeed: which ASGI application runs where, in how many replicas.

`rayfeed up` deploys them; `serve_config.yaml` names the same builders for `serve deploy`, with the instance's data
folder as their argument.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from pydantic import BaseModel
from ray import serve

from actors.alerting.definitions import AlertError
from actors.directory import DATABASE, MARKET_WATCH, SUPERVISOR, collector_name, find_actor, shard_name, shard_of
from actors.own_process import keep_what_there_is
from config import Settings, SettingsError, load
from serve_apps.alerts import ALERTS, AlertsApp
from serve_apps.asgi import Receive, Scope, Send
from serve_apps.books import BOOKS, BooksApp
from serve_apps.charts import CHARTS, ChartsApp, live_then_stored
from serve_apps.consolidated import ARBITRAGE, BBO, ArbitrageApp, BestApp
from serve_apps.data import build as build_data
from serve_apps.fast_lane import FastLane
from serve_apps.features import FEATURES, FeaturesApp
from serve_apps.integrity import GAPS, INTEGRITY, GapsApp, IntegrityApp
from serve_apps.market import MarketApp, Resource
from serve_apps.pages import PagesApp
from serve_apps.quality import QUALITY, QualityApp
from serve_apps.shared_answer import NoAnswer, Shared
from serve_apps.subscriptions import SUBSCRIPTIONS, SubscriptionsApp
from serve_apps.token import api_token
from storage.column_reader import ColumnReader

WEB = Path(__file__).parent / "web" / "dist"
READINESS_TIMEOUT_S = 2.0
#: The best quotes change all the time: who asks again within this time gets the same.
BEST_FRESH_S = 0.1
WATCH_TIMEOUT_S = 2.0
#: The supervisor itself waits 5 s for an actor that does not answer, and says so in its rows.
LOOK_TIMEOUT_S = 8.0

Asgi = Callable[[Scope, Receive, Send], Any]


@functools.cache
def actor(name: str) -> Any:
    """See `find_actor`, which waits for Ray each time. Actors keep their names for as long as there are replicas."""
    return find_actor(name)


class Instance(BaseModel):
    """What `serve_config.yaml` tells a builder: the data folder of the instance."""

    data: str = "data"


def data(instance: Instance) -> Any:
    """`/api/data`, `/api/symbols`."""
    return data_application(load(instance.data))


def market(instance: Instance) -> Any:
    """`/api/v1/...`."""
    return market_application(load(instance.data))


def pages(instance: Instance) -> Any:
    """`/`, `/healthz`, `/readyz`."""
    return pages_application(load(instance.data))


def data_application(settings: Settings, lane_port: int | None = None) -> Any:
    """With `lane_port`, replicas on this node also answer there, see `serve_apps.fast_lane`."""

    def build() -> Asgi:
        app = build_data(settings)
        return app if lane_port is None else FastLane(app, lane_port)

    return _application("DataApi", build, settings.serving.data_replicas)


def market_application(settings: Settings) -> Any:
    def build() -> Asgi:
        async def live(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            bars: pa.RecordBatch = await shard.bars.remote(exchange, symbol, timeframe, limit)
            return bars

        async def indicators(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            said: pa.RecordBatch = await shard.indicators.remote(exchange, symbol, timeframe, limit)
            return said

        async def newest(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            found: pa.RecordBatch = await _answer(shard.features.remote(exchange, symbol, timeframe, limit))
            return found

        async def between(exchange: str, symbol: str, timeframe: str, from_ns: int, before_ns: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            asked = shard.features_between.remote(exchange, symbol, timeframe, from_ns, before_ns)
            found: pa.RecordBatch = await _answer(asked)
            return found

        async def stored(exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int | None) -> pa.Table:
            bars: pa.Table = await actor(DATABASE).bars.remote(exchange, symbol, timeframe, limit, before_ns)
            return bars

        async def book(exchange: str, symbol: str, levels: int | None) -> pa.RecordBatch:
            try:
                collector = actor(collector_name(exchange))
            except ValueError:
                raise KeyError(exchange) from None
            found: list[pa.RecordBatch] = await collector.book.remote([symbol], levels)
            if not found:
                raise KeyError(symbol)
            return found[0]

        symbols = ColumnReader(settings.columns).symbols
        charts = ChartsApp(live_then_stored(live, stored), indicators, symbols)
        supervised = _Supervised()
        token = api_token(settings)
        changes = SubscriptionsApp(supervised, token)
        return MarketApp(
            [
                Resource(CHARTS, ("GET", "HEAD"), charts),
                Resource(FEATURES, ("GET", "HEAD"), FeaturesApp(newest, between, symbols)),
                Resource(BOOKS, ("GET", "HEAD"), BooksApp(book)),
                Resource(SUBSCRIPTIONS, ("GET", "HEAD", "POST", "DELETE"), changes),
                Resource(INTEGRITY, ("GET", "HEAD"), IntegrityApp(Shared(supervised.integrity))),
                Resource(GAPS, ("GET", "HEAD"), GapsApp(supervised.gaps)),
                Resource(QUALITY, ("GET", "HEAD"), QualityApp(supervised.quality)),
                Resource(BBO, ("GET", "HEAD"), BestApp(Shared(_watched("best"), BEST_FRESH_S))),
                Resource(ARBITRAGE, ("GET", "HEAD"), ArbitrageApp(Shared(_watched("episodes"), BEST_FRESH_S))),
                Resource(ALERTS, ("GET", "HEAD", "POST", "PUT", "DELETE"), AlertsApp(_Alerts(), token)),
            ]
        )

    return _application("MarketApi", build, settings.serving.market_replicas)


def pages_application(settings: Settings) -> Any:
    def build() -> Asgi:
        return PagesApp(WEB, readiness)

    return _application("Pages", build, settings.serving.page_replicas)


class _Supervised:
    """What is collected, by the supervisor; see `serve_apps.subscriptions.Collection`."""

    async def symbols(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await actor(SUPERVISOR).symbols.remote()
        return rows

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

    async def _look(self, method: str, *arguments: Any) -> Any:
        """Ask what somebody may look at again and again: rather no answer than a late one."""
        try:
            return await asyncio.wait_for(self._ask(method, *arguments), LOOK_TIMEOUT_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            raise NoAnswer("The actors that know do not answer now; ask again in a moment.") from None

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(actor(SUPERVISOR), method).remote(*arguments)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SettingsError):
                raise LookupError(str(error.cause)) from None
            raise


async def _answer(reference: Any) -> Any:
    """What an actor says; a ValueError of it as itself."""
    try:
        return await reference
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise error.cause from None
        raise


def _watched(method: str) -> Callable[[], Awaitable[pa.RecordBatch]]:
    """Asks the market watch."""

    async def ask() -> pa.RecordBatch:
        try:
            asked = getattr(actor(MARKET_WATCH), method).remote()
            rows: pa.RecordBatch = await asyncio.wait_for(asked, WATCH_TIMEOUT_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            raise NoAnswer("Whoever watches the quotes does not answer now; ask again in a moment.") from None
        return rows

    return ask


class _Alerts:
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
            raise NoAnswer("The actors that know do not answer now; ask again in a moment.") from None


async def readiness() -> tuple[bool, dict[str, Any]]:
    """What the supervisor says; not ready when it does not answer."""
    try:
        return await asyncio.wait_for(actor(SUPERVISOR).readiness.remote(), READINESS_TIMEOUT_S)
    except (TimeoutError, ValueError, ray.exceptions.RayError):
        return False, {"status": "starting", "feeds": {}}


def _application(name: str, build: Callable[[], Asgi], replicas: int) -> Any:
    def build_and_keep() -> Asgi:
        app = build()
        keep_what_there_is()
        return app

    deployment = serve.deployment(
        serve.ingress(build_and_keep)(),
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=1000,
        graceful_shutdown_timeout_s=2,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    )
    return deployment.bind()
