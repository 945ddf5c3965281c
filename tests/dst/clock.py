"""A loop of asyncio whose time is made up: when nothing is ready it jumps to the next timer, so that hours pass in
milliseconds and a run is the same every time. Whoever reads a clock of the system meanwhile reads this one.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from actors import frame_receiver


class Stuck(Exception):
    """Everybody waits for somebody else, for ever."""


class Clock:
    """Nanoseconds since the epoch; those of the steady clock are the same."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    @property
    def now_s(self) -> float:
        return self.now_ns / 1e9

    def advance(self, seconds: float) -> None:
        self.now_ns += max(int(seconds * 1e9), 0) + 1

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let `time` tell this clock."""
        begin_ns = self.now_ns

        def steady() -> float:
            return (self.now_ns - begin_ns) / 1e9 + 1.0

        with (
            patch.object(time, "time_ns", lambda: self.now_ns),
            patch.object(time, "time", lambda: self.now_s),
            patch.object(time, "monotonic", steady),
            patch.object(time, "sleep", self.advance),
            patch.object(frame_receiver, "time_ns", lambda: self.now_ns),
        ):
            yield


class _NoSockets:
    """What the loop asks for events of sockets: there are none, and waiting for them is what lets time pass."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("nobody will ever do anything again")
        if timeout > 0:
            self._clock.advance(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """What runs in a thread otherwise is done at once, and its result comes a random moment later."""

    _selector: Any

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        super().__init__()
        self._begin_ns = clock.now_ns
        self._virtual = clock
        self._chance = chance
        self._selector = _NoSockets(clock)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return (self._virtual.now_ns - self._begin_ns) / 1e9 + 1.0

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        future = self.create_future()
        try:
            result = func(*args)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            settle: Callable[[], None] = lambda error=error: None if future.done() else future.set_exception(error)  # noqa: E731
        else:
            settle = lambda: None if future.done() else future.set_result(result)  # noqa: E731
        self.call_later(self._chance.random() * 0.01, settle)
        return future

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
