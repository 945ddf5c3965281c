"""Indicators of bars as they close: a state beside each bar of the store, and what follows from a bar that changed."""

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from actors.aggregation import bar_kernels, exact_sums, indicators
from actors.aggregation.bar_kernels import BOUGHT, SOLD, STRIDE, Array
from actors.aggregation.bar_tables import timeframes_of
from actors.aggregation.exact_sums import WORDS, add_sum, rounded
from actors.aggregation.indicators import FIELDS, LOOK_BACK, STATE, advance
from actors.aggregation.kernel_cache import compile_anew_with
from storage.schema import INDICATORS


@njit(cache=True)
def count_stale(rows, series):  # type: ignore[no-untyped-def]
    """How many rows `follow` may give."""
    room, count = len(rows) // len(series), 0
    for number in range(len(series)):
        count += max(_limit(rows, series, number, room) - series[number].first_stale, 0)
    return count


@njit(cache=True)
def follow(rows, words, series, states, of, times, values):  # type: ignore[no-untyped-def]
    """Let the states of all stale bars follow from the bars, but of the newest of each series while it is open; their
    indicators with their series and times. How many these are.

    Of a series that let bars go, the oldest LOOK_BACK have no others to look back at: they keep what was said of them,
    and only what remembers everything follows from a change there."""
    room = len(rows) // len(series)
    high, low, close, volume = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    some, found = np.zeros(room, STATE), np.empty((room, values.shape[1]))
    nothing, both = np.zeros(1, STATE), np.empty(WORDS, np.uint64)
    count = 0
    for number in range(len(series)):
        one, base, limit = series[number], number * room, _limit(rows, series, number, room)
        if one.first_stale >= limit:
            continue
        begin = max(one.first_stale, 1) if one.gone > 0 else one.first_stale
        first = max(begin - LOOK_BACK, 0)
        for place in range(first, limit):
            at = base + (one.head + place) % room
            row, own = rows[at], at * STRIDE
            high[place - first], low[place - first], close[place - first] = row.high, row.low, row.close
            both[:] = words[own + BOUGHT : own + BOUGHT + WORDS]
            add_sum(both, 0, words, own + SOLD)
            volume[place - first] = rounded(both, 0)
        before = states[base + (one.head + begin - 1) % room] if begin > 0 else nothing[0]
        given = limit - first
        advance(high[:given], low[:given], close[:given], volume[:given], begin - first, before, some, found)
        for place in range(begin, limit):
            at = base + (one.head + place) % room
            states[at] = some[place - begin]
            if one.gone == 0 or place >= LOOK_BACK:
                of[count], times[count] = number, rows[at].time
                values[count] = found[place - begin]
                count += 1
        one.first_stale = limit
    return count


@njit(cache=True)
def _limit(rows, series, number, room):  # type: ignore[no-untyped-def]
    """Bars of a series that are not open, or are older than one that is."""
    one = series[number]
    if one.length == 0:
        return 0
    newest = rows[number * room + (one.head + one.length - 1) % room]
    return one.length if newest.closed else one.length - 1


def to_indicators(levels: Array, codes: Array, times: Array, values: Array, symbols: list[str]) -> pa.RecordBatch:
    """`storage.schema.INDICATORS`; of each row the place of its timeframe and of its symbol."""
    numbers: Any = pa.array(codes.astype(np.int32))
    columns: list[Any] = [
        pa.DictionaryArray.from_arrays(numbers, pa.array(symbols, pa.string())),
        timeframes_of(levels),
        pa.array(times),
    ]
    columns += [pa.array(values[:, place], from_pandas=True) for place in range(len(FIELDS))]
    return pa.RecordBatch.from_arrays(columns, schema=INDICATORS)


compile_anew_with([count_stale, follow, _limit], [bar_kernels, exact_sums, indicators])
