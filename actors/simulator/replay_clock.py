"""Recorded time of a replay. Recordings that were made at the same time share a clock, so that what came two seconds
later on another exchange comes two seconds later again; others begin each at their own beginning.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from actors.simulator.captures import Recording

_ALL_DUE: Final = 2**63 - 1


class ReplayClock:
    """Stands at `first_t_ns` (ns) until the first client has subscribed. `speed`: 1 as recorded, N times faster, 0 for
    everything at once. `now` is a steady clock (seconds)."""

    def __init__(self, first_t_ns: int, speed: float, now: Callable[[], float] = time.monotonic) -> None:
        self.speed = speed
        self._first_t_ns = first_t_ns
        self._now = now
        self._started: float | None = None

    def start(self) -> None:
        """Let it run; does nothing when it does."""
        if self._started is None:
            self._started = self._now()

    @property
    def due_ns(self) -> int:
        """The recorded time (ns) up to which frames are due."""
        if not self.speed:
            return _ALL_DUE
        elapsed = self._now() - self._started if self._started is not None else 0.0
        return self._first_t_ns + int(elapsed * self.speed * 1e9)

    def seconds_until(self, t_ns: int) -> float:
        """Seconds until a recorded time (ns) is due."""
        return (t_ns - self.due_ns) / 1e9 / self.speed if self.speed else 0.0


def shared_clocks(
    recordings: Iterable[Recording], speed: float, now: Callable[[], float] = time.monotonic
) -> dict[str, ReplayClock]:
    """A clock for each exchange, the same one where recordings overlap in time."""
    clocks: dict[str, ReplayClock] = {}
    clock, end = ReplayClock(0, speed, now), -1
    for (first, last), exchange in sorted((one.span, one.exchange) for one in recordings):
        if first > end:
            clock = ReplayClock(first, speed, now)
        end = max(end, last)
        clocks[exchange] = clock
    return clocks
