"""Judges trades: whether each is plausible beside those that came before it, by four checks.

A verdict changes nothing about a trade, it is stored and counted in bars like every other. It depends on the trades of
its symbol that came before and on their two times, never on a clock or on how batches are cut: a replay says the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from actors.aggregation import quality_kernels as kernels
from actors.aggregation.quality_kernels import (
    DATA_FRESHNESS,
    EVENT,
    HISTORY,
    HOUR,
    HOUR_NS,
    HOURS,
    PRICE_ANOMALY,
    STATE,
    VALID_VALUES,
    VOLUME_SANITY,
    Array,
    Rules,
    Symbols,
    Trades,
)
from storage.schema import ORDER_ID, QUALITY, TRADES, symbols_of

#: The checks in their order, as everybody sees them.
CHECKS: Final = {
    VALID_VALUES: "valid_values",
    DATA_FRESHNESS: "data_freshness",
    PRICE_ANOMALY: "price_anomaly",
    VOLUME_SANITY: "volume_sanity",
}
#: Columns of the kernel beside the symbol.
_COLUMNS: Final = ("ts_event", "ts_recv", "trade_id", "price", "size")
#: Symbols there is room for at first, and events between two looks at them.
SYMBOLS: Final = 8
_EVENTS: Final = 256
_NO_EVENTS: Final[Array] = np.empty(0, EVENT)


class Judgement(NamedTuple):
    """Of each trade of a batch its verdict (uint8; 0: it passed), and of those that fail the value (float64) that made
    them; and the events (EVENT) they showed."""

    verdicts: Array
    values: Array
    events: Array


class Quality:
    """What is known of the trades of one exchange's symbols.

    `states` (STATE) is what is known already, at least one, and where all of it is written; `grow(count)` gives an
    array of that many, the first ones as they were. Without them everything is in memory. Those of symbols that are not
    `mine` stay there for whoever adopts them.
    """

    def __init__(
        self,
        rules: Rules,
        states: Array | None = None,
        grow: Callable[[int], Array] | None = None,
        mine: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._rules = rules
        self._states = np.zeros(SYMBOLS, STATE) if states is None else states
        self._grow = grow or self._larger
        self._events = np.empty(_EVENTS, EVENT)
        unsound = np.flatnonzero(~_are_sound(self._states))
        self._states[unsound] = np.zeros(len(unsound), STATE)
        names = self._states["symbol"].tolist()
        codes = {_name(name): code for code, name in enumerate(names) if name}
        self._codes = {symbol: code for symbol, code in codes.items() if mine(symbol)}
        self._others = {symbol: code for symbol, code in codes.items() if symbol not in self._codes}
        self._free = [code for code, name in enumerate(names) if not name][::-1]
        self._look()
        # Whether they arrived nobody knows.
        for code in self._codes.values():
            self._tell_again(code, int(self._symbols.one["hour"][code]))

    @property
    def symbols(self) -> list[str]:
        return list(self._codes)

    def judge_by(self, rules: Rules) -> None:
        """Other rules for what comes from now on."""
        self._rules = rules

    def judge(self, trades: pa.RecordBatch) -> Judgement:
        """Judge a batch (`storage.schema.TRADES`) of trades not judged before, those of a symbol in the order they
        came. OSError when there is no room for further symbols; nothing is judged then."""
        names, codes = symbols_of(trades)
        if not self._codes.keys() >= set(names):
            # Not every name need be of a symbol that has trades here.
            for place in np.unique(codes):
                self._code(names[place])
        meaning = np.array([self._codes.get(name, 0) for name in names], np.int64)
        batch = Trades(codes, meaning, *(np.asarray(trades.column(name)) for name in _COLUMNS))
        verdicts, values = np.empty(trades.num_rows, np.uint8), np.empty(trades.num_rows)
        events = _NO_EVENTS
        place = 0
        while place < trades.num_rows:
            place, count = kernels.judge(place, batch, self._rules, self._symbols, verdicts, values, self._events)
            if count:
                events = np.concatenate([events, self._events[:count]])
        return Judgement(verdicts, values, events)

    def are_newer(self, symbol: str, ts_event: Array, trade_id: Array) -> Array:
        """Which of these trades are newer, by (ts_event, trade_id), than any that was judged."""
        code = self._codes.get(symbol)
        if code is None:
            return np.ones(len(ts_event), bool)
        one = self._states["one"][code]
        after = (ts_event == one["judged_ts"]) & (trade_id > one["judged_id"])
        newer: Array = (ts_event > one["judged_ts"]) | after
        return newer

    def count_duplicates(self, symbol: str, ts_recv: int, count: int) -> None:
        """So many trades came then that were stored before."""
        kernels.count_duplicates(self._code(symbol), ts_recv, count, self._symbols.one, self._symbols.hours)

    def reports(self, symbols: Sequence[str], hours: int, now_ns: int) -> list[dict[str, Any]]:
        """A row for each of these symbols that is known, about the newest `hours` (UTC, by ts_recv; at most `HOURS`),
        the running one included; `score` and `last_trade` (ts_event) are those of now. `lateness_ms` is the mean of
        ts_recv - ts_event of trades that were fresh. What no trade says anything about is None."""
        known = [symbol for symbol in symbols if symbol in self._codes]
        codes = np.array([self._codes[symbol] for symbol in known], np.int64)
        sums = np.zeros((len(codes), len(CHECKS) + len(_COUNTED)), np.int64)
        kernels.add_up(codes, now_ns // HOUR_NS * HOUR_NS, hours, sums, self._symbols.one, self._symbols.hours)
        now = [self._symbols.one[name][codes].tolist() for name in ("score", "newest")]
        return [
            _report(symbol, hours, one, score, newest)
            for symbol, one, score, newest in zip(known, sums.tolist(), *now, strict=True)
        ]

    def changed(self) -> pa.RecordBatch:
        """The hours (`storage.schema.QUALITY`) that are other than when they were last told."""
        most = int(self._symbols.one["changed"].sum())
        told, of = np.empty(most, HOUR), np.empty(most, np.int64)
        count = kernels.tell(told, of, self._symbols.one, self._symbols.hours)
        rows = told[:count]
        failed, fresh = rows["failed"], rows["passed"] + rows["failed"][:, PRICE_ANOMALY - 1 :].sum(axis=1)
        names: Any = pa.array([_name(symbol) for symbol in self._states["symbol"][of[:count]].tolist()], pa.string())
        columns: dict[str, Any] = {
            "symbol": names.dictionary_encode(),
            "total": pa.array(rows["passed"] + failed.sum(axis=1)),
            "lateness_ms": pa.array(rows["late_ns"] / np.maximum(fresh, 1) / 1e6, mask=fresh == 0),
        }
        columns |= {name: pa.array(failed[:, check - 1].copy()) for check, name in CHECKS.items()}
        columns |= {name: pa.array(rows[name].copy()) for name in QUALITY.names if name not in columns}
        return pa.RecordBatch.from_arrays([columns[name] for name in QUALITY.names], schema=QUALITY)

    def untold(self, told: pa.RecordBatch) -> None:
        """What `changed` gave did not arrive."""
        names, codes = symbols_of(told)
        for code, time in zip(codes, np.asarray(told.column("time")).tolist(), strict=True):
            if names[code] in self._codes:
                self._tell_again(self._codes[names[code]], time)

    def adopt(self, states: Array, mine: Callable[[str], bool]) -> None:
        """Take from other states what is newer here of symbols that are mine."""
        for state in states[_are_sound(states)]:
            symbol = _name(state["symbol"])
            known = self._codes.get(symbol)
            if mine(symbol) and (known is None or self._states["one"]["judged"][known] < state["one"]["judged"]):
                code = self._code(symbol)
                self._states[code] = state

    def state(self, symbol: str) -> Array:
        """A copy of what is known of a symbol, for `adopt`; no row where nothing is."""
        code = self._codes.get(symbol)
        return self._states[:0].copy() if code is None else self._states[code : code + 1].copy()

    def forget(self, symbol: str) -> None:
        """Let go of a symbol."""
        if (code := self._codes.pop(symbol, self._others.pop(symbol, None))) is not None:
            # First: what has a name is whole.
            self._states["symbol"][code] = b""
            self._states[code] = np.zeros(1, STATE)[0]
            self._free.append(code)

    def _tell_again(self, code: int, time: int) -> None:
        hour = self._states["hours"][code][time // HOUR_NS % HOURS]
        if hour["time"] == time and not hour["changed"]:
            hour["changed"] = True
            self._states["one"]["changed"][code] += 1

    def _code(self, symbol: str) -> int:
        code = self._codes.get(symbol)
        if code is None:
            if not self._free and symbol not in self._others:
                room = len(self._states)
                self._states = self._grow(2 * room)
                self._free += range(2 * room - 1, room - 1, -1)
                self._look()
            if (code := self._others.pop(symbol, None)) is None:
                code = self._free.pop()
            self._codes[symbol] = code
            self._states["one"]["score"][code] = 1.0
            # Last: what has a name is whole.
            self._states["symbol"][code] = symbol.encode()
        return code

    def _larger(self, count: int) -> Array:
        return np.concatenate([self._states, np.zeros(count - len(self._states), STATE)])

    def _look(self) -> None:
        self._symbols = Symbols(*(self._states[name] for name in Symbols._fields))


#: What a report adds up, after the failures by check.
_COUNTED: Final = ("passed", "zero_sizes", "duplicates", "level_shifts", "silences", "late_ns")


def _report(symbol: str, hours: int, sums: list[int], score: float, newest: int) -> dict[str, Any]:
    failed = dict(zip(CHECKS.values(), sums, strict=False))
    passed, zero_sizes, duplicates, level_shifts, silences, late_ns = sums[len(CHECKS) :]
    total = passed + sum(failed.values())
    fresh = total - failed["valid_values"] - failed["data_freshness"]
    return {
        "symbol": symbol,
        "hours": hours,
        "quality_score": passed / total if total else None,
        "score": score,
        "total_checks": total,
        "passed_checks": passed,
        "failed_checks": total - passed,
        "failed": failed,
        "zero_sizes": zero_sizes,
        "duplicates": duplicates,
        "level_shifts": level_shifts,
        "silences": silences,
        "lateness_ms": late_ns / fresh / 1e6 if fresh else None,
        "last_trade": newest or None,
    }


def _name(symbol: bytes) -> str:
    return symbol.decode(errors="replace")


def explain(check: int, value: float, threshold: float) -> str:
    """What was wrong with a trade, in words."""
    match check:
        case kernels.VALID_VALUES:
            return f"{value:g} is no price above 0 or size of 0 or more"
        case kernels.DATA_FRESHNESS if np.isnan(value):
            return "it has no time"
        case kernels.DATA_FRESHNESS:
            when = "after" if value > 0 else "before"
            return f"received {abs(value):.3g} s {when} it was made, more than {abs(threshold):g} s"
        case kernels.PRICE_ANOMALY:
            return (
                f"its price is {value:.3%} from the last good one, more than {threshold:.3%}, and far from the others"
            )
        case _:
            return f"its size is {value:.4g} times the mean, more than {threshold:g} times"


def thresholds(verdicts: Array, values: Array, rules: Rules) -> Array:
    """What each of these values should not have passed."""
    by_check: Mapping[int, Any] = {
        VALID_VALUES: 0.0,
        DATA_FRESHNESS: np.where(values < 0, -rules.early_ns, rules.late_ns) / 1e9,
        PRICE_ANOMALY: rules.change,
        VOLUME_SANITY: rules.ratio,
    }
    return np.select([verdicts == check for check in by_check], list(by_check.values()))


def _are_sound(states: Array) -> Array:
    """Which states the kernels can use: a damaged file must not let them write elsewhere."""
    one, within = states["one"], np.ones(len(states), bool)
    for name, end in (("prices", HISTORY + 1), ("next_price", HISTORY), ("sizes", HISTORY + 1), ("next_size", HISTORY),
                      ("candidates", HISTORY), ("place", HOURS), ("changed", HOURS + 1)):  # fmt: skip
        within &= (one[name] >= 0) & (one[name] < end)
    sound: Array = within & (states["symbol"] != b"")
    return sound


def warm_up() -> None:
    """Compile (or load from numba's cache) before the first batch has to wait for it."""
    columns: list[Any] = [pa.array(["A"] * 2).dictionary_encode()]
    columns += [pa.array([1] * 2, field.type) for field in TRADES if field.name in ("ts_event", "ts_recv", "trade_id")]
    columns += [pa.array([1.0] * 2), pa.array([1.0] * 2), pa.array([0] * 2, pa.uint8()), *[pa.nulls(2, ORDER_ID)] * 2]
    quality = Quality(Rules(1, 1, 1.0, 1.0, 1.0, kernels.LEAST, 1))
    quality.judge(pa.RecordBatch.from_arrays(columns, schema=TRADES))
    quality.count_duplicates("A", 1, 1)
    quality.reports(["A"], 1, 1)
    quality.changed()
