"""What is written comes back, in files that never overwrite one another and stay within their size."""

import json
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.journal import (
    BLOCK_BYTES,
    Damage,
    JournalError,
    JournalEvent,
    JournalWriter,
    journal_files,
    read_blocks,
    read_journal,
)
from storage.journal_blocks import KINDS, MAGIC, VERSION, _header
from tests.polling import wait_until

NOW = 1_700_000_000_123_456_789
URL = "wss://stream.binance.com:9443/stream"


def ticking(start: int = NOW) -> Callable[[], int]:
    """A clock that is a millisecond later each time it is read."""
    times: Iterator[int] = iter(range(start, start + 10**15, 10**6))
    return lambda: next(times)


def writer_in(root: Path, segment_bytes: int = 1 << 30, exchange: str = "binance") -> JournalWriter:
    return JournalWriter(root, exchange, segment_bytes, ticking())


def events_in(root: Path) -> list[JournalEvent]:
    """All events of all segments; every segment has to be whole."""
    reports: list[Damage] = []
    events = [event for path in journal_files(root) for event in read_journal(path, reports.append)]
    assert reports == []
    return events


def numbered(count: int, start: int = 0) -> tuple[list[bytes], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    frames = [b'{"e":"aggTrade","a":%d,"p":"%d.5"}' % (number, number * 7) for number in range(start, start + count)]
    return frames, np.arange(start, start + count, dtype=np.int64) * 1000 + NOW


texts = st.text(max_size=8)
int64 = st.integers(-(2**63), 2**63 - 1)
calls = st.lists(
    st.one_of(
        st.tuples(st.just("recv"), texts, texts, st.lists(st.tuples(int64, st.binary(max_size=40)), max_size=8)),
        st.tuples(
            st.sampled_from(["open", "send", "close", "rest"]), texts, texts, st.tuples(int64, st.binary(max_size=40))
        ),
        st.just(("flush",)),
    ),
    max_size=12,
)


@given(calls=calls)
def test_every_event_comes_back_as_it_was_in_the_order_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[object, ...]]
) -> None:
    root = tmp_path_factory.mktemp("journal")
    writer = writer_in(root, segment_bytes=600)
    expected = []
    for call in calls:
        match call:
            case ("recv", str(connection), str(url), list(received)):
                writer.frames(connection, url, [data for _, data in received], [t_ns for t_ns, _ in received])
                expected += [(t_ns, "recv", connection, url, data) for t_ns, data in received]
            case (str(kind), str(connection), str(url), (t_ns, data)):
                writer.event(kind, connection, url, t_ns, data)  # type: ignore[arg-type]
                expected.append((t_ns, kind, connection, url, data))
            case _:
                writer.flush()
    writer.close()
    seen = events_in(root) if root.exists() else []
    assert [(e.t_ns, e.kind, e.connection.rpartition("#")[0], e.url, e.data) for e in seen] == expected
    assert {event.exchange for event in seen} <= {"binance"}


def test_a_connection_has_one_name_in_all_segments_and_another_after_a_restart(tmp_path: Path) -> None:
    for start in (NOW, NOW + 10**12):
        writer = JournalWriter(tmp_path, "binance", 2000, ticking(start))
        for start in range(0, 4000, 400):
            writer.frames("ws-1", URL, *numbered(400, start))
            writer.flush()
        writer.event("open", "ws-2", URL, NOW)
        writer.close()
    assert len(journal_files(tmp_path)) > 4
    names = list(dict.fromkeys(event.connection for event in events_in(tmp_path)))
    assert [name.split("#")[0] for name in names] == ["ws-1", "ws-2", "ws-1", "ws-2"]
    assert len(set(names)) == 4
    assert {name.split("#")[1] for name in names[:2]}.isdisjoint(name.split("#")[1] for name in names[2:])


def test_segments_rotate_by_size_and_their_names_sort_by_time(tmp_path: Path) -> None:
    segment_bytes = 20_000
    writer = writer_in(tmp_path, segment_bytes)
    began = []
    for start in range(0, 100_000, 2000):
        writer.frames("ws-1", URL, *numbered(2000, start))
        writer.flush()
        if writer.path not in began:
            began.append(writer.path)
    writer.close()
    assert len(began) > 5
    assert journal_files(tmp_path) == began
    for path in began:
        assert re.fullmatch(r"20231114T221320\.\d{9}Z-binance\.journal", path.name)
        assert path.stat().st_size <= segment_bytes
    assert writer.byte_count == sum(path.stat().st_size for path in began)
    assert writer.frame_count == 100_000
    assert [event.data for event in events_in(tmp_path)] == numbered(100_000)[0]


def test_a_segment_keeps_within_its_size_to_the_byte(tmp_path: Path) -> None:
    for segment_bytes in range(700, 900):
        root = tmp_path / str(segment_bytes)
        writer = writer_in(root, segment_bytes)
        for start in range(12):
            writer.frames("ws-1", URL, *numbered(1, start))
            writer.flush()
        writer.close()
        assert len(journal_files(root)) > 1
        assert max(path.stat().st_size for path in journal_files(root)) <= segment_bytes


def test_a_clock_that_was_set_back_does_not_put_a_later_segment_before_an_earlier_one(tmp_path: Path) -> None:
    times = iter([NOW, *range(NOW, 0, -(10**12))])
    writer = JournalWriter(tmp_path, "binance", 1, lambda: next(times))
    for start in range(5):
        writer.frames("ws-1", URL, *numbered(1, start))
        writer.flush()
    writer.close()
    assert len(journal_files(tmp_path)) == 5
    assert [event.data for event in events_in(tmp_path)] == numbered(5)[0]


def test_writers_that_start_at_the_same_nanosecond_never_share_a_file(tmp_path: Path) -> None:
    writers = [JournalWriter(tmp_path, "binance", 1 << 20, lambda: NOW) for _ in range(20)]
    together = threading.Barrier(len(writers))

    def write(number: int) -> None:
        together.wait()
        writers[number].frames("ws-1", URL, *numbered(1, number))
        writers[number].close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({writer.path for writer in writers}) == len(writers)
    assert sorted(event.data for event in events_in(tmp_path)) == sorted(numbered(len(writers))[0])


def test_a_restart_leaves_what_is_there_as_it_is(tmp_path: Path) -> None:
    before: dict[Path, bytes] = {}
    for number in range(5):
        writer = JournalWriter(tmp_path, "binance", 1 << 20, lambda: NOW)
        writer.frames("ws-1", URL, *numbered(3, number))
        writer.close()
        assert {path: path.read_bytes() for path in before} == before
        before = {path: path.read_bytes() for path in journal_files(tmp_path)}
        assert len(before) == number + 1


def test_a_segment_somebody_removed_is_followed_by_another(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    for start in range(3):
        writer.frames("ws-1", URL, *numbered(1, start))
        writer.flush()
        if start == 1:
            assert writer.path is not None
            writer.path.unlink()
    writer.close()
    assert [event.data for event in events_in(tmp_path)] == numbered(1, 2)[0]


def test_what_is_flushed_can_be_read_while_the_segment_is_written(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    frames, times = numbered(10)
    for count in range(1, 11):
        writer.frames("ws-1", URL, frames[count - 1 : count], times[count - 1 : count])
        writer.flush()
        reports: list[Damage] = []
        (path,) = journal_files(tmp_path)
        assert [event.data for event in read_journal(path, reports.append)] == frames[:count]
        assert [(one.stop - one.start, one.events) for one in reports] == [(0, None)]
        assert str(reports[0]).startswith(f"{path} at byte {path.stat().st_size}, 0 bytes: not closed")
    writer.close()
    assert [event.data for event in events_in(tmp_path)] == frames


def test_full_blocks_do_not_wait_for_a_flush(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    frames = [os.urandom(50_000) for _ in range(100)]
    writer.frames("ws-1", URL, frames, [NOW] * 100)
    on_disk = [event.data for path in journal_files(tmp_path) for event in read_journal(path, lambda _: None)]
    assert on_disk == frames[: len(on_disk)]
    assert sum(map(len, frames[len(on_disk) :])) <= BLOCK_BYTES
    writer.close()
    assert [event.data for event in events_in(tmp_path)] == frames


def test_a_frame_larger_than_a_block_is_kept_whole(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, segment_bytes=1000)
    frames = [b"a", os.urandom(5 * BLOCK_BYTES), b"", b"x" * (8 * BLOCK_BYTES), b"z"]
    writer.frames("ws-1", URL, frames, [NOW] * 5)
    writer.close()
    assert [event.data for event in events_in(tmp_path)] == frames


def test_columns_of_a_block_are_those_of_its_events(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.event("open", "ws-1", URL, NOW - 1)
    frames, times = numbered(1000)
    writer.frames("ws-1", URL, frames, times)
    writer.event("rest", "rest", "https://api.binance.com/api/v3/depth?symbol=BTCUSDT", NOW, b"{}")
    writer.event("close", "ws-1", URL, NOW, b"bye")
    writer.close()
    (path,) = journal_files(tmp_path)
    (block,) = read_blocks(path)
    assert block.t_ns.dtype == np.int64
    assert block.t_ns.tolist() == [NOW - 1, *times.tolist(), NOW, NOW]
    assert [KINDS[kind] for kind in block.kinds.tolist()] == ["open", *["recv"] * 1000, "rest", "close"]
    assert [block.urls[source] for source in block.sources.tolist()][1000:1003] == [
        URL,
        "https://api.binance.com/api/v3/depth?symbol=BTCUSDT",
        URL,
    ]
    starts = [0, *block.ends.tolist()]
    assert [block.data[start:end] for start, end in pairwise(starts)] == [
        b"",
        *frames,
        b"{}",
        b"bye",
    ]


def test_repeating_frames_take_a_small_part_of_their_size(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    frames, times = numbered(20_000)
    writer.frames("ws-1", URL, frames, times)
    writer.close()
    assert writer.byte_count < sum(map(len, frames)) / 4


def test_recorded_frames_of_every_exchange_come_back_byte_for_byte(tmp_path: Path, recordings: Path) -> None:
    for path in sorted(recordings.glob("*.jsonl")):
        frames, times = [], []
        for line in path.read_bytes().splitlines():
            fields = json.loads(line)
            frames.append((fields["data"] or "").encode())
            times.append(fields["t_ns"])
        root = tmp_path / path.stem
        writer = writer_in(root, exchange=path.stem)
        writer.frames("ws-1", URL, frames, times)
        writer.close()
        seen = events_in(root)
        assert [event.data for event in seen] == frames
        assert [event.t_ns for event in seen] == times
        assert writer.byte_count < sum(map(len, frames)) / 2


def test_a_writer_that_got_nothing_makes_no_file_and_closes_twice(tmp_path: Path) -> None:
    writer = writer_in(tmp_path / "absent")
    writer.frames("ws-1", URL, [], np.zeros(0, np.int64))
    writer.flush()
    writer.close()
    writer.close()
    assert not (tmp_path / "absent").exists()
    assert writer.path is None


def test_the_disk_is_asked_to_hold_what_was_flushed_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    now = NOW
    writer = JournalWriter(tmp_path, "binance", 1 << 20, lambda: now)
    for second in range(1, 4):
        for _ in range(10):
            now += 100_000_000
            writer.frames("ws-1", URL, *numbered(1))
            assert len(synced) == second - 1
            writer.flush()

        def asked(count: int = second) -> bool:
            # The one before may still be on its way.
            writer.flush()
            return len(synced) == count

        wait_until(asked)
    for _ in range(30):
        now += 100_000_000
        writer.flush()
    assert len(synced) == 3, "nothing came, so there was nothing to do"
    writer.close()
    assert len(synced) == 4


def test_a_disk_that_cannot_hold_what_it_took_is_an_error_of_a_later_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    writer = JournalWriter(tmp_path, "binance", 1 << 20, ticking())
    writer.frames("ws-1", URL, *numbered(1))
    with pytest.raises(OSError, match="Input/output error"):
        writer.close()
    assert [event.data for event in events_in(tmp_path)] == numbered(1)[0]
    assert not [link for link in Path("/proc/self/fd").iterdir() if link.resolve() == writer.path]


def test_what_does_not_fit_is_refused_before_anything_is_taken(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    with pytest.raises(ValueError, match=r"2 frames with times of shape \(1,\)"):
        writer.frames("ws-1", URL, [b"a", b"b"], [NOW])
    with pytest.raises(ValueError, match="the journal takes up to"):
        writer.frames("ws-1", URL, [b"a", bytes(257 << 20)], [NOW, NOW])
    with pytest.raises(ValueError, match="cannot name"):
        writer_in(tmp_path, exchange="../binance")
    writer.close()
    assert writer.frame_count == 0
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_unicode_are_written_all_the_same(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.event("rest", "rest", "https://host/\ud800", NOW, b"{}")
    writer.close()
    assert [event.url for event in events_in(tmp_path)] == ["https://host/?"]


@pytest.mark.parametrize(
    "content", [b"{}\n", b"x" * 3_000_000, MAGIC[1:] + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(9)]
)
def test_a_foreign_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.journal"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"^{re.escape(str(path))} is not a journal$"):
        list(read_journal(path))


def test_a_journal_of_another_version_is_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "newer.journal"
    header = bytearray(_header(1, 0, 0, 0, 0, 0, 0))
    header[8] = VERSION + 1
    path.write_bytes(bytes(header[:-4]) + zlib.crc32(header[:-4]).to_bytes(4, "little"))
    with pytest.raises(JournalError, match=f"^{re.escape(str(path))} is a journal of version 2; this reads version 1$"):
        list(read_journal(path))


def test_a_file_or_folder_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.journal", tmp_path):
        with pytest.raises(JournalError, match=f"^{re.escape(str(path))} cannot be read: "):
            list(read_journal(path))
    with pytest.raises(JournalError, match=f"^the journals in {re.escape(str(tmp_path / 'absent'))} cannot be read: "):
        journal_files(tmp_path / "absent")


def test_only_journals_of_a_folder_are_listed(tmp_path: Path) -> None:
    (tmp_path / "capture.jsonl").touch()
    (tmp_path / "folder.journal").mkdir()
    assert journal_files(tmp_path) == []
