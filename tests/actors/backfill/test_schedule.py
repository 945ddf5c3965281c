"""Which gap is repaired next, on a virtual clock."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from actors.backfill.schedule import FIRST_WAIT_S, LONGEST_WAIT_S, NEAR_NS, SETTLE_S, Key, Schedule

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Open:
    symbol: str
    gap_id: int
    to_ns: int = 0
    first_id: int | None = 1
    from_ns: int = 0


def schedule(*gaps: Open, now: float = 0.0) -> Schedule[Open]:
    made: Schedule[Open] = Schedule()
    made.open_are(gaps, now, 0)
    return made


def test_the_newest_gap_of_a_symbol_comes_first() -> None:
    old, new = Open("A", 1, to_ns=10), Open("A", 2, to_ns=20)
    assert schedule(old, new).next(0.0) == new


def test_without_gaps_there_is_nothing_to_do_and_nothing_to_wait_for() -> None:
    assert schedule().next(0.0) is None
    assert schedule().due_in(0.0) is None


def test_a_gap_under_way_is_not_given_again_until_it_is_reported() -> None:
    gap = Open("A", 1)
    made = schedule(gap)
    assert (made.next(0.0), made.next(0.0), made.under_way) == (gap, None, 1)
    made.go_on(gap, 0.0)
    assert (made.under_way, made.next(0.0)) == (0, gap)


def test_waits_double_up_to_ten_minutes() -> None:
    gap, now, waits = Open("A", 1), 0.0, []
    made = schedule(gap)
    for _ in range(14):
        assert made.next(now) == gap
        made.failed(gap, now)
        wait = made.due_in(now)
        assert wait is not None
        assert made.next(now + wait * 0.999) is None
        waits.append(wait)
        now += wait
    assert waits[:4] == [FIRST_WAIT_S, 1.0, 2.0, 4.0]
    assert waits[-1] == LONGEST_WAIT_S


def test_what_is_said_again_keeps_its_wait_and_what_is_closed_is_forgotten() -> None:
    gap = Open("A", 1)
    made = schedule(gap)
    made.next(0.0)
    made.failed(gap, 0.0)
    made.open_are([gap], 0.1, 0)
    assert made.next(0.1) is None
    made.open_are([], 0.2, 0)
    assert (len(made), made.due_in(0.2)) == (0, None)


def test_a_window_is_left_until_the_exchange_can_show_all_of_it_and_ids_are_not() -> None:
    made: Schedule[Open] = Schedule()
    made.open_are([Open("A", 1, 10 * SECOND, first_id=None), Open("B", 1, 10 * SECOND)], 0.0, 10 * SECOND)
    assert made.next(0.0) == Open("B", 1, 10 * SECOND)
    assert made.next(SETTLE_S - 0.01) is None
    assert made.next(SETTLE_S) is not None


def window(gap_id: int, from_ns: int, to_ns: int, symbol: str = "A") -> Open:
    return Open(symbol, gap_id, to_ns, None, from_ns)


def of_windows(*windows: Open, wall_ns: int = 1 << 62) -> Schedule[Open]:
    """All of them settled, if not told otherwise."""
    made: Schedule[Open] = Schedule()
    made.open_are(windows, 0.0, wall_ns)
    return made


def test_windows_join_one_they_are_near_to_directly_or_by_way_of_others() -> None:
    near = [window(number, number * NEAR_NS, number * NEAR_NS + 1) for number in (1, 2, 3, 4)]
    far, other = window(5, -NEAR_NS, -NEAR_NS // 2), window(6, 2 * NEAR_NS, 3 * NEAR_NS, "B")
    ids = Open("A", 7, 2 * NEAR_NS, 1, 2 * NEAR_NS)
    made = of_windows(far, *near, other, ids)
    assert made.next(0.0) == near[3]
    assert made.join(near[3], 0.0) == near[:3]
    assert made.along(near[3]) == near[:3]
    assert made.along(other) == []


def test_ids_are_joined_by_nothing() -> None:
    ids = Open("A", 9, 10, 1, 10)
    made = of_windows(ids, window(1, 0, 1))
    assert made.next(0.0) == ids
    assert made.join(ids, 0.0) == []


def test_what_the_exchange_may_not_show_yet_does_not_join_and_what_was_put_off_does() -> None:
    now_ns = 100 * SECOND
    old, newer, fresh = window(1, 0, 0), window(2, SECOND, 2 * SECOND), window(3, 3 * SECOND, now_ns - SECOND)
    made = of_windows(old, newer, fresh, wall_ns=now_ns)
    assert made.next(0.0) == newer
    made.put_off(newer, 50.0)
    assert made.next(0.0) == old
    assert made.join(old, 0.0) == [newer], "it settled, whenever it is due"
    made.failed(old, 0.0)
    assert made.next(0.9) == newer
    made.failed(newer, 0.9)
    assert made.next(1.0) == fresh
    assert made.join(fresh, 1.0) == [old, newer]


def test_what_goes_along_is_not_given_out_and_does_not_join_another() -> None:
    one, two, three = (window(number, number * SECOND, number * SECOND) for number in (1, 2, 3))
    made = of_windows(one, two)
    assert made.next(0.0) == two
    assert made.join(two, 0.0) == [one]
    assert (made.next(0.0), made.due_in(0.0), made.under_way) == (None, None, 1)
    made.open_are([one, two, three], 0.0, 1 << 62)
    assert made.next(0.0) == three
    assert made.join(three, 0.0) == []
    made.put_off(two, 5.0)
    made.go_on(three, 5.0)
    assert made.next(4.0) is None, "it waits for the one it joined"
    made.failed(made.next(5.0) or one, 5.0)
    assert made.along(two) == [one]


def test_what_is_begun_does_not_join() -> None:
    one, two = window(1, 0, 1), window(2, 1, 2)
    made = of_windows(one, two)
    made.next(0.0)
    assert made.join(two, 0.0, {Key("A", 1)}.__contains__) == []
    assert made.next(0.0) == one


def test_what_failed_together_waits_together_and_is_tried_by_itself() -> None:
    one, two = window(1, 0, 1), window(2, 1, 2)
    made = of_windows(one, two)
    made.next(0.0)
    assert made.join(two, 0.0) == [one]
    made.failed(two, 0.0)
    assert (made.along(two), made.due_in(0.0)) == ([], FIRST_WAIT_S)
    assert made.next(FIRST_WAIT_S) == two
    assert made.join(two, FIRST_WAIT_S) == []
    assert made.next(FIRST_WAIT_S) == one
    assert made.join(one, FIRST_WAIT_S) == []


def test_a_window_opened_later_is_not_along_and_what_joined_one_that_closed_is_free() -> None:
    one, two, later = window(1, 0, 1), window(2, 1, 2), window(3, 0, 3)
    made = of_windows(one, two)
    made.next(0.0)
    made.join(two, 0.0)
    made.open_are([one, two, later], 0.0, 1 << 62)
    assert made.along(two) == [one]
    made.open_are([one, later], 0.0, 1 << 62)
    assert made.next(0.0) == later
    assert made.join(later, 0.0) == [one]
    made.failed(two, 0.0)
    assert made.along(later) == [one]
    made.open_are([one], 0.0, 1 << 62)
    assert made.next(0.0) == one
    assert made.along(later) == [], "it is repaired by itself now"
    made.failed(later, 0.0)
    assert (made.under_way, made.next(9.0)) == (1, None)


def test_a_gap_that_closes_under_way_leaves_no_trace() -> None:
    gap = Open("A", 1)
    made = schedule(gap)
    made.next(0.0)
    made.open_are([], 0.0, 0)
    made.failed(gap, 0.0)
    assert (made.under_way, len(made)) == (0, 0)


@given(
    st.sets(st.tuples(st.sampled_from("ABCDE"), st.integers(0, 3)), min_size=1),
    st.lists(st.sampled_from(["go on", "fail", "put off", "close", "tell", "time"]), max_size=80),
)
def test_no_symbol_is_served_twice_while_another_waits(keys: set[tuple[str, int]], steps: list[str]) -> None:
    open_now = {Open(symbol, number, to_ns=number) for symbol, number in keys}
    made = schedule(*open_now)
    now = 0.0
    #: When each symbol was served last; of those that could be served the longest ago has to be next.
    served: dict[str, int] = {}
    due = dict.fromkeys(open_now, 0.0)
    waits = dict.fromkeys(open_now, FIRST_WAIT_S)
    for number, step in enumerate(steps):
        gap = made.next(now)
        ready = [one for one in open_now if due[one] <= now]
        assert (gap is None) == (not ready)
        if gap is None:
            wait = made.due_in(now)
            assert (wait is None) == (not open_now)
            now += wait or 0.0
            continue
        assert due[gap] <= now
        assert served.get(gap.symbol, -1) == min(served.get(one.symbol, -1) for one in ready)
        assert gap.gap_id == max(one.gap_id for one in ready if one.symbol == gap.symbol)
        served[gap.symbol] = number
        match step:
            case "fail":
                made.failed(gap, now)
                due[gap] = now + waits[gap]
                waits[gap] = min(2 * waits[gap], LONGEST_WAIT_S)
            case "put off":
                made.put_off(gap, now + 3.0)
                due[gap] = now + 3.0
            case "close":
                open_now.discard(gap)
                made.open_are(open_now, now, 0)
                made.failed(gap, now)
            case "tell":
                made.go_on(gap, now)
                made.open_are(open_now, now, 0)
            case _:
                made.go_on(gap, now)
        assert made.under_way == 0
        assert len(made) == len(open_now)
