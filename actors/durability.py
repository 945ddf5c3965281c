"""When what a shard has written survives a power cut: `sync_interval_s` after it was written, before it is acknowledged
(0), or when the system likes (null). A killed process loses nothing in any case.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from actors.metering.meters import Durations
from storage.column_writer import ColumnWriter
from storage.file_operations import sync_filesystem

_SYNCS: Final = Durations("rayfeed_sync_duration_seconds")


class Durability:
    """Syncs the file systems of `folders`, which hold what `writer` writes and what is said of it."""

    def __init__(self, writer: ColumnWriter, folders: Iterable[Path]) -> None:
        self._writer = writer
        self._folders = tuple(folders)
        #: Why the last sync failed, "" when it did not.
        self.failure = ""

    async def sync(self) -> None:
        """Returns when the disk holds everything that was written before. OSError: it may not."""
        unsynced = self._writer.begin_sync()
        if not unsynced:
            return
        try:
            # Whoever stops waiting must not leave rows that nobody syncs.
            await asyncio.shield(asyncio.to_thread(self._sync))
        except BaseException as error:
            self._writer.not_synced(unsynced)
            if isinstance(error, OSError):
                self.failure = f"cannot make files survive a power cut: {error.strerror}"
            raise
        self._writer.synced(unsynced)
        self.failure = ""

    def _sync(self) -> None:
        began = time.perf_counter()
        devices = {folder.stat().st_dev: folder for folder in self._folders if folder.exists()}
        for folder in devices.values():
            sync_filesystem(folder)
        _SYNCS.observe(time.perf_counter() - began)
