"""Bars of providers: which can be one, which changed, and their columns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.polling.bars import MAX_BARS, MINUTE_NS, Bar, Change, Series, flaw, to_arrow, with_newest_open
from storage.schema import BARS

START = 1_700_000_040_000_000_000
NOW = START + 3600 * 1_000_000_000


def bar(minute: int = 0, close: float = 1.5, closed: bool = True, volume: float | None = 10.0) -> Bar:
    return Bar(START + minute * MINUTE_NS, 1.0, 2.0, 0.5, close, volume, closed=closed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"volume": None}, ""),
        ({"volume": 0.0}, ""),
        ({"open": -1.0, "low": -2.0}, ""),
        ({"open": math.nan}, "not a number"),
        ({"high": math.inf}, "not a number"),
        ({"volume": math.nan}, "not a number"),
        ({"low": 1.2}, "prices outside low and high"),
        ({"high": 1.2}, "prices outside low and high"),
        ({"low": 3.0}, "prices outside low and high"),
        ({"volume": -1.0}, "impossible volume"),
        ({"trade_count": -1}, "impossible volume"),
        ({"trade_count": 2**63}, "impossible volume"),
        ({"time": 0}, "impossible time"),
        ({"time": 10**30}, "impossible time"),
    ],
)
def test_what_cannot_be_a_bar_has_a_reason(changed: dict[str, float], why: str) -> None:
    assert flaw(bar()._replace(**changed), NOW) == why


def test_the_newest_minute_is_open_until_it_has_settled() -> None:
    bars = [bar(1), bar(0)]
    end = START + 2 * MINUTE_NS
    assert [b.closed for b in with_newest_open(bars, end + 1_199_000_000_000, 1200)] == [True, False]
    assert [b.closed for b in with_newest_open(bars, end + 1_200_000_000_000, 1200)] == [True, True]
    assert with_newest_open([], end, 1200) == []


def test_what_was_handed_on_once_is_not_handed_on_again() -> None:
    series = Series()
    changes = series.compare([bar(0), bar(1)])
    assert [change.revision for change in changes] == [0, 0]
    series.keep(changes)
    assert series.compare([bar(0), bar(1)]) == []
    assert series.compare([bar(2), bar(1)]) == [Change(bar(2), 0)]


def test_what_was_not_taken_is_new_again() -> None:
    series = Series()
    assert series.compare([bar(0)]) == series.compare([bar(0)]) != []


def test_a_change_of_an_open_bar_is_no_revision_and_its_close_neither() -> None:
    series = Series()
    series.keep(series.compare([bar(0, closed=False)]))
    changes = series.compare([bar(0, close=1.6, closed=False)])
    assert changes == [Change(bar(0, close=1.6, closed=False), 0)]
    series.keep(changes)
    assert series.compare([bar(0, close=1.6)]) == [Change(bar(0, close=1.6), 0)]


def test_a_change_of_a_closed_bar_is_a_revision_and_it_stays_closed() -> None:
    series = Series()
    series.keep(series.compare([bar(0)]))
    assert series.compare([bar(0, closed=False)]) == []
    changes = series.compare([bar(0, close=1.7, closed=False)])
    assert changes == [Change(bar(0, close=1.7), 1)]
    series.keep(changes)
    assert series.compare([bar(0, close=1.8)])[0].revision == 2


def test_of_two_bars_of_one_minute_the_later_counts() -> None:
    assert Series().compare([bar(0, close=1.2), bar(0, close=1.3)]) == [Change(bar(0, close=1.3), 0)]


def test_only_the_newest_bars_are_remembered() -> None:
    series = Series()
    for first in range(0, 5 * MAX_BARS, MAX_BARS):
        series.keep(series.compare([bar(first + i) for i in range(MAX_BARS)]))
        assert len(series) == MAX_BARS
    assert series.compare([bar(5 * MAX_BARS - 1)]) == []


def test_columns_say_null_where_the_provider_says_nothing() -> None:
    table = to_arrow("^GSPC", "1m", [Change(bar(0, volume=None, closed=False), 3)])
    assert table.schema == BARS
    table.validate(full=True)
    assert table.to_pylist() == [
        {
            "symbol": "^GSPC",
            "timeframe": "1m",
            "time": START,
            "open": 1.0,
            "high": 2.0,
            "low": 0.5,
            "close": 1.5,
            "volume": None,
            "quote_volume": None,
            "trade_count": None,
            "buy_volume": None,
            "vwap": None,
            "revision": 3,
            "closed": False,
        }
    ]


def test_no_bars_are_an_empty_table() -> None:
    assert to_arrow("A", "1d", []).schema == BARS
    assert to_arrow("A", "1d", []).num_rows == 0


answers = st.lists(
    st.lists(
        st.builds(bar, st.integers(0, 5), st.sampled_from([1.1, 1.2]), st.booleans()),
        max_size=6,
        unique_by=lambda b: b.time,
    ),
    max_size=12,
)


@given(answers)
def test_who_follows_the_changes_knows_what_the_last_answers_said(history: list[list[Bar]]) -> None:
    series = Series()
    ours: dict[int, Change] = {}
    theirs: dict[int, Bar] = {}
    closed: set[int] = set()
    for answer in history:
        changes = series.compare(answer)
        for change in changes:
            before = ours.get(change.bar.time)
            assert before is None or change.revision == before.revision + before.bar.closed
            ours[change.bar.time] = change
        series.keep(changes)
        closed |= {b.time for b in answer if b.closed}
        theirs |= {b.time: b for b in answer}
        assert {time: change.bar for time, change in ours.items()} == {
            time: b._replace(closed=time in closed) for time, b in theirs.items()
        }
