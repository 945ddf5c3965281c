"""When a stock exchange is open: holidays, half days, lunch breaks and daylight saving come from exchange-calendars,
the questions are answered from two arrays. Sessions are half-open: at the second of the close the market is closed.
"""

import difflib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS
#: The longest time between two sessions that a calendar has to know about before the present.
_BEFORE_NS: Final = 45 * DAY_NS


class UnknownCalendar(ValueError):
    """There is no calendar of that name; the message names similar ones."""


class Session(NamedTuple):
    open: int
    close: int


@dataclass(frozen=True, slots=True)
class MarketHours:
    """The sessions of one calendar: ascending, apart from each other, ns UTC. A lunch break parts a day in two;
    sessions that touch (24/7) are one. `until`: the calendar says nothing about what comes then."""

    calendar: str
    opens: np.ndarray[Any, np.dtype[np.int64]]
    closes: np.ndarray[Any, np.dtype[np.int64]]
    until: int

    def is_open(self, clock_ns: int) -> bool:
        session = self.session(clock_ns)
        return session is not None and clock_ns < session.close

    def session(self, clock_ns: int) -> Session | None:
        """The session that is on, or else the last one before; None before the first."""
        at = int(np.searchsorted(self.opens, clock_ns, "right")) - 1
        return Session(int(self.opens[at]), int(self.closes[at])) if at >= 0 else None

    def next_open(self, clock_ns: int) -> int | None:
        """The first opening after `clock_ns`; None when the calendar ends before."""
        return _first(self.opens, clock_ns)

    def next_close(self, clock_ns: int) -> int | None:
        """The first close after `clock_ns`; None when the calendar ends before."""
        return _first(self.closes, clock_ns)

    def last_close(self, clock_ns: int) -> int | None:
        """The newest close not after `clock_ns`; None before the first."""
        at = int(np.searchsorted(self.closes, clock_ns, "right")) - 1
        return int(self.closes[at]) if at >= 0 else None


def load(calendar: str, clock_ns: int) -> MarketHours:
    """The hours of `calendar` (XNYS, XIST, 24/7 ...) from 45 days before `clock_ns` to about a year after today.

    Takes 0.5 to 0.8 s of processor time the first time and 0.1 s later: call it in a thread. Raises `UnknownCalendar`.
    """
    # Here and not above, as it brings pandas along: only the process that polls pays for it.
    import exchange_calendars  # type: ignore[import-untyped]
    import pandas as pd

    first = pd.Timestamp(clock_ns - _BEFORE_NS, unit="ns").normalize()
    try:
        schedule = exchange_calendars.get_calendar(calendar, start=first).schedule
    except exchange_calendars.errors.InvalidCalendarName:
        similar = difflib.get_close_matches(calendar.upper(), exchange_calendars.get_calendar_names())
        hint = f": did you mean {' or '.join(similar)}?" if similar else ", see the exchange-calendars package"
        raise UnknownCalendar(f"there is no market calendar {calendar!r}{hint}") from None

    def ns(column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.asarray(schedule[column].dt.as_unit("ns").astype("int64"))

    breaks = schedule["break_start"].notna().to_numpy()
    opens = np.sort(np.concatenate([ns("open"), ns("break_end")[breaks]]))
    closes = np.sort(np.concatenate([ns("close"), ns("break_start")[breaks]]))
    apart = closes[:-1] < opens[1:]
    return MarketHours(
        calendar,
        opens[np.concatenate([[True], apart])],
        closes[np.concatenate([apart, [True]])],
        int(schedule.index[-1].as_unit("ns").value) + DAY_NS,
    )


def _first(times: np.ndarray[Any, np.dtype[np.int64]], after_ns: int) -> int | None:
    at = int(np.searchsorted(times, after_ns, "right"))
    return int(times[at]) if at < len(times) else None
