"""Bars of all timeframes from trades, the same whatever the order and the cutting of batches.

Open and close are decided by (ts_event, trade_id) and sums are exact, so a bar depends on its trades alone: a late
trade revises the bar of each timeframe it belongs to and touches no other. Time is passed in; buckets without trades
have no bar.
"""

import mmap
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.aggregation import bar_kernels as kernels
from actors.aggregation.bar_indicators import count_stale, follow, to_indicators
from actors.aggregation.bar_kernels import BAR, LEVELS, NEVER, NOWHERE, SERIES, Array, Aside, Store, Trades
from actors.aggregation.bar_tables import from_history, timeframes_of, to_bars, to_history
from actors.aggregation.indicators import FIELDS, LOOK_BACK, STATE, advance
from storage.schema import BARS, ORDER_ID, TRADES, symbols_of
from storage.timeframes import NAMES, SPANS, TIMEFRAMES

#: With fewer bars there are no indicators.
LEAST_FOR_INDICATORS: Final = 250
#: Bars that one pass may add to a series beyond the bound on stale ones.
_SPARE: Final = 16
#: Memory from this size on is taken page by page, as it is used.
_SPARSE_BYTES: Final = 256 << 20
#: Trades of one pass.
_PASS: Final = 262_144
#: Symbols there is room for at first.
_SYMBOLS: Final = 8
#: The names of codes that no symbol has begin so, as no symbol does.
_FREE: Final = "\0"
#: Columns of the kernels beside the symbol.
_COLUMNS: Final = ("ts_event", "trade_id", "price", "size", "side")

#: The timeframe and start of a bar of a symbol.
Bucket = tuple[str, str, int]


class Bars:
    """The newest bars of a set of symbols of one exchange, at most `keep` of each symbol and timeframe, and their
    indicators where `keep` is LEAST_FOR_INDICATORS or more: these look back at some 200 bars."""

    def __init__(self, keep: int, grace_ns: int) -> None:
        self._keep = keep
        self._grace_ns = grace_ns
        self._codes: dict[str, int] = {}
        #: Codes of symbols that were let go of.
        self._free: list[int] = []
        self._room = _SYMBOLS
        self._store = _store(_SYMBOLS, keep)
        self._under_way = _under_way(_SYMBOLS)
        self._states = _states(_SYMBOLS, keep)
        self._most_stale = keep - LOOK_BACK - _SPARE if keep >= LEAST_FOR_INDICATORS else NEVER
        #: Indicators not told yet: series, times and values.
        self._said: list[tuple[Array, Array, Array]] = []
        #: Bars that had to make room, with their series, not told yet.
        self._gone: list[tuple[Array, Array]] = []

    @property
    def symbols(self) -> list[str]:
        return [name for name in self._codes if not name.startswith(_FREE)]

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._codes

    @property
    def _names(self) -> list[str]:
        """By code, those without a symbol too."""
        return list(self._codes)

    def forget(self, symbol: str) -> None:
        """Let go of a symbol and its bars, told or not."""
        if (code := self._codes.get(symbol)) is None:
            return
        self._name(code, f"{_FREE}{code}")
        self._free.append(code)
        numbers = np.arange(LEVELS) * self._room + code
        for number in numbers[self._store.series["length"][numbers] > 0].tolist():
            one = self._store.series[number]
            # No further: memory nobody has written to must stay so.
            used = self._keep if one["head"] else int(one["length"])
            own = slice(number * self._keep, number * self._keep + used)
            self._store.rows[own], self._states[own] = np.zeros(1, BAR), np.zeros(1, STATE)
        self._store.series[numbers] = _unused(1)
        self._gone = [(rows[kept], of[kept]) for rows, of in self._gone for kept in (of % self._room != code,)]
        self._said = [
            (of[kept], times[kept], values[kept])
            for of, times, values in self._said
            for kept in (of % self._room != code,)
        ]

    def reserve(self, symbols: int) -> None:
        """Have room for so many, that are about to come."""
        if symbols > self._room:
            self._grow(symbols)

    def update(self, trades: pa.RecordBatch) -> list[Bucket]:
        """Merge a batch (`storage.schema.TRADES`) of trades not seen before, of any symbols in any order.

        Gives the buckets whose bar was let go already: the caller reads the trades of each back and hands them to
        `rebuilt`.
        """
        names, codes = symbols_of(trades)
        if not self._codes.keys() >= set(names):
            # Not every name need be of a symbol that has trades here.
            there = np.zeros(len(names), bool)
            kernels.mark(codes, there)
            for place in np.flatnonzero(there):
                self._code(names[place])
        meaning = np.array([self._codes.get(name, 0) for name in names], np.uint64)
        columns = [codes, *(np.asarray(trades.column(name)) for name in _COLUMNS)]
        known, lost = self._names, dict[Bucket, None]()
        aside = _aside(min(trades.num_rows, _PASS))
        begin = 0
        while begin < trades.num_rows:
            codes, *given = (column[begin : begin + _PASS] for column in columns)
            part = Trades(codes, meaning, *given)
            begin += kernels.take(part, self._most_stale, *self._under_way, self._store, aside)
            gone, handed_back, stale = aside.used.tolist()
            if stale >= self._most_stale:
                # Before the bars go that these look back at.
                self._follow()
            if gone:
                rows = aside.rows[:gone].copy()
                # Whatever comes for them now is late.
                rows["closed"] = True
                self._gone.append((rows, aside.of[:gone].copy()))
            for number, time in aside.buckets[:handed_back].tolist():
                level, code = divmod(number, self._room)
                lost[known[code], NAMES[level], time] = None
                # What is rebuilt from the trades is newer.
                self._gone = [
                    (rows[keep], of[keep])
                    for rows, of in self._gone
                    for keep in ((of != number) | (rows["time"] != time),)
                ]
            aside.used[:] = 0
        return list(lost)

    def close(self, now_ns: int) -> None:
        """Close the bars whose bucket ended at least the grace before `now_ns`."""
        kernels.close(now_ns - self._grace_ns, *self._store)

    def changed(self, open_too: bool = False) -> pa.RecordBatch:
        """The bars (`storage.schema.BARS`) that closed or changed since they were last told, also open ones if they are
        wanted."""
        count = kernels.count_told(open_too, *self._store)
        rows, of = np.empty(count, BAR), np.empty(count, np.int64)
        kernels.tell(open_too, rows, of, *self._store)
        gone, self._gone = [*self._gone, (rows, of)], []
        return self._to_arrow(*(np.concatenate(parts) for parts in zip(*gone, strict=True)))

    def indicators(self) -> pa.RecordBatch:
        """Those (`storage.schema.INDICATORS`) of closed bars that are new or other than at the last call."""
        self._follow()
        said, self._said = self._said, []
        if not said:
            said = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, len(FIELDS))))]
        numbers, times, values = (np.concatenate(parts) for parts in zip(*said, strict=True))
        levels, codes = np.divmod(numbers, self._room)
        return to_indicators(levels, codes, times, values, self._names)

    def newest_indicators(self, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """Of the newest `limit` bars of a symbol that are closed and have others to look back at."""
        self._follow()
        level, code = NAMES.index(timeframe), self._codes.get(symbol, 0)
        rows = self._rows(symbol, level)
        one, places = self._store.series[level * self._room + code], self._places(level, code)[: len(rows)]
        end = min(int(one["first_stale"]), len(rows)) if self._most_stale != NEVER else 0
        begin = max(end - limit, LOOK_BACK if one["gone"] else 0)
        count = max(end - begin, 0)
        volume, _, _ = kernels.read_sums(np.ascontiguousarray(rows).view(np.uint64))
        values = np.empty((count, len(FIELDS)))
        if count:
            before = self._states[places[begin - 1]] if begin else np.zeros(1, STATE)[0]
            prices = (np.ascontiguousarray(rows[name][:end]) for name in ("high", "low", "close"))
            advance(*prices, volume[:end], begin, before, np.zeros(count, STATE), values)
        times = rows["time"][begin : begin + count]
        return to_indicators(np.full(count, level), np.full(count, code), times, values, self._names)

    def newest(self, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """The newest `limit` bars of a symbol, ascending, the open one too; empty for a symbol without bars. ValueError
        for an unknown timeframe."""
        level = NAMES.index(timeframe)
        rows = self._rows(symbol, level)
        rows = rows[max(len(rows) - limit, 0) :]
        return self._to_arrow(rows, np.full(len(rows), level * self._room + self._codes.get(symbol, 0)))

    def history(self, symbol: str, before_ns: int) -> pa.RecordBatch:
        """The bars of a symbol that begin before then (`storage.bar_history.HISTORY`), but those of the lowest
        timeframe."""
        parts = [self._rows(symbol, level) for level in range(1, LEVELS)]
        levels = np.repeat(np.arange(1, LEVELS), [len(rows) for rows in parts])
        rows = np.concatenate(parts)
        code = self._codes[symbol]
        states = np.concatenate([self._states[self._places(level, code)] for level in range(1, LEVELS)])
        over = rows["time"] < before_ns
        return to_history(rows[over], levels[over], states[over])

    def restore(self, symbol: str, history: pa.RecordBatch) -> None:
        """Begin a symbol that has no bars with those of its history: closed, and told."""
        code = self._code(symbol)
        rows, levels, states = from_history(history)
        for level in range(LEVELS):
            mine, of_mine = (column[levels == level][-self._keep :] for column in (rows, states))
            number = level * self._room + code
            self._store.rows[number * self._keep :][: len(mine)] = mine
            self._states[number * self._keep :][: len(mine)] = of_mine
            for field in ("length", "first_open", "first_changed", "first_stale"):
                self._store.series[field][number] = len(mine)
            self._store.series["gone"][number] = of_mine["count"][0] - 1 if len(mine) else 0

    def begin(self, starts: Mapping[str, tuple[int, int]]) -> None:
        """All trades of these symbols from a time on were taken (`from_ns`), and bars that ended before another time
        (`told_ns`) have been told. Of the time before their first bars nothing is here: trades for it are handed back.
        """
        codes = [self._code(symbol) for symbol in starts]
        told_ns = np.full(self._room, NOWHERE)
        for code, (symbol, (from_ns, told)) in zip(codes, starts.items(), strict=True):
            told_ns[code] = told
            for level, span in enumerate(TIMEFRAMES.values()):
                rows, one = self._rows(symbol, level), self._store.series[level * self._room + code]
                one["forgotten"] = max(int(one["forgotten"]), int(rows["time"][0]) if len(rows) else from_ns)
                count = int(np.count_nonzero(rows["time"] + span < told))
                places = self._places(level, code)[:count]
                self._store.rows["changed"][places] = False
                self._store.rows["closed"][places] = True
                one["first_open"] = one["first_changed"] = count
        self._follow()
        self._said = [
            (of[new], times[new], values[new])
            for of, times, values in self._said
            for new in (times + SPANS[of // self._room] >= told_ns[of % self._room],)
            if new.any()
        ]
        begun = told_ns != NOWHERE
        self._gone = [
            (rows[kept], of[kept]) for rows, of in self._gone for kept in (~begun[of % self._room],) if kept.any()
        ]

    def _follow(self) -> None:
        if self._most_stale == NEVER or not (count := count_stale(self._store.rows, self._store.series)):
            return
        of, times, values = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((count, len(FIELDS)))
        store = self._store
        count = follow(store.rows, store.words, store.series, self._states, of, times, values)
        if count:
            self._said.append((of[:count], times[:count], values[:count]))

    def _rows(self, symbol: str, level: int) -> Array:
        """A copy, ascending; empty for a symbol without bars."""
        code = self._codes.get(symbol)
        return self._store.rows[:0] if code is None else self._store.rows[self._places(level, code)]

    def _places(self, level: int, code: int) -> Array:
        number = level * self._room + code
        one = self._store.series[number]
        return number * self._keep + (int(one["head"]) + np.arange(int(one["length"]))) % self._keep

    def _code(self, symbol: str) -> int:
        code = self._codes.get(symbol)
        if code is None and self._free:
            code = self._free.pop()
            self._name(code, symbol)
        elif code is None:
            code = self._codes[symbol] = len(self._codes)
            if code == self._room:
                self._grow(2 * self._room)
        return code

    def _name(self, code: int, symbol: str) -> None:
        self._codes = {symbol if own == code else name: own for name, own in self._codes.items()}

    def _grow(self, symbols: int) -> None:
        larger, states = _store(symbols, self._keep), _states(symbols, self._keep)
        larger.series.reshape(LEVELS, symbols)[:, : self._room] = self._store.series.reshape(LEVELS, self._room)
        for number in np.flatnonzero(self._store.series["length"]).tolist():
            one, level = self._store.series[number], number // self._room
            old, new = number * self._keep, (level * symbols + number % self._room) * self._keep
            # No further: memory nobody has written to must stay so.
            used = self._keep if one["head"] else int(one["length"])
            larger.rows[new : new + used] = self._store.rows[old : old + used]
            states[new : new + used] = self._states[old : old + used]
        self._gone = [(rows, of // self._room * symbols + of % self._room) for rows, of in self._gone]
        self._said = [(of // self._room * symbols + of % self._room, *rest) for of, *rest in self._said]
        self._store, self._room, self._states = larger._replace(due=self._store.due), symbols, states
        self._under_way = _under_way(symbols)

    def _to_arrow(self, rows: Array, numbers: Array) -> pa.RecordBatch:
        levels, codes = np.divmod(numbers, self._room)
        return to_bars(rows, timeframes_of(levels), codes, self._names)


def _store(symbols: int, keep: int) -> Store:
    rows, series = _zeros(LEVELS * symbols * keep, BAR), _unused(LEVELS * symbols)
    return Store(rows, rows.view(np.uint64), series, np.full(LEVELS, NEVER, np.int64))


def _unused(count: int) -> Array:
    series = np.zeros(count, SERIES)
    series["forgotten"] = NOWHERE
    return series


def _under_way(symbols: int) -> tuple[Array, Array]:
    bars = np.zeros(LEVELS * symbols, BAR)
    bars["time"] = NOWHERE
    return bars, bars.view(np.uint64)


def _states(symbols: int, keep: int) -> Array:
    return _zeros(LEVELS * symbols * keep, STATE)


def _zeros(count: int, kind: "np.dtype[Any]") -> Array:
    """Rows that take memory once they are written to. numpy asks for pages of 2 MB, which is quicker; but so many bars
    would all be in memory from the first of each series on."""
    size = count * kind.itemsize
    if size < _SPARSE_BYTES:
        return np.zeros(count, kind)
    memory = mmap.mmap(-1, size)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, kind)


def _aside(trades: int) -> Aside:
    most = LEVELS * trades
    return Aside(np.empty(most, BAR), np.empty(most, np.int64), np.empty((most, 2), np.int64), np.zeros(3, np.int64))


def rebuilt(trades: pa.RecordBatch, timeframe: str) -> pa.RecordBatch:
    """The bars of these trades alone, closed and revised."""
    bars = Bars(1, 0)
    bars.update(trades)
    bars.close(NEVER)
    made = bars.changed()
    mine = made.filter(pa.array(np.asarray(made.column("timeframe")) == timeframe))
    revised = pa.array(np.ones(mine.num_rows, np.int32))
    return mine.set_column(mine.schema.get_field_index("revision"), BARS.field("revision"), revised)


def warm_up() -> None:
    """Compile (or load from numba's cache) before the first batch has to wait for it."""
    columns: list[Any] = [pa.array([""]).dictionary_encode()]
    columns += [pa.array([1], field.type) for field in TRADES if field.name in ("ts_event", "ts_recv", "trade_id")]
    columns += [pa.array([1.0]), pa.array([1.0]), pa.array([0], pa.uint8()), *[pa.nulls(1, ORDER_ID)] * 2]
    bars = Bars(1, 0)
    bars.update(pa.RecordBatch.from_arrays(columns, schema=TRADES))
    bars.close(NEVER)
    bars.changed()
