"""Rows on their way to a database, on the disk: in order, bounded, and still there after whatever happened to us.

A spool is a folder of segments, `{number}.spool`, written one after another. What survives: a killed process loses
nothing that `append` returned for, a power cut the last seconds; a torn or damaged record ends its segment when that is
opened. A segment goes once all its rows are done with, so after a kill some come a second time: their keys make that
harmless. When the spool is full its oldest segment goes.
"""

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from storage.file_operations import read_at, write_at

#: CRC-32 of what follows this, and the lengths of what the record says of itself (JSON) and of its rows (Arrow IPC).
_FRAME: Final = Struct("<III")
_SUFFIX: Final = ".spool"
SEGMENT_BYTES: Final = 16 * 1024 * 1024


class Described(msgspec.Struct, frozen=True):
    """What a record says of its rows: the `table` they are for, their `exchange` (None where they say it themselves),
    the `version` of the first, and how many they are."""

    table: str
    exchange: str | None
    version: int
    rows: int


@dataclass(frozen=True, slots=True)
class Record:
    """Where rows are."""

    described: Described
    segment: int
    offset: int
    size: int


class Spool:
    """Holds `most_bytes`, and a segment more while it drops the oldest. One process, one thread; `read` from any.
    OSError when the disk fails: then nothing was appended."""

    def __init__(self, folder: Path, most_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        #: By segment, oldest first: its bytes, and how many of its records are not done.
        self._bytes: dict[int, int] = {}
        self._left: dict[int, int] = {}
        #: Segments that were not whole when they were opened.
        self.damaged = 0
        #: The one that is written to, and its descriptor.
        self._writing: tuple[int, int] | None = None
        numbers = sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
        self._last = max(numbers, default=-1)
        #: What waited when it was opened, oldest first.
        self.found = [record for number in numbers for record in self._open(number)]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(self._bytes.values())

    def append(self, described: Described, stream: bytes | pa.Buffer) -> Record:
        """Hold rows, an Arrow IPC stream."""
        head = msgspec.json.encode(described)
        frame = _FRAME.pack(zlib.crc32(stream, zlib.crc32(head)), len(head), len(stream))
        number, descriptor = self._segment()
        offset = self._bytes[number]
        try:
            for part in (frame + head, stream):
                write_at(descriptor, np.frombuffer(part, np.uint8), offset)
                offset += len(part)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, self._bytes[number])
            raise
        self._bytes[number] = offset
        self._left[number] += 1
        while self.size > self._most_bytes and len(self._bytes) > 1:
            self._remove(min(self._bytes))
        return Record(described, number, offset - len(stream), len(stream))

    def read(self, record: Record) -> pa.Table:
        """The rows of a record. OSError or EOFError when they are gone."""
        with self._path(record.segment).open("rb") as file:
            stream = read_at(file.fileno(), record.offset, record.size)
        return pa.ipc.open_stream(pa.py_buffer(stream)).read_all()

    def holds(self, record: Record) -> bool:
        """Whether it is still there: not when it was dropped."""
        return record.segment in self._left

    def done(self, record: Record) -> None:
        """Nobody needs it any more."""
        if not self.holds(record):
            return
        number = record.segment
        self._left[number] -= 1
        # To the one that is written to others may come; but not on and on to one of which nothing is left.
        current = self._writing is not None and number == self._writing[0]
        if not self._left[number] and not (current and self._bytes[number] < self._segment_bytes // 4):
            self._remove(number)

    def close(self) -> None:
        """Let go of it; what is done with is gone."""
        for number in [number for number, left in self._left.items() if not left]:
            self._remove(number)
        self._leave()

    def _segment(self) -> tuple[int, int]:
        if self._writing is None or self._bytes[self._writing[0]] >= self._segment_bytes:
            number = self._last + 1
            descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._leave()
            self._writing, self._last = (number, descriptor), number
            self._bytes[number] = self._left[number] = 0
        return self._writing

    def _leave(self) -> None:
        if self._writing is not None:
            os.close(self._writing[1])
            self._writing = None

    def _remove(self, number: int) -> None:
        # What a disk keeps that has become read-only comes a second time.
        with suppress(OSError):
            self._path(number).unlink(missing_ok=True)
        del self._bytes[number], self._left[number]
        if self._writing is not None and self._writing[0] == number:
            self._leave()

    def _open(self, number: int) -> list[Record]:
        """The records of a segment; cut where one is not whole."""
        path, records, offset = self._path(number), list[Record](), 0
        content = path.read_bytes()
        while offset < len(content) and (record := _record(content, number, offset)) is not None:
            records.append(record)
            offset = record.offset + record.size
        if offset < len(content):
            self.damaged += 1
            os.truncate(path, offset)
        self._bytes[number], self._left[number] = offset, len(records)
        if not records:
            self._remove(number)
        return records

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:016d}{_SUFFIX}"


def _record(content: bytes, number: int, offset: int) -> Record | None:
    if len(content) < offset + _FRAME.size:
        return None
    checksum, head, size = _FRAME.unpack_from(content, offset)
    begin = offset + _FRAME.size
    said = memoryview(content)[begin : begin + head + size]
    if len(said) < head + size or zlib.crc32(said) != checksum:
        return None
    try:
        described = msgspec.json.decode(said[:head], type=Described)
    except msgspec.DecodeError:
        return None
    return Record(described, number, begin + head, size)
