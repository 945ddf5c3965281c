"""Parts follow each other in time, and no label of one looks into the next."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.labels import forward_return
from research.splits import cut_times, split, walk_forward
from tests.research.bars import BEGIN, flat, made, other_from, times

seeds = st.integers(0, 2**32)


def several(random: np.random.Generator, count: int) -> dict[str, pd.DataFrame]:
    """One begins later and one ends earlier."""
    tables = {symbol: made(random, count, gaps=0.2) for symbol in "ABC"}
    return tables | {"A": tables["A"][3:], "B": tables["B"][:-10]}


@settings(deadline=None, max_examples=80)
@given(seeds, st.integers(1, 8), st.integers(0, 10))
def test_no_label_looks_beyond_its_part_and_each_part_begins_after_its_embargo(
    seed: int, horizon: int, embargo: int
) -> None:
    tables = several(np.random.default_rng(seed), 150)
    cuts = cut_times(tables, (0.6, 0.8))
    pause = pd.Timedelta(minutes=embargo)
    parts = split(tables, cuts, horizon=horizon, embargo=pause)
    assert len(parts) == 3
    for part, begin, end in zip(parts, [None, *cuts], [*cuts, None], strict=True):
        for symbol, rows in part.items():
            bars = tables[symbol]
            places = bars.index.get_indexer(rows.index) + horizon
            assert (places < len(bars)).all()
            assert end is None or (bars.index[places] < end).all()
            assert begin is None or (rows.index >= begin + pause).all()
            # What is left out has a reason.
            out = [time for time in bars.index if time not in rows.index]
            for time in out:
                over = bars.index.get_loc(time) + horizon
                early = begin is not None and time < begin + pause
                assert early or over >= len(bars) or (end is not None and bars.index[over] >= end)


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(60, 150), st.integers(1, 8))
def test_with_given_cuts_later_rows_change_nothing_before_the_last(seed: int, place: int, horizon: int) -> None:
    random = np.random.default_rng(seed)
    tables = {symbol: made(random, 200) for symbol in "AB"}
    cuts = [times(200)[20], times(200)[place]]
    others = {symbol: other_from(table, place + 1, random) for symbol, table in tables.items()}
    others["B"] = pd.concat([others["B"], others["B"][-30:].shift(freq="30min")])
    one, other = (split(given, cuts, horizon=horizon, embargo="3min") for given in (tables, others))
    for before, after in zip(one[:2], other[:2], strict=True):
        assert all(before[symbol].equals(after[symbol]) for symbol in "AB")


def test_labels_of_one_part_stay_when_everything_after_it_changes() -> None:
    random = np.random.default_rng(1)
    bars = made(random, 200)
    cuts = cut_times(bars, (0.5,))
    other = other_from(bars, 100, random)
    train, _ = split(bars.assign(label=forward_return(bars, 7)), cuts, horizon=7)
    again, _ = split(other.assign(label=forward_return(other, 7)), cuts, horizon=7)
    assert len(train) == 100 - 7
    assert train.equals(again)
    # One row more would not.
    assert forward_return(bars, 7).iloc[93] != forward_return(other, 7).iloc[93]


def test_shares_are_of_the_times_of_all_symbols() -> None:
    table = flat(*[100.0] * 100)
    assert cut_times({"A": table[:60], "B": table[40:]}, (0.7, 0.85)) == [table.index[70], table.index[85]]
    train, validation, test = split(table, cut_times(table, (0.7, 0.85)), horizon=5, embargo="2min")
    assert [len(part) for part in (train, validation, test)] == [65, 8, 8]


def test_a_part_has_the_shape_of_what_is_given() -> None:
    table = flat(*[100.0] * 50)
    assert isinstance(split(table, [table.index[20]], horizon=1)[0], pd.DataFrame)
    first, second = split({"A": table, "B": table[30:]}, [table.index[20]], horizon=1)
    assert [len(first["A"]), len(first["B"]), len(second["B"])] == [19, 0, 19]


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 6), st.integers(1, 5))
def test_walking_forward_trains_on_all_that_was_before(seed: int, folds: int, horizon: int) -> None:
    tables = several(np.random.default_rng(seed), 200)
    found = walk_forward(tables, folds=folds, horizon=horizon, embargo="1min")
    assert len(found) == folds
    for train, test in found:
        first = min(rows.index[0] for rows in test.values() if len(rows))
        for symbol, rows in train.items():
            assert rows.index.equals(tables[symbol].index[: len(rows)])
            over = tables[symbol].index[len(rows) + horizon - 1]
            assert over < first
    tested = [pd.concat(test).index for _, test in found]
    assert sum(map(len, tested)) == len(set().union(*tested)), "each row is tested on once"
    for (_, before), (train, _) in pairwise(found):
        assert all(set(before[symbol].index) <= set(train[symbol].index) for symbol in tables)


TABLE = made(np.random.default_rng(1), 100)
HALF = [TABLE.index[50]]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: split(TABLE, HALF, horizon=0), "horizon must be a number of bars"),
        (lambda: split(TABLE, HALF, horizon=50), "no row is left to 2026-01-31 12:50:00.*: a horizon of 50"),
        (
            lambda: split(TABLE, HALF, horizon=1, embargo="2h"),
            "no row is left from 2026-01-31 12:50:00.* of 0 days 02:00:00",
        ),
        (lambda: split(TABLE, HALF, horizon=1, embargo="-1s"), "embargo must be a time of 0 or more, not '-1s'"),
        (lambda: split(TABLE, HALF, horizon=1, embargo=pd.NaT), "embargo must be"),
        (lambda: split(TABLE, [], horizon=1), "cuts must be times with a zone"),
        (lambda: split(TABLE, [pd.Timestamp("2026-01-31")], horizon=1), "cuts must be times with a zone"),
        (lambda: split(TABLE, [HALF[0], HALF[0]], horizon=1), "cuts must ascend"),
        (lambda: split(TABLE, [BEGIN], horizon=1), "no row is left to"),
        (lambda: split(TABLE[::-1], HALF, horizon=1), "bars: times must ascend"),
        (lambda: split({}, HALF, horizon=1), "there is no symbol"),
        (lambda: cut_times(TABLE, (0.8, 0.7)), r"shares must ascend between 0 and 1, not \(0.8, 0.7\)"),
        (lambda: cut_times(TABLE, (0.7, 1.0)), "shares must ascend between 0 and 1"),
        (lambda: cut_times(TABLE, ()), "shares must ascend between 0 and 1"),
        (lambda: cut_times(TABLE, (np.nan,)), "shares must ascend between 0 and 1"),
        (lambda: walk_forward(TABLE, folds=0, horizon=1), "folds must be a number of 1 or more, not 0"),
        (lambda: walk_forward(TABLE, folds=200, horizon=1), "cuts must ascend"),
        (lambda: walk_forward(TABLE, folds=50, horizon=9), "no row is left"),
    ],
)
def test_what_is_wrong_is_said(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()
