"""A sealed day is proven byte by byte, an open one by its order; every kind of damage is named."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.column_layout import NANOS_PER_DAY
from storage.column_verify import Verified, verify
from storage.column_writer import ColumnWriter
from storage.day_files import DamagedDay, Day, remove_day
from storage.day_seal import measured, read_seal, write_seal
from storage.schema import COLUMNS
from tests.storage.test_column_files import DAY, MIDNIGHT, Row, columns_of, everything

ROWS: list[Row] = [(MIDNIGHT + i * 10**9, i, i) for i in range(1, 101)]


def append(root: Path, rows: list[Row]) -> None:
    writer = ColumnWriter(root, 64)
    writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", rows))
    writer.close()


@pytest.fixture
def day(tmp_path: Path) -> Day:
    append(tmp_path, ROWS)
    return Day(tmp_path / "sim" / "BTC-USD" / "TRADES", "TRADES", DAY)


def seal(day: Day) -> None:
    write_seal(day, measured(day))


def only(root: Path) -> Verified:
    [verified] = verify(root)
    return verified


@pytest.mark.parametrize("sealed", [False, True])
def test_a_day_that_is_as_it_was_is_proven(tmp_path: Path, day: Day, sealed: bool) -> None:
    if sealed:
        seal(day)
    verified = only(tmp_path)
    assert (verified.wrong, verified.sealed, verified.rows, verified.day) == ((), sealed, 100, "18.08.25")
    assert (known := read_seal(day)) is None or (known.first_ns, known.last_ns) == (ROWS[0][0], ROWS[-1][0])


@pytest.mark.parametrize("column", list(COLUMNS["TRADES"]))
def test_one_changed_bit_of_a_sealed_day_is_found(tmp_path: Path, day: Day, column: str) -> None:
    seal(day)
    content = bytearray(day.path(column).read_bytes())
    content[len(content) // 2] ^= 4
    day.path(column).write_bytes(content)
    assert only(tmp_path).wrong == (f"{column}.18.08.25.bin is not what it was when it was sealed",)


@pytest.mark.parametrize("column", ["time", "price64"])
def test_a_shorter_and_a_missing_file_of_a_sealed_day_are_found(tmp_path: Path, day: Day, column: str) -> None:
    seal(day)
    size = COLUMNS["TRADES"][column].itemsize * 100
    os.truncate(day.path(column), size - 4)
    assert only(tmp_path).wrong == (f"{column}.18.08.25.bin has {size - 4} bytes, was sealed with {size}",)
    day.path(column).unlink()
    assert only(tmp_path).wrong == (f"{column}.18.08.25.bin is missing",)


def test_a_seal_that_cannot_be_read_is_found(tmp_path: Path, day: Day) -> None:
    seal(day)
    day.seal.write_text('{"rows": 100')
    [wrong] = only(tmp_path).wrong
    assert "is no seal" in wrong


def _swap(times: "np.ndarray[tuple[int], np.dtype[np.uint32]]") -> None:
    times[[3, 60]] = times[[60, 3]]


def _tomorrow(times: "np.ndarray[tuple[int], np.dtype[np.uint32]]") -> None:
    times[-1] += NANOS_PER_DAY // 10**9


def _twice(ids: "np.ndarray[tuple[int], np.dtype[np.uint64]]") -> None:
    ids[40] = ids[41]


@pytest.mark.parametrize(
    ("column", "change", "expected"),
    [
        ("time", _swap, "rows are not in the order of time"),
        ("time", _tomorrow, "1 rows are of another day"),
        ("id", _twice, "1 rows are there more than once"),
    ],
)
def test_what_cannot_be_is_found_in_an_open_day(
    tmp_path: Path, day: Day, column: str, change: Callable[[object], None], expected: str
) -> None:
    values = np.fromfile(day.path(column), COLUMNS["TRADES"][column])
    change(values)
    values.tofile(day.path(column))
    assert any(expected in wrong for wrong in only(tmp_path).wrong)


def test_a_column_that_is_gone_is_found_in_an_open_day(tmp_path: Path, day: Day) -> None:
    day.path("size64").unlink()
    assert only(tmp_path).wrong == ("column size64 is not stored for 18.08.25",)


@pytest.mark.parametrize("late", [True, False])
def test_a_late_row_takes_the_seal_off_before_it_comes_in(tmp_path: Path, day: Day, late: bool) -> None:
    seal(day)
    append(tmp_path, ROWS[:3])
    assert read_seal(day) is not None, "nothing new came"
    row = (MIDNIGHT, 0, 7) if late else (MIDNIGHT + 3600 * 10**9, 2000, 7)
    append(tmp_path, [row])
    assert read_seal(day) is None
    assert only(tmp_path).wrong == ()
    assert everything(tmp_path) == sorted([*ROWS, row])


def test_columns_that_differ_in_length_are_not_sealed(day: Day) -> None:
    os.truncate(day.path("price"), 4)
    with pytest.raises(DamagedDay, match=r"price.18.08.25.bin has 4 bytes"):
        measured(day)


def test_a_day_whose_removal_was_cut_off_is_removed_at_the_next_start(
    tmp_path: Path, day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a row that comes for it begins a new one."""
    seal(day)
    real, left = os.unlink, 4

    def unlink(path: str | Path, **named: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(5, "Input/output error")
        real(path, **named)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(OSError, match="Input/output"):
        remove_day(day)
    monkeypatch.undo()
    assert everything(tmp_path) == []
    ColumnWriter(tmp_path, 64).recover("sim", "BTC-USD")
    assert list(day.folder.iterdir()) == []
    append(tmp_path, ROWS[5:7])
    assert everything(tmp_path) == ROWS[5:7]
