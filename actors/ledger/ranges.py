"""A set of ids as ranges: what is missing of a symbol's trades is nearly always few and long ones."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.int64]]


class Ranges:
    """Ascending ranges `first..last` (inclusive) that neither overlap nor touch; 16 bytes each."""

    def __init__(self, flat: Sequence[int] = ()) -> None:
        """`flat` is what `flat` gave."""
        self._first = array("q", flat[::2])
        self._last = array("q", flat[1::2])
        #: How many ids.
        self.total = self._size(0, len(self._first))

    def __len__(self) -> int:
        return len(self._first)

    def flat(self) -> list[int]:
        """First and last of each range, one after another."""
        return [end for both in zip(self._first, self._last, strict=True) for end in both]

    def all(self) -> Iterator[tuple[int, int]]:
        return zip(self._first, self._last, strict=True)

    def add(self, first: int, last: int) -> None:
        low = bisect_left(self._last, first - 1)
        high = bisect_right(self._first, last + 1)
        if low < high:
            first, last = min(first, self._first[low]), max(last, self._last[high - 1])
        self._replace(low, max(low, high), [first], [last])

    def remove(self, first: int, last: int) -> int:
        """How many of these ids were there."""
        low, high = self._touched(first, last)
        if low >= high:
            return 0
        before = self.total
        left = [(self._first[low], first - 1)] if self._first[low] < first else []
        right = [(last + 1, self._last[high - 1])] if self._last[high - 1] > last else []
        self._replace(low, high, [begin for begin, _ in left + right], [end for _, end in left + right])
        return before - self.total

    def hull(self, first: int, last: int) -> tuple[int, int] | None:
        """The lowest and the highest id of `first..last` that is there; None: none is."""
        low, high = self._touched(first, last)
        return (max(first, self._first[low]), min(last, self._last[high - 1])) if low < high else None

    def count(self, first: int, last: int) -> int:
        """How many of `first..last` are there."""
        low, high = self._touched(first, last)
        if low >= high:
            return 0
        return self._size(low, high) - max(0, first - self._first[low]) - max(0, self._last[high - 1] - last)

    def hold(self, first: Ids, last: Ids) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Per row whether all of `first..last` are there."""
        if not self._first:
            return np.zeros(len(first), bool)
        begins, ends = np.frombuffer(self._first, np.int64), np.frombuffer(self._last, np.int64)
        place = np.searchsorted(ends, first)
        inside = place < len(ends)
        place[~inside] = 0
        held: np.ndarray[Any, np.dtype[np.bool_]] = inside & (begins[place] <= first) & (last <= ends[place])
        return held

    def _touched(self, first: int, last: int) -> tuple[int, int]:
        """Places of the ranges that have some of `first..last`: from the first up to, not including, the second."""
        return bisect_left(self._last, first), bisect_right(self._first, last)

    def _size(self, low: int, high: int) -> int:
        if high - low < 8:
            return sum(self._last[low:high]) - sum(self._first[low:high]) + high - low
        begins, ends = np.frombuffer(self._first, np.int64)[low:high], np.frombuffer(self._last, np.int64)[low:high]
        return int((ends - begins).sum()) + high - low

    def _replace(self, low: int, high: int, firsts: list[int], lasts: list[int]) -> None:
        self.total += sum(lasts) - sum(firsts) + len(firsts) - self._size(low, high)
        self._first[low:high] = array("q", firsts)
        self._last[low:high] = array("q", lasts)
