"""What of a day's rows can be trusted after a power cut: the file `commits.{DD.MM.YY}` beside its columns.

Each append leaves a record there before its times are written: which rows it brought, the CRC-32 of their bytes,
and how many rows the disk is known to hold. A killed process loses nothing, so records count only when the machine was
started since: then the rows the disk held, and those after them whose bytes are as they were written, stay.
"""

import os
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Final

#: Marks the file and says when the machine was started that wrote it; then the CRC-32 of both.
_HEADER: Final = Struct("<8s16sI4x")
_MAGIC: Final = b"commits1"
#: Number of the append, rows on the disk, first row, end of the rows, CRC-32 of their bytes, CRC-32 of all this.
_RECORD: Final = Struct("<QQQQII")
#: The newest so many appends have a record; of rows that are not on the disk by then the older ones are cut.
SLOTS: Final = 512

#: The CRC-32 of the bytes of the rows from the first to before the second.
Checksum = Callable[[int, int], int]


@cache
def machine_start() -> bytes:
    """16 bytes that are others after each start of the machine."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)  # not Linux: as if it had never stopped


class Commits:
    """The records of one day that is written to, of which there were `count`; `synced` rows are on the disk."""

    def __init__(self, count: int, synced: int) -> None:
        self._count = count
        self.synced = synced

    def write(self, descriptor: int, first: int, end: int, checksum: int) -> None:
        """Rows `first` to before `end` are about to exist. OSError."""
        place = _HEADER.size + self._count % SLOTS * _RECORD.size
        os.pwrite(descriptor, _record(self._count, self.synced, first, end, checksum), place)
        self._count += 1


def fresh(rows: int) -> bytes:
    """The content for a day whose `rows` rows the disk holds."""
    return header() + _record(0, rows, 0, 0, 0)


def header() -> bytes:
    """The content's beginning; says when the machine was started."""
    start = _MAGIC + machine_start()
    return _HEADER.pack(_MAGIC, machine_start(), zlib.crc32(start))


def never_synced(content: bytes) -> bool:
    """Whether nothing says that the disk ever held a row of the day, and the machine was started since, or what should
    say so is gone itself."""
    head, found = content[: _HEADER.size], _records(content)
    return not any(one[1] for one in found) and (not _intact(head) or head[8:24] != machine_start())


def unreadable(content: bytes) -> bool:
    """Whether it says nothing at all."""
    return not _intact(content[: _HEADER.size]) and not _records(content)


def trusted(content: bytes, rows: int, checksum: Checksum) -> tuple[int, Commits, bool]:
    """Of a day with so many rows those that can be trusted, the records to go on with, and whether they were written
    since the machine was started: if not, the header is to be written anew once the disk holds those rows."""
    head, found = content[: _HEADER.size], _records(content)
    count = found[-1][0] + 1 if found else 0
    synced = min(max((record[1] for record in found), default=0), rows)
    if _intact(head) and head[8:24] == machine_start():
        return rows, Commits(count, synced), True
    end = synced
    while follow := [
        last for _, _, first, last, said in found if first == end < last <= rows and checksum(end, last) == said
    ]:  # fmt: skip
        end = max(follow)
    return end, Commits(count, end), False


def _intact(head: bytes) -> bool:
    return len(head) == _HEADER.size and _HEADER.unpack(head)[2] == zlib.crc32(head[:24])


def _records(content: bytes) -> list[tuple[int, int, int, int, int]]:
    """Those that are intact, oldest first."""
    places = range(_HEADER.size, min(len(content), _HEADER.size + SLOTS * _RECORD.size), _RECORD.size)
    return sorted(record for place in places if (record := _read(content[place : place + _RECORD.size])) is not None)


def _record(*fields: int) -> bytes:
    content = _RECORD.pack(*fields, 0)[:-4]
    return content + zlib.crc32(content).to_bytes(4, "little")


def _read(record: bytes) -> tuple[int, int, int, int, int] | None:
    if len(record) < _RECORD.size or _RECORD.unpack(record)[5] != zlib.crc32(record[:-4]):
        return None
    count, synced, first, end, checksum, _ = _RECORD.unpack(record)
    return count, synced, first, end, checksum
