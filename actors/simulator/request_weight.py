"""Counts what REST requests cost against an exchange's budget of a minute."""

from typing import Final, NamedTuple

_MINUTE_NS: Final = 60_000_000_000
#: Who goes on asking after 429 until this many times the budget are asked for is banned: 418, for this long.
_PATIENCE: Final = 1.5
_BAN_NS: Final = 2 * _MINUTE_NS


class Verdict(NamedTuple):
    """`used` weight of this minute; a `status` other than 200 refuses, and says to come back in `retry_after_s`."""

    used: int
    status: int = 200
    retry_after_s: int = 0


class RequestWeight:
    """The budget of everybody together, as loopback clients have one address. Minutes are those of the clock."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = 0
        self._used = 0
        self._banned_until_ns = 0

    def take(self, weight: int, now_ns: int) -> Verdict:
        """Count a request; refused ones count too, as at Binance."""
        minute = now_ns // _MINUTE_NS
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if now_ns < self._banned_until_ns:
            return Verdict(self._used, 418, _seconds(self._banned_until_ns - now_ns))
        self._used += weight
        if self._used <= self._per_minute:
            return Verdict(self._used)
        if self._used > _PATIENCE * self._per_minute:
            self._banned_until_ns = now_ns + _BAN_NS
            return Verdict(self._used, 418, _seconds(_BAN_NS))
        return Verdict(self._used, 429, _seconds((minute + 1) * _MINUTE_NS - now_ns))


def _seconds(ns: int) -> int:
    return -(-ns // 1_000_000_000)
