"""The ClickHouse gateway: everything is written here, and queries ask here.

I own the connection (or the embedded engine) and a bounded queue of tables that wait to be written. I
survive a database that is down, restarts, or comes back empty: rows wait, the oldest are dropped and counted
when the queue is full, and what was half written is written again, which the tables' keys make harmless.
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
from typing import Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
import structlog

from actors.parcels import Parcel, unpacked
from config.settings import Settings
from storage.clickhouse import DatabaseUnavailable, Parameter, QueryFailed, open_clickhouse
from storage.schema import ARBITRAGE, BARS, DERIVATIVES, GAPS, INDICATORS, LIQUIDATIONS, QUALITY, TRADES

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
FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0

_BARS: Final = (
    f"SELECT {', '.join(_STORED_BARS.names)}, if(volume > 0, quote_volume / volume, NULL) AS vwap"  # noqa: S608
    " FROM bars FINAL"
    " WHERE exchange = {exchange:String} AND symbol = {symbol:String} AND timeframe = {timeframe:String}"
    " AND time < {before:Int64} ORDER BY time DESC LIMIT {limit:UInt32}"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    table: str
    rows: pa.Table


class Database:
    """An actor: one per instance. Methods other than `query` and `bars` never raise for a database that is
    down; all raise `ValueError` for arguments that cannot be right."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = time.time_ns) -> None:
        self._database = open_clickhouse(settings.clickhouse_url, settings.data / "clickhouse")
        self._max_pending = settings.sinks.max_pending
        self._clock = clock
        self._version = 0
        self._queue: deque[_Waiting] = deque()
        self._in_flight = 0
        self._one_by_one = False
        self._arrived, self._drained, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._drained.set()
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
        for table, exchange, rows in unpacked(parcel, lambda key: key[0] in SCHEMAS):
            await self.insert(cast(Table, table), exchange, rows)

    async def insert(self, table: Table, exchange: str | None, rows: pa.Table) -> None:
        """Queue `rows` (of the table's schema in `SCHEMAS`) to be written; returns at once. `exchange` is None where
        the rows say it.

        A second insert of the same row changes nothing; of the same bar or hour of quality, it replaces the first; of
        the same gap or episode of arbitrage, the newer revision stays.
        """
        self._start()
        waiting = _Waiting(table, self._prepared(table, exchange, rows))
        if not waiting.rows.num_rows:
            return
        self._queue.append(waiting)
        self._drop_oldest()
        self._drained.clear()
        self._arrived.set()

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
        """kind, available (null until first tried), rows_written, pending (tables), tables_dropped (the queue
        was full), tables_rejected (the database refused them), last_error."""
        self._start()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "kind": self._database.kind,
            "available": self._available,
            "rows_written": self._rows_written,
            "pending": len(self._queue) + self._in_flight,
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
        """Write what is queued if that takes no longer than `timeout` seconds, then let go of everything."""
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

    def __repr__(self) -> str:
        return f"Database({self._database}, {len(self._queue)} pending, {self._rows_written} rows written)"

    def _start(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_for_ever(), name="database-writer")
        elif self._writer.done():
            self._writer.result()

    def _prepared(self, table: str, exchange: str | None, rows: pa.Table) -> pa.Table:
        if table not in SCHEMAS:
            raise ValueError(f"there is no table {table!r}")
        try:
            rows = pa.table(rows).select(SCHEMAS[table].names).cast(SCHEMAS[table])
        except (KeyError, ValueError, TypeError, NotImplementedError) as error:
            raise ValueError(f"these are no rows of {table}: {error}") from None
        count = rows.num_rows
        if exchange is not None:
            every_row = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([exchange]))
            rows = rows.append_column("exchange", every_row)
        if table in ("bars", "indicators", "quality"):
            # By time, because `revision` starts again when a shard does; distinct within a table too.
            first = max(self._version, self._clock())
            self._version = first + count
            rows = rows.append_column("version", pa.array(np.arange(first, first + count, dtype=np.uint64)))
        return rows

    def _drop_oldest(self) -> None:
        while len(self._queue) > self._max_pending:
            self._queue.popleft()
            self._tables_dropped += 1

    async def _write_for_ever(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while True:
            await self._arrived.wait()
            while group := self._take():
                try:
                    self._in_flight = len(group)
                    await asyncio.get_running_loop().run_in_executor(self._writing, self._write, group)
                except DatabaseUnavailable as error:
                    self._note_unavailable(error)
                    self._put_back(group)
                    self._in_flight = 0
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, LAST_RETRY_SECONDS)
                except QueryFailed as error:
                    self._note_refused(group, error)
                else:
                    wait = FIRST_RETRY_SECONDS
                    self._note_written(group)
                self._in_flight = 0
            self._arrived.clear()
            self._drained.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), GATHER_SECONDS)
            self._hurry.clear()

    def _take(self) -> list[_Waiting]:
        """The oldest table and those behind it that go into the same insert."""
        taken: list[_Waiting] = []
        rest: deque[_Waiting] = deque()
        rows = 0
        for waiting in self._queue:
            fits = rows + waiting.rows.num_rows <= MAX_ROWS and not self._one_by_one
            if not taken or (fits and waiting.table == taken[0].table):
                taken.append(waiting)
                rows += waiting.rows.num_rows
            else:
                rest.append(waiting)
        self._queue = rest
        return taken

    def _put_back(self, group: list[_Waiting]) -> None:
        self._queue.extendleft(reversed(group))
        self._drop_oldest()

    def _note_unavailable(self, error: DatabaseUnavailable) -> None:
        if self._available is not False:
            log.warning("ClickHouse is unavailable, rows wait", error=str(error))
        self._available = False
        self._last_error = str(error)
        self._migrated = False

    def _note_refused(self, group: list[_Waiting], error: QueryFailed) -> None:
        log.error("ClickHouse refused rows", table=group[0].table, tables=len(group), error=str(error))
        self._last_error = str(error)
        if len(group) > 1:
            # One bad table must not take its neighbours along.
            self._one_by_one = True
            self._put_back(group)
        else:
            self._tables_rejected += 1

    def _note_written(self, group: list[_Waiting]) -> None:
        if self._available is False:
            log.info("ClickHouse is available again", pending=len(self._queue))
        self._available = True
        self._one_by_one = self._one_by_one and bool(self._queue)
        self._rows_written += sum(waiting.rows.num_rows for waiting in group)

    def _write(self, group: list[_Waiting]) -> None:
        rows = pa.concat_tables([waiting.rows for waiting in group])
        was_migrated = self._migrated
        self._migrate()
        try:
            self._database.insert(group[0].table, rows)
        except QueryFailed:
            if not was_migrated:
                raise
            # The server may have come back empty.
            self._migrated = False
            self._migrate()
            self._database.insert(group[0].table, rows)

    def _read(self, sql: str, parameters: Mapping[str, Parameter] | None) -> pa.Table:
        self._migrate()
        return self._database.query(sql, parameters)

    def _migrate(self) -> None:
        with self._migrating:
            if not self._migrated:
                self._database.migrate()
                self._migrated = True
