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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Final

import numpy as np
import pyarrow as pa
import structlog

from actors.metering import meters
from actors.own_process import is_made_again
from actors.parcels import Parcel, Stream, packed
from actors.reconciling import Counted
from actors.waiting_rows import MAX_ROWS, Waiting, WaitingRows
from config.settings import Settings
from storage.clickhouse import DatabaseUnavailable, Migrated, Parameter, QueryFailed, open_clickhouse
from storage.clickhouse_migrations import RETENTION, apply_retention
from storage.clickhouse_tables import TABLES
from storage.spool import Described

#: What comes within this long is written together.
GATHER_SECONDS: Final = 1.0
FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0

_HOURS: Final = (
    "SELECT symbol, intDiv(ts_event, 3600000000000) AS hour, uniqExact(trade_id) AS trades FROM trades"
    " WHERE exchange = {exchange:String} AND has({symbols:Array(String)}, symbol)"
    " AND ts_event >= {from:Int64} AND ts_event < {before:Int64} GROUP BY symbol, hour"
)
_TABLE: Final = "SELECT toString(uuid) AS id FROM system.tables WHERE database = currentDatabase() AND name = 'trades'"
#: Rows that came before this time are written when trades are counted.
_WRITTEN_NS: Final = 10_000_000_000

log = structlog.get_logger(__name__)
_DURATIONS: Final = meters.Durations("rayfeed_database_duration_seconds")
_ERRORS: Final = meters.Counted(
    "rayfeed_database_errors_total",
    *((operation, reason) for operation in ("query", "insert") for reason in ("unavailable", "refused")),
)
_INSERTS: Final = meters.Counted("rayfeed_sink_batches_total")


def stored_kinds(settings: Settings) -> frozenset[str]:
    """Kinds of rows that are written."""
    return frozenset(TABLES) - (frozenset() if settings.sinks.quotes else {"quotes"})


class Database:
    """An actor: one per instance. Methods other than `query` never raise for a database that is
    down; all raise `ValueError` for arguments that cannot be right."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = time.time_ns) -> None:
        self._database = open_clickhouse(
            settings.clickhouse_url, settings.data / "clickhouse", settings.clickhouse_cluster
        )
        self._kinds = stored_kinds(settings)
        # What a replay brings is old already.
        self._replayed = replayed = settings.replay_folder is not None
        kept = {str(table): None if replayed else days for table, days in settings.retention.items()}
        # They may be kept for longer by now, as who watches tells in a moment: until then none go.
        self._retention = {} if is_made_again() else kept
        self._clock = clock
        self._version = 0
        self._waiting = WaitingRows(settings.data / "spool", settings.sinks.spool_bytes, settings.sinks.max_pending)
        if damaged := self._waiting.spool.damaged:
            log.error("rows that waited for ClickHouse were damaged on the disk", segments=damaged)
        self._in_flight: list[Waiting] = []
        self._one_by_one = False
        self._arrived, self._drained, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        (self._arrived if self._waiting else self._drained).set()
        self._writer: asyncio.Task[None] | None = None
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="clickhouse-write")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="clickhouse-read")
        self._migrating = Lock()
        self._migrated: Migrated | None = None
        #: What was found out about the server at last.
        self._server: Migrated | None = None
        #: How many days rows are kept, by table, once the server does it.
        self._kept: dict[str, int | None] = {}
        #: What was asked of it at last.
        self._applied: dict[str, int | None] | None = None
        self._available: bool | None = None
        self._rows_written = self._tables_lost = self._tables_rejected = 0
        self._last_error: str | None = None

    async def take(self, parcel: Parcel) -> None:
        """Insert what there is a table for."""
        self._start()
        for (table, exchange), stream in parcel.items():
            if table in self._kinds:
                self._put(table, exchange, _checked(table, pa.ipc.open_stream(stream).read_all()), stream)

    async def insert(self, table: str, exchange: str | None, rows: pa.Table) -> None:
        """Queue `rows` (as `storage.clickhouse_tables` says) to be written; returns at once. `exchange` is None where
        the rows say it.

        A second insert of the same row changes nothing; in a table that is versioned it replaces the first; of the same
        gap or episode of arbitrage the newer revision stays.
        """
        self._start()
        checked = _checked(table, rows)
        self._put(table, exchange, checked, packed({table: checked})[table])

    async def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        """The rows of one statement; `{name:Type}` stands for `parameters[name]`.

        Raises `DatabaseUnavailable`, or `QueryFailed` when the statement is wrong.
        """
        with _measured("query"):
            return await asyncio.get_running_loop().run_in_executor(self._reading, self._read, sql, parameters)

    async def count_trades(self, exchange: str, symbols: list[str], from_ns: int, before_ns: int) -> Counted | None:
        """How many different trades of these symbols there are in a range of time; None while it is not known: the
        database is away, or rows wait that came some seconds ago."""
        self._start()
        group, ends = self._in_flight, self._waiting.ends
        oldest = group[0].described.version if group else ends[0] if ends else None
        if oldest is not None and (oldest < self._clock() - _WRITTEN_NS or self._waiting.rows > MAX_ROWS):
            return None
        asked: dict[str, Parameter] = {"exchange": exchange, "symbols": symbols, "from": from_ns, "before": before_ns}
        try:
            rows = (await self.query(_HOURS, asked)).to_pylist()
        except DatabaseUnavailable:
            return None
        try:
            table = str((await self.query(_TABLE))["id"][0].as_py())
        except QueryFailed:
            table = ""  # an old server, whose tables have no such names
        return Counted(table, {(row["symbol"], row["hour"]): row["trades"] for row in rows})

    async def configure(self, settings: Settings) -> None:
        """Keep rows for so long from now on; older ones go when the database has applied it."""
        if not self._replayed:
            self._retention = {str(table): days for table, days in settings.retention.items()}

    async def status(self) -> dict[str, Any]:
        """kind, version of the server and what it lacks (null and nothing until known), retention (days by table, those
        that are limited), available (null until first tried), rows_written, pending (tables), spooled_bytes,
        tables_dropped (there was no room for them), tables_rejected (the database refused them), last_error."""
        self._start()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "kind": self._database.kind,
            "version": self._server.version if self._server else None,
            "lacks": list(self._server.lacks) if self._server else [],
            "retention": {table: days for table, days in self._kept.items() if days},
            "available": self._available,
            "rows_written": self._rows_written,
            "pending": len(self._waiting) + len(self._in_flight),
            "spooled_bytes": self._waiting.spool.size,
            "tables_dropped": self._waiting.dropped + self._tables_lost,
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
            self._waiting.close()

    def __repr__(self) -> str:
        return f"Database({self._database}, {len(self._waiting)} pending, {self._rows_written} rows written)"

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
        if failure := self._waiting.put(Described(table, exchange, version, rows.num_rows), rows, stream):
            self._last_error = failure
        self._drained.clear()
        self._arrived.set()

    async def _write_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            await self._write_what_waits()
            if not self._waiting:
                self._arrived.clear()
                self._drained.set()
            if self._waiting.rows < MAX_ROWS:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), GATHER_SECONDS)
            self._hurry.clear()

    async def _write_what_waits(self) -> None:
        """What comes meanwhile waits for the next round: or there would be an insert for each table that comes."""
        wait, newest = FIRST_RETRY_SECONDS, self._waiting.ends[1] if self._waiting.ends else 0
        while (ends := self._waiting.ends) is not None and ends[0] <= newest:
            group = self._waiting.take(one=self._one_by_one)
            self._in_flight = group
            try:
                with _measured("insert"):
                    lost = await asyncio.get_running_loop().run_in_executor(self._writing, self._write, group)
            except DatabaseUnavailable as error:
                self._note_unavailable(error)
                self._waiting.put_back(group)
                self._in_flight = []
                await asyncio.sleep(wait)
                wait = min(2 * wait, LAST_RETRY_SECONDS)
            except QueryFailed as error:
                self._note_refused(group, error)
            else:
                wait = FIRST_RETRY_SECONDS
                self._note_written(group, lost)
            self._in_flight = []

    def _note_unavailable(self, error: DatabaseUnavailable) -> None:
        if self._available is not False:
            log.warning("ClickHouse is unavailable, rows wait", error=str(error))
        self._available = False
        self._last_error = str(error)
        self._migrated = None

    def _note_refused(self, group: list[Waiting], error: QueryFailed) -> None:
        log.error("ClickHouse refused rows", table=group[0].described.table, tables=len(group), error=str(error))
        self._last_error = str(error)
        if len(group) > 1:
            # One bad table must not take its neighbours along.
            self._one_by_one = True
            self._waiting.put_back(group)
        else:
            self._tables_rejected += 1
            self._waiting.done(group)

    def _note_written(self, group: list[Waiting], lost: int) -> None:
        if self._available is False:
            log.info("ClickHouse is available again", pending=len(self._waiting))
        self._available = True
        self._one_by_one = self._one_by_one and bool(self._waiting)
        self._rows_written += sum(waiting.described.rows for waiting in group if waiting.rows is not None)
        self._tables_lost += lost
        _INSERTS.add("clickhouse")
        for waiting in () if self._replayed else group:
            if waiting.described.table == "trades" and waiting.rows is not None:
                ages = time.time_ns() - np.asarray(waiting.rows["ts_recv"])
                meters.LAG.observe_ns(ages, "socket_to_database", waiting.described.exchange or "all")
        self._waiting.done(group)

    def _write(self, group: list[Waiting]) -> int:
        """How many of the group are lost: there was no room for them, or another version of us left them."""
        for waiting in group:
            if waiting.rows is None and (rows := self._waiting.read(waiting)) is not None:
                with contextlib.suppress(ValueError):
                    waiting.rows = _checked(waiting.described.table, rows)
        there = [_prepared(waiting.described, waiting.rows) for waiting in group if waiting.rows is not None]
        if not there:
            return len(group)
        table, every = group[0].described.table, pa.concat_tables(there)
        was_migrated = self._migrated is not None
        self._migrate()
        try:
            self._database.insert(table, every)
        except QueryFailed:
            if not was_migrated:
                raise
            # The server may have come back empty.
            self._migrated = None
            self._migrate()
            self._database.insert(table, every)
        return len(group) - len(there)

    def _read(self, sql: str, parameters: Mapping[str, Parameter] | None) -> pa.Table:
        self._migrate()
        return self._database.query(sql, parameters)

    def _migrate(self) -> None:
        with self._migrating:
            wanted = self._retention
            if self._migrated is None or self._applied is not wanted:
                migrated = self._migrated or self._database.migrate()
                if RETENTION not in migrated.lacks:
                    apply_retention(self._database, wanted)
                    self._kept = wanted
                self._applied = wanted
                self._migrated = self._server = migrated


@contextlib.contextmanager
def _measured(operation: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    except (DatabaseUnavailable, QueryFailed) as error:
        _ERRORS.add(operation, "unavailable" if isinstance(error, DatabaseUnavailable) else "refused")
        raise
    finally:
        _DURATIONS.observe(time.perf_counter() - began, operation)


def _checked(table: str, rows: pa.Table) -> pa.Table:
    """The columns of that table."""
    if table not in TABLES:
        raise ValueError(f"there is no table {table!r}")
    expected = TABLES[table].rows
    try:
        return pa.table(rows).select(expected.names).cast(expected)
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"these are no rows of {table}: {error}") from None


def _prepared(described: Described, rows: pa.Table) -> pa.Table:
    """With all columns that the database has."""
    count = rows.num_rows
    if described.exchange is not None:
        every_row = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([described.exchange]))
        rows = rows.append_column("exchange", every_row)
    if TABLES[described.table].versioned:
        versions = np.arange(described.version, described.version + count, dtype=np.uint64)
        rows = rows.append_column("version", pa.array(versions))
    return rows
