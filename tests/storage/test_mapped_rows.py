"""Rows in a file are there for whoever opens it next, whatever became of the process that wrote them."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.mapped_rows import MappedRows, read_rows

KIND = np.dtype([("name", "S8"), ("count", "<i8")])
CHECKOUT = Path(__file__).parents[2]


def test_rows_are_kept_and_new_ones_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows"
    first = MappedRows(path, KIND, 3)
    first.rows["count"] = [1, 2, 3]
    first.rows["name"][1] = b"two"
    larger = first.grow(5)
    assert larger is first.rows
    assert larger["count"].tolist() == [1, 2, 3, 0, 0]
    larger["count"][4] = 5
    first.close()
    again = MappedRows(path, KIND, 2)
    assert again.rows["count"].tolist() == [1, 2, 3, 0, 5]
    assert again.rows["name"].tolist() == [b"", b"two", b"", b"", b""]
    assert read_rows(path, KIND)["count"].tolist() == [1, 2, 3, 0, 5]
    again.close()


@pytest.mark.parametrize("content", [b"", b"short", bytes(1000), b"rows of something else".ljust(300, b"x")])
def test_a_file_of_anything_else_begins_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    assert len(read_rows(path, KIND)) == 0
    rows = MappedRows(path, KIND, 2)
    assert rows.rows["count"].tolist() == [0, 0]
    rows.close()
    other = MappedRows(path, np.dtype([("name", "S8"), ("count", "<f8")]), 4)
    assert len(other.rows) == 4
    other.close()


def test_a_torn_last_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    rows = MappedRows(path, KIND, 3)
    rows.rows["count"] = 7
    rows.close()
    os.truncate(path, path.stat().st_size - 1)
    again = MappedRows(path, KIND, 1)
    assert again.rows["count"].tolist() == [7, 7]
    again.close()


def test_a_full_disk_is_an_error_when_room_is_taken_and_never_when_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = MappedRows(tmp_path / "rows", KIND, 3)
    rows.rows["count"] = [1, 2, 3]

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as context:
        context.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            rows.grow(10)
        with pytest.raises(OSError, match="No space"):
            MappedRows(tmp_path / "others", KIND, 3)
    assert rows.grow(10)["count"].tolist() == [1, 2, 3] + [0] * 7
    rows.close()
    blocks = (tmp_path / "rows").stat().st_blocks * 512
    assert blocks >= 10 * KIND.itemsize


COUNTING = """
import sys
from pathlib import Path
from storage.mapped_rows import MappedRows
from tests.storage.test_mapped_rows import KIND
rows = MappedRows(Path(sys.argv[1]), KIND, 1).rows
while True:
    rows["count"][0] += 1
    print(int(rows["count"][0]), flush=True)
"""


def test_a_killed_process_leaves_what_it_wrote(tmp_path: Path) -> None:
    said = 0
    for lines in (50, 120):
        child = subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(tmp_path / "rows")], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
        )
        with child:
            assert child.stdout is not None
            for _ in range(lines):
                said = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:
                said = int(line)
        assert read_rows(tmp_path / "rows", KIND)["count"][0] in (said, said + 1)
    assert said >= 170
