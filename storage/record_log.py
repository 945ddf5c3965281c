"""A log of records that must not be forgotten: lines of text, each the CRC-32 of what follows in hex, a space, and one
record as JSON.

What survives: a killed process loses nothing that `append` returned for, a power cut nothing that `sync` returned for;
a failed write (disk full) leaves the log as it was. A torn tail is cut when the log is opened, a damaged line is left
out and counted. `prepare` and `swap` make it short again: the new log takes the place of the old one whole, or not at
all, also in a power cut.
"""

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from storage.file_operations import read_at, sync_folder, write_at, write_new_file

_CRC_CHARACTERS: Final = 9


class RecordLog[Record]:
    """The log `path`, made when it is not there; one process writes it. `decode` gives None for what is no record.
    OSError when the disk fails."""

    def __init__(self, path: Path, encode: Callable[[Record], bytes], decode: Callable[[bytes], Record | None]) -> None:
        self._path = path
        self._encode = encode
        self._decode = decode
        path.parent.mkdir(parents=True, exist_ok=True)
        self._new = path.with_suffix(".new")
        self._new.unlink(missing_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        #: Lines that were left out.
        self.damaged = 0
        self._size = self._cut()

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    def read(self) -> Iterator[Record]:
        """Every intact record, oldest first."""
        for record in read_records(self._path, self._decode):
            if record is None:
                self.damaged += 1
            else:
                yield record

    def append(self, records: Sequence[Record]) -> None:
        content = b"".join(map(self._line, records))
        try:
            written = os.pwrite(self._descriptor, content, self._size)
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], self._size + written)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def sync(self) -> None:
        """Let what was appended survive a power cut."""
        os.fdatasync(self._descriptor)

    def prepare(self, records: Sequence[Record]) -> None:
        """Write what `swap` is to put in place; another thread may append meanwhile."""
        write_new_file(self._new, np.frombuffer(b"".join(map(self._line, records)), np.uint8))

    def swap(self, size: int) -> None:
        """Let what was prepared stand for the first `size` bytes; what was appended behind them stays."""
        meanwhile = read_at(self._descriptor, size, self._size - size)
        descriptor = os.open(self._new, os.O_RDWR)
        try:
            written = os.fstat(descriptor).st_size
            write_at(descriptor, np.frombuffer(meanwhile, np.uint8), written)
            os.fsync(descriptor)
            self._new.replace(self._path)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor, self._size = descriptor, written + len(meanwhile)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Make it survive a power cut, and let go of it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _line(self, record: Record) -> bytes:
        content = self._encode(record)
        return b"%08x %b\n" % (zlib.crc32(content), content)

    def _cut(self) -> int:
        content = self._path.read_bytes()
        size = content.rfind(b"\n") + 1
        if size < len(content):
            os.ftruncate(self._descriptor, size)
        return size


def read_records[Record](path: Path, decode: Callable[[bytes], Record | None]) -> Iterator[Record | None]:
    """Every record of a log, oldest first, None where a line is damaged."""
    with path.open("rb") as file:
        for line in file:
            content = line[_CRC_CHARACTERS:-1]
            intact = line[:_CRC_CHARACTERS] == b"%08x " % zlib.crc32(content) and line.endswith(b"\n")
            yield decode(content) if intact else None
