"""Live equals replay: what was really received makes the same bars, indicators and features to the last bit, however it
is cut, in whatever order it comes and how fast."""

from pathlib import Path

import numpy as np
import pytest

from actors.feeds.registry import FEEDS
from actors.simulator.dialects import DIALECTS
from benchmarks.recorded import read_recordings
from config import load
from tests.actors.replays import WAYS, Said, Way, play, said
from tests.actors.shards import Shard
from tests.actors.simulator.dialects.made_up import Client, Exchange

SHARD = {"commit_interval_ms": 1, "share_interval_ms": 5}


#: The recordings of the others have no live trades.
TRADED = ("binance", "coinbase", "kraken", "okx")


#: Symbols of the simulated exchanges whose feeds have all of them on one connection.
SIMULATED = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "bitfinex": ("tBTCUSD", "tBTCF0:USTF0"),
    "bybit": ("linear:BTCUSDT", "linear:ETHUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "deribit": ("BTC-PERPETUAL", "ETH-PERPETUAL"),
    "kraken": ("BTC/USD", "XRP/USD"),
    "okx": ("BTC-USDT", "BTC-USDT-SWAP"),
}
#: A few minutes of a simulated exchange.
TRADES_PER_SECOND, STEPS = 4, 1500


@pytest.mark.parametrize("exchange", TRADED)
async def test_recordings_make_the_same_in_every_way(exchange: str, recordings: Path, tmp_path: Path) -> None:
    recorded = read_recordings()[exchange]

    async def played(way: Way) -> Said:
        shard = Shard(load(tmp_path / str(way), {"shards": 1, "shard": SHARD}))
        await play(shard, exchange, recorded.feed(), recorded.frames, recorded.ts_recv, way)
        found = await said(shard, exchange, recorded.symbols, recorded.ts_recv)
        await shard.stop()
        return found

    first, *others = [await played(way) for way in WAYS]
    bars = [kinds for (_, _, timeframe), kinds in first.items() if timeframe == "1s"]
    assert sum(kinds[0].num_rows for kinds in bars) > 0, "there are trades"
    assert {kinds[0].num_rows == kinds[1].num_rows == kinds[2].num_rows for kinds in bars} == {True}
    assert any(kinds[2].column("quoted_seconds_60s").to_numpy().any() for kinds in bars), "there are quotes"
    for way, found in zip(WAYS[1:], others, strict=True):
        assert found == first, f"played as {way}"


@pytest.mark.parametrize("exchange", SIMULATED)
async def test_simulated_exchanges_make_the_same_in_every_way(exchange: str, tmp_path: Path) -> None:
    symbols = SIMULATED[exchange]
    market = Exchange(DIALECTS[exchange], symbols, rate=TRADES_PER_SECOND)
    client, times = Client(market, symbols), list[int]()
    for _ in range(STEPS):
        times += [market.now_ns] * (len(client.frames) - len(times))
        market.run(1)
    frames, ts_recv = client.frames[: len(times)], np.array(times, np.int64)

    async def played(way: Way) -> Said:
        feed = FEEDS[exchange](symbols, f"ws://sim{market.dialect.path}")
        for _ in (*feed.greet(), *feed.subscribe(symbols)):
            pass
        shard = Shard(load(tmp_path / str(way), {"shards": 1, "shard": SHARD}))
        await play(shard, exchange, feed, frames, ts_recv, way)
        found = await said(shard, exchange, symbols, ts_recv)
        await shard.stop()
        return found

    first, *others = [await played(way) for way in WAYS]
    minutes = first[exchange, symbols[0], "1m"][2]
    assert minutes.num_rows > 2
    assert minutes.column("quoted_seconds_60s").to_pylist()[-2] > 5
    assert first[exchange, symbols[0], "1s"][2].column("bb_squeeze").null_count < 60
    for way, found in zip(WAYS[1:], others, strict=True):
        assert found == first, f"played as {way}"
