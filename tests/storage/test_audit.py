"""Counting against a plain model, and over real column files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import audit_files
from storage.audit import FAR_AHEAD, Comparison, IdCount, Range, RowCount, Trades, Verdict
from storage.audit_files import Place, compare, count_ids, count_rows, newest, oldest, place_of, stored_rows
from storage.column_layout import Column
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS

DAY = 1_755_475_200
SECOND = 1_000_000_000
Write = Callable[[str, dict[int, int]], ColumnReader]


def nobody(_rows: int) -> None:
    pass


rows = st.tuples(st.integers(1, 40), st.sampled_from([1, 1, 1, 2, 5]))


@given(
    pieces=st.lists(st.lists(rows, max_size=12), max_size=4),
    since=st.none() | st.integers(1, 40),
    through=st.none() | st.integers(1, 50),
)
def test_ids_are_counted_as_sets_would(
    pieces: list[list[tuple[int, int]]], since: int | None, through: int | None
) -> None:
    count = IdCount(since, through)
    covered: set[int] = set()
    doubled = 0
    for piece in pieces:
        count.add(np.array([last for last, _ in piece], np.uint64), np.array([fills for _, fills in piece], np.int64))
        for last, fills in sorted(piece, key=lambda row: row[0]):
            stands_for = set(range(last - fills + 1, last + 1))
            doubled += bool(stands_for & covered)
            covered |= stands_for
    found = count.result()
    stored = [last for piece in pieces for last, _ in piece]
    assert (found.rows, found.doubled, found.series) == (len(stored), doubled, bool(stored))
    if not covered:
        assert (found.first_id, found.last_id, found.missing, found.expected) == (None, None, 0, 0)
        return
    assert found.earlier == sum(last < since for last in stored if since is not None)
    begins = since if since is not None and since <= max(covered) else min(covered)
    ends = max(covered) if through is None else max(*covered, through)
    assert (found.first_id, found.last_id) == (begins, ends)
    missing = [one for one in range(begins, ends + 1) if one not in covered]
    assert [one for hole in found.holes for one in range(hole.first, hole.last + 1)] == missing
    assert (found.missing, found.expected) == (len(missing), ends - begins + 1)


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 10))
def test_without_fills_order_and_pieces_do_not_matter(ids: list[int], size: int) -> None:
    count = IdCount()
    for first in range(0, len(ids), size):
        count.add(np.array(ids[first : first + size], np.uint64))
    found = count.result()
    assert (found.rows, found.doubled) == (len(ids), len(ids) - len(set(ids)))
    assert found.expected - found.missing == len(set(ids))


def found_of(*pieces: list[int], since: int | None = None) -> tuple[int, int, list[Range]]:
    count = IdCount(since)
    for piece in pieces:
        count.add(np.array(piece, np.uint64))
    found = count.result()
    return found.series, found.expected, found.holes


FAR = 10 * FAR_AHEAD


def test_an_exchange_that_counts_anew_begins_a_new_series_and_each_is_complete_by_itself() -> None:
    assert found_of([5, 7, 7 + FAR_AHEAD]) == (1, 3 + FAR_AHEAD, [Range(6, 6), Range(8, 6 + FAR_AHEAD)])
    assert found_of([5, 7, 8 + FAR_AHEAD, 9 + FAR_AHEAD]) == (2, 5, [Range(6, 6)])
    assert found_of([FAR, FAR + 1], [1, 2, 4]) == (2, 6, [Range(3, 3)])
    assert found_of([FAR, FAR + 1, 1, 2, 4]) == (2, 6, [Range(3, 3)])
    assert found_of([FAR, FAR + 1, 1, 2, 3, 4, 6], since=4) == (2, 5, [Range(5, 5)]), "begun anew, then switched off"


def test_one_wrong_id_is_a_series_of_its_own_and_the_right_one_goes_on() -> None:
    assert found_of([5, 6, FAR, 8, 9]) == (2, 6, [Range(7, 7)])
    assert found_of([5, 6], [FAR], [8, 9]) == (2, 6, [Range(7, 7)])


@given(st.lists(st.lists(st.integers(0, 8), max_size=10), max_size=2))
def test_rows_are_doubled_within_and_between_pieces(pieces: list[list[int]]) -> None:
    count = RowCount()
    for piece in pieces:
        count.add(np.array(piece, np.uint64))
    ids = [one for piece in pieces for one in piece]
    assert (count.rows, count.doubled) == (len(ids), len(ids) - len(set(ids)))


def trades(made: dict[int, tuple[int, float]]) -> Trades:
    """By id: ns and price, in the order of files."""
    by_time = sorted(made, key=lambda trade: (made[trade][0], trade))
    return Trades(
        np.array([made[trade][0] for trade in by_time], np.int64),
        np.array(by_time, np.uint64),
        np.array([made[trade][1] for trade in by_time]),
        np.ones(len(made)),
        np.zeros(len(made), np.uint32),
    )


sides = st.dictionaries(st.integers(0, 12), st.tuples(st.integers(0, 9), st.sampled_from([1.0, 2.0])), max_size=10)


@given(stored=sides, made=sides, cut=st.integers(0, 10))
def test_a_comparison_in_two_spans_is_what_dicts_say(
    stored: dict[int, tuple[int, float]], made: dict[int, tuple[int, float]], cut: int
) -> None:
    comparison = Comparison()
    for early in (True, False):
        here, there = (
            trades({trade: made_at for trade, made_at in side.items() if (made_at[0] < cut) is early})
            for side in (stored, made)
        )
        comparison.add(here, there, np.ones(there.id.size, bool))
    verdict = comparison.result()
    different = {trade for trade in stored.keys() & made.keys() if stored[trade] != made[trade]}
    assert (verdict.made, verdict.stored, verdict.not_judged) == (len(made), len(stored), 0)
    assert verdict.missing == len(made.keys() - stored.keys())
    assert verdict.made_up == len(stored.keys() - made.keys())
    assert (verdict.different, verdict.doubled) == (len(different), 0)
    assert verdict.equal == (stored == made)
    assert set(verdict.first_ids.get("different", [])) <= different


def test_a_trade_that_is_stored_twice_is_doubled_and_one_not_judged_may_be_missing() -> None:
    comparison = Comparison()
    two = trades({1: (5, 1.0)})
    comparison.add(Trades(*(np.repeat(column, 2) for column in two)), two, np.ones(1, bool))
    comparison.add(trades({}), trades({2: (6, 1.0), 3: (6, 1.0)}), np.array([False, True]))
    assert comparison.result() == Verdict(2, 2, 1, 1, 1, 0, 0, {"missing": [3]})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes trades, seconds after the first day by id, below a folder of that name; gives a reader of it."""

    def written(name: str, seconds: dict[int, int]) -> ColumnReader:
        columns: dict[str, Column] = {name: np.zeros(len(seconds), kind) for name, kind in COLUMNS["TRADES"].items()}
        columns["time"] = np.array([DAY + second for second in seconds.values()], "<u4")
        columns["id"] = np.array(list(seconds), "<u8")
        columns["price64"] = np.array([float(trade) for trade in seconds])
        writer = ColumnWriter(tmp_path / name, 64)
        writer.append("coinbase", "BTC-USD", "TRADES", columns)
        writer.close()
        return ColumnReader(tmp_path / name)

    return written


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "PIECE", 7)


def test_files_are_counted_over_days_and_pieces(write: Write) -> None:
    reader = write("columns", {trade: trade * 3000 for trade in range(1, 101) if trade not in (30, 31, 77)})
    found = count_ids(reader, "coinbase", "BTC-USD", None, None, {}, nobody)
    assert (found.rows, found.holes) == (97, [Range(30, 31), Range(77, 77)])
    merged = count_ids(reader, "coinbase", "BTC-USD", 20, 102, {32: 4, 9: 2}, nobody)
    assert (merged.rows, merged.earlier, merged.doubled) == (97, 19, 2)
    assert (merged.first_id, merged.holes) == (20, [Range(77, 77), Range(101, 102)])
    rows: list[int] = []
    assert count_rows(reader, "coinbase", "BTC-USD", rows.append).rows == sum(rows) == 97
    assert stored_rows(reader, "coinbase", "BTC-USD") == 97
    assert stored_rows(reader, "coinbase", "NOPE") == 0


def test_the_ends_of_what_is_stored_are_found(write: Write) -> None:
    reader = write("columns", {trade: trade * 3000 for trade in range(1, 101)})
    assert oldest(reader, "coinbase", "BTC-USD") == Place((DAY + 3000) * SECOND, 1)
    assert newest(reader, "coinbase", "BTC-USD") == Place((DAY + 300_000) * SECOND, 100)
    assert place_of(reader, "coinbase", "BTC-USD", 50) == Place((DAY + 150_000) * SECOND, 50)
    assert place_of(reader, "coinbase", "BTC-USD", 101) is None
    assert newest(reader, "coinbase", "NOPE") is oldest(reader, "coinbase", "NOPE") is None


def test_files_are_compared_from_the_first_stored_trade_to_the_last_that_is_judged(write: Write) -> None:
    truth = {trade: trade // 3 * 2000 for trade in range(1, 101)}
    made = write("made", truth)
    here = {trade: at for trade, at in truth.items() if 10 <= trade < 98 and trade not in (11, 40, 41)}
    stored = write("stored", here | {41: 5, 500: 90_000})
    first, last = place_of(made, "coinbase", "BTC-USD", 10), place_of(made, "coinbase", "BTC-USD", 98)
    assert first and last
    read: list[int] = []
    verdict = compare(stored, made, "coinbase", "BTC-USD", first, last, read.append)
    assert sum(read) == len(truth) + verdict.stored
    assert verdict == Verdict(
        made=89,
        stored=87,
        not_judged=11,
        missing=3,
        doubled=0,
        different=1,
        made_up=1,
        first_ids={"missing": [11, 40, 98], "different": [41], "made_up": [500]},
    )
