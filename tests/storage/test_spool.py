"""What waits on the disk: in order, once, bounded, and there again after a kill at any moment."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.parcels import packed
from storage.spool import Described, Record, Spool

ROWS = st.integers(1, 40)
STEPS = st.lists(
    st.one_of(st.tuples(st.just("append"), ROWS), st.tuples(st.just("done"), st.integers(0, 30)), st.just(("open", 0)))
)


def table(number: int, rows: int = 3) -> pa.Table:
    return pa.table({"number": [number] * rows, "symbol": pa.array(["BTCUSDT"] * rows).dictionary_encode()})


def put(spool: Spool, number: int, rows: int = 3) -> Record:
    return spool.append(Described("trades", "okx", number, rows), packed({0: table(number, rows)})[0])


def numbers(spool: Spool) -> list[int]:
    """Of all records that were found, each read back."""
    for record in spool.found:
        assert spool.read(record).equals(table(record.described.version, record.described.rows))
    return [record.described.version for record in spool.found]


@given(STEPS, st.sampled_from([1, 2000, 10_000, 1_000_000]))
def test_whatever_is_not_done_is_found_again_in_its_order(steps: list[Any], segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool, waiting, done = Spool(Path(folder), 10**9, segment_bytes), list[Record](), set[int]()
        for number, (step, argument) in enumerate(steps):
            if step == "append":
                waiting.append(put(spool, number, argument))
                assert spool.read(waiting[-1]).equals(table(number, argument))
            elif step == "done" and waiting:
                record = waiting.pop(argument % len(waiting))
                spool.done(record)
                done.add(record.described.version)
            elif step == "open":
                spool = Spool(Path(folder), 10**9, segment_bytes)
                found = numbers(spool)
                assert [n for n in found if n not in done] == [record.described.version for record in waiting]
                # What is done and came a second time shares its segment with what is not, or with the newest.
                waiting = list(spool.found)
                done.clear()
        for record in waiting:
            spool.done(record)
        spool.close()
        assert list(Path(folder).iterdir()) == []
        assert spool.size == 0


def test_a_segment_that_was_cut_anywhere_keeps_the_records_before(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**9)
    ends = [record.offset + record.size for record in (put(spool, number) for number in range(3))]
    [file] = (tmp_path / "spool").iterdir()
    content = file.read_bytes()
    for cut in {*range(0, len(content), 7), *ends}:
        folder = tmp_path / f"cut {cut}"
        folder.mkdir()
        (folder / file.name).write_bytes(content[:cut])
        opened = Spool(folder, 10**9)
        whole = sum(end <= cut for end in ends)
        assert numbers(opened) == list(range(whole))
        assert opened.damaged == (cut not in (0, *ends))
        put(opened, 7)
        assert numbers(Spool(folder, 10**9)) == [*range(whole), 7]


def test_a_changed_byte_ends_its_segment_and_no_other(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 10**9, segment_bytes=1)
    records = [put(spool, number) for number in range(3)]
    files = sorted((tmp_path / "spool").iterdir())
    content = bytearray(files[1].read_bytes())
    for place in range(0, len(content), 29):
        changed = bytearray(content)
        changed[place] ^= 1
        files[1].write_bytes(changed)
        assert numbers(Spool(tmp_path / "spool", 10**9)) == [0, 2], place
        files[1].write_bytes(content)
    assert len(records) == len(files) == 3


def test_when_it_is_full_the_oldest_segment_goes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=10_000, segment_bytes=1)
    records = [put(spool, number) for number in range(100)]
    assert 5_000 < spool.size <= 10_000
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == spool.size
    kept = [record for record in records if (tmp_path / f"{record.segment:016d}.spool").exists()]
    assert kept == records[-len(kept) :]
    with pytest.raises(OSError, match="No such file"):
        spool.read(records[0])
    spool.done(records[0])
    assert numbers(Spool(tmp_path, 10_000)) == [record.described.version for record in kept]


@pytest.mark.parametrize("part", [0, 1, 20, 300])
def test_a_full_disk_leaves_it_as_it_was(tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, real = Spool(tmp_path, 10**9), os.pwrite
    put(spool, 1)

    def full(descriptor: int, content: Any, offset: int) -> int:
        if part and offset == spool.size:
            return real(descriptor, memoryview(content)[:part], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            put(spool, 2)
    put(spool, 3)
    again = Spool(tmp_path, 10**9)
    assert (numbers(again), again.damaged) == ([1, 3], 0)


def test_what_is_no_segment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.spool").write_text("mine")
    spool = Spool(tmp_path, 10**9)
    put(spool, 1)
    assert numbers(Spool(tmp_path, 10**9)) == [1]
    assert (tmp_path / "notes.spool").read_text() == "mine"


def test_a_segment_that_cannot_be_removed_is_done_with_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 1_000_000, segment_bytes=1)
    records = [put(spool, number) for number in range(3)]

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", refuse)
        for record in records[:2]:
            spool.done(record)
    assert spool.size == records[2].offset + records[2].size
    spool.close()
    # What stayed comes a second time, which the keys of the tables make harmless.
    assert numbers(Spool(tmp_path, 1_000_000)) == [0, 1, 2]
