"""Which ids of a symbol's trades are stored, where the exchange counts its trades up by one: the continuity that
proves that none is missing, or says which."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from actors.ledger.ranges import Ids, Ranges

#: Further ahead nobody misses trades: the exchange has begun to count anew.
FAR_AHEAD: Final = 100_000_000
#: A newer trade with an id this far behind: it counts from the start again.
FAR_BEHIND: Final = 100_000
#: Ids of a batch that lie closer together are a few out of order.
_CLOSE: Final = 1_000_000
#: Ranges of missing ids, and counts begun anew. An outage leaves one range behind and repair takes it away, so that
#: many mean that the ids do not count up by one at all: then each trade leaves one, for ever. These take 160 KB of
#: memory, and at most 400 KB of a checkpoint.
MOST_RANGES: Final = 10_000


class Hole(NamedTuple):
    """Ids `first..last` were passed over by trades at `from_ns` and `to_ns`."""

    first: int
    last: int
    from_ns: int
    to_ns: int


class NewSeries(NamedTuple):
    """After `last` came `first` at `at_ns`: the exchange counts anew."""

    last: int
    first: int
    from_ns: int
    at_ns: int


class Found(NamedTuple):
    """What trades said. A hole may have been filled by later ones of the same call."""

    holes: list[Hole]
    anew: list[NewSeries]
    #: Ids that are missing since, or not any more.
    changed: Ranges


#: First and last id, and the time of the last.
Run = tuple[int, int, int]


def runs(ids: Ids, ts: Ids, ends: Sequence[int]) -> list[Run | None]:
    """Of parts that follow each other and end before `ends`: their run where the ids count up by one, else None. For
    all at once, as numpy takes as long for the few trades of one symbol."""
    last = np.array(ends) - 1
    first = np.array([0, *ends[:-1]])
    jumps = np.concatenate([[0], np.cumsum(ids[1:] != ids[:-1] + 1)])
    unbroken = jumps[first] == jumps[last]
    columns: Any = (unbroken, ids[first], ids[last], ts[last])
    found = zip(*(column.tolist() for column in columns), strict=True)
    return [(begin, end, at_ns) if whole else None for whole, begin, end, at_ns in found]


class Series:
    """The ids of one symbol. `first` is where the promise begins, None before the first trade; `last` the highest."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = -1
        self.last_ns = 0
        self.missing = Ranges()
        #: Ids that are stored only as part of a merged trade.
        self.surplus = 0
        #: More is missing than can be kept: nothing is known any more but `first` and `last`.
        self.broken = False
        #: Where the series before this one began and ended: one wrong id must not end it for good.
        self._before: tuple[int, int] | None = None
        self._begun_anew = 0

    @property
    def trades(self) -> int:
        """Stored rows from `first` on."""
        if self.first is None:
            return 0
        return self.last - self.first + 1 - self.missing.count(self.first, self.last) - self.surplus

    def went_on(self, first: int, last: int, last_ns: int) -> bool:
        """Take the trades `first..last` if they begin behind the last one; False (and nothing done) otherwise."""
        if first != self.last + 1 or self.first is None:
            return False
        self.last = last
        if last_ns > self.last_ns:
            self.last_ns = last_ns
        return True

    def goes_on(self, starts: Ids, ids: Ids) -> bool:
        """Whether these trades begin behind the last one and leave nothing out."""
        first, rows = starts.item(0), len(ids)
        if self.first is None or first != self.last + 1:
            return False
        if starts is ids:
            # Faster than `all`.
            return ids.item(-1) - first == rows - 1 and np.count_nonzero(ids[1:] > ids[:-1]) == rows - 1
        return bool((starts[1:] == ids[:-1] + 1).all())

    def follow(self, starts: Ids, ids: Ids, last_ns: int) -> bool:
        """Take trades that go on; False (and nothing done) for all others."""
        if not self.goes_on(starts, ids):
            return False
        if starts is not ids:
            self.surplus += int((ids - starts).sum())
        return self.went_on(starts.item(0), ids.item(-1), last_ns)

    def take(self, starts: Ids, ids: Ids, ts: Ids, live: bool) -> Found:
        """Take trades in any order that stand for the ids `starts..ids`, at `ts`. Only live ones begin a series."""
        found = Found([], [], Ranges())
        if self.first is None and not live:
            return found
        if self.broken:
            self.first = int(starts.min()) if self.first is None else self.first
            self.last = max(self.last, int(ids.max()))
            return found
        spread = int(ids.max()) - int(starts.min())
        # Which series came first only the time says.
        anew = spread > FAR_BEHIND and bool(((np.diff(ids) < -FAR_BEHIND) & (np.diff(ts) > 0)).any())
        if not anew and (self.first is None or spread < max(_CLOSE, 4 * len(ids))):
            order = np.argsort(ids, kind="stable")
            starts, ids, ts = starts[order], ids[order], ts[order]
        if (starts != ids).any():
            fresh = (ids > self.last) | self.missing.hold(ids, ids)
            self.surplus += int((ids - starts)[fresh].sum())
        cuts = np.flatnonzero(starts[1:] != ids[:-1] + 1) + 1
        begins = np.concatenate([[0], cuts])
        ends = np.concatenate([cuts, [len(ids)]]) - 1
        runs = (starts[begins], ids[ends], ts[begins], ts[ends])
        for first, last, first_ns, last_ns in zip(*(column.tolist() for column in runs), strict=True):
            self._run(found, first, last, first_ns, last_ns, live)
            if self._overfull():
                self.last = max(self.last, int(ids.max()))
                break
        return found

    def see(self, last: int, at_ns: int) -> list[Hole]:
        """Note that the exchange has counted up to `last`, whose trades are not stored."""
        if self.broken or self.first is None or not self.last < last <= self.last + FAR_AHEAD:
            return []
        hole = Hole(self.last + 1, last, min(self.last_ns, at_ns), at_ns)
        self.missing.add(hole.first, hole.last)
        self.last = last
        return [] if self._overfull() else [hole]

    def stored(self, starts: Ids, ids: Ids) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Per row whether some of `starts..ids` are stored within the promise; the rest are missing or outside."""
        if self.first is None:
            return np.zeros(len(ids), bool)
        known: np.ndarray[Any, np.dtype[np.bool_]] = (starts <= self.last) & (ids >= self.first)
        return known & ~self.missing.hold(starts, np.minimum(ids, self.last))

    def _overfull(self) -> bool:
        """Give up when too much is missing."""
        if len(self.missing) + self._begun_anew > MOST_RANGES:
            self.broken, self.missing = True, Ranges()
        return self.broken

    def _run(self, found: Found, first: int, last: int, first_ns: int, last_ns: int, live: bool) -> None:
        if self.first is None:
            self.first, self.last, self.last_ns = first, last, last_ns
            return
        if self.missing.count(first, last) == last - first + 1:
            # Whatever series they belong to.
            self._fill(found, first, last)
            return
        ahead = first > self.last + FAR_AHEAD
        behind = last < self.last - FAR_BEHIND and last_ns > self.last_ns
        if (ahead or behind) and not live:
            return
        if ahead or behind:
            self._begun_anew += 1
            found.anew.append(NewSeries(self.last, first, min(self.last_ns, first_ns), first_ns))
            before, self._before = self._before, (self.first, self.last)
            if before is not None and before[1] < first <= before[1] + FAR_AHEAD:
                self.first, self.last = before
            else:
                self.first, self.last = first, first - 1
            self.surplus = 0
        if first <= self.last:
            self._fill(found, first, min(last, self.last))
        if last > self.last:
            if first > self.last + 1:
                hole = Hole(self.last + 1, first - 1, min(self.last_ns, first_ns), first_ns)
                found.holes.append(hole)
                found.changed.add(hole.first, hole.last)
                self.missing.add(hole.first, hole.last)
            self.last = last
        self.last_ns = max(self.last_ns, last_ns)

    def _fill(self, found: Found, first: int, last: int) -> None:
        if self.missing.remove(first, last):
            found.changed.add(first, last)
