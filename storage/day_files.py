"""The files of one symbol's rows of one UTC day, as their writer sees them: made, opened, appended to, and replaced
whole by merged ones.

`time` is written last, so a row exists once its time does. What was half done when a process was killed or the power
went is cut or finished when the day is opened.
"""

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from storage.column_layout import (
    NANOS_PER_SECOND,
    UNPROVEN,
    Column,
    commits_name,
    day_name,
    file_name,
    marker_name,
    merge_file_name,
    removing_name,
    seal_name,
)
from storage.day_commits import Commits, fresh, header, never_synced, trusted, unreadable
from storage.file_operations import read_at, sync_file, sync_folder, write_at, write_new_file
from storage.schema import COLUMNS, IDENTITY, RowType

# `time` closes a row, so it is written (and replaced) after every other column.
WRITE_ORDER: Final[dict[RowType, tuple[str, ...]]] = {
    row_type: (*(column for column in columns if column != "time"), "time") for row_type, columns in COLUMNS.items()
}
#: How many files each row type has open.
FILES: Final = {row_type: len(columns) + 1 for row_type, columns in COLUMNS.items()}


class DamagedDay(Exception):
    """A day's files do not belong together, and cutting them back would destroy rows."""


class Day(NamedTuple):
    folder: Path
    row_type: RowType
    day: int

    def path(self, column: str) -> Path:
        return self.folder / file_name(column, self.day)

    def merge_path(self, column: str) -> Path:
        return self.folder / merge_file_name(column, self.day)

    @property
    def marker(self) -> Path:
        return self.folder / marker_name(self.day)

    @property
    def commits(self) -> Path:
        return self.folder / commits_name(self.day)

    @property
    def merged_commits(self) -> Path:
        return self.folder / f"{commits_name(self.day)}.merge"

    @property
    def removing(self) -> Path:
        return self.folder / removing_name(self.day)

    @property
    def seal(self) -> Path:
        return self.folder / seal_name(self.day)


@dataclass(slots=True)
class State:
    """What the writer knows of a day, its files open or not."""

    commits: Commits
    sealed: bool
    rows: int = 0
    #: Sort key and identity of the last row.
    last_key: int = 0
    last_identity: int = -1
    #: The largest identity; not the last row's where identities do not follow time.
    highest: int = -1


@dataclass(slots=True)
class OpenDay:
    """A day's files, ready to append."""

    dtypes: Mapping[str, np.dtype[Any]]
    identity: str
    #: In write order.
    descriptors: Mapping[str, int]
    commits: int
    state: State

    def read(self, column: str, first: int = 0) -> Column:
        """The values of the rows from `first` on. `DamagedDay`."""
        return np.frombuffer(self._bytes(column, first, self.state.rows), self.dtypes[column])

    def append(self, columns: Mapping[str, Column], rows: Column | slice, keys: Column) -> None:
        """Write these rows, ascending and later than all that are there; `keys` are the sort keys of all. OSError."""
        added = keys[rows]
        if not added.size:
            return
        state = self.state
        values = {column: np.ascontiguousarray(columns[column][rows]) for column in self.descriptors}
        checksum = 0
        for written in values.values():
            checksum = zlib.crc32(written.data, checksum)
        for column, descriptor in self.descriptors.items():
            if column == "time":
                state.commits.write(self.commits, state.rows, state.rows + added.size, checksum)
            write_at(descriptor, values[column], state.rows * values[column].itemsize)
        identities = values[self.identity]
        state.rows += added.size
        state.last_key = int(added[-1])
        state.last_identity = int(identities[-1])
        state.highest = max(state.highest, int(identities.max()))

    def close(self) -> None:
        for descriptor in (*self.descriptors.values(), self.commits):
            os.close(descriptor)

    def look(self) -> None:
        """Fill in what the rows say. `DamagedDay`."""
        state = self.state
        if state.rows:
            time, nanos = (int(self.read(column, state.rows - 1)[0]) for column in ("time", "nanos"))
            state.last_key = time * NANOS_PER_SECOND + nanos
            state.last_identity = int(self.read(self.identity, state.rows - 1)[0])
            state.highest = int(self.read(self.identity).max())

    def checksum(self, first: int, end: int) -> int:
        """Of the bytes of these rows, column by column in write order."""
        checksum = 0
        for column in self.descriptors:
            checksum = zlib.crc32(self._bytes(column, first, end), checksum)
        return checksum

    def _bytes(self, column: str, first: int, end: int) -> bytearray:
        size = self.dtypes[column].itemsize
        try:
            return read_at(self.descriptors[column], first * size, (end - first) * size)
        except EOFError:
            raise DamagedDay("a column file became shorter while it was open") from None


def sort_keys(time: Column, nanos: Column) -> Column:
    """Nanoseconds since the epoch (u64)."""
    keys: Column = time.astype(np.uint64) * NANOS_PER_SECOND + nanos
    return keys


def create(day: Day) -> None:
    """Empty files, unless the day has files. OSError; `DamagedDay` when some are gone."""
    missing = [column for column in WRITE_ORDER[day.row_type] if not day.path(column).exists()]
    if not missing:
        return
    if day.commits.exists() and never_synced(day.commits.read_bytes()):
        # A power cut came soon after the day began, and took some of its names.
        _set_aside(day)
    elif "time" not in missing:
        raise DamagedDay(
            f"{day.path(missing[0])} is missing while the day has other columns; restore it, or move the day away"
        )
    # First, so that there is nothing without it after a power cut.
    _begin_commits(day, 0)
    for column in WRITE_ORDER[day.row_type]:
        path = day.path(column)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        if path.stat().st_size:
            # Rows are written only after every file exists, so somebody took `time` away.
            raise DamagedDay(f"{path} holds rows but the day's time file is gone; restore it, or move the day away")


def open_day(day: Day) -> OpenDay:
    """Open a day's files and cut off what is no whole row, or cannot be trusted. OSError; `DamagedDay`."""
    if not day.commits.exists():
        # A day that was sealed, or that another version of us wrote.
        for column in COLUMNS[day.row_type]:
            sync_file(day.path(column))
        rows = day.path("time").stat().st_size // COLUMNS[day.row_type]["time"].itemsize
        # Whole or not at all: an empty one, as a full disk leaves it, would say that nothing proves these rows.
        write_new_file(day.merged_commits, np.frombuffer(fresh(rows), np.uint8))
        day.merged_commits.replace(day.commits)
        sync_folder(day.folder)
    elif unreadable(day.commits.read_bytes()):
        _set_aside(day)
        create(day)
    with _opened(day) as opened:
        sizes = {column: os.fstat(descriptor).st_size for column, descriptor in opened.descriptors.items()}
        there = min(size // opened.dtypes[column].itemsize for column, size in sizes.items())
        opened.state.rows = there = _rows_with_a_time(opened, there)
        content = bytes(read_at(opened.commits, 0, os.fstat(opened.commits).st_size))
        rows, commits, current = trusted(content, there, opened.checksum)
        for column, size in sizes.items():
            if size != rows * opened.dtypes[column].itemsize:
                os.ftruncate(opened.descriptors[column], rows * opened.dtypes[column].itemsize)
        if not current:
            for descriptor in opened.descriptors.values():
                os.fdatasync(descriptor)
            os.pwrite(opened.commits, header(), 0)
            commits.write(opened.commits, rows, rows, 0)
            os.fsync(opened.commits)
        opened.state = State(commits, day.seal.exists(), rows)
        opened.look()
    return opened


def open_again(day: Day, state: State) -> OpenDay:
    """Open the files of a day that nobody else has changed since it was closed in this state. OSError."""
    return _open_files(day, state)


def recover_merge(day: Day) -> None:
    """Finish a merge whose files are complete, undo another. OSError."""
    if day.marker.exists():
        finish_merge(day)
        return
    for column in COLUMNS[day.row_type]:
        day.merge_path(column).unlink(missing_ok=True)
    day.merged_commits.unlink(missing_ok=True)


def remove_day(day: Day) -> None:
    """Take a sealed day away; readers keep what they have. OSError: `recover` or another call goes on with it."""
    with suppress(FileNotFoundError):
        day.seal.replace(day.removing)
    # Without times there are no rows.
    for column in reversed(WRITE_ORDER[day.row_type]):
        day.path(column).unlink(missing_ok=True)
    day.commits.unlink(missing_ok=True)
    sync_folder(day.folder)
    day.removing.unlink(missing_ok=True)


def merge(day: Day, opened: OpenDay, columns: Mapping[str, Column], rows: Column | slice) -> None:
    """Put rows in among those that are there, in whole new files. OSError: the day is as it was, or as it is to be once
    it is opened again."""
    stored_keys = sort_keys(opened.read("time"), opened.read("nanos"))
    keys = sort_keys(columns["time"][rows], columns["nanos"][rows])
    # Everything before the first late row stays where it is.
    start = int(stored_keys.searchsorted(keys[0]))
    order = np.lexsort(
        (
            np.concatenate([opened.read(opened.identity, start), columns[opened.identity][rows]]),
            np.concatenate([stored_keys[start:], keys]),
        )
    )
    for column in opened.descriptors:
        stored = opened.read(column)
        tail = np.concatenate([stored[start:], columns[column][rows]])[order]
        write_new_file(day.merge_path(column), stored[:start], tail)
    write_new_file(day.merged_commits, np.frombuffer(fresh(opened.state.rows + len(keys)), np.uint8))
    sync_folder(day.folder)
    write_new_file(day.marker)
    sync_folder(day.folder)
    finish_merge(day)


def finish_merge(day: Day) -> None:
    """Let the merged files take the place of the others. OSError."""
    replacing = [(day.merge_path(column), day.path(column)) for column in WRITE_ORDER[day.row_type]]
    for merged, path in [(day.merged_commits, day.commits), *replacing]:
        try:
            merged.replace(path)
        except FileNotFoundError:
            continue  # took its place before the crash that is being recovered from
    sync_folder(day.folder)
    day.marker.unlink()
    # A marker that came back after a power cut would let a later, half-written merge take place.
    sync_folder(day.folder)


@contextmanager
def _opened(day: Day) -> Iterator[OpenDay]:
    opened = _open_files(day, State(Commits(0, 0), sealed=False))
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


def _open_files(day: Day, state: State) -> OpenDay:
    # With thousands of symbols this is what most of an append's time goes to: paths are put together as text.
    folder, name = str(day.folder), day_name(day.day)
    descriptors: dict[str, int] = {}
    try:
        for column in WRITE_ORDER[day.row_type]:
            descriptors[column] = os.open(f"{folder}/{column}.{name}.bin", os.O_RDWR)
        commits = os.open(f"{folder}/commits.{name}", os.O_RDWR)
    except BaseException:
        for descriptor in descriptors.values():
            os.close(descriptor)
        raise
    return OpenDay(COLUMNS[day.row_type], IDENTITY[day.row_type], descriptors, commits, state)


def _set_aside(day: Day) -> None:
    """Begin anew where nothing says which rows the disk held: who knows better finds them beside."""
    # Without times there are no rows.
    for path in map(day.path, reversed(WRITE_ORDER[day.row_type])):
        if path.exists() and path.stat().st_size:
            path.replace(path.with_name(f"{path.name}{UNPROVEN}"))
        else:
            path.unlink(missing_ok=True)
    day.commits.unlink(missing_ok=True)
    sync_folder(day.folder)


def _begin_commits(day: Day, rows: int) -> None:
    descriptor = os.open(day.commits, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, fresh(rows), 0)
    finally:
        os.close(descriptor)


def _rows_with_a_time(opened: OpenDay, rows: int) -> int:
    # After a power cut a file may have its length but zeros for its last pages.
    opened.state.rows = rows
    if not rows or opened.read("time", rows - 1)[0]:
        return rows
    written = np.flatnonzero(opened.read("time"))
    return int(written[-1]) + 1 if written.size else 0
