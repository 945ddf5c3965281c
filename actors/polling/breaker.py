"""A circuit breaker as a pure state machine: after several failures in a row nothing is asked for a while, then one
probe at a time until enough of them succeeded. The waits double from the second opening on. Time (seconds, any
steady clock) is passed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


class BreakerOpen(Exception):
    """`component` is not to be asked now; it may be in `retry_after` seconds."""

    def __init__(self, component: str, retry_after: float) -> None:
        super().__init__(f"{component} failed too often and is left alone for {retry_after:.0f} s")
        self.component = component
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """`current_timeout` is the wait of the last opening (of the first, before there was one); `opened_at` and
    `retry_after` are seconds: on the clock passed in, and from now on."""

    component: str
    state: State
    failure_count: int
    success_count: int
    current_timeout: float
    retry_after: float
    opened_at: float | None


class Breaker:
    """Ask `admit` before each call and report how it went with the ticket it gave.

    A report counts only for the state its call was admitted in: what was on its way when the breaker opened
    decides nothing about a later probe.
    """

    def __init__(
        self,
        component: str,
        failures: int = 5,
        successes: int = 2,
        first_wait_s: float = 60.0,
        longest_wait_s: float = 300.0,
        changed: Callable[[State], None] = lambda _: None,
    ) -> None:
        """`changed` is told each new state."""
        self._component = component
        self._failures_to_open = failures
        self._successes_to_close = successes
        self._first_wait = min(first_wait_s, longest_wait_s)
        self._longest_wait = longest_wait_s
        self._changed = changed
        self._state: State = "closed"
        self._failures = self._successes = 0
        self._wait = self._first_wait
        self._opened_at: float | None = None
        #: The ticket that counts now; a new one with every change of state and every probe.
        self._ticket = 0
        #: A probe nobody reports about must not keep the breaker half open for ever.
        self._probe_until: float | None = None

    @property
    def state(self) -> State:
        """`open` also after the wait, until a probe is admitted."""
        return self._state

    def retry_after(self, now: float) -> float:
        """Seconds until a call may be admitted; 0 when it would be now."""
        if self._state == "open":
            assert self._opened_at is not None
            return max(0.0, self._opened_at + self._wait - now)
        return 0.0 if self._probe_until is None else max(0.0, self._probe_until - now)

    def admit(self, now: float) -> int:
        """The ticket of a call that may be made now; raises `BreakerOpen` when none may."""
        if (wait := self.retry_after(now)) > 0:
            raise BreakerOpen(self._component, wait)
        if self._state == "open":
            self._change("half_open")
        if self._state == "half_open":
            self._ticket += 1
            self._probe_until = now + self._first_wait
        return self._ticket

    def succeeded(self, ticket: int) -> None:
        if ticket != self._ticket:
            return
        if self._state == "closed":
            self._failures = 0
            return
        self._end_probe()
        self._successes += 1
        if self._successes >= self._successes_to_close:
            self._change("closed")
            self._failures = 0
            self._wait = self._first_wait

    def failed(self, ticket: int, now: float) -> None:
        if ticket != self._ticket:
            return
        self._failures += 1
        if self._state == "half_open":
            self._wait = min(2 * self._wait, self._longest_wait)
        elif self._failures < self._failures_to_open:
            return
        self._change("open")
        self._opened_at = now

    def abandoned(self, ticket: int) -> None:
        """The call says nothing about the component (it was not made, or put off): another may be made."""
        if ticket == self._ticket and self._state == "half_open":
            self._end_probe()

    def stats(self, now: float) -> BreakerStats:
        return BreakerStats(
            self._component,
            self._state,
            self._failures,
            self._successes,
            self._wait,
            self.retry_after(now),
            self._opened_at,
        )

    def _end_probe(self) -> None:
        self._probe_until = None
        self._ticket += 1

    def _change(self, state: State) -> None:
        self._state = state
        self._successes = 0
        self._end_probe()
        self._changed(state)
