"""Reads column files for an audit, a piece of a day at a time: memory stays bounded however much is stored. Works
beside a writer, as every reader does.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import numpy as np

from storage.audit import Comparison, IdCount, IdsFound, RowCount, Trades, Verdict
from storage.column_layout import NANOS_PER_SECOND, Column, join_time
from storage.column_reader import BeingRewritten, ColumnReader, Selection

#: Rows of one piece.
PIECE: Final = 1 << 20
_ALWAYS: Final = 1 << 63
_PATIENCE_S: Final = 10.0
_ATTEMPT_DELAY_S: Final = 0.05
_COMPARED: Final = ("time", "nanos", "id", "price64", "size64", "side")

#: Told how many further rows were read.
Progress = Callable[[int], None]


class Place(NamedTuple):
    """Where a trade stands among those of its symbol."""

    ns: int
    id: int


class Side(Protocol):
    """The trades of one disk, as `compare` reads them."""

    def begins(self, exchange: str, symbol: str) -> set[int]:
        """Seconds since the epoch: from one to the next are about `PIECE` trades."""
        ...

    def trades(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> Trades:
        """Those of a span of time, both ends included."""
        ...

    def oldest(self, exchange: str, symbol: str) -> Place | None: ...

    def newest(self, exchange: str, symbol: str) -> Place | None: ...


class OnDisk:
    """That of column files here."""

    def __init__(self, reader: ColumnReader) -> None:
        self._reader = reader

    def begins(self, exchange: str, symbol: str) -> set[int]:
        parts = _select(self._reader, exchange, symbol, ("time",)).parts("time")
        return {second for times in parts for second in times[::PIECE].tolist()}

    def trades(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> Trades:
        selection = _patiently(lambda: self._reader.select(exchange, symbol, "TRADES", from_ns, to_ns, _COMPARED))
        columns = {name: selection.column(name) for name in _COMPARED}
        return Trades(
            join_time(columns["time"], columns["nanos"]),
            columns["id"],
            columns["price64"],
            columns["size64"],
            columns["side"],
        )

    def oldest(self, exchange: str, symbol: str) -> Place | None:
        return oldest(self._reader, exchange, symbol)

    def newest(self, exchange: str, symbol: str) -> Place | None:
        return newest(self._reader, exchange, symbol)


def stored_rows(reader: ColumnReader, exchange: str, symbol: str) -> int:
    """How many trades there are; reads none of them. Raises as `ColumnReader.select` does, here and below."""
    return _select(reader, exchange, symbol, ("time",)).rows


def newest(reader: ColumnReader, exchange: str, symbol: str) -> Place | None:
    """The last trade there is."""
    return _place(_patiently(lambda: reader.last_rows(exchange, symbol, "TRADES", 1, ("time", "nanos", "id"))), 0)


def oldest(reader: ColumnReader, exchange: str, symbol: str) -> Place | None:
    """The first trade there is."""
    return _place(_select(reader, exchange, symbol, ("time", "nanos", "id")), 0)


def place_of(reader: ColumnReader, exchange: str, symbol: str, trade_id: int) -> Place | None:
    """The first trade with this id."""
    selection = _select(reader, exchange, symbol, ("time", "nanos", "id"))
    parts = zip(*(selection.parts(column) for column in ("time", "nanos", "id")), strict=True)
    for times, nanos, ids in parts:
        found = np.flatnonzero(ids == np.uint64(trade_id))
        if found.size:
            at = found[0]
            return Place(int(times[at]) * NANOS_PER_SECOND + int(nanos[at]), trade_id)
    return None


def count_ids(
    reader: ColumnReader,
    exchange: str,
    symbol: str,
    since: int | None,
    through: int | None,
    fills: Mapping[int, int],
    progress: Progress,
) -> IdsFound:
    """Count a symbol whose ids count up by one; `fills` has the trades that stand for several ids,
    `since` and `through` are as in `IdCount`."""
    count = IdCount(since, through)
    merged = np.fromiter(sorted(fills), np.uint64, len(fills))
    for ids in _pieces(_select(reader, exchange, symbol, ("id",)).parts("id")):
        count.add(ids, _fills(ids, merged, fills))
        progress(ids.size)
    return count.result()


def count_rows(reader: ColumnReader, exchange: str, symbol: str, progress: Progress) -> RowCount:
    """Count a symbol whose ids only tell trades apart; needs memory for two days of ids."""
    count = RowCount()
    for ids in _select(reader, exchange, symbol, ("id",)).parts("id"):
        count.add(ids)
        progress(ids.size)
    return count


def compare(
    stored: ColumnReader,
    made: ColumnReader,
    exchange: str,
    symbol: str,
    since: Place,
    until: Place,
    progress: Progress,
) -> Verdict:
    """Hold every stored trade against the one that was made.

    Trades made from `since` to `until` have to be stored, those outside may be; ids of what is made rise with time.
    """
    return compare_sides(OnDisk(stored), OnDisk(made), exchange, symbol, since, until, progress)


def compare_sides(
    stored: Side, made: Side, exchange: str, symbol: str, since: Place, until: Place, progress: Progress
) -> Verdict:
    """The same, wherever the trades are."""
    comparison = Comparison()
    for from_ns, to_ns in _spans(stored, made, exchange, symbol):
        # What was made is read later: it is written before it is sent, so that nothing stored can be newer.
        here, there = (side.trades(exchange, symbol, from_ns, to_ns) for side in (stored, made))
        after = (there.ns > since.ns) | (there.ns == since.ns) & (there.id >= since.id)
        before = (there.ns < until.ns) | (there.ns == until.ns) & (there.id <= until.id)
        comparison.add(here, there, after & before)
        progress(here.id.size + there.id.size)
    return comparison.result()


def _spans(stored: Side, made: Side, exchange: str, symbol: str) -> Iterator[tuple[int, int]]:
    """Spans of time, one behind the other, that hold everything there is, none of them much more than a piece."""
    ordered = sorted(stored.begins(exchange, symbol) | made.begins(exchange, symbol))
    for begin, end in zip(ordered, [*ordered[1:], None], strict=True):
        yield begin * NANOS_PER_SECOND, _ALWAYS if end is None else end * NANOS_PER_SECOND - 1


def _fills(ids: Column, merged: Column, fills: Mapping[int, int]) -> Column | None:
    at = np.flatnonzero(np.isin(ids, merged)) if merged.size else merged
    if not at.size:
        return None
    found = np.ones(ids.size, np.int64)
    found[at] = [fills[trade_id] for trade_id in ids[at].tolist()]
    return found


def _pieces(parts: list[Column]) -> Iterator[Column]:
    for part in parts:
        for first in range(0, part.size, PIECE):
            yield part[first : first + PIECE]


def _place(selection: Selection, row: int) -> Place | None:
    if not selection.rows:
        return None
    seconds, nanos, trade_id = (int(selection.parts(column)[0][row]) for column in ("time", "nanos", "id"))
    return Place(seconds * NANOS_PER_SECOND + nanos, trade_id)


def _select(reader: ColumnReader, exchange: str, symbol: str, columns: tuple[str, ...]) -> Selection:
    return _patiently(lambda: reader.select(exchange, symbol, "TRADES", 0, _ALWAYS, columns))


def _patiently(select: Callable[[], Selection]) -> Selection:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return select()
        except BeingRewritten:
            if time.monotonic() > deadline:
                raise
            time.sleep(_ATTEMPT_DELAY_S)
