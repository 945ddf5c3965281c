"""Reads column files by memory map, in other processes or threads than the writer's, while it writes.

A row exists once its `time` does, and all that a selection holds is of one state of a day: where late rows
are being merged, the reader tries again for a moment. Names come from users and are only ever compared with
what listing the folders found.
"""

import os
import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from storage.column_layout import (
    NAME_FILE,
    NANOS_PER_DAY,
    NANOS_PER_SECOND,
    Column,
    day_name,
    day_of_seal,
    day_of_time_file,
    file_name,
    marker_name,
)
from storage.column_map import mapped_column
from storage.day_files import DamagedDay, Day
from storage.day_seal import Seal, read_seal
from storage.schema import COLUMNS, RowType

_ATTEMPTS: Final = 10
_SECONDS_BETWEEN_ATTEMPTS: Final = 0.001

# A folder changed this recently may have changed again within the same tick of the file system's clock.
_SETTLED_NS: Final = 50_000_000

# Mapped beyond the end of the file, so that a day that grows need not be mapped again for every query.
_SPARE_ROWS: Final = 1 << 17

_TIME_SIZE: Final = 4

_ROW_TYPES: Final[dict[str, RowType]] = {row_type: row_type for row_type in COLUMNS}


class BeingRewritten(Exception):
    """Late rows are being merged into a selected day; the same query works a moment later."""


class MissingColumn(LookupError):
    """No such column, or a selected day was stored without it. The message is fit for users."""


class DayState(NamedTuple):
    """A day as it was when rows of it were selected: whatever writes to it later changes the state. `changed_ns` is
    when its `time` was last written; `seal` is there where it is that of these rows."""

    day: int
    rows: int
    changed_ns: int
    seal: Seal | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some rows of one symbol, oldest first, for the columns that were asked for. `states` has the stored days of the
    range, also those without rows in it."""

    rows: int
    _parts: Mapping[str, list[Column]]
    _dtypes: Mapping[str, np.dtype[Any]]
    states: Sequence[DayState] = ()

    def parts(self, column: str) -> list[Column]:
        """The column's values, one read-only array per day, never empty ones; no copy. KeyError if not selected."""
        return self._parts[column]

    def column(self, column: str) -> Column:
        """The column's values in one array; a copy where rows are of several days. KeyError if not selected."""
        parts = self._parts[column]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, self._dtypes[column])

    def every(self, stride: int) -> "Selection":
        """Rows 0, stride, 2 * stride, ... of the whole selection, across days; copies unless stride is 1."""
        if stride < 1:
            raise ValueError(f"stride is {stride}, must be at least 1")
        if stride == 1:
            return self
        parts = {column: _every(values, stride) for column, values in self._parts.items()}
        return Selection(-(-self.rows // stride), parts, self._dtypes)


@dataclass(slots=True, eq=False)
class _Folder:
    """The days found in a symbol's folder, as of the folder's time of change."""

    path: Path
    place: str
    changed_ns: int = -1
    days: Sequence[int] = ()
    sealed: frozenset[int] = frozenset()
    #: Those that were read since the folder changed.
    seals: dict[int, Seal | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Day:
    """Maps of one day's columns, all of the same state of the day.

    `inode` is the `time` file's, which the map of it keeps from being used again: while the path has that
    inode, no merge has finished since. Maps reach `capacity` rows, mostly beyond the end of the file.
    """

    time_path: str
    inode: int
    capacity: int
    maps: dict[str, Column]


# How many rows of a day there are, when its `time` was last written (ns), and its columns, which reach further.
type _Rows = tuple[int, int, Mapping[str, Column]]


class ColumnReader:
    """Queries over all column files below `root`. Threads may share it. New symbols are seen after `rescan_s`.

    About `max_maps` maps are kept; a selection keeps those it needs alive for as long as its arrays live.
    """

    def __init__(
        self,
        root: Path,
        max_maps: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        rescan_s: float = 1.0,
    ) -> None:
        self._root = root
        self._max_maps = max_maps
        self._clock = clock
        self._rescan_s = rescan_s
        self._lock = threading.Lock()
        self._scanned_at = -float("inf")
        self._symbols: dict[str, dict[str, str]] = {}
        #: Native names by path, where the folder is called otherwise.
        self._names: dict[str, str] = {}
        self._folders: dict[tuple[str, str], _Folder] = {}
        self._days: OrderedDict[tuple[_Folder, int], _Day] = OrderedDict()
        self._maps = 0

    def symbols(self) -> dict[str, list[str]]:
        """Exchange -> its symbols (native names), both sorted; scanned at most every `rescan_s`."""
        with self._lock:
            self._scan()
            return {exchange: list(symbols) for exchange, symbols in self._symbols.items()}

    def folder(self, exchange: str, symbol: str, row_type: RowType) -> Path | None:
        """Where the files of a symbol are; None where there are none."""
        with self._lock:
            found = self._folder(exchange, symbol, row_type)
        return None if found is None else found.path

    def days(self, exchange: str, symbol: str, row_type: RowType) -> Sequence[int]:
        """The days since the epoch with files of a symbol, ascending. OSError."""
        with self._lock:
            found = self._folder(exchange, symbol, row_type)
        return () if found is None else found.days

    def select(
        self,
        exchange: str,
        symbol: str,
        row_type: str,
        start_ns: int,
        end_ns: int,
        columns: Sequence[str],
    ) -> Selection:
        """Rows with start_ns <= ts_event <= end_ns (any integers).

        `symbol` is exchange-native or as named on disk. An unknown exchange, symbol or row type has no rows.
        Raises `MissingColumn`, `BeingRewritten`, and OSError when the disk fails or the system has no
        more maps to give.
        """
        wanted = _wanted(row_type, tuple(columns))
        parts: dict[str, list[Column]] = {column: [] for column in columns}
        states: list[DayState] = []
        rows = 0
        with self._lock:
            folder = self._folder(exchange, symbol, row_type)
            if folder is not None and start_ns <= end_ns:
                first_day, last_day = start_ns // NANOS_PER_DAY, end_ns // NANOS_PER_DAY
                days = folder.days[bisect_left(folder.days, first_day) : bisect_right(folder.days, last_day)]
                for day in days:
                    stored, changed_ns, maps = self._day(folder, day, wanted)
                    if not stored:
                        continue
                    states.append(DayState(day, stored, changed_ns, _seal(folder, day, stored)))
                    times = maps["time"][:stored]
                    low = _lower_bound(times, maps["nanos"], start_ns) if day == first_day else 0
                    high = _lower_bound(times, maps["nanos"], end_ns + 1) if day == last_day else stored
                    if low < high:
                        rows += high - low
                        for column, values in parts.items():
                            values.append(maps[column][low:high])
        return Selection(rows, parts, wanted, states)

    def last_rows(self, exchange: str, symbol: str, row_type: str, rows: int, columns: Sequence[str]) -> Selection:
        """The newest `rows` rows (fewer where fewer are stored), over days. Raises as `select` does."""
        wanted = _wanted(row_type, tuple(columns))
        newest_first: dict[str, list[Column]] = {column: [] for column in columns}
        missing = rows
        with self._lock:
            folder = self._folder(exchange, symbol, row_type)
            if folder is not None:
                for day in reversed(folder.days):
                    if missing <= 0:
                        break
                    stored, _, maps = self._day(folder, day, wanted)
                    low = max(0, stored - missing)
                    if low < stored:
                        missing -= stored - low
                        for column, values in newest_first.items():
                            values.append(maps[column][low:stored])
        parts = {column: values[::-1] for column, values in newest_first.items()}
        return Selection(max(rows, 0) - max(missing, 0), parts, wanted)

    def last_change(self, exchange: str, symbol: str, row_type: RowType) -> int | None:
        """When a row of the newest day was last written (ns); None where there is none. OSError."""
        with self._lock:
            folder = self._folder(exchange, symbol, row_type)
        if folder is None or not folder.days:
            return None
        try:
            status = (folder.path / file_name("time", folder.days[-1])).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns if status.st_size else None

    def _scan(self) -> None:
        now = self._clock()
        if now - self._scanned_at < self._rescan_s:
            return
        found = {name: dict(sorted(self._symbols_in(path))) for name, path in sorted(_folders_in(str(self._root)))}
        self._symbols = {exchange: symbols for exchange, symbols in found.items() if symbols}
        self._scanned_at = now
        if len(self._folders) > len(COLUMNS) * sum(map(len, self._symbols.values())):
            self._folders.clear()  # some symbols are gone

    def _symbols_in(self, path: str) -> Iterator[tuple[str, str]]:
        """Native name and path of every symbol's folder of an exchange."""
        for name, place in _folders_in(path):
            if "_" in name and place not in self._names:
                with suppress(FileNotFoundError):
                    self._names[place] = Path(place, NAME_FILE).read_text(encoding="utf-8", errors="replace") or name
            yield self._names.get(place, name), place

    def _folder(self, exchange: str, symbol: str, row_type: str) -> _Folder | None:
        place = self._place(exchange, symbol)
        if place is None:
            # To look for new ones takes as long as there are symbols.
            self._scan()
            place = self._place(exchange, symbol)
        if place is None or row_type not in COLUMNS:
            return None
        folder = self._folders.get((place, row_type))
        if folder is None:
            folder = self._folders[place, row_type] = _Folder(path := Path(place, row_type), str(path))
        try:
            changed_ns = os.stat(folder.place).st_mtime_ns  # noqa: PTH116 - for each query: a Path takes as long again
            if changed_ns != folder.changed_ns:
                settled = time.time_ns() - changed_ns > _SETTLED_NS
                names = [path.name for path in folder.path.iterdir()]
                folder.days = sorted(day for name in names if (day := day_of_time_file(name)) is not None)
                folder.sealed = frozenset(day for name in names if (day := day_of_seal(name)) is not None)
                folder.seals = {}
                folder.changed_ns = changed_ns if settled else -1
        except (FileNotFoundError, NotADirectoryError):
            return None
        return folder

    def _place(self, exchange: str, symbol: str) -> str | None:
        symbols = self._symbols.get(exchange, {})
        place = symbols.get(symbol) or symbols.get(symbol.replace("/", "_"))
        if place is None and "_" in symbol:
            # As named on disk.
            place = next((path for name, path in symbols.items() if name.replace("/", "_") == symbol), None)
        return place

    def _day(self, folder: _Folder, day: int, wanted: Mapping[str, np.dtype[Any]]) -> _Rows:
        key = (folder, day)
        known = self._days.get(key)
        if known is not None:
            try:
                status = os.stat(known.time_path)  # noqa: PTH116 - for each query: a Path takes as long again
            except FileNotFoundError:
                return 0, 0, {}  # an operator took the day away
            rows = status.st_size // _TIME_SIZE
            if status.st_ino == known.inode and rows <= known.capacity and wanted.keys() <= known.maps.keys():
                self._days.move_to_end(key)
                return rows, status.st_mtime_ns, known.maps
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
            found = _map_day(folder, day, wanted, known)
            if found is not None:
                rows, changed_ns, torn, mapped = found
                if not torn:
                    self._keep(key, mapped)
                return rows, changed_ns, mapped.maps
        raise BeingRewritten(f"rows of {day_name(day)} are being rewritten; ask again in a moment")

    def _keep(self, key: tuple[_Folder, int], mapped: _Day) -> None:
        replaced = self._days.pop(key, None)
        self._maps += len(mapped.maps) - (len(replaced.maps) if replaced else 0)
        self._days[key] = mapped
        while self._maps > self._max_maps and len(self._days) > 1:
            _, oldest = self._days.popitem(last=False)
            self._maps -= len(oldest.maps)


@lru_cache(maxsize=1024)
def _wanted(row_type: str, columns: tuple[str, ...]) -> Mapping[str, np.dtype[Any]]:
    known = COLUMNS.get(_ROW_TYPES[row_type]) if row_type in _ROW_TYPES else None
    if known is None:
        return dict.fromkeys(columns, np.dtype("<f4"))
    try:
        return {"time": known["time"], "nanos": known["nanos"]} | {column: known[column] for column in columns}
    except KeyError as error:
        raise MissingColumn(f"{row_type} has no column {error.args[0][:100]!r}; it has {', '.join(known)}") from None


def _folders_in(path: str) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir():
                    yield entry.name, entry.path
    except FileNotFoundError:
        return


def _map_day(
    folder: _Folder, day: int, wanted: Mapping[str, np.dtype[Any]], known: _Day | None
) -> tuple[int, int, bool, _Day] | None:
    """(rows, when `time` was last written, whether a tail is torn, maps); None while a merge is under way.

    The marker stands from before the first file is replaced until after the last, which is `time`. So if
    there is no marker after the columns were mapped, and `time` is still the one mapped first, no file was
    replaced in between.
    """
    marker = folder.path / marker_name(day)
    time_path = str(folder.path / file_name("time", day))
    try:
        descriptor = os.open(time_path, os.O_RDONLY)
    except FileNotFoundError:
        return 0, 0, True, _Day(time_path, 0, 0, {})
    try:
        status = os.fstat(descriptor)
        rows = status.st_size // _TIME_SIZE
        if known is not None and status.st_ino == known.inode and rows <= known.capacity:
            mapped = _Day(time_path, known.inode, known.capacity, dict(known.maps))
        else:
            capacity = rows + _SPARE_ROWS
            times = mapped_column(descriptor, wanted["time"], capacity)
            mapped = _Day(time_path, status.st_ino, capacity, {"time": times})
    finally:
        os.close(descriptor)
    for column in wanted.keys() - mapped.maps.keys():
        try:
            descriptor = os.open(folder.path / file_name(column, day), os.O_RDONLY)
        except FileNotFoundError:
            raise MissingColumn(f"column {column} is not stored for {day_name(day)}") from None
        try:
            mapped.maps[column] = mapped_column(descriptor, wanted[column], mapped.capacity)
        finally:
            os.close(descriptor)
    stored = min([rows, *_stored_rows(folder.path, day)])
    if marker.exists() or _inode(time_path) != mapped.inode:
        return None
    return stored, status.st_mtime_ns, stored < rows, mapped


def _seal(folder: _Folder, day: int, rows: int) -> Seal | None:
    """The day's seal, where it is that of so many rows: it is taken off before a row is added."""
    if day not in folder.sealed:
        return None
    if day not in folder.seals:
        try:
            folder.seals[day] = read_seal(Day(folder.path, _ROW_TYPES[folder.path.name], day))
        except (DamagedDay, OSError):
            folder.seals[day] = None  # whoever proves the days tells it
    seal = folder.seals[day]
    return seal if seal is not None and seal.rows == rows else None


def _stored_rows(folder: Path, day: int) -> Iterator[int]:
    for column, dtype in COLUMNS[_ROW_TYPES[folder.name]].items():
        # Days of other writers may have fewer columns.
        with suppress(FileNotFoundError):
            yield (folder / file_name(column, day)).stat().st_size // dtype.itemsize


def _inode(path: str) -> int | None:
    try:
        return Path(path).stat().st_ino
    except FileNotFoundError:
        return None


def _lower_bound(times: Column, nanos: Column, ns: int) -> int:
    # Searching for a Python int would convert the whole column first.
    second, nano = divmod(ns, NANOS_PER_SECOND)
    low = int(times.searchsorted(np.uint32(second)))
    if nano and low < times.size and times[low] == second:
        high = int(times.searchsorted(np.uint32(second), "right"))
        low += int(nanos[low:high].searchsorted(np.uint32(nano)))
    return low


def _every(parts: list[Column], stride: int) -> list[Column]:
    kept = []
    first = 0
    for values in parts:
        if first < values.size:
            kept.append(values[first::stride].copy())
        first = (first - values.size) % stride
    return kept
