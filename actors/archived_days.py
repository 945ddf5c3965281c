"""The archive of a shard's days, and which of them belong there by `columns_policy`."""

import time

from config import Settings
from storage.column_archive import Archive
from storage.column_layout import NANOS_PER_DAY
from storage.day_files import Day
from storage.schema import RowType


class ArchivedDays:
    """Names of exchanges and symbols may be those of their folders."""

    def __init__(self, settings: Settings) -> None:
        self._after = settings.columns_policy.archive_after_days
        self.archive = Archive(settings.archive)

    def wants(self, day: int) -> bool:
        """Whether a day since the epoch is so old that it belongs into the archive."""
        over_ns = time.time_ns() - (day + 1) * NANOS_PER_DAY
        return self._after is not None and over_ns >= self._after * NANOS_PER_DAY

    def bring_back(self, day: Day) -> None:
        """Make the files of an archived day again: a late row is about to be written to it. OSError; `DamagedDay`."""
        exchange, symbol = day.folder.parent.parent.name, day.folder.parent.name
        # Also where it would not be archived now, as it may have been under another policy: what is there would be
        # written over by the late row alone.
        is_over = time.time_ns() >= (day.day + 1) * NANOS_PER_DAY
        if is_over and self.archive.has(exchange, symbol, day.row_type, day.day):
            self.archive.restore(exchange, symbol, day)

    def forget(self, exchange: str, symbol: str, row_type: RowType, before: int) -> None:
        """Remove the days before this one. OSError."""
        for day in self.archive.days(exchange, symbol, row_type):
            if day < before:
                self.archive.remove(exchange, symbol, row_type, day)
