"""Pages of the trades of one symbol, from its column files. What ends a page is a trade, not a count of rows: however
many are stored meanwhile, no page repeats a trade and none is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from storage.column_layout import NANOS_PER_DAY, Column, join_time
from storage.column_reader import ColumnReader, Selection

#: Of a page; `time` in ns, `side` buy, sell or null.
FIELDS: Final = ("time", "trade_id", "price", "size", "side")
_COLUMNS: Final = ("time", "nanos", "id", "price64", "size64", "side")
_SIDES: Final = ("buy", "sell", None)


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
        names=list(FIELDS),
    )
