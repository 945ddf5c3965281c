"""Which days of a symbol are stored, and whether one is still as it was."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from storage.column_layout import day_of_time_file, folder_name
from storage.schema import COLUMNS, RowType

_TIME_BYTES: Final = {row_type: columns["time"].itemsize for row_type, columns in COLUMNS.items()}


class Stamp(NamedTuple):
    """Of the rows of one day: how many, and when they last changed (ns)."""

    rows: int
    changed_ns: int


def stored_days(columns: Path, exchange: str, symbol: str, row_type: RowType) -> dict[int, Stamp]:
    """By day since the epoch, ascending; empty for a symbol nobody has stored."""
    found = {}
    folder = columns / folder_name(exchange) / folder_name(symbol) / row_type
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if (day := day_of_time_file(entry.name)) is not None:
                    status = entry.stat()
                    found[day] = Stamp(status.st_size // _TIME_BYTES[row_type], status.st_mtime_ns)
    return dict(sorted(found.items()))
