"""What is known of backfills after a kill."""

from pathlib import Path

import pytest

from actors.backfill import records
from actors.backfill.records import NotesInFile, Records
from actors.backfill.schedule import Key
from actors.feeds.history import Wanted


async def at(path: Path) -> Records:
    """What a process finds that starts now."""
    found = Records(NotesInFile(path))
    await found.read()
    return found


async def test_jobs_and_what_is_left_of_gaps_are_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "backfill" / "binance.json"
    first = await at(path)
    job = first.add("BTCUSDT", 10, 20)
    job.reached_ns, job.rows = 15, 7
    first.keep(Key("BTCUSDT", 3), Wanted("BTCUSDT", 1, 2, 30, 40))
    second = await at(path)
    assert second.jobs == [job]
    assert second.left(Key("BTCUSDT", 3)) == Wanted("BTCUSDT", 1, 2, 30, 40)
    assert second.left(Key("BTCUSDT", 4)) is None
    second.drop(Key("BTCUSDT", 3))
    assert (await at(path)).left(Key("BTCUSDT", 3)) is None


async def test_gaps_that_closed_while_nobody_was_here_are_forgotten(tmp_path: Path) -> None:
    path, here, gone = tmp_path / "binance.json", Key("BTCUSDT", 3), Key("ETHUSDT", 4)
    first = await at(path)
    for key in (here, gone):
        first.keep(key, Wanted(key.symbol, 1, 2))
    (await at(path)).forget({here})
    assert ((await at(path)).left(here), (await at(path)).left(gone)) == (Wanted("BTCUSDT", 1, 2), None)


async def test_a_job_goes_on_where_it_was_in_the_direction_of_its_pages(tmp_path: Path) -> None:
    job = (await at(tmp_path / "a.json")).add("BTCUSDT", 10, 20)
    assert job.left(forwards=True) == Wanted("BTCUSDT", 10, 20)
    job.reached_ns = 15
    assert job.left(forwards=True) == Wanted("BTCUSDT", 15, 20)
    assert job.left(forwards=False) == Wanted("BTCUSDT", 10, 15)


@pytest.mark.parametrize("content", [b"", b"{", b'{"jobs":3}', b"\xff\x00", b'{"jobs":[{"job":"x"}]}'])
async def test_a_file_that_is_none_of_ours_is_said_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "binance.json"
    path.write_bytes(content)
    found = await at(path)
    assert found.jobs == []
    assert "cannot be read" in found.failure
    found.add("BTCUSDT", 1, 2)
    assert (await at(path)).failure == ""


async def test_jobs_are_bounded_and_ended_ones_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_JOBS", 3)
    kept = await at(tmp_path / "a.json")
    for number in range(5):
        kept.add("BTCUSDT", 0, number).state = "done"
    running = [kept.add("BTCUSDT", 0, 10) for _ in range(3)]
    assert [job.job for job in running] == [6, 7, 8]
    with pytest.raises(ValueError, match="3 backfills run already"):
        kept.add("BTCUSDT", 0, 10)
    assert len(kept.jobs) <= 6
