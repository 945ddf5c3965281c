"""The raw journal: every frame an exchange sent, with its receive time, and every event of its connections.

A writer belongs to one process and owns the segments it creates; what it writes is never read, changed or continued by
a later one, which begins its own. What survives:

- a killed process: everything `flush` returned for, and whatever filled a block before;
- a power cut: all but what was flushed in the last two seconds or so, as a thread forces it to the disk after
  `SYNC_NS`;
- a full disk: everything before. The block that does not fit is given up and counted in `lost`, the call that had to
  write it raises OSError, and the part of it that reached the file is cut away, so the next block that fits follows
  the last one that did. The reader learns from the numbers of the events how many are missing there.

A reader never gives an event that was not written. What is damaged, torn or was given up is left out, and reported.
"""

import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from storage.column_layout import folder_name
from storage.journal_blocks import (
    HEADER_BYTES,
    KINDS,
    MAGIC,
    MAX_EVENT_BYTES,
    VERSION,
    BadBlock,
    EventKind,
    Header,
    JournalBlock,
    Run,
    closing_block,
    decode_block,
    encode_block,
    parse_header,
)

SUFFIX: Final = ".journal"

#: A block is written when this much waits for it. Larger ones are hardly smaller on the disk.
BLOCK_BYTES: Final = 256 * 1024
#: What an event costs besides its data, in memory and before compression.
EVENT_BYTES: Final = 64
#: The disk is made to hold what was flushed this often.
SYNC_NS: Final = 1_000_000_000

_SCAN_BYTES: Final = 1024 * 1024
_RECV: Final = KINDS.index("recv")
_log: Final = logging.getLogger(__name__)


class JournalError(ValueError):
    """A journal that cannot be read; the message is one line that names the file."""


class JournalEvent(msgspec.Struct, frozen=True, gc=False):
    """One frame, or one event of a connection.

    `connection` is unique for each start of a collector. `data` is the frame (`recv`), the text we sent (`send`), the
    reason (`close`) or the body (`rest`, whose `url` has its path and query); empty for `open`.
    """

    t_ns: int
    exchange: str
    connection: str
    kind: EventKind
    url: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes from `start` up to `stop` of a journal that give no events. `events` is how many are missing because of
    it, or None where nobody can tell, as at the end of a file."""

    path: Path
    start: int
    stop: int
    events: int | None
    reason: str

    def __str__(self) -> str:
        missing = "" if self.events is None else f"; {self.events} events are missing"
        return f"{self.path} at byte {self.start}, {self.stop - self.start} bytes: {self.reason}{missing}"


class JournalWriter:
    """Writes what one process receives from `exchange` to segments in `root`; one thread.

    A segment ends before it would grow over `segment_bytes`. `now_ns` (ns since the epoch) gives segments their names.
    Flush about once a second: more often costs compression, less often costs events when the process is killed.
    Memory: `BLOCK_BYTES` of waiting events besides those of the call.
    """

    def __init__(self, root: Path, exchange: str, segment_bytes: int, now_ns: Callable[[], int]) -> None:
        """Raises ValueError for an exchange whose name cannot be part of a file name."""
        self._root = root
        self._exchange = exchange
        self._file_name = folder_name(exchange)
        self._segment_bytes = segment_bytes
        self._now_ns = now_ns
        self._session = secrets.token_hex(6)
        self._descriptor = -1
        self._size = 0
        #: Number of the next event in the segment.
        self._number = 0
        self._begin_block()
        self._named_ns = 0
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")
        #: What the disk has been asked to hold, oldest first.
        self._syncing: deque[Future[None]] = deque()
        self._synced_ns = now_ns()
        self._synced_bytes = 0
        #: The segment being written, or the last one.
        self.path: Path | None = None
        #: Frames taken and bytes written, of all segments.
        self.frame_count = 0
        self.byte_count = 0
        #: Events, frames among them, that could not be written.
        self.lost = 0

    def __repr__(self) -> str:
        return f"<JournalWriter {self._exchange}: {self.frame_count} frames, {self.byte_count} bytes, {self.lost} lost>"

    def frames(
        self, connection: str, url: str, frames: Sequence[bytes], ts_recv: npt.NDArray[np.int64] | Sequence[int]
    ) -> None:
        """Take frames that came at `ts_recv` (int64 ns, same length).

        Raises OSError when a full block could not be written: it is lost, and so is the rest of this call. Raises
        ValueError, before anything is taken, when the lengths differ or a frame has more than `MAX_EVENT_BYTES`.
        """
        count = len(frames)
        times = np.array(ts_recv, np.int64)
        if times.shape != (count,):
            raise ValueError(f"{count} frames with times of shape {times.shape}")
        self._take(_RECV, connection, url, frames, times)

    def event(
        self, kind: Literal["open", "send", "close", "rest"], connection: str, url: str, t_ns: int, data: bytes = b""
    ) -> None:
        """Take one event of a connection; see `JournalEvent`. Raises as `frames` does."""
        self._take(KINDS.index(kind), connection, url, (data,), np.array([t_ns], np.int64))

    def flush(self) -> None:
        """Hand everything taken so far to the kernel, which keeps it when this process dies.

        Raises OSError when that fails, or when the disk refused something it was given since the last call.
        """
        if self._lengths:
            self._write_block()
        while self._syncing and self._syncing[0].done():
            self._syncing.popleft().result()
        now = self._now_ns()
        due = self._synced_bytes != self.byte_count and not 0 <= now - self._synced_ns < SYNC_NS
        if due and self._descriptor >= 0 and not self._syncing:
            self._synced_ns, self._synced_bytes = now, self.byte_count
            self._syncing.append(self._disk.submit(_sync, self._descriptor, self._root))

    def close(self) -> None:
        """Flush, close the segment and wait for the disk. Raises OSError as `flush` does; the writer is closed then
        too. Closing again does nothing."""
        try:
            self.flush()
        finally:
            self._end_segment()
            self._disk.shutdown()
        while self._syncing:
            self._syncing.popleft().result()

    def _take(self, kind: int, connection: str, url: str, data: Sequence[bytes], t_ns: npt.NDArray[np.int64]) -> None:
        lengths = np.fromiter(map(len, data), np.int64, len(data))
        if len(data) and lengths.max() > MAX_EVENT_BYTES:
            raise ValueError(f"an event of {lengths.max()} bytes; the journal takes up to {MAX_EVENT_BYTES}")
        self.frame_count += len(data) if kind == _RECV else 0
        taken = np.cumsum(lengths + EVENT_BYTES)
        start = before = 0
        while start < len(data):
            space = BLOCK_BYTES - self._waiting + before
            stop = max(int(np.searchsorted(taken, space, "right")), start + 1)
            self._runs.append((self._source(connection, url), kind, stop - start))
            self._times.append(t_ns[start:stop])
            self._lengths.append(lengths[start:stop])
            self._data.extend(data[start:stop])
            self._waiting += int(taken[stop - 1]) - before
            start, before = stop, int(taken[stop - 1])
            if start < len(data) or self._waiting >= BLOCK_BYTES:
                try:
                    self._write_block()
                except OSError:
                    self._give_up(len(data) - start)
                    raise

    def _source(self, connection: str, url: str) -> int:
        key = (connection, url)
        if key not in self._sources:
            self._sources[key] = len(self._sources)
            self._waiting += len(connection) + len(url)
        return self._sources[key]

    def _begin_block(self) -> None:
        self._sources: dict[tuple[str, str], int] = {}
        self._runs: list[Run] = []
        self._times: list[npt.NDArray[np.int64]] = []
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._data: list[bytes] = []
        self._waiting = 0

    def _give_up(self, events: int) -> None:
        self._number += events
        self.lost += events

    def _write_block(self) -> None:
        events = len(self._data)
        sources = [(f"{_text(connection)}#{self._session}", _text(url)) for connection, url in self._sources]
        times, lengths = np.concatenate(self._times), np.concatenate(self._lengths).astype(np.uint32)
        columns = (self._exchange, sources, self._runs, times, lengths, self._data)
        block = encode_block(self._number, *columns)
        try:
            if self._descriptor >= 0 and not self._goes_on(len(block)):
                self._end_segment()
                block = encode_block(self._number, *columns)
            if self._descriptor < 0:
                self._begin_segment()
            self._append(block)
        except OSError:
            self._give_up(events)
            raise
        else:
            self._number += events
        finally:
            self._begin_block()

    def _goes_on(self, size: int) -> bool:
        """Whether the segment has room, and is still there: somebody who needs space may have removed it."""
        fits = self._size + size + HEADER_BYTES <= self._segment_bytes
        return fits and os.fstat(self._descriptor).st_nlink > 0

    def _append(self, block: bytes) -> None:
        """Write it behind the last one, or not at all."""
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[os.pwrite(self._descriptor, rest, self._size + len(block) - len(rest)) :]
        except OSError:
            # Where even this fails, the next block is written over what is there.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(block)
        self.byte_count += len(block)

    def _begin_segment(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        # Also where the clock was set back, a later segment has the later name.
        t_ns = max(self._now_ns(), self._named_ns + 1)
        while self._descriptor < 0:
            second = datetime.fromtimestamp(t_ns // 1_000_000_000, UTC)
            path = self._root / f"{second:%Y%m%dT%H%M%S}.{t_ns % 1_000_000_000:09}Z-{self._file_name}{SUFFIX}"
            with suppress(FileExistsError):
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            self._named_ns = t_ns
            t_ns += 1
        self.path = path

    def _end_segment(self) -> None:
        if self._descriptor < 0:
            return
        # Without it a reader says that the file was not closed, which is then so.
        with suppress(OSError):
            self._append(closing_block(self._number))
        descriptor, self._descriptor, self._size, self._number = self._descriptor, -1, 0, 0
        self._syncing.append(self._disk.submit(_sync_and_close, descriptor, self._root))


def journal_files(folder: Path) -> list[Path]:
    """The segments in a folder, by the time they were begun. Raises `JournalError` for a folder that cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file())
    except OSError as error:
        raise JournalError(f"the journals in {folder} cannot be read: {error.strerror}") from None


def read_journal(path: Path, report: Callable[[Damage], None] = _log.warning) -> Iterator[JournalEvent]:
    """The events of one segment, in the order they were written; `report` hears of what is missing.

    Raises `JournalError` when the file is no journal or cannot be read. A segment that is being written can be read: it
    ends with the last block, and with a report that it is not closed.
    """
    for block in read_blocks(path, report):
        start = 0
        columns = (block.t_ns, block.kinds, block.sources, block.ends)
        for t_ns, kind, source, end in zip(*(column.tolist() for column in columns), strict=True):
            connection, url = block.connections[source], block.urls[source]
            yield JournalEvent(t_ns, block.exchange, connection, KINDS[kind], url, block.data[start:end])
            start = end


def read_blocks(path: Path, report: Callable[[Damage], None] = _log.warning) -> Iterator[JournalBlock]:
    """As `read_journal`, a block of some thousand events at a time."""
    try:
        with path.open("rb") as file:
            yield from _blocks(path, file, report)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from None


def _blocks(path: Path, file: BinaryIO, report: Callable[[Damage], None]) -> Iterator[JournalBlock]:
    size = _size(file)
    #: End of the last good block, and number of the event that comes next.
    good = number = 0
    found = closed = False
    reason, place = "", 0
    while (next_header := _next_header(file, place)) is not None:
        place, header = next_header
        if header.version != VERSION:
            raise JournalError(f"{path} is a journal of version {header.version}; this reads version {VERSION}")
        try:
            if closed or header.number < number:
                raise BadBlock("this block was not written here")
            file.seek(place + HEADER_BYTES)
            block = None if header.closing else decode_block(header, file.read(min(header.stored, _size(file))))
        except BadBlock as error:
            reason = reason or str(error)
            place += 1
            continue
        if place > good:
            report(Damage(path, good, place, header.number - number, reason or "no block can be read here"))
        elif header.number > number:
            report(Damage(path, good, place, header.number - number, "the disk did not take a block"))
        found, closed, reason = True, header.closing, ""
        number = header.number + header.events
        good = place = place + HEADER_BYTES + header.stored
        if block is not None:
            yield block
    if not found and not _begins_as_journal(file):
        raise JournalError(f"{path} is not a journal")
    if size > good:
        report(Damage(path, good, size, None, reason or "no block can be read here"))
    elif not closed:
        report(
            Damage(path, good, good, None, "not closed: it is being written, its writer was killed or the end is gone")
        )


def _next_header(file: BinaryIO, place: int) -> tuple[int, Header] | None:
    """The first intact header at `place` or behind it, and where it is."""
    size = HEADER_BYTES
    while True:
        file.seek(place)
        content = file.read(size)
        at = content.find(MAGIC)
        while at >= 0:
            if header := parse_header(content[at : at + HEADER_BYTES]):
                return place + at, header
            at = content.find(MAGIC, at + 1)
        if len(content) < size:
            return None
        place += len(content) - HEADER_BYTES + 1
        size = _SCAN_BYTES


def _text(name: str) -> str:
    """Without halves of surrogate pairs, which UTF-8 cannot write."""
    return name.encode(errors="replace").decode()


def _begins_as_journal(file: BinaryIO) -> bool:
    file.seek(0)
    return MAGIC.startswith(file.read(len(MAGIC)))


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _sync(descriptor: int, folder: Path) -> None:
    os.fdatasync(descriptor)
    entries = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)


def _sync_and_close(descriptor: int, folder: Path) -> None:
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)
