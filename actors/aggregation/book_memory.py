"""The growing memory of the books of one connection: regions of the pool of levels, and the buffer of held messages.

Everything has a bound. What does not fit is refused, and the book that wanted it does without.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from actors.aggregation.book_kernels import copy_held
from actors.aggregation.book_records import BOOK, PROGRESS, SIDE, Levels, Messages, Store

#: The pool grows by this part of itself, and by this many levels at least.
_GROWTH: Final = 8
_LEAST_GROWTH: Final = 16_384
_LEAST_REGION: Final = 16
_LEAST_BUFFER: Final = 1_024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What books may take. Levels take 16 bytes, 21 with checksums, and their regions up to a third more."""

    #: Levels of one side, and of all sides together with the free room of their regions.
    levels_per_side: int = 200_000
    levels: int = 16_000_000
    #: Messages of one book held while its snapshot is asked for, and while it waits for its turn; levels of all held.
    held: int = 2_000
    held_waiting: int = 20
    held_levels: int = 2_000_000


def messages_of(count: int, levels: int) -> Messages:
    """Memory for messages, not filled."""
    return Messages(
        book=np.empty(count, np.int32),
        kind=np.empty(count, np.uint8),
        ts_event=np.empty(count, np.int64),
        ts_recv=np.empty(count, np.int64),
        first_sequence=np.empty(count, np.int64),
        sequence=np.empty(count, np.int64),
        previous_sequence=np.empty(count, np.int64),
        checksum=np.empty(count, np.int64),
        begin=np.empty(count, np.int32),
        end=np.empty(count, np.int32),
        side=np.empty(levels, np.uint8),
        price=np.empty(levels),
        size=np.empty(levels),
        price_decimals=np.empty(levels, np.int8),
        size_decimals=np.empty(levels, np.int8),
    )


def read_only(messages: Messages) -> Messages:
    """The messages as the pass takes them: Arrow's memory cannot be written, and one kind of array makes one
    compilation."""
    for column in messages:
        column.flags.writeable = False
    return messages


class Memory:
    """Regions and the buffer. `store` is made anew when its arrays are, so it is not to be kept elsewhere."""

    def __init__(self, bounds: Bounds, with_checksums: bool) -> None:
        self._bounds = bounds
        self._with_checksums = with_checksums
        levels = Levels(np.zeros(0), np.zeros(0), np.zeros(0, np.uint32), np.zeros(0, np.uint8))
        self.store = Store(np.zeros(0, BOOK), np.zeros(0, SIDE), levels, messages_of(0, 0), np.empty(0, np.int64))
        #: How far the pool is given out, and the free regions below by their capacity.
        self._end = 0
        self._free: dict[int, list[int]] = {}

    @property
    def nbytes(self) -> int:
        """The bytes taken from the system."""
        store = self.store
        arrays = [store.books, store.sides, *store.levels, *store.held, store.held_next]
        return sum(array.nbytes for array in arrays)

    def add_books(self, count: int) -> None:
        """Room for `count` more books."""
        books, sides = np.zeros(count, BOOK), np.zeros(2 * count, SIDE)
        self.store = self.store._replace(
            books=np.concatenate([self.store.books, books]), sides=np.concatenate([self.store.sides, sides])
        )

    def enlarge(self, row: int, needed: int) -> bool:
        """Move a side to a region with room for `needed` levels and some more; False when the bounds forbid it."""
        if needed > self._bounds.levels_per_side:
            return False
        capacity = _region_for(needed + needed // 8)
        start = self._allocate(capacity)
        if start is None:
            return False
        side = self.store.sides[row]
        old, count = int(side["first"]), int(side["count"])
        first = start + (capacity - count) // 2
        for values in self.store.levels:
            if len(values):
                values[first : first + count] = values[old : old + count]
        self._give_back(row)
        side["start"], side["capacity"], side["first"], side["count"] = start, capacity, first, count
        return True

    def release(self, number: int) -> None:
        """Give back the levels of a book."""
        for row in (2 * number, 2 * number + 1):
            self._give_back(row)
            self.store.sides[row] = 0, 0, 0, 0

    def extend_buffer(self, levels: int, progress: Any) -> bool:
        """Leave out of the buffer what is let go, and make room for a message of so many levels; False when the bounds
        forbid it."""
        books = self.store.books
        messages_held, levels_held = int(books["held"].sum()), int(books["held_levels"].sum())
        if levels_held + levels > self._bounds.held_levels:
            return False
        count = max(_LEAST_BUFFER, 2 * messages_held)
        target = messages_of(count, max(4 * _LEAST_BUFFER, 2 * (levels_held + levels)))
        target_next = np.empty(count, np.int64)
        progress["held_messages"] = progress["held_levels"] = 0
        copy_held(self.store, np.flatnonzero(books["held"]), target, target_next, progress)
        self.store = self.store._replace(held=target, held_next=target_next)
        return True

    def take_held(self, number: int) -> Messages:
        """The messages held for a book, which are held no longer."""
        book = self.store.books[number]
        taken = messages_of(int(book["held"]), int(book["held_levels"]))
        copy_held(self.store, np.array([number]), taken, np.empty(len(taken.kind), np.int64), np.zeros(1, PROGRESS))
        book["held"] = book["held_levels"] = 0
        return read_only(taken)

    def _allocate(self, capacity: int) -> int | None:
        if free := self._free.get(capacity):
            return free.pop()
        start, end = self._end, self._end + capacity
        if end > self._bounds.levels:
            return self._take_from_merged(capacity)
        levels = self.store.levels
        if end > len(levels.key):
            size = min(self._bounds.levels, end + max(end // _GROWTH, _LEAST_GROWTH))
            for values in levels if self._with_checksums else levels[:2]:
                # The system moves pages, not bytes, and needs no second copy meanwhile.
                values.resize(size, refcheck=False)
        self._end = end
        return start

    def _take_from_merged(self, capacity: int) -> int | None:
        """A part of what neighbouring free regions make together."""
        merged: list[list[int]] = []
        for start, size in sorted((start, size) for size, starts in self._free.items() for start in starts):
            if merged and sum(merged[-1]) == start:
                merged[-1][1] += size
            else:
                merged.append([start, size])
        smallest = min(
            (region for region in merged if region[1] >= capacity), key=lambda region: region[1], default=None
        )
        taken = None
        if smallest is not None:
            taken = smallest[0]
            smallest[0] += capacity
            smallest[1] -= capacity
        self._free = {}
        for start, size in merged:
            if size:
                self._free.setdefault(size, []).append(start)
        return taken

    def _give_back(self, row: int) -> None:
        start, capacity = (int(self.store.sides[row][name]) for name in ("start", "capacity"))
        if capacity:
            self._free.setdefault(capacity, []).append(start)


def _region_for(levels: int) -> int:
    """The capacity of the smallest region for so many levels; there are eight sizes from one power of two to the next,
    so that regions given back fit others."""
    if levels <= _LEAST_REGION:
        return _LEAST_REGION
    step = 1 << max((levels - 1).bit_length() - 4, 0)
    return -(-levels // step) * step
