"""Whatever happens to the writer or its disk at whatever moment: no acknowledged row lost, none doubled."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.column_layout import NANOS_PER_DAY
from storage.column_reader import BeingRewritten, ColumnReader
from storage.column_writer import ColumnWriter
from storage.day_files import DamagedDay
from storage.schema import COLUMNS
from tests.storage.test_column_files import MIDNIGHT, Model, Row, columns_of, everything, rows_of

CHECKOUT = Path(__file__).parents[2]

#: A new day; rows of two days, the second new; late rows and duplicates; a plain append after that.
BATCHES: list[list[Row]] = [
    [(MIDNIGHT + i * 100, i, i) for i in range(10, 20)],
    [(MIDNIGHT + NANOS_PER_DAY + i * 100, i, i) for i in (3, 1, 2)] + [(MIDNIGHT + 2000, 20, 20)],
    [(MIDNIGHT + i * 100, i, 100 + i) for i in (5, 21, 12, 7, 5)]
    + [(MIDNIGHT + NANOS_PER_DAY + i * 100, i, i) for i in (0, 2)],
    [(MIDNIGHT + i * 100, i, i) for i in (22, 23)] + [(MIDNIGHT + NANOS_PER_DAY + 500, 5, 5)],
]


class Killed(BaseException):
    """The process is gone: nothing it does after this has an effect."""


class Disk:
    """Counts the operations that change something, and fails one of them; real files otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.operations = 0
        self.fails_at = -1
        self.error: Callable[[], BaseException] = Killed
        self.stays_broken = True
        #: Part of a failing write that reaches the file.
        self.part = 0.0
        for name in ("pwrite", "ftruncate", "replace", "unlink", "mkdir", "open", "fsync", "fdatasync"):
            self._intercept(name)

    def _intercept(self, name: str) -> None:
        real = getattr(os, name)

        def operation(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **named)
            self.operations += 1
            if self.operations == self.fails_at or (self.stays_broken and 0 < self.fails_at < self.operations):
                if name == "pwrite" and self.operations == self.fails_at:
                    descriptor, content, offset = arguments
                    plain = memoryview(content).tobytes()
                    real(descriptor, plain[: int(len(plain) * self.part)], offset)
                raise self.error()
            # Waiting for the disk changes nothing that a living kernel shows.
            return None if name in ("fsync", "fdatasync") else real(*arguments, **named)

        self._monkeypatch.setattr(os, name, operation)

    def works(self) -> None:
        self.fails_at = -1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def append(writer: ColumnWriter, batch: list[Row]) -> list[bool]:
    new: list[bool] = writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch)).tolist()
    return new


def operations_of_all_batches(disk: Disk, folder: Path) -> int:
    disk.operations = 0
    writer = ColumnWriter(folder, 64)
    for batch in BATCHES:
        append(writer, batch)
    count = disk.operations
    writer.close()
    return count


def test_a_process_killed_at_any_operation_loses_and_doubles_nothing(disk: Disk, tmp_path: Path) -> None:
    total = operations_of_all_batches(disk, tmp_path / "whole")
    assert total > 100
    interrupted_merges = 0
    for fails_at in range(1, total + 1):
        root = tmp_path / str(fails_at)
        disk.operations, disk.fails_at, disk.part = 0, fails_at, 0.35 * (fails_at % 2)
        writer, model = ColumnWriter(root, 64), Model()
        acknowledged = 0
        with pytest.raises(Killed):
            for batch in BATCHES:
                append(writer, batch)
                model.append(batch)
                acknowledged += 1
        disk.works()
        writer.close()

        try:
            seen = set(everything(root))
        except BeingRewritten:
            assert list(root.glob("*/*/*/merging.*"))
            interrupted_merges += 1
        else:
            in_flight = Model(dict(model.rows))
            in_flight.append(BATCHES[acknowledged])
            assert set(model.stored()) <= seen <= set(in_flight.stored())

        writer = ColumnWriter(root, 64)
        for batch in BATCHES[acknowledged:]:
            append(writer, batch)
            model.append(batch)
        assert everything(root) == model.stored(), fails_at
        assert not [path for path in root.rglob("*") if "merg" in path.name]
        sizes = {
            path.stat().st_size / COLUMNS["TRADES"][path.name.split(".")[0]].itemsize for path in root.rglob("*.bin")
        }
        assert len(sizes) == 2, "the columns of a day differ in length"
        writer.close()
    assert interrupted_merges > 10


def test_a_full_disk_at_one_operation_of_three_is_survived_by_sending_again(disk: Disk, tmp_path: Path) -> None:
    total = operations_of_all_batches(disk, tmp_path / "whole")
    disk.error = lambda: OSError(errno.ENOSPC, "No space left on device")
    disk.stays_broken = False
    for fails_at in range(1, total + 1, 3):
        root = tmp_path / str(fails_at)
        disk.operations, disk.fails_at, disk.part = 0, fails_at, 0.35 * (fails_at % 2)
        writer, model, failures = ColumnWriter(root, 64), Model(), 0
        for batch in BATCHES:
            try:
                new = append(writer, batch)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                failures += 1
                disk.works()
                new = append(writer, batch)
            # Rows that the failed call stored are still reported as new, once.
            assert new == model.append(batch), fails_at
        assert failures == 1, fails_at
        assert everything(root) == model.stored(), fails_at
        writer.close()


def test_rows_of_a_failed_append_are_new_only_once(disk: Disk, tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    append(writer, BATCHES[0])
    both = [(MIDNIGHT + 5000, 50, 0), (MIDNIGHT + NANOS_PER_DAY, 51, 0)]
    disk.error = lambda: OSError(errno.EIO, "Input/output error")
    # The last write of the second day: everything of the first is stored by then.
    disk.fails_at = disk.operations + 2 + 3 * len(COLUMNS["TRADES"])
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            append(writer, both)
    disk.works()
    assert append(writer, both[:1]) == [True]
    assert append(writer, both) == [False, True]
    assert append(writer, both) == [False, False]
    writer.close()


def test_readers_keep_their_rows_through_a_full_disk(disk: Disk, tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    append(writer, BATCHES[0])
    selection = ColumnReader(tmp_path).select("sim", "BTC-USD", "TRADES", 0, 2**63, list(COLUMNS["TRADES"]))
    disk.error = lambda: OSError(errno.ENOSPC, "No space left on device")
    disk.fails_at, disk.part = disk.operations + 7, 0.5
    with pytest.raises(OSError, match="No space"):
        append(writer, BATCHES[3][:2])
    assert everything(tmp_path) == BATCHES[0] == rows_of("TRADES", selection)
    disk.works()
    assert append(writer, BATCHES[3][:2]) == [True, True]
    writer.close()


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Path]:
    """The folder of a symbol that has ten rows of one day."""
    writer = ColumnWriter(tmp_path, 64)
    append(writer, BATCHES[0])
    writer.close()
    yield tmp_path / "sim" / "BTC-USD" / "TRADES"


@pytest.mark.parametrize("column", list(COLUMNS["TRADES"]))
def test_a_torn_tail_is_cut_at_open(tmp_path: Path, day: Path, column: str) -> None:
    path = day / f"{column}.18.08.25.bin"
    size = COLUMNS["TRADES"][column].itemsize
    os.truncate(path, 7 * size + 1)
    assert everything(tmp_path) == BATCHES[0][:7]
    writer = ColumnWriter(tmp_path, 64)
    assert append(writer, BATCHES[0][:1]) == [False]
    for name, dtype in COLUMNS["TRADES"].items():
        assert (day / f"{name}.18.08.25.bin").stat().st_size == 7 * dtype.itemsize
    assert append(writer, BATCHES[0][6:]) == [False, True, True, True]
    writer.close()
    assert everything(tmp_path) == BATCHES[0]
    assert path.stat().st_size == 10 * size


def test_rows_that_a_power_cut_left_as_zeros_are_cut_at_open(tmp_path: Path, day: Path) -> None:
    for column, dtype in COLUMNS["TRADES"].items():
        path = day / f"{column}.18.08.25.bin"
        os.truncate(path, 8 * dtype.itemsize)
        os.truncate(path, 10 * dtype.itemsize)
    writer = ColumnWriter(tmp_path, 64)
    assert append(writer, BATCHES[0]) == [False] * 8 + [True] * 2
    writer.close()
    assert everything(tmp_path) == BATCHES[0]


@pytest.mark.parametrize("column", list(COLUMNS["TRADES"]))
def test_a_day_without_one_of_its_files_is_refused_and_left_alone(tmp_path: Path, day: Path, column: str) -> None:
    (day / f"{column}.18.08.25.bin").unlink()
    before = {path: path.read_bytes() for path in day.iterdir()}
    writer = ColumnWriter(tmp_path, 64)
    with pytest.raises(DamagedDay, match="restore it, or move the day away"):
        append(writer, BATCHES[1])
    assert {path: path.read_bytes() for path in day.iterdir() if path in before} == before
    writer.close()


APPENDING = """
import sys
from pathlib import Path
from storage.column_writer import ColumnWriter
from tests.storage.test_column_files import MIDNIGHT, columns_of
writer = ColumnWriter(Path(sys.argv[1]), 64)
step = int(sys.argv[2])
while True:
    rows = [(MIDNIGHT + i * 1000, i, i) for i in range(step * 7, step * 7 + 7) if i % 50]
    rows += [(MIDNIGHT + i * 1000, i, i) for i in range(step * 7 - 60, step * 7 - 53) if i > 0 and not i % 50]
    writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", rows))
    step += 1
    print(step, flush=True)
"""


def test_a_killed_process_loses_no_acknowledged_row(tmp_path: Path) -> None:
    step = 0
    for lines in (20, 33, 41):
        # Some steps are sent again, as after a restart.
        child = subprocess.Popen(
            [sys.executable, "-c", APPENDING, str(tmp_path), str(max(0, step - 5))],
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        with child:
            assert child.stdout is not None
            for _ in range(lines):
                step = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:
                step = int(line)
        writer = ColumnWriter(tmp_path, 64)
        assert append(writer, [(MIDNIGHT + 7000, 7, 7)]) == [False]
        writer.close()
        rows = everything(tmp_path)
        assert rows == sorted({(MIDNIGHT + i * 1000, i, i) for _, i, _ in rows})
        expected = {i for i in range(1, step * 7) if i % 50 or i < step * 7 - 60}
        assert expected <= {i for _, i, _ in rows}


LIMITED = """
import resource, sys
from pathlib import Path
from storage.column_writer import ColumnWriter
from tests.storage.test_column_files import MIDNIGHT, columns_of, everything
root = Path(sys.argv[1])
writer = ColumnWriter(root, 64)
rows = [(MIDNIGHT + i, i, i) for i in range(1000)]
append = lambda part: writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", part))
append(rows[:100])
resource.setrlimit(resource.RLIMIT_FSIZE, (5003, resource.RLIM_INFINITY))
for attempt in range(3):
    try:
        append(rows)
        print("no error")
    except OSError as error:
        print(error.errno)
    print(len(everything(root)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(append(rows).sum(), everything(root) == rows)
"""


def test_a_real_write_error_leaves_the_day_as_it_was(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    assert done.stdout.split() == [*[str(errno.EFBIG), "100"] * 3, "900", "True"]


def test_columns_that_do_not_fit_are_refused_before_anything_is_stored(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "columns", 64)
    good = columns_of("TRADES", BATCHES[0])
    wrong: list[dict[str, Any]] = [
        {name: values for name, values in good.items() if name != "side"},
        good | {"best_bid": good["price"]},
        good | {"price": good["price64"]},
        good | {"price": good["price"][1:]},
        good | {"nanos": good["nanos"] + np.uint32(10**9)},
        good | {"time": good["time"] - good["time"][0]},
    ]
    for columns in wrong:
        with pytest.raises(ValueError, match=r"column|years"):
            writer.append("sim", "BTC-USD", "TRADES", columns)
    for exchange, symbol in (("..", "A"), ("sim", ""), ("sim", "a b"), ("sim", ".A")):
        with pytest.raises(ValueError, match="cannot name a folder"):
            writer.append(exchange, symbol, "TRADES", good)
    assert writer.append("sim", "A", "TRADES", columns_of("TRADES", [])).tolist() == []
    assert not (tmp_path / "columns").exists()


def test_no_more_files_are_open_than_allowed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    writer = ColumnWriter(tmp_path, 30)
    for step in range(3):
        for symbol in "ABCDE":
            for row_type in ("MD", "TRADES"):
                rows = [(MIDNIGHT + step, step, step)]
                assert writer.append("sim", symbol, row_type, columns_of(row_type, rows)).all()
                assert len(os.listdir("/proc/self/fd")) - before <= 30  # noqa: PTH208
    writer.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert all(len(everything(tmp_path, symbol=symbol)) == 3 for symbol in "ABCDE")
    with pytest.raises(ValueError, match="one day alone needs 15"):
        ColumnWriter(tmp_path, 13)
