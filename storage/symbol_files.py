"""The files of one symbol on their way to another disk: which there are, pieces of them with their checksums, and the
place where they arrive. What has arrived is there for good, so that a transfer that was cut short goes on; a file that
grew meanwhile is gone on with where it ended, one that was replaced begins anew.
"""

import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from storage.column_archive import Archive
from storage.column_days import stored_days
from storage.column_layout import Column, day_of_commits, folder_name
from storage.column_writer import ColumnWriter
from storage.day_files import Day
from storage.file_operations import read_at, sync_filesystem, sync_folder, write_new_file
from storage.schema import COLUMNS

#: A piece has no more bytes.
PIECE: Final = 8 << 20
#: Rows that are put in among others at once.
_ROWS: Final = 1 << 20
_ARRIVING: Final = "arriving"


class Stored(NamedTuple):
    """A file by its path below the data folder, and what tells whether it is as it was."""

    path: str
    size: int
    inode: int
    changed_ns: int


class Damaged(OSError):
    """A piece is not what was sent."""


def files_of(data: Path, exchange: str, symbol: str) -> list[Stored]:
    """Everything that is stored of a symbol: its columns, its archived days, the bars of its days; but not which rows
    the disk is known to hold, as that is of this disk (`storage.day_commits`). OSError."""
    found = []
    for place in _places(data, exchange, symbol):
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            with suppress(FileNotFoundError):  # merged away meanwhile
                status = path.stat()
                if path.is_file() and day_of_commits(path.name) is None:
                    name = str(path.relative_to(data))
                    found.append(Stored(name, status.st_size, status.st_ino, status.st_mtime_ns))
    return found


def read_piece(data: Path, path: str, offset: int, size: int) -> tuple[int, bytes]:
    """The CRC-32 of some bytes of one of `files_of`, and the bytes. OSError; EOFError when it became shorter."""
    place = (data / path).resolve()
    if not place.is_relative_to(data.resolve()):
        raise PermissionError(f"{path} is not in the data folder")
    descriptor = os.open(place, os.O_RDONLY)
    try:
        content = bytes(read_at(descriptor, offset, min(size, PIECE)))
    finally:
        os.close(descriptor)
    return zlib.crc32(content), content


def remove_symbol(data: Path, exchange: str, symbol: str) -> None:
    """Take away everything of a symbol that another disk has. OSError."""
    for place in _places(data, exchange, symbol):
        gone = place.with_name(f".{place.name}.gone")
        with suppress(FileNotFoundError):
            # At once for whoever looks, also when this is cut short.
            place.replace(gone)
        if gone.is_dir():
            shutil.rmtree(gone)
        gone.unlink(missing_ok=True)


class Arrivals:
    """What is on its way to the disk of the data folder `data`. One process at a time per symbol."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def symbols(self) -> list[tuple[str, str]]:
        """Exchange and symbol of all that has arrived and was not taken in."""
        return [
            (exchange, symbol)
            for mark in sorted((self._data / _ARRIVING).glob("*/*/complete"))
            for exchange, symbol in [mark.read_text(encoding="utf-8").split("\n")]
        ]

    def wanted(self, exchange: str, symbol: str, files: Sequence[Stored]) -> Iterator[tuple[Stored, int]]:
        """The files that are not here as they are there, and from where on they are missing. What is here and is not
        there any more goes. OSError."""
        here = self._folder(exchange, symbol)
        names = {file.path for file in files}
        for place in _places(here, exchange, symbol):
            for path in place.rglob("*") if place.is_dir() else [place]:
                if path.is_file() and path.suffix != ".from" and str(path.relative_to(here)) not in names:
                    path.unlink()
                    _note_of(path).unlink(missing_ok=True)
        for file in files:
            path = here / file.path
            noted = _note_of(path).read_text().split() if _note_of(path).exists() else []
            size = path.stat().st_size if path.exists() else 0
            known = noted[:1] == [str(file.inode)]
            if known and size == file.size and noted[1:] == [str(file.changed_ns)]:
                continue
            # Columns of a day only grow, unless they are replaced.
            yield file, size if known and path.suffix == ".bin" and size <= file.size else 0

    def put(self, exchange: str, symbol: str, file: Stored, offset: int, piece: tuple[int, bytes]) -> None:
        """Take a piece. `Damaged`; OSError."""
        checksum, content = piece
        if zlib.crc32(content) != checksum:
            raise Damaged(f"{file.path} was damaged on its way")
        path = self._folder(exchange, symbol) / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        _note_of(path).write_text(str(file.inode))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, offset)
            written = 0
            while written < len(content):
                written += os.pwrite(descriptor, memoryview(content)[written:], offset + written)
        finally:
            os.close(descriptor)

    def finished(self, exchange: str, symbol: str, file: Stored) -> None:
        """All its bytes are here. OSError."""
        path = self._folder(exchange, symbol) / file.path
        if not file.size:
            self.put(exchange, symbol, file, 0, (0, b""))
        os.utime(path, ns=(file.changed_ns, file.changed_ns))
        _note_of(path).write_text(f"{file.inode} {file.changed_ns}")

    def begin(self, exchange: str, symbol: str) -> None:
        """What is here is not all of it any more. OSError."""
        self._mark(exchange, symbol).unlink(missing_ok=True)

    def complete(self, exchange: str, symbol: str) -> None:
        """Everything is here, and the disk holds it. OSError."""
        mark = self._mark(exchange, symbol)
        mark.parent.mkdir(parents=True, exist_ok=True)
        sync_filesystem(self._data)
        new = mark.with_name("complete.new")
        # Folders are called otherwise than some symbols.
        write_new_file(new, np.frombuffer(f"{exchange}\n{symbol}".encode(), np.uint8))
        new.replace(mark)
        sync_folder(mark.parent)

    def take_in(self, exchange: str, symbol: str, writer: ColumnWriter) -> None:
        """Let what has arrived be the symbol's files; where it has some, rows that these lack are put in among them.
        Nothing where not everything has arrived. OSError; `DamagedDay`."""
        here = self._folder(exchange, symbol)
        if not self._mark(exchange, symbol).exists():
            return
        for note in here.rglob("*.from"):
            note.unlink()
        for place, target in zip(_places(here, exchange, symbol), _places(self._data, exchange, symbol), strict=True):
            if not place.exists():
                continue
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                place.replace(target)
                sync_folder(target.parent)
            elif place.parent.parent.name == "columns":
                self._merge(exchange, symbol, here / "columns", writer)
            elif place.parent.parent.name == "archive":
                self._merge_archived(exchange, symbol, here / "archive", writer)
        shutil.rmtree(here)

    def _merge(self, exchange: str, symbol: str, columns: Path, writer: ColumnWriter) -> None:
        ColumnWriter(columns, 64).recover(exchange, symbol)
        for row_type in COLUMNS:
            folder = columns / folder_name(exchange) / folder_name(symbol) / row_type
            for number, stamp in stored_days(columns, exchange, symbol, row_type).items():
                day = Day(folder, row_type, number)
                for first in range(0, stamp.rows, _ROWS):
                    writer.append(exchange, symbol, row_type, _rows(day, first, min(_ROWS, stamp.rows - first)))
        writer.flush()

    def _merge_archived(self, exchange: str, symbol: str, archive: Path, writer: ColumnWriter) -> None:
        """Their rows go into column files, which are archived again; `writer` brings back what is archived here."""
        arrived = Archive(str(archive))
        for row_type in COLUMNS:
            for day in arrived.days(exchange, symbol, row_type):
                if (columns := arrived.get(exchange, symbol, row_type, day)) is not None:
                    writer.append(exchange, symbol, row_type, columns)
        writer.flush()

    def _mark(self, exchange: str, symbol: str) -> Path:
        return self._folder(exchange, symbol) / "complete"

    def _folder(self, exchange: str, symbol: str) -> Path:
        return self._data / _ARRIVING / folder_name(exchange) / folder_name(symbol)


def _rows(day: Day, first: int, count: int) -> dict[str, Column]:
    return {
        name: np.fromfile(day.path(name), kind, count, offset=first * kind.itemsize)
        for name, kind in COLUMNS[day.row_type].items()
    }


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.from")


def _places(data: Path, exchange: str, symbol: str) -> list[Path]:
    own, name = folder_name(exchange), folder_name(symbol)
    return [data / "columns" / own / name, data / "archive" / own / name, data / "bars" / own / f"{name}.arrow"]
