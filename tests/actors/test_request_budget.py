"""The budget of requests, on a virtual clock."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from actors.request_budget import RequestBudget


def spend_all(budget: RequestBudget, weights: list[int], now: float = 0.0) -> list[tuple[float, int]]:
    """When each weight was granted, when every wait is kept to."""
    granted = []
    for weight in weights:
        while wait := budget.take(weight, now):
            now += wait
        granted.append((now, weight))
    return granted


@given(st.integers(60, 6000), st.lists(st.integers(1, 50), min_size=1, max_size=300))
def test_no_minute_sees_more_than_the_allowance(per_minute: int, weights: list[int]) -> None:
    granted = spend_all(RequestBudget(per_minute), weights)
    for begin, _ in granted:
        within = sum(weight for when, weight in granted if begin <= when < begin + 60)
        assert within <= per_minute + 50, "the allowance, and the one request heavier than what may be spent at once"


def test_hundreds_of_snapshots_take_the_minutes_they_have_to_and_no_more() -> None:
    granted = spend_all(RequestBudget(6000), [50] * 600)
    assert 240 <= granted[-1][0] <= 380


def test_retry_after_stops_everything_for_that_long() -> None:
    budget = RequestBudget(600)
    assert budget.take(1, 0.0) == 0.0
    budget.pause(30.0, 1.0)
    assert budget.take(1, 11.0) == 20.0
    assert budget.take(1, 31.0) == 0.0


def test_weight_others_have_used_is_not_ours_to_spend() -> None:
    budget = RequestBudget(1200)
    budget.observe(1200, 0.0)
    assert budget.take(50, 0.0) > 0
    assert RequestBudget(1200).take(50, 0.0) == 0.0


def test_a_request_heavier_than_what_may_be_spent_at_once_is_granted_and_paid_for() -> None:
    budget = RequestBudget(100)
    assert budget.take(90, 0.0) == 0.0
    assert budget.take(1, 0.0) > 30


@given(st.integers(60, 6000), st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 6)), min_size=1, max_size=200))
def test_whatever_spare_requests_took_a_live_one_is_granted_at_once(
    per_minute: int, requests: list[tuple[float, int]]
) -> None:
    budget, now = RequestBudget(per_minute), 0.0
    for pause, weight in requests:
        now += pause
        budget.take(weight, now, spare=True)
        assert deepcopy(budget).take(per_minute * 0.1, now) == 0.0


@given(st.integers(60, 6000), st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=300))
def test_no_minute_sees_more_than_the_allowance_with_spare_requests_either(
    per_minute: int, requests: list[tuple[int, bool]]
) -> None:
    budget, now, granted = RequestBudget(per_minute), 0.0, []
    for weight, spare in requests:
        while wait := budget.take(weight, now, spare):
            now += wait
        granted.append((now, weight))
    for begin, _ in granted:
        assert sum(weight for when, weight in granted if begin <= when < begin + 60) <= per_minute + 50


def test_a_spare_request_leaves_half_of_what_may_be_spent_at_once() -> None:
    budget = RequestBudget(1000)
    granted = 0
    while not budget.take(10, 0.0, spare=True):
        granted += 10
    assert granted == 100
    for _ in range(10):
        assert budget.take(10, 0.0) == 0.0
    assert budget.take(10, 0.0) > 0


def test_a_spare_request_waits_for_all_that_are_live() -> None:
    budget = RequestBudget(60)
    budget.waiting = 1
    assert budget.take(1, 0.0, spare=True) > 0
    budget.waiting = 0
    assert budget.take(1, 0.0, spare=True) == 0.0


def test_without_live_requests_spare_ones_use_the_whole_minute() -> None:
    budget, now, granted = RequestBudget(600), 0.0, 0
    while now < 600.0:
        wait = budget.take(4, now, spare=True)
        granted += 0 if wait else 4
        now += wait
    assert 4700 <= granted <= 6000
