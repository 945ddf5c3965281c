"""When trades get a second look, on a virtual clock."""

from hypothesis import given
from hypothesis import strategies as st

from actors.backfill.compare import LONGEST_S, MARGIN_NS, SHORTEST_S, Comparisons

SECOND = 1_000_000_000


def test_a_symbol_is_compared_soon_after_it_is_received_and_those_that_are_not_are_left_alone() -> None:
    made = Comparisons()
    assert made.next({}, 0.0) is None
    assert made.next({"A": 5 * SECOND}, 0.0) is None
    assert made.next({"A": 5 * SECOND}, SHORTEST_S) == "A"
    assert made.next({}, 100.0) is None


def test_the_first_look_takes_all_a_page_shows_and_so_does_the_one_after_a_symbol_was_lost() -> None:
    """What was lost before that without a sign, nobody else looks for."""
    made = Comparisons()
    made.next({"A": 5 * SECOND}, 0.0)
    assert made.since("A") == 0
    made.compared("A", 4 * SECOND, 20 * SECOND, 1.0)
    assert made.since("A") == 20 * SECOND - MARGIN_NS
    made.next({}, 2.0)
    made.next({"A": 23 * SECOND}, 3.0)
    assert made.since("A") == 0


def test_how_long_ago_everything_was_compared_is_known_once_everything_was() -> None:
    made = Comparisons()
    assert made.oldest is None
    made.next({"A": 0, "B": 0}, 1.0)
    made.compared("A", 0, 4 * SECOND, 10.0)
    assert made.oldest is None
    made.nothing("B", 11.0)
    assert made.oldest == 10.0
    assert made.next({"A": 0, "B": 0}, 11.0 + LONGEST_S - 0.1) == "A"
    made.compared("A", 0, 6 * SECOND, 12.0)
    assert made.oldest == 11.0
    made.next({"A": 0, "B": 0, "C": 0}, 13.0)
    assert made.oldest is None


def test_pages_that_overlap_leave_no_hole_and_those_that_do_not_say_where_it_is() -> None:
    made = Comparisons()
    made.next({"A": 10 * SECOND}, 0.0)
    assert made.compared("A", 9 * SECOND, 20 * SECOND, 10.0) is None
    assert made.compared("A", 20 * SECOND, 30 * SECOND, 20.0) is None
    assert made.compared("A", 31 * SECOND, 40 * SECOND, 30.0) == (30 * SECOND, 31 * SECOND)
    assert made.since("A") == 40 * SECOND - MARGIN_NS


def test_a_page_with_room_for_more_has_no_hole_before_it() -> None:
    made = Comparisons()
    made.next({"A": 10 * SECOND}, 0.0)
    assert made.compared("A", 15 * SECOND, 20 * SECOND, 10.0, all_there_are=True) is None
    assert made.since("A") == 20 * SECOND - MARGIN_NS


def test_who_trades_more_is_looked_at_more_often() -> None:
    received = {"A": 0, "B": 0}
    made = Comparisons()
    made.next(received, 0.0)
    made.compared("A", 0, 4 * SECOND, 10.0)
    made.compared("B", 0, 4000 * SECOND, 10.0)
    assert made.next(received, 11.9) is None
    assert made.next(received, 12.0) == "A"
    made.put_off("A", 30.0)
    assert made.next(received, 10.0 + LONGEST_S) == "B"


def test_a_clock_behind_ours_is_no_reason_to_look_in_the_future() -> None:
    made = Comparisons()
    made.next({"A": 1000 * SECOND}, 0.0)
    assert made.compared("A", 0, 900 * SECOND, 1.0) is None
    assert made.since("A") == 900 * SECOND - MARGIN_NS


@given(st.integers(10, 1000), st.integers(3, 4000), st.floats(0.0, 0.4))
def test_while_a_market_keeps_its_pace_no_trade_escapes(limit: int, span_s: int, late: float) -> None:
    """Pages of `limit` trades, one a step, over so many seconds; looked at when due, or up to 40 % later."""
    step = span_s * SECOND // (limit - 1)
    received = {"A": 100 * span_s * SECOND}
    made = Comparisons()
    now = 100.0 * span_s
    assert made.next(received, now) is None
    begun = now
    for _ in range(20):
        wait = 0.0
        while made.next(received, now + wait) is None:
            wait += 0.05
        now += wait * (1 + late)
        newest = int(now * SECOND) // step * step
        assert made.compared("A", newest - (limit - 1) * step, newest, now) is None
    assert now - begun <= 20 * (LONGEST_S + 0.05) * 1.4
