"""The raw journal of one exchange, on and off, and on a disk that does not take it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from actors import recorder
from actors.recorder import Recorder
from storage.journal import BLOCK_BYTES, journal_files, read_journal
from tests.polling import wait_until

URL = "wss://stream.binance.com:9443/stream"


def record(one: Recorder, *frames: bytes) -> None:
    one.frames("ws-1", URL, frames, np.arange(len(frames), dtype=np.int64))


def recorded(folder: Path) -> list[bytes]:
    return [event.data for path in journal_files(folder) for event in read_journal(path, lambda _: None)]


@pytest.fixture
def one(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "journal", "binance", 1 << 30, on=False)


def test_nothing_is_written_while_it_is_off(one: Recorder, tmp_path: Path) -> None:
    record(one, b"{}")
    one.event("open", "ws-1", URL, 0, b"")
    one.flush()
    one.close()
    assert not (tmp_path / "journal").exists()
    assert one.status() == {
        "on": False,
        "path": str(tmp_path / "journal"),
        "frames": 0,
        "bytes": 0,
        "lost": 0,
        "failure": "",
    }


def test_switched_on_and_off_each_time_makes_a_journal_that_is_whole(one: Recorder, tmp_path: Path) -> None:
    for number in range(2):
        one.switch(True)
        one.switch(True)
        record(one, b"%d" % number)
        one.switch(False)
        record(one, b"not this")
        assert (one.status()["frames"], one.status()["on"]) == (1, False)
    damages: list[object] = []
    files = journal_files(tmp_path / "journal")
    assert [event.data for path in files for event in read_journal(path, damages.append)] == [b"0", b"1"]
    assert (len(files), damages) == (2, [])


def test_what_was_taken_reaches_the_file_within_about_a_second(
    monkeypatch: pytest.MonkeyPatch, one: Recorder, tmp_path: Path
) -> None:
    monkeypatch.setattr(recorder, "FLUSH_S", 0.05)
    one.switch(True)
    record(one, b"{}")

    def arrived() -> bool:
        one.flush()
        return (tmp_path / "journal").exists() and recorded(tmp_path / "journal") == [b"{}"]

    wait_until(arrived, 5)
    one.close()


def test_it_goes_on_in_another_journal_after_it_was_closed(one: Recorder, tmp_path: Path) -> None:
    one.switch(True)
    record(one, b"1")
    one.close()
    record(one, b"2")
    one.close()
    assert recorded(tmp_path / "journal") == [b"1", b"2"]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets the disk be full, or have room again."""
    write = os.pwrite

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda is_full: monkeypatch.setattr(os, "pwrite", refuse if is_full else write)


def test_a_full_disk_raises_nothing_and_is_said_until_it_has_room_again(
    one: Recorder, full: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recorder, "FLUSH_S", 0.0)
    one.switch(True)
    full(True)
    record(one, b"lost 1", b"lost 2")
    one.flush()
    status = one.status()
    assert (status["failure"], status["lost"], status["frames"]) == ("No space left on device", 2, 2)
    record(one, b"held, and not yet tried")
    assert one.status()["failure"] == "No space left on device", "nothing was written since"
    full(False)
    one.flush()
    assert one.status()["failure"] == ""
    record(one, b"kept")
    one.close()
    assert one.status()["lost"] == 2
    assert recorded(tmp_path / "journal") == [b"held, and not yet tried", b"kept"]


def test_a_full_disk_costs_no_memory(one: Recorder, full: Callable[[bool], None]) -> None:
    one.switch(True)
    full(True)
    frame = b"x" * 1000
    for _ in range(10):
        record(one, *[frame] * (BLOCK_BYTES // 1000))
    status = one.status()
    assert status["frames"] - status["lost"] < BLOCK_BYTES // len(frame), "the others wait in memory"
    one.close()


def test_an_error_of_an_earlier_journal_is_forgotten_with_it(one: Recorder, full: Callable[[bool], None]) -> None:
    one.switch(True)
    full(True)
    record(one, b"{}")
    one.switch(False)
    assert one.status()["failure"] == "No space left on device"
    full(False)
    one.switch(True)
    assert (one.status()["failure"], one.status()["lost"]) == ("", 0)
    one.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    one = Recorder(tmp_path / "journal", "binance", 1 << 30, on=True)
    record(one, b"{}")
    one.close()
    assert one.status()["failure"]
    assert one.status()["lost"] == 1
