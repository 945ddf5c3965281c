"""Writer and reader together against a plain list of rows, and what lies on the disk."""

import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.column_layout import NANOS_PER_DAY, Column, split_time
from storage.column_reader import BeingRewritten, ColumnReader, Selection
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS, IDENTITY, RowType


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Whether bytes have reached the disk shows only after a power cut; merges wait for it many times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None)
        yield


#: 2025-08-18, the start of a UTC day.
DAY = 20_318
MIDNIGHT = DAY * NANOS_PER_DAY

#: (ts_event, identity, content): two rows may have the same identity and differ in content.
Row = tuple[int, int, int]


def columns_of(row_type: RowType, rows: Sequence[Row]) -> dict[str, Column]:
    """Every column of a row says the same `content`, so that a mixed-up row shows."""
    columns = {name: np.zeros(len(rows), dtype) for name, dtype in COLUMNS[row_type].items()}
    ns, identities, contents = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    for values in columns.values():
        if values.dtype.kind == "V":
            values.view("<u8")[::2] = contents
        else:
            values[:] = contents
    columns["time"], columns["nanos"] = split_time(ns)
    columns[IDENTITY[row_type]] = identities.astype("<u8")
    return columns


def rows_of(row_type: RowType, selection: Selection) -> list[Row]:
    """The rows of a selection of every column; fails where columns disagree."""
    columns = {name: selection.column(name) for name in COLUMNS[row_type]}
    ns = columns.pop("time").astype(np.int64) * 1_000_000_000 + columns.pop("nanos")
    identities = columns.pop(IDENTITY[row_type])
    contents = columns["price64"].astype(np.int64)
    for name, values in columns.items():
        plain = values.copy().view("<u8")[::2] if values.dtype.kind == "V" else values
        assert plain.tolist() == contents.tolist(), name
    assert len(ns) == selection.rows
    return list(zip(ns.tolist(), identities.tolist(), contents.tolist(), strict=True))


def everything(root: Path, row_type: RowType = "TRADES", symbol: str = "BTC-USD") -> list[Row]:
    selection = ColumnReader(root).select("sim", symbol, row_type, 0, 2**63, list(COLUMNS[row_type]))
    return rows_of(row_type, selection)


@dataclass
class Model:
    """What the files should hold: per day and identity the first row that came."""

    rows: dict[tuple[int, int], Row] = field(default_factory=dict)

    def append(self, rows: Iterable[Row]) -> list[bool]:
        new = []
        for row in rows:
            key = (row[0] // NANOS_PER_DAY, row[1])
            new.append(key not in self.rows)
            self.rows.setdefault(key, row)
        return new

    def stored(self) -> list[Row]:
        return sorted(self.rows.values())


nanoseconds = st.one_of(
    st.integers(-3, 3), st.integers(-2, 2).map(lambda s: s * 10**9), st.integers(-NANOS_PER_DAY, NANOS_PER_DAY)
).map(lambda offset: MIDNIGHT + offset)
batches = st.lists(st.tuples(nanoseconds, st.integers(0, 30)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    row_type=st.sampled_from(["MD", "TRADES"]),
    steps=st.lists(st.tuples(batches, st.booleans()), max_size=8),
    start=nanoseconds,
    end=nanoseconds,
    stride=st.integers(1, 9),
)
def test_files_hold_what_a_plain_list_would(
    row_type: RowType, steps: list[tuple[list[tuple[int, int]], bool]], start: int, end: int, stride: int
) -> None:
    with TemporaryDirectory() as folder:
        root, model, content = Path(folder), Model(), 0
        # Room for one day only, so that days are closed and opened all the time.
        writer = ColumnWriter(root, max_open_files=15)
        reader = ColumnReader(root, max_maps=12, clock=iter(range(0, 10_000, 2)).__next__)
        names = list(COLUMNS[row_type])
        for batch, reopen in steps:
            rows = [(ns, identity, content + i) for i, (ns, identity) in enumerate(batch)]
            content += len(rows)
            new = writer.append("sim", "BTC-USD", row_type, columns_of(row_type, rows))
            assert new.tolist() == model.append(rows)
            if reopen:
                writer.close()
                writer = ColumnWriter(root, max_open_files=15)
            chosen = [row for row in model.stored() if start <= row[0] <= end]
            selection = reader.select("sim", "BTC-USD", row_type, start, end, names)
            assert rows_of(row_type, selection) == chosen
            assert rows_of(row_type, selection.every(stride)) == chosen[::stride]
            newest = reader.last_rows("sim", "BTC-USD", row_type, stride, names)
            assert rows_of(row_type, newest) == model.stored()[-stride:]
        writer.close()


def test_live_rows_are_appended_in_place(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    model = Model()
    for step in range(50):
        rows = [(MIDNIGHT + step * 10**8 + i, step * 10 + i, step) for i in range(step % 4)]
        assert writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", rows)).tolist() == model.append(rows)
        if step == 1:
            inode = (tmp_path / "sim/BTC-USD/TRADES/time.18.08.25.bin").stat().st_ino
    assert (tmp_path / "sim/BTC-USD/TRADES/time.18.08.25.bin").stat().st_ino == inode
    assert everything(tmp_path) == model.stored()
    writer.close()


def test_files_have_the_documented_bytes(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    columns = columns_of("TRADES", [(MIDNIGHT + 5, 2**63 - 1, 3), (MIDNIGHT + 10**9, 2**63 - 1, 4)])
    columns["maker_order_id"] = np.frombuffer(bytes(range(32)), "V16")
    columns["price"][:] = [116_123.45, np.nan]
    writer.append("kraken", "XBT/USD", "TRADES", columns)
    writer.close()
    folder = tmp_path / "kraken" / "XBT_USD" / "TRADES"
    second = MIDNIGHT // 10**9
    files = {f"{name}.18.08.25.bin" for name in COLUMNS["TRADES"]}
    assert {path.name for path in folder.iterdir()} == files | {"commits.18.08.25"}
    expected = {
        "time": struct.pack("<2I", second, second + 1),
        "nanos": struct.pack("<2I", 5, 0),
        "id": struct.pack("<2Q", 2**63 - 1, 2**63 - 1),
        "price": struct.pack("<2f", 116_123.453125, float("nan")),
        "size": struct.pack("<2f", 3, 4),
        "side": struct.pack("<2I", 3, 4),
        "maker_order_id": bytes(range(32)),
        "size64": struct.pack("<2d", 3, 4),
    }
    # The second id equals the first, so its row was dropped from every column.
    found = {name: (folder / f"{name}.18.08.25.bin").read_bytes() for name in expected}
    assert found == {name: content[: len(content) // 2] for name, content in expected.items()}


@pytest.mark.parametrize("row_type", ["MD", "TRADES"])
def test_every_column_is_an_aligned_read_only_view(tmp_path: Path, row_type: RowType) -> None:
    writer = ColumnWriter(tmp_path, 64)
    writer.append("sim", "A", row_type, columns_of(row_type, [(MIDNIGHT + i, i, i) for i in range(9)]))
    writer.close()
    reader = ColumnReader(tmp_path)
    selection = reader.select("sim", "A", row_type, MIDNIGHT + 1, MIDNIGHT + 6, list(COLUMNS[row_type]))
    again = reader.select("sim", "A", row_type, MIDNIGHT + 1, MIDNIGHT + 6, list(COLUMNS[row_type]))
    for name, dtype in COLUMNS[row_type].items():
        [values] = selection.parts(name)
        assert (values.dtype, values.size) == (dtype, 6)
        assert values.flags.aligned and values.flags.c_contiguous and not values.flags.writeable
        assert values.ctypes.data % min(dtype.itemsize, 8) == 0
        assert np.shares_memory(values, again.parts(name)[0])
        with pytest.raises(ValueError, match="WRITEABLE"):
            values.flags.writeable = True


def _live_and_late(rounds: int) -> Iterator[list[Row]]:
    """Four rows at a time in order; every fifth time one that should have come long before."""
    for step in range(rounds):
        yield [(MIDNIGHT + identity * 1000, identity, identity) for identity in range(step * 10 + 1, step * 10 + 5)]
        if step % 5 == 4:
            late = (step - 3) * 10
            yield [(MIDNIGHT + late * 1000, late, late)]


def test_a_reader_sees_whole_rows_while_rows_are_appended_and_merged(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    batches = list(_live_and_late(150))
    writer.append("sim", "A", "TRADES", columns_of("TRADES", batches[0]))
    reader = ColumnReader(tmp_path)
    done = threading.Event()

    def read() -> tuple[int, int]:
        reads = refused = 0
        seen: set[Row] = set()
        kept: list[tuple[Selection, list[Row]]] = []
        while not done.is_set() or not reads:
            try:
                selection = reader.select("sim", "A", "TRADES", MIDNIGHT, MIDNIGHT + 10**9, list(COLUMNS["TRADES"]))
            except BeingRewritten:
                refused += 1
                continue
            rows = rows_of("TRADES", selection)
            assert rows == sorted(rows)
            assert all(row == (MIDNIGHT + row[1] * 1000, row[1], row[1]) for row in rows)
            assert seen <= set(rows)
            seen = set(rows)
            kept = [*kept[-3:], (selection, rows)]
            reads += 1
        # What was selected stays as it was, whatever happened to the files since.
        for selection, rows in kept:
            assert rows_of("TRADES", selection) == rows
        return reads, refused

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            for batch in batches[1:]:
                assert writer.append("sim", "A", "TRADES", columns_of("TRADES", batch)).all()
        finally:
            done.set()
            writer.close()
        reads, refused = reading.result()
    assert reads > refused
    assert everything(tmp_path, symbol="A") == sorted(row for batch in batches for row in batch)
