"""A day becomes Parquet and the same bytes again, and nothing else is taken for it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.column_archive import Archive
from storage.column_verify import verify
from storage.column_writer import ColumnWriter
from storage.day_files import DamagedDay, Day, remove_day
from storage.day_seal import Seal, measured, write_seal
from storage.schema import COLUMNS, RowType
from tests.storage.test_column_files import DAY, MIDNIGHT, columns_of


def sealed_day(root: Path, row_type: RowType, rows: int, seed: int = 0) -> tuple[Day, Seal]:
    """Rows of any bytes there can be: infinities, all kinds of NaN, zeros with a sign."""
    random = np.random.default_rng(seed)
    columns = columns_of(row_type, [(MIDNIGHT + i * 1000, i, 0) for i in range(rows)])
    for name, values in columns.items():
        if values.dtype.kind in "fV":
            columns[name] = np.frombuffer(random.bytes(values.nbytes), values.dtype)
            if values.dtype.kind == "f" and rows > 4:
                columns[name] = columns[name].copy()
                columns[name][:4] = [np.nan, -0.0, np.inf, -np.inf]
    writer = ColumnWriter(root, 64)
    writer.append("kraken", "XBT/USD", row_type, columns)
    writer.close()
    day = Day(root / "kraken" / "XBT_USD" / row_type, row_type, DAY)
    seal = measured(day)
    write_seal(day, seal)
    return day, seal


@settings(max_examples=25, deadline=None)
@given(
    row_type=st.sampled_from(["MD", "TRADES"]), rows=st.integers(1, 60), seed=st.integers(0, 1000), uri=st.booleans()
)
def test_a_day_comes_back_bit_by_bit(row_type: RowType, rows: int, seed: int, uri: bool) -> None:
    with TemporaryDirectory() as folder:
        root, place = Path(folder) / "columns", Path(folder) / "archive"
        day, seal = sealed_day(root, row_type, rows, seed)
        before = {column: day.path(column).read_bytes() for column in COLUMNS[row_type]}
        archive = Archive(place.as_uri() if uri else str(place))
        assert archive.put("kraken", "XBT/USD", day, seal) > 0
        assert archive.days("kraken", "XBT/USD", row_type) == [DAY]
        assert [path.name for path in place.rglob("*") if path.is_file()] == ["2025-08-18.parquet"]
        remove_day(day)
        assert list(verify(root)) == []
        assert archive.restore("kraken", "XBT/USD", day) == rows
        assert {column: day.path(column).read_bytes() for column in COLUMNS[row_type]} == before
        [verified] = verify(root)
        assert (verified.sealed, verified.wrong) == (True, ())


def test_a_day_that_is_not_what_was_sealed_is_not_archived(tmp_path: Path) -> None:
    day, seal = sealed_day(tmp_path / "columns", "TRADES", 10)
    day.path("price").write_bytes(bytes(40))
    with pytest.raises(DamagedDay, match=r"price.18.08.25.bin is not what it was"):
        Archive(str(tmp_path / "archive")).put("kraken", "XBT/USD", day, seal)
    assert not list((tmp_path / "archive").rglob("*.parquet"))


def test_what_was_changed_in_the_archive_is_told_and_not_restored(tmp_path: Path) -> None:
    day, seal = sealed_day(tmp_path / "columns", "TRADES", 10)
    archive = Archive(str(tmp_path / "archive"))
    archive.put("kraken", "XBT/USD", day, seal)
    remove_day(day)
    [path] = (tmp_path / "archive").rglob("*.parquet")
    whole, table = path.read_bytes(), pq.read_table(path)
    pq.write_table(table.set_column(5, "side", table["time"]), path)
    with pytest.raises(DamagedDay, match="is not what was sealed"):
        archive.restore("kraken", "XBT/USD", day)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(DamagedDay, match="is no archived day"):
        archive.restore("kraken", "XBT/USD", day)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedDay, match="cannot be read"):
        archive.restore("kraken", "XBT/USD", day)
    assert not day.path("time").exists()


def test_a_day_is_not_restored_over_rows_that_are_there(tmp_path: Path) -> None:
    day, seal = sealed_day(tmp_path / "columns", "TRADES", 10)
    archive = Archive(str(tmp_path / "archive"))
    archive.put("kraken", "XBT/USD", day, seal)
    with pytest.raises(FileExistsError):
        archive.restore("kraken", "XBT/USD", day)
    with pytest.raises(FileNotFoundError, match="no such day of kraken ETH/USD"):
        archive.restore("kraken", "ETH/USD", Day(tmp_path / "other", "TRADES", DAY))


def test_an_address_that_leads_nowhere_is_refused_without_its_secrets() -> None:
    with pytest.raises(ValueError, match=r"address .nowhere://") as refused:
        Archive("nowhere://bucket?secret=hidden")
    assert "hidden" not in str(refused.value)
