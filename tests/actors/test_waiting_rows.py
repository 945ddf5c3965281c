"""What waits for ClickHouse is bounded, whatever the disk did meanwhile."""

import errno
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from actors import waiting_rows
from actors.parcels import packed
from actors.waiting_rows import WaitingRows
from storage import spool
from storage.spool import Described

ROWS = pa.table({"a": list(range(1000))})
STREAM = packed({"a": ROWS})["a"]


def put(waiting: WaitingRows, number: int) -> str:
    return waiting.put(Described("trades", "sim", number, ROWS.num_rows), ROWS, STREAM)


def test_it_is_bounded_also_after_the_disk_was_full_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_rows, "Spool", partial(spool.Spool, segment_bytes=2**16))
    waiting = WaitingRows(tmp_path, most_bytes=2**18, most_held=10)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(spool, "write_at", full)
        assert "No space left" in put(waiting, 0)
    for number in range(1, 1000):
        assert put(waiting, number) == ""
    assert len(waiting) < 100
    assert len(waiting) + waiting.dropped == 1000
    waiting.close()
