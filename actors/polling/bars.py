"""Bars as providers of stock prices give them: what can be one, which of them are new or changed, and their columns.

A bar that is asked for again replaces the one before; when it had closed, that is a revision. Only what the provider
says is in it: nobody makes trades, counts or sides up.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import pyarrow as pa

from actors.polling.market_hours import SECOND_NS
from storage.schema import BARS

DAY: Final = "1d"
MINUTE_NS: Final = 60 * SECOND_NS
#: The most bars of one symbol and timeframe that are remembered, and that one answer may have: more than the minutes
#: of a day.
MAX_BARS: Final = 2000
#: Clocks differ; a bar that starts later than this is not of this world.
_AHEAD_NS: Final = 3600 * SECOND_NS


class Bar(NamedTuple):
    """`time` is the start (ns UTC), for a day its midnight; null is what the provider does not say."""

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    quote_volume: float | None = None
    trade_count: int | None = None
    closed: bool = True


class Change(NamedTuple):
    """A bar that was not known like this; `revision` counts its changes after it had closed."""

    bar: Bar
    revision: int


def flaw(bar: Bar, clock_ns: int) -> str:
    """Why this is no bar; empty when it is one."""
    amounts = [amount for amount in (bar.volume, bar.quote_volume, bar.trade_count) if amount is not None]
    if not all(map(math.isfinite, (*bar[1:5], *amounts))):
        return "not a number"
    if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high:
        return "prices outside low and high"
    if any(amount < 0 or amount >= 2**63 for amount in amounts):
        return "impossible volume"
    return "" if 0 < bar.time <= clock_ns + _AHEAD_NS else "impossible time"


def with_newest_open(bars: Sequence[Bar], clock_ns: int, settle_s: float) -> list[Bar]:
    """Minute bars by time; the newest counts as open until `settle_s` after its minute, as it may still change."""
    ordered = sorted(bars, key=lambda bar: bar.time)
    if ordered and clock_ns < ordered[-1].time + MINUTE_NS + settle_s * SECOND_NS:
        ordered[-1] = ordered[-1]._replace(closed=False)
    return ordered


class Series:
    """The newest bars of one symbol and timeframe, as they were handed on."""

    def __init__(self) -> None:
        self._known: dict[int, Change] = {}

    def __len__(self) -> int:
        return len(self._known)

    def compare(self, bars: Sequence[Bar]) -> list[Change]:
        """The bars that are new or say something else than before, by time; of two with one time the later counts."""
        changes = []
        for time, bar in sorted({bar.time: bar for bar in bars}.items()):
            before = self._known.get(time)
            if before is None:
                changes.append(Change(bar, 0))
                continue
            # What closed stays closed, also when the provider now shows nothing after it.
            bar = bar._replace(closed=bar.closed or before.bar.closed)
            if bar != before.bar:
                changes.append(Change(bar, before.revision + before.bar.closed))
        return changes

    def keep(self, changes: Sequence[Change]) -> None:
        """These were handed on."""
        self._known.update((change.bar.time, change) for change in changes)
        for time in sorted(self._known)[:-MAX_BARS]:
            del self._known[time]


def to_arrow(symbol: str, timeframe: str, changes: Sequence[Change]) -> pa.Table:
    """Schema `storage.schema.BARS`; null where the provider does not say."""
    count = len(changes)
    columns: dict[str, list[object]] = {
        **{name: [getattr(change.bar, name) for change in changes] for name in Bar._fields},
        "timeframe": [timeframe] * count,
        "buy_volume": [None] * count,
        "vwap": [None] * count,
        "revision": [change.revision for change in changes],
    }
    symbols = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([symbol]))
    rest = (pa.array(columns[field.name], field.type) for field in BARS if field.name != "symbol")
    return pa.Table.from_arrays([symbols, *rest], schema=BARS)
