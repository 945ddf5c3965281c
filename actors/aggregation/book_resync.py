"""When to ask for the snapshot of which book.

Each book has at most one question open. One that is not answered, or answered badly, is asked again after a growing
time with jitter; only a book that stayed good for a while starts from the shortest time again, so a book that breaks
as soon as it is synced cannot cause a storm. Over all books only so many questions are open at a time, the longest due
first; whoever sends them may be slow, and a question that waits for its turn does not run out of time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds."""

    #: Questions open at the same time over all books.
    open_at_once: int = 20
    #: A question without an answer for this long is asked again.
    answer_s: float = 15.0
    #: The wait before the second question, doubled for each further one up to the cap; jitter takes up to half.
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    #: A book that was good for this long starts from the first wait again.
    settled_s: float = 30.0


class Resyncs:
    """The questions of all books, by number; `random` gives numbers from 0 to 1."""

    def __init__(self, pace: Pace, random: Callable[[], float]) -> None:
        self._pace = pace
        self._random = random
        #: When to ask, and until when to wait for the answer: infinite where there is nothing to ask or no question.
        self._due: Floats = np.zeros(0)
        self._until: Floats = np.zeros(0)
        #: How often a book was asked for since it was settled, since when it is good, and the number of its question.
        self._asked: Integers = np.zeros(0, np.int64)
        self._good_at: Floats = np.zeros(0)
        self._question: Integers = np.zeros(0, np.int64)
        self._questions = 0

    def make_room(self, books: int) -> None:
        """Room for books with numbers below `books`."""
        more = books - len(self._due)
        if more > 0:
            self._due = np.append(self._due, np.full(more, np.inf))
            self._until = np.append(self._until, np.full(more, np.inf))
            self._asked = np.append(self._asked, np.zeros(more, np.int64))
            self._good_at = np.append(self._good_at, np.full(more, np.inf))
            self._question = np.append(self._question, np.zeros(more, np.int64))

    def forget(self, book: int) -> None:
        """Ask no more, and know nothing of what was."""
        self._due[book] = self._until[book] = self._good_at[book] = np.inf
        self._asked[book] = self._question[book] = 0

    def forget_all(self) -> None:
        """Ask for no book, and hold no past against one: its connection was lost."""
        self._due[:] = self._until[:] = self._good_at[:] = np.inf
        self._asked[:] = 0

    def need(self, book: int, now: float, wait_s: float = 0.0) -> None:
        """The book needs a snapshot; ask after `wait_s`, or later where it was asked for lately."""
        if self._until[book] < np.inf or self._due[book] < np.inf:
            return
        if now - self._good_at[book] >= self._pace.settled_s:
            self._asked[book] = 0
        self._good_at[book] = np.inf
        self._due[book] = now + max(wait_s, self._wait(book))

    def failed(self, book: int, now: float) -> None:
        """The answer was of no use."""
        self._until[book] = np.inf
        self._due[book] = now + self._wait(book)

    def answered(self, book: int, now: float) -> None:
        """The book has its snapshot, asked for or not."""
        self._due[book] = self._until[book] = np.inf
        self._good_at[book] = min(self._good_at[book], now)

    def is_open(self, book: int, question: int | None = None) -> bool:
        """Whether an answer is awaited: to this question, where it is given."""
        return bool(self._until[book] < np.inf) and (question is None or self._question[book] == question)

    def overdue(self, now: float) -> list[int]:
        """The books whose question got no answer in time."""
        return [int(book) for book in np.flatnonzero(self._until <= now)]

    def ask(self, now: float) -> list[tuple[int, int]]:
        """The books to ask for now, each with the number of the question."""
        due = np.flatnonzero(self._due <= now)
        if not len(due):
            return []
        free = max(self._pace.open_at_once - int(np.isfinite(self._until).sum()), 0)
        asked = []
        for book in due[np.argsort(self._due[due], kind="stable")][:free].tolist():
            self._questions += 1
            self._asked[book] += 1
            self._question[book] = self._questions
            self._due[book], self._until[book] = np.inf, now + self._pace.answer_s
            asked.append((book, self._questions))
        return asked

    def _wait(self, book: int) -> float:
        asked = int(self._asked[book])
        if asked == 0:
            return 0.0
        longest = min(self._pace.longest_wait_s, self._pace.first_wait_s * 2.0 ** min(asked - 1, 60))
        return longest * (1 - self._random() / 2)
