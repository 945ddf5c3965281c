"""An account against plain sets of ids: whatever order trades come in, however often, and whatever is killed when."""

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger.account import AFTER_A_CRASH, MAX_OPEN, NOT_CONTIGUOUS, PASSED_OVER, Account, Kind
from actors.ledger.keeper import _beginning
from actors.ledger.series import FAR_AHEAD, MOST_RANGES
from storage.ledger_log import Checkpoint, Gap

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
NOBODY = np.zeros(0, np.int64)


def ns(trade_id: int) -> int:
    """Every trade has its time, as on an exchange."""
    return START + trade_id * SECOND


@dataclass
class Disk:
    """Column files and a log, as far as they matter: what is here survives."""

    #: Stored trades and how many ids each stands for.
    files: dict[int, int] = field(default_factory=dict)
    gaps: dict[int, Gap] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None


class Symbol:
    """One symbol's account on a disk, driven as the keeper drives it."""

    def __init__(self, proof: Any = "ids") -> None:
        self.disk = Disk()
        self.proof = proof
        self.unwritten: list[Gap] = []
        self.now = START
        self.account = Account("okx", "BTC-USDT", proof, self.unwritten.append)

    def send(
        self, kind: Kind, trades: list[tuple[int, int]], times: list[int] | None = None, rows: bool = True
    ) -> None:
        """Trades as (id, fills); without `rows` the process dies before gap rows are in the log."""
        self.now += SECOND
        ids = np.array([one for one, _ in trades], np.int64)
        fills = np.array([many for _, many in trades], np.int64)
        ts = np.array(times or [ns(one) for one in ids.tolist()], np.int64)
        starts = ids if (fills == 1).all() else ids - fills + 1
        kept = self.account.admit(kind, starts, ids, ts)
        out = np.zeros(len(ids), bool) if kept is None else ~kept
        same = starts is ids
        stored_ids, stored_fills, stored_ts = ids[~out], fills[~out], ts[~out]
        starts = stored_ids if same else starts[~out]
        new = np.zeros(len(stored_ids), bool)
        for row, (one, many) in enumerate(zip(stored_ids.tolist(), stored_fills.tolist(), strict=True)):
            new[row] = one not in self.disk.files
            self.disk.files.setdefault(one, many)
        if len(stored_ids):
            self.account.stored(kind, starts, stored_ids, stored_ts, new, self.now)
        if kind == "trades" and out.any():
            self.account.dropped(ids[out], ts[out], self.now)
        if rows:
            self.write()

    def write(self) -> None:
        self.disk.gaps |= {gap.gap_id: gap for gap in self.unwritten}
        self.unwritten.clear()
        known = self.disk.checkpoint
        if self.account.begun and (known is None or known.first_id is None):
            self.disk.checkpoint = _beginning(self.account.checkpoint(0))

    def check_point(self) -> None:
        self.disk.checkpoint = self.account.checkpoint(self.now)

    def crash(self) -> None:
        self.unwritten.clear()
        self.now += SECOND
        self.account = Account("okx", "BTC-USDT", self.proof, self.unwritten.append)
        self.account.restore(self.disk.checkpoint, list(self.disk.gaps.values()))
        self.account.rows = len(self.disk.files)
        ids = np.array(sorted(self.disk.files), np.int64)
        if len(ids):
            fills = np.array([self.disk.files[one] for one in ids.tolist()], np.int64)
            starts = ids if (fills == 1).all() else ids - fills + 1
            self.account.recover([(starts, ids, ids * SECOND + START)], self.now)
        else:
            self.account.recover([], self.now)
        self.write()

    @property
    def row(self) -> dict[str, Any]:
        return self.account.integrity()

    @property
    def missing(self) -> set[int]:
        return ids_of(self.account.checkpoint(0).missing)


def ids_of(flat: list[int]) -> set[int]:
    return {one for first, last in zip(flat[::2], flat[1::2], strict=True) for one in range(first, last + 1)}


def merged(cuts: list[bool]) -> list[tuple[int, int]]:
    """Trades 1..n of which some stand for several: a cut ends one."""
    trades, begin = [], 1
    for last, cut in enumerate(cuts, 1):
        if cut or last == len(cuts):
            trades.append((last, last - begin + 1))
            begin = last + 1
    return trades


@settings(max_examples=150, deadline=None)
@given(data=st.data(), cuts=st.lists(st.booleans(), min_size=1, max_size=30), merging=st.booleans())
def test_what_is_missing_is_what_a_set_says_whatever_comes_and_dies(
    data: st.DataObject, cuts: list[bool], merging: bool
) -> None:
    trades = merged(cuts if merging else [True] * len(cuts))
    highest = trades[-1][0]
    symbol = Symbol()
    first: int | None = None
    seen = 0
    for _ in range(data.draw(st.integers(1, 8))):
        step = data.draw(
            st.sampled_from(["trades", "trades", "trades", "backfill", "crash", "late crash", "checkpoint"])
        )
        if step in ("trades", "late crash"):
            if step == "late crash" and first is None:
                continue
            sent = data.draw(st.lists(st.sampled_from(trades), min_size=1, max_size=12))
            before = set(symbol.disk.files)
            symbol.send("trades", sent, rows=step == "trades")
            if first is None:
                first = min(last - fills + 1 for last, fills in sent)
            seen = max([seen, *(last for last, _ in sent)])
            if step == "late crash":
                # Not acknowledged: the collector sends it again.
                assert before <= set(symbol.disk.files)
                symbol.crash()
                symbol.send("trades", sent)
        elif step == "backfill":
            if first is None:
                continue  # what it stores is not part of the promise; another test has that
            wanted = data.draw(st.lists(st.integers(1, highest), min_size=1, max_size=12))
            symbol.send("backfill", [(one, 1) for one in wanted])
            if first is not None:
                seen = max([seen, *(one for one in wanted)])
        elif step == "crash":
            symbol.crash()
        else:
            symbol.check_point()
        covered = [one for last, fills in symbol.disk.files.items() for one in range(last - fills + 1, last + 1)]
        if first is None:
            assert not symbol.missing
            continue
        inside = [one for one in covered if one >= first]
        assert len(inside) == len(set(inside)), "an id is stored twice"
        assert symbol.missing == set(range(first, seen + 1)) - set(covered)
        open_rows = list(symbol.account.open.values())
        assert sum(gap.missing or 0 for gap in open_rows) == len(symbol.missing)
        assert all(gap.missing for gap in open_rows)
        assert {one for gap in open_rows for one in range(gap.first_id or 0, (gap.last_id or 0) + 1)} >= symbol.missing
        row = symbol.row
        assert (row["first_id"], row["last_id"], row["missing"]) == (first, seen, len(symbol.missing))
        assert row["trades"] + row["merged"] + row["missing"] == seen - first + 1
        assert row["trades"] == sum(last >= first for last in symbol.disk.files)
        assert row["state"] == ("gapped" if symbol.missing else "synced")
        assert all(gap.evidence for gap in symbol.disk.gaps.values() if gap.closed)
    if first is not None:
        symbol.send("backfill", [(one, 1) for one in sorted(symbol.missing)] or [(1, 1)])
        assert not symbol.missing
        assert not symbol.account.open


def live(symbol: Symbol, *ids: int, times: list[int] | None = None) -> None:
    symbol.send("trades", [(one, 1) for one in ids], times)


def rows(symbol: Symbol) -> list[Gap]:
    return list(symbol.disk.gaps.values())


def test_the_first_live_trade_opens_no_gap_and_a_hole_behind_it_does() -> None:
    symbol = Symbol()
    live(symbol, 500)
    assert rows(symbol) == []
    live(symbol, 503)
    gap = rows(symbol)[0]
    assert (gap.first_id, gap.last_id, gap.missing, gap.from_ns, gap.to_ns) == (501, 502, 2, ns(500), ns(503))
    assert (gap.reason, gap.closed) == (PASSED_OVER, None)
    live(symbol, 502)
    live(symbol, 501)
    gap = rows(symbol)[0]
    assert (gap.missing, gap.closed, gap.evidence) == (0, symbol.now, "every id is stored: came late")


def test_a_hole_has_the_reason_of_the_break_it_overlaps_whichever_comes_first() -> None:
    symbol = Symbol()
    live(symbol, 10)
    symbol.account.broke(ns(10), ns(14), "connection lost", symbol.now)
    live(symbol, 15, 16, 17, 18, 30)
    assert [gap.reason for gap in rows(symbol)] == ["connection lost", PASSED_OVER]
    symbol.account.broke(ns(20), ns(21), "frames were dropped", symbol.now)
    symbol.write()
    assert [gap.reason for gap in rows(symbol)] == ["connection lost", "frames were dropped"]


def test_trades_out_of_order_within_a_batch_open_nothing() -> None:
    symbol = Symbol()
    live(symbol, 3, 1, 2)
    live(symbol, 6, 4, 4, 5, 2)
    assert rows(symbol) == []
    assert symbol.row["doubled"] == 2


def test_ids_far_ahead_or_from_the_start_again_are_a_new_series_and_no_endless_gap() -> None:
    symbol = Symbol()
    live(symbol, 900_000, 900_002)
    live(symbol, 900_002 + FAR_AHEAD + 5, times=[ns(900_010)])
    live(symbol, 1, 2, 3, 5, times=[ns(900_011 + i) for i in range(4)])
    said = [(gap.first_id, gap.closed is not None, gap.reason.split(":")[0]) for gap in rows(symbol)]
    assert said == [
        (900_001, False, PASSED_OVER),
        (None, True, "the exchange counts anew"),
        (None, True, "the exchange counts anew"),
        (4, False, PASSED_OVER),
    ]
    symbol.send("backfill", [(4, 1), (900_001, 1)])
    assert not symbol.account.open


def test_one_wrong_id_does_not_hide_what_is_missed_behind_it() -> None:
    symbol = Symbol()
    live(symbol, 1000, 1001)
    live(symbol, 7 * FAR_AHEAD, times=[ns(1002)])
    live(symbol, 1005, 1006)
    assert [(gap.first_id, gap.last_id) for gap in symbol.account.open.values()] == [(1002, 1004)]


def test_a_backfill_stores_only_what_is_missing_and_says_so() -> None:
    symbol = Symbol()
    symbol.send("trades", [(3, 3), (9, 2)])
    assert [(gap.first_id, gap.last_id) for gap in symbol.account.open.values()] == [(4, 7)]
    symbol.send("backfill", [(one, 1) for one in range(1, 10)])
    assert symbol.disk.files == {3: 3, 4: 1, 5: 1, 6: 1, 7: 1, 9: 2}
    gap = rows(symbol)[0]
    assert (gap.backfilled, gap.missing, gap.evidence) == (4, 0, "every id is stored: 4 trades by backfill")


def test_a_merged_trade_of_which_a_part_is_stored_leaves_the_rest_missing() -> None:
    symbol = Symbol()
    symbol.send("trades", [(2, 2)])
    symbol.send("backfill", [(3, 1), (4, 1)])
    symbol.send("trades", [(6, 4)])
    assert symbol.disk.files == {2: 2, 3: 1, 4: 1}
    assert symbol.missing == {5, 6}
    symbol.crash()
    assert symbol.missing == {5, 6}
    live(symbol, 7)
    symbol.send("backfill", [(5, 1), (6, 1)])
    assert symbol.row["state"] == "synced"


def test_trades_from_before_the_subscription_are_stored_where_they_fill_a_gap_only() -> None:
    symbol = Symbol()
    symbol.send("history", [(1, 1), (2, 1)])
    assert symbol.disk.files == {}
    live(symbol, 5)
    symbol.send("history", [(3, 1), (4, 1), (5, 1), (7, 1)])
    assert sorted(symbol.disk.files) == [5, 7]
    assert symbol.missing == {6}


def test_a_backfill_from_before_the_promise_counts_as_earlier() -> None:
    symbol = Symbol()
    symbol.send("backfill", [(1, 1), (2, 1)])
    live(symbol, 10)
    symbol.send("backfill", [(3, 1), (10, 1)])
    row = symbol.row
    assert (row["first_id"], row["trades"], row["earlier"], row["missing"]) == (10, 1, 3, 0)


def test_too_many_holes_make_the_newest_row_longer() -> None:
    symbol = Symbol()
    many = [2 * one for one in range(MAX_OPEN + 50)]
    live(symbol, *many)
    assert len(symbol.account.open) == MAX_OPEN
    assert sum(gap.missing or 0 for gap in symbol.account.open.values()) == len(symbol.missing) == len(many) - 1
    symbol.send("backfill", [(one, 1) for one in sorted(symbol.missing)])
    assert not symbol.account.open


@pytest.mark.parametrize("most_ranges", [MOST_RANGES, 10**9])
def test_ids_that_are_never_contiguous_cost_the_same_for_ever(
    monkeypatch: pytest.MonkeyPatch, most_ranges: int
) -> None:
    monkeypatch.setattr("actors.ledger.series.MOST_RANGES", most_ranges)
    changed: list[Gap] = []
    account = Account("okx", "BTC-USDT", "ids", changed.append)
    seconds, changes = [], []
    for number in range(100):
        ids = 2 * (np.arange(1000) + 1000 * number)
        changed.clear()
        started = time.process_time()
        assert account.admit("trades", ids, ids, START + ids * SECOND) is None
        account.stored("trades", ids, ids, START + ids * SECOND, np.ones(1000, bool), START)
        seconds.append(time.process_time() - started)
        changes.append(len(changed))
    row = account.integrity()
    assert (row["state"], row["last_id"], account.rows) == ("gapped", 2 * 99_999, 100_000)
    # All rows there may be open, in two batches, and close in one.
    assert sum(change > 1 for change in changes) <= 3
    assert statistics.median(seconds[-20:]) < 2 * statistics.median(seconds[1:9])
    if most_ranges == MOST_RANGES:
        assert (len(account.open), account.checkpoint(0).missing, row["missing"]) == (1, [], None)
    else:
        assert (len(account.open), row["missing"]) == (MAX_OPEN, 99_999)


def too_many_holes(symbol: Symbol) -> None:
    """Even ids from 0 on, in batches of 1,000; one hole more than there may be."""
    for first in range(0, MOST_RANGES + 2, 1000):
        live(symbol, *range(2 * first, 2 * min(first + 1000, MOST_RANGES + 2), 2))


def test_beyond_the_most_ranges_one_row_says_for_good_that_nothing_is_proven() -> None:
    symbol = Symbol()
    too_many_holes(symbol)
    (row,) = symbol.account.open.values()
    assert (row.reason, row.first_id, row.missing, row.from_ns) == (NOT_CONTIGUOUS, None, None, ns(2 * MOST_RANGES + 2))
    others = [gap for gap in rows(symbol) if gap.gap_id != row.gap_id]
    assert len(others) == MAX_OPEN
    assert {gap.evidence for gap in others} == {f"part of gap {row.gap_id}"}
    now = symbol.now
    for _ in range(2):
        symbol.account.attempted(row.gap_id, True, "the exchange showed everything it has of this time", symbol.now)
        symbol.account.broke(ns(1), ns(5), "connection lost", symbol.now)
        live(symbol, 30_000, 30_001, 29_999, 40_000)
        symbol.send("backfill", [(1, 1), (3, 1), (4, 1)])
        assert {1, 3, 4, 29_999, 30_000, 40_000} <= set(symbol.disk.files)
        state = symbol.row
        assert (state["state"], state["why"], state["since"]) == ("gapped", NOT_CONTIGUOUS, now)
        assert (state["missing"], state["trades"], state["gaps_open"]) == (None, len(symbol.disk.files), 1)
        symbol.check_point()
        assert symbol.disk.checkpoint is not None
        assert len(symbol.disk.checkpoint.missing) == 0
        symbol.crash()
        assert [gap.reason for gap in symbol.account.open.values()] == [NOT_CONTIGUOUS]


def test_a_checkpoint_from_before_that_brings_no_row_back() -> None:
    symbol = Symbol()
    live(symbol, *range(0, 100, 2))
    symbol.check_point()
    too_many_holes(symbol)
    symbol.crash()
    assert [gap.reason for gap in symbol.account.open.values()] == [NOT_CONTIGUOUS]


def test_files_with_too_many_holes_say_so_after_a_crash_without_any_word_of_them() -> None:
    symbol = Symbol()
    symbol.send("trades", [(2 * one, 1) for one in range(MOST_RANGES + 2)], rows=False)
    symbol.crash()
    assert [gap.reason for gap in symbol.account.open.values()] == [NOT_CONTIGUOUS]
    live(symbol, 5, 50_000)
    assert len(rows(symbol)) == 1


def test_ids_that_begin_anew_for_ever_are_not_contiguous_either() -> None:
    symbol = Symbol()
    for first in range(0, MOST_RANGES + 1_000, 1_000):
        counts = range(first + 1, first + 1_001)
        live(symbol, *(one * one * 2 * FAR_AHEAD for one in counts), times=[ns(one) for one in counts])
    assert [gap.reason for gap in symbol.account.open.values()] == [NOT_CONTIGUOUS]
    closed = symbol.row["gaps_closed"]
    live(symbol, 7, 7 * FAR_AHEAD, 8, times=[ns(20_000), ns(20_001), ns(20_002)])
    assert symbol.row["gaps_closed"] == closed


def test_where_nothing_is_proven_a_part_of_a_merged_trade_is_not_stored_beside_it() -> None:
    symbol = Symbol()
    for first in range(0, MOST_RANGES + 1_000, 1_000):
        symbol.send("trades", [(100 + 5 * one, 3) for one in range(first, first + 1_000)])
    assert symbol.row["why"] == NOT_CONTIGUOUS
    before = set(symbol.disk.files)
    symbol.send("backfill", [(99, 1), (98, 1), (90, 1), (101, 1), (10**6, 1)])
    symbol.send("history", [(104, 1), (10**6, 1)])
    assert set(symbol.disk.files) - before == {90}
    symbol.send("trades", [(102, 2), (10**6, 3)])
    assert set(symbol.disk.files) - before == {90, 102, 10**6}


def test_holes_of_one_batch_make_the_newest_row_longer_once() -> None:
    symbol = Symbol()
    live(symbol, *range(0, 2 * MAX_OPEN + 2, 2))
    before = {gap.gap_id: gap for gap in symbol.account.open.values()}
    live(symbol, *range(2 * MAX_OPEN + 4, 2 * MAX_OPEN + 400, 2))
    changed = [gap for gap in symbol.account.open.values() if gap != before[gap.gap_id]]
    assert [(gap.revision, gap.last_id) for gap in changed] == [(1, 2 * MAX_OPEN + 397)]


def test_windows_beyond_the_most_rows_make_the_newest_longer() -> None:
    symbol = Symbol("none")
    live(symbol, 1)
    for one in range(MAX_OPEN + 3):
        symbol.account.broke(ns(10 * one + 2), ns(10 * one + 3), "connection lost", symbol.now)
    assert len(symbol.account.open) == MAX_OPEN
    newest = max(symbol.account.open.values(), key=lambda gap: gap.to_ns)
    assert (newest.from_ns, newest.to_ns) == (ns(10 * MAX_OPEN - 8), ns(10 * (MAX_OPEN + 2) + 3))


def test_holes_found_in_the_files_after_a_crash_say_so() -> None:
    symbol = Symbol()
    live(symbol, 1)
    symbol.check_point()
    symbol.send("trades", [(2, 1), (5, 1)], rows=False)
    symbol.crash()
    assert [(gap.first_id, gap.last_id, gap.reason) for gap in rows(symbol)] == [(3, 4, AFTER_A_CRASH)]


# ---- where ids prove nothing


def window(gap: Gap) -> tuple[int, int, str]:
    return gap.from_ns, gap.to_ns, gap.reason


def test_a_break_opens_a_window_only_where_trades_were_stored_before() -> None:
    symbol = Symbol("recent")
    symbol.account.broke(0, ns(5), "a new collector", symbol.now)
    assert not symbol.account.open
    live(symbol, 77, 3, times=[ns(1), ns(2)])
    symbol.account.broke(0, ns(5), "a new collector", symbol.now)
    assert [window(gap) for gap in symbol.account.open.values()] == [(ns(2), ns(5), "a new collector")]
    assert symbol.row["state"] == "gapped"


def test_since_the_last_trade_means_of_the_collector_before() -> None:
    symbol = Symbol("none")
    live(symbol, 1, times=[ns(1)])
    symbol.account.another_collector()
    live(symbol, 2, times=[ns(9)])
    symbol.account.broke(0, ns(8), "a new collector", symbol.now)
    assert [window(gap)[:2] for gap in symbol.account.open.values()] == [(ns(1), ns(8))]


def test_breaks_that_overlap_become_one_and_a_repair_of_the_smaller_does_not_close_it() -> None:
    symbol = Symbol("numbered")
    live(symbol, 1)
    symbol.account.broke(ns(2), ns(4), "numbers jumped", symbol.now)
    smaller = next(iter(symbol.account.open))
    symbol.account.broke(ns(3), ns(6), "connection lost", symbol.now)
    symbol.account.broke(ns(3), ns(5), "connection lost", symbol.now)
    symbol.account.attempted(smaller, True, "the exchange has shown it", symbol.now)
    symbol.write()
    gap = next(iter(symbol.account.open.values()))
    assert window(gap) == (ns(2), ns(6), "numbers jumped; connection lost")
    assert symbol.disk.gaps[smaller].evidence == f"part of gap {gap.gap_id}"


def test_a_window_closes_with_evidence_and_otherwise_stays_open_with_the_note() -> None:
    symbol = Symbol("recent")
    live(symbol, 1)
    symbol.account.broke(ns(2), ns(9), "connection lost", symbol.now)
    gap_id = next(iter(symbol.account.open))
    symbol.send("backfill", [(50, 1), (51, 1)], [ns(3), ns(20)])
    symbol.account.attempted(gap_id, False, "page 2 failed", symbol.now)
    gap = symbol.account.open[gap_id]
    assert (gap.attempts, gap.evidence, gap.backfilled, gap.closed) == (1, "page 2 failed", 1, None)
    symbol.account.attempted(gap_id, True, "both ends seen", symbol.now)
    symbol.write()
    gap = symbol.disk.gaps[gap_id]
    assert (gap.attempts, gap.evidence, gap.closed) == (2, "both ends seen", symbol.now)
    assert gap.revision == 3
    assert symbol.row["state"] == "synced"


def test_a_covered_attempt_does_not_close_ids_that_are_still_missing() -> None:
    symbol = Symbol()
    live(symbol, 1, 3)
    gap_id = next(iter(symbol.account.open))
    symbol.account.attempted(gap_id, True, "the exchange has no such trade", symbol.now)
    assert symbol.account.open[gap_id].evidence == "the exchange has no such trade"


def test_history_is_stored_within_open_windows_only() -> None:
    symbol = Symbol("none")
    live(symbol, 1)
    symbol.account.broke(ns(2), ns(4), "connection lost", symbol.now)
    symbol.send("history", [(20, 1), (30, 1)], [ns(3), ns(5)])
    assert sorted(symbol.disk.files) == [1, 20]


def test_windows_survive_a_crash() -> None:
    symbol = Symbol("none")
    live(symbol, 1)
    symbol.account.broke(ns(2), ns(4), "connection lost", symbol.now)
    symbol.write()
    symbol.check_point()
    symbol.crash()
    assert [window(gap)[:2] for gap in symbol.account.open.values()] == [(ns(2), ns(4))]
    symbol.account.broke(ns(2), ns(4), "connection lost", symbol.now)
    assert len(symbol.account.open) == 1


def test_ids_that_began_anew_are_no_gap_after_a_restart_either() -> None:
    symbol = Symbol()
    live(symbol, 900_000, 900_001, times=[ns(1), ns(2)])
    live(symbol, 1, 2, 3, times=[ns(3), ns(4), ns(5)])
    assert not symbol.account.open
    symbol.check_point()
    live(symbol, 4, 5, times=[ns(6), ns(7)])
    # Killed; the files of the day are read again, which are in the order of time.
    told: list[Gap] = []
    account = Account("okx", "BTC-USDT", "ids", told.append)
    account.restore(symbol.disk.checkpoint, list(symbol.disk.gaps.values()))
    ids = np.array([900_000, 900_001, 1, 2, 3, 4, 5])
    account.rows = len(ids)
    account.recover([(ids, ids, np.array([ns(i) for i in range(1, 8)]))], symbol.now + SECOND)
    assert [(gap.first_id, gap.last_id, gap.reason) for gap in account.open.values()] == []


def test_ids_that_begin_anew_within_a_batch_are_no_gap() -> None:
    symbol = Symbol()
    live(symbol, 900_000, times=[ns(1)])
    live(symbol, 900_001, 1, 2, times=[ns(2), ns(3), ns(4)])
    live(symbol, 3, times=[ns(5)])
    assert [(gap.first_id, gap.last_id, gap.reason) for gap in symbol.account.open.values()] == []
    assert symbol.row["last_id"] == 3


def test_ids_that_began_anew_are_no_gap_after_a_restart_without_a_checkpoint_either() -> None:
    symbol = Symbol()
    live(symbol, 900_000, 900_001, times=[ns(1), ns(2)])
    live(symbol, 1, 2, 3, times=[ns(3), ns(4), ns(5)])
    told: list[Gap] = []
    account = Account("okx", "BTC-USDT", "ids", told.append)
    account.restore(symbol.disk.checkpoint, list(symbol.disk.gaps.values()))
    ids = np.array([900_000, 900_001, 1, 2, 3])
    account.rows = len(ids)
    account.recover([(ids, ids, np.array([ns(i) for i in range(1, 6)]))], symbol.now + SECOND)
    assert [(gap.first_id, gap.last_id, gap.reason) for gap in account.open.values()] == []
