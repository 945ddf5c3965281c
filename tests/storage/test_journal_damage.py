"""Whatever happens to the bytes of a journal: never a wrong event, and what is missing is reported."""

import os
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.journal import Damage, JournalError, JournalEvent, JournalWriter, read_journal
from storage.journal_blocks import HEADER_BYTES, MAGIC, _header, encode_block, parse_header
from tests.storage.test_journal import NOW, URL, numbered, ticking


def written(root: Path, blocks: int = 6, events: int = 4) -> tuple[Path, list[JournalEvent], list[int]]:
    """A closed segment, its events, and where each of its blocks begins."""
    writer = JournalWriter(root, "okx", 1 << 30, ticking())
    for start in range(0, blocks * events, events):
        writer.event("send", "ws-1", URL, NOW, b"subscribe %d" % start)
        writer.frames("ws-1", URL, *numbered(events - 1, start))
        writer.flush()
    writer.close()
    assert writer.path is not None
    content = writer.path.read_bytes()
    begins = [place for place in range(len(content)) if content.startswith(MAGIC, place)]
    assert len(begins) == blocks + 1
    return writer.path, list(read_journal(writer.path)), begins


def read(path: Path) -> tuple[list[JournalEvent], list[Damage]]:
    """Events and reports; a file that is no journal any more gives a report of all its bytes."""
    reports: list[Damage] = []
    try:
        return list(read_journal(path, reports.append)), reports
    except JournalError as error:
        assert str(path) in str(error)
        return [], [Damage(path, 0, path.stat().st_size, None, str(error))]


def check(path: Path, content: bytes, events: Sequence[JournalEvent]) -> list[JournalEvent]:
    """No wrong event, none twice, all in order; whatever is missing has been reported with its place and number."""
    path.write_bytes(content)
    seen, reports = read(path)
    rest = iter(events)
    assert all(event in rest for event in seen), "an event that was not written, or not there"
    missing = len(events) - len(seen)
    if missing:
        assert reports
        known = sum(report.events or 0 for report in reports)
        assert known <= missing
        assert known == missing or reports[-1].events is None
    for report in reports:
        assert 0 <= report.start <= report.stop <= len(content)
        assert "\n" not in str(report)
    return seen


def test_a_cut_at_any_byte_leaves_the_blocks_before_it(tmp_path: Path) -> None:
    path, events, begins = written(tmp_path)
    content = path.read_bytes()
    for cut in range(len(content)):
        whole = sum(begin <= cut for begin in begins[1:])
        assert check(path, content[:cut], events) == events[: whole * 4], cut
        assert read(path)[1], "the end is gone and nobody said so"


def test_any_changed_byte_costs_at_most_its_own_block(tmp_path: Path) -> None:
    path, events, begins = written(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        for flip in (1 << place % 8, 0xFF):
            damaged = content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
            block = sum(begin <= place for begin in begins) - 1
            seen = check(path, damaged, events)
            assert seen == events[: block * 4] + events[block * 4 + 4 :]
            (report,) = read(path)[1]
            if block < 6:
                assert (report.start, report.events) == (begins[block], 4)
                assert report.stop == begins[block + 1]


@settings(max_examples=300)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_no_damage_gives_a_wrong_event(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int
) -> None:
    path, events, begins = written(tmp_path_factory.mktemp("journal"))
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for what in data.draw(
        st.lists(st.sampled_from(["flip", "insert", "delete", "double", "swap", "zero"]), max_size=4)
    ):
        start, stop = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        blocks = [*begins, len(content)]
        first, second, third = sorted(chance.sample(blocks, 3))
        match what:
            case "flip" if content:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            case "insert":
                content[start:start] = chance.randbytes(chance.randrange(100))
            case "delete":
                del content[start:stop]
            case "double":
                content[first:first] = content[first:second]
            case "swap":
                content[first:third] = content[second:third] + content[first:second]
            case "zero":
                content[start:stop] = bytes(stop - start)
        if len(content) < 10:
            break
    check(path, bytes(content), events)


def test_several_damaged_blocks_are_reported_each_with_what_it_cost(tmp_path: Path) -> None:
    path, events, begins = written(tmp_path, blocks=8)
    content = bytearray(path.read_bytes())
    content[begins[1] + 3] ^= 1
    content[begins[2] + HEADER_BYTES + 5] ^= 1
    content[begins[5] + 20] ^= 1
    path.write_bytes(content)
    seen, reports = read(path)
    assert seen == events[:4] + events[12:20] + events[24:]
    assert [(one.start, one.stop, one.events) for one in reports] == [
        (begins[1], begins[3], 8),
        (begins[5], begins[6], 4),
    ]
    assert str(reports[1]) == (
        f"{path} at byte {begins[5]}, {begins[6] - begins[5]} bytes: no block can be read here; 4 events are missing"
    )


@pytest.mark.parametrize("length", range(0, 2 * HEADER_BYTES, 5))
def test_the_next_block_is_found_wherever_a_piece_that_is_searched_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr("storage.journal._SCAN_BYTES", 2 * HEADER_BYTES)
    path, events, _ = written(tmp_path)
    path.write_bytes(MAGIC + os.urandom(length) + path.read_bytes())
    seen, (report,) = read(path)
    assert seen == events
    assert (report.start, report.stop, report.events) == (0, len(MAGIC) + length, 0)


def test_damage_is_logged_where_nobody_asked_for_reports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, events, begins = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[begins[2] + HEADER_BYTES + 5] ^= 1
    path.write_bytes(content)
    assert list(read_journal(path)) == events[:8] + events[12:]
    assert "the checksum does not match; 4 events are missing" in caplog.text


def test_a_journal_inside_a_frame_is_never_taken_for_the_journal(tmp_path: Path) -> None:
    path, _, _ = written(tmp_path / "inner")
    # Noise around it, so that compression leaves it as it is.
    hostile = os.urandom(70_000) + path.read_bytes() + os.urandom(70_000)
    writer = JournalWriter(tmp_path, "okx", 1 << 30, ticking())
    for _ in range(3):
        writer.frames("ws-1", URL, [hostile], [NOW])
        writer.flush()
    writer.close()
    assert writer.path is not None
    content = bytearray(writer.path.read_bytes())
    begins = [place for place in range(len(content)) if content.startswith(MAGIC, place)]
    assert len(begins) == 4
    assert [event.data for event in read_journal(writer.path)] == [hostile] * 3
    for lost in (0, 1, 2):
        damaged = bytearray(content)
        damaged[begins[lost] + 30] ^= 1
        writer.path.write_bytes(damaged)
        seen, reports = read(writer.path)
        assert [event.data for event in seen] == [hostile] * 2
        assert [report.events for report in reports] == [1]


def test_the_magic_never_begins_in_a_block_and_ends_in_the_next_header() -> None:
    assert not any(MAGIC.endswith(MAGIC[:length]) for length in range(1, len(MAGIC)))


@given(raw=st.binary(max_size=200), events=st.integers(0, 2**32 - 1), declared=st.integers(0, 2**32 - 1))
def test_a_block_somebody_made_up_gives_no_events(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, events: int, declared: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "made-up.journal"
    stored: bytes = pa.Codec("zstd").compress(raw, asbytes=True)
    for said in (declared, len(raw)):
        header = _header(0, len(stored), said, events, 0, 0, zlib.crc32(stored))
        assert parse_header(header) is not None
        path.write_bytes(header + stored)
        seen, reports = read(path)
        assert seen == []
        assert reports


def test_a_block_that_promises_more_than_any_writer_makes_is_not_decompressed(tmp_path: Path) -> None:
    bomb: bytes = pa.Codec("zstd").compress(bytes(400 << 20), asbytes=True)
    path = tmp_path / "bomb.journal"
    path.write_bytes(_header(0, len(bomb), 400 << 20, 0, 0, 0, zlib.crc32(bomb)) + bomb)
    assert [report.reason for report in read(path)[1]] == ["a block of 419430400 bytes is larger than any writer makes"]


def test_columns_that_do_not_belong_together_give_no_events(tmp_path: Path) -> None:
    frames, times = numbered(3)
    lengths = np.array([len(frame) for frame in frames], np.uint32)
    good = ("okx", [("ws-1", URL)], [(0, 2, 3)], times, lengths, frames)
    wrong = [
        ("okx", [("ws-1", URL)], [(1, 2, 3)], times, lengths, frames),
        ("okx", [("ws-1", URL)], [(0, 5, 3)], times, lengths, frames),
        ("okx", [("ws-1", URL)], [(0, 2, 4)], times, lengths, frames),
        ("okx", [("ws-1", URL)], [(0, 2, 2**32 - 1), (0, 2, 4)], times, lengths, frames),
        ("okx", [("ws-1", URL)], [], times, lengths, frames),
        ("okx", [], [(0, 2, 3)], times, lengths, frames),
        ("okx", [("ws-1", URL)], [(0, 2, 3)], times, lengths, frames[:2]),
        ("okx", [("ws-1", URL)], [(0, 2, 3)], times, lengths[:2], frames),
    ]
    path = tmp_path / "wrong.journal"
    path.write_bytes(encode_block(0, *good))
    assert [event.data for event in read(path)[0]] == frames
    for columns in wrong:
        path.write_bytes(encode_block(0, *columns))  # type: ignore[arg-type]
        seen, reports = read(path)
        assert seen == []
        assert "does not hold what its header says" in reports[0].reason
