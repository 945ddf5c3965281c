"""The bars of a shard's symbols, always what its stored trades say: bars too old to be in memory are made again from
the files when a late trade belongs to them, all are made again at a start, and those of days that are over are kept so
that this stays quick.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import batched

import numpy as np
import pyarrow as pa

from actors.aggregation import bars as bar_kernels
from actors.aggregation.activity import Activity, activity
from actors.aggregation.activity_bars import activity_bars
from actors.aggregation.bar_kernels import NEVER
from actors.aggregation.bars import Bars, Bucket, rebuilt
from config import Settings
from storage.bar_history import BarHistory, read_history, write_history
from storage.column_days import Stamp, stored_days
from storage.column_layout import NANOS_PER_DAY, from_columns
from storage.column_reader import BeingRewritten, ColumnReader, Selection
from storage.schema import BARS, COLUMNS
from storage.timeframes import TIMEFRAMES

#: Without kept bars those of so many days with trades are made again at a start.
DAYS_READ = 30
#: A day's files may change again within one tick of the file system's clock.
SETTLED_NS = 2_000_000_000
#: Trades, and bars that ended, this long before the last stored trade, or earlier, were told before a restart.
TOLD_NS = 60 * 1_000_000_000
#: No more trades of a symbol than these are told again after a restart, the newest.
MOST_UNTOLD = 1_000_000
#: What is made again of so many symbols is looked through together, and in memory until then.
RECOVERED_AT_ONCE = 100
#: So many bars of an exchange wait until their trades can be read, the newest; the others are right after a restart.
MOST_UNREAD = 1000
#: For bars by activity not many more trades are read than these, but always those of a whole day.
ACTIVITY_TRADES = 10_000_000

#: What a trade is read back from: the exact columns, not their f32 twins.
STORED = [column for column in COLUMNS["TRADES"] if column not in ("price", "size")]


class StoredBars:
    """Of the symbols `mine` (exchange, symbol), made from their stored trades at once, and of those that come."""

    def __init__(self, settings: Settings, reader: ColumnReader, mine: Iterable[tuple[str, str]]) -> None:
        self._settings = settings
        self._reader = reader
        self._bars: dict[str, Bars] = {}
        #: By exchange, what is to be read from the files because its bar is no longer in memory.
        self._unread: dict[str, dict[Bucket, None]] = {}
        #: The days whose bars are kept, with the stamps of their trades.
        self._history_days: dict[tuple[str, str], Mapping[int, Stamp]] = {}
        #: One at a time: each may read all trades of a day.
        self._reading = asyncio.Lock()
        bar_kernels.warm_up()
        self.adopt(mine)

    def adopt(self, symbols: Iterable[tuple[str, str]]) -> None:
        """Have the bars of these symbols (exchange, symbol), which are not here yet, from their stored trades."""
        mine = list(symbols)
        for exchange, count in Counter(exchange for exchange, _ in mine).items():
            bars = self._of(exchange)
            bars.reserve(len(bars.symbols) + count)
        for some in batched(mine, RECOVERED_AT_ONCE):
            starts: dict[str, dict[str, tuple[int, int]]] = {}
            for exchange, symbol in some:
                if (start := self._recover(exchange, symbol)) is not None:
                    starts.setdefault(exchange, {})[symbol] = start
            for exchange, begun in starts.items():
                self._of(exchange).begin(begun)

    @property
    def symbols(self) -> dict[str, list[str]]:
        return {exchange: bars.symbols for exchange, bars in self._bars.items()}

    def forget(self, exchange: str, symbol: str) -> None:
        """Let go of a symbol; what is kept of its bars stays."""
        self._of(exchange).forget(symbol)
        self._history_days.pop((exchange, symbol), None)
        for bucket in [one for one in self._unread.get(exchange, ()) if one[0] == symbol]:
            del self._unread[exchange][bucket]

    def update(self, exchange: str, trades: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Take trades that have just been stored. Gives the bars (`storage.schema.BARS`) they revise that are no longer
        in memory; those whose trades cannot be read just then are given by a later call."""
        for bucket in self._of(exchange).update(trades):
            self._unread.setdefault(exchange, {})[bucket] = None
        for bucket in list(self._unread.get(exchange, ())):
            symbol, timeframe, begin = bucket
            try:
                found = self._trades(exchange, symbol, begin, begin + TIMEFRAMES[timeframe])
            except (BeingRewritten, OSError):
                continue
            del self._unread[exchange][bucket]
            yield rebuilt(found, timeframe)
        for bucket in list(self._unread.get(exchange, ()))[:-MOST_UNREAD]:
            del self._unread[exchange][bucket]

    def close(self, now_ns: Callable[[str], int]) -> None:
        """Close what is over by the clock of each exchange."""
        for exchange, bars in self._bars.items():
            bars.close(now_ns(exchange))

    def changed(self, open_too: bool) -> Iterator[tuple[str, str, pa.RecordBatch]]:
        """What is new since the last call: its kind (bars, indicators), exchange and rows."""
        for exchange, bars in self._bars.items():
            for kind, told in (("bars", bars.changed(open_too)), ("indicators", bars.indicators())):
                if told.num_rows:
                    yield kind, exchange, told

    async def newest(self, exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """The newest bars of a symbol, ascending, the open one last; those by activity (`tick:1000`) are made from the
        newest trades. ValueError for an unknown timeframe."""
        if (wanted := activity(timeframe)) is None:
            return self._of(exchange).newest(symbol, timeframe, limit)
        async with self._reading:
            return await asyncio.to_thread(self._by_activity, exchange, symbol, wanted, limit)

    def newest_indicators(self, exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """`storage.schema.INDICATORS` of the newest closed bars of a symbol, ascending, as far as they are held in
        memory. ValueError for an unknown timeframe."""
        return self._of(exchange).newest_indicators(symbol, timeframe, limit)

    def closed(self, exchange: str, symbol: str, timeframe: str) -> tuple[pa.RecordBatch, int]:
        """The closed bars in memory, ascending, and where what is in memory begins (ns): older ones are in the trades
        alone. KeyError for an unknown timeframe."""
        if timeframe not in TIMEFRAMES:
            raise KeyError(timeframe)
        bars = self._of(exchange).newest(symbol, timeframe, self._settings.shard.recent_bars)
        begin: int = bars.column("time")[0].as_py() if bars.num_rows else NEVER
        return bars.filter(bars.column("closed")), begin

    def days(self, exchange: str, symbol: str) -> dict[int, Stamp]:
        """The days with trades, ascending."""
        return stored_days(self._settings.columns, exchange, symbol, "TRADES")

    def untold_trades(self, exchange: str, symbol: str) -> pa.RecordBatch:
        """The trades of the minute before the newest, MOST_UNTOLD at most: who was killed may not have told them.
        OSError."""
        last = self._reader.last_rows(exchange, symbol, "TRADES", 1, STORED)
        newest = stored_trades(symbol, last)["ts_event"][0].as_py() if last.rows else 0
        rows = self._reader.select(exchange, symbol, "TRADES", newest - TOLD_NS, newest, ["time"]).rows
        untold = self._reader.last_rows(exchange, symbol, "TRADES", min(rows, MOST_UNTOLD), STORED)
        return whole(stored_trades(symbol, untold))

    def from_trades(self, exchange: str, symbol: str, timeframe: str, from_ns: int, before_ns: int) -> pa.RecordBatch:
        """The bars of a range of time from its trades, `revision` aside."""
        return rebuilt(self._trades(exchange, symbol, from_ns, before_ns), timeframe)

    async def keep_history(self) -> None:
        """Keep the bars of days that are over. OSError when the disk fails."""
        for exchange, bars in list(self._bars.items()):  # others may come meanwhile
            for symbol in bars.symbols:
                if symbol not in bars:
                    continue  # it has left while another one's were written
                days = self.days(exchange, symbol)
                settled = time.time_ns() - SETTLED_NS
                over = {day: days[day] for day in list(days)[:-1] if days[day].changed_ns < settled}
                if over and over != self._history_days.get((exchange, symbol)):
                    kept = bars.history(symbol, (max(over) + 1) * NANOS_PER_DAY)
                    write_history(self._settings.bars_folder, exchange, symbol, BarHistory(kept, over))
                    self._history_days[exchange, symbol] = over
                    # Whatever waits is more urgent.
                    await asyncio.sleep(0)

    def _recover(self, exchange: str, symbol: str) -> tuple[int, int] | None:
        """Make the bars of a symbol again: those of days that are as they were when their bars were kept from those,
        all others from the trades. From when on its trades were read, and until when its bars were told (ns)."""
        days = self.days(exchange, symbol)
        kept = read_history(self._settings.bars_folder, exchange, symbol)
        if not days:
            return None
        bars, known = self._of(exchange), kept.days if kept else {}
        changed = [day for day, stamp in days.items() if known.get(day) != stamp]
        changed = changed if known else changed[-DAYS_READ:]
        if kept is not None:
            of = np.asarray(kept.bars.column("time")) // NANOS_PER_DAY
            bars.restore(symbol, kept.bars.filter(pa.array(~np.isin(of, changed))))
        for day in changed:
            bars.update(self._trades(exchange, symbol, day * NANOS_PER_DAY, (day + 1) * NANOS_PER_DAY))
        last = self._reader.last_rows(exchange, symbol, "TRADES", 1, STORED)
        newest = stored_trades(symbol, last)["ts_event"][0].as_py() if last.rows else 0
        self._history_days[exchange, symbol] = dict(known)
        return min(changed, default=max(days) + 1) * NANOS_PER_DAY, newest - TOLD_NS

    def _by_activity(self, exchange: str, symbol: str, wanted: Activity, limit: int) -> pa.RecordBatch:
        days, made = self.days(exchange, symbol), list[pa.RecordBatch]()
        read = count = 0
        for day, stamp in reversed(days.items()):
            read += stamp.rows
            if count >= limit or (made and read > ACTIVITY_TRADES):
                break
            trades = self._trades(exchange, symbol, day * NANOS_PER_DAY, (day + 1) * NANOS_PER_DAY)
            made.insert(0, activity_bars(trades, wanted, symbol, limit - count))
            count += made[0].num_rows
        table = pa.Table.from_batches(made, schema=BARS)
        return whole(table.slice(max(table.num_rows - limit, 0)))

    def _trades(self, exchange: str, symbol: str, from_ns: int, before_ns: int) -> pa.RecordBatch:
        stored = self._reader.select(exchange, symbol, "TRADES", from_ns, before_ns - 1, STORED)
        return whole(stored_trades(symbol, stored))

    def _of(self, exchange: str) -> Bars:
        if exchange not in self._bars:
            self._bars[exchange] = Bars(self._settings.shard.recent_bars, self._settings.bars.grace_ms * 1_000_000)
        return self._bars[exchange]


def stored_trades(symbol: str, stored: Selection) -> pa.Table:
    """`storage.schema.TRADES` of the columns STORED."""
    return from_columns(symbol, {column: stored.column(column) for column in STORED})


def whole(table: pa.Table) -> pa.RecordBatch:
    """A table as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
