"""Proves column files: a sealed day has the bytes it was sealed with, any other whole rows in the order of time, each
once. Reads everything; a writer may go on meanwhile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storage.column_layout import NANOS_PER_DAY, UNPROVEN, day_name, day_of_seal, day_of_time_file, join_time
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn
from storage.day_files import DamagedDay, Day
from storage.day_seal import broken, read_seal
from storage.schema import COLUMNS, IDENTITY, RowType


@dataclass(frozen=True, slots=True)
class Verified:
    """A day of a symbol and what is wrong with it, a line each."""

    exchange: str
    symbol: str
    row_type: RowType
    day: str
    rows: int
    size: int
    sealed: bool
    wrong: tuple[str, ...]


@dataclass(slots=True)
class Summary:
    """So many days and rows, of which so many days are sealed; bytes that were read; and the days that are wrong."""

    days: int = 0
    sealed: int = 0
    rows: int = 0
    size: int = 0
    wrong: list[Verified] = field(default_factory=list)

    def add(self, one: Verified) -> None:
        self.days += 1
        self.sealed += one.sealed
        self.rows += one.rows
        self.size += one.size
        if one.wrong:
            self.wrong.append(one)


def summary(columns: Path, told: Callable[[Verified], None] = lambda _: None) -> Summary:
    """What `verify` finds; `told` of each day."""
    found = Summary()
    for one in verify(columns):
        found.add(one)
        told(one)
    return found


def verify(columns: Path) -> Iterator[Verified]:
    """Every day below the root, one after another."""
    reader = ColumnReader(columns, rescan_s=0)
    for exchange, symbols in reader.symbols().items():
        for symbol in symbols:
            for row_type in COLUMNS:
                folder = reader.folder(exchange, symbol, row_type)
                if folder is None:
                    continue
                names = [path.name for path in folder.iterdir()]
                days = {day for name in names if (day := day_of_time_file(name.removesuffix(UNPROVEN))) is not None}
                days |= {day for name in names if (day := day_of_seal(name)) is not None}
                for day in sorted(days):
                    yield _verified(reader, exchange, symbol, Day(folder, row_type, day))


def _verified(reader: ColumnReader, exchange: str, symbol: str, day: Day) -> Verified:
    sealed, rows, wrong = False, 0, list[str]()
    try:
        seal = read_seal(day)
        if seal is not None:
            sealed, rows, wrong = True, seal.rows, list(broken(day, seal))
        # A late row takes the seal off.
        if seal is None or (wrong and not day.seal.exists()):
            sealed = False
            rows, wrong = _of_open_day(reader, exchange, symbol, day)
    except (DamagedDay, MissingColumn, BeingRewritten, OSError) as error:
        wrong = [str(error)]
    if day.path("time").with_name(f"{day.path('time').name}{UNPROVEN}").exists():
        wrong.append(f"rows that nothing proved after a power cut were set aside (*{UNPROVEN})")
    size = rows * sum(dtype.itemsize for dtype in COLUMNS[day.row_type].values())
    return Verified(exchange, symbol, day.row_type, day_name(day.day), rows, size, sealed, tuple(wrong))


def _of_open_day(reader: ColumnReader, exchange: str, symbol: str, day: Day) -> tuple[int, list[str]]:
    begin = day.day * NANOS_PER_DAY
    names = list(COLUMNS[day.row_type])
    chosen = reader.select(exchange, symbol, day.row_type, begin, begin + NANOS_PER_DAY - 1, names)
    wrong = []
    time = np.fromfile(day.path("time"), COLUMNS[day.row_type]["time"])
    if outside := int(np.count_nonzero(time // (NANOS_PER_DAY // 10**9) != day.day)):
        wrong.append(f"{outside} rows are of another day")
    keys, identities = join_time(chosen.column("time"), chosen.column("nanos")), chosen.column(IDENTITY[day.row_type])
    later = (keys[1:] > keys[:-1]) | ((keys[1:] == keys[:-1]) & (identities[1:] > identities[:-1]))
    if unordered := int(np.count_nonzero(~later)):
        wrong.append(f"{unordered} rows are not in the order of time")
    if twice := int(len(identities) - len(np.unique(identities))):
        wrong.append(f"{twice} rows are there more than once")
    return chosen.rows, wrong
