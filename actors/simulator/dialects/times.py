"""Times as exchanges write them: texts of ISO 8601 from nanoseconds."""

from datetime import UTC, datetime
from functools import lru_cache


def iso_microseconds(t_ns: int) -> str:
    """2023-09-25T07:49:37.708706Z; what is smaller than a microsecond is cut off."""
    return f"{iso_second(t_ns // 1_000_000_000)}.{t_ns // 1000 % 1_000_000:06}Z"


@lru_cache(64)
def iso_second(seconds: int) -> str:
    """2023-09-25T07:49:37"""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
