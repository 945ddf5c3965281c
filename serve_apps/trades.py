"""Trades of one symbol, a page at a time. A cursor says which trade a page ended with, not how many came before it."""

import asyncio
import base64
import binascii
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_whole
from serve_apps.bodies import ARROW, HEADERS, arrow_stream, json_rows, send_json
from serve_apps.other_nodes import Elsewhere, NodeAway
from serve_apps.parameters import Parameter, Route, choice, moment, number, text
from serve_apps.shared_answer import NoAnswer
from serve_apps.symbol_names import EXCHANGE, SYMBOL, Symbols, find_symbol
from storage.column_layout import FIRST_DAY, LAST_DAY, NANOS_PER_DAY
from storage.column_reader import BeingRewritten, ColumnReader
from storage.trade_pages import FIELDS, Key, Page, page

TRADES: Final = "/api/v1/trades/"
MOST: Final = 10_000
#: Pages that go on into the present end so long before it: trades of the same moment may still be on their way.
SETTLED_NS: Final = 1_000_000_000
_CURSOR: Final = struct.Struct(">cqQ")
_FIRST: Final = FIRST_DAY * NANOS_PER_DAY
_AFTER: Final = (LAST_DAY + 1) * NANOS_PER_DAY

LIMIT: Final = number("limit", "Trades of a page at most.", 1000, MOST)
START: Final = moment("start", "Only trades at or after this time.")
END: Final = moment("end", "Only trades before this time.", "2026-01-31T13:00:00Z")
ORDER: Final = choice("order", "desc: the newest first; asc: the oldest first.", "desc", ("desc", "asc"))
FORMAT: Final = choice(
    "format", "JSON, or an Arrow IPC stream; next_cursor is in its schema.", "json", ("json", "arrow")
)
CURSOR: Final[Parameter[str | None]] = text("cursor", "next_cursor of the page before; with its other parameters.")

ROUTE: Final = Route(
    TRADES + "{symbol}",
    "Trades, the newest or of a range of time, page by page",
    (EXCHANGE, LIMIT, START, END, ORDER, CURSOR, FORMAT),
    about="`next_cursor` asks for the page behind this one and is null where there is none. With `order=asc` and no "
    "`end` there is always one: it asks for what has come since. `time` is in ns since the epoch.",
    example={
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "order": "desc",
        "trades": [{"time": 1769860800000000000, "trade_id": 7, "price": 67000.5, "size": 0.02, "side": "buy"}],
        "next_cursor": "ZBiPxhJ3gAAAAAAAAAAABw",
    },
    others=("application/vnd.apache.arrow.stream",),
    segments={"symbol": SYMBOL},
)


class TradesApp:
    """ASGI application that answers `ROUTE`."""

    def __init__(
        self,
        reader: ColumnReader,
        symbols: Symbols,
        elsewhere: Elsewhere | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._reader = reader
        self._symbols = symbols
        self._elsewhere = elsewhere
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = ROUTE.query(scope)
        asked, as_arrow = self._parse(query), FORMAT.of(query) == "arrow"
        if self._elsewhere is not None and not self._elsewhere.known:
            await self._elsewhere.first_look()
        exchange, symbol = find_symbol(self._symbols(), last_segment(scope, TRADES), EXCHANGE.of(query))
        try:
            if self._elsewhere is not None and self._elsewhere.has(exchange, symbol):
                rows, more = await self._elsewhere.page(exchange, symbol, asked)
            else:
                # It may have to be read from the disk.
                rows, more = await asyncio.to_thread(page, self._reader, exchange, symbol, asked)
        except BeingRewritten:
            raise NoAnswer("Rows of this time are being rewritten; ask again in a moment.") from None
        except NodeAway:
            raise NoAnswer("The node that has this symbol does not answer now; ask again in a moment.") from None
        cursor = next_cursor(asked, rows, more or asked.goes_on)
        if as_arrow:
            about = {"exchange": exchange, "symbol": symbol, "next_cursor": cursor or ""}
            await send_whole(send, 200, (*HEADERS, ARROW), arrow_stream(rows.replace_schema_metadata(about)))
            return
        said = {"exchange": exchange, "symbol": symbol, "order": "desc" if asked.descending else "asc"}
        await send_json(send, {**said, "trades": json_rows(rows, FIELDS), "next_cursor": cursor})

    def _parse(self, query: Mapping[str, str]) -> Page:
        start, end, descending = START.of(query), END.of(query), ORDER.of(query) == "desc"
        if start is not None and end is not None and start >= end:
            raise BadRequest(400, "start must be before end.")
        begin, before = (_FIRST if start is None else start), (_AFTER if end is None else end)
        settled = before if descending else min(before, self._clock() - SETTLED_NS)
        cursor = CURSOR.of(query)
        after = None if cursor is None else read_cursor(cursor, descending)
        return Page(begin, settled, descending, LIMIT.of(query), after, goes_on=settled < before)


def next_cursor(asked: Page, rows: pa.RecordBatch, goes_on: bool) -> str | None:
    """What asks for the page behind `rows`; where there are none, for the same page again."""
    if not goes_on:
        return None
    if rows.num_rows:
        times, ids = rows.column("time"), rows.column("trade_id")
        key = Key(times[-1].as_py(), ids[-1].as_py() % 2**64)
    else:
        key = asked.after or Key(max(asked.start - 1, 0), 2**64 - 1)
    packed = _CURSOR.pack(b"d" if asked.descending else b"a", *key)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(cursor: str, descending: bool) -> Key:
    """`BadRequest` for what no page gave, or one of the other order."""
    try:
        order, ns, trade_id = _CURSOR.unpack(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise BadRequest(400, "cursor must be next_cursor of the page before, as it was.") from None
    if order != (b"d" if descending else b"a") or ns < 0:
        raise BadRequest(400, "cursor is of pages in the other order: ask with the parameters of the first page.")
    return Key(ns, trade_id)
