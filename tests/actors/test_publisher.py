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

from actors.health import components
from actors.parcels import packed
from actors.publisher import Publisher
from config.settings import Settings, load
from storage import redis
from storage.schema import BARS, INDICATORS, QUOTES, TRADES
from tests.actors.exchanges import BinanceServer, collecting
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


async def test_a_value_that_waited_is_written_with_what_is_left_of_its_time(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        server.stop()
        publisher = Publisher(settings(tmp_path), server.url)
        await publisher.publish_trades("binance", trades([1.0]))
        await publisher.publish_health({"shard:0": {"status": "ok"}})
        publisher._unwritten._values["system:health", None].since -= 20
        publisher._unwritten._values["binance:BTCUSDT:last_trade", None].since -= 40
        await asyncio.to_thread(server.start)
        await written(publisher)
        client = Redis.from_url(server.url)
        assert 10 <= await client.ttl("binance:BTCUSDT:last_trade") <= 20
        assert not await client.exists("system:health"), "it would have gone by now"
        assert (await publisher.status())["expired"] == 1
        await client.aclose()
        await publisher.stop()


async def test_health_holds_those_components_that_were_told_last_and_goes(publisher: Publisher, client: Redis) -> None:
    said = {
        "collector:okx": {"answers": True, "age_s": 1.5, "state": "streaming", "lag_ms": 3.0, "rows": 7},
        "shard:0": {"answers": True, "age_s": 0.0, "failure": "no space"},
        "database": {"answers": False, "age_s": 60.0, "failure": "does not answer"},
    }
    await publisher.publish_health(components(said, START))
    await written(publisher)
    found = {name.decode(): json.loads(text) for name, text in (await client.hgetall("system:health")).items()}
    assert found["collector:okx"] == {
        "status": "ok",
        "time": START - 1_500_000_000,
        "failure": "",
        "state": "streaming",
        "lag_ms": 3.0,
    }
    assert {name: one["status"] for name, one in found.items()} == {
        "collector:okx": "ok",
        "shard:0": "failing",
        "database": "not answering",
    }
    assert 10 < await client.ttl("system:health") <= 15
    await publisher.publish_health(components({"shard:0": said["shard:0"]}, START))
    await written(publisher)
    assert await client.hkeys("system:health") == [b"shard:0"]


async def test_books_are_there_while_they_are_synced_and_for_three_seconds(
    server: RedisServer, client: Redis, tmp_path: Path
) -> None:
    own = load(tmp_path, {"source": "live", "shards": 1, "collector": {"flush_interval_ms": 5}})
    key = "binance:BTCUSDT:orderbook"
    async with BinanceServer(["BTCUSDT", "ETHUSDT"]) as exchange, collecting(own, exchange.endpoint()) as collector:

        async def books(name: str) -> list[pa.RecordBatch]:
            return await collector.book(None, redis.BOOK_LEVELS) if name == "binance" else []

        publisher = Publisher(own, server.url, books)
        await publisher.status()

        async def is_there() -> bool:
            return bool(await client.exists(key))

        await until(is_there)
        book = json.loads(await client.get(key))
        assert (book["exchange"], book["symbol"], book["epoch"]) == ("binance", "BTCUSDT", 1)
        assert [book[side][0] for side in ("bids", "asks")] == [[100.0, book["sequence"]], [101.0, book["sequence"]]]
        assert 0 < await client.pttl(key) <= 3000

        async def is_newer() -> bool:
            return bool(json.loads(await client.get(key))["sequence"] > book["sequence"])

        await until(is_newer)
        # Its snapshot does not come any more.
        exchange.snapshots_open.clear()
        exchange.losing.add("BTCUSDT")

        async def is_gone() -> bool:
            return not await client.exists(key)

        await until(is_gone)
        assert await client.exists("binance:ETHUSDT:orderbook")
        exchange.snapshots_open.set()
        await until(is_there)
        await publisher.stop()


async def test_who_listens_to_a_channel_gets_one_message_for_a_batch(publisher: Publisher, client: Redis) -> None:
    rows = [{"symbol": "BTCUSDT", "timeframe": "1m", "time": START, "rsi_14": 50.0}]
    closed = bars([0, 1])
    parcel = packed(
        {
            ("trades", "binance"): trades([1.0, 2.0]),
            ("bars", "binance"): closed.set_column(13, BARS.field("closed"), [[True, False]]),
            ("indicators", "binance"): pa.Table.from_pylist(rows, schema=INDICATORS),
        }
    )
    await publisher.take(parcel)
    await written(publisher)
    listening = client.pubsub(ignore_subscribe_messages=True)
    names = ("trades:binance", "completed_bars", "chart_updates")
    await listening.subscribe(*names)
    said: dict[str, bytes] = {}

    async def all_said() -> bool:
        await publisher.take(parcel)
        await written(publisher)
        if message := await listening.get_message():
            said[message["channel"].decode()] = message["data"]
        return said.keys() == set(names)

    await until(all_said)
    await listening.aclose()  # type: ignore[no-untyped-call]
    assert said["trades:binance"] == parcel["trades", "binance"]
    completed = json.loads(said["completed_bars"])
    assert (completed["exchange"], [bar["time"] for bar in completed["bars"]]) == ("binance", [START // 10**9])
    updates = json.loads(said["chart_updates"])["updates"]
    assert [(one["time"], one["closed"]) for one in updates] == [
        (START // 10**6, True),
        ((START + MINUTE) // 10**6, False),
    ]
    assert updates[0]["indicators"]["rsi_14"] == 50.0
    assert updates[1]["indicators"] is None
    assert updates[1]["bar"] == dict.fromkeys(("open", "high", "low", "close", "volume"), 1.5)

    async def nobody_listens() -> bool:
        await publisher.take(parcel)
        await written(publisher)
        return not publisher._writer.listened

    await until(nobody_listens)


def test_a_wrong_address_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="URL"):
        Publisher(settings(tmp_path), "http://localhost")
