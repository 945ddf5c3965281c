"""What to ask a provider next, and when: a pure machine made of market hours, the provider's request budget, the
circuit breaker and, per symbol, the time of the last poll. It is told how each request went.

While the market is open every symbol is polled at one interval. After the close it is polled at another until its
bars are final (quotes come late), then not before the next opening. Failures of one symbol put off this symbol;
failures in a row, whatever their symbols, open the breaker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from actors.metering.breakers import changes_of
from actors.polling.bars import Series
from actors.polling.breaker import Breaker
from actors.polling.market_hours import SECOND_NS, MarketHours
from actors.polling.provider import Price
from actors.request_budget import RequestBudget
from config.settings import PollerSettings

#: A symbol the provider refused is asked for this often: it may be listed, or the plan may change.
REFUSED_RETRY_S: Final = 3600.0

_FOREVER: Final = float("inf")


@dataclass(slots=True, eq=False)
class Task:
    """One symbol in one timeframe, and what is known about it."""

    symbol: str
    timeframe: str
    series: Series = field(default_factory=Series)
    price: Price | None = None
    #: When the last answer was taken: on the steady clock, and ns UTC.
    polled_at: float | None = None
    polled_clock: int | None = None
    #: Why the last request brought nothing; empty when it did.
    error: str = ""
    refused: bool = False
    failures: int = 0
    not_before: float = -_FOREVER
    attempted_at: float = -_FOREVER


class Plan:
    """Requests go one after the other: after `next` gave a task, one of the methods below ends it."""

    def __init__(self, name: str, tasks: Sequence[Task], settings: PollerSettings, hours: MarketHours) -> None:
        breaker = settings.breaker
        self.tasks = tasks
        self.hours = hours
        waits = (breaker.first_wait_s, breaker.longest_wait_s)
        self.breaker = Breaker(name, breaker.failures, breaker.successes, *waits, changes_of(f"poller:{name}"))
        self._settings = settings
        self._budget = RequestBudget(settings.requests_per_minute)
        self._limits = 0
        self._ticket = 0

    def next(self, now: float, clock_ns: int) -> Task | float:
        """The task to ask for now, one request being spent; or the seconds until there may be one (may be infinite)."""
        waits = ((max(self._wait(task, now, clock_ns), 0.0), task.attempted_at) for task in self.tasks)
        (wait, _), at = min((key, at) for at, key in enumerate(waits))
        if (wait := max(wait, self.breaker.retry_after(now))) > 0:
            return wait
        if (wait := self.page(now)) > 0:
            return wait
        self._ticket = self.breaker.admit(now)
        self.tasks[at].attempted_at = now
        return self.tasks[at]

    def page(self, now: float) -> float:
        """0 when the next page of an answer may be asked for, one request being spent; else the seconds to wait."""
        return self._budget.take(1.0, now)

    def answered(self, task: Task, now: float, clock_ns: int) -> None:
        """The provider answered and what it said was taken."""
        self._end(task, "")
        task.polled_at, task.polled_clock, task.failures = now, clock_ns, 0

    def refused(self, task: Task, now: float, why: str) -> None:
        self._end(task, why)
        task.refused = True
        task.not_before = now + REFUSED_RETRY_S

    def limited(self, task: Task, now: float, retry_after: float | None) -> float:
        """The provider asks for a rest; gives its seconds. Nothing at all is asked meanwhile."""
        rest = self._backoff(self._limits) if retry_after is None else retry_after
        self._limits += 1
        self._budget.pause(rest, now)
        self.breaker.abandoned(self._ticket)
        task.error = f"too many requests, asked to rest for {rest:.0f} s"
        return rest

    def failed(self, task: Task, now: float, why: str) -> None:
        """The provider gave no usable answer."""
        self.breaker.failed(self._ticket, now)
        self._put_off(task, now, why)

    def undelivered(self, task: Task, now: float, why: str) -> None:
        """The provider answered, but nobody took what it said: it is asked again."""
        self._end(task, why)
        self._put_off(task, now, why)

    def stale(self, task: Task, now: float, clock_ns: int) -> bool:
        """Whether a poll is overdue by more than an interval, or there was none yet."""
        return task.polled_at is None or self._due(task, now, clock_ns) < -self._settings.open_interval_s

    def _wait(self, task: Task, now: float, clock_ns: int) -> float:
        return max(self._due(task, now, clock_ns), task.not_before - now)

    def _due(self, task: Task, now: float, clock_ns: int) -> float:
        """Seconds until the task is due, below zero when it is overdue; back-off not counted."""
        if task.polled_at is None or task.polled_clock is None:
            return 0.0
        hours, settings = self.hours, self._settings
        if hours.is_open(clock_ns):
            return task.polled_at + settings.open_interval_s - now
        again = task.polled_at + settings.closed_interval_s - now
        if clock_ns >= hours.until:
            return again
        opening = hours.next_open(clock_ns)
        until_open = _FOREVER if opening is None else (opening - clock_ns) / SECOND_NS
        close = hours.last_close(clock_ns)
        final = close is None or task.polled_clock >= close + settings.settle_s * SECOND_NS
        return until_open if final else min(again, until_open)

    def _end(self, task: Task, error: str) -> None:
        """The provider gave an orderly answer."""
        self.breaker.succeeded(self._ticket)
        self._limits = 0
        task.error, task.refused = error, False

    def _put_off(self, task: Task, now: float, why: str) -> None:
        task.error = why
        task.not_before = now + self._backoff(task.failures)
        task.failures += 1

    def _backoff(self, failures: int) -> float:
        settings = self._settings
        return min(settings.first_retry_s * 2.0 ** min(failures, 30), settings.longest_retry_s)


def market(hours: MarketHours, clock_ns: int) -> Literal["open", "closed", "unknown"]:
    """`unknown` where the calendar ends."""
    if hours.is_open(clock_ns):
        return "open"
    return "closed" if clock_ns < hours.until else "unknown"
