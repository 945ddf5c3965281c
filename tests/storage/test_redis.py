"""The encoders are pure; what they mean is checked on the real embedded server."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from storage import redis
from storage.schema import BARS, INDICATORS, QUOTES, TRADES
from tests.actors.aggregation.plain_consolidated import NOON, Quote, batch, opened
from tests.servers import PASSWORD, RedisServer

MINUTE = 60_000_000_000
START = 1_700_000_040_000_000_000  # a whole minute


def trades(rows: list[tuple[str, int, int, float]]) -> pa.Table:
    symbols, times, ids, prices = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {
        "symbol": pa.array(symbols, pa.string()).dictionary_encode(),
        "ts_event": pa.array(times, pa.int64()),
        "ts_recv": pa.array(times, pa.int64()),
        "trade_id": pa.array(ids, pa.int64()),
        "price": pa.array(prices, pa.float64()),
        "size": np.full(len(rows), 0.25),
        "side": np.ones(len(rows), np.uint8),
        "maker_order_id": pa.nulls(len(rows), pa.binary(16)),
        "taker_order_id": pa.nulls(len(rows), pa.binary(16)),
    }
    return pa.table(columns).cast(TRADES)


def bars(times: list[int], close: float = 1.5, timeframe: str = "1m", closed: bool = True) -> pa.Table:
    count = len(times)
    columns = {name: np.full(count, close) for name in BARS.names}
    columns |= {
        "symbol": pa.array(["BTCUSDT"] * count).dictionary_encode(),
        "timeframe": [timeframe] * count,
        "time": pa.array(times, pa.int64()),
        "trade_count": np.ones(count, np.int64),
        "revision": np.zeros(count, np.int32),
        "closed": [closed] * count,
    }
    return pa.table(columns).cast(BARS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


async def written(server: RedisServer, *batches: list[redis.Entry]) -> Redis:
    client = Redis.from_url(server.url)
    await client.flushall()
    for entries in batches:
        async with client.pipeline(transaction=True) as pipeline:
            redis.write(pipeline, entries)
            await pipeline.execute()
    return client


async def test_the_last_trade_of_each_symbol_is_kept_for_a_minute(server: RedisServer) -> None:
    rows = trades([("A", START, 1, 1.0), ("B", START + 5, 9, 7.0), ("A", START + 1, 2, 2.0)])
    client = await written(server, redis.last_trades("binance", rows))
    assert json.loads(await client.get("binance:A:last_trade")) == {
        "exchange": "binance",
        "symbol": "A",
        "trade_id": 2,
        "price": 2.0,
        "size": 0.25,
        "side": "sell",
        "ts_event": START + 1,
        "ts_recv": START + 1,
    }
    assert 58 <= await client.ttl("binance:A:last_trade") <= 60
    assert json.loads(await client.get("binance:B:last_trade"))["trade_id"] == 9
    await client.aclose()


async def test_a_batch_puts_the_last_price_of_each_symbol_into_the_stream(server: RedisServer) -> None:
    rows = trades([("A", START, 1, 1.0), ("B", START + 5, 9, 7.0), ("A", START + 1, 2, 2.0)])
    client = await written(server, redis.last_trades("binance", rows))
    entries = [json.loads(fields[b"data"]) for _, fields in await client.xrange(redis.STREAM)]
    assert sorted(entries, key=lambda entry: entry["symbol"]) == [
        {"exchange": "binance", "symbol": "A", "price": 2.0, "time": START + 1},
        {"exchange": "binance", "symbol": "B", "price": 7.0, "time": START + 5},
    ]
    await client.aclose()


async def test_the_stream_stays_short(server: RedisServer) -> None:
    entries = redis.last_trades("binance", trades([("A", START, 1, 1.0)]))
    client = await written(server, entries * 1500)
    assert 1000 <= await client.xlen(redis.STREAM) < 1200
    await client.aclose()


async def test_a_ticker_says_null_for_what_the_feed_did_not_say(server: RedisServer) -> None:
    quote = {name: [None] for name in QUOTES.names} | {
        "symbol": ["A"],
        "ts_event": [START],
        "ts_recv": [START],
        "sequence": [4],
        "bid_price": [9.5],
        "ask_price": [float("nan")],
    }
    table = pa.table({**quote, "symbol": pa.array(["A"]).dictionary_encode()}).cast(QUOTES)
    client = await written(server, redis.tickers("coinbase", table))
    ticker = json.loads(await client.get("coinbase:A:ticker"))
    assert (ticker["bid_price"], ticker["ask_price"], ticker["last_side"]) == (9.5, None, None)
    assert 298 <= await client.ttl("coinbase:A:ticker") <= 300
    await client.aclose()


async def test_a_revised_bar_replaces_the_one_of_its_minute(server: RedisServer) -> None:
    times = [START, START + MINUTE]
    client = await written(
        server, redis.bar_entries("binance", bars(times)), redis.bar_entries("binance", bars([START], close=9.0))
    )
    members = await client.zrange("bars:binance:BTCUSDT:1m", 0, -1, withscores=True)
    assert [(json.loads(member)["close"], score) for member, score in members] == [
        (9.0, START // 10**9),
        (1.5, START // 10**9 + 60),
    ]
    await client.aclose()


async def test_only_the_newest_thousand_bars_stay(server: RedisServer) -> None:
    client = await written(server, redis.bar_entries("binance", bars([START + n * MINUTE for n in range(1200)])))
    members = await client.zrange("bars:binance:BTCUSDT:1m", 0, -1, withscores=True)
    assert len(members) == 1000
    assert members[0][1] == START // 10**9 + 200 * 60
    await client.aclose()


async def test_the_best_of_each_instrument_says_null_where_no_exchange_counts(server: RedisServer) -> None:
    book = opened(["okx"])
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1, 100.0, 101.0, None)]))
    client = await written(server, redis.best_entries(book.best(book.look(NOON)), NOON + 7))
    best = json.loads(await client.get("bbo:BTC-USDT"))
    assert (best["bid_price"], best["bid_size"], best["bid_exchange"]) == (100.0, None, "okx")
    assert (best["mid"], best["exchanges"], best["time"]) == (100.5, 1, NOON + 7)
    assert json.loads(await client.get("bbo:ETH-USDT"))["ask_price"] is None
    assert 298 <= await client.ttl("bbo:ETH-USDT") <= 300
    await client.aclose()


def test_open_bars_are_left_out_and_each_timeframe_has_its_key() -> None:
    assert redis.bar_entries("binance", bars([START], closed=False)) == []
    (entry,) = redis.bar_entries("binance", bars([START], timeframe="5m"))
    assert entry.key == "bars:binance:BTCUSDT:5m"


async def test_what_is_computed_of_the_newest_bar_is_kept_while_others_should_come(server: RedisServer) -> None:
    rows = [
        {"symbol": "BTCUSDT", "timeframe": timeframe, "time": START + at * MINUTE, "rsi_14": 50.0 + at, "macd": None}
        for timeframe, at in (("1m", 2), ("1m", 1), ("4h", 0))
    ]
    entries = redis.of_newest_bars("indicators", "binance", pa.Table.from_pylist(rows, schema=INDICATORS))
    assert [entry.key for entry in entries] == ["indicators:binance:BTCUSDT:4h", "indicators:binance:BTCUSDT:1m"]
    client = await written(server, entries)
    said = json.loads(await client.get("indicators:binance:BTCUSDT:1m"))
    assert (said["time"], said["rsi_14"], said["macd"]) == (START // 10**9 + 120, 52.0, None)
    assert "symbol" not in said
    assert 295 <= await client.ttl("indicators:binance:BTCUSDT:1m") <= 300
    assert await client.ttl("indicators:binance:BTCUSDT:4h") > 11 * 3600
    await client.aclose()


def test_an_empty_batch_gives_nothing() -> None:
    assert redis.last_trades("binance", trades([])) == []
    assert redis.bar_entries("binance", bars([])) == []


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 3), st.integers(0, 3)), max_size=30),
    st.integers(0, 30),
)
def test_the_newest_row_does_not_depend_on_order_chunks_or_dictionaries(
    keys: list[tuple[str, int, int]], cut: int
) -> None:
    rows = [(symbol, time, identity, float(identity)) for symbol, time, identity in keys]
    newest = {symbol: max(key[1:] for key in keys if key[0] == symbol) for symbol, _, _ in keys}
    table = pa.concat_tables([trades(rows[cut:]), trades(rows[:cut])])
    entries = redis.last_trades("binance", table)
    assert {entry.key.split(":")[1]: entry.order for entry in entries} == newest


async def test_the_embedded_server_wants_its_password_and_listens_on_loopback(server: RedisServer) -> None:
    stranger = Redis(port=server.port, retry=Retry(NoBackoff(), 0))
    with pytest.raises(AuthenticationError):
        await stranger.get("x")
    await stranger.aclose()
    client = Redis.from_url(server.url)
    assert (await client.config_get("bind"))["bind"] == "127.0.0.1"
    assert int((await client.config_get("maxmemory"))["maxmemory"]) > 0
    await client.aclose()


def test_a_folder_with_spaces_and_quotes_works_and_nothing_but_the_configuration_is_left(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted\\ folder'
    with RedisServer(folder) as running:

        async def store() -> None:
            client = Redis.from_url(running.url)
            await client.set("a", "b")
            await client.aclose()

        asyncio.run(store())
    (folder / "log").unlink()
    assert [file.name for file in folder.iterdir()] == ["redis.conf"]
    assert stat.S_IMODE((folder / "redis.conf").stat().st_mode) == 0o600


def test_a_configuration_that_was_readable_by_others_no_longer_is(tmp_path: Path) -> None:
    (tmp_path / "redis.conf").touch(mode=0o644)
    redis.embedded_command(tmp_path, 1, PASSWORD)
    assert stat.S_IMODE((tmp_path / "redis.conf").stat().st_mode) == 0o600


@pytest.mark.parametrize("password", ["", "short", "x" * 20 + "\nbind 0.0.0.0"])
def test_a_password_that_redis_could_misread_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(ValueError, match="password"):
        redis.embedded_command(tmp_path, 1, password)
