"""Technical indicators of a series of bars, a constant amount of work for each bar.

What looks back over a fixed number of bars is made from those; what remembers everything before (exponential averages,
RSI, ATR, ADX, OBV) goes on from a STATE. So a series can go on from any bar whose state was kept: after a revision from
the bar before the revised one, and what comes out is what a computation from the first bar on gives, to the last bit.

Definitions are those of pandas-ta 0.4.71b0, but CCI, where that lacks parentheses; parameters are in the names. A value
is NaN (null for everybody outside) until there are as many bars as it needs, and where it divides by nothing: RSI
without a single change, VWAP without volume, CCI, Williams %R without a range. Two seeds are pandas-ta's and not
Wilder's: RSI and the movements of ADX begin with their first change instead of an average of 14; their first values are
given after 15 and 28 bars, where the spec has them.
"""

from typing import Any, Final

import numpy as np
from numba import njit

from storage.schema import INDICATOR_FIELDS

#: Columns of values, in order.
FIELDS: Final = INDICATOR_FIELDS
#: Bars before one that its values are made of.
LOOK_BACK: Final = 199

#: What is remembered of all bars up to one; `count` of them. Averages under way are sums until they have their seed.
STATE: Final = np.dtype(
    [
        ("count", "<i8"),
        ("ema_12", "<f8"),
        ("ema_26", "<f8"),
        ("ema_50", "<f8"),
        ("signal", "<f8"),
        ("gain", "<f8"),
        ("loss", "<f8"),
        ("true_range", "<f8"),
        ("moved_range", "<f8"),
        ("plus", "<f8"),
        ("minus", "<f8"),
        ("adx", "<f8"),
        ("obv", "<f8"),
        ("directed", "<i8"),
    ],
    align=True,
)
_EPSILON: Final = np.finfo(np.float64).eps

Array = np.ndarray[Any, np.dtype[Any]]


@njit(cache=True, nogil=True)
def advance(high, low, close, volume, known, before, states, values):  # type: ignore[no-untyped-def]
    """Go on with the bars from place `known` on: `before` (STATE) is that of the bar before them, and the places before
    `known` hold the bars before, one at least where there is one. Fills `states` and `values` (FIELDS), a row for each
    bar from `known` on; what looks back further than the bars that are given is NaN."""
    previous = before
    for at in range(known, len(close)):
        state, value = states[at - known], values[at - known]
        count = state.count = previous.count + 1
        price = close[at]
        value[:] = np.nan
        last = close[at - 1] if count > 1 else price

        whole = at + 1 >= min(count, LOOK_BACK + 1)
        if whole:
            _averages(close, volume, at, count, value)
        state.ema_12 = _ema(close, at, count, 12, previous.ema_12)
        state.ema_26 = _ema(close, at, count, 26, previous.ema_26)
        state.ema_50 = _ema(close, at, count, 50, previous.ema_50)
        if count >= 12:
            value[11] = state.ema_12
        if count >= 26:
            value[12] = state.ema_26
            value[1] = state.ema_12 - state.ema_26
        if count >= 50:
            value[13] = state.ema_50
        state.signal = smoothed(previous.signal, value[1], count - 25, 9, 0.2) if count >= 26 else 0.0
        if count >= 34:
            value[2] = state.signal
            value[3] = value[1] - state.signal

        change = price - last
        state.gain = remembered(previous.gain, max(change, 0.0), count - 1)
        state.loss = remembered(previous.loss, max(-change, 0.0), count - 1)
        if count >= 15 and state.gain + state.loss > 0.0:
            value[0] = 100.0 * (state.gain / (state.gain + state.loss))

        true_range = (
            max(high[at] - low[at], abs(high[at] - last), abs(last - low[at])) if count > 1 else high[at] - low[at]
        )
        state.true_range = smoothed(previous.true_range, true_range, count, 14, 1.0 / 14.0)
        if count >= 14:
            value[17] = state.true_range
        _direct(high, low, at, count, true_range, previous, state, value)

        if count == 1:
            state.obv = volume[at]
        elif change == 0.0:
            state.obv = previous.obv
        else:
            state.obv = previous.obv + (volume[at] if change > 0.0 else -volume[at])
        value[20] = state.obv

        if whole:
            _oscillate(high, low, close, volume, at, count, value)
        previous = state


@njit(cache=True, nogil=True)
def advance_all(high, low, close, volume, known, before, states, values):  # type: ignore[no-untyped-def]
    """`advance` for many series, a row each."""
    for series in range(len(high)):
        advance(
            high[series],
            low[series],
            close[series],
            volume[series],
            known,
            before[series],
            states[series],
            values[series],
        )


@njit(cache=True, nogil=True)
def _averages(close, volume, at, count, value):  # type: ignore[no-untyped-def]
    """Simple averages and bands of closes, and the average of volumes."""
    total = 0.0
    for back in range(min(count, 200)):
        total += close[at - back]
        if back == 19:
            value[7] = total / 20.0
        elif back == 49:
            value[8] = total / 50.0
        elif back == 99:
            value[9] = total / 100.0
        elif back == 199:
            value[10] = total / 200.0
    if count >= 20:
        squares = traded = 0.0
        for back in range(20):
            squares += (close[at - back] - value[7]) ** 2
            traded += volume[at - back]
        deviation = np.sqrt(squares / 20.0)
        value[4], value[5], value[6] = value[7] + 2.0 * deviation, value[7], value[7] - 2.0 * deviation
        value[19] = traded / 20.0


@njit(cache=True, nogil=True)
def _oscillate(high, low, close, volume, at, count, value):  # type: ignore[no-untyped-def]
    """What compares a bar with the range and the flow of the bars before it."""
    money = traded = 0.0
    for back in range(min(count, 200)):
        money += (high[at - back] + low[at - back] + close[at - back]) / 3.0 * volume[at - back]
        traded += volume[at - back]
    if traded > 0.0:
        value[14] = money / traded
    if count >= 16:
        value[15] = (
            _stochastic(high, low, close, at)
            + _stochastic(high, low, close, at - 1)
            + _stochastic(high, low, close, at - 2)
        ) / 3.0
    if count >= 18:
        total = value[15]
        for back in (1, 2):
            total += (
                _stochastic(high, low, close, at - back)
                + _stochastic(high, low, close, at - back - 1)
                + _stochastic(high, low, close, at - back - 2)
            ) / 3.0
        value[16] = total / 3.0
    if count >= 14:
        lowest, highest = _range(high, low, at)
        if highest > lowest:
            value[23] = 100.0 * ((close[at] - lowest) / (highest - lowest) - 1.0)
        mean = 0.0
        for back in range(14):
            mean += (high[at - back] + low[at - back] + close[at - back]) / 3.0
        mean /= 14.0
        distance = 0.0
        for back in range(14):
            distance += abs((high[at - back] + low[at - back] + close[at - back]) / 3.0 - mean)
        # What is left of equal prices is rounding.
        if distance > 1e-14 * mean:
            typical = (high[at] + low[at] + close[at]) / 3.0
            value[21] = (typical - mean) / (0.015 * distance / 14.0)
    if count >= 15:
        gained = lost = 0.0
        for back in range(14):
            here = (high[at - back] + low[at - back] + close[at - back]) / 3.0
            before = (high[at - back - 1] + low[at - back - 1] + close[at - back - 1]) / 3.0
            if here > before:
                gained += here * volume[at - back]
            else:
                lost += here * volume[at - back]
        value[22] = 100.0 * gained / (gained + lost + _EPSILON)
    if count >= 11:
        value[24] = 100.0 * (close[at] - close[at - 10]) / close[at - 10]


@njit(cache=True, nogil=True)
def _direct(high, low, at, count, true_range, previous, state, value):  # type: ignore[no-untyped-def]
    """How directed the movement is (ADX)."""
    state.adx, state.directed = previous.adx, previous.directed
    if count == 1:
        state.moved_range = state.plus = state.minus = 0.0
        return
    up, down = high[at] - high[at - 1], low[at - 1] - low[at]
    state.plus = remembered(previous.plus, up if up > down and up > 0.0 else 0.0, count - 1)
    state.minus = remembered(previous.minus, down if down > up and down > 0.0 else 0.0, count - 1)
    state.moved_range = smoothed(previous.moved_range, true_range, count - 1, 13, 1.0 / 14.0)
    moved = state.plus + state.minus
    if count >= 14 and moved > 0.0:
        state.directed += 1
        state.adx = remembered(previous.adx, 100.0 * abs(state.plus - state.minus) / moved, state.directed)
    if count >= 28 and state.directed > 0:
        value[18] = state.adx


@njit(cache=True, nogil=True)
def _range(high, low, at):  # type: ignore[no-untyped-def]
    lowest, highest = low[at], high[at]
    for back in range(1, 14):
        lowest, highest = min(lowest, low[at - back]), max(highest, high[at - back])
    return lowest, highest


@njit(cache=True, nogil=True)
def _stochastic(high, low, close, at):  # type: ignore[no-untyped-def]
    lowest, highest = _range(high, low, at)
    return 100.0 * (close[at] - lowest) / (highest - lowest) if highest > lowest else 0.0


@njit(cache=True, nogil=True)
def _ema(close, at, count, length, previous):  # type: ignore[no-untyped-def]
    """An exponential average of closes, seeded with the simple one; 0 before."""
    return smoothed(previous, close[at], count, length, 2.0 / (length + 1.0))


@njit(cache=True, nogil=True)
def smoothed(previous, x, count, length, weight):  # type: ignore[no-untyped-def]
    """The sum of fewer than `length` numbers, the average of so many, and an exponential one from then on."""
    if count < length:
        return previous + x if count > 1 else x
    if count == length:
        return (previous + x) / length
    return (1.0 - weight) * previous + weight * x


@njit(cache=True, nogil=True)
def remembered(previous, x, count):  # type: ignore[no-untyped-def]
    """Wilder's average over 14, seeded with the first of them; 0 before."""
    if count <= 1:
        return x if count == 1 else 0.0
    return (1.0 - 1.0 / 14.0) * previous + x / 14.0


def warm_up() -> None:
    """Compile (or load from numba's cache)."""
    bars, values = np.ones((1, 1)), np.empty((1, 1, len(FIELDS)))
    advance_all(bars, bars, bars, bars, 0, np.zeros(1, STATE), np.zeros((1, 1), STATE), values)
