"""A shard writes every row once, acknowledges after writing, and comes back from its files."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from config import Settings, load
from storage.column_reader import ColumnReader
from tests.actors.batches import NOON, SECOND, quotes, trades
from tests.actors.shards import Shard, Taken, stored_ids
from tests.polling import until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5}})


async def test_a_batch_is_acknowledged_only_when_it_is_in_the_files(settings: Settings) -> None:
    shard = Shard(settings, Taken())
    batch = trades([("BTCUSDT", NOON, 1, 60000.5, 0.1, 0), ("ETHUSDT", NOON, 7, 3000.5, 0.2, 1)])
    await shard.send("binance", {"trades": batch, "quotes": quotes([("BTCUSDT", NOON, 5, 60000.0, 60001.0)])}, NOON)
    assert stored_ids(settings, "binance", "BTCUSDT") == [1]
    assert stored_ids(settings, "binance", "ETHUSDT") == [7]
    quoted = ColumnReader(settings.columns).select("binance", "BTCUSDT", "MD", 0, 2**62, ["sequence", "best_ask64"])
    assert quoted.column("best_ask64").tolist() == [60001.0]
    await shard.stop()


async def test_what_is_sent_again_counts_once_everywhere(settings: Settings) -> None:
    sink = Taken()
    shard = Shard(settings, sink)
    batch = trades([("BTCUSDT", NOON + i * SECOND, i, 100.0 + i, 1.0, 0) for i in range(5)])
    for _ in range(3):
        await shard.send("binance", {"trades": batch}, NOON)
    await shard.stop()
    assert stored_ids(settings, "binance", "BTCUSDT") == [0, 1, 2, 3, 4]
    assert len(sink.rows("trades")) == 5
    assert sink.rows("bars")[-1]["trade_count"] == 5


async def test_symbols_of_two_exchanges_do_not_mix(settings: Settings) -> None:
    shard = Shard(settings, Taken())
    for exchange in ("binance", "coinbase"):
        await shard.send(exchange, {"trades": trades([("BTC-USD", NOON, 1, 1.0, 1.0, 0)])}, NOON)
    assert (await shard.bars("binance", "BTC-USD", 5)).column("trade_count").to_pylist() == [1]
    assert stored_ids(settings, "coinbase", "BTC-USD") == [1]
    await shard.stop()


async def test_a_restarted_shard_has_its_bars_again_and_knows_what_it_stored(settings: Settings) -> None:
    first = Shard(settings, Taken())
    batch = trades([("BTCUSDT", NOON + i * 20 * SECOND, i, 100.0 + i, 1.0, i % 2) for i in range(10)])
    await first.send("binance", {"trades": batch}, NOON)
    before = (await first.bars("binance", "BTCUSDT", 100)).drop_columns(["closed", "revision"])
    await first.stop()
    second = Shard(settings, Taken())
    assert (await second.bars("binance", "BTCUSDT", 100)).drop_columns(["closed", "revision"]).equals(before)
    await second.send("binance", {"trades": batch}, NOON)
    assert stored_ids(settings, "binance", "BTCUSDT") == list(range(10))
    assert (await second.bars("binance", "BTCUSDT", 100)).drop_columns(["closed", "revision"]).equals(before)
    await second.stop()


async def test_a_trade_older_than_the_bars_in_memory_still_revises_its_bar(tmp_path: Path) -> None:
    shard_settings = {"commit_interval_ms": 5, "share_interval_ms": 5, "recent_bars": 2}
    settings = load(tmp_path, {"shards": 1, "shard": shard_settings})
    sink = Taken()
    shard = Shard(settings, sink)
    minutes = [("BTCUSDT", NOON + i * 60 * SECOND, 10 + i, 100.0, 1.0, 0) for i in range(5)]
    await shard.send("binance", {"trades": trades(minutes)}, NOON + 3600 * SECOND)

    async def forgotten() -> bool:
        return (await shard.bars("binance", "BTCUSDT", 10)).num_rows == 2

    await until(forgotten)
    late = trades([("BTCUSDT", NOON + 30 * SECOND, 9, 500.0, 2.0, 1)])
    await shard.send("binance", {"trades": late}, NOON + 3600 * SECOND)
    await shard.stop()
    revised = [bar for bar in sink.rows("bars") if bar["time"] == NOON][-1]
    assert (revised["high"], revised["trade_count"], revised["revision"]) == (500.0, 2, 1)


async def test_the_clock_of_a_replay_closes_bars_and_the_wall_clock_does_not(settings: Settings) -> None:
    shard = Shard(settings, Taken())
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 100.0, 1.0, 0)])}, NOON + SECOND)
    assert (await shard.bars("binance", "BTCUSDT", 1)).column("closed").to_pylist() == [False]
    later = quotes([("BTCUSDT", NOON + 61 * SECOND, 1, 1.0, 2.0)])
    await shard.send("binance", {"quotes": later}, NOON + 61 * SECOND)

    async def closed() -> bool:
        return (await shard.bars("binance", "BTCUSDT", 1)).column("closed").to_pylist() == [True]

    await until(closed)
    await shard.stop()


async def test_a_full_disk_delays_the_acknowledgement_and_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    shard = Shard(settings, Taken())
    real_pwrite = os.pwrite

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    sending = asyncio.create_task(shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])}, NOON))

    async def says_so() -> bool:
        return "No space left" in (await shard.status())["failure"]

    await until(says_so)
    assert not sending.done()
    monkeypatch.setattr(os, "pwrite", real_pwrite)
    await sending
    assert (await shard.status())["failure"] == ""
    assert stored_ids(settings, "binance", "BTCUSDT") == [1]
    await shard.stop()


async def test_a_dead_sink_costs_the_shard_nothing_and_is_counted(settings: Settings) -> None:
    async def dead(*_: Any) -> None:
        raise ConnectionError("gone")

    shard = Shard(settings, dead)
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])}, NOON)

    async def counted() -> bool:
        return (await shard.status())["unsunk"] >= 1

    await until(counted)
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 2, 1.0, 1.0, 0)])}, NOON)
    assert stored_ids(settings, "binance", "BTCUSDT") == [1, 2]
    await shard.stop()
