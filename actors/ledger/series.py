"""Which ids of a symbol's trades are stored, where the exchange counts its trades up by one: the continuity that
proves that none is missing, or says which."""

from typing import Any, Final, NamedTuple

import numpy as np

from actors.ledger.ranges import Ids, Ranges

#: Further ahead nobody misses trades: the exchange has begun to count anew.
FAR_AHEAD: Final = 100_000_000
#: A newer trade with an id this far behind: it counts from the start again.
FAR_BEHIND: Final = 100_000
#: Ids of a batch that lie closer together are a few out of order.
_CLOSE: Final = 1_000_000


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


class Series:
    """The ids of one symbol. `first` is where the promise begins, None before the first trade; `last` the highest."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = -1
        self.last_ns = 0
        self.missing = Ranges()
        #: Ids that are stored only as part of a merged trade.
        self.surplus = 0
        #: Where the series before this one began and ended: one wrong id must not end it for good.
        self._before: tuple[int, int] | None = None

    @property
    def trades(self) -> int:
        """Stored rows from `first` on."""
        if self.first is None:
            return 0
        return self.last - self.first + 1 - self.missing.count(self.first, self.last) - self.surplus

    def goes_on(self, starts: Ids, ids: Ids) -> bool:
        """Whether these trades begin behind the last one and leave nothing out."""
        first, rows = int(starts[0]), len(ids)
        if self.first is None or first != self.last + 1:
            return False
        if starts is ids:
            # Counting is several times as fast as `all` where there are few.
            return int(ids[-1]) - first == rows - 1 and np.count_nonzero(ids[1:] > ids[:-1]) == rows - 1
        return bool((starts[1:] == ids[:-1] + 1).all())

    def follow(self, starts: Ids, ids: Ids, last_ns: int) -> bool:
        """Take trades that go on; False (and nothing done) for all others."""
        if not self.goes_on(starts, ids):
            return False
        if starts is not ids:
            self.surplus += int((ids - starts).sum())
        self.last = int(ids[-1])
        self.last_ns = max(self.last_ns, last_ns)
        return True

    def take(self, starts: Ids, ids: Ids, ts: Ids, live: bool) -> list[Hole | NewSeries]:
        """Take trades in any order that stand for the ids `starts..ids`, at `ts`; says what was passed over.

        Only live ones begin a series. What is said may have been filled by a later row of the same call.
        """
        found: list[Hole | NewSeries] = []
        if self.first is None and not live:
            return found
        spread = int(ids.max()) - int(starts.min())
        if self.first is None or spread < max(_CLOSE, 4 * len(ids)):
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
            found.extend(self._run(first, last, first_ns, last_ns, live))
        return found

    def see(self, last: int, at_ns: int) -> list[Hole]:
        """Note that the exchange has counted up to `last`, whose trades are not stored."""
        if self.first is None or not self.last < last <= self.last + FAR_AHEAD:
            return []
        hole = Hole(self.last + 1, last, min(self.last_ns, at_ns), at_ns)
        self.missing.add(hole.first, hole.last)
        self.last = last
        return [hole]

    def stored(self, starts: Ids, ids: Ids) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Per row whether some of `starts..ids` are stored within the promise; the rest are missing or outside."""
        if self.first is None:
            return np.zeros(len(ids), bool)
        known: np.ndarray[Any, np.dtype[np.bool_]] = (starts <= self.last) & (ids >= self.first)
        return known & ~self.missing.hold(starts, np.minimum(ids, self.last))

    def _run(self, first: int, last: int, first_ns: int, last_ns: int, live: bool) -> list[Hole | NewSeries]:
        if self.first is None:
            self.first, self.last, self.last_ns = first, last, last_ns
            return []
        if self.missing.count(first, last) == last - first + 1:
            # Whatever series they belong to.
            self.missing.remove(first, last)
            return []
        found: list[Hole | NewSeries] = []
        ahead = first > self.last + FAR_AHEAD
        behind = last < self.last - FAR_BEHIND and last_ns > self.last_ns
        if (ahead or behind) and not live:
            return []
        if ahead or behind:
            found.append(NewSeries(self.last, first, min(self.last_ns, first_ns), first_ns))
            before, self._before = self._before, (self.first, self.last)
            if before is not None and before[1] < first <= before[1] + FAR_AHEAD:
                self.first, self.last = before
            else:
                self.first, self.last = first, first - 1
            self.surplus = 0
        if first <= self.last:
            self.missing.remove(first, min(last, self.last))
        if last > self.last:
            if first > self.last + 1:
                found.append(Hole(self.last + 1, first - 1, min(self.last_ns, first_ns), first_ns))
                self.missing.add(self.last + 1, first - 1)
            self.last = last
        self.last_ns = max(self.last_ns, last_ns)
        return found
