"""The account of one symbol's trades: what is stored, what was missed, and the rows that say so."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np

from actors.feeds.feed import Proof
from actors.ledger.ranges import Ids, Ranges
from actors.ledger.series import FAR_AHEAD, FAR_BEHIND, Found, Hole, Series
from storage.ledger_log import Checkpoint, Gap

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Kind = Literal["trades", "history", "backfill"]

#: Open rows of a symbol; what is missed further makes the newest row longer.
MAX_OPEN: Final = 1000
#: Reasons kept for holes that have not shown yet.
_BREAKS_KEPT: Final = 16
#: Clocks of exchanges and ours differ; a break and a hole this far apart are still the same event.
_SLACK_NS: Final = 1_000_000_000
_LONGEST_REASON: Final = 200

PASSED_OVER: Final = "ids were passed over"
AFTER_A_CRASH: Final = "ids were missing in the files after a restart"
#: The reason of a row that never closes.
NOT_CONTIGUOUS: Final = "ids are not contiguous: continuity cannot be proven"
#: A window since the last trade that is stored.
SINCE_LAST: Final = 0


class Account:
    """`changed` is told every row that opens, changes or closes. Times are int64 ns."""

    def __init__(self, exchange: str, symbol: str, proof: Proof, changed: Callable[[Gap], None]) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.proof: Proof = proof
        self.open: dict[int, Gap] = {}
        #: Every row in the files, those before the promise too.
        self.rows = 0
        #: Days since the epoch before this one went by the policy.
        self.kept_from = 0
        self._changed = changed
        self._series = Series()
        self._first_ns = self._last_ns = 0
        #: The last trade before the collector that delivers now.
        self._before_ns = 0
        self._breaks: deque[tuple[int, int, str]] = deque(maxlen=_BREAKS_KEPT)
        self._last_gap_id = 0
        self._closed = 0
        self._doubled = 0
        self._backfilled = 0
        #: Since when it is synced, if it is.
        self._since = 0
        #: Its trades may stand for several.
        self.merging = False

    @property
    def begun(self) -> bool:
        """Something of it was stored live, or its account does not depend on that."""
        return bool(self._first_ns) if self.proof != "ids" else self._series.first is not None

    # ---- trades

    def holds(self, ids: Ids) -> Mask:
        """Per id whether it is stored within the promise, by itself or as part of a merged trade."""
        return self._series.stored(ids, ids)

    def admit(self, kind: Kind, starts: Ids, ids: Ids, ts: Ids) -> Mask | None:
        """Which trades belong in the files; None: all of them. They stand for the ids `starts..ids`, which are one
        array where every trade stands for itself."""
        if self.proof != "ids":
            return self._in_windows(ts) if kind == "history" else None
        series = self._series
        if series.broken:
            return self._unproven(kind, ids)
        if kind == "trades":
            self.merging = self.merging or starts is not ids
            return self._whole(starts, ids) if self.merging else None
        if series.first is None:
            return None if kind == "backfill" else np.zeros(len(ids), bool)
        wanted: Mask = series.missing.hold(starts, ids) | ((starts > series.last) & (ids <= series.last + FAR_AHEAD))
        return wanted | (ids < series.first) if kind == "backfill" else wanted

    def went_on(self, first: int, last: int, newest_ns: int) -> bool:
        """Live trades with the ids `first..last`, none left out, are in the files and were not before, the last one at
        `newest_ns`: the short way for what nearly always comes. False (and nothing done) where `stored` must look."""
        if self.proof != "ids" or not self._series.went_on(first, last, newest_ns):
            return False
        self.rows += last - first + 1
        if newest_ns > self._last_ns:
            self._last_ns = newest_ns
        return True

    def stored(self, kind: Kind, starts: Ids, ids: Ids, ts: Ids, new: Mask | None, now_ns: int) -> int:
        """Trades that are in the files; `new`: they were not before (None: all of them). How many of them are new."""
        added = len(ids) if new is None else np.count_nonzero(new)
        self.rows += added
        if kind == "trades":
            self._doubled += len(ids) - added
        newest = ts.item(-1) if self.proof == "ids" else int(ts.max())
        if newest > self._last_ns:
            self._last_ns = newest
        if not self._first_ns:
            self._first_ns = self._since = int(ts.min())
        if kind == "backfill" and added:
            self._backfilled += added
            self._count_backfilled(*((ids, ts) if new is None else (ids[new], ts[new])))
        if self.proof == "ids" and not (kind == "trades" and self._series.follow(starts, ids, newest)):
            self._note(self._series.take(starts, ids, ts, kind == "trades"), now_ns, PASSED_OVER)
        return added

    def dropped(self, ids: Ids, ts: Ids, now_ns: int) -> None:
        """Live trades that `admit` kept out of the files: (part of) what they stand for is there, the rest is
        missing."""
        self._doubled += len(ids)
        holes = self._series.see(int(ids.max()), int(ts.max()))
        self._note(Found(holes, [], Ranges()), now_ns, "a merged trade is stored in part")

    def prove_by(self, proof: Proof) -> None:
        """The exchange's trades are known in another way from now on: the promise begins anew."""
        self.proof = proof
        self._series = Series()
        self._series.broken = self._given_up
        for gap in self._id_rows():
            self._series.missing.add(gap.first_id or 0, gap.last_id or 0)

    # ---- what may have been missed

    def another_collector(self) -> None:
        """What follows comes from a new collector process."""
        self._before_ns = self._last_ns

    def broke(self, from_ns: int, to_ns: int, reason: str, now_ns: int) -> None:
        """Trades may have been missed: opens a window, or gives the holes of that time their reason."""
        if not self._first_ns:
            return  # nothing is promised yet
        reason = reason[:_LONGEST_REASON]
        begin = from_ns if from_ns != SINCE_LAST else (self._before_ns or self._last_ns)
        begin, end = min(begin, to_ns), max(begin, to_ns)
        if self.proof == "ids":
            self._breaks.append((begin, end, reason))
            for gap in list(self.open.values()):
                if gap.reason == PASSED_OVER and self._reason(gap.from_ns, gap.to_ns, "") == reason:
                    self._change(replace(gap, reason=reason))
            return
        windows = self._windows()
        if any(gap.from_ns <= begin and end <= gap.to_ns for gap in windows):
            return
        near = [gap for gap in windows if gap.from_ns <= end and begin <= gap.to_ns]
        if not near and len(windows) >= MAX_OPEN:
            near = [max(windows, key=lambda gap: gap.to_ns)]
        reasons = dict.fromkeys([*(gap.reason for gap in near), reason])
        whole = self._opened(
            None, None, min([begin, *(gap.from_ns for gap in near)]), max([end, *(gap.to_ns for gap in near)]),
            "; ".join(reasons)[:_LONGEST_REASON], now_ns,
        )  # fmt: skip
        for gap in near:
            # A repair of the smaller one may be under way and must not close the larger.
            self._close(gap, now_ns, f"part of gap {whole.gap_id}")

    def attempted(self, gap_id: int, covered: bool, note: str, now_ns: int) -> None:
        """A backfill of a gap has ended; `covered`: the exchange has shown everything it has of it."""
        gap = self.open.get(gap_id)
        if gap is None:
            return
        gap = replace(gap, attempts=gap.attempts + 1, evidence=note)
        if covered and gap.first_id is None and gap.reason != NOT_CONTIGUOUS:
            self._close(gap, now_ns, note)
        else:
            self._change(gap)

    # ---- asked

    def integrity(self) -> dict[str, Any]:
        series = self._series
        oldest = min(self.open.values(), key=lambda gap: gap.opened, default=None)
        counted = self.proof == "ids" and not series.broken
        trades = series.trades if counted else self.rows
        return {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "proof": self.proof,
            "state": "synced" if oldest is None else "gapped",
            "since": self._since if oldest is None else oldest.opened,
            "why": "" if oldest is None else oldest.reason,
            "first_id": series.first,
            "last_id": series.last if series.first is not None else None,
            "trades": trades,
            "merged": series.surplus,
            "missing": series.missing.total if counted else None,
            "doubled": self._doubled,
            "backfilled": self._backfilled,
            "gaps_open": len(self.open),
            "gaps_closed": self._closed,
            "earlier": max(0, self.rows - trades),
        }

    def checkpoint(self, at_ns: int) -> Checkpoint:
        series = self._series
        return Checkpoint(
            exchange=self.exchange,
            symbol=self.symbol,
            proof=self.proof,
            at_ns=at_ns,
            changed_ns=at_ns,
            first_id=series.first,
            through_id=None if series.first is None else series.last,
            missing=series.missing.flat(),
            surplus=series.surplus,
            merging=self.merging,
            first_ns=self._first_ns,
            last_ns=self._last_ns,
            last_gap_id=self._last_gap_id,
            gaps_closed=self._closed,
            doubled=self._doubled,
            since=self._since,
            rows=self.rows,
            kept_from=self.kept_from,
        )

    # ---- after a crash

    def restore(self, checkpoint: Checkpoint | None, gaps: list[Gap]) -> None:
        """Begin with what the log says."""
        if checkpoint is not None:
            series = self._series
            if checkpoint.proof == self.proof and checkpoint.first_id is not None:
                series.first, series.last = checkpoint.first_id, checkpoint.through_id or 0
                series.missing = Ranges(checkpoint.missing)
                series.surplus, series.last_ns = checkpoint.surplus, checkpoint.last_ns
            self.merging = checkpoint.merging
            self._first_ns, self._last_ns = checkpoint.first_ns, checkpoint.last_ns
            self._last_gap_id = checkpoint.last_gap_id
            self._closed, self._doubled, self._since = checkpoint.gaps_closed, checkpoint.doubled, checkpoint.since
            self.kept_from = checkpoint.kept_from
        self.open = {gap.gap_id: gap for gap in gaps if gap.closed is None}
        self._closed = max(self._closed, sum(gap.closed is not None for gap in gaps))
        self._last_gap_id = max([self._last_gap_id, *(gap.gap_id for gap in gaps)])
        if self._given_up:
            # The checkpoint may be older.
            self._series.broken, self._series.missing = True, Ranges()

    def recover(self, stored: Iterable[tuple[Ids, Ids, Ids]], now_ns: int) -> None:
        """Compare with the files: `stored` are the trades (first and last id, time) of days that changed since the
        checkpoint."""
        for gap in self._id_rows():
            # Seen, though perhaps never stored.
            self._series.see(gap.last_id or 0, gap.to_ns)
        missing = self._series.missing
        found = Found([], [], Ranges())
        known = None if self._series.first is None else (self._series.last + FAR_BEHIND, self._series.last_ns)
        for starts, ids, ts in stored:
            self._first_ns = self._first_ns or int(ts.min())
            self._last_ns = max(self._last_ns, int(ts.max()))
            if self.proof == "ids":
                if known is not None and (before := (starts > known[0]) & (ts < known[1])).any():
                    # Of the series before the one the checkpoint speaks of.
                    starts, ids, ts = starts[~before], ids[~before], ts[~before]
                holes, anew, _ = self._series.take(starts, ids, ts, live=True) if len(ids) else Found([], [], Ranges())
                found.anew.extend(anew)
                found.holes[:] = [hole for hole in (*found.holes, *holes) if missing.hull(hole.first, hole.last)]
        self._since = self._since or self._first_ns
        for gap in self._id_rows():
            found.changed.add(gap.first_id or 0, gap.last_id or 0)
        self._note(found, now_ns, AFTER_A_CRASH)
        unsaid = Ranges(self._series.missing.flat())
        for gap in self._id_rows():
            unsaid.remove(gap.first_id or 0, gap.last_id or 0)
        holes = [Hole(first, last, self._first_ns, self._last_ns) for first, last in unsaid.all()]
        self._open_rows(holes, now_ns, AFTER_A_CRASH)
        self._before_ns = self._last_ns

    # ---- rows

    def _note(self, found: Found, now_ns: int, reason: str) -> None:
        """Let the rows follow what is missing now."""
        for one in found.anew:
            said = f"the exchange counts anew: {one.first} came after {one.last}"
            row = self._opened(None, None, one.from_ns, one.at_ns, said, now_ns)
            self._close(row, now_ns, "no id between the two can be asked for")
        if self._series.broken:
            self._give_up(now_ns)
            return
        for gap in self._id_rows() if len(found.changed) else ():
            first, last = gap.first_id or 0, gap.last_id or 0
            if found.changed.hull(first, last) is None or (count := self._missing(first, last)) == gap.missing:
                continue
            gap = replace(gap, missing=count)
            if count:
                self._change(gap)
            else:
                by = f"{gap.backfilled} trades by backfill" if gap.backfilled else "came late"
                self._close(gap, now_ns, f"every id is stored: {by}")
        self._open_rows(found.holes, now_ns, reason)

    def _open_rows(self, holes: Sequence[Hole], now_ns: int, reason: str) -> None:
        """Rows for what is missing still of these holes; those for which there is no room make the newest row
        longer, all at once."""
        hulls = (self._series.missing.hull(hole.first, hole.last) for hole in holes)
        left = [Hole(*hull, *hole[2:]) for hole, hull in zip(holes, hulls, strict=True) if hull is not None]
        room = max(0, MAX_OPEN - len(self.open))
        for first, last, begin, end in left[:room]:
            self._opened(first, last, begin, end, self._reason(begin, end, reason), now_ns)
        if not (rest := left[room:]):
            return
        first, last = min(hole.first for hole in rest), max(hole.last for hole in rest)
        begin, end = min(hole.from_ns for hole in rest), max(hole.to_ns for hole in rest)
        newest = max(self._id_rows(), key=lambda gap: gap.last_id or 0, default=None)
        if newest is None:
            self._opened(first, last, begin, end, self._reason(begin, end, reason), now_ns)
            return
        first, last = min(newest.first_id or 0, first), max(newest.last_id or 0, last)
        begin, end = min(newest.from_ns, begin), max(newest.to_ns, end)
        longer = replace(newest, first_id=first, last_id=last, from_ns=begin, to_ns=end)
        self._change(replace(longer, missing=self._missing(first, last)))

    def _give_up(self, now_ns: int) -> None:
        """One row stands for all that is missing and will be."""
        if self._given_up:
            return
        # Nothing that repair fetches closes it, so it is told of a moment only.
        whole = self._opened(None, None, self._last_ns, self._last_ns, NOT_CONTIGUOUS, now_ns)
        for gap in self._id_rows():
            self._close(gap, now_ns, f"part of gap {whole.gap_id}")

    def _count_backfilled(self, ids: Ids, ts: Ids) -> None:
        by_id, by_time = np.sort(ids).tolist(), np.sort(ts).tolist()
        for gap in list(self.open.values()):
            if gap.first_id is None or gap.last_id is None:
                inside = bisect_right(by_time, gap.to_ns) - bisect_left(by_time, gap.from_ns)
            else:
                inside = bisect_right(by_id, gap.last_id) - bisect_left(by_id, gap.first_id)
            if inside:
                self._change(replace(gap, backfilled=gap.backfilled + inside))

    def _whole(self, starts: Ids, ids: Ids) -> Mask | None:
        """Trades none of whose ids is stored, nor part of another trade here."""
        if self._series.goes_on(starts, ids):
            return None
        kept = ~self._series.stored(starts, ids)
        taken = Ranges()
        for row in np.flatnonzero(kept).tolist():
            first, last = int(starts[row]), int(ids[row])
            if taken.count(first, last):
                kept[row] = False
            else:
                taken.add(first, last)
        return None if kept.all() else kept

    def _unproven(self, kind: Kind, ids: Ids) -> Mask | None:
        """As `admit`, where nobody knows which ids are stored but the files, which drop what they have."""
        if kind == "trades":
            return None
        before = ids < (self._series.first or 0)
        if self.merging:
            # Of a merged trade in the files one part alone would be stored again.
            return before if kind == "backfill" else np.zeros(len(ids), bool)
        return None if kind == "backfill" else ~before

    def _in_windows(self, ts: Ids) -> Mask:
        inside = np.zeros(len(ts), bool)
        for gap in self._windows():
            inside |= (gap.from_ns <= ts) & (ts <= gap.to_ns)
        return inside

    def _reason(self, from_ns: int, to_ns: int, otherwise: str) -> str:
        for begin, end, reason in reversed(self._breaks):
            if begin - _SLACK_NS <= to_ns and from_ns <= end + _SLACK_NS:
                return reason
        return otherwise

    @property
    def _given_up(self) -> bool:
        return any(gap.reason == NOT_CONTIGUOUS for gap in self.open.values())

    def _missing(self, first: int, last: int) -> int:
        return self._series.missing.count(first, last)

    def _windows(self) -> list[Gap]:
        return [gap for gap in self.open.values() if gap.first_id is None and gap.reason != NOT_CONTIGUOUS]

    def _id_rows(self) -> list[Gap]:
        return [gap for gap in self.open.values() if gap.first_id is not None]

    def _opened(self, first: int | None, last: int | None, from_ns: int, to_ns: int, reason: str, now_ns: int) -> Gap:
        # Of the time, so that an id is never used again, whatever is lost; in us, which every client can hold.
        self._last_gap_id = max(self._last_gap_id + 1, now_ns // 1000)
        missing = None if first is None or last is None else self._missing(first, last)
        gap = Gap(
            self.exchange, self.symbol, self._last_gap_id, first, last, from_ns, to_ns, missing, now_ns, reason
        )  # fmt: skip
        self.open[gap.gap_id] = gap
        self._changed(gap)
        return gap

    def _change(self, gap: Gap) -> None:
        self.open[gap.gap_id] = gap = replace(gap, revision=gap.revision + 1)
        self._changed(gap)

    def _close(self, gap: Gap, now_ns: int, evidence: str) -> None:
        del self.open[gap.gap_id]
        self._closed += 1
        self._since = now_ns
        self._changed(replace(gap, closed=now_ns, evidence=evidence, revision=gap.revision + 1))
