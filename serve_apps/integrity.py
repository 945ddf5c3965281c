"""What is known to be missing: the integrity of every symbol, and the gaps that are open or were."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from serve_apps.asgi import (
    ANY_ORIGIN,
    BadRequest,
    Receive,
    Scope,
    Send,
    known_query,
    last_segment,
    send_problem,
    send_whole,
)

INTEGRITY: Final = "/api/v1/integrity"
GAPS: Final = "/api/v1/gaps"
MOST_GAPS: Final = 5000
DEFAULT_GAPS: Final = 1000
#: Many may look every second: the edge and each replica answer them all with what they heard within this time.
FRESH_S: Final = 0.5
_HEADERS: Final = (ANY_ORIGIN, (b"content-type", b"application/json"), (b"cache-control", b"public, max-age=1"))

#: One row per symbol, see `actors.supervisor.Supervisor.integrity`.
Integrity = Callable[[], Awaitable[Sequence[dict[str, Any]]]]
#: (exchange or None, symbol or None, only open ones) -> rows of `storage.schema.GAPS` with their exchange.
Gaps = Callable[[str | None, str | None, bool], Awaitable[Sequence[dict[str, Any]]]]


class NoAnswer(Exception):
    """Those who know cannot be asked now."""


class Shared[Value]:
    """`ask` for all who want to know at about the same time: one question at once, its answer good for `fresh_s`."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Value]],
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._clock = clock
        self._asked: asyncio.Task[Value] | None = None
        self._asked_at = 0.0

    async def __call__(self) -> Value:
        if self._asked is None or (self._asked.done() and self._clock() - self._asked_at > self._fresh_s):
            self._asked = asyncio.ensure_future(self._ask())
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
            self._asked_at = self._clock()
        # One who goes away does not take the answer from the others.
        return await asyncio.shield(self._asked)


class IntegrityApp:
    """ASGI application that answers GET `/api/v1/integrity?exchange=` and `/api/v1/integrity/{symbol}?exchange=`."""

    def __init__(self, integrity: Integrity) -> None:
        self._integrity = integrity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wanted = last_segment(scope, INTEGRITY)
            exchange = known_query(scope, {"exchange"}).get("exchange")
            rows = [row for row in await self._integrity() if exchange in (None, row["exchange"])]
            if wanted in ("", "/"):
                await send_json(send, rows)
            else:
                await send_json(send, only_one(rows, wanted, exchange, INTEGRITY))
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])


class GapsApp:
    """ASGI application that answers GET `/api/v1/gaps?exchange=&symbol=&open=0|1&limit=`, the newest first."""

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if last_segment(scope, GAPS) not in ("", "/"):
                raise BadRequest(404, f"There is nothing here; {GAPS} lists gaps.")
            query = known_query(scope, {"exchange", "symbol", "open", "limit"})
            only_open, limit = query.get("open", "0"), query.get("limit", str(DEFAULT_GAPS))
            if only_open not in ("0", "1"):
                raise BadRequest(400, "open must be 1 (only open gaps) or 0 (all).")
            if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MOST_GAPS):
                raise BadRequest(400, f"limit must be a whole number from 1 to {MOST_GAPS}.")
            found = await self._gaps(query.get("exchange"), query.get("symbol"), only_open == "1")
            await send_json(send, sorted(found, key=lambda gap: gap["opened"], reverse=True)[: int(limit)])
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except LookupError as error:
            await send_problem(send, 404, str(error.args[0]))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])


def only_one(rows: Sequence[dict[str, Any]], wanted: str, exchange: str | None, path: str) -> dict[str, Any]:
    """The row of the symbol that follows `path` (`wanted`: with its slash), named as on the exchange or as its folder
    is; `BadRequest` where there is none, or where `exchange` would have to say which."""
    symbol = wanted.removeprefix("/")
    found = [row for row in rows if symbol in (row["symbol"], row["symbol"].replace("/", "_"))]
    if not wanted.startswith("/") or not found:
        on = f" on {exchange}" if exchange else ""
        raise BadRequest(404, f"{symbol}{on} is not collected; {path} lists what is.")
    if len(found) > 1:
        having = ", ".join(sorted(row["exchange"] for row in found))
        raise BadRequest(400, f"Several exchanges have {symbol}; add exchange= one of: {having}.")
    return found[0]


async def send_json(send: Send, said: Any) -> None:
    """Answer with what may be a second old."""
    await send_whole(send, 200, _HEADERS, msgspec.json.encode(said))
