"""Which backups stay, over days, pauses and years."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.backup_retention import begun, is_due, kept, last_hour, name_at, next_hour

DAY = 86_400
MOMENTS = st.integers(0, 4_000_000_000)
COUNTS = st.integers(0, 10)


def names_of(seconds: list[int]) -> list[str]:
    return [name_at(at * 1_000_000_000) for at in seconds]


def test_a_name_is_when_it_was_begun() -> None:
    assert name_at(1_769_824_800_123_456_789) == "20260131T020000Z"
    assert begun("20260131T020000Z") == datetime(2026, 1, 31, 2, tzinfo=UTC)


@given(st.lists(MOMENTS, unique=True), COUNTS, COUNTS, COUNTS)
def test_some_are_kept_the_newest_always_and_never_too_many(
    seconds: list[int], daily: int, weekly: int, monthly: int
) -> None:
    names = names_of(seconds)
    keep = kept(names, daily, weekly, monthly)
    assert keep <= set(names)
    assert not names or max(names) in keep
    assert len(keep) <= max(1, daily + weekly + monthly)
    assert kept(keep, daily, weekly, monthly) == keep, "to do it again changes nothing"


@given(st.lists(MOMENTS, unique=True), COUNTS, COUNTS, COUNTS)
def test_of_each_day_week_and_month_that_counts_the_newest_is_kept(
    seconds: list[int], daily: int, weekly: int, monthly: int
) -> None:
    names = names_of(seconds)
    keep = kept(names, daily, weekly, monthly)
    for count, form in ((daily, "%Y%m%d"), (weekly, "%G%V"), (monthly, "%Y%m")):
        periods = {begun(name).strftime(form) for name in names}
        for period in sorted(periods, reverse=True)[:count]:
            assert max(name for name in names if begun(name).strftime(form) == period) in keep


@settings(max_examples=15)
@given(st.lists(st.booleans(), min_size=250, max_size=400), st.integers(0, 1_000))
def test_after_months_of_pruning_every_day_each_period_is_still_there(ran: list[bool], first_day: int) -> None:
    """Days are left out as nothing ran then."""
    there: set[str] = set()
    every: list[str] = []
    for number, did in enumerate(ran):
        if did:
            name = name_at((first_day + number) * DAY * 1_000_000_000 + 7_200_000_000_000)
            every.append(name)
            there = kept(there | {name}, 7, 4, 6)
    for count, form in ((7, "%Y%m%d"), (4, "%G%V"), (6, "%Y%m")):
        wanted = sorted({begun(name).strftime(form) for name in every}, reverse=True)[:count]
        assert set(wanted) <= {begun(name).strftime(form) for name in there}
    assert len(there) <= 17


@given(MOMENTS, st.integers(0, 23))
def test_the_last_and_the_next_time_of_an_hour_enclose_now(seconds: int, hour: int) -> None:
    now = datetime.fromtimestamp(seconds, UTC)
    last, following = last_hour(now, hour), next_hour(now, hour)
    assert last <= now < following
    assert following - last == timedelta(days=1)
    assert (last.hour, last.minute, last.second) == (hour, 0, 0)


@pytest.mark.parametrize(
    ("now", "newest", "since", "due"),
    [
        ("2026-01-31 01:59:59", "2026-01-30 02:00:05", "2026-01-01 00:00:00", False),
        ("2026-01-31 02:00:00", "2026-01-30 02:00:05", "2026-01-01 00:00:00", True),
        ("2026-01-31 03:00:00", "2026-01-31 02:00:05", "2026-01-01 00:00:00", False),
        # It was off at the hour.
        ("2026-01-31 09:00:00", "2026-01-29 02:00:05", "2026-01-01 00:00:00", True),
        # None yet: not at the first start, but at the first hour after it.
        ("2026-01-31 09:00:00", None, "2026-01-31 08:00:00", False),
        ("2026-02-01 02:00:00", None, "2026-01-31 08:00:00", True),
        # By hand since then.
        ("2026-01-31 09:00:00", "2026-01-31 08:00:00", "2026-01-01 00:00:00", False),
    ],
)
def test_a_backup_is_due_once_the_hour_has_come(now: str, newest: str | None, since: str, due: bool) -> None:
    at = {text: datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (now, newest, since) if text}
    assert is_due(at[now], 2, at[newest] if newest else None, at[since]) is due
