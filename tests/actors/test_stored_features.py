"""Features are the same whenever and however they are made: live, over a range, after a restart or a late trade."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from actors.aggregation.features import features
from actors.aggregation.quote_features import last_of_seconds
from actors.stored_bars import StoredBars
from actors.stored_features import StoredFeatures, TooMuch
from config import Settings, load
from storage.timeframes import TIMEFRAMES
from tests.actors.batches import NOON, SECOND, quotes, trades
from tests.actors.shards import Shard, Taken
from tests.polling import until

MINUTE = 60 * SECOND
BTC = ("binance", "BTCUSDT")
#: A trade every 20 s of some minutes, for fifteen hours: 900 minutes over two days.
COUNT = 1500


def made(seed: int = 1) -> tuple[list[Any], list[Any]]:
    random = np.random.default_rng(seed)
    times = NOON + np.sort(random.choice(900 * 60, COUNT, replace=False)) * SECOND
    prices = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, COUNT)))
    traded = [
        ("BTCUSDT", int(time), n, float(price), float(size), n % 3 % 2)
        for n, (time, price, size) in enumerate(zip(times, prices, random.exponential(1, COUNT), strict=True))
    ]
    quoted = [("BTCUSDT", row[1] + 7, n, row[3] - 0.01 * (n % 3), row[3] + 0.02) for n, row in enumerate(traded)]
    return traded, quoted


def some_settings(folder: Path, recent_bars: int = 500) -> Settings:
    shard = {"commit_interval_ms": 5, "share_interval_ms": 5, "recent_bars": recent_bars}
    return load(folder, {"shards": 1, "shard": shard})


async def filled(settings: Settings, cuts: int = 3, backwards: bool = False, sink: Any = None) -> Shard:
    traded, quoted = made()
    shard = Shard(settings, sink or Taken())
    parts = list(zip(np.array_split(np.arange(COUNT), cuts), strict=True))
    for (places,) in reversed(parts) if backwards else parts:
        batches = {"trades": trades([traded[n] for n in places]), "quotes": quotes([quoted[n] for n in places])}
        await shard.send("binance", batches, NOON + 3600 * SECOND, proof="none" if backwards else "ids")
    return await closed(shard)


async def closed(shard: Shard) -> Shard:
    """Whose bars are all over."""
    await shard.send("binance", {}, NOON + 48 * 3600 * SECOND)
    await shard._close_bars()
    return shard


async def all_features(shard: Shard) -> dict[str, pa.Table]:
    day = NOON // (24 * 3600 * SECOND) * 24 * 3600 * SECOND
    return {
        timeframe: pa.Table.from_batches(
            [
                await shard.features_between(
                    *BTC, timeframe, day, day + (100_000 if timeframe == "1s" else 172_800) * SECOND
                )
            ]
        )
        for timeframe in TIMEFRAMES
    }


async def test_cuts_order_memory_and_restarts_change_no_bit(tmp_path: Path) -> None:
    first = await filled(some_settings(tmp_path / "first"))
    expected = await all_features(first)
    assert [table.num_rows > 0 for table in expected.values()] == [True] * len(TIMEFRAMES)
    await first.stop()
    for recent_bars in (500, 2):
        again = await closed(Shard(some_settings(tmp_path / "first", recent_bars)))
        assert await all_features(again) == expected, f"after a restart, with {recent_bars} bars in memory"
        await again.stop()
    other = await filled(some_settings(tmp_path / "other", 250), cuts=40, backwards=True)
    assert await all_features(other) == expected, "cut and ordered otherwise"
    newest = await other.features(*BTC, "1m", 10_000)
    assert pa.Table.from_batches([newest]) == expected["1m"], "the newest of which there are fewer"
    assert (await other.features(*BTC, "1m", 7)) == newest.slice(newest.num_rows - 7)
    inside = await other.features_between(*BTC, "1m", NOON + 3600 * SECOND, NOON + 4000 * SECOND)
    assert inside.column("time").to_pylist()[-1] < NOON + 4000 * SECOND
    assert pa.Table.from_batches([inside]) == expected["1m"].filter(
        pc.is_in(expected["1m"]["time"], inside.column("time"))
    ), "a range that ends within a bar has the whole bar"
    await other.stop()


async def test_they_are_those_of_the_whole_series(tmp_path: Path) -> None:
    shard = await filled(some_settings(tmp_path, 250))
    _, quoted = made()
    stored = StoredBars(some_settings(tmp_path, 2000), shard._reader, [BTC])
    stored.close(lambda exchange: NOON + 48 * 3600 * SECOND)
    bars, _ = stored.closed(*BTC, "1m")
    columns = [np.array([row[n] for row in quoted]) for n in (3, 4)]
    unknown = np.full(COUNT, np.nan)
    times = np.array([row[1] for row in quoted])
    whole = features(bars, "1m", last_of_seconds(times, columns[0], unknown, columns[1], unknown))
    assert await shard.features(*BTC, "1m", 10_000) == whole
    assert whole.num_rows > 500
    assert whole.column("spread").null_count < whole.num_rows / 2
    await shard.stop()


async def test_a_late_trade_changes_the_features_of_its_bar_and_of_those_that_look_back_at_it(tmp_path: Path) -> None:
    sink = Taken()
    shard = await filled(some_settings(tmp_path), sink=sink)
    before = (await shard.features(*BTC, "1m", 10_000)).to_pylist()
    await until(lambda: any(row["timeframe"] == "1m" for row in sink.rows("features")))
    at = before[-100]["time"]
    late = trades([("BTCUSDT", at + 59 * SECOND + 999, COUNT + 5, 150.0, 1.0, 0)])
    await shard.send("binance", {"backfill": late}, NOON + 48 * 3600 * SECOND)
    after = (await shard.features(*BTC, "1m", 10_000)).to_pylist()
    assert after[:-100] == before[:-100]
    assert after[-100]["return_1"] != before[-100]["return_1"]
    assert after[-1]["sma_100"] != before[-1]["sma_100"]
    assert after[-1]["return_1"] == before[-1]["return_1"]
    await until(lambda: [row for row in sink.rows("features") if row["timeframe"] == "1m"][-1] == after[-1])
    await shard.stop()


async def test_only_closed_bars_have_features(tmp_path: Path) -> None:
    shard = Shard(some_settings(tmp_path))
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 100.0, 1.0, 0)])}, NOON + SECOND)
    assert (await shard.features(*BTC, "1m", 5)).num_rows == 0
    await shard.send("binance", {}, NOON + 61 * SECOND)
    await shard._close_bars()
    assert (await shard.features(*BTC, "1m", 5)).num_rows == 1
    assert (await shard.features("binance", "NOPE", "1m", 5)).num_rows == 0
    with pytest.raises(KeyError):
        await shard.features(*BTC, "2m", 5)
    await shard.stop()


async def test_what_would_read_too_much_says_so_and_does_not_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = await filled(some_settings(tmp_path, 2))
    with pytest.raises(TooMuch, match="shorter range"):
        await shard.features_between(*BTC, "1s", 0, 200_000 * SECOND)
    monkeypatch.setattr("actors.stored_features.MOST_TRADES", COUNT // 2)
    with pytest.raises(TooMuch, match="trades"):
        await shard.features(*BTC, "1m", 5000)
    await shard._make_features()
    await shard.stop()


async def test_quotes_of_bars_far_apart_and_close_together_are_each_read_once(tmp_path: Path) -> None:
    shard = await filled(some_settings(tmp_path))
    reader: Any = shard._reader
    stored = StoredFeatures(reader, shard._bars)
    far = np.array([NOON + 20 * MINUTE, NOON + 21 * MINUTE, NOON + 300 * MINUTE])
    every = np.array([row[1] for row in made()[1]])
    wanted = every[((every >= far[0] - MINUTE) & (every < far[1])) | ((every >= far[2] - MINUTE) & (every < far[2]))]
    assert stored._quotes(*BTC, far).ts_event.tolist() == wanted.tolist()
    midnight = (NOON // (86_400 * SECOND) + 1) * 86_400 * SECOND
    near = midnight + np.arange(-3, 4) * 30 * SECOND
    wanted = every[(every >= near[0] - MINUTE) & (every < near[-1])]
    assert stored._quotes(*BTC, near).ts_event.tolist() == wanted.tolist()
    await shard.stop()
