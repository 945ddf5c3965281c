"""When which book is asked for: one question each, ever later, few at a time."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.book_resync import Pace, Resyncs

PACE = Pace(open_at_once=3, answer_s=10.0, first_wait_s=1.0, longest_wait_s=8.0, settled_s=30.0)


def resyncs(books: int = 1, jitter: float = 0.0) -> Resyncs:
    made = Resyncs(PACE, lambda: jitter)
    made.make_room(books)
    return made


def books_asked(made: Resyncs, now: float) -> list[int]:
    return [book for book, _ in made.ask(now)]


def test_a_book_is_asked_for_once_until_it_is_answered_or_out_of_time() -> None:
    made = resyncs()
    made.need(0, 0.0)
    assert books_asked(made, 0.0) == [0]
    made.need(0, 1.0)
    assert books_asked(made, 9.0) == []
    assert (made.overdue(9.9), made.overdue(10.0)) == ([], [0])


def test_few_questions_are_open_at_a_time_and_the_longest_due_go_first() -> None:
    made = resyncs(6)
    for book, now in ((4, 1.0), (1, 2.0), (5, 3.0), (0, 4.0), (2, 5.0)):
        made.need(book, now)
    assert books_asked(made, 6.0) == [4, 1, 5]
    assert books_asked(made, 7.0) == []
    made.answered(1, 8.0)
    made.failed(5, 8.0)
    assert books_asked(made, 8.0) == [0, 2]
    made.answered(4, 9.0)
    assert books_asked(made, 9.0) == [5]


def test_waits_double_up_to_the_cap_and_jitter_takes_up_to_half() -> None:
    for jitter, waits in ((0.0, [1, 2, 4, 8, 8]), (1.0, [0.5, 1, 2, 4, 4])):
        made = resyncs(jitter=jitter)
        made.need(0, 0.0)
        now = 0.0
        for wait in waits:
            assert books_asked(made, now) == [0]
            made.failed(0, now)
            assert books_asked(made, now + wait - 0.01) == []
            now += wait


def test_a_book_that_breaks_as_soon_as_it_is_good_waits_ever_longer() -> None:
    made = resyncs()
    now, times = 0.0, []
    for _ in range(5):
        made.need(0, now)
        while not books_asked(made, now):
            now += 0.5
        times.append(now)
        made.answered(0, now)
    assert times == [0.0, 1.0, 3.0, 7.0, 15.0]
    now += 30.0
    made.need(0, now)
    assert books_asked(made, now) == [0], "it was good for long enough to start anew"


def test_snapshots_nobody_asked_for_do_not_make_a_book_look_unsettled() -> None:
    made = resyncs()
    made.need(0, 0.0)
    books_asked(made, 0.0)
    for second in range(0, 31, 5):
        made.answered(0, float(second))
    made.need(0, 31.0)
    assert books_asked(made, 31.0) == [0]


def test_nothing_is_asked_after_all_was_lost_and_nothing_is_held_against_a_book() -> None:
    made = resyncs(2)
    made.need(0, 0.0)
    made.need(1, 0.0, wait_s=5.0)
    books_asked(made, 0.0)
    made.failed(0, 0.0)
    made.forget_all()
    assert books_asked(made, 100.0) == []
    made.need(0, 100.0)
    assert books_asked(made, 100.0) == [0]


def test_an_answer_belongs_to_its_question() -> None:
    made = resyncs()
    made.need(0, 0.0)
    ((_, first),) = made.ask(0.0)
    assert made.is_open(0) and made.is_open(0, first)
    made.failed(0, 0.0)
    assert not made.is_open(0, first)
    ((_, second),) = made.ask(1.0)
    assert made.is_open(0, second) and not made.is_open(0, first)


@given(st.integers(0, 2**32))
def test_whatever_happens_questions_are_bounded_and_none_is_forgotten(seed: int) -> None:
    random = Random(seed)
    made = Resyncs(PACE, random.random)
    made.make_room(10)
    needed: set[int] = set()
    open_questions: set[int] = set()
    now = 0.0
    for _ in range(200):
        now += random.random()
        book = random.randrange(10)
        match random.randrange(4):
            case 0:
                made.need(book, now)
                needed.add(book)
            case 1 if book in open_questions:
                made.answered(book, now)
                needed.discard(book)
            case 2 if book in open_questions:
                made.failed(book, now)
        for late in made.overdue(now):
            made.failed(late, now)
        open_questions = {book for book in range(10) if made.is_open(book)}
        asked = books_asked(made, now)
        assert not open_questions & set(asked)
        open_questions |= set(asked)
        assert len(open_questions) <= PACE.open_at_once
        assert open_questions <= needed
    reached = set()
    for _ in range(200):
        now += 1.0
        for book in books_asked(made, now):
            made.answered(book, now)
            reached.add(book)
        for late in made.overdue(now):
            made.failed(late, now)
    assert reached == needed


@pytest.mark.parametrize("more", [1, 100])
def test_room_for_further_books_keeps_what_is_known(more: int) -> None:
    made = resyncs()
    made.need(0, 0.0)
    made.make_room(1 + more)
    made.make_room(1)
    made.need(more, 1.0)
    assert books_asked(made, 1.0) == [0, more]
