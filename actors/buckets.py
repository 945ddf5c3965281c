"""Token buckets: how often each of many may do something. Pure: the time is passed in.

A bucket is one number, the time at which it will be full again; it is as exact as one that is filled drop by drop
(known as the generic cell rate algorithm). A full one need not be remembered.
"""

import math
from collections import OrderedDict
from typing import NamedTuple


class Taken(NamedTuple):
    """Whether there was something to take; how much is left now; in how many seconds the bucket is full again, and
    something can be taken (0: now)."""

    allowed: bool
    left: int
    full_in_s: float
    retry_in_s: float


class Buckets:
    """A bucket for each key, which holds `size` and is filled anew in `per_s` seconds. At most `most` are remembered,
    the last used ones. Times in seconds, of any clock that does not go back."""

    def __init__(self, size: int, per_s: float, most: int = 10_000) -> None:
        self._interval = per_s / size
        self._per_s = per_s
        self._most = most
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> Taken:
        before = max(now, self._full_at.get(key, now))
        after = before + self._interval
        # As much as a rounding error may lack.
        if after - now > self._per_s * (1 + 1e-9):
            return Taken(False, 0, before - now, after - now - self._per_s)
        self._full_at[key] = after
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return Taken(True, self._left(after, now), after - now, max(0.0, after + self._interval - now - self._per_s))

    def give_back(self, key: str) -> None:
        """What was taken last."""
        if key in self._full_at:
            self._full_at[key] -= self._interval

    def __len__(self) -> int:
        return len(self._full_at)

    def _left(self, full_at: float, now: float) -> int:
        return math.floor((self._per_s - (full_at - now)) / self._interval + 1e-6)
