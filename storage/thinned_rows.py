"""Fewer rows of a selection, for a chart; and what is computed of rows only when it is asked for, a slice at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from storage.column_layout import Column, join_time
from storage.column_reader import Selection

#: The column that is computed: int64 nanoseconds of `time` and `nanos`.
TIME_NS: Final = "time_ns"
#: Which of the rows stay.
Thinning = Literal["stride", "last", "minmax"]
#: Where rows of each type have their lowest and their highest price.
EXTREMES: Final = {"TRADES": ("price64", "price64"), "MD": ("best_bid64", "best_ask64")}

Positions = npt.NDArray[np.int64]


class Values(Protocol):
    """Of consecutive rows: an array, or what becomes one when the bytes are asked for."""

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        ...

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes of the files from one row to the next."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...

    def __array__(self, *args: Any, **options: Any) -> Column: ...


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


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` rows; of `sparse_by` rows that are stored one is among them."""

    count: int
    parts: Callable[[str], Sequence[Values]]
    sparse_by: int = 1


def columns_read(row_type: str, columns: Sequence[str], how: Thinning) -> Sequence[str]:
    """What must be selected to have these columns of the rows that stay."""
    if TIME_NS in columns:
        columns = [*(name for name in columns if name != TIME_NS), "time", "nanos"]
    if how == "minmax" and row_type in EXTREMES:
        columns = [*columns, *EXTREMES[row_type]]
    return columns


def thinned(row_type: str, most: int | None, how: Thinning, selection: Selection) -> Rows:
    """No more than `most` rows of a selection of `columns_read`. Reads the prices of all of them where the extremes
    are asked for."""

    def parts(name: str) -> Sequence[Values]:
        if name == TIME_NS:
            return list(map(Times, selection.parts("time"), selection.parts("nanos")))
        return selection.parts(name)

    every = -(-selection.rows // most) if most else 1
    if most is None or every <= 1:
        return Rows(selection.rows, parts)
    count = -(-selection.rows // every)
    if how == "stride":
        return Rows(count, lambda name: list(strided(parts(name), every)), every)
    if how == "last":
        return Rows(count, lambda name: list(lasts(parts(name), every)), every)
    every = -(-selection.rows // (most // 2))
    low, high = (selection.parts(name) for name in EXTREMES[row_type])
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
