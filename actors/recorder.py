"""Keeps the raw journal of one exchange while it is wanted. A journal that cannot be written never stops the feed: what
is missing in it is counted and said.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import structlog

from storage.journal import JournalWriter

#: A killed process loses what came since the last flush.
FLUSH_S: Final = 1.0

log = structlog.get_logger(__name__)


class Recorder:
    """Writes to `folder` while `on`."""

    def __init__(self, folder: Path, exchange: str, segment_bytes: int, on: bool) -> None:
        self._folder = folder
        self._exchange = exchange
        self._segment_bytes = segment_bytes
        self.on = on
        self._writer: JournalWriter | None = None
        self._failure = ""
        self._frames = self._bytes = self._lost = 0
        self._flushed_at = time.monotonic()

    def switch(self, on: bool) -> None:
        """Begin a new journal, or end it; does nothing when it is so already."""
        if on and not self.on:
            self._frames = self._bytes = self._lost = 0
            self._failure = ""
        if not on:
            self.close()
        self.on = on

    def frames(self, connection: str, url: str, frames: Sequence[bytes], ts_recv: npt.NDArray[np.int64]) -> None:
        if self.on:
            self._do(lambda writer: writer.frames(connection, url, frames, ts_recv))

    def event(
        self, kind: Literal["open", "send", "close", "rest"], connection: str, url: str, t_ns: int, data: bytes
    ) -> None:
        if self.on:
            self._do(lambda writer: writer.event(kind, connection, url, t_ns, data))

    def flush(self) -> None:
        """Hand what is due to the kernel; call it often."""
        if self._writer is not None and time.monotonic() - self._flushed_at > FLUSH_S:
            self._flushed_at = time.monotonic()
            self._do(JournalWriter.flush)

    def close(self) -> None:
        if self._writer is not None:
            self._do(JournalWriter.close)
            self._writer = None

    def status(self) -> dict[str, Any]:
        """What was taken since it was switched on; `lost` events could not be written, `failure` says why."""
        return {
            "on": self.on,
            "path": str(self._folder),
            "frames": self._frames,
            "bytes": self._bytes,
            "lost": self._lost,
            "failure": self._failure,
        }

    def _do(self, what: Callable[[JournalWriter], None]) -> None:
        try:
            if self._writer is None:
                self._writer = JournalWriter(self._folder, self._exchange, self._segment_bytes, time.time_ns)
            written = self._writer.byte_count
            what(self._writer)
            if self._writer.byte_count > written:
                # What only waits to be written says nothing about the disk.
                self._failure = ""
        except OSError as error:
            if not self._failure:
                log.error("the journal cannot be written", exchange=self._exchange, error=str(error))
            self._failure = error.strerror or str(error)
        if self._writer is not None:
            self._frames, self._bytes, self._lost = self._writer.frame_count, self._writer.byte_count, self._writer.lost
