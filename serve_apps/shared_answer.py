"""One answer for many: actors that know something are asked once for all who want to know it at about the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

#: Many may look every second: the edge and each replica answer them all with what they heard within this time.
FRESH_S: Final = 0.5


class NoAnswer(Exception):
    """Those who know cannot be asked now."""


class Shared[Value]:
    """`ask` for all who want to know at about the same time: one question at once, its answer good for `fresh_s`."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Value]],
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._clock = clock
        self._asked: asyncio.Task[Value] | None = None
        self._asked_at = 0.0

    async def __call__(self) -> Value:
        if self._asked is None or (self._asked.done() and self._clock() - self._asked_at > self._fresh_s):
            self._asked = asyncio.ensure_future(self._ask())
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
            self._asked_at = self._clock()
        # One who goes away does not take the answer from the others.
        return await asyncio.shield(self._asked)
