"""Appends rows to column files, each row exactly once and in time order, whatever is sent again.

What survives: a killed process loses nothing that `append` returned for, a power cut nothing that was synced since
(`begin_sync`, `flush`), a failed write (disk full) leaves the day as it was for whoever reads it. Bytes a reader may
have mapped are never truncated or overwritten: late rows go to whole new files, which then take the place of the old
ones.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from storage import file_operations
from storage.column_layout import (
    FIRST_DAY,
    LAST_DAY,
    NAME_FILE,
    NANOS_PER_SECOND,
    SECONDS_PER_DAY,
    Column,
    day_of_commits,
    day_of_marker,
    day_of_removal,
    folder_name,
)
from storage.day_files import (
    FILES,
    Day,
    OpenDay,
    State,
    create,
    merge,
    open_again,
    open_day,
    recover_merge,
    remove_day,
    sort_keys,
)
from storage.schema import COLUMNS, IDENTITY, RowType

#: Of so many days it is remembered how they end; a day that is forgotten is looked at when it is written to again.
MOST_DAYS: Final = 65_536

#: How many rows each day had when a sync began.
Unsynced = Mapping[Day, int]


class ColumnWriter:
    """The only writer of the symbols it is given; one thread. Opens at most `max_open_files` files. A day that has no
    files is given to `bring_back` before it is written to, which may make those it had once."""

    def __init__(self, root: Path, max_open_files: int, bring_back: Callable[[Day], None] = lambda _: None) -> None:
        fewest = max(FILES.values())
        if max_open_files < fewest:
            raise ValueError(f"max_open_files is {max_open_files}: one day alone needs {fewest}")
        self._root = root
        self._max_open_files = max_open_files
        self._bring_back = bring_back
        self._open_files = 0
        self._open: OrderedDict[Day, OpenDay] = OrderedDict()
        self._states: OrderedDict[Day, State] = OrderedDict()
        #: Days with rows that the disk may not hold.
        self._unsynced: dict[Day, int] = {}
        #: Those that were written to, with their native names written down.
        self._folders: dict[tuple[str, str, RowType], Path] = {}
        # Identities of rows that a failed append may have stored and that its caller never heard of.
        self._unreported: dict[Day, Column] = {}

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
            return self._append_day(Day(folder, row_type, first), columns)
        new = np.zeros(times.size, bool)
        days = times // SECONDS_PER_DAY
        appended: list[tuple[Day, Column]] = []
        try:
            for day in np.unique(days).tolist():
                rows = np.flatnonzero(days == day)
                place = Day(folder, row_type, day)
                new[rows] = self._append_day(place, {name: values[rows] for name, values in columns.items()})
                appended.append((place, rows[new[rows]]))
        except BaseException:
            for place, rows in appended:
                self._leave_unreported(place, columns[IDENTITY[row_type]][rows])
            raise
        return new

    def recover(self, exchange: str, symbol: str) -> None:
        """Finish what a crash left half done in any day of a symbol, and cut what a power cut left of rows that were
        not synced, so that readers can read it. OSError; `DamagedDay`."""
        for row_type in COLUMNS:
            folder = self._root / folder_name(exchange) / folder_name(symbol) / row_type
            if not folder.is_dir():
                continue
            names = [path.name for path in folder.iterdir()]
            for day in filter(None, map(day_of_removal, names)):
                remove_day(Day(folder, row_type, day))
            for day in filter(None, map(day_of_marker, names)):
                recover_merge(Day(folder, row_type, day))
            for day in filter(None, map(day_of_commits, names)):
                self._opened(Day(folder, row_type, day))

    def begin_sync(self) -> Unsynced:
        """What is to be told `synced` once `file_operations.sync_filesystem` has returned, which may run in another
        thread while this one goes on; nothing where the disk holds everything."""
        unsynced, self._unsynced = self._unsynced, {}
        return unsynced

    def synced(self, unsynced: Unsynced) -> None:
        """The disk holds what it says."""
        for day, rows in unsynced.items():
            if (state := self._states.get(day)) is not None:
                state.commits.synced = max(state.commits.synced, rows)

    def not_synced(self, unsynced: Unsynced) -> None:
        """It may not, so it is to be tried again."""
        self._unsynced = {**unsynced, **self._unsynced}

    def flush(self) -> None:
        """Make everything appended so far survive a power cut. Raises OSError; what failed is kept for later."""
        unsynced = self.begin_sync()
        if not unsynced:
            return
        try:
            file_operations.sync_filesystem(self._root)
        except OSError:
            self.not_synced(unsynced)
            raise
        self.synced(unsynced)

    def close(self) -> None:
        """Flush and close every file. A closed writer opens them again when it is used."""
        try:
            self.flush()
        finally:
            while self._open:
                self._close(next(iter(self._open)))

    def forget(self, day: Day) -> None:
        """Look at it anew before it is written to again: somebody else changes its files."""
        self._close(day)
        self._states.pop(day, None)

    def leave(self, exchange: str, symbol: str) -> None:
        """Close what is open of a symbol, and know nothing of it any more: another one writes it from now on."""
        place = self._root / folder_name(exchange) / folder_name(symbol)
        for day in [day for day in (*self._states, *self._open) if day.folder.parent == place]:
            self.forget(day)
            self._unreported.pop(day, None)
        for row_type in COLUMNS:
            self._folders.pop((exchange, symbol, row_type), None)

    def _append_day(self, day: Day, columns: Mapping[str, Column]) -> Column:
        opened = self._opened(day)
        identities = columns[IDENTITY[day.row_type]]
        keys = sort_keys(columns["time"], columns["nanos"])
        in_order = keys.size == 1 or bool((identities[1:] > identities[:-1]).all() and (keys[1:] >= keys[:-1]).all())
        fresh: Column | slice = slice(None)
        late = False
        state = opened.state
        if not (in_order and identities[0] > state.highest and keys[0] >= state.last_key):
            rows = _fresh_rows(opened, identities)
            rows = rows[np.lexsort((identities[rows], keys[rows]))]
            last = (state.last_key, state.last_identity)
            late = rows.size > 0 and (int(keys[rows[0]]), int(identities[rows[0]])) < last
            fresh = rows
        try:
            if state.sealed and identities[fresh].size:
                day.seal.unlink(missing_ok=True)
                file_operations.sync_folder(day.folder)
                state.sealed = False
            if late:
                merge(day, opened, columns, fresh)
                self.forget(day)
            else:
                opened.append(columns, fresh, keys)
                self._unsynced[day] = state.rows
        except BaseException:
            self.forget(day)
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

    def _opened(self, day: Day) -> OpenDay:
        opened = self._open.get(day)
        if opened is not None:
            self._open.move_to_end(day)
            return opened
        needed = FILES[day.row_type]
        while self._open_files + needed > self._max_open_files:
            self._close(next(iter(self._open)))
        opened = self._opened_again(day)
        if opened is None:
            day.folder.mkdir(parents=True, exist_ok=True)
            recover_merge(day)
            if day.removing.exists():
                remove_day(day)
            if not day.path("time").exists():
                self._bring_back(day)
            create(day)
            opened = open_day(day)
            self._remember(day, opened.state)
            if opened.state.rows > opened.state.commits.synced:
                # Of a writer before us.
                self._unsynced[day] = opened.state.rows
            if day in self._unreported:
                self._unreported[day] = np.intersect1d(self._unreported[day], opened.read(opened.identity))
        self._open[day] = opened
        self._open_files += needed
        return opened

    def _opened_again(self, day: Day) -> OpenDay | None:
        """A day whose state is known, unless an operator took it away."""
        state = self._states.get(day)
        try:
            return None if state is None else open_again(day, state)
        except FileNotFoundError:
            del self._states[day]
            return None

    def _remember(self, day: Day, state: State) -> None:
        self._states[day] = state
        if len(self._states) > MOST_DAYS:
            oldest, _ = self._states.popitem(last=False)
            self._close(oldest)

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
        folder.mkdir(parents=True, exist_ok=True)
        name = folder / NAME_FILE
        if not name.exists() or not name.stat().st_size:
            name.write_text(symbol, encoding="utf-8")

    def _close(self, day: Day) -> None:
        opened = self._open.pop(day, None)
        if opened is not None:
            self._open_files -= FILES[day.row_type]
            opened.close()

    def _leave_unreported(self, day: Day, identities: Column) -> None:
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


def _fresh_rows(opened: OpenDay, identities: Column) -> "np.ndarray[Any, np.dtype[np.intp]]":
    distinct, first = np.unique(identities, return_index=True)
    if distinct[0] <= opened.state.highest:
        stored = opened.read(opened.identity)
        near = stored[(stored >= distinct[0]) & (stored <= distinct[-1])]
        first = first[np.isin(distinct, near, invert=True)]
    return first
