"""What becomes of a shard's column files of days that are over, by `columns_policy`: they are sealed with checksums,
later they become Parquet in the archive, and at last they go.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import structlog

from actors.durability import Durability
from config import Settings
from storage.column_archive import Archive
from storage.column_days import stored_days
from storage.column_layout import NANOS_PER_DAY, day_name, folder_name
from storage.column_writer import ColumnWriter
from storage.day_files import DamagedDay, Day, remove_day
from storage.day_seal import Seal, file_states, measured, read_seal, write_seal
from storage.schema import COLUMNS, RowType

_HOUR_NS: Final = 3600 * 1_000_000_000
#: So many days that could not be kept as they should are named in the status, the newest.
_MOST_FAILURES: Final = 5

log = structlog.get_logger(__name__)


class DayKeeper:
    """Keeps the days that `writer` writes; no other one changes them."""

    def __init__(self, settings: Settings, writer: ColumnWriter, durability: Durability) -> None:
        self._settings = settings
        self._policy = settings.columns_policy
        self._writer = writer
        self._durability = durability
        self._archive = Archive(settings.archive)
        self._counts: Counter[str] = Counter()
        self._failures: dict[str, str] = {}

    async def keep(self, symbols: Iterable[tuple[str, str]]) -> None:
        """Do what is due for each symbol (exchange, symbol). A day that fails is told in `status` and tried again with
        the next call; the others are not held up."""
        counts: Counter[str] = Counter()
        for exchange, symbol in symbols:
            for row_type in COLUMNS:
                days = await asyncio.to_thread(stored_days, self._settings.columns, exchange, symbol, row_type)
                folder = self._settings.columns / folder_name(exchange) / folder_name(symbol) / row_type
                for number in days:
                    day = Day(folder, row_type, number)
                    name = f"{exchange} {symbol} {row_type} {day_name(number)}"
                    try:
                        counts[await self._keep_day(exchange, symbol, day)] += 1
                        self._failures.pop(name, None)
                    except (DamagedDay, OSError, ValueError) as error:
                        counts["failed"] += 1
                        if self._failures.get(name) != str(error):
                            log.error("a day cannot be kept as it should", day=name, error=str(error))
                        self._failures[name] = str(error)
                if (kept := self._policy.keep_days.get(row_type)) is not None:
                    before = time.time_ns() // NANOS_PER_DAY - kept
                    await asyncio.to_thread(self._forget_archived, exchange, symbol, row_type, before)
        self._counts = counts
        for name in list(self._failures)[:-_MOST_FAILURES]:
            del self._failures[name]

    def status(self) -> dict[str, Any]:
        """Days of the last look that are open, sealed, archived, removed and failed; and why."""
        kinds = ("open", "sealed", "archived", "removed", "failed")
        return {"days": {kind: self._counts[kind] for kind in kinds}, "days_failed": dict(self._failures)}

    async def _keep_day(self, exchange: str, symbol: str, day: Day) -> str:
        now = time.time_ns()
        over = now - (day.day + 1) * NANOS_PER_DAY
        settled = now - max(state.changed_ns for state in file_states(day))
        if min(over, settled) < self._policy.seal_after_h * _HOUR_NS:
            return "open"
        kept, archived = self._policy.keep_days.get(day.row_type), self._policy.archive_after_days
        gone = kept is not None and over >= kept * NANOS_PER_DAY
        to_archive = archived is not None and over >= archived * NANOS_PER_DAY
        if (seal := read_seal(day)) is None and (seal := await self._seal(day)) is None:
            return "open"
        if not gone:
            if not to_archive:
                return "sealed"
            if not await self._put(exchange, symbol, day, seal):
                return "open"
        if not day.seal.exists():
            return "open"  # a late row came meanwhile
        self._writer.forget(day)
        remove_day(day)
        return "removed" if gone else "archived"

    async def _seal(self, day: Day) -> Seal | None:
        """None when rows came meanwhile."""
        before = file_states(day)
        await self._durability.sync()
        seal = await asyncio.to_thread(measured, day)
        if file_states(day) != before:
            return None
        self._writer.forget(day)
        write_seal(day, seal)
        return seal

    def _forget_archived(self, exchange: str, symbol: str, row_type: RowType, before: int) -> None:
        for day in self._archive.days(exchange, symbol, row_type):
            if day < before:
                self._archive.remove(exchange, symbol, row_type, day)

    async def _put(self, exchange: str, symbol: str, day: Day, seal: Seal) -> bool:
        """Whether the archive has the day now, and nothing came meanwhile."""
        archived = await asyncio.to_thread(self._archive.get, exchange, symbol, day.row_type, day.day)
        if archived is not None and self._writer.append(exchange, symbol, day.row_type, archived).any():
            return False  # late rows came for a day that was archived: they are together now, and sealed again later
        await asyncio.to_thread(self._archive.put, exchange, symbol, day, seal)
        return True
