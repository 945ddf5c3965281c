"""Which backups are kept, and when the next is due. Pure: what there is and the time are given."""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

_NAME: Final = "%Y%m%dT%H%M%SZ"
_PARTS: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def name_at(ns: int) -> str:
    """What a backup begun at that time (ns since the epoch, UTC) is called."""
    return (_EPOCH + timedelta(seconds=ns // 1_000_000_000)).strftime(_NAME)


def begun(name: str) -> datetime:
    """ValueError for what is no name of a backup."""
    parts = _PARTS.fullmatch(name)
    if parts is None:
        raise ValueError(f"{name[:100]!r} is no backup: they are called as 20260131T020000Z")
    year, month, day, hour, minute, second = map(int, parts.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def is_backup(name: str) -> bool:
    """Whether that is the name of a backup."""
    try:
        begun(name)
    except ValueError:
        return False
    return True


def kept(names: Collection[str], daily: int, weekly: int, monthly: int) -> set[str]:
    """The newest backup of each of the last `daily` days, `weekly` weeks (from Monday) and `monthly` months that have
    any; the newest of all always. Days without a backup do not count, so a pause loses nothing."""
    newest_first = sorted(names, reverse=True)
    keep = set(newest_first[:1])
    for count, period in ((daily, _day), (weekly, _week), (monthly, _month)):
        seen: dict[tuple[int, ...], str] = {}
        for name in newest_first:
            seen.setdefault(period(begun(name)), name)
        keep.update(list(seen.values())[:count])
    return keep


def last_hour(now: datetime, hour_utc: int) -> datetime:
    """The last time it was that hour, now included."""
    today = now.replace(hour=hour_utc, minute=0, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def next_hour(now: datetime, hour_utc: int) -> datetime:
    """The next time it is that hour, later than now."""
    return last_hour(now, hour_utc) + timedelta(days=1)


def is_due(now: datetime, hour_utc: int, newest: datetime | None, since: datetime) -> bool:
    """Whether the hour has come since the newest backup; where there is none, since `since`. One that was missed, as
    nothing ran then, is due at once."""
    return last_hour(now, hour_utc) > (since if newest is None else newest)


def _day(at: datetime) -> tuple[int, ...]:
    return at.year, at.month, at.day


def _week(at: datetime) -> tuple[int, ...]:
    return tuple(at.isocalendar()[:2])


def _month(at: datetime) -> tuple[int, ...]:
    return at.year, at.month
