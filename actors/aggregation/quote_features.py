"""Features of quotes: the last usable quote of each second, and what those of a minute say at the end of a bar.

A quote is usable with a bid above 0 and an ask not below it. Quotes are looked at 60 s back, so that a bar's features
do not depend on how long its timeframe is, nor on quotes nobody would trade on any more.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[Any]]

SECOND: Final = 1_000_000_000
#: Seconds before the end of a bar whose quotes are looked at.
LOOK_BACK_S: Final = 60
#: How many features `fill` writes.
WIDTH: Final = 14


class Quotes(NamedTuple):
    """The last usable quote of each second that has one, ascending: its time (ns), prices, and sizes (NaN: unknown)."""

    ts_event: Array
    bid_price: Array
    bid_size: Array
    ask_price: Array
    ask_size: Array


def last_of_seconds(ts_event: Array, bid_price: Array, bid_size: Array, ask_price: Array, ask_size: Array) -> Quotes:
    """Those of quotes in the order of their time."""
    usable = np.isfinite(ask_price) & (bid_price > 0.0) & (ask_price >= bid_price)
    places = np.flatnonzero(usable)
    seconds = ts_event[places] // SECOND
    last = places[np.flatnonzero(np.diff(seconds, append=-1))]
    return Quotes(*(np.ascontiguousarray(one[last]) for one in (ts_event, bid_price, bid_size, ask_price, ask_size)))


@njit(cache=True, nogil=True, error_model="numpy")
def fill(ends, closes, ts, bid, bid_size, ask, ask_size, values):  # type: ignore[no-untyped-def]
    """The features of bars that end at `ends` (ns, ascending), WIDTH in each row of `values`; NaN where unknown."""
    first = after = 0
    for row in range(len(ends)):
        end, value = ends[row], values[row]
        while after < len(ts) and ts[after] < end:
            after += 1
        while first < after and ts[first] < end - LOOK_BACK_S * SECOND:
            first += 1
        value[:] = np.nan
        value[13] = after - first
        if after > first:
            _newest(ts, bid, bid_size, ask, ask_size, after - 1, end, closes[row], value)
            _minute(bid, bid_size, ask, ask_size, first, after, value)


@njit(cache=True, nogil=True, error_model="numpy")
def _newest(ts, bid, bid_size, ask, ask_size, at, end, close, value):  # type: ignore[no-untyped-def]
    middle = (bid[at] + ask[at]) / 2.0
    size = bid_size[at] + ask_size[at]
    value[0] = ask[at] - bid[at]
    value[1] = value[0] / middle * 1e4
    value[2] = (bid[at] * ask_size[at] + ask[at] * bid_size[at]) / size
    value[3] = (value[2] - middle) / middle
    value[4] = (bid_size[at] - ask_size[at]) / size
    value[5] = (end - ts[at]) / SECOND
    value[6] = (close - middle) / middle


@njit(cache=True, nogil=True, error_model="numpy")
def _minute(bid, bid_size, ask, ask_size, first, after, value):  # type: ignore[no-untyped-def]
    """Means, the order flow (Cont, Kukanov and Stoikov 2014) and moves of the middle from second to second."""
    spreads = imbalances = depth = flow = moves = 0.0
    for at in range(first, after):
        middle = (bid[at] + ask[at]) / 2.0
        spreads += (ask[at] - bid[at]) / middle * 1e4
        imbalances += (bid_size[at] - ask_size[at]) / (bid_size[at] + ask_size[at])
        depth += (bid_size[at] + ask_size[at]) / 2.0
        if at > first:
            moves += np.log(middle / ((bid[at - 1] + ask[at - 1]) / 2.0)) ** 2
            if bid[at] >= bid[at - 1]:
                flow += bid_size[at]
            if bid[at] <= bid[at - 1]:
                flow -= bid_size[at - 1]
            if ask[at] <= ask[at - 1]:
                flow -= ask_size[at]
            if ask[at] >= ask[at - 1]:
                flow += ask_size[at - 1]
    count = after - first
    value[7] = spreads / count
    value[8] = imbalances / count
    if count > 1:
        value[9] = flow
        value[10] = flow / (depth / count)
        value[11] = (bid[after - 1] + ask[after - 1]) / (bid[first] + ask[first]) - 1.0
        value[12] = np.sqrt(moves)
