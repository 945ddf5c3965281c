"""How much may be asked of an exchange, as a pure token bucket: what is spent comes back evenly, so that hundreds of
requests at once spread over the minutes they are allowed to take. Time (seconds, any steady clock) is passed in.
"""

from dataclasses import dataclass, field
from typing import Final

#: The share of a minute's allowance that may be spent at once; the rest comes back over the minute, so that no
#: minute, wherever the exchange lets it begin, sees more than the allowance.
_AT_ONCE: Final = 0.2
#: Of what may be spent at once, spare requests leave this share for the others.
_KEPT_FREE: Final = 0.5


@dataclass(slots=True)
class RequestBudget:
    """An allowance of `per_minute` (requests, or the weight of requests)."""

    per_minute: float
    #: Requests that wait for their turn; while there are any, spare ones get nothing.
    waiting: int = field(default=0, init=False)
    _spent: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)
    _paused_until: float = field(default=0.0, init=False)

    def take(self, weight: float, now: float, spare: bool = False) -> float:
        """0 when `weight` is spent now; else the seconds to wait before asking again, nothing being spent.

        More weight than may be spent at once is granted when the bucket is full, and paid for afterwards. A `spare`
        request takes what others leave: it is granted while nobody else waits, and half of what may be spent at once
        stays free behind it.
        """
        if now < self._paused_until:
            return self._paused_until - now
        rate = self.per_minute * (1 - _AT_ONCE) / 60
        self._spent = max(0.0, self._spent - (now - self._at) * rate)
        self._at = now
        at_once = max(self.per_minute * _AT_ONCE, 1.0)
        over = self._spent + weight - max(weight, at_once * (1 - _KEPT_FREE) if spare else at_once)
        if spare and self.waiting:
            over = max(over, weight)
        if over > 1e-9:
            return over / rate
        self._spent += weight
        return 0.0

    def pause(self, seconds: float, now: float) -> None:
        """The exchange asks for this much rest (Retry-After); nothing is granted meanwhile."""
        self._paused_until = max(self._paused_until, now + seconds)

    def observe(self, used: float, now: float) -> None:
        """The exchange says that so much of this minute's allowance is used, by whomever: if that leaves less than
        we thought, we hold back as if we had spent it."""
        left = self.per_minute - used
        if left < self.per_minute * _AT_ONCE:
            self._at = max(self._at, now)
            self._spent = max(self._spent, self.per_minute * _AT_ONCE - max(left, 0.0))
