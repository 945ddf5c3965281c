"""The ClickHouse gateway: everything is written here, and queries ask here.

I own the connection (or the embedded engine) and the rows that wait to be written, in memory and in a spool on the
disk. I survive a database that is down, restarts, or comes back empty, and being killed: rows wait, the oldest are
dropped and counted when the spool is full, and what was half written is written again, which the tables' keys make
harmless.
"""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import structlog

from actors.parcels import Parcel, Stream, packed
from config.settings import Settings
from storage.clickhouse import DatabaseUnavailable, Parameter, QueryFailed, open_clickhouse
from storage.schema import ARBITRAGE, BARS, DERIVATIVES, GAPS, INDICATORS, LIQUIDATIONS, QUALITY, TRADES
from storage.spool import Described, Record, Spool

#: What the table `bars` holds: `vwap` follows from the rest.
_STORED_BARS: Final = pa.schema([field for field in BARS if field.name != "vwap"])

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "trades": TRADES,
    "bars": _STORED_BARS,
    "indicators": INDICATORS,
    "derivatives": DERIVATIVES,
    "liquidations": LIQUIDATIONS,
    "gaps": GAPS,
    "quality": QUALITY,
    "arbitrage": ARBITRAGE,
}

Table = Literal["trades", "bars", "indicators", "derivatives", "liquidations", "gaps", "quality", "arbitrage"]

# Every insert makes a part on disk that has to be merged later; ClickHouse asks for few and large ones.
GATHER_SECONDS: Final = 1.0
MAX_ROWS: Final = 500_000
#: Of what waits so many tables are looked through for those that go into the same insert.
LOOK_THROUGH: Final = 1000
FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0

_BARS: Final = (
    f"SELECT {', '.join(_STORED_BARS.names)}, if(volume > 0, quote_volume / volume, NULL) AS vwap"  # noqa: S608
    " FROM bars FINAL"
    " WHERE exchange = {exchange:String} AND symbol = {symbol:String} AND timeframe = {timeframe:String}"
    " AND time < {before:Int64} ORDER BY time DESC LIMIT {limit:UInt32}"
)

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Waiting:
    described: Described
    #: Where it is in the spool; None where the disk did not take it.
    record: Record | None
    #: None where it is in the spool alone.
    rows: pa.Table | None


class Database:
    """An actor: one per instance. Methods other than `query` and `bars` never raise for a database that is
    down; all raise `ValueError` for arguments that cannot be right."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = time.time_ns) -> None:
        self._database = open_clickhouse(settings.clickhouse_url, settings.data / "clickhouse")
        self._max_pending = settings.sinks.max_pending
        self._clock = clock
        self._version = 0
        self._spool = Spool(settings.data / "spool", settings.sinks.spool_bytes)
        if self._spool.damaged:
            log.error("rows that waited for ClickHouse were damaged on the disk", segments=self._spool.damaged)
        self._queue = deque(_Waiting(record.described, record, None) for record in self._spool.found)
        #: How many of them are in memory.
        self._held = 0
        self._in_flight = 0
        self._one_by_one = False
        self._arrived, self._drained, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        (self._arrived if self._queue else self._drained).set()
        self._writer: asyncio.Task[None] | None = None
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="clickhouse-write")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="clickhouse-read")
        self._migrating = Lock()
        self._migrated = False
        self._available: bool | None = None
        self._rows_written = self._tables_dropped = self._tables_rejected = 0
        self._last_error: str | None = None

    async def take(self, parcel: Parcel) -> None:
        """Insert what there is a table for."""
        self._start()
        for (table, exchange), stream in parcel.items():
            if table in SCHEMAS:
                self._put(table, exchange, _checked(table, pa.ipc.open_stream(stream).read_all()), stream)

    async def insert(self, table: Table, exchange: str | None, rows: pa.Table) -> None:
        """Queue `rows` (of the table's schema in `SCHEMAS`) to be written; returns at once. `exchange` is None where
        the rows say it.

        A second insert of the same row changes nothing; of the same bar or hour of quality, it replaces the first; of
        the same gap or episode of arbitrage, the newer revision stays.
        """
        self._start()
        checked = _checked(table, rows)
        self._put(table, exchange, checked, packed({table: checked})[table])

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        """The rows of one statement; `{name:Type}` stands for `parameters[name]`.

        Raises `DatabaseUnavailable`, or `QueryFailed` when the statement is wrong.
        """
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._read, sql, parameters)

    async def bars(
        self, exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int | None = None
    ) -> pa.Table:
        """The newest `limit` bars that start before `before_ns`, ascending by time, schema BARS."""
        if limit < 1:
            raise ValueError("limit must be at least 1")
        rows = await self.query(
            _BARS,
            {
                "exchange": exchange,
                "symbol": symbol,
                "timeframe": timeframe,
                "before": np.iinfo(np.int64).max if before_ns is None else before_ns,
                "limit": limit,
            },
        )
        return rows.take(np.arange(rows.num_rows)[::-1]).select(BARS.names).cast(BARS)

    async def status(self) -> dict[str, Any]:
        """kind, available (null until first tried), rows_written, pending (tables), spooled_bytes, tables_dropped
        (there was no room for them), tables_rejected (the database refused them), last_error."""
        self._start()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "kind": self._database.kind,
            "available": self._available,
            "rows_written": self._rows_written,
            "pending": len(self._queue) + self._in_flight,
            "spooled_bytes": self._spool.size,
            "tables_dropped": self._tables_dropped,
            "tables_rejected": self._tables_rejected,
            "last_error": self._last_error,
        }

    async def flush(self, timeout: float = 30.0) -> bool:  # noqa: ASYNC109 (an actor's caller cannot cancel)
        """Wait until everything queued is written; False when it is not after `timeout` seconds."""
        self._start()
        self._hurry.set()
        try:
            await asyncio.wait_for(self._drained.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def stop(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 (as in flush)
        """Write what is queued if that takes no longer than `timeout` seconds, then let go of everything: the rest is
        written after the next start."""
        try:
            if self._writer is not None:
                await self.flush(timeout)
        finally:
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait([self._writer])
            await asyncio.to_thread(self._writing.shutdown)
            await asyncio.to_thread(self._reading.shutdown)
            await asyncio.to_thread(self._database.close)
            self._spool.close()

    def __repr__(self) -> str:
        return f"Database({self._database}, {len(self._queue)} pending, {self._rows_written} rows written)"

    def _start(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_for_ever(), name="database-writer")
        elif self._writer.done():
            self._writer.result()

    def _put(self, table: str, exchange: str | None, rows: pa.Table, stream: Stream) -> None:
        if not rows.num_rows:
            return
        # By time, because `revision` starts again when a shard does; distinct within a table too.
        version = max(self._version, self._clock())
        self._version = version + rows.num_rows
        described, record = Described(table, exchange, version, rows.num_rows), None
        try:
            record = self._spool.append(described, stream)
        except OSError as error:
            self._last_error = f"rows cannot be kept on the disk: {error.strerror}"
        self._queue.append(_Waiting(described, record, rows))
        self._held += 1
        self._forget_dropped()
        self._let_go()
        self._drained.clear()
        self._arrived.set()

    def _forget_dropped(self) -> None:
        """What the spool had no room for, the oldest, goes from memory too: or that would grow for as long as the
        database is away."""
        while (record := self._queue[0].record) is not None and not self._spool.holds(record):
            self._held -= self._queue.popleft().rows is not None
            self._tables_dropped += 1

    def _let_go(self) -> None:
        """Keep no more in memory than there may be: the newest go, which are written last, where the disk has them, or
        else the oldest."""
        for waiting in reversed(self._queue):
            if self._held <= self._max_pending:
                return
            if waiting.record is not None and waiting.rows is not None:
                waiting.rows = None
                self._held -= 1
        while self._held > self._max_pending:
            oldest = next(waiting for waiting in self._queue if waiting.record is None)
            self._queue.remove(oldest)
            self._held -= 1
            self._tables_dropped += 1

    async def _write_for_ever(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while True:
            await self._arrived.wait()
            while group := self._take():
                try:
                    self._in_flight = len(group)
                    lost = await asyncio.get_running_loop().run_in_executor(self._writing, self._write, group)
                except DatabaseUnavailable as error:
                    self._note_unavailable(error)
                    self._put_back(group)
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, LAST_RETRY_SECONDS)
                except QueryFailed as error:
                    self._note_refused(group, error)
                else:
                    wait = FIRST_RETRY_SECONDS
                    self._note_written(group, lost)
                self._in_flight = 0
            self._arrived.clear()
            self._drained.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), GATHER_SECONDS)
            self._hurry.clear()

    def _take(self) -> list[_Waiting]:
        """The oldest table and those behind it that go into the same insert."""
        taken: list[_Waiting] = []
        rest: list[_Waiting] = []
        rows = 0
        for _ in range(min(len(self._queue), LOOK_THROUGH)):
            waiting = self._queue.popleft()
            fits = rows + waiting.described.rows <= MAX_ROWS and not self._one_by_one
            if not taken or (fits and waiting.described.table == taken[0].described.table):
                taken.append(waiting)
                rows += waiting.described.rows
            else:
                rest.append(waiting)
        self._queue.extendleft(reversed(rest))
        self._held -= sum(waiting.rows is not None for waiting in taken)
        return taken

    def _put_back(self, group: list[_Waiting]) -> None:
        self._queue.extendleft(reversed(group))
        self._held += sum(waiting.rows is not None for waiting in group)
        self._in_flight = 0
        self._let_go()

    def _done_with(self, group: list[_Waiting]) -> None:
        for waiting in group:
            if waiting.record is not None:
                self._spool.done(waiting.record)

    def _note_unavailable(self, error: DatabaseUnavailable) -> None:
        if self._available is not False:
            log.warning("ClickHouse is unavailable, rows wait", error=str(error))
        self._available = False
        self._last_error = str(error)
        self._migrated = False

    def _note_refused(self, group: list[_Waiting], error: QueryFailed) -> None:
        log.error("ClickHouse refused rows", table=group[0].described.table, tables=len(group), error=str(error))
        self._last_error = str(error)
        if len(group) > 1:
            # One bad table must not take its neighbours along.
            self._one_by_one = True
            self._put_back(group)
        else:
            self._tables_rejected += 1
            self._done_with(group)

    def _note_written(self, group: list[_Waiting], lost: int) -> None:
        if self._available is False:
            log.info("ClickHouse is available again", pending=len(self._queue))
        self._available = True
        self._one_by_one = self._one_by_one and bool(self._queue)
        self._rows_written += sum(waiting.described.rows for waiting in group if waiting.rows is not None)
        self._tables_dropped += lost
        self._done_with(group)

    def _write(self, group: list[_Waiting]) -> int:
        """How many of the group are lost: there was no room for them, or another version of us left them."""
        for waiting in group:
            if waiting.rows is None and waiting.record is not None:
                with contextlib.suppress(OSError, EOFError, ValueError):
                    waiting.rows = _checked(waiting.described.table, self._spool.read(waiting.record))
        there = [_prepared(waiting.described, waiting.rows) for waiting in group if waiting.rows is not None]
        if not there:
            return len(group)
        table, rows = group[0].described.table, pa.concat_tables(there)
        was_migrated = self._migrated
        self._migrate()
        try:
            self._database.insert(table, rows)
        except QueryFailed:
            if not was_migrated:
                raise
            # The server may have come back empty.
            self._migrated = False
            self._migrate()
            self._database.insert(table, rows)
        return len(group) - len(there)

    def _read(self, sql: str, parameters: Mapping[str, Parameter] | None) -> pa.Table:
        self._migrate()
        return self._database.query(sql, parameters)

    def _migrate(self) -> None:
        with self._migrating:
            if not self._migrated:
                self._database.migrate()
                self._migrated = True


def _checked(table: str, rows: pa.Table) -> pa.Table:
    """The columns of that table."""
    if table not in SCHEMAS:
        raise ValueError(f"there is no table {table!r}")
    try:
        return pa.table(rows).select(SCHEMAS[table].names).cast(SCHEMAS[table])
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"these are no rows of {table}: {error}") from None


def _prepared(described: Described, rows: pa.Table) -> pa.Table:
    """With all columns that the database has."""
    count = rows.num_rows
    if described.exchange is not None:
        every_row = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([described.exchange]))
        rows = rows.append_column("exchange", every_row)
    if described.table in ("bars", "indicators", "quality"):
        versions = np.arange(described.version, described.version + count, dtype=np.uint64)
        rows = rows.append_column("version", pa.array(versions))
    return rows
