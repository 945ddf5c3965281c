"""One-minute bars from trades, the same whatever the order and the cutting of batches.

A compiled pass turns a batch into one partial bar per symbol and minute, and partial bars are merged into
those kept. Open and close are decided by (ts_event, trade_id), so a late trade revises the bar it belongs to
and touches no other. Time is passed in; minutes without trades have no bar.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

from storage.schema import BARS, MINUTE, symbols_of

BUCKET_NS: Final = 60_000_000_000

#: A bar as it is kept: `first_*` and `last_*` are (ts_event, trade_id) of the trades that gave open and close.
BAR: Final = np.dtype(
    [
        ("symbol", "<i4"),
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<f8"),
        ("quote_volume", "<f8"),
        ("trade_count", "<i8"),
        ("buy_volume", "<f8"),
        ("first_ts", "<i8"),
        ("first_id", "<i8"),
        ("last_ts", "<i8"),
        ("last_id", "<i8"),
        ("revision", "<i4"),
        ("closed", "?"),
        ("changed", "?"),
    ]
)

Rows = np.ndarray[Any, np.dtype[np.void]]


@njit(cache=True)
def partial_bars(symbol, ts_event, trade_id, price, size, side, symbols, out):  # type: ignore[no-untyped-def]
    """Fill `out` (BAR, one row per trade is enough) with one row per (symbol, minute); gives the row count.

    `symbol` holds codes below `symbols`; `side` is 0 buy, 1 sell. Trades may come in any order.
    """
    newest = np.full(symbols, -1, np.int64)
    previous = np.empty(len(ts_event), np.int64)
    count = 0
    for i in range(len(ts_event)):
        time = ts_event[i] // BUCKET_NS * BUCKET_NS
        row = newest[symbol[i]]
        while row >= 0 and out[row].time != time:
            row = previous[row]
        ts, identity, p, s = ts_event[i], trade_id[i], price[i], size[i]
        if row < 0:
            row = count
            count += 1
            previous[row] = newest[symbol[i]]
            newest[symbol[i]] = row
            bar = out[row]
            bar.symbol, bar.time = symbol[i], time
            bar.open = bar.high = bar.low = bar.close = p
            bar.volume = bar.quote_volume = bar.buy_volume = 0.0
            bar.trade_count = 0
            bar.first_ts = bar.last_ts = ts
            bar.first_id = bar.last_id = identity
        bar = out[row]
        bar.high = max(bar.high, p)
        bar.low = min(bar.low, p)
        if ts < bar.first_ts or (ts == bar.first_ts and identity < bar.first_id):
            bar.open, bar.first_ts, bar.first_id = p, ts, identity
        if ts > bar.last_ts or (ts == bar.last_ts and identity > bar.last_id):
            bar.close, bar.last_ts, bar.last_id = p, ts, identity
        bar.volume += s
        bar.quote_volume += p * s
        bar.trade_count += 1
        if side[i] == 0:
            bar.buy_volume += s
    return count


class Bars:
    """The newest bars of a set of symbols of one exchange, at most `keep` closed ones per symbol."""

    def __init__(self, keep: int, grace_ns: int) -> None:
        self._keep = keep
        self._grace_ns = grace_ns
        self._codes: dict[str, int] = {}
        self._rows: list[Rows] = []
        #: Per symbol: bars before this time were let go; trades for them cannot be merged here.
        self._forgotten_before: list[int] = []

    @property
    def symbols(self) -> list[str]:
        return list(self._codes)

    def update(self, trades: pa.RecordBatch) -> list[tuple[str, int]]:
        """Merge a batch (`storage.schema.TRADES`) of trades not seen before.

        Gives the (symbol, minute) pairs whose bar was let go already: the caller reads that minute's trades
        back and hands them to `rebuild`.
        """
        names, codes = symbols_of(trades)
        mine = np.full(len(names), -1, np.int32)
        for code in np.unique(codes):
            mine[code] = self._code(names[code])
        symbol = mine[codes]
        out = np.zeros(trades.num_rows, BAR)
        columns = (np.asarray(trades.column(name)) for name in _KERNEL_COLUMNS)
        count = partial_bars(symbol, *columns, len(self._codes), out)
        forgotten = []
        for partial in out[:count]:
            code = int(partial["symbol"])
            if partial["time"] < self._forgotten_before[code]:
                forgotten.append((self.symbols[code], int(partial["time"])))
            else:
                self._merge(code, partial)
        return forgotten

    def rebuild(self, trades: pa.RecordBatch) -> pa.RecordBatch:
        """The bars of `trades` alone, all closed and revised, without keeping them."""
        once = Bars(self._keep, 0)
        once.update(trades)
        once.close(np.iinfo(np.int64).max)
        for rows in once._rows:
            rows["revision"] = 1
        return once.changed()

    def forget_before(self, symbol: str, time_ns: int) -> None:
        """Bars of this symbol that start before `time_ns` are not here: trades for them are handed back."""
        self._forgotten_before[self._code(symbol)] = time_ns

    def close(self, now_ns: int) -> None:
        """Close the bars whose minute ended at least the grace before `now_ns`; let old ones go."""
        for code, rows in enumerate(self._rows):
            # Times ascend: everything before the first open bar is closed already.
            due = (rows["time"] <= now_ns - self._grace_ns - BUCKET_NS) & ~rows["closed"]
            if due.any():
                rows["closed"] |= due
                rows["changed"] |= due
            if len(rows) > self._keep and not rows["changed"][: -self._keep].any():
                self._rows[code] = rows[-self._keep :].copy()
                self._forgotten_before[code] = int(self._rows[code]["time"][0])

    def changed(self) -> pa.RecordBatch:
        """The bars (`storage.schema.BARS`) that changed since the last call."""
        changed = [rows[rows["changed"]] for rows in self._rows]
        for rows in self._rows:
            rows["changed"] = False
        return self._to_arrow(changed)

    def newest(self, symbol: str, limit: int) -> pa.RecordBatch:
        """The newest `limit` bars of a symbol, ascending; empty for a symbol without bars."""
        code = self._codes.get(symbol)
        return self._to_arrow([] if code is None else [self._rows[code][-limit:]])

    def _code(self, symbol: str) -> int:
        code = self._codes.get(symbol)
        if code is None:
            code = self._codes[symbol] = len(self._codes)
            self._rows.append(np.zeros(0, BAR))
            self._forgotten_before.append(np.iinfo(np.int64).min)
        return code

    def _merge(self, code: int, partial: Any) -> None:
        rows = self._rows[code]
        place = int(np.searchsorted(rows["time"], partial["time"]))
        if place == len(rows) or rows["time"][place] != partial["time"]:
            # A bucket that has no bar yet, even an old one, is a new bar and not a revision.
            self._rows[code] = rows = np.insert(rows, place, partial)
            rows["changed"][place] = True
            return
        bar = rows[place]
        bar["high"] = max(bar["high"], partial["high"])
        bar["low"] = min(bar["low"], partial["low"])
        if (partial["first_ts"], partial["first_id"]) < (bar["first_ts"], bar["first_id"]):
            bar["open"], bar["first_ts"], bar["first_id"] = (partial[k] for k in ("open", "first_ts", "first_id"))
        if (partial["last_ts"], partial["last_id"]) > (bar["last_ts"], bar["last_id"]):
            bar["close"], bar["last_ts"], bar["last_id"] = (partial[k] for k in ("close", "last_ts", "last_id"))
        for name in ("volume", "quote_volume", "trade_count", "buy_volume"):
            bar[name] += partial[name]
        bar["revision"] += bool(bar["closed"])
        bar["changed"] = True

    def _to_arrow(self, parts: Iterable[Rows]) -> pa.RecordBatch:
        rows = np.concatenate([np.zeros(0, BAR), *parts])
        symbol = pa.DictionaryArray.from_arrays(
            pa.array(np.ascontiguousarray(rows["symbol"])), pa.array(self.symbols, pa.string())
        )
        columns = {name: np.ascontiguousarray(rows[name]) for name in BARS.names[2:]}
        return pa.RecordBatch.from_arrays(
            [
                symbol,
                pa.repeat(pa.scalar(MINUTE), len(rows)),
                *(pa.array(columns[n]) for n in BARS.names[2:]),
            ],
            schema=BARS,
        )


_KERNEL_COLUMNS = ("ts_event", "trade_id", "price", "size", "side")


def warm_up() -> None:
    """Compile (or load from numba's cache) before the first batch has to wait for it."""
    empty = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.uint8)
    partial_bars(np.zeros(0, np.int32), *empty, 0, np.zeros(0, BAR))
