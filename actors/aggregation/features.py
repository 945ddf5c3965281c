"""Features of bars for models: those of one bar are made of it, of at most 199 bars before it, and of the quotes of the
minute before its end. Nothing later and nothing earlier counts, so that a model sees live what it was trained on.

What a bar's history is too short for, and what would divide by nothing, is NaN, null for everybody outside. Averages
that remember everything (RSI, MACD) begin with the window: after 200 bars they differ from the indicators of the same
name, which remember the whole series, by some millionths.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

from actors.aggregation import indicators, quote_features
from actors.aggregation.indicators import remembered, smoothed
from actors.aggregation.kernel_cache import compile_anew_with
from actors.aggregation.quote_features import Quotes
from storage.feature_names import NEWEST, VERSIONS
from storage.schema import FEATURES
from storage.timeframes import TIMEFRAMES

#: Bars before one that its features are made of.
LOOK_BACK: Final = 199
#: What of a bar they are made of.
COLUMNS: Final = ("open", "high", "low", "close", "volume", "buy_volume", "quote_volume", "trade_count")
#: How many there are in all versions.
WIDTH: Final = len(VERSIONS[NEWEST])

_HOUR: Final = 3_600_000_000_000
_LN2: Final = float(np.log(2.0))


def features(bars: pa.RecordBatch, timeframe: str, quotes: Quotes, begin: int = 0) -> pa.RecordBatch:
    """`storage.schema.FEATURES` of the bars from place `begin` on, the columns of all versions.

    `bars` (`storage.schema.BARS`) are closed ones of one symbol, ascending; those before `begin` are only looked back
    at. `quotes` are its own, from a minute before the end of the first bar at least. KeyError for an unknown timeframe.
    """
    begin = min(begin, bars.num_rows)
    times = np.asarray(bars.column("time"))
    columns = [np.asarray(bars.column(name)).astype(np.float64, copy=False) for name in COLUMNS]
    values = np.full((len(times) - begin, WIDTH), np.nan)
    fill(times, *columns, begin, values)
    ends = times[begin:] + TIMEFRAMES[timeframe]
    quote_features.fill(ends, columns[3][begin:], *quotes, values[:, WIDTH - quote_features.WIDTH :])
    values[~np.isfinite(values)] = np.nan
    made: list[Any] = [bars.column(name)[begin:] for name in ("symbol", "timeframe", "time")]
    made += [pa.array(column, from_pandas=True) for column in np.ascontiguousarray(values.T)]
    return pa.RecordBatch.from_arrays(made, schema=FEATURES)


@njit(cache=True, nogil=True, error_model="numpy")
def fill(time, opens, high, low, close, volume, bought, money, trades, begin, values):  # type: ignore[no-untyped-def]
    """All features that bars alone have, of those from place `begin` on, a row of `values` for each."""
    ranges, sums = np.empty(LOOK_BACK + 1), np.empty(LOOK_BACK + 1)
    for at in range(begin, len(close)):
        count, value = min(at, LOOK_BACK) + 1, values[at - begin]
        _prices(high, low, close, at, count, value)
        _volumes(close, volume, at, count, sums, value)
        _momentum(close, at, count, value)
        _bands(close, at, count, ranges, value)
        _calendar(time[at], value)
        _trend(close, at, count, value)
        _more(high, low, close, volume, at, count, value)
        _traded(close, volume, bought, money, trades, at, count, value)
        _moves(opens, high, low, close, volume, bought, money, at, count, value)


@njit(cache=True, nogil=True, error_model="numpy")
def _return(close, at, back):  # type: ignore[no-untyped-def]
    return close[at] / close[at - back] - 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _deviation(x, at, count):  # type: ignore[no-untyped-def]
    """Of a sample; exactly 0 of equal numbers."""
    base, total = x[at], 0.0
    for back in range(count):
        total += x[at - back] - base
    mean, squares = total / count, 0.0
    for back in range(count):
        squares += (x[at - back] - base - mean) ** 2
    return np.sqrt(squares / (count - 1))


@njit(cache=True, nogil=True, error_model="numpy")
def _volatility(close, at, count):  # type: ignore[no-untyped-def]
    """The deviation of `count` returns."""
    base, total = _return(close, at, 1), 0.0
    for back in range(count):
        total += _return(close, at - back, 1) - base
    mean, squares = total / count, 0.0
    for back in range(count):
        squares += (_return(close, at - back, 1) - base - mean) ** 2
    return np.sqrt(squares / (count - 1))


@njit(cache=True, nogil=True, error_model="numpy")
def _mean(x, at, count):  # type: ignore[no-untyped-def]
    """Exactly the number of equal numbers."""
    base, total = x[at], 0.0
    for back in range(count):
        total += x[at - back] - base
    return base + total / count


@njit(cache=True, nogil=True, error_model="numpy")
def _prices(high, low, close, at, count, value):  # type: ignore[no-untyped-def]
    if count >= 2:
        value[0] = _return(close, at, 1)
        value[3] = np.log(close[at] / close[at - 1])
        value[11] = max(high[at] - low[at], abs(high[at] - close[at - 1]), abs(low[at] - close[at - 1]))
    if count >= 3:
        value[6] = value[0] - _return(close, at - 1, 1)
    if count >= 6:
        value[1] = _return(close, at, 5)
        value[4] = (close[at] - close[at - 5]) / close[at - 5]
        value[7] = _volatility(close, at, 5)
    if count >= 11:
        value[2] = _return(close, at, 10)
        value[5] = (close[at] - close[at - 10]) / close[at - 10]
        value[8] = _volatility(close, at, 10)
    if count >= 21:
        value[9] = _volatility(close, at, 20)
        value[12] = value[8] / value[9]
    value[10] = (high[at] - low[at]) / close[at]


@njit(cache=True, nogil=True, error_model="numpy")
def _volumes(close, volume, at, count, sums, value):  # type: ignore[no-untyped-def]
    if count >= 2:
        value[13] = _return(volume, at, 1)
        total = 0.0
        for place in range(1, count):
            here = at - count + 1 + place
            total += volume[here] * np.sign(close[here] - close[here - 1])
            sums[place] = total
        value[18] = total
    if count >= 5:
        value[16] = volume[at] / _mean(volume, at, 5)
    if count >= 6:
        value[14] = _return(volume, at, 5)
    if count >= 11:
        value[15] = _return(volume, at, 10)
    if count >= 20:
        value[17] = volume[at] / _mean(volume, at, 20)
    if count >= 21:
        value[19] = value[18] / _deviation(sums, count - 1, 20)


@njit(cache=True, nogil=True, error_model="numpy")
def _momentum(close, at, count, value):  # type: ignore[no-untyped-def]
    """RSI and MACD, begun with the window as `actors.aggregation.indicators` begins with the series."""
    gain = loss = fast = slow = signal = 0.0
    strength = strength_before = macd = difference = difference_before = np.nan
    first = at - count + 1
    for place in range(count):
        # MACD is about differences: of equal prices it is exactly 0.
        price = close[first + place] - close[first]
        change = close[first + place] - close[first + place - 1] if place else 0.0
        gain = remembered(gain, max(change, 0.0), place)
        loss = remembered(loss, max(-change, 0.0), place)
        fast = smoothed(fast, price, place + 1, 12, 2.0 / 13.0)
        slow = smoothed(slow, price, place + 1, 26, 2.0 / 27.0)
        difference_before = difference
        if place >= 25:
            macd = fast - slow
            signal = smoothed(signal, macd, place - 24, 9, 0.2)
            if place >= 33:
                difference = macd - signal
        if place >= 14 and (place == count - 15 or place == count - 1):
            strength_before, strength = strength, 100.0 * (gain / (gain + loss)) if gain + loss > 0.0 else np.nan
    value[20] = strength
    if not np.isnan(strength):
        value[21], value[22] = strength < 30.0, strength > 70.0
        value[23] = 1.0 - value[21] - value[22]
        value[60] = 1.0 + value[22] - value[21]
        if not np.isnan(strength_before):
            moved, turned = np.sign(close[at] - close[at - 14]), np.sign(strength - strength_before)
            value[61] = turned if moved * turned < 0.0 else 0.0
    value[24] = macd
    if count >= 34:
        value[25], value[26] = signal, difference
    if count >= 35:
        value[27] = difference > 0.0 >= difference_before
        value[28] = difference < 0.0 <= difference_before
        value[62] = difference - difference_before


@njit(cache=True, nogil=True, error_model="numpy")
def _bands(close, at, count, widths, value):  # type: ignore[no-untyped-def]
    if count < 20:
        return
    for back in range(20 if count >= 39 else 1):
        middle = _mean(close, at - back, 20)
        reach = 2.0 * _deviation(close, at - back, 20) * np.sqrt(0.95)
        widths[back] = 2.0 * reach / middle
        if back == 0:
            value[29], value[30], value[31] = middle + reach, middle, middle - reach
            value[32] = (close[at] - value[31]) / (2.0 * reach)
            value[33] = widths[0]
    if count >= 39:
        value[34] = widths[0] < _mean(widths, 19, 20)


@njit(cache=True, nogil=True, error_model="numpy")
def _calendar(time, value):  # type: ignore[no-untyped-def]
    """Of the start of the bar, UTC; Monday is 0. The markets we collect never close."""
    hours = time // _HOUR
    value[35] = hours % 24
    value[36] = (hours // 24 + 3) % 7  # the epoch began on a Thursday
    value[37] = value[36] >= 5.0
    value[38] = 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _trend(close, at, count, value):  # type: ignore[no-untyped-def]
    for which, length in enumerate((20, 50, 100, 200)):
        if count >= length:
            average = _mean(close, at, length)
            value[39 + which] = average
            value[43 + which] = (close[at] - average) / average
            value[47 + which] = close[at] > average
    if count >= 50:
        value[51] = (value[39] - value[40]) / value[40]


@njit(cache=True, nogil=True, error_model="numpy")
def _more(high, low, close, volume, at, count, value):  # type: ignore[no-untyped-def]
    value[56] = high[at] - low[at]
    if count >= 5:
        value[53] = _deviation(close, at, 5)
        total = 0.0
        for back in range(5):
            total += (high[at - back] - low[at - back]) / close[at - back]
        value[57] = total / 5.0
    if count >= 10:
        value[54] = _deviation(close, at, 10)
        average = _mean(volume, at, 10)
        value[58] = volume[at] - average
        value[59] = volume[at] / average
    if count >= 11:
        value[52] = close[at] - close[at - 10]
        value[64] = value[52] * volume[at]
    if count >= 20:
        value[55] = _deviation(close, at, 20)
    if count >= 21:
        value[63] = value[7] / value[9]


@njit(cache=True, nogil=True, error_model="numpy")
def _traded(close, volume, bought, money, trades, at, count, value):  # type: ignore[no-untyped-def]
    """Who traded how much, in this bar and in those before."""
    value[65] = trades[at]
    value[66] = volume[at] / trades[at]
    value[67] = bought[at] / volume[at]
    value[68] = (2.0 * bought[at] - volume[at]) / volume[at]
    value[72] = (close[at] - money[at] / volume[at]) / (money[at] / volume[at])
    signed = absolute = total = 0.0
    for back in range(min(count, 20)):
        here = 2.0 * bought[at - back] - volume[at - back]
        signed, absolute, total = signed + here, absolute + abs(here), total + volume[at - back]
        if back == 4:
            value[69] = signed / total
    if count >= 20:
        value[70], value[83] = signed / total, absolute / total
        x, y = np.empty(19), np.empty(19)
        for back in range(19):
            x[back] = np.sign(2.0 * bought[at - back] - volume[at - back])
            y[back] = np.sign(2.0 * bought[at - back - 1] - volume[at - back - 1])
        value[71] = _correlation(x, y)


@njit(cache=True, nogil=True, error_model="numpy")
def _moves(opens, high, low, close, volume, bought, money, at, count, value):  # type: ignore[no-untyped-def]
    """How prices moved over 20 bars, and with what volume."""
    if count >= 20:
        ranges = inner = 0.0
        for back in range(20):
            here = at - back
            ranges += np.log(high[here] / low[here]) ** 2
            inner += np.log(close[here] / opens[here]) ** 2
        value[73] = np.sqrt(ranges / 20.0 / (4.0 * _LN2))
        value[74] = np.sqrt(max((ranges / 2.0 - (2.0 * _LN2 - 1.0) * inner) / 20.0, 0.0))
    if count >= 11:
        path = 0.0
        for back in range(10):
            path += abs(close[at - back] - close[at - back - 1])
        value[79] = abs(close[at] - close[at - 10]) / path
    if count < 21:
        return
    second = third = fourth = moved = 0.0
    changes, flows = np.empty(20), np.empty(20)
    priced = 0
    for back in range(20):
        here = at - back
        move = np.log(close[here] / close[here - 1])
        second, third, fourth = second + move**2, third + move**3, fourth + move**4
        changes[back] = close[here] - close[here - 1]
        flows[back] = 2.0 * bought[here] - volume[here]
        if money[here] > 0.0:
            moved += abs(_return(close, here, 1)) / money[here]
            priced += 1
    value[75] = np.sqrt(second)
    value[76] = np.sqrt(20.0) * third / second**1.5
    value[77] = 20.0 * fourth / second**2
    value[80] = moved / priced
    value[81] = _slope(flows, changes)
    if count >= 22:
        before = np.empty(20)
        for back in range(20):
            before[back] = close[at - back - 1] - close[at - back - 2]
        value[82] = 2.0 * np.sqrt(max(-_covariance(changes, before), 0.0))
        for back in range(20):
            changes[back], before[back] = _return(close, at - back, 1), _return(close, at - back - 1, 1)
        value[78] = _correlation(changes, before)


@njit(cache=True, nogil=True, error_model="numpy")
def _covariance(x, y):  # type: ignore[no-untyped-def]
    mean_x, mean_y, total = _mean(x, len(x) - 1, len(x)), _mean(y, len(y) - 1, len(y)), 0.0
    for at in range(len(x)):
        total += (x[at] - mean_x) * (y[at] - mean_y)
    return total / (len(x) - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _variance(x):  # type: ignore[no-untyped-def]
    """0 where numbers differ by their rounding alone."""
    variance, mean = _covariance(x, x), _mean(x, len(x) - 1, len(x))
    return variance if variance > 1e-24 * mean**2 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _correlation(x, y):  # type: ignore[no-untyped-def]
    return _covariance(x, y) / np.sqrt(_variance(x) * _variance(y))


@njit(cache=True, nogil=True, error_model="numpy")
def _slope(x, y):  # type: ignore[no-untyped-def]
    return _covariance(x, y) / _variance(x)


compile_anew_with([fill, _momentum], [indicators])


def warm_up() -> None:
    """Compile (or load from numba's cache)."""
    one = np.ones(1)
    fill(np.zeros(1, np.int64), *[one] * len(COLUMNS), 0, np.empty((1, WIDTH)))
    values = np.empty((1, WIDTH))[:, WIDTH - quote_features.WIDTH :]
    quote_features.fill(np.ones(1, np.int64), one, np.zeros(1, np.int64), *[one] * 4, values)
