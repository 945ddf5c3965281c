"""Who is asked when, on a clock of the test."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.overview.question import Question, get
from actors.overview.schedule import REFUSED_RETRY_S, Asking, Schedule
from config.overview_settings import OverviewSettings

SETTINGS = OverviewSettings(jitter=0)


def question(name: str, provider: str = "p", interval_s: float = 60) -> Question:
    return Question(name, provider, (), interval_s, lambda body: {}, get("/"))


def schedule(*questions: Question, per_minute: float = 600, chance: float = 0, **settings: Any) -> Schedule:
    own = SETTINGS.model_copy(update=settings)
    return Schedule(questions, lambda name: per_minute, own, lambda: chance)


def due(machine: Schedule, now: float) -> list[Asking]:
    return machine.due(now, lambda question: True)


def when_due(machine: Schedule, after: float) -> float:
    """The next second something is asked in."""
    now = after
    while not due(machine, now):
        now += 1
        assert now < after + 100_000
    return now


def test_a_question_is_asked_once_at_a_time_and_again_after_its_interval() -> None:
    machine = schedule(question("a"))
    (asking,) = due(machine, 0)
    assert due(machine, 1000) == []
    machine.answered(asking, 1000, in_doubt=False)
    assert when_due(machine, 1000) == 1060


def test_it_says_when_something_will_be_due_next() -> None:
    machine = schedule(question("a"), question("b", interval_s=5))
    assert machine.next_at(0) == float("inf")
    for asking in due(machine, 0):
        machine.answered(asking, 0, in_doubt=False)
    assert (machine.next_at(0), machine.next_at(5)) == (5, 60)


def test_what_nobody_wants_is_not_asked() -> None:
    machine = schedule(question("a"), question("b"))
    (asking,) = machine.due(0, lambda one: one.name == "b")
    assert asking.question.name == "b"


def test_what_is_in_doubt_is_asked_again_soon() -> None:
    machine = schedule(question("a", interval_s=3600))
    (asking,) = due(machine, 0)
    machine.answered(asking, 0, in_doubt=True)
    assert when_due(machine, 0) == 10


def test_a_failure_puts_the_question_off_for_longer_each_time_and_then_opens_the_breaker() -> None:
    machine = schedule(question("a"))
    times, now = [], 0.0
    for _ in range(7):
        now = when_due(machine, now)
        times.append(now)
        asking = next(iter(machine._asking.values()))
        machine.failed(asking, now, "down")
    assert [after - before for before, after in pairwise(times)] == [10, 20, 40, 80, 160, 300]
    assert machine.breaker_is_open("p")
    assert machine.status(now)["p"]["questions"]["a"]["error"] == "down"
    assert machine.status(now)["p"]["can_ask_now"] is False


def test_an_open_breaker_keeps_the_other_questions_of_the_provider_from_being_asked() -> None:
    machine = schedule(question("a"), question("b", "other"), *(question(f"a{n}") for n in range(5)))
    for asking in due(machine, 0):
        machine.failed(asking, 0, "down")
    assert machine.breaker_is_open("p")
    assert not machine.breaker_is_open("other")
    assert {one.name for one in machine.resting(59)} == {"a", *(f"a{n}" for n in range(5))}
    assert [one.question.provider for one in due(machine, 59)] == ["other"]
    # One probe, and all of them when two have succeeded.
    (probe,) = due(machine, 61)
    assert due(machine, 61) == []
    machine.answered(probe, 61, in_doubt=False)
    (probe,) = due(machine, 61)
    machine.answered(probe, 61, in_doubt=False)
    assert not machine.breaker_is_open("p")
    assert len(due(machine, 61)) == 4


def test_one_failing_question_does_not_open_the_breaker_of_those_that_succeed() -> None:
    machine = schedule(question("bad", interval_s=10), question("good", interval_s=10))
    now = 0.0
    for _ in range(30):
        now = when_due(machine, now + 1)
        for asking in [one for one in machine._asking.values() if one.on_its_way]:
            if asking.question.name == "bad":
                machine.failed(asking, now, "500")
            else:
                machine.answered(asking, now, in_doubt=False)
    assert not machine.breaker_is_open("p")


def test_what_is_refused_is_asked_again_after_an_hour_and_does_not_count_as_a_failure() -> None:
    machine = schedule(question("a"))
    (asking,) = due(machine, 0)
    machine.refused(asking, 0, "403 not in your plan")
    assert machine.status(0)["p"]["breaker"]["failure_count"] == 0
    assert when_due(machine, 0) == REFUSED_RETRY_S


def test_the_rest_that_is_asked_for_is_kept_by_all_questions_of_the_provider_and_lengthened_by_chance() -> None:
    machine = schedule(question("a"), question("b"), chance=1, jitter=0.1)
    first, second = due(machine, 0)
    assert machine.limited(first, 0, 100) == pytest.approx(110)
    machine.answered(second, 0, in_doubt=False)
    assert machine.status(1)["p"]["resting_s"] == pytest.approx(109)
    assert due(machine, 109) == []
    assert len(due(machine, 110.01)) == 2
    assert not machine.breaker_is_open("p")


def test_without_a_time_the_rest_doubles() -> None:
    machine = schedule(question("a"))
    rests, now = [], 0.0
    for _ in range(7):
        (asking,) = due(machine, now)
        rests.append(machine.limited(asking, now, None))
        now += rests[-1]
    assert rests == [10, 20, 40, 80, 160, 300, 300]


def test_the_budget_of_a_provider_is_not_overspent() -> None:
    machine = schedule(*(question(f"q{n}", interval_s=1) for n in range(30)), per_minute=10)
    asked = 0
    for now in range(0, 600):
        for asking in due(machine, now):
            asked += 1
            machine.answered(asking, now, in_doubt=False)
    assert 70 <= asked <= 102


def test_a_refresh_brings_forward_what_was_answered_a_while_ago_and_nothing_else() -> None:
    machine = schedule(question("hourly", interval_s=3600), question("failed", "down"), question("new", "new"))
    asked = {one.question.name: one for one in due(machine, 0)}
    machine.answered(asked["hourly"], 0, in_doubt=False)
    machine.failed(asked["failed"], 355, "down")
    machine.answered(asked["new"], 359, in_doubt=False)
    machine.refresh(359)
    assert due(machine, 359) == []
    machine.refresh(360)
    assert [one.question.name for one in due(machine, 360)] == ["hourly"]


_STEP = st.tuples(
    st.sampled_from(["answer", "doubt", "fail", "refuse", "limit"]), st.floats(0, 400), st.floats(0, 4000)
)


@given(st.lists(_STEP, max_size=60), st.floats(0, 1))
def test_whatever_happens_nobody_is_asked_twice_at_once_or_while_it_rests(steps: list[Any], chance: float) -> None:
    machine = schedule(question("a"), question("b"), question("c", "other"), per_minute=30, chance=chance)
    now, resting, asking = 0.0, 0.0, list[Asking]()
    for what, wait, rest in steps:
        now += wait
        for one in due(machine, now):
            assert one not in asking
            assert one.question.provider == "other" or now >= resting
            asking.append(one)
        if not asking:
            continue
        one = asking.pop(0)
        match what:
            case "answer" | "doubt":
                machine.answered(one, now, what == "doubt")
            case "fail":
                machine.failed(one, now, "down")
            case "refuse":
                machine.refused(one, now, "no")
            case _:
                rests = machine.limited(one, now, rest)
                assert rests >= rest
                if one.question.provider != "other":
                    resting = max(resting, now + rests)
        machine.status(now)
    # Whoever was put off is asked again some day.
    for one in asking:
        machine.failed(one, now, "down")
    assert len(due(machine, now + 10_000)) >= 1
