"""SymbolShard: I own the column files and bars of my symbols; nobody else writes them. A batch is acknowledged after
it is in the files, and rows I have already are dropped, so whatever is sent again counts once. After a crash I read
my bars back from the files. A full disk stops my acknowledgements, never my files' integrity; slow or dead sinks
(ClickHouse, Redis) cost me nothing.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.aggregation import bars as bar_kernels
from actors.aggregation.bars import BUCKET_NS, Bars
from actors.directory import shard_of
from config import Settings
from storage.column_layout import from_columns, to_columns
from storage.column_reader import ColumnReader, Selection
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS, RowType, symbols_of

#: Bars are looked at this often, so that one closes within 100 ms of its end plus the grace.
CLOSE_INTERVAL_S = 0.02
#: A failed append (no space) is tried again this often.
RETRY_S = 1.0

#: What a trade is read back from: the exact columns, not their f32 twins.
STORED = [column for column in COLUMNS["TRADES"] if column not in ("price", "size")]

#: Kinds of rows that have files; the others go to the sinks as they come.
_KIND: dict[RowType, str] = {"TRADES": "trades", "MD": "quotes"}

COUNTED = ("TRADES", "MD", "derivatives", "liquidations", "duplicates", "bars", "unsunk")

Sink = Callable[[str, str, Any], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Pending:
    exchange: str
    #: By kind: trades, quotes, derivatives, liquidations.
    batches: Mapping[str, pa.RecordBatch]
    written: asyncio.Future[None]


class SymbolShard:
    """Shard `index` of `settings.shards`.

    `share` puts a table where other actors can read it without a copy and gives what to send them; `sink`
    (kind, exchange, shared) takes kinds trades, quotes, derivatives, liquidations and bars. With `recorded` the clock
    is the replayed one.
    """

    def __init__(
        self,
        index: int,
        settings: Settings,
        share: Callable[[pa.Table], Any],
        sink: Sink,
        recorded: bool,
    ) -> None:
        self.index = index
        self._settings = settings
        self._share = share
        self._sink = sink
        self._recorded = recorded
        self._writer = ColumnWriter(settings.columns, settings.shard.max_open_files)
        # Asked rarely, and for what was written a moment ago.
        self._reader = ColumnReader(settings.columns, rescan_s=0)
        self._bars: dict[str, Bars] = {}
        self._clock_ns: dict[str, int] = {}
        self._pending: list[_Pending] = []
        self._unshared: dict[tuple[str, str], list[pa.RecordBatch]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._sinking: set[asyncio.Task[object]] = set()
        self._counts: Counter[str] = Counter()
        self._blocked = ""
        self._failure = ""
        bar_kernels.warm_up()
        self._recover()

    def __repr__(self) -> str:
        symbols = sum(len(bars.symbols) for bars in self._bars.values())
        return f"SymbolShard({self.index}, {symbols} symbols)"

    async def append(self, exchange: str, batches: Mapping[str, pa.RecordBatch], clock_ns: int) -> None:
        """Take batches by kind (trades, quotes, derivatives, liquidations); returns when their rows are in the files
        (the acknowledgement)."""
        await self.start()
        self._clock_ns[exchange] = max(clock_ns, self._clock_ns.get(exchange, 0))
        written = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(exchange, batches, written))
        await written

    async def start(self) -> None:
        """Begin the timers; does nothing when they run already."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._every(interval, step))
                for interval, step in (
                    (self._settings.shard.commit_interval_ms / 1000, self._commit),
                    (self._settings.shard.share_interval_ms / 1000, self._share_new),
                    (CLOSE_INTERVAL_S, self._close_bars),
                )
            ]

    async def stop(self) -> None:
        """Write and share what is pending, wait for the sinks, close the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._commit()
        await self._share_new()
        await asyncio.gather(*self._sinking, return_exceptions=True)
        self._writer.flush()
        self._writer.close()

    async def bars(self, exchange: str, symbol: str, limit: int) -> pa.RecordBatch:
        """The newest bars of a symbol, ascending, the open one last."""
        return self._bars_of(exchange).newest(symbol, limit)

    async def last_trades(self, exchange: str, symbol: str, rows: int) -> list[Any]:
        """The newest trades of a symbol as a table in the object store: one reference, read without a copy."""
        newest = self._reader.last_rows(exchange, symbol, "TRADES", rows, STORED)
        return [self._share(_table(symbol, newest))]

    async def status(self) -> dict[str, Any]:
        return {
            "actor": repr(self),
            "index": self.index,
            "pid": os.getpid(),
            "failure": self._blocked or self._failure,
            "symbols": {exchange: bars.symbols for exchange, bars in self._bars.items()},
            "batches_waiting": len(self._pending),
            "sinks_waiting": len(self._sinking),
            **{
                name: self._counts[name]
                for name in ("TRADES", "MD", "derivatives", "liquidations", "duplicates", "bars", "unsunk")
            },
        }

    async def _every(self, interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                await asyncio.sleep(interval_s)
                await step()
        except Exception as error:
            self._failure = repr(error)
            raise

    async def _commit(self) -> None:
        """Append everything pending, one append per symbol, then acknowledge it."""
        pending, self._pending = self._pending, []
        for exchange in dict.fromkeys(batch.exchange for batch in pending):
            mine = [batch for batch in pending if batch.exchange == exchange]
            try:
                for row_type, kind in _KIND.items():
                    self._append(exchange, row_type, [one.batches[kind] for one in mine if kind in one.batches])
            except OSError as error:
                # The files are whole. Nothing is acknowledged, so collectors hold what comes; rows that did get
                # into a file are dropped when they are tried again.
                self._blocked = f"cannot write column files: {error.strerror}"
                self._pending = mine + self._pending
                await asyncio.sleep(RETRY_S)
                continue
            self._blocked = ""
            for one in mine:
                for kind in one.batches.keys() - _KIND.values():
                    self._unshared.setdefault((kind, exchange), []).append(one.batches[kind])
                    self._counts[kind] += one.batches[kind].num_rows
                if not one.written.done():
                    one.written.set_result(None)

    def _append(self, exchange: str, row_type: RowType, batches: list[pa.RecordBatch]) -> None:
        batches = [batch for batch in batches if batch.num_rows]
        if not batches:
            return
        table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
        names, codes = symbols_of(table)
        for code in pc.unique(pa.array(codes)).to_pylist():
            rows = table.filter(pa.array(codes == code)).combine_chunks().to_batches()[0]
            new = self._writer.append(exchange, names[code], row_type, to_columns(row_type, rows))
            kept = rows if new.all() else rows.filter(pa.array(new))
            self._counts[row_type] += kept.num_rows
            self._counts["duplicates"] += rows.num_rows - kept.num_rows
            if kept.num_rows:
                self._unshared.setdefault((_KIND[row_type], exchange), []).append(kept)
                if row_type == "TRADES":
                    self._update_bars(exchange, kept)

    def _update_bars(self, exchange: str, trades: pa.RecordBatch) -> None:
        bars = self._bars_of(exchange)
        for symbol, minute in bars.update(trades):
            stored = self._reader.select(exchange, symbol, "TRADES", minute, minute + BUCKET_NS - 1, STORED)
            for batch in _table(symbol, stored).to_batches():
                self._unshared.setdefault(("bars", exchange), []).append(bars.rebuild(batch))

    async def _close_bars(self) -> None:
        for exchange, bars in self._bars.items():
            bars.close(self._clock_ns.get(exchange, 0) if self._recorded else time.time_ns())

    async def _share_new(self) -> None:
        """Hand new rows to the sinks, one shared table for all of them."""
        for exchange, bars in self._bars.items():
            changed = bars.changed()
            if changed.num_rows:
                self._counts["bars"] += changed.num_rows
                self._unshared.setdefault(("bars", exchange), []).append(changed)
        unshared, self._unshared = self._unshared, {}
        for (kind, exchange), batches in unshared.items():
            if len(self._sinking) >= self._settings.sinks.max_pending:
                self._counts["unsunk"] += sum(batch.num_rows for batch in batches)
                continue
            shared = self._share(pa.Table.from_batches(batches).unify_dictionaries().combine_chunks())
            task = asyncio.ensure_future(self._sink(kind, exchange, shared))
            self._sinking.add(task)
            task.add_done_callback(self._sunk)

    def _sunk(self, task: "asyncio.Task[object]") -> None:
        self._sinking.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._counts["unsunk"] += 1

    def _bars_of(self, exchange: str) -> Bars:
        if exchange not in self._bars:
            self._bars[exchange] = Bars(self._settings.shard.recent_bars, self._settings.bars.grace_ms * 1_000_000)
        return self._bars[exchange]

    def _recover(self) -> None:
        """Read the newest bars of my symbols back from the files."""
        span = self._settings.shard.recent_bars * BUCKET_NS
        for exchange, symbols in self._reader.symbols().items():
            for symbol in symbols:
                if shard_of(exchange, symbol, self._settings.shards) != self.index:
                    continue
                newest = _table(symbol, self._reader.last_rows(exchange, symbol, "TRADES", 1, STORED))
                if newest.num_rows:
                    last = newest["ts_event"][0].as_py()
                    first = (last - span) // BUCKET_NS * BUCKET_NS
                    stored = self._reader.select(exchange, symbol, "TRADES", first, last, STORED)
                    for batch in _table(symbol, stored).to_batches():
                        self._bars_of(exchange).update(batch)
        for bars in self._bars.values():
            bars.close(0 if self._recorded else time.time_ns())
            bars.changed()


def _table(symbol: str, stored: Selection) -> pa.Table:
    return from_columns(symbol, {column: stored.column(column) for column in STORED})
