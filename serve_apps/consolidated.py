"""What is known over all exchanges: the best bid and ask of every instrument, and where buying at one exchange and
selling at another pays.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment
from serve_apps.bodies import send_json
from serve_apps.parameters import Parameter, Route, flag, number, text
from serve_apps.symbol_names import ONE_EXCHANGE

BBO: Final = "/api/v1/bbo"
ARBITRAGE: Final = "/api/v1/arbitrage"
KINDS: Final = ("spot", "perpetual")


def _kind(given: str) -> str:
    if given not in KINDS:
        raise BadRequest(400, f"kind must be one of: {', '.join(KINDS)}; not {given[:40]!r}.")
    return given


KIND: Final[Parameter[str | None]] = Parameter(
    "kind", "Only instruments of this kind.", {"type": "string", "enum": list(KINDS)}, _kind, None
)
INSTRUMENT: Final[Parameter[str | None]] = text("instrument", "Only of this instrument.", "BTC-USDT")
BUY: Final[Parameter[str | None]] = text("buy_exchange", "Only where one buys at this exchange.", "kraken")
SELL: Final[Parameter[str | None]] = text("sell_exchange", "Only where one sells at this exchange.", "binance")
OPEN: Final = flag("open", "1: only what is open now.")
LIMIT: Final = number("limit", "So many at most.", 1000, 5000)

_BEST: Final = {"instrument": "BTC-USDT", "kind": "spot", "bid_price": 67000.0, "bid_exchange": "kraken"}
_EXAMPLE: Final = {**_BEST, "ask_price": 67000.1, "ask_exchange": "okx", "spread": 0.1, "exchanges": 2, "quotes": []}
ROUTES: Final = (
    Route(
        BBO,
        "The best bid and ask of every instrument over all exchanges",
        (KIND, ONE_EXCHANGE),
        about="What counts and what is left out is said in docs/consolidated.md.",
        example=[_EXAMPLE],
    ),
    Route(
        BBO + "/{instrument}",
        "The best bid and ask of one instrument",
        example=_EXAMPLE,
        segments={"instrument": "The normalised name (BTC-USDT, BTC-PERPETUAL)."},
    ),
)
ARBITRAGE_ROUTE: Final = Route(
    ARBITRAGE,
    "Where buying at one exchange and selling at another pays, or paid",
    (INSTRUMENT, BUY, SELL, OPEN, LIMIT),
    about="What is open, the most profitable first, then what is over, the newest first.",
    example=[
        {"instrument": "BTC-USDT", "kind": "spot", "buy_exchange": "kraken", "sell_exchange": "okx", "profit": 12.5}
        | {"opened": 1769860800000000000, "closed": None, "spread": 0.006}
    ],
)

#: `storage.schema.CONSOLIDATED`, of all instruments; raises `NoAnswer`.
Best = Callable[[], Awaitable[pa.RecordBatch]]
#: `storage.schema.ARBITRAGE`: open ones, best first, then the newest of those that are over; raises `NoAnswer`.
Episodes = Callable[[], Awaitable[pa.RecordBatch]]


class BestApp:
    """ASGI application that answers `ROUTES`."""

    def __init__(self, best: Best) -> None:
        self._best = best

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = last_segment(scope, BBO)
        if wanted in ("", "/"):
            query = ROUTES[0].query(scope)
            kind, exchange = KIND.of(query), ONE_EXCHANGE.of(query)
            rows = _with_values(await self._best(), {"kind": kind}).to_pylist()
            if exchange is not None:
                rows = [row for row in rows if exchange in (quote["exchange"] for quote in row["quotes"])]
            await send_json(send, rows)
        else:
            ROUTES[1].query(scope)
            await send_json(send, _one(await self._best(), wanted))


class ArbitrageApp:
    """ASGI application that answers `ARBITRAGE_ROUTE`."""

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if last_segment(scope, ARBITRAGE) not in ("", "/"):
            raise BadRequest(404, f"There is nothing here; {ARBITRAGE} lists opportunities, {BBO} the best quotes.")
        query = ARBITRAGE_ROUTE.query(scope)
        limit, only_open = LIMIT.of(query), OPEN.of(query)
        found = _with_values(await self._episodes(), {one.name: one.of(query) for one in (INSTRUMENT, BUY, SELL)})
        if only_open:
            found = found.filter(pc.is_null(found.column("closed")))
        await send_json(send, found.slice(0, limit).to_pylist())


def _with_values(rows: pa.RecordBatch, values: dict[str, str | None]) -> pa.RecordBatch:
    """Those with these values, where one is wanted."""
    for name, value in values.items():
        if value is not None:
            rows = rows.filter(pc.equal(rows.column(name), pa.scalar(value)))
    return rows


def _one(rows: pa.RecordBatch, wanted: str) -> dict[str, Any]:
    name = wanted.removeprefix("/")
    found = _with_values(rows, {"instrument": name}).to_pylist()
    if not wanted.startswith("/") or not found:
        raise BadRequest(404, f"{name[:100]} is collected nowhere; {BBO} lists what is.")
    return found[0]
