"""Order books: the best levels of one symbol, and only of a book that can be trusted. A book that is being built, has a
hole or went stale is answered with 503 and its state, never with levels.
"""

import datetime
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_whole
from serve_apps.bodies import ARROW, HEADERS, arrow_stream, send_json, values
from serve_apps.parameters import Parameter, Retired, Route, choice, whole_number
from serve_apps.shared_answer import NoAnswer
from serve_apps.symbol_names import EXCHANGE, SYMBOL, Symbols, find_symbol, having

BOOK: Final = "/api/v1/book/"
#: As it was called first.
BOOKS: Final = "/api/v1/books/"
MOST_LEVELS: Final = 5000
DEFAULT_LEVELS: Final = 25

#: (exchange, symbol, levels or None for all) -> one row of `storage.schema.DEPTH`; KeyError when nobody collects it.
Books = Callable[[str, str, int | None], Awaitable[pa.RecordBatch]]


def _levels(given: str) -> int | None:
    if given == "full":
        return None
    return whole_number({"levels": given}, "levels", DEFAULT_LEVELS, MOST_LEVELS, or_else="full or ")


LEVELS: Final[Parameter[int | None]] = Parameter(
    "levels",
    "So many of each side, or full.",
    {
        "oneOf": [{"type": "integer", "minimum": 1, "maximum": MOST_LEVELS}, {"const": "full"}],
        "default": DEFAULT_LEVELS,
    },
    _levels,
    DEFAULT_LEVELS,
)
FORMAT: Final = choice("format", "JSON, or an Arrow IPC stream.", "json", ("json", "arrow"))

ROUTE: Final = Route(
    BOOK + "{symbol}",
    "The best levels of an order book",
    (EXCHANGE, LEVELS, FORMAT),
    about="Levels are [price, size], the best first. Only a book that is complete is answered; of any other 503 says "
    "what is wrong with it. Times are ns since the epoch.",
    example={
        "exchange": "kraken",
        "symbol": "BTC/USD",
        "ts_event": 1769860800000000000,
        "ts_recv": 1769860800001000000,
        "state": "synced",
        "epoch": 1,
        "sequence": None,
        "bids": [[67000.0, 0.5]],
        "asks": [[67000.1, 0.25]],
    },
    others=("application/vnd.apache.arrow.stream",),
    segments={"symbol": SYMBOL},
)
OLD_ROUTE: Final = Route(
    BOOKS + "{symbol}",
    "The best levels of an order book, as it was called first",
    ROUTE.parameters,
    about=ROUTE.about,
    example=ROUTE.example,
    others=ROUTE.others,
    segments=ROUTE.segments,
    retired=Retired(datetime.date(2026, 11, 22), datetime.date(2027, 5, 31), BOOK),
)


class BooksApp:
    """ASGI application that answers `ROUTE` under `path`."""

    def __init__(self, books: Books, symbols: Symbols, path: str = BOOK) -> None:
        self._books = books
        self._symbols = symbols
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, symbol, levels, as_arrow = self._parse(last_segment(scope, self._path), ROUTE.query(scope))
        try:
            row = await self._books(exchange, symbol, levels)
        except KeyError:
            raise BadRequest(
                404, f"{symbol[:100]} of {exchange} is not collected; /api/v1/subscriptions lists what is."
            ) from None
        state = row.column("state")[0].as_py()
        if state != "synced":
            raise NoAnswer(f"The book of {symbol} on {exchange} is {state}: it cannot be trusted now.")
        if as_arrow:
            await send_whole(send, 200, (*HEADERS, ARROW), arrow_stream(row))
        else:
            await send_json(send, _said(exchange, row))

    def _parse(self, symbol: str, query: Mapping[str, str]) -> tuple[str, str, int | None, bool]:
        exchange, levels, as_arrow = EXCHANGE.of(query), LEVELS.of(query), FORMAT.of(query) == "arrow"
        if exchange is None:
            exchange, symbol = find_symbol(self._symbols(), symbol, None)
        # One that has not traded yet is not among them, and may have a book.
        return exchange, having(self._symbols(), symbol).get(exchange, symbol), levels, as_arrow


def _said(exchange: str, row: pa.RecordBatch) -> dict[str, Any]:
    plain = {name: row.column(name)[0].as_py() for name in row.schema.names if name not in ("bids", "asks")}
    return {"exchange": exchange, **plain, "bids": _side(row, "bids"), "asks": _side(row, "asks")}


def _side(row: pa.RecordBatch, name: str) -> list[list[float]]:
    column: Any = row.column(name)
    levels = column.flatten()
    pairs: list[list[float]] = np.column_stack([values(levels.field("price")), values(levels.field("size"))]).tolist()
    return pairs
