"""The circuit breaker on a virtual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.polling.breaker import Breaker, BreakerOpen


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker("yahoo", failures=3, successes=2)
    for _ in range(3):
        breaker.failed(breaker.admit(now), now)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker("yahoo", failures=3)
    for _ in range(2):
        breaker.failed(breaker.admit(0), 0)
    assert breaker.state == "closed"
    breaker.failed(breaker.admit(0), 0)
    assert breaker.state == "open"


def test_a_success_while_closed_forgets_the_failures() -> None:
    breaker = Breaker("yahoo", failures=3)
    for _ in range(2):
        breaker.failed(breaker.admit(0), 0)
    breaker.succeeded(breaker.admit(0))
    assert breaker.stats(0).failure_count == 0
    for _ in range(2):
        breaker.failed(breaker.admit(0), 0)
    assert breaker.state == "closed"


def test_while_open_the_error_names_the_component_and_when_to_come_back() -> None:
    breaker = opened(now=100)
    with pytest.raises(BreakerOpen) as error:
        breaker.admit(115)
    assert error.value.component == "yahoo"
    assert error.value.retry_after == 45
    assert "yahoo" in str(error.value)
    assert "45 s" in str(error.value)


def test_the_waits_are_60_120_240_and_then_always_300_seconds() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait = breaker.retry_after(now)
        waits.append(wait)
        with pytest.raises(BreakerOpen):
            breaker.admit(now + wait - 0.001)
        now += wait
        breaker.failed(breaker.admit(now), now)
    assert waits == [60, 120, 240, 300, 300, 300]


def test_half_open_one_probe_is_out_at_a_time() -> None:
    breaker = opened()
    ticket = breaker.admit(60)
    for _ in range(3):
        with pytest.raises(BreakerOpen):
            breaker.admit(60)
    breaker.succeeded(ticket)
    assert breaker.state == "half_open"
    breaker.admit(60)
    with pytest.raises(BreakerOpen):
        breaker.admit(60)


def test_enough_successful_probes_close_it_and_the_first_wait_is_60_seconds_again() -> None:
    breaker = opened()
    breaker.failed(breaker.admit(60), 60)
    for _ in range(2):
        breaker.succeeded(breaker.admit(180))
    assert breaker.state == "closed"
    assert breaker.stats(180).failure_count == 0
    for _ in range(3):
        breaker.failed(breaker.admit(200), 200)
    assert breaker.retry_after(200) == 60


def test_a_failure_after_a_successful_probe_opens_it_again() -> None:
    breaker = opened()
    breaker.succeeded(breaker.admit(60))
    breaker.failed(breaker.admit(61), 61)
    assert breaker.state == "open"
    assert breaker.stats(61).success_count == 0


def test_a_probe_put_off_makes_place_for_another_and_decides_nothing() -> None:
    breaker = opened()
    breaker.abandoned(breaker.admit(60))
    assert breaker.state == "half_open"
    assert breaker.stats(60).success_count == 0
    breaker.admit(60)


def test_a_probe_nobody_reports_about_makes_place_after_a_while() -> None:
    breaker = opened()
    lost = breaker.admit(60)
    with pytest.raises(BreakerOpen):
        breaker.admit(119)
    breaker.admit(120)
    breaker.failed(lost, 121)
    assert breaker.state == "half_open"


def test_what_was_on_its_way_when_it_opened_decides_nothing_about_the_probe() -> None:
    breaker = Breaker("yahoo", failures=2, successes=2)
    slow, late = breaker.admit(0), breaker.admit(0)
    for _ in range(2):
        breaker.failed(breaker.admit(0), 0)
    breaker.failed(slow, 30)
    assert breaker.retry_after(30) == 30
    breaker.admit(60)
    breaker.failed(slow, 60)
    breaker.succeeded(late)
    assert breaker.state == "half_open"
    assert breaker.stats(60).success_count == 0


def test_the_statistics_say_all_there_is() -> None:
    stats = opened(now=10).stats(30)
    assert stats.component == "yahoo"
    assert (stats.state, stats.failure_count, stats.success_count) == ("open", 3, 0)
    assert (stats.current_timeout, stats.retry_after, stats.opened_at) == (60, 40, 10)


Step = tuple[str, float, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "succeed", "fail", "abandon"]),
        st.floats(0, 100, allow_subnormal=False),
        st.integers(0, 5),
    ),
    max_size=200,
)


@given(steps, st.integers(1, 4), st.integers(1, 3))
def test_whatever_happens_the_waits_hold_and_no_second_probe_is_admitted(
    history: list[Step], failures: int, successes: int
) -> None:
    breaker = Breaker("any", failures, successes)
    now, opened_at, out, probes, reopened = 0.0, -1.0, [], [], 0
    for what, later, which in history:
        now += later
        before = breaker.state
        if what == "admit":
            try:
                ticket = breaker.admit(now)
            except BreakerOpen as error:
                assert error.retry_after > 0
                assert before != "closed"
                assert before == "half_open" or now < opened_at + [60, 120, 240, 300][min(reopened, 3)]
                continue
            assert before != "open" or now >= opened_at + [60, 120, 240, 300][min(reopened, 3)]
            out.append(ticket)
            if breaker.state == "half_open":
                # Every probe before it was reported about, or is older than its lease.
                assert not [started for _, started in probes if now < started + 60]
                probes.append((ticket, now))
        elif out:
            ticket = out.pop(which % len(out))
            if what == "succeed":
                breaker.succeeded(ticket)
            elif what == "fail":
                breaker.failed(ticket, now)
            else:
                breaker.abandoned(ticket)
            probes = [probe for probe in probes if probe[0] != ticket]
            if (before, breaker.state) in (("closed", "open"), ("half_open", "open")):
                reopened = reopened + 1 if before == "half_open" else 0
                opened_at, probes = now, []
            if breaker.state == "closed":
                probes = []
        assert breaker.stats(now).failure_count < failures or breaker.state != "closed"
        assert breaker.stats(now).success_count < successes
