"""Which hours are told again, and when."""

import numpy as np
import pytest

from actors.reconciling import FIRST_WAIT_NS, HOURS, MOST_ROWS, SECOND_NS, Part, Reconciling
from storage.column_days import Stamp

DAY = 19_783
SERIES = ("okx", "BTC-USDT")
NOW = 2_000 * SECOND_NS


def counts(**rows: int) -> np.ndarray:
    """Rows of hours h0 ... h23."""
    return np.array([rows.get(f"h{hour}", 0) for hour in range(HOURS)], np.int64)


def hours(**rows: int) -> dict[int, int]:
    return {DAY * HOURS + int(name[1:]): count for name, count in rows.items()}


def looked(core: Reconciling, stored: dict[str, int], there: dict[str, int], now: int = NOW, changed: int = 1) -> bool:
    """One look at one day; whether what is remembered changed."""
    asked = core.look({SERIES: {DAY: Stamp(sum(stored.values()), changed)}}, 0)
    for (exchange, day), symbols in asked.items():
        for symbol in symbols:
            core.compare((exchange, symbol), day, counts(**stored), hours(**there), now)
    return core.finish()


def test_only_hours_that_are_short_are_told() -> None:
    core = Reconciling({})
    assert not looked(core, {"h0": 5, "h7": 9, "h8": 3}, {"h0": 5, "h7": 8, "h8": 4})
    assert list(core.due(NOW)) == [Part(SERIES, DAY * HOURS + 7, 0, 9)]


def test_an_hour_that_stays_short_is_told_once_a_minute_and_then_less_and_less() -> None:
    core = Reconciling({})
    told = []
    for second in range(0, 1000, 5):
        now = NOW + second * SECOND_NS
        looked(core, {"h1": 2}, {}, now)
        told += [second for _ in core.due(now)]
    assert told == [0, 60, 180, 420, 900]


def test_a_day_found_equal_is_not_compared_again_until_its_files_change() -> None:
    core = Reconciling({})
    assert looked(core, {"h1": 2}, {"h1": 2})
    assert core.look({SERIES: {DAY: Stamp(2, 1)}}, 0) == {}
    again = Reconciling(core.equal)
    assert again.look({SERIES: {DAY: Stamp(2, 1)}}, 0) == {}
    assert again.look({SERIES: {DAY: Stamp(3, 2)}}, 0) == {("okx", DAY): ["BTC-USDT"]}


def test_a_day_stays_unsettled_while_some_of_its_rows_are_too_new_or_its_files_just_changed() -> None:
    core = Reconciling({})
    core.look({SERIES: {DAY: Stamp(rows=3, changed_ns=1)}}, 0)
    core.compare(SERIES, DAY, counts(h1=2), hours(h1=2), NOW)
    assert not core.finish()
    assert not looked(core, {"h1": 2}, {"h1": 2}, changed=NOW - SECOND_NS)
    assert core.short == 0


def test_what_was_not_looked_at_is_looked_at_the_next_time() -> None:
    core = Reconciling({})
    days = {SERIES: {DAY: Stamp(1, 1), DAY + 1: Stamp(1, 2), DAY + 2: Stamp(1, 3)}}
    core.look(days, 0)
    core.compare(SERIES, DAY, counts(h1=1), hours(h1=1), NOW)
    core.compare(SERIES, DAY + 2, counts(h1=1), {(DAY + 2) * HOURS + 1: 1}, NOW)
    assert core.finish()
    assert list(core.look(days, 0)) == [("okx", DAY + 1), ("okx", DAY + 2)]


def test_days_that_are_not_kept_are_not_compared() -> None:
    core = Reconciling({})
    assert core.look({SERIES: {DAY: Stamp(1, 1), DAY + 1: Stamp(1, 1)}}, DAY + 1) == {("okx", DAY + 1): ["BTC-USDT"]}


def test_an_hour_that_arrived_and_one_whose_day_has_gone_are_told_no_more() -> None:
    core = Reconciling({})
    looked(core, {"h1": 2, "h2": 2}, {})
    looked(core, {"h1": 2, "h2": 2}, {"h1": 2})
    assert [part.hour % HOURS for part in core.due(NOW)] == [2]
    core.look({SERIES: {}}, 0)
    assert core.short == 0


@pytest.mark.parametrize("rows", [MOST_ROWS - 1, MOST_ROWS, 2 * MOST_ROWS + 7])
def test_no_more_rows_are_told_at_once_than_there_may_be_and_all_of_them_are(rows: int) -> None:
    core = Reconciling({})
    looked(core, {"h1": rows, "h2": 10}, {})
    told: dict[int, list[int]] = {1: [], 2: []}
    for _ in range(5):
        parts = list(core.due(NOW))
        assert sum(part.rows for part in parts) <= MOST_ROWS
        for part in parts:
            told[part.hour % HOURS] += range(part.first, part.first + part.rows)
    assert told == {1: list(range(rows)), 2: list(range(10))}
    assert not list(core.due(NOW + FIRST_WAIT_NS - 1)) and core.short == 2
