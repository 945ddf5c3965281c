"""Market hours against what the exchanges published."""

import subprocess
import sys
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.polling.market_hours import DAY_NS, MarketHours, UnknownCalendar, load

# The package's own business.
pytestmark = pytest.mark.filterwarnings("ignore:.*(weekday|Series.values).*deprecated")


def ns(text: str) -> int:
    """`2024-07-03 17:00` in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@cache
def hours(calendar: str) -> MarketHours:
    return load(calendar, ns("2024-03-01"))


def test_a_session_is_open_from_its_first_second_to_the_one_before_its_last() -> None:
    xnys = hours("XNYS")
    opening, close = ns("2024-07-02 13:30"), ns("2024-07-02 20:00")
    assert not xnys.is_open(opening - 1)
    assert xnys.is_open(opening)
    assert xnys.is_open(close - 1)
    assert not xnys.is_open(close)


def test_the_day_before_independence_day_is_a_half_day_and_the_day_itself_none() -> None:
    xnys = hours("XNYS")
    assert xnys.next_close(ns("2024-07-03 15:00")) == ns("2024-07-03 17:00")
    assert not xnys.is_open(ns("2024-07-04 15:00"))
    assert xnys.next_open(ns("2024-07-03 17:00")) == ns("2024-07-05 13:30")
    assert xnys.last_close(ns("2024-07-04 15:00")) == ns("2024-07-03 17:00")


def test_daylight_saving_moves_the_session() -> None:
    xnys = hours("XNYS")
    assert xnys.next_open(ns("2024-03-08 00:00")) == ns("2024-03-08 14:30")
    assert xnys.next_open(ns("2024-03-09 00:00")) == ns("2024-03-11 13:30")


def test_istanbul_has_its_own_holidays_and_half_days() -> None:
    xist = hours("XIST")
    assert xist.next_close(ns("2024-04-09 08:00")) == ns("2024-04-09 09:30")
    assert xist.next_open(ns("2024-04-09 09:30")) == ns("2024-04-15 07:00")


def test_at_lunch_hong_kong_is_closed() -> None:
    xhkg = hours("XHKG")
    assert xhkg.is_open(ns("2024-06-03 03:59"))
    assert not xhkg.is_open(ns("2024-06-03 04:30"))
    assert xhkg.next_open(ns("2024-06-03 04:30")) == ns("2024-06-03 05:00")
    assert xhkg.last_close(ns("2024-06-03 04:30")) == ns("2024-06-03 04:00")


def test_a_market_that_never_closes_is_one_long_session() -> None:
    always = hours("24/7")
    assert len(always.opens) == 1
    assert always.is_open(ns("2024-06-01 00:00"))
    assert always.is_open(ns("2024-06-01 23:59"))


def test_what_the_calendar_does_not_reach_is_not_known() -> None:
    xnys = hours("XNYS")
    assert xnys.session(ns("2023-01-01 00:00")) is None
    assert xnys.last_close(ns("2023-01-01 00:00")) is None
    assert xnys.next_open(xnys.until) is None
    assert xnys.next_close(xnys.until) is None
    assert xnys.until > ns("2024-12-31 00:00")


def test_an_unknown_calendar_is_one_line_that_names_similar_ones() -> None:
    with pytest.raises(UnknownCalendar, match=r"'XNYX'.*XNYS"):
        load("XNYX", ns("2024-03-01"))
    with pytest.raises(UnknownCalendar, match="no market calendar ''"):
        load("", ns("2024-03-01"))


def test_the_calendars_are_not_imported_before_one_is_asked_for() -> None:
    code = (
        "import sys, actors.polling.market_hours, actors.polling.schedule;"
        "sys.exit(bool({'pandas', 'exchange_calendars'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.sampled_from(["XNYS", "XIST", "XHKG", "24/7"]),
    st.integers(ns("2024-02-01 00:00"), ns("2026-01-01 00:00")),
)
def test_at_any_time_the_answers_fit_together(calendar: str, clock_ns: int) -> None:
    market = hours(calendar)
    opening, close, last = market.next_open(clock_ns), market.next_close(clock_ns), market.last_close(clock_ns)
    session = market.session(clock_ns)
    if calendar == "24/7":
        assert market.is_open(clock_ns)
        return
    assert opening is not None
    assert close is not None
    assert last is not None
    assert session is not None
    assert last <= clock_ns < min(opening, close)
    assert market.is_open(clock_ns) == (close < opening)
    assert session == ((session.open, close) if market.is_open(clock_ns) else (session.open, last))
    assert opening - clock_ns < 14 * DAY_NS
    # A step before and after every border.
    assert market.is_open(opening)
    assert not market.is_open(opening - 1)
    assert market.is_open(close - 1)
    assert not market.is_open(close)


@pytest.mark.parametrize("calendar", ["XNYS", "XIST", "XHKG", "XTKS", "24/7"])
def test_sessions_ascend_and_stay_apart(calendar: str) -> None:
    market = hours(calendar)
    assert len(market.opens) == len(market.closes)
    assert np.all(market.opens < market.closes)
    assert np.all(market.closes[:-1] < market.opens[1:])
