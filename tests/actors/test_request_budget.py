"""The budget of requests, on a virtual clock."""

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
