"""The rows that answer a query, column by column: all of a selection, or fewer of them for a chart. What has to be
computed (times in nanoseconds, fewer rows) is so only when it is asked for, a slice at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serve_apps.data_query import TIME_NS, DataQuery
from storage.column_layout import Column, join_time
from storage.column_reader import Selection

#: A window of a large answer has so many bytes of pages to read.
WINDOW_BYTES: Final = 8 * 1024 * 1024
PAGE: Final = 4096

#: Where rows of each type have their lowest and their highest price.
EXTREMES: Final = {"TRADES": ("price64", "price64"), "MD": ("best_bid64", "best_ask64")}

Positions = npt.NDArray[np.int64]


class Times:
    """`time_ns` of rows, made of `time` and `nanos` when the bytes are asked for."""

    #: Bytes of one value.
    itemsize: Final = 8

    def __init__(self, time: Column, nanos: Column) -> None:
        self._time = time
        self._nanos = nanos

    def __len__(self) -> int:
        return len(self._time)

    def __getitem__(self, rows: slice | Positions) -> "Times":
        return Times(self._time[rows], self._nanos[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Column:
        return join_time(self._time, self._nanos)

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes of the files from one row to the next."""
        return (2 * self._time.strides[0],)


#: Values of consecutive rows.
type Values = Column | Times


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` rows; of `sparse_by` rows that are stored one is among them."""

    count: int
    parts: Callable[[str], Sequence[Values]]
    sparse_by: int = 1


def stored_columns(query: DataQuery) -> Sequence[str]:
    """What must be selected to answer."""
    wanted: Sequence[str] = query.columns
    if TIME_NS in wanted:
        wanted = [*(name for name in wanted if name != TIME_NS), "time", "nanos"]
    if query.decimate == "minmax" and query.row_type in EXTREMES:
        wanted = [*wanted, *EXTREMES[query.row_type]]
    return wanted


def rows_of(query: DataQuery, selection: Selection) -> Rows:
    """The rows of `stored_columns` that answer. Reads the prices of all of them where the extremes are asked for."""

    def parts(name: str) -> Sequence[Values]:
        if name == TIME_NS:
            return list(map(Times, selection.parts("time"), selection.parts("nanos")))
        return selection.parts(name)

    every = -(-selection.rows // query.max_points) if query.max_points else 1
    if every <= 1:
        return Rows(selection.rows, parts)
    count = -(-selection.rows // every)
    if query.decimate == "stride":
        return Rows(count, lambda name: list(strided(parts(name), every)), every)
    if query.decimate == "last":
        return Rows(count, lambda name: list(lasts(parts(name), every)), every)
    assert query.max_points is not None
    every = -(-selection.rows // (query.max_points // 2))
    low, high = (selection.parts(name) for name in EXTREMES[query.row_type])
    kept = np.union1d(extremes(low, every, np.argmin, np.inf), extremes(high, every, np.argmax, -np.inf))
    return Rows(len(kept), lambda name: list(taken(parts(name), kept)), every // 2)


def strided(parts: Iterable[Values], every: int, first: int = 0) -> Iterator[Values]:
    """Views of rows first, first + every, first + 2 * every, ... counted across all parts."""
    skipped = first
    for part in parts:
        yield part[skipped::every]
        skipped -= len(part)
        if skipped < 0:
            skipped %= every


def lasts(parts: Sequence[Values], every: int) -> Iterator[Values]:
    """Views of the last row of each `every`, and of the very last."""
    yield from strided(parts, every, every - 1)
    if parts and sum(map(len, parts)) % every:
        yield parts[-1][-1:]


def taken(parts: Iterable[Values], positions: Positions) -> Iterator[Values]:
    """Copies of the rows at these ascending positions, counted across all parts."""
    first = 0
    for part in parts:
        low, high = np.searchsorted(positions, [first, first + len(part)])
        yield part[positions[low:high] - first]
        first += len(part)


def extremes(parts: Iterable[Column], every: int, arg_extreme: Callable[..., Any], instead_of_nan: float) -> Positions:
    """Where, across all parts, each `every` rows have the first of their lowest (`np.argmin`) or highest values."""
    positions, values = [np.empty(0, np.int64)], [np.empty(0)]
    first = 0
    for part in parts:
        head = min(-first % every, len(part))
        whole = head + (len(part) - head) // every * every
        for begin, block in (
            (first, part[None, :head]),
            (first + head, part[head:whole].reshape(-1, every)),
            (first + whole, part[None, whole:]),
        ):
            if block.size:
                known = np.where(np.isnan(block), instead_of_nan, block)
                found = arg_extreme(known, axis=1)
                positions.append(begin + np.arange(len(block)) * block.shape[1] + found)
                values.append(known[np.arange(len(block)), found])
        first += len(part)
    where, what = np.concatenate(positions), np.concatenate(values)
    # A bucket over several days has a candidate of each.
    order = np.lexsort((where, what if instead_of_nan > 0 else -what, where // every))
    _, best = np.unique(where[order] // every, return_index=True)
    firsts: Positions = where[order][best]
    return firsts


def pages_to_read(rows: Rows, record_sizes: Iterable[int]) -> int:
    """About so many bytes of the files are touched to answer."""
    return rows.count * sum([min(size * rows.sparse_by, PAGE) for size in record_sizes])


def joined(header: bytes, parts: Iterable[Values]) -> bytes:
    """Header and columns as one body. `ascontiguousarray` copies only what is not in one piece."""
    return b"".join([header, *map(np.ascontiguousarray, parts)])


def windows(parts: Iterable[Values]) -> Iterator[Values]:
    """Slices of the parts, in order, none of which has more than `WINDOW_BYTES` of pages to read."""
    for part in parts:
        step = max(1, WINDOW_BYTES // max(1, min(abs(part.strides[0]), PAGE)))
        for first in range(0, len(part), step):
            yield part[first : first + step]
