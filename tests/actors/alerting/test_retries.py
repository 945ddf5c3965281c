"""When a channel is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alerting.retries import ATTEMPTS, LONGEST_REST_S, LONGEST_WAIT_S, Outcome, of_http, wait_after

PASSING = Outcome("passing")
chances = st.floats(0, 1, exclude_max=True)


@given(st.lists(chances, min_size=ATTEMPTS, max_size=ATTEMPTS))
def test_waits_grow_and_five_attempts_take_about_a_minute(chances) -> None:
    waits = [wait_after(attempt, PASSING, chance) for attempt, chance in enumerate(chances, 1)]
    assert waits.pop() is None
    assert waits == sorted(waits)
    assert 35 < sum(waits) < 70
    assert max(waits) <= 1.25 * LONGEST_WAIT_S


def test_what_failed_at_the_same_time_is_not_tried_at_the_same_time() -> None:
    assert wait_after(1, PASSING, 0.1) != wait_after(1, PASSING, 0.9)


@pytest.mark.parametrize("status", ["delivered", "final"])
def test_what_is_told_or_never_will_be_is_not_tried_again(status) -> None:
    assert wait_after(1, Outcome(status), 0.5) is None


@given(chances)
def test_a_rest_that_is_asked_for_is_kept_within_reason(chance) -> None:
    assert wait_after(1, Outcome("passing", 429, retry_after=20.0), chance) == 20.0
    assert wait_after(1, Outcome("passing", 429, retry_after=86_400.0), chance) == LONGEST_REST_S
    # But never sooner than others.
    assert wait_after(3, Outcome("passing", 429, retry_after=0.0), chance) == wait_after(3, PASSING, chance)
    assert wait_after(ATTEMPTS, Outcome("passing", 429, retry_after=20.0), chance) is None


@pytest.mark.parametrize(
    ("code", "status"),
    [(200, "delivered"), (299, "delivered"), (301, "final"), (401, "final"), (408, "passing"), (425, "passing")],
)
def test_what_a_status_means(code: int, status: str) -> None:
    assert of_http(code).status == status
