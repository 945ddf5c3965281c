"""The seal of a day that is over: how many rows it has and the SHA-256 of each column, so that anybody can prove later
that nothing changed. It is taken off before a late row comes in, and put on again afterwards.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from storage.column_layout import NANOS_PER_SECOND
from storage.day_files import DamagedDay, Day
from storage.file_operations import sync_folder, write_new_file
from storage.schema import COLUMNS


class Seal(msgspec.Struct, frozen=True):
    """`columns` holds the SHA-256 (hex) of each column's file; times are int64 ns."""

    rows: int
    first_ns: int
    last_ns: int
    columns: dict[str, str]


class FileState(NamedTuple):
    inode: int
    size: int
    changed_ns: int


def file_states(day: Day) -> list[FileState]:
    """Of each column: the same as long as nobody writes to the day. FileNotFoundError."""
    stats = [day.path(column).stat() for column in COLUMNS[day.row_type]]
    return [FileState(status.st_ino, status.st_size, status.st_mtime_ns) for status in stats]


def measured(day: Day) -> Seal:
    """What a seal of the day says now; reads all of it. OSError; `DamagedDay` when its columns differ in length."""
    dtypes = COLUMNS[day.row_type]
    sizes = {column: day.path(column).stat().st_size for column in dtypes}
    rows = sizes["time"] // dtypes["time"].itemsize
    for column, size in sizes.items():
        if size != rows * dtypes[column].itemsize:
            raise DamagedDay(f"{day.path(column)} has {size} bytes; {rows} rows need {rows * dtypes[column].itemsize}")
    first, last = (_time_of(day, row) if rows else 0 for row in (0, rows - 1))
    return Seal(rows, first, last, {column: _digest(day, column) for column in dtypes})


def write_seal(day: Day, seal: Seal) -> None:
    """Put it on, whole or not at all. The day's files must be synced. OSError."""
    new = day.seal.with_suffix(".new")
    write_new_file(new, np.frombuffer(msgspec.json.encode(seal), np.uint8))
    new.replace(day.seal)
    day.commits.unlink(missing_ok=True)
    sync_folder(day.folder)


def read_seal(day: Day) -> Seal | None:
    """None where there is none. OSError; `DamagedDay` for what is no seal."""
    try:
        return msgspec.json.decode(day.seal.read_bytes(), type=Seal)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DamagedDay(f"{day.seal} is no seal: {error}") from None


def broken(day: Day, seal: Seal) -> Iterator[str]:
    """What is not as it was when the day was sealed, a line each; reads all of it. OSError."""
    for column, dtype in COLUMNS[day.row_type].items():
        path = day.path(column)
        if not path.exists():
            yield f"{path.name} is missing"
        elif (size := path.stat().st_size) != seal.rows * dtype.itemsize:
            yield f"{path.name} has {size} bytes, was sealed with {seal.rows * dtype.itemsize}"
        elif _digest(day, column) != seal.columns.get(column):
            yield f"{path.name} is not what it was when it was sealed"


def _time_of(day: Day, row: int) -> int:
    second, nano = (_value(day, column, row) for column in ("time", "nanos"))
    return second * NANOS_PER_SECOND + nano


def _value(day: Day, column: str, row: int) -> int:
    with day.path(column).open("rb") as file:
        size = COLUMNS[day.row_type][column].itemsize
        return int.from_bytes(os.pread(file.fileno(), size, row * size), "little")


def _digest(day: Day, column: str) -> str:
    with day.path(column).open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
