"""A set of ids as ranges: what is missing of a symbol's trades is nearly always few and long ones."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.int64]]


class Ranges:
    """Ascending ranges `first..last` (inclusive) that neither overlap nor touch."""

    def __init__(self, flat: Sequence[int] = ()) -> None:
        """`flat` is what `flat` gave."""
        self._first = list(flat[::2])
        self._last = list(flat[1::2])

    def __len__(self) -> int:
        return len(self._first)

    def flat(self) -> list[int]:
        """First and last of each range, one after another."""
        return [end for both in zip(self._first, self._last, strict=True) for end in both]

    @property
    def total(self) -> int:
        """How many ids."""
        return sum(self._last) - sum(self._first) + len(self._first)

    def all(self) -> Iterator[tuple[int, int]]:
        return zip(self._first, self._last, strict=True)

    def add(self, first: int, last: int) -> None:
        low = bisect_left(self._last, first - 1)
        high = bisect_right(self._first, last + 1)
        if low < high:
            first, last = min(first, self._first[low]), max(last, self._last[high - 1])
        self._first[low:high] = [first]
        self._last[low:high] = [last]

    def remove(self, first: int, last: int) -> int:
        """How many of these ids were there."""
        low = bisect_left(self._last, first)
        high = bisect_right(self._first, last)
        if low >= high:
            return 0
        removed = self.count(first, last)
        left = [(self._first[low], first - 1)] if self._first[low] < first else []
        right = [(last + 1, self._last[high - 1])] if self._last[high - 1] > last else []
        self._first[low:high] = [begin for begin, _ in left + right]
        self._last[low:high] = [end for _, end in left + right]
        return removed

    def within(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """What is there of `first..last`."""
        for place in range(bisect_left(self._last, first), bisect_right(self._first, last)):
            yield max(first, self._first[place]), min(last, self._last[place])

    def count(self, first: int, last: int) -> int:
        return sum(end - begin + 1 for begin, end in self.within(first, last))

    def hold(self, first: Ids, last: Ids) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Per row whether all of `first..last` are there."""
        if not self._first:
            return np.zeros(len(first), bool)
        place = np.searchsorted(np.array(self._last, np.int64), first)
        inside = place < len(self._last)
        place[~inside] = 0
        begins, ends = np.array(self._first, np.int64)[place], np.array(self._last, np.int64)[place]
        held: np.ndarray[Any, np.dtype[np.bool_]] = inside & (begins <= first) & (last <= ends)
        return held
