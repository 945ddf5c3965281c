"""What becomes of a shard's column files of days that are over, by `columns_policy`: they are sealed with checksums,
later they become Parquet in the archive, and at last they go.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog

from actors.archived_days import ArchivedDays
from actors.durability import Durability
from config import Settings
from storage.column_days import stored_days
from storage.column_layout import NANOS_PER_DAY, day_name, folder_name
from storage.column_writer import ColumnWriter
from storage.day_files import DamagedDay, Day, remove_day
from storage.day_seal import Seal, file_states, measured, read_seal, write_seal
from storage.schema import COLUMNS

_HOUR_NS: Final = 3600 * 1_000_000_000
#: So many days that could not be kept as they should are named in the status.
_MOST_FAILURES: Final = 5

#: Exchange, symbol, day since the epoch, and what makes files survive a power cut.
LetGo = Callable[[str, str, int, Callable[[], Awaitable[None]]], Awaitable[None]]

log = structlog.get_logger(__name__)


class DayKeeper:
    """Keeps the days that `writer` writes; no other one changes them."""

    def __init__(
        self, settings: Settings, writer: ColumnWriter, durability: Durability, archived: ArchivedDays, let_go: LetGo
    ) -> None:
        """`let_go` is told of each day of trades before it goes. OSError: it stays."""
        self._settings = settings
        self._policy = settings.columns_policy
        self._writer = writer
        self._durability = durability
        self._archived = archived
        self._let_go = let_go
        self._counts: Counter[str] = Counter()
        self._failures: dict[str, str] = {}

    async def keep(self, symbols: Iterable[tuple[str, str]]) -> None:
        """Do what is due for each symbol (exchange, symbol). A day that fails is told in `status` and tried again with
        the next call; the others are not held up."""
        counts, failures = Counter[str](), dict[str, str]()
        for exchange, symbol in symbols:
            for row_type in COLUMNS:
                folder = self._settings.columns / folder_name(exchange) / folder_name(symbol) / row_type
                for number in await asyncio.to_thread(stored_days, self._settings.columns, exchange, symbol, row_type):
                    day = Day(folder, row_type, number)
                    try:
                        counts[await self._keep_day(exchange, symbol, day)] += 1
                    except (DamagedDay, OSError, ValueError) as error:
                        failures[f"{exchange} {symbol} {row_type} {day_name(number)}"] = str(error)
                if (kept := self._policy.keep_days.get(row_type)) is not None:
                    before = time.time_ns() // NANOS_PER_DAY - kept
                    try:
                        await asyncio.to_thread(self._archived.forget, exchange, symbol, row_type, before)
                    except (OSError, ValueError) as error:  # the archive may be away for a while
                        failures[f"{exchange} {symbol} {row_type} archived"] = str(error)
        for name, why in failures.items():
            if self._failures.get(name) != why:
                log.error("a day cannot be kept as it should", day=name, error=why)
        counts["failed"] = len(failures)
        self._counts, self._failures = counts, failures

    def status(self) -> dict[str, Any]:
        """Days of the last look that are open, sealed, archived, removed and failed; and why some of these did."""
        kinds = ("open", "sealed", "archived", "removed", "failed")
        named = dict(list(self._failures.items())[:_MOST_FAILURES])
        return {"days": {kind: self._counts[kind] for kind in kinds}, "days_failed": named}

    async def _keep_day(self, exchange: str, symbol: str, day: Day) -> str:
        now = time.time_ns()
        over = now - (day.day + 1) * NANOS_PER_DAY
        kept = self._policy.keep_days.get(day.row_type)
        gone, to_archive = kept is not None and over >= kept * NANOS_PER_DAY, self._archived.wants(day.day)
        sealed = day.seal.exists()
        if sealed and not gone and not to_archive:
            return "sealed"
        settled = now - max(state.changed_ns for state in file_states(day))
        if min(over, settled) < self._policy.seal_after_h * _HOUR_NS:
            return "open"
        if (seal := read_seal(day) if sealed else await self._seal(day)) is None:
            return "open"
        if gone or to_archive:
            if not gone:
                await asyncio.to_thread(self._archived.archive.put, exchange, symbol, day, seal)
            if day.row_type == "TRADES":
                await self._let_go(exchange, symbol, day.day, self._durability.sync)
            if not day.seal.exists():
                return "open"  # a late row came meanwhile
            self._writer.forget(day)
            remove_day(day)
            return "removed" if gone else "archived"
        return "sealed"

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
