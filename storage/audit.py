"""Counts what column files hold of a symbol's trades: which ids are missing, which are there twice, and whether each
trade is the one that was made. Pure: arrays in, numbers out; who calls reads the files a piece at a time, so that
what is kept between pieces is ranges and faults, never rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from storage.column_layout import Column

#: As in `actors.ledger.series`: further ahead nobody misses trades, and a newer trade this far behind counts anew. The
#: exchange began a new series of ids then.
FAR_AHEAD: Final = 100_000_000
FAR_BEHIND: Final = 100_000

#: How many faulty trades of each kind are named.
MOST_EXAMPLES: Final = 5


class Range(NamedTuple):
    """Ids, both ends included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"


class _Series:
    """Ids that count up by one, in any order."""

    def __init__(self) -> None:
        self.rows = 0
        self.doubled = 0
        #: Rows before the promise begins.
        self.earlier = 0
        #: Disjoint and not adjacent, ascending: shape (n, 2), both ends included.
        self.ranges: Column = np.empty((0, 2), np.int64)

    @property
    def last(self) -> int:
        return int(self.ranges[-1, 1])

    def add(self, firsts: Column, lasts: Column, since: int) -> None:
        """Rows that stand for `firsts..lasts`, by `lasts`; `since` is where the promise would begin."""
        self.rows += lasts.size
        self.earlier += int(lasts.searchsorted(since))
        again = np.zeros(lasts.size, bool)
        again[1:] = firsts[1:] <= lasts[:-1]
        if self.ranges.size:
            # The first known range that does not end before the row begins.
            at = self.ranges[:, 1].searchsorted(firsts)
            known = at < len(self.ranges)
            again[known] |= self.ranges[at[known], 0] <= lasts[known]
        self.doubled += int(again.sum())
        self.ranges = _merged(np.concatenate([self.ranges, _runs(firsts, lasts)]))

    def within(self, since: int | None, through: int | None) -> Column:
        """The ranges from the id `since` on, as if ids were expected from there up to `through`."""
        ranges = self.ranges
        if since is not None and since <= self.last:
            ranges = ranges[ranges[:, 1] >= since]
            ranges[0, 0] = max(since, int(ranges[0, 0]))
            ranges = np.concatenate([[[since, since - 1]], ranges])
        if through is not None and self.last < through <= self.last + FAR_AHEAD:
            ranges = np.concatenate([ranges, [[through + 1, through]]])
        return ranges


class IdCount:
    """Ids that count up by one: rows by time, in any number of pieces; says what is missing between them.

    `since` is the id with which the promise to be complete begins (None: the first there is); rows before it are
    `earlier`. `through` is one that is known to have been reached. A row may stand for several ids that end with its
    own. `doubled` are rows that stand for an id that another one stands for already. An exchange may begin to count
    anew: each series is complete by itself, and only the last one has a `since`.
    """

    def __init__(self, since: int | None = None, through: int | None = None) -> None:
        self._since = since
        self._through = through
        self._series: list[_Series] = []
        self._before: _Series | None = None

    def add(self, ids: Column, fills: Column | None = None) -> None:
        """One more piece: u64 or int64 ids, and for each how many ids it stands for (None: one)."""
        lasts = ids.astype(np.int64, copy=False)
        firsts = lasts if fills is None else lasts - fills + 1
        steps = np.diff(lasts)
        cuts = np.flatnonzero((steps > FAR_AHEAD) | (steps < -FAR_BEHIND)) + 1
        for begin, end in pairwise([0, *cuts.tolist(), lasts.size]):
            if begin < end:
                self._add(firsts[begin:end], lasts[begin:end])

    def result(self) -> "IdsFound":
        """What was found, of all series together; the first id is that of the first."""
        ranges = [series.ranges for series in self._series[:-1]]
        ranges += [series.within(self._since, self._through) for series in self._series[-1:]]
        holes = [hole for series in ranges for hole in _holes(series)]
        missing = sum(hole.size for hole in holes)
        return IdsFound(
            rows=sum(series.rows for series in self._series),
            earlier=self._series[-1].earlier if self._series else 0,
            first_id=int(ranges[0][0, 0]) if ranges else None,
            last_id=int(ranges[-1][-1, 1]) if ranges else None,
            series=len(ranges),
            expected=sum(int((series[:, 1] - series[:, 0] + 1).sum()) for series in ranges) + missing,
            missing=missing,
            doubled=sum(series.doubled for series in self._series),
            holes=holes,
        )

    def _add(self, firsts: Column, lasts: Column) -> None:
        if not (lasts[1:] > lasts[:-1]).all():
            order = np.argsort(lasts, kind="stable")
            firsts, lasts = firsts[order], lasts[order]
        first = int(firsts[0])
        current = self._series[-1] if self._series else None
        if current is None or not current.last - FAR_BEHIND <= int(lasts[-1]) or first > current.last + FAR_AHEAD:
            before, self._before = self._before, current
            if before is not None and before.last < first <= before.last + FAR_AHEAD:
                # What came between was one wrong id.
                self._series.remove(before)
                current = before
            else:
                current = _Series()
            self._series.append(current)
        current.add(firsts, lasts, -1 if self._since is None else self._since)


@dataclass(frozen=True, slots=True)
class IdsFound:
    """What `IdCount` counted. `expected` ids are stored or `missing`; `holes` has those as ranges, ascending within
    each series. `rows` includes those that are `earlier`."""

    rows: int
    earlier: int
    first_id: int | None
    last_id: int | None
    series: int
    expected: int
    missing: int
    doubled: int
    holes: list[Range]


class RowCount:
    """Ids that only tell trades apart: finds those that are there twice within a piece or two pieces in a row."""

    def __init__(self) -> None:
        self.rows = 0
        self.doubled = 0
        self._before: Column = np.empty(0, np.uint64)

    def add(self, ids: Column) -> None:
        distinct = np.unique(ids)
        self.rows += ids.size
        self.doubled += ids.size - distinct.size + np.intersect1d(distinct, self._before, assume_unique=True).size
        self._before = distinct


class Trades(NamedTuple):
    """Columns of trades in the order of their files: by `ns`, then `id`."""

    ns: Column
    id: Column
    price: Column
    size: Column
    side: Column


@dataclass(slots=True)
class Comparison:
    """Trades that are stored against those that were made, a span of time after the other."""

    #: Made, and to be judged.
    made: int = 0
    stored: int = 0
    doubled: int = 0
    #: Made outside what is judged: before collecting began, or too new.
    not_judged: int = 0
    _missing: list[Column] = field(default_factory=list)
    _made_up: list[Column] = field(default_factory=list)
    _different: list[Column] = field(default_factory=list)

    def add(self, stored: Trades, made: Trades, judged: Column) -> None:
        """Everything stored and everything made in one span of time; `judged` says of each trade made whether it has
        to be stored."""
        self.stored += stored.id.size
        self.made += int(judged.sum())
        self.not_judged += int((~judged).sum())
        order = np.argsort(stored.id, kind="stable")
        ids = stored.id[order]
        first = np.ones(ids.size, bool)
        first[1:] = ids[1:] != ids[:-1]
        self.doubled += int((~first).sum())
        by_id = np.argsort(made.id, kind="stable")
        made_ids = made.id[by_id]
        at = made_ids.searchsorted(ids)
        at[at == made_ids.size] = 0
        known = made_ids[at] == ids if made_ids.size else np.zeros(ids.size, bool)
        self._keep(self._made_up, ids[first & ~known])
        rows, truths = order[known], by_id[at[known]]
        same = np.ones(rows.size, bool)
        for column in ("ns", "price", "size", "side"):
            same &= getattr(stored, column)[rows] == getattr(made, column)[truths]
        self._keep(self._different, np.unique(ids[known][~same]))
        is_stored = np.zeros(made.id.size, bool)
        is_stored[truths] = True
        self._keep(self._missing, made.id[judged & ~is_stored])

    def result(self) -> "Verdict":
        """Call it once, behind the last span: a trade stored at another time than it was made at is different, not
        missing here and made up there."""
        missing, made_up = _joined(self._missing), _joined(self._made_up)
        moved = np.intersect1d(missing, made_up)
        missing, made_up = (np.setdiff1d(ids, moved) for ids in (missing, made_up))
        different = np.union1d(_joined(self._different), moved)
        return Verdict(
            self.made,
            self.stored,
            self.not_judged,
            missing.size,
            self.doubled,
            different.size,
            made_up.size,
            {
                name: ids[:MOST_EXAMPLES].tolist()
                for name, ids in (("missing", missing), ("different", different), ("made_up", made_up))
                if ids.size
            },
        )

    def _keep(self, kept: list[Column], ids: Column) -> None:
        if ids.size:
            kept.append(ids)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many trades were made (and judged), are stored, and are wrong in which way; the first ids of each way."""

    made: int
    stored: int
    not_judged: int
    missing: int
    doubled: int
    different: int
    made_up: int
    first_ids: dict[str, list[int]]

    @property
    def equal(self) -> bool:
        return not (self.missing or self.doubled or self.different or self.made_up)


def _holes(ranges: Column) -> Iterator[Range]:
    for end, begin in zip(ranges[:-1, 1].tolist(), ranges[1:, 0].tolist(), strict=True):
        if end + 1 < begin:
            yield Range(end + 1, begin - 1)


def _joined(parts: Sequence[Column]) -> Column:
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _runs(firsts: Column, lasts: Column) -> Column:
    """The ranges of ids, given in ascending order of `lasts`, that touch each other, as one: shape (n, 2)."""
    begins = np.flatnonzero(firsts[1:] > lasts[:-1] + 1) + 1
    # A row that stands for many ids may reach back over several rows before it.
    lowest = np.minimum.reduceat(firsts, np.concatenate([[0], begins]))
    highest = lasts[np.concatenate([begins, [lasts.size]]) - 1]
    return _merged(np.stack([lowest, highest], axis=1))


def _merged(ranges: Column) -> Column:
    """Disjoint ranges of the same ids, ascending."""
    if len(ranges) < 2:
        return ranges
    ranges = ranges[np.lexsort((ranges[:, 1], ranges[:, 0]))]
    reached = np.maximum.accumulate(ranges[:, 1])
    begins = np.concatenate([[0], np.flatnonzero(ranges[1:, 0] > reached[:-1] + 1) + 1])
    ends = np.concatenate([begins[1:], [len(ranges)]]) - 1
    return np.stack([ranges[begins, 0], reached[ends]], axis=1)
