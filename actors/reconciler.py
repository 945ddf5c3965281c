"""Makes ClickHouse have every trade that a shard's files have: trades that were stored when the shard died, or that
nobody took for too long, are told again. The files are the truth; what ClickHouse has beyond them stays.

Trades go to ClickHouse alone, where one that comes again changes nothing; Redis has what is new.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import ray
import structlog
from numpy.typing import NDArray

from actors.parcels import Key
from actors.reconciling import HOUR_NS, HOURS, MOST_HOURS, SECOND_NS, Counted, Part, Reconciling, Series
from actors.stored_bars import STORED, stored_trades
from config import Settings
from storage.clickhouse import DatabaseUnavailable, QueryFailed
from storage.column_days import stored_days
from storage.column_layout import NANOS_PER_DAY
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn
from storage.file_operations import write_new_file

#: Trades of this long are on their way.
UNDER_WAY_NS: Final = 30 * SECOND_NS
#: The files are compared this long after a start, and this often while something is amiss; otherwise once an hour, as
#: ClickHouse may have lost rows by itself.
FIRST_LOOK_S: Final = 10.0
LOOK_AGAIN_S: Final = 60.0
LOOK_ANYWAY_S: Final = 3600.0
_MAPS: Final = 64
#: The database is away or was restarted, the files change, the disk fails.
_PASSING: Final = (
    ray.exceptions.RayError, DatabaseUnavailable, QueryFailed, BeingRewritten, MissingColumn, OSError
)  # fmt: skip

log = structlog.get_logger(__name__)


@runtime_checkable
class Stored(Protocol):
    """Where trades are kept that can be asked for them."""

    async def counted(self, exchange: str, symbols: list[str], from_ns: int, before_ns: int) -> Counted | None: ...

    async def keep(self, tables: Mapping[Key, pa.Table]) -> None: ...


class Reconciler:
    """Of the symbols that `mine` gives (exchange, symbol); `name` is the shard's. Where `sink` cannot be asked, and in
    a replay, it does nothing."""

    def __init__(
        self, settings: Settings, name: str, mine: Callable[[], list[Series]], sink: object, recorded: bool
    ) -> None:
        self._settings = settings
        self._mine = mine
        self._stored = sink if isinstance(sink, Stored) and not recorded else None
        self._path = settings.data / "reconciled" / f"{name}.json"
        self._table, equal = _remembered(self._path)
        self._core = Reconciling(equal)
        self._reader = ColumnReader(settings.columns, _MAPS, rescan_s=0)
        self._look_at = time.monotonic() + FIRST_LOOK_S
        self._failure = ""
        #: When everything was found equal at last (ns).
        self._equal_ns: int | None = None

    def look(self) -> None:
        """Some trades may not have arrived: compare soon."""
        self._look_at = min(self._look_at, time.monotonic() + LOOK_AGAIN_S)

    def status(self) -> dict[str, Any]:
        """reconciling (hours that ClickHouse has less of than the files) and reconciled (ns, when it had everything at
        last; null before)."""
        return {"reconciling": self._core.short, "reconciled": self._equal_ns}

    async def step(self) -> None:
        """Compare when it is time to, and tell what is due."""
        if self._stored is None:
            return
        try:
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + LOOK_AGAIN_S
                await self._compare(self._stored)
            for part in self._core.due(time.time_ns()):
                if rows := await asyncio.to_thread(self._read, part):
                    await self._stored.keep({("trades", part.series[0]): rows})
            self._failure = ""
        except _PASSING as error:
            # The next look finds what is still short.
            self.look()
            if self._failure != (failure := repr(error)):
                log.warning("ClickHouse cannot be compared with the files", error=failure)
            self._failure = failure

    async def _compare(self, stored: Stored) -> None:
        now, before = time.time_ns(), time.time_ns() - UNDER_WAY_NS
        kept = self._settings.retention["trades"]
        # The first day of those that are kept is half gone.
        first_day = 0 if kept is None else now // NANOS_PER_DAY - kept + 1
        if (nothing := await stored.counted("", [""], 0, 0)) is None:
            return
        if nothing.table != self._table:
            # Another database, or one made anew: nothing is known of it.
            self._table, self._core = nothing.table, Reconciling({})
        asked = self._core.look(await asyncio.to_thread(self._days), first_day)
        complete = True
        for (exchange, day), symbols in asked.items():
            begin, end = day * NANOS_PER_DAY, min((day + 1) * NANOS_PER_DAY, before)
            there = await stored.counted(exchange, symbols, begin, end) if self._core.short < MOST_HOURS else None
            if there is None:
                complete = False
                break
            for symbol in symbols:
                counts = await asyncio.to_thread(self._counts, exchange, symbol, day, end)
                hours = {hour: count for (name, hour), count in there.trades.items() if name == symbol}
                self._core.compare((exchange, symbol), day, counts, hours, now)
        if self._core.finish():
            await asyncio.to_thread(self._remember)
        if complete and not self._core.short:
            self._equal_ns = now
            self._look_at = time.monotonic() + LOOK_ANYWAY_S

    def _days(self) -> dict[Series, Any]:
        return {series: stored_days(self._settings.columns, *series, "TRADES") for series in self._mine()}

    def _counts(self, exchange: str, symbol: str, day: int, before_ns: int) -> NDArray[np.int64]:
        """Of each hour of the day."""
        found = self._reader.select(exchange, symbol, "TRADES", day * NANOS_PER_DAY, before_ns - 1, ["time"])
        hours = found.column("time").astype(np.int64) // 3600 - day * HOURS
        return np.bincount(hours, minlength=HOURS)

    def _read(self, part: Part) -> pa.Table | None:
        """None while the rows are rewritten."""
        begin = part.hour * HOUR_NS
        try:
            found = self._reader.select(*part.series, "TRADES", begin, begin + HOUR_NS - 1, STORED)
        except BeingRewritten:
            return None
        return stored_trades(part.series[1], found).slice(part.first, part.rows)

    def _remember(self) -> None:
        equal: dict[str, dict[str, int]] = {}
        for (exchange, symbol), until in self._core.equal.items():
            equal.setdefault(exchange, {})[symbol] = until
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"table": self._table, "equal": equal}).encode()
        write_new_file(self._path, np.frombuffer(content, np.uint8))


def _remembered(path: Path) -> tuple[str, dict[Series, int]]:
    """What cannot be read is compared anew."""
    try:
        said = json.loads(path.read_bytes())
        equal = {(exchange, symbol): int(ns) for exchange, of in said["equal"].items() for symbol, ns in of.items()}
        return str(said["table"]), equal
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}
