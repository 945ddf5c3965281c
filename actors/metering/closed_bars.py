"""Counts bars as they close, and how long after the end of their bucket they do."""

from typing import Final

import numpy as np
import pyarrow as pa

from actors.metering.meters import Counted, Durations
from storage.timeframes import TIMEFRAMES

#: A bar that ended longer ago was made of past trades: it was not late to close.
PAST_NS: Final = 60 * 1_000_000_000

_CLOSED: Final = Counted("rayfeed_bars_closed_total", *((timeframe,) for timeframe in TIMEFRAMES))
_DELAYS: Final = Durations("rayfeed_bar_close_delay_seconds")


def count(bars: pa.RecordBatch, now_ns: int) -> None:
    """Of bars (`storage.schema.BARS`) that are told at `now_ns`: those that have just closed, not the revised."""
    closed = np.asarray(bars.column("closed")) & (np.asarray(bars.column("revision")) == 0)
    if not closed.any():
        return
    # Open bars are many, and need not become text.
    timeframes = np.asarray(bars.column("timeframe").filter(pa.array(closed))).astype(str)
    begins = np.asarray(bars.column("time"))[closed]
    for timeframe in np.unique(timeframes).tolist():
        delays = now_ns - begins[timeframes == timeframe] - TIMEFRAMES[timeframe]
        _CLOSED.add(timeframe, by=delays.size)
        if (live := delays[delays <= PAST_NS]).size:
            _DELAYS.observe_ns(live, timeframe)
