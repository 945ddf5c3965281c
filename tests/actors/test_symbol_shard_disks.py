"""A shard on a real disk that is full or became read-only: nothing is torn nor lost, and it says why it waits."""

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from config import Settings, load
from storage.column_layout import NANOS_PER_DAY
from storage.column_verify import verify
from storage.column_writer import ColumnWriter
from storage.day_files import Day
from storage.day_seal import measured, write_seal
from tests.actors.batches import NOON, SECOND, trades
from tests.actors.shards import Shard, stored_ids
from tests.polling import until
from tests.storage.test_column_files import MIDNIGHT, columns_of, everything

SMALL, LARGE = "size=2m", "size=64m"
#: Trades of a batch, and more batches than the small disk has room for.
ROWS, BATCHES = 2_000, 40


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


def unmount(place: Path) -> None:
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder that is a small file system of its own, without any reserve."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", SMALL, "tmpfs", str(place))
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("file systems cannot be mounted here")
    yield place
    unmount(place)


@pytest.fixture
def settings(data: Path) -> Settings:
    return load(
        data, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5, "sync_interval_s": 0.05}}
    )


async def sent(shard: Shard, number: int) -> None:
    rows = [
        ("BTCUSDT", NOON + i * SECOND // 1000, i, 1.0 + i, 1.0, 0) for i in range(number * ROWS, (number + 1) * ROWS)
    ]
    await shard.send("binance", {"trades": trades(rows)}, NOON)


async def send_all(shard: Shard, acknowledged: list[int]) -> None:
    for number in range(BATCHES):
        await sent(shard, number)
        acknowledged.append(number)


async def says(shard: Shard, why: str) -> bool:
    """Whether it says that this is wrong."""
    return why in (await shard.status())["failure"]


async def test_a_full_disk_holds_up_its_trades_until_there_is_room(
    data: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    shard, acknowledged = Shard(settings), list[int]()
    sending = asyncio.create_task(send_all(shard, acknowledged))

    await until(partial(says, shard, "No space left on device"))
    assert not sending.done()
    assert set(range(len(acknowledged) * ROWS)) <= set(stored_ids(settings, "binance", "BTCUSDT"))
    assert all(not one.wrong for one in verify(settings.columns))
    mount("-o", f"remount,{LARGE}", str(data))
    await sending
    assert stored_ids(settings, "binance", "BTCUSDT") == list(range(BATCHES * ROWS))
    assert (await shard.status())["failure"] == ""
    await shard.stop()
    assert all(not one.wrong for one in verify(settings.columns))


async def test_who_is_killed_while_the_disk_is_full_goes_on_once_there_is_room(
    data: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    shard, acknowledged = Shard(settings), list[int]()
    sending = asyncio.create_task(send_all(shard, acknowledged))

    await until(partial(says, shard, "No space left on device"))
    shard.kill()
    sending.cancel()
    mount("-o", f"remount,{LARGE}", str(data))
    again = Shard(settings)
    stored = stored_ids(settings, "binance", "BTCUSDT")
    assert stored == list(range(len(stored)))
    assert len(stored) >= len(acknowledged) * ROWS
    for number in range(BATCHES):
        await sent(again, number)
    assert stored_ids(settings, "binance", "BTCUSDT") == list(range(BATCHES * ROWS))
    await again.stop()


async def test_a_disk_that_became_read_only_holds_up_its_trades_until_it_is_mended(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    # So few that files are opened again for each batch.
    few = {"commit_interval_ms": 5, "share_interval_ms": 5, "max_open_files": 32}
    settings = load(data, {"shards": 1, "shard": few})
    shard, symbols = Shard(settings), ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]

    async def send(number: int) -> None:
        rows = [(symbol, NOON + number * SECOND, number, 1.0, 1.0, 0) for symbol in symbols]
        await shard.send("binance", {"trades": trades(rows)}, NOON)

    await send(1)
    mount("--bind", str(settings.columns), str(settings.columns))
    try:
        mount("-o", "remount,bind,ro", str(settings.columns))
        sending = asyncio.create_task(send(2))

        await until(partial(says, shard, "Read-only file system"))
        assert not sending.done()
        assert set(stored_ids(settings, "binance", "ETHUSDT")) <= {1, 2}
    finally:
        unmount(settings.columns)
    await sending
    assert [stored_ids(settings, "binance", symbol) for symbol in symbols] == [[1, 2]] * 4
    assert (await shard.status())["failure"] == ""
    await shard.stop()
    assert all(not one.wrong for one in verify(settings.columns))


def test_a_sealed_day_is_whole_after_a_late_row_met_a_full_disk(data: Path) -> None:
    root = data / "columns"
    writer = ColumnWriter(root, 64)
    writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", [(MIDNIGHT + i * 100, i, i) for i in range(1000)]))
    writer.close()
    day = Day(root / "sim" / "BTC-USD" / "TRADES", "TRADES", MIDNIGHT // NANOS_PER_DAY)
    write_seal(day, measured(day))
    writer.forget(day)
    filler = data / "filler"
    with filler.open("wb", buffering=0) as filling, pytest.raises(OSError, match="No space left"):
        while True:
            filling.write(bytes(4096))
    late = columns_of("TRADES", [(MIDNIGHT + 2000 * 100, 2000, 2000)])
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            writer.append("sim", "BTC-USD", "TRADES", late)
    filler.unlink()
    writer.append("sim", "BTC-USD", "TRADES", late)
    writer.close()
    assert [one.wrong for one in verify(root)] == [()]
    assert len(everything(root)) == 1001
