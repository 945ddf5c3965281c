"""What a shard must not forget about its trades besides the files: gap rows, what merged trades stand for, and
checkpoints that keep a start from reading every day.

A log is lines of text: the CRC-32 of what follows in hex, a space, and one record as JSON. What survives: a killed
process loses nothing that `append` returned for; a failed write (disk full) leaves the log as it was. A torn tail is
cut when the log is opened, a damaged line is left out and counted. `prepare` and `swap` make it short again: the new
log takes the place of the old one whole, or not at all, also in a power cut.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

_CRC_CHARACTERS: Final = 9


@dataclass(frozen=True, slots=True)
class Gap:
    """One row of `storage.schema.GAPS`, and of which exchange."""

    exchange: str
    symbol: str
    gap_id: int
    first_id: int | None
    last_id: int | None
    from_ns: int
    to_ns: int
    missing: int | None
    opened: int
    reason: str
    attempts: int = 0
    backfilled: int = 0
    closed: int | None = None
    evidence: str = ""
    revision: int = 0


class Merged(msgspec.Struct, frozen=True):
    """Trades of a symbol that stand for several, as in `storage.schema.MERGED`. Those that are in no file mean
    nothing."""

    exchange: str
    symbol: str
    ids: list[int]
    fills: list[int]


class Checkpoint(msgspec.Struct, frozen=True):
    """What the files of a symbol held at `at_ns` (wall clock, ns): days that did not change since `changed_ns` need no
    reading.

    Stored are the ids `first_id..through_id` but for `missing` (first and last of each range, one after another);
    `surplus` of them are in the files only as part of a merged trade. Both ids are null before the first live trade,
    and where the exchange does not count its trades.
    """

    exchange: str
    symbol: str
    proof: Literal["ids", "numbered", "recent", "none"]
    at_ns: int
    changed_ns: int
    first_id: int | None
    through_id: int | None
    missing: list[int]
    surplus: int
    merging: bool
    first_ns: int
    last_ns: int
    last_gap_id: int
    gaps_closed: int
    doubled: int
    since: int


Record = Gap | Merged | Checkpoint


class _Line(msgspec.Struct, omit_defaults=True):
    gap: Gap | None = None
    merged: Merged | None = None
    checkpoint: Checkpoint | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Line).decode


class LedgerLog:
    """The log `path`, made when it is not there; one process writes it. OSError when the disk fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        with self._path.open("rb") as file:
            for line in file:
                record = _record(line)
                if record is None:
                    self.damaged += 1
                else:
                    yield record

    def append(self, records: Sequence[Record]) -> None:
        content = b"".join(map(_line, records))
        try:
            written = os.pwrite(self._descriptor, content, self._size)
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], self._size + written)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def prepare(self, records: Sequence[Record]) -> None:
        """Write what `swap` is to put in place; another thread may append meanwhile."""
        with self._new.open("wb") as file:
            file.writelines(map(_line, records))
            file.flush()
            os.fsync(file.fileno())

    def swap(self, size: int) -> None:
        """Let what was prepared stand for the first `size` bytes; what was appended behind them stays."""
        with self._new.open("ab") as file:
            file.write(os.pread(self._descriptor, self._size - size, size))
            file.flush()
            os.fsync(file.fileno())
            written = file.tell()
        self._new.replace(self._path)
        os.close(self._descriptor)
        self._descriptor = os.open(self._path, os.O_RDWR)
        self._size = written
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Make it survive a power cut, and let go of it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _cut(self) -> int:
        content = self._path.read_bytes()
        size = content.rfind(b"\n") + 1
        if size < len(content):
            os.ftruncate(self._descriptor, size)
        return size


def read_log(path: Path) -> Iterator[Record]:
    """Every intact record of a log that is somebody else's, oldest first."""
    with path.open("rb") as file:
        yield from filter(None, map(_record, file))


def _line(record: Record) -> bytes:
    match record:
        case Gap():
            line = _Line(gap=record)
        case Merged():
            line = _Line(merged=record)
        case Checkpoint():
            line = _Line(checkpoint=record)
    content = _encode(line)
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _record(line: bytes) -> Record | None:
    content = line[_CRC_CHARACTERS:-1]
    if line[:_CRC_CHARACTERS] != b"%08x " % zlib.crc32(content) or not line.endswith(b"\n"):
        return None
    try:
        decoded = _decode(content)
    except msgspec.DecodeError:
        return None
    return decoded.gap or decoded.merged or decoded.checkpoint
