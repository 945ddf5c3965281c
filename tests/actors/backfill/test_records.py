"""What is known of backfills after a kill."""

from pathlib import Path

import pytest

from actors.backfill import records
from actors.backfill.records import Records
from actors.backfill.schedule import Key
from actors.feeds.history import Wanted


def test_jobs_and_what_is_left_of_gaps_are_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "backfill" / "binance.json"
    first = Records(path)
    job = first.add("BTCUSDT", 10, 20)
    job.reached_ns, job.rows = 15, 7
    first.keep(Key("BTCUSDT", 3), Wanted("BTCUSDT", 1, 2, 30, 40))
    second = Records(path)
    assert second.jobs == [job]
    assert second.left(Key("BTCUSDT", 3)) == Wanted("BTCUSDT", 1, 2, 30, 40)
    assert second.left(Key("BTCUSDT", 4)) is None
    second.drop(Key("BTCUSDT", 3))
    assert Records(path).left(Key("BTCUSDT", 3)) is None


def test_gaps_that_closed_while_nobody_was_here_are_forgotten(tmp_path: Path) -> None:
    path, here, gone = tmp_path / "binance.json", Key("BTCUSDT", 3), Key("ETHUSDT", 4)
    first = Records(path)
    for key in (here, gone):
        first.keep(key, Wanted(key.symbol, 1, 2))
    Records(path).forget({here})
    assert (Records(path).left(here), Records(path).left(gone)) == (Wanted("BTCUSDT", 1, 2), None)


def test_a_job_goes_on_where_it_was_in_the_direction_of_its_pages(tmp_path: Path) -> None:
    job = Records(tmp_path / "a.json").add("BTCUSDT", 10, 20)
    assert job.left(forwards=True) == Wanted("BTCUSDT", 10, 20)
    job.reached_ns = 15
    assert job.left(forwards=True) == Wanted("BTCUSDT", 15, 20)
    assert job.left(forwards=False) == Wanted("BTCUSDT", 10, 15)


@pytest.mark.parametrize("content", [b"", b"{", b'{"jobs":3}', b"\xff\x00", b'{"jobs":[{"job":"x"}]}'])
def test_a_file_that_is_none_of_ours_is_named_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "binance.json"
    path.write_bytes(content)
    found = Records(path)
    assert found.jobs == []
    assert "binance.json" in found.failure
    found.add("BTCUSDT", 1, 2)
    assert Records(path).failure == ""


def test_jobs_are_bounded_and_ended_ones_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_JOBS", 3)
    kept = Records(tmp_path / "a.json")
    for number in range(5):
        kept.add("BTCUSDT", 0, number).state = "done"
    running = [kept.add("BTCUSDT", 0, 10) for _ in range(3)]
    assert [job.job for job in running] == [6, 7, 8]
    with pytest.raises(ValueError, match="3 backfills run already"):
        kept.add("BTCUSDT", 0, 10)
    assert len(kept.jobs) <= 6
