"""Which hours of trades ClickHouse has less of than the files, and when those are told again. Pure: counts and times
come in, hours come out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.column_days import Stamp

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * SECOND_NS
HOURS: Final = 24
#: An hour is told again after this long at first, twice as long each time it is still short.
FIRST_WAIT_NS: Final = 60 * SECOND_NS
LAST_WAIT_NS: Final = 3600 * SECOND_NS
#: So many rows are told at once.
MOST_ROWS: Final = 1_000_000
#: No more is looked for while so many hours are short.
MOST_HOURS: Final = 10_000
#: A day's files may change again within one tick of the file system's clock.
SETTLED_NS: Final = 2 * SECOND_NS

#: Exchange and symbol.
Series = tuple[str, str]


class Counted(NamedTuple):
    """How many trades ClickHouse has by symbol and hour since the epoch, and what names its table."""

    table: str
    trades: Mapping[tuple[str, int], int]


class Part(NamedTuple):
    """Rows `first` to `first + rows` of an hour since the epoch."""

    series: Series
    hour: int
    first: int
    rows: int


@dataclass(slots=True)
class _Short:
    """How many rows the files have of an hour, and how many of those were told this time."""

    rows: int
    due_ns: int
    wait_ns: int = FIRST_WAIT_NS
    told: int = 0


class Reconciling:
    """`equal` says of each series until when (ns) its files may have changed without having to be compared: ClickHouse
    has what they had then."""

    def __init__(self, equal: Mapping[Series, int]) -> None:
        self.equal = dict(equal)
        self._short: dict[tuple[Series, int], _Short] = {}
        #: Of this look: the days of each series that are to be compared, and those that were found equal.
        self._changed: dict[Series, Mapping[int, Stamp]] = {}
        self._found: set[tuple[Series, int]] = set()

    @property
    def short(self) -> int:
        """How many hours are known to be short."""
        return len(self._short)

    def look(self, days: Mapping[Series, Mapping[int, Stamp]], first_day: int) -> dict[tuple[str, int], list[str]]:
        """Begin to compare. Gives the symbols to count by exchange and day, the oldest first, of the stored `days`;
        those before `first_day` are in the files alone."""
        self._found.clear()
        self._changed = {}
        asked: dict[tuple[str, int], list[str]] = {}
        for series, stamps in days.items():
            until = self.equal.get(series, -1)
            if changed := {day: at for day, at in stamps.items() if at.changed_ns > until and day >= first_day}:
                self._changed[series] = changed
                for day in changed:
                    asked.setdefault((series[0], day), []).append(series[1])
        # Days may have gone meanwhile.
        self._short = {
            (series, hour): short
            for (series, hour), short in self._short.items()
            if hour // HOURS in self._changed.get(series, ())
        }
        return dict(sorted(asked.items(), key=lambda one: one[0][1]))

    def compare(self, series: Series, day: int, stored: NDArray[np.int64], there: Mapping[int, int], now: int) -> None:
        """The rows of each of the day's 24 hours in the files, and how many of them ClickHouse has by hour since the
        epoch."""
        stamp = self._changed[series][day]
        equal = True
        for hour, rows in enumerate(stored.tolist(), day * HOURS):
            if rows <= there.get(hour, 0):
                self._short.pop((series, hour), None)
                continue
            equal = False
            if (known := self._short.get((series, hour))) is None:
                self._short[series, hour] = _Short(rows, now)
            else:
                known.rows = rows
        # Rows too new to be compared are compared the next time.
        if equal and int(stored.sum()) == stamp.rows and stamp.changed_ns < now - SETTLED_NS:
            self._found.add((series, day))

    def finish(self) -> bool:
        """The look is over, or cannot go on. Whether what is remembered of it has changed."""
        before = dict(self.equal)
        for series, days in self._changed.items():
            for day, stamp in sorted(days.items(), key=lambda one: one[1].changed_ns):
                if (series, day) not in self._found:
                    break
                self.equal[series] = stamp.changed_ns
        return self.equal != before

    def due(self, now: int) -> Iterator[Part]:
        """What is to be told now, MOST_ROWS at most; the rest of a longer hour is due with the next call."""
        room = MOST_ROWS
        for (series, hour), short in sorted(self._short.items(), key=lambda one: one[1].due_ns):
            if not room or short.due_ns > now:
                return
            rows = min(short.rows - short.told, room)
            yield Part(series, hour, short.told, rows)
            room -= rows
            short.told += rows
            if short.told >= short.rows:
                short.told, short.due_ns = 0, now + short.wait_ns
                short.wait_ns = min(2 * short.wait_ns, LAST_WAIT_NS)
