"""What is known to be missing: the integrity of every symbol, and the gaps that are open or were."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment
from serve_apps.bodies import HEADERS_OF_A_SECOND, send_json
from serve_apps.parameters import Parameter, Route, flag, number, text
from serve_apps.symbol_names import EXCHANGE, ONE_EXCHANGE, SYMBOL

INTEGRITY: Final = "/api/v1/integrity"
GAPS: Final = "/api/v1/gaps"

ONE_SYMBOL: Final[Parameter[str | None]] = text("symbol", "Only those of this symbol.", "BTCUSDT")
OPEN: Final = flag("open", "1: only those that are open.")
LIMIT: Final = number("limit", "The newest so many.", 1000, 5000)

_STATE: Final = {"state": "synced", "since": 1769860800000000000, "why": "", "proof": "ids", "missing": 0}
_EXAMPLE: Final = {"exchange": "binance", "symbol": "BTCUSDT", **_STATE}
ROUTES: Final = (
    Route(
        INTEGRITY,
        "How far the data of all symbols can be trusted",
        (ONE_EXCHANGE,),
        about="What the states mean is said in docs/integrity.md. Times are ns since the epoch.",
        example=[_EXAMPLE],
    ),
    Route(
        INTEGRITY + "/{symbol}",
        "How far the data of one symbol can be trusted",
        (EXCHANGE,),
        example=_EXAMPLE,
        segments={"symbol": SYMBOL},
    ),
)
GAPS_ROUTE: Final = Route(
    GAPS,
    "Gaps: trades that were not received, and what became of them; the newest first",
    (ONE_EXCHANGE, ONE_SYMBOL, OPEN, LIMIT),
    example=[
        {"exchange": "binance", "symbol": "BTCUSDT", "gap_id": 1, "first_id": 10, "last_id": 12}
        | {"from_ns": 1769860800000000000, "to_ns": 1769860801000000000, "missing": 0, "reason": "connection lost"}
        | {"opened": 1769860802000000000, "closed": 1769860803000000000, "evidence": "every id is stored"}
    ],
)

#: One row per symbol, see `actors.supervisor.Supervisor.integrity`.
Integrity = Callable[[], Awaitable[Sequence[dict[str, Any]]]]
#: (exchange or None, symbol or None, only open ones) -> rows of `storage.schema.GAPS` with their exchange.
Gaps = Callable[[str | None, str | None, bool], Awaitable[Sequence[dict[str, Any]]]]


class IntegrityApp:
    """ASGI application that answers `ROUTES`."""

    def __init__(self, integrity: Integrity) -> None:
        self._integrity = integrity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = last_segment(scope, INTEGRITY)
        exchange = EXCHANGE.of(ROUTES[0].query(scope))
        rows = [row for row in await self._integrity() if exchange in (None, row["exchange"])]
        if wanted in ("", "/"):
            await send_json(send, rows, headers=HEADERS_OF_A_SECOND)
        else:
            await send_json(send, only_one(rows, wanted, exchange, INTEGRITY), headers=HEADERS_OF_A_SECOND)


class GapsApp:
    """ASGI application that answers `GAPS_ROUTE`."""

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if last_segment(scope, GAPS) not in ("", "/"):
            raise BadRequest(404, f"There is nothing here; {GAPS} lists gaps.")
        query = GAPS_ROUTE.query(scope)
        limit = LIMIT.of(query)
        try:
            found = await self._gaps(ONE_EXCHANGE.of(query), ONE_SYMBOL.of(query), OPEN.of(query))
        except LookupError as error:
            raise BadRequest(404, str(error.args[0])) from None
        newest = sorted(found, key=lambda gap: gap["opened"], reverse=True)[:limit]
        await send_json(send, newest, headers=HEADERS_OF_A_SECOND)


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
