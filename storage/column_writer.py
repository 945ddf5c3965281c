"""Appends rows to column files, each row exactly once and in time order, whatever is sent again.

What survives: a killed process loses nothing that `append` returned for, a failed write (disk full) leaves
the day as it was for whoever reads it, and torn tails are cut when a day is opened. `time` is written last,
so a row exists once its time does. Bytes a reader may have mapped are never truncated or overwritten: late
rows go to whole new files, which then take the place of the old ones.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from storage.column_layout import (
    FIRST_DAY,
    LAST_DAY,
    MARKER,
    NAME_FILE,
    NANOS_PER_SECOND,
    SECONDS_PER_DAY,
    Column,
    day_of_time_file,
    file_name,
    folder_name,
    marker_name,
    merge_file_name,
)
from storage.file_operations import read_at, sync_file, sync_folder, write_at, write_new_file
from storage.schema import COLUMNS, IDENTITY, RowType

# `time` closes a row, so it is written (and replaced) after every other column.
_WRITE_ORDER: Final[dict[RowType, tuple[str, ...]]] = {
    row_type: (*(column for column in columns if column != "time"), "time") for row_type, columns in COLUMNS.items()
}


class DamagedDay(Exception):
    """A day's files do not belong together, and cutting them back would destroy rows."""


class _Day(NamedTuple):
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


@dataclass(slots=True)
class _OpenDay:
    """A day's files, ready to append."""

    dtypes: dict[str, np.dtype[Any]]
    identity: str
    #: In write order.
    descriptors: dict[str, int]
    rows: int = 0
    #: Sort key and identity of the last row.
    last_key: int = 0
    last_identity: int = -1
    #: The largest identity; not the last row's where identities do not follow time.
    highest: int = -1

    def read(self, column: str) -> Column:
        return np.frombuffer(self._bytes(column, 0, self.rows), self.dtypes[column])

    def last(self, column: str) -> int:
        return int.from_bytes(self._bytes(column, self.rows - 1, 1), "little")

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)

    def _bytes(self, column: str, first: int, rows: int) -> bytearray:
        size = self.dtypes[column].itemsize
        try:
            return read_at(self.descriptors[column], first * size, rows * size)
        except EOFError:
            raise DamagedDay("a column file became shorter while it was open") from None


class ColumnWriter:
    """The only writer of the symbols it is given; one thread. Opens at most `max_open_files` files."""

    def __init__(self, root: Path, max_open_files: int) -> None:
        fewest = max(map(len, COLUMNS.values()))
        if max_open_files < fewest:
            raise ValueError(f"max_open_files is {max_open_files}: one day alone needs {fewest}")
        self._root = root
        self._max_open_files = max_open_files
        self._open_files = 0
        self._open: OrderedDict[_Day, _OpenDay] = OrderedDict()
        self._unflushed: set[_Day] = set()
        self._new_folders: set[Path] = set()
        #: Those that were written to, with their native names written down.
        self._folders: dict[tuple[str, str, RowType], Path] = {}
        # Identities of rows that a failed append may have stored and that its caller never heard of.
        self._unreported: dict[_Day, Column] = {}

    def append(self, exchange: str, symbol: str, row_type: RowType, columns: Mapping[str, Column]) -> Column:
        """Store the rows that are not stored yet; says which ones those were (bool, one per row).

        `columns` holds every column of `COLUMNS[row_type]` with its dtype; rows may be of several days and
        in any order. A row whose identity its day already holds, or an earlier row of the batch, is dropped.
        Raises ValueError for columns or names that do not fit (nothing is stored), `DamagedDay`, and OSError
        when the disk fails; the same rows can then be sent again, and count as new again.
        """
        times = _checked_times(row_type, columns)
        if not times.size:
            return np.zeros(0, bool)
        folder = self._folder(exchange, symbol, row_type)
        first, last = int(times.min()) // SECONDS_PER_DAY, int(times.max()) // SECONDS_PER_DAY
        if first < FIRST_DAY or last > LAST_DAY:
            raise ValueError("a row's time is not in the years 2000 to 2099")
        if first == last:
            return self._append_day(_Day(folder, row_type, first), columns)
        new = np.zeros(times.size, bool)
        days = times // SECONDS_PER_DAY
        appended: list[tuple[_Day, Column]] = []
        try:
            for day in np.unique(days).tolist():
                rows = np.flatnonzero(days == day)
                place = _Day(folder, row_type, day)
                new[rows] = self._append_day(place, {name: values[rows] for name, values in columns.items()})
                appended.append((place, rows[new[rows]]))
        except BaseException:
            for place, rows in appended:
                self._leave_unreported(place, columns[IDENTITY[row_type]][rows])
            raise
        return new

    def recover(self, exchange: str, symbol: str) -> None:
        """Finish what a crash left half done in any day of a symbol, so that readers can read it. OSError."""
        for row_type in COLUMNS:
            folder = self._root / folder_name(exchange) / folder_name(symbol) / row_type
            for marker in folder.glob(f"{MARKER}*"):
                day = day_of_time_file(f"time.{marker.name.removeprefix(MARKER)}.bin")
                if day is not None:
                    _recover_merge(_Day(folder, row_type, day))

    def flush(self) -> None:
        """Make everything appended so far survive a power cut. Raises OSError; what failed is kept for later."""
        for day in list(self._unflushed):
            # Data before `time`, so that a time on the disk speaks of a row on the disk.
            for column in _WRITE_ORDER[day.row_type]:
                sync_file(day.path(column))
            self._unflushed.discard(day)
        for folder in list(self._new_folders):
            sync_folder(folder)
            self._new_folders.discard(folder)

    def close(self) -> None:
        """Flush and close every file. A closed writer opens them again when it is used."""
        try:
            self.flush()
        finally:
            while self._open:
                self._forget(next(iter(self._open)))

    def _append_day(self, day: _Day, columns: Mapping[str, Column]) -> Column:
        opened = self._opened(day)
        identities = columns[IDENTITY[day.row_type]]
        keys = _sort_keys(columns["time"], columns["nanos"])
        in_order = keys.size == 1 or bool((identities[1:] > identities[:-1]).all() and (keys[1:] >= keys[:-1]).all())
        fresh: Column | slice = slice(None)
        late = False
        if not (in_order and identities[0] > opened.highest and keys[0] >= opened.last_key):
            rows = _fresh_rows(opened, identities)
            rows = rows[np.lexsort((identities[rows], keys[rows]))]
            last = (opened.last_key, opened.last_identity)
            late = rows.size > 0 and (int(keys[rows[0]]), int(identities[rows[0]])) < last
            fresh = rows
        try:
            self._unflushed.add(day)
            if late:
                self._merge(day, opened, columns, fresh)
            else:
                _append_rows(opened, columns, fresh, keys)
        except BaseException:
            self._forget(day)
            self._leave_unreported(day, identities[fresh])
            raise
        new = np.zeros(identities.size, bool)
        new[fresh] = True
        unreported = self._unreported.pop(day, None)
        if unreported is not None:
            distinct, first = np.unique(identities, return_index=True)
            new[first] |= np.isin(distinct, unreported)
            self._leave_unreported(day, np.setdiff1d(unreported, distinct))
        return new

    def _merge(self, day: _Day, opened: _OpenDay, columns: Mapping[str, Column], fresh: Column | slice) -> None:
        stored_keys = _sort_keys(opened.read("time"), opened.read("nanos"))
        keys = _sort_keys(columns["time"][fresh], columns["nanos"][fresh])
        # Everything before the first late row stays where it is.
        start = int(stored_keys.searchsorted(keys[0]))
        order = np.lexsort(
            (
                np.concatenate([opened.read(opened.identity)[start:], columns[opened.identity][fresh]]),
                np.concatenate([stored_keys[start:], keys]),
            )
        )
        for column in opened.descriptors:
            stored = opened.read(column)
            tail = np.concatenate([stored[start:], columns[column][fresh]])[order]
            write_new_file(day.merge_path(column), stored[:start], tail)
        sync_folder(day.folder)
        write_new_file(day.marker)
        sync_folder(day.folder)
        _finish_merge(day)
        self._forget(day)

    def _opened(self, day: _Day) -> _OpenDay:
        opened = self._open.get(day)
        if opened is not None:
            self._open.move_to_end(day)
            return opened
        needed = len(COLUMNS[day.row_type])
        while self._open_files + needed > self._max_open_files:
            self._forget(next(iter(self._open)))
        if not day.folder.is_dir():
            self._make_folder(day.folder)
        _recover_merge(day)
        if not day.path("time").exists():
            self._create(day)
        opened = _open_day(day)
        self._open[day] = opened
        self._open_files += needed
        if day in self._unreported:
            self._unreported[day] = np.intersect1d(self._unreported[day], opened.read(opened.identity))
        return opened

    def _folder(self, exchange: str, symbol: str, row_type: RowType) -> Path:
        known = self._folders.get((exchange, symbol, row_type))
        if known is None:
            known = self._root / folder_name(exchange) / folder_name(symbol) / row_type
            if known.parent.name != symbol:
                self._name(known.parent, symbol)
            self._folders[exchange, symbol, row_type] = known
        return known

    def _name(self, folder: Path, symbol: str) -> None:
        """Write the native name down before any row, so that nobody meets rows of a symbol that cannot be told."""
        if not folder.is_dir():
            self._make_folder(folder)
        name = folder / NAME_FILE
        if not name.exists() or not name.stat().st_size:
            name.write_text(symbol, encoding="utf-8")

    def _make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._new_folders.update(path.parent for path in missing)

    def _create(self, day: _Day) -> None:
        for column in _WRITE_ORDER[day.row_type]:
            path = day.path(column)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
            if path.stat().st_size:
                # Rows are written only after every file exists, so somebody took `time` away.
                raise DamagedDay(f"{path} holds rows but the day's time file is gone; restore it, or move the day away")
        self._new_folders.add(day.folder)

    def _forget(self, day: _Day) -> None:
        opened = self._open.pop(day, None)
        if opened is not None:
            self._open_files -= len(opened.descriptors)
            opened.close()

    def _leave_unreported(self, day: _Day, identities: Column) -> None:
        known = self._unreported.get(day)
        identities = identities if known is None else np.union1d(known, identities)
        if identities.size:
            self._unreported[day] = identities


def _checked_times(row_type: RowType, columns: Mapping[str, Column]) -> Column:
    dtypes = COLUMNS[row_type]
    if columns.keys() != dtypes.keys():
        wrong = ", ".join(sorted(columns.keys() ^ dtypes.keys()))
        raise ValueError(f"{row_type} rows need exactly the columns of the schema; missing or unknown: {wrong}")
    times = columns["time"]
    for name, dtype in dtypes.items():
        values = columns[name]
        if values.dtype != dtype or values.shape != (times.size,):
            raise ValueError(
                f"column {name} is {values.dtype} of shape {values.shape}, expected {dtype} of ({times.size},)"
            )
    if times.size and columns["nanos"].max() >= NANOS_PER_SECOND:
        raise ValueError("column nanos holds a whole second or more")
    return times


def _sort_keys(time: Column, nanos: Column) -> Column:
    keys: Column = time.astype(np.uint64) * NANOS_PER_SECOND + nanos
    return keys


def _append_rows(opened: _OpenDay, columns: Mapping[str, Column], fresh: Column | slice, keys: Column) -> None:
    added = keys[fresh]
    if not added.size:
        return
    for column, descriptor in opened.descriptors.items():
        values = np.ascontiguousarray(columns[column][fresh])
        write_at(descriptor, values, opened.rows * values.itemsize)
    identities = columns[opened.identity][fresh]
    opened.rows += added.size
    opened.last_key = int(added[-1])
    opened.last_identity = int(identities[-1])
    opened.highest = max(opened.highest, int(identities.max()))


def _fresh_rows(opened: _OpenDay, identities: Column) -> Column:
    distinct, first = np.unique(identities, return_index=True)
    if distinct[0] <= opened.highest:
        stored = opened.read(opened.identity)
        near = stored[(stored >= distinct[0]) & (stored <= distinct[-1])]
        first = first[np.isin(distinct, near, invert=True)]
    return first


def _open_day(day: _Day) -> _OpenDay:
    dtypes = COLUMNS[day.row_type]
    with ExitStack() as on_error:
        descriptors: dict[str, int] = {}
        for column in _WRITE_ORDER[day.row_type]:
            try:
                descriptor = os.open(day.path(column), os.O_RDWR)
            except FileNotFoundError:
                raise DamagedDay(
                    f"{day.path(column)} is missing while the day has other columns; restore it, or move the day away"
                ) from None
            on_error.callback(os.close, descriptor)
            descriptors[column] = descriptor
        sizes = {column: os.fstat(descriptor).st_size for column, descriptor in descriptors.items()}
        opened = _OpenDay(dtypes, IDENTITY[day.row_type], descriptors)
        opened.rows = min(size // dtypes[column].itemsize for column, size in sizes.items())
        opened.rows = _rows_with_a_time(opened)
        for column, size in sizes.items():
            if size != opened.rows * dtypes[column].itemsize:
                os.ftruncate(descriptors[column], opened.rows * dtypes[column].itemsize)
        if opened.rows:
            opened.last_key = opened.last("time") * NANOS_PER_SECOND + opened.last("nanos")
            opened.last_identity = opened.last(opened.identity)
            opened.highest = int(opened.read(opened.identity).max())
        on_error.pop_all()
    return opened


def _rows_with_a_time(opened: _OpenDay) -> int:
    # After a power cut a file may have its length but zeros for its last pages.
    if not opened.rows or opened.last("time"):
        return opened.rows
    written = np.flatnonzero(opened.read("time"))
    return int(written[-1]) + 1 if written.size else 0


def _recover_merge(day: _Day) -> None:
    if day.marker.exists():
        _finish_merge(day)
        return
    for column in COLUMNS[day.row_type]:
        day.merge_path(column).unlink(missing_ok=True)


def _finish_merge(day: _Day) -> None:
    for column in _WRITE_ORDER[day.row_type]:
        try:
            day.merge_path(column).replace(day.path(column))
        except FileNotFoundError:
            continue  # took its place before the crash that is being recovered from
    sync_folder(day.folder)
    day.marker.unlink()
    # A marker that came back after a power cut would let a later, half-written merge take place.
    sync_folder(day.folder)
