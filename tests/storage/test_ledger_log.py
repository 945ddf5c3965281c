"""The ledger's log gives back every record that was written, whatever cut the file."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.ledger_log import Checkpoint, Gap, LedgerLog, Merged, Record, read_log

RECORDS: list[Record] = [
    Gap("okx", "BTC-USDT", 7, 3, 4, 10, 20, 2, 30, 'a "reason"\nof two lines'),
    Merged("okx", "BTC-USDT", [9], [3]),
    Checkpoint("okx", "BTC-USDT", "ids", 1, 1, 3, 9, [4, 5], 2, True, 1, 2, 7, 0, 0, 1),
    Gap("kraken", "XBT/USD", 8, None, None, 10, 20, None, 30, "ü", 1, 2, 40, "seen", 5),
]


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    log = LedgerLog(tmp_path / "deep" / "0-of-1.log")
    for record in RECORDS:
        log.append([record])
    assert list(log.read()) == RECORDS
    log.close()
    again = LedgerLog(tmp_path / "deep" / "0-of-1.log")
    assert (list(again.read()), again.damaged) == (RECORDS, 0)
    again.close()


@given(cut=st.integers(0, 1_000))
def test_a_torn_tail_is_cut_and_what_is_written_next_is_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "0-of-1.log"
    log = LedgerLog(path)
    log.append(RECORDS)
    log.close()
    whole = path.read_bytes()
    cut = min(cut, len(whole))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    log = LedgerLog(path)
    log.append(RECORDS[:1])
    assert list(log.read()) == [*RECORDS[:kept], RECORDS[0]]
    log.close()


def test_a_damaged_line_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "0-of-1.log"
    log = LedgerLog(path)
    log.append(RECORDS)
    log.close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"9", b"8")
    lines[2] = b"\xff" + lines[2][1:]
    path.write_bytes(b"".join(lines))
    log = LedgerLog(path)
    assert (list(log.read()), log.damaged) == ([RECORDS[0], RECORDS[3]], 2)
    log.close()


def test_a_write_that_fails_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LedgerLog(tmp_path / "0-of-1.log")
    log.append(RECORDS[:1])
    real = os.pwrite
    writes: list[int] = []

    def full(descriptor: int, content: Any, offset: int) -> int:
        writes.append(offset)
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content[:10], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        log.append(RECORDS)
    monkeypatch.setattr(os, "pwrite", real)
    assert list(log.read()) == RECORDS[:1]
    log.append(RECORDS[1:])
    assert list(log.read()) == RECORDS
    log.close()


def test_made_short_it_holds_what_was_given_and_what_came_meanwhile(tmp_path: Path) -> None:
    log = LedgerLog(tmp_path / "0-of-1.log")
    log.append(RECORDS * 50)
    size = log.size
    log.append(RECORDS[:1])
    log.prepare(RECORDS[2:3])
    log.append(RECORDS[1:2])
    log.swap(size)
    assert list(log.read()) == [RECORDS[2], RECORDS[0], RECORDS[1]]
    log.append(RECORDS[3:])
    log.close()
    assert list(read_log(tmp_path / "0-of-1.log")) == [RECORDS[2], RECORDS[0], RECORDS[1], RECORDS[3]]


def test_what_was_prepared_before_a_crash_is_forgotten(tmp_path: Path) -> None:
    log = LedgerLog(tmp_path / "0-of-1.log")
    log.append(RECORDS)
    log.prepare(RECORDS[:1])
    again = LedgerLog(tmp_path / "0-of-1.log")
    assert list(again.read()) == RECORDS
    assert [path.name for path in tmp_path.iterdir()] == ["0-of-1.log"]
    again.close()
    log.close()
