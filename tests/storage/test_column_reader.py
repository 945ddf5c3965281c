"""Queries: bounds, hostile names, files that grow or vanish."""

import os
import time
from pathlib import Path

import pytest

from storage.column_layout import NANOS_PER_DAY
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn
from storage.column_writer import ColumnWriter
from tests.storage.test_column_files import MIDNIGHT, Row, columns_of

SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def store(root: Path, rows: list[Row], exchange: str = "sim", symbol: str = "BTC-USD") -> None:
    writer = ColumnWriter(root, 64)
    writer.append(exchange, symbol, "TRADES", columns_of("TRADES", rows))
    writer.close()


def contents(reader: ColumnReader, start: int = 0, end: int = 2**80) -> list[int]:
    return [
        int(value) for value in reader.select("sim", "BTC-USD", "TRADES", start, end, ["price64"]).column("price64")
    ]


def test_bounds_are_inclusive_to_the_nanosecond_and_repeated_seconds_lose_no_row(tmp_path: Path) -> None:
    stamps = [0, 0, 5, 5, 5, SECOND - 1, SECOND, SECOND, 2 * SECOND + 7]
    store(tmp_path, [(MIDNIGHT + ns, i, i) for i, ns in enumerate(stamps)])
    reader = ColumnReader(tmp_path)
    for start in {*stamps, *(ns + 1 for ns in stamps), -1}:
        for end in {*stamps, *(ns - 1 for ns in stamps), 9 * SECOND}:
            expected = [i for i, ns in enumerate(stamps) if start <= ns <= end]
            assert contents(reader, MIDNIGHT + start, MIDNIGHT + end) == expected


@pytest.mark.parametrize(("start", "end"), [(5, 4), (2**80, 0), (-(2**80), -1), (2**70, 2**80), (0, 0)])
def test_a_range_without_rows_is_empty(tmp_path: Path, start: int, end: int) -> None:
    store(tmp_path, [(MIDNIGHT, 1, 1)])
    selection = ColumnReader(tmp_path).select("sim", "BTC-USD", "TRADES", start, end, ["id", "time"])
    assert (selection.rows, selection.parts("id"), selection.column("id").dtype.str) == (0, [], "<u8")
    assert selection.every(3).rows == 0


def test_a_century_costs_only_the_days_that_exist(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT + day * NANOS_PER_DAY, 1, day) for day in (-9000, 0, 20_000)])
    reader = ColumnReader(tmp_path)
    assert contents(reader) == [-9000, 0, 20_000]
    assert [part.size for part in reader.select("sim", "BTC-USD", "TRADES", 0, 2**80, ["time"]).parts("time")] == [
        1,
        1,
        1,
    ]


def test_every_nth_row_counts_across_days(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT + i * NANOS_PER_DAY // 3, i, i) for i in range(10)])
    selection = ColumnReader(tmp_path).select("sim", "BTC-USD", "TRADES", 0, 2**80, ["price64"])
    for stride in range(1, 12):
        kept = selection.every(stride)
        assert kept.column("price64").tolist() == list(range(0, 10, stride))
        assert kept.rows == len(range(0, 10, stride))
    with pytest.raises(ValueError, match="stride is 0"):
        selection.every(0)


@pytest.mark.parametrize(("rows", "expected"), [(-1, []), (0, []), (1, [9]), (4, [6, 7, 8, 9]), (99, list(range(10)))])
def test_the_newest_rows_come_oldest_first(tmp_path: Path, rows: int, expected: list[int]) -> None:
    store(tmp_path, [(MIDNIGHT + i * NANOS_PER_DAY // 3, i, i) for i in range(10)])
    selection = ColumnReader(tmp_path).last_rows("sim", "BTC-USD", "TRADES", rows, ["price64"])
    assert selection.column("price64").tolist() == expected
    assert selection.rows == len(expected)


HOSTILE = ["", ".", "..", "../secret", "/etc", "sim/../../secret", "a\0b", "~", "*", "x" * 5000, "\udc80", ".hidden"]


def test_no_name_leads_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "columns"
    store(root, [(MIDNIGHT, 1, 1)])
    store(root / ".hidden", [(MIDNIGHT, 1, 1)])
    store(tmp_path, [(MIDNIGHT, 1, 1)], exchange="secret", symbol="BTC-USD")
    reader = ColumnReader(root)
    for name in HOSTILE:
        for exchange, symbol, row_type in (
            (name, "BTC-USD", "TRADES"),
            ("sim", name, "TRADES"),
            ("sim", "BTC-USD", name),
            (name, name, name),
            ("sim", f"../sim/{name}", "TRADES"),
        ):
            assert reader.select(exchange, symbol, row_type, 0, 2**80, ["time"]).rows == 0
            assert reader.last_rows(exchange, symbol, row_type, 5, ["time"]).rows == 0
        with pytest.raises(MissingColumn) as refusal:
            reader.select("sim", "BTC-USD", "TRADES", 0, 2**80, [name])
        assert str(tmp_path) not in str(refusal.value)
        assert len(str(refusal.value)) < 1000
    assert reader.select("sim", "BTC-USD", "TRADES", 0, 2**80, ["time"]).rows == 1


def test_symbols_are_listed_sorted_without_hidden_and_empty_ones(tmp_path: Path) -> None:
    for name in ("b/Z", "b/A", "b/.x", "a/Q", "empty", ".c/Q", "files"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "files" / "README").touch()
    (tmp_path / "stray").touch()
    symbols = ColumnReader(tmp_path).symbols()
    assert symbols == {"a": ["Q"], "b": ["A", "Z"]}
    assert list(symbols) == ["a", "b"]
    assert ColumnReader(tmp_path / "absent").symbols() == {}


def test_new_symbols_are_found_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    reader = ColumnReader(tmp_path, clock=clock)
    assert contents(reader) == []
    store(tmp_path, [(MIDNIGHT, 1, 1)])
    clock.now = 0.9
    assert (contents(reader), reader.symbols()) == ([], {})
    clock.now = 1.0
    assert (contents(reader), reader.symbols()) == ([1], {"sim": ["BTC-USD"]})


def test_a_symbol_is_found_by_its_native_name(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT, 1, 1)], symbol="XBT/USD")
    reader = ColumnReader(tmp_path)
    for name in ("XBT/USD", "XBT_USD"):
        assert reader.select("sim", name, "TRADES", 0, 2**80, ["time"]).rows == 1
    assert reader.symbols() == {"sim": ["XBT/USD"]}


def test_a_growing_day_and_new_days_are_seen_at_once(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT, 0, 0)])
    reader = ColumnReader(tmp_path)
    for i in range(1, 6):
        assert contents(reader) == list(range(i))
        store(tmp_path, [(MIDNIGHT + i * NANOS_PER_DAY // 4, i, i)])
    assert contents(reader) == list(range(6))


def test_a_day_that_outgrows_its_map_is_mapped_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.column_reader._SPARE_ROWS", 2)
    reader = ColumnReader(tmp_path, clock=iter(range(0, 100, 2)).__next__)
    for i in range(9):
        store(tmp_path, [(MIDNIGHT + i, i, i)])
        assert contents(reader) == list(range(i + 1))


def test_a_day_taken_away_has_no_rows_anymore(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT, 0, 0), (MIDNIGHT + NANOS_PER_DAY, 1, 1)])
    reader = ColumnReader(tmp_path)
    kept = reader.select("sim", "BTC-USD", "TRADES", 0, 2**80, ["price64"])
    for path in (tmp_path / "sim/BTC-USD/TRADES").glob("*.18.08.25.bin"):
        path.unlink()
    assert contents(reader) == [1]
    assert kept.column("price64").tolist() == [0, 1]


def test_a_column_that_a_day_lacks_is_named_without_its_path(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT, 0, 0)])
    (tmp_path / "sim/BTC-USD/TRADES/size64.18.08.25.bin").unlink()
    reader = ColumnReader(tmp_path)
    assert contents(reader) == [0]
    with pytest.raises(MissingColumn, match=r"^column size64 is not stored for 18\.08\.25$"):
        reader.select("sim", "BTC-USD", "TRADES", 0, 2**80, ["size64"])


def test_a_file_without_rows_is_an_empty_day(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT, 0, 0), (MIDNIGHT + NANOS_PER_DAY, 1, 1)])
    os.truncate(tmp_path / "sim/BTC-USD/TRADES/time.18.08.25.bin", 0)
    assert contents(ColumnReader(tmp_path)) == [1]


def test_a_merge_that_does_not_end_is_an_error_soon_and_only_for_its_day(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT, 0, 0), (MIDNIGHT + NANOS_PER_DAY, 1, 1)])
    (tmp_path / "sim/BTC-USD/TRADES/merging.18.08.25").touch()
    reader = ColumnReader(tmp_path)
    started = time.monotonic()
    with pytest.raises(BeingRewritten, match=r"^rows of 18\.08\.25 are being rewritten"):
        contents(reader)
    assert time.monotonic() - started < 1
    assert contents(reader, start=MIDNIGHT + NANOS_PER_DAY) == [1]


def test_maps_are_bounded_and_hold_no_files_open(tmp_path: Path) -> None:
    store(tmp_path, [(MIDNIGHT + i * NANOS_PER_DAY, i, i) for i in range(40)])
    reader = ColumnReader(tmp_path, max_maps=9)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert maps == []
    assert contents(reader) == list(range(40))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert 0 < len(maps) <= 9
    del reader
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
