"""What of a data folder goes into a backup, read while others write it: a day of column files is of one state, a log
ends where it ended when it was opened.
"""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from storage.backup_manifest import OBJECT_BYTES, BackupError, File, Files
from storage.column_layout import UNPROVEN, day_name, day_of_marker, day_of_time_file, file_name, marker_name, seal_name
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS, RowType

_PATIENCE_S: Final = 20.0
_ATTEMPT_DELAY_S: Final = 0.02
#: Beside files for as long as they are written to or replaced, or left by somebody who was killed. What survives
#: a power cut here is nothing that holds where it is restored.
_PASSING: Final = (".merge", ".new", ".part", UNPROVEN)
_PASSING_BEGIN: Final = ("merging.", "commits.", "removing.", ".")

_ROW_TYPES: Final[Mapping[str, RowType]] = {row_type: row_type for row_type in COLUMNS}


class Source(NamedTuple):
    """A section of a backup: groups of files, each of which is read as one."""

    name: str
    groups: Callable[[], Iterator["Group"]]


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one folder, whose path below the data folder is `folder`. `day` is that of column files."""

    data: Path
    folder: str
    names: Sequence[str]
    day: int | None = None

    @contextmanager
    def opened(self) -> Iterator["Opened"]:
        """The files as they are now, whoever replaces or appends to them meanwhile. BackupError when a day does not
        come to rest."""
        path = self.data / self.folder
        with ExitStack() as stack:
            if self.day is None:
                yield Opened(self.folder, _open_plain(stack, path, self.names))
            else:
                yield Opened(self.folder, _open_day(stack, path, self.names, self.day))


@dataclass(frozen=True, slots=True)
class Opened:
    """Descriptors of files that are open, and what of each is to be copied."""

    folder: str
    files: Sequence[tuple[int, File]]

    def pieces(self) -> Iterator[bytearray]:
        """Their bytes, one file behind the other, in pieces of `OBJECT_BYTES`. BackupError where one became shorter."""
        left = sum(file.size for _, file in self.files)
        piece, filled = bytearray(min(OBJECT_BYTES, left)), 0
        for descriptor, file in self.files:
            done = 0
            while done < file.size:
                end = min(len(piece), filled + file.size - done)
                read = os.preadv(descriptor, [memoryview(piece)[filled:end]], done)
                if not read:
                    raise BackupError(f"{self.folder}/{file.name} became shorter while it was copied; try again")
                done, filled = done + read, filled + read
                if filled == len(piece):
                    yield piece
                    left -= filled
                    piece, filled = bytearray(min(OBJECT_BYTES, left)), 0


class Begun(NamedTuple):
    """Files of a folder, whose bytes follow in pieces; but none where they are the `same` as were copied before."""

    folder: str
    files: list[File]
    same: bool


def copied(groups: Iterable[Group], before: Mapping[tuple[str, ...], Files]) -> Generator[Begun | bytearray]:
    """All files, `before` being what was copied last by `key_of`. BackupError as `Group.opened`."""
    for group in groups:
        with group.opened() as opened:
            files = [file for _, file in opened.files]
            if not files:
                continue
            known = before.get(key_of(opened.folder, files))
            same = known is not None and known.files == files
            yield Begun(opened.folder, files, same)
            if not same:
                yield from opened.pieces()


def key_of(folder: str, files: Iterable[File]) -> tuple[str, ...]:
    """What stays the same of files while their contents change."""
    return (folder, *(file.name for file in files))


def folder_source(data: Path, name: str) -> Source:
    """Everything in a folder of the data folder."""
    return Source(name, lambda: _groups_of(data, data / name))


def files_source(data: Path, names: Sequence[str]) -> Source:
    """Files of the data folder itself."""
    return Source("settings", lambda: iter([Group(data, "", [name for name in names if (data / name).is_file()])]))


def column_sources(data: Path) -> Iterator[Source]:
    """The column files, a source for each symbol."""
    root = data / "columns"
    for exchange in _folders(root):
        for symbol in _folders(exchange):
            yield Source(str(symbol.relative_to(data)), _symbol_groups(data, symbol))


def _symbol_groups(data: Path, symbol: Path) -> Callable[[], Iterator[Group]]:
    def groups() -> Iterator[Group]:
        yield from _groups_of(data, symbol, skip=frozenset(COLUMNS))
        for row_type in COLUMNS:
            if (symbol / row_type).is_dir():
                yield from _days(data, symbol / row_type)

    return groups


def _days(data: Path, folder: Path) -> Iterator[Group]:
    names = _names(folder)
    below = str(folder.relative_to(data))
    others = set(names)
    for day in sorted(day for name in names if (day := day_of_time_file(name)) is not None):
        # `time` comes last, as it is replaced last.
        own = [file_name(column, day) for column in COLUMNS[_ROW_TYPES[folder.name]] if column != "time"]
        found = [*(name for name in own if name in others), file_name("time", day)]
        if seal_name(day) in others:
            found.append(seal_name(day))
        others.difference_update(own, found)
        yield Group(data, below, found, day)
    if others:
        yield Group(data, below, sorted(others))


def _groups_of(data: Path, folder: Path, skip: frozenset[str] = frozenset()) -> Iterator[Group]:
    if names := _names(folder):
        below = str(folder.relative_to(data))
        # One by one, as one of them may be long and another change.
        yield from (Group(data, below, [name]) for name in names)
    for inner in _folders(folder):
        if inner.name not in skip:
            yield from _groups_of(data, inner)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.is_file() and not entry.name.startswith(_PASSING_BEGIN) and not entry.name.endswith(_PASSING)
            )
    except FileNotFoundError:
        return []


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []


def _open_plain(stack: ExitStack, folder: Path, names: Sequence[str]) -> list[tuple[int, File]]:
    found = []
    for name in names:
        with suppress(FileNotFoundError):  # somebody took it away
            found.append(_open(stack, folder, name))
    return found


def _open_day(stack: ExitStack, folder: Path, names: Sequence[str], day: int) -> list[tuple[int, File]]:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        with ExitStack() as attempt:
            found = _attempt(attempt, folder, names, day)
            if found is not None:
                stack.push(attempt.pop_all())
                return found
        if time.monotonic() > deadline:
            raise BackupError(
                f"{folder}: late rows of {day_name(day)} have been merged for {_PATIENCE_S:g} s; try again in a moment"
            )
        time.sleep(_ATTEMPT_DELAY_S)


def _attempt(stack: ExitStack, folder: Path, names: Sequence[str], day: int) -> list[tuple[int, File]] | None:
    """None while a merge is under way.

    The marker stands from before the first file is replaced until after the last, which is `time`. So if there is no
    marker after all files were opened, and `time` is still the one opened first, they are of one state; and a row is
    never changed where it lies, so the rows there are now stay what they are.
    """
    time_name = file_name("time", day)
    # It is taken off before anything changes.
    seal = _open_plain(stack, folder, [name for name in names if name == seal_name(day)])
    try:
        first = _open(stack, folder, time_name)
    except FileNotFoundError:
        return []  # an operator took the day away
    others = _open_plain(stack, folder, [name for name in names if name not in (time_name, seal_name(day))])
    opened = [*others, first]
    columns = COLUMNS[_ROW_TYPES[folder.name]]
    widths = [columns[file.name.partition(".")[0]].itemsize for _, file in opened]
    inode = _inode(folder / time_name)
    if inode is None:
        return []
    if inode != first[1].inode or (folder / marker_name(day)).exists():
        return None
    rows = min(file.size // width for (_, file), width in zip(opened, widths, strict=True))
    whole = [(descriptor, _cut(file, rows * width)) for (descriptor, file), width in zip(opened, widths, strict=True)]
    return [*seal, *whole] if seal and _inode(folder / seal_name(day)) == seal[0][1].inode else whole


def _cut(file: File, size: int) -> File:
    # A file with a torn tail is not yet what was copied of it: its time says so by being none it can have.
    return file if size == file.size else File(file.name, size, -file.changed_ns, file.inode)


def _open(stack: ExitStack, folder: Path, name: str) -> tuple[int, File]:
    descriptor = os.open(folder / name, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    return descriptor, File(name, status.st_size, status.st_mtime_ns, status.st_ino)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def finish_merges(data: Path) -> None:
    """Finish what a crash left half done, where nobody else writes: a day in the midst of it cannot be copied."""
    found = data.glob("columns/*/*/*/merging.*")
    folders = {marker.parent.parent for marker in found if day_of_marker(marker.name) is not None}
    writer = ColumnWriter(data / "columns", 64)
    for symbol in sorted(folders):
        writer.recover(symbol.parent.name, symbol.name)
