"""Trades of one symbol from its column files, a page at a time. A cursor says which trade a page ended with, not how
many came before it: however many rows are stored meanwhile, no page repeats a trade and none is left out.
"""

import asyncio
import base64
import binascii
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_whole
from serve_apps.bodies import ARROW, HEADERS, arrow_stream, json_rows, send_json
from serve_apps.parameters import Parameter, Route, choice, moment, number, text
from serve_apps.shared_answer import NoAnswer
from serve_apps.symbol_names import EXCHANGE, SYMBOL, Symbols, find_symbol
from storage.column_layout import FIRST_DAY, LAST_DAY, NANOS_PER_DAY, Column, join_time
from storage.column_reader import BeingRewritten, ColumnReader, Selection

TRADES: Final = "/api/v1/trades/"
MOST: Final = 10_000
#: Pages that go on into the present end so long before it: trades of the same moment may still be on their way.
SETTLED_NS: Final = 1_000_000_000
_COLUMNS: Final = ("time", "nanos", "id", "price64", "size64", "side")
_FIELDS: Final = ("time", "trade_id", "price", "size", "side")
_CURSOR: Final = struct.Struct(">cqQ")
_FIRST: Final = FIRST_DAY * NANOS_PER_DAY
_AFTER: Final = (LAST_DAY + 1) * NANOS_PER_DAY
_SIDES: Final = ("buy", "sell", None)

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


class Key(NamedTuple):
    """What orders trades: `ts_event`, and their id as u64."""

    ns: int
    trade_id: int


@dataclass(frozen=True, slots=True)
class Page:
    """Which trades are wanted: from `start` to before `end` (ns), behind `after` in their order."""

    start: int
    end: int
    descending: bool
    limit: int
    after: Key | None
    #: Further trades may come that belong here.
    goes_on: bool


class TradesApp:
    """ASGI application that answers `ROUTE`."""

    def __init__(self, reader: ColumnReader, symbols: Symbols, clock: Callable[[], int] = time.time_ns) -> None:
        self._reader = reader
        self._symbols = symbols
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = ROUTE.query(scope)
        asked, as_arrow = self._parse(query), FORMAT.of(query) == "arrow"
        exchange, symbol = find_symbol(self._symbols(), last_segment(scope, TRADES), EXCHANGE.of(query))
        try:
            # It may have to be read from the disk.
            rows, more = await asyncio.to_thread(page, self._reader, exchange, symbol, asked)
        except BeingRewritten:
            raise NoAnswer("Rows of this time are being rewritten; ask again in a moment.") from None
        cursor = next_cursor(asked, rows, more or asked.goes_on)
        if as_arrow:
            about = {"exchange": exchange, "symbol": symbol, "next_cursor": cursor or ""}
            await send_whole(send, 200, (*HEADERS, ARROW), arrow_stream(rows.replace_schema_metadata(about)))
            return
        said = {"exchange": exchange, "symbol": symbol, "order": "desc" if asked.descending else "asc"}
        await send_json(send, {**said, "trades": json_rows(rows, _FIELDS), "next_cursor": cursor})

    def _parse(self, query: Mapping[str, str]) -> Page:
        start, end, descending = START.of(query), END.of(query), ORDER.of(query) == "desc"
        if start is not None and end is not None and start >= end:
            raise BadRequest(400, "start must be before end.")
        begin, before = (_FIRST if start is None else start), (_AFTER if end is None else end)
        settled = before if descending else min(before, self._clock() - SETTLED_NS)
        cursor = CURSOR.of(query)
        after = None if cursor is None else read_cursor(cursor, descending)
        return Page(begin, settled, descending, LIMIT.of(query), after, goes_on=settled < before)


def page(reader: ColumnReader, exchange: str, symbol: str, asked: Page) -> tuple[pa.RecordBatch, bool]:
    """Trades as wanted, and whether there are more behind them. `BeingRewritten`, `MissingColumn`, OSError."""
    start, end, after = asked.start, asked.end, asked.after
    if after is not None:
        start, end = (start, min(end, after.ns + 1)) if asked.descending else (max(start, after.ns), end)
    parts: list[dict[str, Column]] = []
    missing = asked.limit + 1
    for first, last in _days(reader, exchange, symbol, start, end, asked.descending):
        found = reader.select(exchange, symbol, "TRADES", first, last - 1, _COLUMNS)
        if (rows := _behind(found, after, asked.descending, missing)) is not None:
            parts.append(rows)
            missing -= len(rows["id"])
        if missing <= 0:
            break
    return _batch(parts, asked.limit), missing <= 0


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


def _days(
    reader: ColumnReader, exchange: str, symbol: str, start: int, end: int, descending: bool
) -> Iterator[tuple[int, int]]:
    """The parts of a range of time (ns) that lie in one stored day each, in the order wanted."""
    days = reader.days(exchange, symbol, "TRADES")
    for day in reversed(days) if descending else days:
        first, last = max(start, day * NANOS_PER_DAY), min(end, (day + 1) * NANOS_PER_DAY)
        if first < last:
            yield first, last


def _behind(found: Selection, after: Key | None, descending: bool, most: int) -> dict[str, Column] | None:
    """The first `most` of the rows of one day that lie behind `after`, in the order wanted; None without any."""
    columns = {name: found.column(name) for name in _COLUMNS}
    first, last = 0, found.rows
    if after is not None and found.rows:
        seconds, nanos = divmod(after.ns, 1_000_000_000)
        low, high = columns["time"].searchsorted([seconds, seconds + 1])
        same = columns["nanos"][low:high]
        begin, stop = low + same.searchsorted([nanos, nanos + 1])
        ids = columns["id"][begin:stop]
        if descending:
            last = int(begin + ids.searchsorted(np.uint64(after.trade_id), "left"))
        else:
            first = int(begin + ids.searchsorted(np.uint64(after.trade_id), "right"))
    if descending:
        first = max(first, last - most)
    last = min(last, first + most)
    if first >= last:
        return None
    step = slice(first, last)
    return {name: values[step][::-1] if descending else values[step] for name, values in columns.items()}


def _batch(parts: list[dict[str, Column]], limit: int) -> pa.RecordBatch:
    def joined(name: str) -> Any:
        return np.concatenate([part[name] for part in parts])[:limit] if parts else np.empty(0, np.uint64)

    sides = pa.array(np.minimum(joined("side"), 2).astype(np.int8))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(join_time(joined("time"), joined("nanos"))),
            pa.array(joined("id").view(np.int64)),
            pa.array(joined("price64").astype(np.float64)),
            pa.array(joined("size64").astype(np.float64)),
            pa.array(_SIDES, pa.string()).take(sides),
        ],
        names=list(_FIELDS),
    )
