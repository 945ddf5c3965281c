"""The plan of polls, lived through on virtual clocks: days pass in milliseconds."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.polling.market_hours import SECOND_NS, MarketHours
from actors.polling.schedule import REFUSED_RETRY_S, Plan, Task, market
from config.settings import BreakerSettings, PollerSettings


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


#: Wednesday, a half day; a holiday; Friday.
HOURS = MarketHours(
    "XNYS",
    np.array([ns("2024-07-02 13:30"), ns("2024-07-03 13:30"), ns("2024-07-05 13:30")]),
    np.array([ns("2024-07-02 20:00"), ns("2024-07-03 17:00"), ns("2024-07-05 20:00")]),
    ns("2024-07-06"),
)


def poller_settings(**changed: Any) -> PollerSettings:
    fields: dict[str, Any] = {
        "enabled": True,
        "url": "http://localhost",
        "symbols": ["A"],
        "calendar": "XNYS",
        "requests_per_minute": 60,
        "open_interval_s": 300,
        "closed_interval_s": 600,
        "settle_s": 1200,
        "timeout_s": 10,
        "first_retry_s": 10,
        "longest_retry_s": 300,
        "breaker": BreakerSettings(failures=3, successes=2, first_wait_s=60, longest_wait_s=300),
    }
    return PollerSettings(**fields | changed)


class Life:
    """A plan and its clocks; `outcome` says what becomes of each request."""

    def __init__(self, start: str, symbols: int = 1, **changed: Any) -> None:
        self.start = ns(start)
        self.now = 0.0
        self.plan = Plan("test", [Task(f"S{i}", "1m") for i in range(symbols)], poller_settings(**changed), HOURS)
        self.requests: list[tuple[float, str]] = []

    @property
    def clock_ns(self) -> int:
        return self.start + round(self.now * SECOND_NS)

    def until(self, end: str | float, outcome: Callable[[Task], str] = lambda task: "answered") -> None:
        end_s = end if isinstance(end, float) else (ns(end) - self.start) / SECOND_NS
        while True:
            step = self.plan.next(self.now, self.clock_ns)
            if not isinstance(step, Task):
                if self.now + step >= end_s:
                    self.now = end_s
                    return
                self.now += max(step, 0.001)
                continue
            self.requests.append((self.now, step.symbol))
            self.now += 0.2
            match outcome(step):
                case "answered":
                    self.plan.answered(step, self.now, self.clock_ns)
                case "refused":
                    self.plan.refused(step, self.now, "404 not found")
                case "failed":
                    self.plan.failed(step, self.now, "503")
                case "undelivered":
                    self.plan.undelivered(step, self.now, "not taken")
                case "limited":
                    self.plan.limited(step, self.now, None)
                case seconds:
                    self.plan.limited(step, self.now, float(seconds))

    def times(self, symbol: str = "S0") -> list[int]:
        """Clock times of the requests of a symbol, in whole seconds."""
        return [self.start // SECOND_NS + int(at) for at, name in self.requests if name == symbol]


def seconds(text: str) -> int:
    return ns(text) // SECOND_NS


def test_while_the_market_is_open_a_symbol_is_polled_every_five_minutes() -> None:
    life = Life("2024-07-02 14:00")
    life.until("2024-07-02 15:00")
    assert len(life.requests) == 12
    assert np.diff(life.times()).tolist() == pytest.approx([300] * 11, abs=1)


def test_after_the_close_it_is_polled_until_its_bars_are_final_and_then_not_before_the_next_opening() -> None:
    life = Life("2024-07-03 16:00")
    life.until("2024-07-05 13:31")
    closed = [time for time in life.times() if seconds("2024-07-03 17:00") <= time < seconds("2024-07-05 13:30")]
    assert 1 <= len(closed) <= 4
    assert seconds("2024-07-03 17:20") <= closed[-1] <= seconds("2024-07-03 17:31")
    assert life.times()[-1] - seconds("2024-07-05 13:30") in (0, 1)


def test_without_time_to_settle_there_is_one_poll_after_the_close() -> None:
    life = Life("2024-07-03 16:00", settle_s=0)
    life.until("2024-07-05 13:00")
    assert len([time for time in life.times() if time >= seconds("2024-07-03 17:00")]) == 1


def test_started_while_the_market_is_closed_it_polls_once() -> None:
    life = Life("2024-07-04 12:00", symbols=3)
    life.until("2024-07-05 13:29")
    assert Counter(symbol for _, symbol in life.requests) == {"S0": 1, "S1": 1, "S2": 1}


def test_where_the_calendar_ends_it_goes_on_at_the_slow_interval() -> None:
    life = Life("2024-07-06 01:00")
    life.until("2024-07-06 02:00")
    assert len(life.requests) == 6
    assert market(HOURS, life.clock_ns) == "unknown"


def test_symbols_are_spread_over_the_time_the_limit_gives() -> None:
    life = Life("2024-07-02 14:00", symbols=10, requests_per_minute=5)
    life.until("2024-07-02 15:00")
    assert len({symbol for _, symbol in life.requests[:10]}) == 10
    assert most_in_a_minute(life.requests) <= 5


def most_in_a_minute(requests: list[tuple[float, str]]) -> int:
    times = np.array([at for at, _ in requests])
    return int((np.searchsorted(times, times + 60) - np.arange(len(times))).max())


def test_a_failing_symbol_is_put_off_and_costs_the_others_nothing() -> None:
    life = Life("2024-07-02 14:00", symbols=20)
    life.until("2024-07-02 15:00", lambda task: "failed" if task.symbol == "S3" else "answered")
    polls = Counter(symbol for _, symbol in life.requests)
    assert all(polls[f"S{i}"] == 12 for i in range(20) if i != 3)
    waits = np.diff(life.times("S3"))
    assert waits[:5].tolist() == pytest.approx([10, 20, 40, 80, 160], abs=2)
    assert set(waits[5:].tolist()) <= {299, 300, 301, 302}
    assert life.plan.breaker.state == "closed"
    assert life.plan.tasks[3].error == "503"


def test_a_provider_that_is_down_is_left_alone_for_longer_and_longer() -> None:
    life = Life("2024-07-02 14:00", symbols=20)
    life.until("2024-07-02 14:30", lambda task: "failed")
    times = [at for at, _ in life.requests]
    assert times[2] - times[0] < 5
    assert np.diff(times)[2:7].tolist() == pytest.approx([60, 120, 240, 300, 300], abs=1)
    life.until("2024-07-02 14:50")
    assert life.plan.breaker.state == "closed"
    assert not any(task.error for task in life.plan.tasks)


def test_a_refused_symbol_is_asked_for_again_each_hour_and_does_not_open_the_breaker() -> None:
    life = Life("2024-07-02 13:30", symbols=8)
    life.until("2024-07-02 19:30", lambda task: "refused" if task.symbol != "S0" else "answered")
    polls = Counter(symbol for _, symbol in life.requests)
    assert polls["S0"] == 72
    assert {polls[f"S{i}"] for i in range(1, 8)} == {6}
    assert REFUSED_RETRY_S == 3600
    assert life.plan.tasks[1].refused
    assert life.plan.tasks[1].error == "404 not found"
    assert life.plan.breaker.stats(life.now).failure_count == 0
    life.until("2024-07-02 19:59")
    assert not life.plan.tasks[1].refused
    assert life.plan.tasks[1].error == ""


def test_a_rest_asked_for_is_kept_by_all_symbols() -> None:
    life = Life("2024-07-02 14:00", symbols=5)
    outcomes = iter(["answered", "77"])
    life.until("2024-07-02 14:04", lambda task: next(outcomes, "answered"))
    times = [at for at, _ in life.requests]
    assert times[2] - times[1] == pytest.approx(77, abs=1)
    assert life.plan.breaker.stats(life.now).failure_count == 0


def test_a_limit_without_a_time_is_kept_for_10_20_40_seconds_up_to_300() -> None:
    life = Life("2024-07-02 14:00")
    life.until("2024-07-02 14:30", lambda task: "limited")
    assert np.diff([at for at, _ in life.requests])[:7].tolist() == pytest.approx(
        [10, 20, 40, 80, 160, 300, 300], abs=1
    )
    life.until("2024-07-02 14:40")
    before = len(life.requests)
    outcomes = iter(["limited"])
    life.until("2024-07-02 14:50", lambda task: next(outcomes, "answered"))
    first, second = life.requests[before : before + 2]
    assert second[0] - first[0] == pytest.approx(10, abs=1)


def test_bars_nobody_took_are_asked_for_again_soon_and_that_is_not_the_providers_failure() -> None:
    life = Life("2024-07-02 14:00")
    life.until("2024-07-02 14:20", lambda task: "undelivered")
    assert np.diff(life.times()).tolist()[:3] == pytest.approx([10, 20, 40], abs=1)
    assert life.plan.breaker.stats(life.now).failure_count == 0
    assert life.plan.tasks[0].error == "not taken"


def test_a_symbol_is_stale_until_it_is_polled_and_when_a_poll_is_overdue() -> None:
    life = Life("2024-07-02 14:00")
    task = life.plan.tasks[0]

    def stale() -> bool:
        return life.plan.stale(task, life.now, life.clock_ns)

    assert stale()
    life.until("2024-07-02 14:01")
    assert not stale()
    life.until("2024-07-02 14:09", lambda task: "failed")
    assert not stale()
    life.until("2024-07-02 14:11", lambda task: "failed")
    assert stale()
    life.until("2024-07-02 14:30")
    assert not stale()


def test_overnight_nothing_is_stale_but_at_the_opening_what_is_not_polled_becomes_it() -> None:
    life = Life("2024-07-03 16:50")
    life.until("2024-07-05 13:29")
    assert not life.plan.stale(life.plan.tasks[0], life.now, life.clock_ns)
    life.until("2024-07-05 13:36", lambda task: "failed")
    assert life.plan.stale(life.plan.tasks[0], life.now, life.clock_ns)


@settings(max_examples=50)
@given(
    st.integers(1, 30),
    st.integers(1, 120),
    st.lists(st.sampled_from(["answered", "refused", "failed", "undelivered", "limited", "5"]), max_size=60),
    st.integers(0, 3 * 24 * 60),
)
def test_whatever_happens_the_limit_holds_and_no_symbol_is_forgotten(
    symbols: int, per_minute: int, history: list[str], start_minute: int
) -> None:
    life = Life("2024-07-02 12:00", symbols, requests_per_minute=per_minute)
    life.start += start_minute * 60 * SECOND_NS
    outcomes = iter(history)
    # What was refused last is asked for again within the hour, whatever the market does.
    life.until(4 * 3600.0, lambda task: next(outcomes, "answered"))
    life.until(life.now + REFUSED_RETRY_S + 30 * 60 / per_minute + 600)
    assert life.requests
    assert most_in_a_minute(life.requests) <= max(per_minute, 1)
    if next(outcomes, None) is None:
        assert all(task.polled_at is not None and task.error == "" for task in life.plan.tasks)
