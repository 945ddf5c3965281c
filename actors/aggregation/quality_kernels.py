"""The compiled pass that judges trades, and what it remembers of each symbol.

A trade costs the same whatever came before it. What is remembered has a fixed size and lies in arrays a caller makes,
so that they may be in a file.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

#: Prices and sizes a trade is held against, and the least there must be to hold it against any.
HISTORY: Final = 100
LEAST: Final = 10
#: Hours counted.
HOURS: Final = 168
HOUR_NS: Final = 3_600_000_000_000
#: The weight of the newest trade in the score.
ALPHA: Final = 0.1

#: Verdicts. A trade that fails has that of the first check it fails.
PASSED: Final = 0
VALID_VALUES: Final = 1
DATA_FRESHNESS: Final = 2
PRICE_ANOMALY: Final = 3
VOLUME_SANITY: Final = 4

#: Kinds of events.
LEVEL_SHIFT: Final = 0
SILENCE: Final = 1

#: What is remembered of a symbol beside its histories. `prices` and `sizes`: how many there are; `next_*`: where the
#: next one goes. `candidates`: anomalous prices in a row that agree, from `candidate_low` to `candidate_high`, since
#: `candidate_since` (ts_event). `newest`: the latest ts_event that is no trade's from the future; `judged_*`: the
#: greatest (ts_event, trade_id) of all. `hour`: the start of the one that is counted, which is at `place`; `changed`:
#: how many hours are other than when they were told.
ONE: Final = np.dtype(
    [
        ("score", "<f8"),
        ("judged", "<i8"),
        ("judged_ts", "<i8"),
        ("judged_id", "<i8"),
        ("newest", "<i8"),
        ("hour", "<i8"),
        ("place", "<i8"),
        ("changed", "<i8"),
        ("prices", "<i8"),
        ("next_price", "<i8"),
        ("last_price", "<f8"),
        ("sizes", "<i8"),
        ("next_size", "<i8"),
        ("size_sum", "<f8"),
        ("candidates", "<i8"),
        ("candidate_since", "<i8"),
        ("candidate_low", "<f8"),
        ("candidate_high", "<f8"),
    ],
    align=True,
)
#: Trades of a symbol that came in the hour (by ts_recv) from `time` on. `failed`: by check, in the order of the
#: verdicts. `late_ns`: the sum of ts_recv - ts_event of those that were fresh. `changed`: since it was last told.
HOUR: Final = np.dtype(
    [
        ("time", "<i8"),
        ("passed", "<i8"),
        ("failed", "<i8", 4),
        ("zero_sizes", "<i8"),
        ("duplicates", "<i8"),
        ("level_shifts", "<i8"),
        ("silences", "<i8"),
        ("late_ns", "<i8"),
        ("score", "<f8"),
        ("changed", "?"),
    ],
    align=True,
)
#: All of a symbol. `prices` is a ring. `sizes` too, but those from `next_size` on, which are older than the others, are
#: each the sum of itself and those after it: the newest `HISTORY` sizes sum up to `size_sum`, the sum of the others,
#: and the one there. So nothing is ever subtracted, which would leave an error behind.
STATE: Final = np.dtype(
    [
        ("symbol", "S104"),
        ("one", ONE),
        ("prices", "<f8", HISTORY),
        ("sizes", "<f8", HISTORY),
        ("candidates", "<f8", HISTORY),
        ("hours", HOUR, HOURS),
    ],
    align=True,
)
#: Something about a symbol that is no failure of a trade: the place of the trade that showed it, the time (ts_event)
#: and price before and after. A level shift begins with the first trade at the new level.
EVENT: Final = np.dtype(
    [
        ("row", "<i8"),
        ("kind", "<i8"),
        ("from_ns", "<i8"),
        ("to_ns", "<i8"),
        ("from_price", "<f8"),
        ("to_price", "<f8"),
    ]
)

Array = np.ndarray[Any, np.dtype[Any]]


class Rules(NamedTuple):
    """A trade may be received `late_ns` after it was made at most, and `early_ns` before; its price may be `deviations`
    from the mean or `change` (a fraction) from the last good one; its size `ratio` times the mean. After so many trades
    that agree (`LEAST` to `HISTORY`) prices are at a new level. Longer than `silence_ns` between two trades is told."""

    late_ns: int
    early_ns: int
    deviations: float
    change: float
    ratio: float
    level_shift_trades: int
    silence_ns: int


class Trades(NamedTuple):
    """A batch: codes of symbols (int32), what they mean here (int64), times, ids, prices, sizes."""

    code: Array
    symbol: Array
    ts_event: Array
    ts_recv: Array
    trade_id: Array
    price: Array
    size: Array


class Symbols(NamedTuple):
    """The parts of an array of STATE."""

    one: Array
    prices: Array
    sizes: Array
    candidates: Array
    hours: Array


@njit(cache=True)
def judge(begin, trades, rules, symbols, verdicts, values, events):  # type: ignore[no-untyped-def]
    """Judge the trades from that place on, until there may be no room for further events: where it ended, and how many
    events there are. Of each trade its verdict, and of those that fail the value that made them."""
    code_of, meaning, ts_of, recv_of, id_of, price_of, size_of = trades
    late_ns, early_ns, deviations, change, ratio, level_shift_trades, silence_ns = rules
    ones, prices, sizes, candidates, hours = symbols
    there = 0
    for i in range(begin, len(code_of)):
        if there + 2 > len(events):
            return i, there
        symbol = meaning[code_of[i]]
        ts, recv, price, size = ts_of[i], recv_of[i], price_of[i], size_of[i]
        one = ones[symbol]
        since = recv - one.hour
        if since < 0 or since >= HOUR_NS:
            _begin_hour(symbol, recv, ones, hours)
        hour = hours[symbol, one.place]
        late = recv - ts if ts > 0 else 0
        if ts > one.newest and late >= -early_ns:
            if one.newest > 0 and ts - one.newest > silence_ns:
                hour.silences += 1
                _note(events[there], i, SILENCE, one.newest, ts, one.last_price, price)
                there += 1
            one.newest = ts
        hour.zero_sizes += size == 0.0
        verdict = PASSED
        if not (0.0 < price < np.inf and 0.0 <= size < np.inf):
            verdict, values[i] = VALID_VALUES, size if 0.0 < price < np.inf else price
        elif ts <= 0 or late > late_ns or late < -early_ns:
            verdict, values[i] = DATA_FRESHNESS, late / 1e9 if ts > 0 else np.nan
        else:
            hour.late_ns += late
            last = one.last_price
            if (
                one.prices >= LEAST
                and abs(price - last) > change * last
                and _is_far(price, deviations, symbol, one.prices, prices)
            ):
                verdict, values[i] = PRICE_ANOMALY, abs(price - last) / last
                low, high = min(price, one.candidate_low), max(price, one.candidate_high)
                if one.candidates == 0 or high - low > change * low:
                    one.candidates, one.candidate_since = 0, ts
                    low = high = price
                candidates[symbol, one.candidates] = price
                one.candidates += 1
                one.candidate_low, one.candidate_high = low, high
                if one.candidates >= level_shift_trades:
                    _begin_anew(symbol, ones, prices, candidates)
                    hour.level_shifts += 1
                    _note(events[there], i, LEVEL_SHIFT, one.candidate_since, ts, last, price)
                    there += 1
            else:
                one.candidates = 0
                one.last_price = price
                prices[symbol, one.next_price] = price
                one.next_price = one.next_price + 1 if one.next_price + 1 < HISTORY else 0
                one.prices = min(one.prices + 1, HISTORY)
                total = one.size_sum + sizes[symbol, one.next_size]
                if one.sizes >= LEAST and total > 0.0 and size * one.sizes > ratio * total:
                    verdict, values[i] = VOLUME_SANITY, size * one.sizes / total
                    # As the largest that passes, or it would never be normal again once all are that large.
                    size = ratio * total / one.sizes
                _remember_size(symbol, size, ones, sizes)
        verdicts[i] = verdict
        if ts > one.judged_ts or (ts == one.judged_ts and id_of[i] > one.judged_id):
            one.judged_ts, one.judged_id = ts, id_of[i]
        one.judged += 1
        if verdict == PASSED:
            one.score = ALPHA + (1.0 - ALPHA) * one.score
            hour.passed += 1
        else:
            one.score = (1.0 - ALPHA) * one.score
            hour.failed[verdict - 1] += 1
        hour.score = one.score
        if not hour.changed:
            hour.changed = True
            one.changed += 1
    return len(code_of), there


@njit(cache=True)
def count_duplicates(symbol, recv, count, ones, hours):  # type: ignore[no-untyped-def]
    since = recv - ones[symbol].hour
    if since < 0 or since >= HOUR_NS:
        _begin_hour(symbol, recv, ones, hours)
    hour = hours[symbol, ones[symbol].place]
    hour.duplicates += count
    hour.score = ones[symbol].score
    if not hour.changed:
        hour.changed = True
        ones[symbol].changed += 1


@njit(cache=True)
def tell(told, of, ones, hours):  # type: ignore[no-untyped-def]
    """Copy the hours that have changed, with their symbols, and how many there are: they are told now."""
    count = 0
    for symbol in range(len(ones)):
        one, place = ones[symbol], ones[symbol].place
        # The newest ones, nearly always.
        for _ in range(HOURS):
            if one.changed == 0:
                break
            hour = hours[symbol, place]
            if hour.changed:
                hour.changed = False
                one.changed -= 1
                told[count] = hour
                of[count] = symbol
                count += 1
            place = place - 1 if place > 0 else HOURS - 1
        one.changed = 0
    return count


@njit(cache=True)
def add_up(of, newest, back, sums, ones, hours):  # type: ignore[no-untyped-def]
    """Of each of these symbols the sums of so many hours up to `newest`, or to its own newest: failures by check, then
    the others in the order of HOUR."""
    for row in range(len(of)):
        symbol = of[row]
        last = max(newest, ones[symbol].hour)
        for number in range(back):
            time = last - number * HOUR_NS
            hour = hours[symbol, time // HOUR_NS % HOURS]
            if hour.time == time:
                for check in range(len(hour.failed)):
                    sums[row, check] += hour.failed[check]
                sums[row, VOLUME_SANITY] += hour.passed
                sums[row, VOLUME_SANITY + 1] += hour.zero_sizes
                sums[row, VOLUME_SANITY + 2] += hour.duplicates
                sums[row, VOLUME_SANITY + 3] += hour.level_shifts
                sums[row, VOLUME_SANITY + 4] += hour.silences
                sums[row, VOLUME_SANITY + 5] += hour.late_ns


@njit(cache=True)
def _begin_hour(symbol, recv, ones, hours):  # type: ignore[no-untyped-def]
    one = ones[symbol]
    one.place = recv // HOUR_NS % HOURS
    one.hour = recv // HOUR_NS * HOUR_NS
    hour = hours[symbol, one.place]
    if hour.time != one.hour:
        one.changed -= hour.changed
        hour.changed = False
        hour.time = one.hour
        hour.passed = hour.zero_sizes = hour.duplicates = hour.level_shifts = hour.silences = hour.late_ns = 0
        hour.failed[:] = 0


@njit(cache=True)
def _is_far(price, deviations, symbol, count, prices):  # type: ignore[no-untyped-def]
    """Whether a price is so many (population) deviations from the mean of the good ones."""
    largest = 0.0
    for place in range(count):
        largest = max(largest, prices[symbol, place])
    # By a power of two, which changes no digit: squares of very large and very small prices have no room in a float.
    by = -math.frexp(largest)[1]
    mean = 0.0
    for place in range(count):
        mean += math.ldexp(prices[symbol, place], by)
    mean /= count
    squares = 0.0
    for place in range(count):
        away = math.ldexp(prices[symbol, place], by) - mean
        squares += away * away
    return abs(math.ldexp(price, by) - mean) > deviations * math.sqrt(squares / count)


@njit(cache=True)
def _begin_anew(symbol, ones, prices, candidates):  # type: ignore[no-untyped-def]
    """Let the candidates be the good prices."""
    one = ones[symbol]
    count = one.candidates
    for place in range(count):
        prices[symbol, place] = candidates[symbol, place]
    one.prices, one.next_price = count, count % HISTORY
    one.last_price = prices[symbol, count - 1]
    one.candidates = 0


@njit(cache=True)
def _remember_size(symbol, size, ones, sizes):  # type: ignore[no-untyped-def]
    one = ones[symbol]
    sizes[symbol, one.next_size] = size
    one.size_sum += size
    one.sizes = min(one.sizes + 1, HISTORY)
    one.next_size += 1
    if one.next_size == HISTORY:
        for place in range(HISTORY - 2, -1, -1):
            sizes[symbol, place] += sizes[symbol, place + 1]
        one.next_size, one.size_sum = 0, 0.0


@njit(cache=True)
def _note(event, row, kind, from_ns, to_ns, from_price, to_price):  # type: ignore[no-untyped-def]
    event.row, event.kind = row, kind
    event.from_ns, event.to_ns = from_ns, to_ns
    event.from_price, event.to_price = from_price, to_price
