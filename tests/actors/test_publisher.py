"""The publisher against the real embedded Redis, also while it is away."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from redis.asyncio import Redis

from actors.parcels import packed
from actors.publisher import Publisher
from config.settings import Settings, load
from storage import redis
from storage.schema import BARS, INDICATORS, QUOTES, TRADES
from tests.polling import until
from tests.servers import PASSWORD, RedisServer, free_port

START = 1_700_000_040_000_000_000
MINUTE = 60_000_000_000


def settings(data: Path, waiting_bytes: int = 1 << 20) -> Settings:
    return load(data, {"redis": {"waiting_bytes": waiting_bytes}})


def trades(prices: list[float], symbol: str = "BTCUSDT", start: int = START) -> pa.Table:
    count = len(prices)
    columns = {
        "symbol": pa.array([symbol] * count).dictionary_encode(),
        "ts_event": start + np.arange(count),
        "ts_recv": start + np.arange(count),
        "trade_id": start + np.arange(count),
        "price": prices,
        "size": np.full(count, 0.1),
        "side": np.zeros(count, np.uint8),
        "maker_order_id": pa.nulls(count, pa.binary(16)),
        "taker_order_id": pa.nulls(count, pa.binary(16)),
    }
    return pa.table(columns).cast(TRADES)


def quotes(bid: float) -> pa.Table:
    columns = {name: pa.array([bid]) for name in QUOTES.names} | {
        "symbol": pa.array(["BTC-USD"]).dictionary_encode(),
        **{name: pa.array([START]) for name in ("ts_event", "ts_recv", "sequence")},
        "last_side": pa.array([0]),
    }
    return pa.table(columns).cast(QUOTES)


def bars(minutes: list[int], close: float = 1.5) -> pa.Table:
    count = len(minutes)
    columns = {name: np.full(count, close) for name in BARS.names} | {
        "symbol": pa.array(["BTCUSDT"] * count).dictionary_encode(),
        "timeframe": ["1m"] * count,
        "time": START + MINUTE * np.array(minutes, np.int64),
        "trade_count": np.ones(count, np.int64),
        "revision": np.zeros(count, np.int32),
        "closed": [True] * count,
    }
    return pa.table(columns).cast(BARS)


async def written(publisher: Publisher) -> None:
    async def nothing_waits() -> bool:
        return (await publisher.status())["pending"] == 0

    await until(nothing_waits)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    opened = Redis.from_url(server.url)
    await opened.flushall()
    yield opened
    await opened.aclose()


@pytest.fixture
async def publisher(server: RedisServer, client: Redis, tmp_path: Path) -> AsyncIterator[Publisher]:
    opened = Publisher(settings(tmp_path), server.url)
    yield opened
    await opened.stop()


async def test_trades_quotes_and_bars_of_a_parcel_appear(publisher: Publisher, client: Redis) -> None:
    tables = {
        ("trades", "binance"): trades([1.0, 2.0]),
        ("quotes", "coinbase"): quotes(9.5),
        ("bars", "binance"): bars([0, 1]),
        # Nothing of it is for Redis.
        ("gaps", "binance"): trades([3.0]),
    }
    await publisher.take(packed(tables))
    await written(publisher)
    assert json.loads(await client.get("binance:BTCUSDT:last_trade"))["price"] == 2.0
    assert json.loads(await client.get("coinbase:BTC-USD:ticker"))["bid_price"] == 9.5
    assert await client.zcard("bars:binance:BTCUSDT:1m") == 2
    (_, fields), *_ = await client.xrevrange(redis.STREAM, count=1)
    assert json.loads(fields[b"data"])["price"] == 2.0
    health = await publisher.status()
    assert (health["available"], health["written"], health["rejected"]) == (True, 4, 0)


async def test_indicators_are_there_of_the_timeframes_of_the_settings(publisher: Publisher, client: Redis) -> None:
    rows = [
        {"symbol": "BTCUSDT", "timeframe": timeframe, "time": 60 * 10**9, "rsi_14": 50.0} for timeframe in ("1s", "1m")
    ]
    await publisher.publish_of_bars("indicators", "binance", pa.Table.from_pylist(rows, schema=INDICATORS))
    await written(publisher)
    assert json.loads(await client.get("indicators:binance:BTCUSDT:1m"))["rsi_14"] == 50.0
    assert await client.keys("indicators:*") == [b"indicators:binance:BTCUSDT:1m"]


async def test_a_late_trade_never_replaces_a_newer_one(publisher: Publisher, client: Redis) -> None:
    await publisher.publish_trades("binance", trades([2.0]))
    await written(publisher)
    await publisher.publish_trades("binance", trades([1.0], start=START - MINUTE))
    await publisher.publish_trades("binance", trades([8.0], symbol="ETHUSDT", start=START - MINUTE))
    await written(publisher)
    assert json.loads(await client.get("binance:BTCUSDT:last_trade"))["price"] == 2.0
    assert json.loads(await client.get("binance:ETHUSDT:last_trade"))["price"] == 8.0
    assert await client.xlen(redis.STREAM) == 2


async def test_a_key_of_another_type_is_counted_and_holds_nothing_up(publisher: Publisher, client: Redis) -> None:
    await client.set("bars:binance:BTCUSDT:1m", "in the way")
    await publisher.publish_bars("binance", bars([0]))
    await publisher.publish_trades("binance", trades([3.0]))
    await written(publisher)
    assert json.loads(await client.get("binance:BTCUSDT:last_trade"))["price"] == 3.0
    health = await publisher.status()
    assert health["rejected"] > 0
    assert "WRONGTYPE" in health["last_error"]


async def test_what_was_published_while_redis_was_away_arrives_as_the_newest(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        publisher = Publisher(settings(tmp_path), server.url)
        await publisher.publish_trades("binance", trades([1.0]))
        await written(publisher)
        await asyncio.to_thread(server.stop)

        for number in range(2, 12):
            await publisher.publish_trades("binance", trades([float(number)], start=START + number))
            await publisher.publish_bars("binance", bars([number]))
            await publisher.publish_bars("binance", bars([number], close=2.5))

        async def noticed() -> bool:
            return (await publisher.status())["available"] is False

        await until(noticed)
        health = await publisher.status()
        assert (health["pending"], health["superseded"], health["dropped"]) == (11, 19, 0)
        await asyncio.to_thread(server.start)
        await written(publisher)
        client = Redis.from_url(server.url)
        assert json.loads(await client.get("binance:BTCUSDT:last_trade"))["price"] == 11.0
        members = await client.zrange("bars:binance:BTCUSDT:1m", 0, -1)
        assert [json.loads(member)["close"] for member in members] == [2.5] * 10
        assert await client.xlen(redis.STREAM) == 1
        await client.aclose()
        await publisher.stop()


async def test_a_redis_that_does_not_answer_holds_no_caller_up(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        publisher = Publisher(settings(tmp_path), server.url)
        await publisher.publish_trades("binance", trades([1.0]))
        await written(publisher)
        server.freeze()
        started = time.monotonic()
        for number in range(100):
            await publisher.publish_trades("binance", trades([2.0], start=START + number))
            await asyncio.sleep(0)
        assert time.monotonic() - started < 1
        server.thaw()
        await written(publisher)
        await publisher.stop()


async def test_too_much_to_remember_drops_the_oldest(tmp_path: Path) -> None:
    publisher = Publisher(settings(tmp_path, waiting_bytes=1200), redis.url(free_port(), PASSWORD))
    await publisher.publish_bars("binance", bars([0, 1, 2, 3, 4]))
    health = await publisher.status()
    assert (health["pending"], health["dropped"]) == (3, 2)
    assert PASSWORD not in f"{health} {publisher!r}"
    await publisher.stop()


def test_a_wrong_address_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="URL"):
        Publisher(settings(tmp_path), "http://localhost")
