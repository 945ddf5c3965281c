"""A killed writer loses nothing that `flush` returned for, and a full disk tears nothing."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.journal import BLOCK_BYTES, Damage, JournalWriter, journal_files, read_journal
from tests.storage.test_journal import NOW, URL, numbered, ticking

WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from storage.journal import JournalWriter
root, start = Path(sys.argv[1]), int(sys.argv[2])
writer = JournalWriter(root, "okx", 200_000, time.time_ns)
print("ready", flush=True)
number = start
while True:
    for _ in range(number % 7):
        count = 1 + number % 900
        frames = [b"%d:%d" % (n, n * n * 7919) for n in range(number, number + count)]
        writer.frames("ws-1", "wss://host", frames, np.arange(number, number + count))
        number += count
    writer.event("send", "ws-1", "wss://host", number, b"%d:%d" % (number, number * number * 7919))
    number += 1
    writer.flush()
    print(number, flush=True)
"""


def test_a_writer_killed_again_and_again_loses_nothing_it_flushed(tmp_path: Path) -> None:
    chance = random.Random(7)
    frozen: dict[Path, bytes] = {}
    start = 0
    flushed = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(chance.randrange(1, 60)):
            last = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        # The last line may be torn too.
        *_, last = [last, *process.stdout.read().split("\n")[:-1]]
        process.wait()
        process.stdout.close()
        flushed += int(last) - start
        assert {path: path.read_bytes() for path in frozen} == frozen, "a restart touched what was there"
        new = [path for path in journal_files(tmp_path) if path not in frozen]
        assert new
        assert journal_files(tmp_path) == [*sorted(frozen), *new]

        reports: list[Damage] = []
        seen = [event for path in new for event in read_journal(path, reports.append)]
        # Every event in its place from the first to the last flushed; behind them only events that were written too.
        assert [event.t_ns for event in seen] == list(range(start, start + len(seen)))
        assert all(event.data == b"%d:%d" % (event.t_ns, event.t_ns * event.t_ns * 7919) for event in seen)
        assert start + len(seen) >= int(last)
        assert [(report.path, report.events) for report in reports] in ([(new[-1], None)], [])
        frozen = {path: path.read_bytes() for path in journal_files(tmp_path)}
        start += 1_000_000
    assert flushed > 10_000


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow over this, in the middle of a write if need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(1000) for _ in range(count)]


def test_a_disk_that_is_full_for_a_while_costs_what_was_counted_and_tears_nothing(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "okx", 1 << 30, ticking())
    kept: list[bytes] = []
    lost = 0
    for seed, fits in enumerate([True, False, True, True, False, False, True]):
        frames = noise(50, seed)
        writer.frames("ws-1", URL, frames, [NOW] * 50)
        size = writer.path.stat().st_size if writer.path else 0
        if fits:
            writer.flush()
            kept += frames
            continue
        with files_up_to(size + 1 + seed * 5000), pytest.raises(OSError) as caught:
            writer.flush()
        assert caught.value.errno == errno.EFBIG
        lost += 50
        assert writer.lost == lost
        assert writer.path is not None
        assert writer.path.stat().st_size == size, "a part of the block is still there"
        # Nothing waits any more, so there is nothing to fail again.
        writer.flush()
    writer.close()
    reports: list[Damage] = []
    (path,) = journal_files(tmp_path)
    assert [event.data for event in read_journal(path, reports.append)] == kept
    assert [(report.stop - report.start, report.events) for report in reports] == [(0, 50), (0, 100)]
    assert "the disk did not take a block; 50 events are missing" in str(reports[0])


def test_the_call_that_fills_a_block_on_a_full_disk_raises_and_later_ones_go_on(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "okx", 1 << 30, ticking())
    first, rest, later = noise(10, 1), noise(3 * BLOCK_BYTES // 1000, 2), noise(10, 3)
    writer.frames("ws-1", URL, first, [NOW] * len(first))
    writer.flush()
    with files_up_to(BLOCK_BYTES // 2), pytest.raises(OSError, match="File too large"):
        writer.frames("ws-1", URL, rest, [NOW] * len(rest))
    assert writer.lost == len(rest)
    writer.frames("ws-1", URL, later, [NOW] * len(later))
    writer.close()
    reports: list[Damage] = []
    (path,) = journal_files(tmp_path)
    assert [event.data for event in read_journal(path, reports.append)] == first + later
    assert [report.events for report in reports] == [len(rest)]


def test_where_even_the_cut_fails_the_next_block_is_written_over_the_torn_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path, "okx", 1 << 30, ticking())
    writer.frames("ws-1", URL, *numbered(5))
    writer.flush()
    assert writer.path is not None
    size = writer.path.stat().st_size

    def fails(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", fails)
    with files_up_to(size + 30_000), pytest.raises(OSError, match="File too large"):
        writer.frames("ws-1", URL, noise(50, 1), [NOW] * 50)
        writer.flush()
    assert writer.path.stat().st_size == size + 30_000
    writer.frames("ws-1", URL, *numbered(5, 5))
    writer.close()
    reports: list[Damage] = []
    assert [event.data for event in read_journal(writer.path, reports.append)] == numbered(10)[0]
    assert [report.events for report in reports] == [50, None]


def test_a_segment_that_cannot_be_made_costs_its_block_and_is_made_later(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    root.write_text("a file where the folder should be")
    writer = JournalWriter(root, "okx", 1 << 30, ticking())
    writer.frames("ws-1", URL, *numbered(5))
    with pytest.raises(OSError, match="File exists"):
        writer.flush()
    root.unlink()
    writer.frames("ws-1", URL, *numbered(5, 5))
    writer.close()
    reports: list[Damage] = []
    (path,) = journal_files(root)
    assert [event.data for event in read_journal(path, reports.append)] == numbered(5, 5)[0]
    assert [(report.start, report.stop, report.events) for report in reports] == [(0, 0, 5)]


def test_a_writer_that_cannot_write_its_last_block_closes_its_file(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "okx", 1 << 30, ticking())
    writer.frames("ws-1", URL, *numbered(5))
    writer.flush()
    assert writer.path is not None
    writer.frames("ws-1", URL, noise(50, 1), [NOW] * 50)
    with files_up_to(writer.path.stat().st_size + 10_000), pytest.raises(OSError, match="File too large"):
        writer.close()
    assert not [link for link in Path("/proc/self/fd").iterdir() if link.resolve() == writer.path]
    reports: list[Damage] = []
    assert [event.data for event in read_journal(writer.path, reports.append)] == numbered(5)[0]
    assert [report.events for report in reports] == [50]
