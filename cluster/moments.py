"""Moments of time as people write them on a command line, UTC."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_AGO: Final = re.compile(r"(\d{1,7})\s*(s|m|h|d|w)(?:\s+ago)?")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(text: str, now_ns: int, end: bool = False) -> int:
    """int64 ns of `2026-01-31`, `2026-01-31T12:00`, `2h ago` or `now`; other time zones than UTC say so (`+02:00`).
    With `end`, a day alone stands for its end. ValueError, in one line for the user, for everything else."""
    words = text.strip().lower()
    if words == "now":
        return now_ns
    if ago := _AGO.fullmatch(words):
        return now_ns - _ns(timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: expected one like 2026-01-31, 2026-01-31T12:00, '2h ago' or now"
        ) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    day = timedelta(days=1) if end and _DAY.fullmatch(words) else timedelta()
    # The end of the last day there is has no date.
    return _ns(at - _EPOCH + day) - (1 if day else 0)


def text_of(ns: int) -> str:
    """To the second, UTC."""
    return (_EPOCH + timedelta(microseconds=ns // 1000)).strftime("%Y-%m-%d %H:%M:%S")


def _ns(span: timedelta) -> int:
    # Not total_seconds(): a float has not enough digits.
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1000
