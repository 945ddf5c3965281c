"""The compiled passes over bars of many symbols.

One pass takes a batch of trades. Each symbol has a bar under way per timeframe, made of this batch alone: trades go
into the one of the lowest timeframe, and what leaves its bucket, or is left when the batch ends, goes into the store
and into the bar under way of the next timeframe. So a trade costs the same however many timeframes there are.

The functions take long arrays, each by itself: to take a part of one, or one out of a tuple, counts references, which
costs more than the rest.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from actors.aggregation import exact_sums
from actors.aggregation.exact_sums import WORDS, add, add_sum, rounded
from actors.aggregation.kernel_cache import compile_anew_with
from storage import timeframes
from storage.timeframes import SPANS

#: A bar: `time` is the start of its bucket, `first_*` and `last_*` are (ts_event, trade_id) of the trades that gave
#: open and close. `changed`: since it was last told. Bought, sold and quote volume are exact (`exact_sums`).
BAR: Final = np.dtype(
    [
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("trade_count", "<i8"),
        ("first_ts", "<i8"),
        ("first_id", "<i8"),
        ("last_ts", "<i8"),
        ("last_id", "<i8"),
        ("bought", "<u8", WORDS),
        ("sold", "<u8", WORDS),
        ("quote", "<u8", WORDS),
        ("revision", "<i4"),
        ("closed", "?"),
        ("changed", "?"),
    ],
    align=True,
)
#: The same bars as one array of uint64: how many each has, and where its sums begin.
_FIELDS: Final[Any] = BAR.fields
STRIDE: Final = BAR.itemsize // 8
BOUGHT: Final = _FIELDS["bought"][1] // 8
SOLD: Final = _FIELDS["sold"][1] // 8
QUOTE: Final = _FIELDS["quote"][1] // 8
_STRIDE: Final = np.uint64(STRIDE)
_BOUGHT: Final = np.uint64(BOUGHT)
_SOLD: Final = np.uint64(SOLD)
_QUOTE: Final = np.uint64(QUOTE)

#: The bars of one symbol and timeframe, ascending by time, in a ring: `length` of its places from `head` on. Bars that
#: begin before `forgotten` are not here. Every bar before the `first_open`th is closed, every one before the
#: `first_changed`th told; the indicators of every one before the `first_stale`th follow from the bars. `gone`: how many
#: bars were here before.
SERIES: Final = np.dtype(
    [
        ("head", "<i8"),
        ("length", "<i8"),
        ("forgotten", "<i8"),
        ("first_open", "<i8"),
        ("first_changed", "<i8"),
        ("first_stale", "<i8"),
        ("gone", "<i8"),
    ],
    align=True,
)

LEVELS: Final = len(SPANS)
NEVER: Final = np.iinfo(np.int64).max
NOWHERE: Final = np.iinfo(np.int64).min
_SPANS: Final = tuple(int(span) for span in SPANS)
_LOWEST_SPAN: Final = np.uint64(_SPANS[0])

Array = np.ndarray[Any, np.dtype[Any]]


class Store(NamedTuple):
    """Bars of all symbols of the lowest level, then of the next ..., as many places for each of them."""

    #: BAR, and the same memory as uint64.
    rows: Array
    words: Array
    series: Array
    #: Of each level: no bar closes before this time (int64).
    due: Array


class Aside(NamedTuple):
    """What a pass could not keep: bars that had to make room before they were told, with their series, and buckets
    (series, time) of trades whose bars are not here any more. `used`: how many of both; then how many stale bars the
    series had that has most.

    There are at most as many of each as the pass has trades, for each level."""

    rows: Array
    of: Array
    buckets: Array
    used: Array


class Trades(NamedTuple):
    """A batch: codes of symbols (int32), what they mean here (uint64), times, ids, prices, sizes, sides."""

    code: Array
    symbol: Array
    ts_event: Array
    trade_id: Array
    price: Array
    size: Array
    side: Array


@intrinsic
def _fetch(typing_context, words, place):  # type: ignore[no-untyped-def]
    """Let the processor bring this place of memory near, as it will be needed soon."""

    def prefetch(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        bytes_at = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [bytes_at], ir.FunctionType(ir.VoidType(), [bytes_at, number, number, number])
        )
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), bytes_at)
        builder.call(function, [place, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(words, types.int64), prefetch


@njit(cache=True)
def mark(codes, there):  # type: ignore[no-untyped-def]
    """Set `there` of every code there is."""
    for code in codes:
        there[code] = True


@njit(cache=True)
def take(trades, most_stale, bars, sums, store, aside):  # type: ignore[no-untyped-def]
    """Put trades that were not here before into the bars, until some series has so many stale bars; how many trades.
    `bars` (and `sums`, the same memory) are those under way, one of each series: none of them has a trade before and
    after, and those of the lowest level have the time NOWHERE."""
    code_of, meaning, ts_of, id_of, price_of, size_of, side_of = trades
    rows, words, series, due = store
    aside_rows, of, buckets, used = aside
    symbols = len(bars) // LEVELS
    touched = np.empty(symbols, np.int64)
    there = i = 0
    while used[2] < most_stale:
        i = _go_on(i, code_of, meaning, ts_of, id_of, price_of, size_of, side_of, bars, sums)
        if i == len(code_of):
            break
        symbol = np.int64(meaning[code_of[i]])
        bar, own = bars[symbol], symbol * STRIDE
        if bar.trade_count > 0:
            _leave(0, symbol, bars, sums, rows, words, series, due, aside_rows, of, buckets, used)
        else:
            touched[there] = symbol
            there += 1
        bar.time = ts_of[i] // _SPANS[0] * _SPANS[0]
        bar.open = bar.high = bar.low = bar.close = price_of[i]
        bar.first_ts = bar.last_ts = ts_of[i]
        bar.first_id = bar.last_id = id_of[i]
        for word in range(own + BOUGHT, own + QUOTE + WORDS):
            sums[word] = 0
    for place in range(there):
        symbol = touched[place]
        for level in range(LEVELS):
            if bars[level * symbols + symbol].trade_count > 0:
                _leave(level, symbol, bars, sums, rows, words, series, due, aside_rows, of, buckets, used)
        bars[symbol].time = NOWHERE
    return i


@njit(cache=True)
def _go_on(i, code_of, meaning, ts_of, id_of, price_of, size_of, side_of, bars, sums):  # type: ignore[no-untyped-def]
    """Put trades from this one on into the bars under way of the lowest level, until one belongs into another bar;
    which one that is. A function of its own, as few things as these find room in the processor's registers; places have
    no sign, or each would be looked at for one."""
    at, end = np.uint64(i), np.uint64(len(code_of))
    while at < end:
        symbol, ts, price = meaning[np.uint32(code_of[at])], ts_of[at], price_of[at]
        bar, own = bars[symbol], symbol * _STRIDE
        if np.uint64(ts - bar.time) >= _LOWEST_SPAN:
            break
        if ts > bar.last_ts or (ts == bar.last_ts and id_of[at] > bar.last_id):
            bar.close, bar.last_ts, bar.last_id = price, ts, id_of[at]
        elif ts < bar.first_ts or (ts == bar.first_ts and id_of[at] < bar.first_id):
            bar.open, bar.first_ts, bar.first_id = price, ts, id_of[at]
        if price > bar.high:
            bar.high = price
        if price < bar.low:
            bar.low = price
        bar.trade_count += 1
        add(sums, own + (_BOUGHT if side_of[at] == 0 else _SOLD), size_of[at])
        add(sums, own + _QUOTE, price * size_of[at])
        at += np.uint64(1)
    return np.int64(at)


@njit(cache=True)
def close(now, rows, words, series, due):  # type: ignore[no-untyped-def]
    """Close the bars whose bucket ended at `now` or before."""
    symbols, room = len(series) // LEVELS, len(rows) // len(series)
    for level in range(LEVELS):
        if due[level] > now:
            continue
        next_due = NEVER
        for number in range(level * symbols, (level + 1) * symbols):
            one, base = series[number], number * room
            for place in range(one.first_open, one.length):
                row = rows[base + _place(one.head, place, room)]
                end = row.time + _SPANS[level]
                if not row.closed and end <= now:
                    row.closed = row.changed = True
                    one.first_changed = min(one.first_changed, place)
                elif not row.closed:
                    next_due = min(next_due, end)
            while one.first_open < one.length and rows[base + _place(one.head, one.first_open, room)].closed:
                one.first_open += 1
        due[level] = next_due


@njit(cache=True)
def count_told(open_too, rows, words, series, due):  # type: ignore[no-untyped-def]
    """How many bars `tell` will tell."""
    room, count = len(rows) // len(series), 0
    for number in range(len(series)):
        one = series[number]
        for place in range(one.first_changed, one.length):
            row = rows[number * room + _place(one.head, place, room)]
            count += row.changed and (row.closed or open_too)
    return count


@njit(cache=True)
def tell(open_too, told, of, rows, words, series, due):  # type: ignore[no-untyped-def]
    """Copy the bars that have changed, the open ones if they are wanted, with their series: they are told now."""
    room, count = len(rows) // len(series), 0
    for number in range(len(series)):
        one = series[number]
        left = one.length
        for place in range(one.first_changed, one.length):
            row = rows[number * room + _place(one.head, place, room)]
            if row.changed and (row.closed or open_too):
                row.changed = False
                told[count] = row
                of[count] = number
                count += 1
            elif row.changed:
                left = min(left, place)
        one.first_changed = left


@njit(cache=True)
def read_sums(words):  # type: ignore[no-untyped-def]
    """Volume, quote volume and buy volume of these bars, as floats."""
    count = len(words) // STRIDE
    volume, quote, bought = np.empty(count), np.empty(count), np.empty(count)
    both = np.empty(WORDS, np.uint64)
    for place in range(count):
        at = place * STRIDE
        bought[place] = rounded(words, at + BOUGHT)
        quote[place] = rounded(words, at + QUOTE)
        both[:] = words[at + BOUGHT : at + BOUGHT + WORDS]
        add_sum(both, 0, words, at + SOLD)
        volume[place] = rounded(both, 0)
    return volume, quote, bought


@njit(cache=True)
def _leave(level, symbol, bars, sums, rows, words, series, due, aside_rows, of, buckets, used):  # type: ignore[no-untyped-def]
    """Put a bar under way into the store and into the one of the next level; those that are in the way there first."""
    symbols = len(bars) // LEVELS
    top = level
    while top + 1 < LEVELS and bars[(top + 1) * symbols + symbol].trade_count > 0:
        since = bars[top * symbols + symbol].time - bars[(top + 1) * symbols + symbol].time
        if 0 <= since < _SPANS[top + 1]:
            break
        top += 1
    for this in range(top, level - 1, -1):
        at = this * symbols + symbol
        _put(at, this, bars, sums, rows, words, series, due, aside_rows, of, buckets, used)
        if this + 1 < LEVELS:
            above = bars[at + symbols]
            if above.trade_count > 0:
                _merge(bars, sums, at + symbols, bars, sums, at)
            else:
                bars[at + symbols] = bars[at]
                above.time = above.time // _SPANS[this + 1] * _SPANS[this + 1]
        bars[at].trade_count = 0


@njit(cache=True)
def _put(number, level, bars, sums, rows, words, series, due, aside_rows, of, buckets, used):  # type: ignore[no-untyped-def]
    """Merge the bar under way of a series into the store, or put it there."""
    room = len(rows) // len(series)
    one, base, time = series[number], number * room, bars[number].time
    if time < one.forgotten:
        _hand_back(number, time, buckets, used)
        return
    place = one.length
    if place > 0 and rows[base + _place(one.head, place - 1, room)].time > time:
        place = _until(rows, base, one.head, place, room, time)
    if place > 0:
        at = base + _place(one.head, place - 1, room)
        row = rows[at]
        if row.time == time:
            _merge(rows, words, at, bars, sums, number)
            row.revision += row.closed
            row.changed = True
            one.first_changed = min(one.first_changed, place - 1)
            one.first_stale = min(one.first_stale, place - 1)
            return
    if one.length == room:
        if place == 0:
            _hand_back(number, time, buckets, used)
            return
        _let_oldest_go(number, rows, series, aside_rows, of, used)
        place -= 1
    for later in range(one.length, place, -1):
        rows[base + _place(one.head, later, room)] = rows[base + _place(one.head, later - 1, room)]
    at = base + _place(one.head, place, room)
    rows[at] = bars[number]
    row = rows[at]
    row.revision, row.closed, row.changed = 0, False, True
    one.length += 1
    one.first_open = min(one.first_open, place)
    one.first_changed = min(one.first_changed, place)
    one.first_stale = min(one.first_stale, place)
    used[2] = max(used[2], one.length - one.first_stale)
    due[level] = min(due[level], time + _SPANS[level])
    # The next one, which is far away where there are many series.
    following = (base + _place(one.head, one.length if one.length < room else 0, room)) * STRIDE
    for word in range(0, STRIDE, 8):
        _fetch(words, following + word)


@njit(cache=True, inline="always")
def _place(head, place, room):  # type: ignore[no-untyped-def]
    """Where in the ring."""
    at = head + place
    return at - room if at >= room else at


@njit(cache=True)
def _merge(rows, words, at, others, other_words, other):  # type: ignore[no-untyped-def]
    bar, more = rows[at], others[other]
    bar.high = max(bar.high, more.high)
    bar.low = min(bar.low, more.low)
    if more.first_ts < bar.first_ts or (more.first_ts == bar.first_ts and more.first_id < bar.first_id):
        bar.open, bar.first_ts, bar.first_id = more.open, more.first_ts, more.first_id
    if more.last_ts > bar.last_ts or (more.last_ts == bar.last_ts and more.last_id > bar.last_id):
        bar.close, bar.last_ts, bar.last_id = more.close, more.last_ts, more.last_id
    bar.trade_count += more.trade_count
    add_sum(words, at * STRIDE + BOUGHT, other_words, other * STRIDE + BOUGHT)
    add_sum(words, at * STRIDE + SOLD, other_words, other * STRIDE + SOLD)
    add_sum(words, at * STRIDE + QUOTE, other_words, other * STRIDE + QUOTE)


@njit(cache=True)
def _until(rows, base, head, length, room, time):  # type: ignore[no-untyped-def]
    """How many bars of a series begin at this time or before."""
    low, high = 0, length
    while low < high:
        middle = (low + high) // 2
        if rows[base + _place(head, middle, room)].time <= time:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _let_oldest_go(number, rows, series, aside_rows, of, used):  # type: ignore[no-untyped-def]
    room = len(rows) // len(series)
    one = series[number]
    oldest = rows[number * room + one.head]
    if oldest.changed or not oldest.closed:
        aside_rows[used[0]] = oldest
        of[used[0]] = number
        used[0] += 1
    one.head = _place(one.head, 1, room)
    one.length -= 1
    one.forgotten = oldest.time + 1
    one.first_open = max(one.first_open - 1, 0)
    one.first_changed = max(one.first_changed - 1, 0)
    one.first_stale = max(one.first_stale - 1, 0)
    one.gone += 1


@njit(cache=True)
def _hand_back(number, time, buckets, used):  # type: ignore[no-untyped-def]
    buckets[used[1], 0], buckets[used[1], 1] = number, time
    used[1] += 1


compile_anew_with(
    [mark, take, close, count_told, tell, read_sums, _go_on, _leave, _put, _merge, _until, _let_oldest_go, _hand_back],
    [exact_sums, timeframes],
)
