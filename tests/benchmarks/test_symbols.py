"""The exchange with many symbols enforces the limits it is measured by, and knows its own books."""

import json
from collections.abc import AsyncIterator

import aiohttp
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors.aggregation.book_sync import BookSync, RequestSnapshot
from actors.feeds.binance import Binance
from benchmarks.many_symbols import (
    FIRST_UPDATE,
    LONGEST_TARGET,
    MESSAGES_PER_SECOND,
    MOST_STREAMS,
    UPDATES,
    Books,
    Exchange,
    prices,
    serving,
    sizes,
    symbols,
)
from tests.polling import until

NAMES = symbols(3)


def subscription(number: int, streams: list[str]) -> str:
    return json.dumps({"method": "SUBSCRIBE", "params": streams, "id": number})


@pytest.fixture
async def exchange() -> AsyncIterator[tuple[Exchange, str, str]]:
    """With room for two snapshots a minute, and its addresses."""
    one = Exchange(len(NAMES), weight=100)
    async with serving(one) as (websocket, rest):
        yield one, f"ws://127.0.0.1:{websocket}/stream", f"http://127.0.0.1:{rest}"


def test_a_snapshot_and_the_messages_after_it_make_the_book_the_exchange_has() -> None:
    books = Books(NAMES)
    name, number = NAMES[2], 2
    feed = Binance(NAMES, "ws://127.0.0.1", frozenset(("book",)))
    sync = BookSync(feed.book_rules, by_request=True)
    sync.add(NAMES, 0.0)
    sync.subscribed([name], 0.0)
    (question,) = (effect.question for effect in sync.take_effects() if isinstance(effect, RequestSnapshot))
    snapshot = feed.read_snapshot(name, books.snapshot(name), 1)
    for _ in range(30):
        frames = [frame for stream, frame in books.update(number, 1_700_000_000_000).items() if "@depth" in stream]
        sync.apply(feed.decode(frames, np.ones(1, np.int64)).books, 0.0)
    sync.snapshot(snapshot, 0.0, question)
    (row,) = sync.depth([name]).to_pylist()
    assert row["state"] == "synced"
    assert row["sequence"] == books.updates[number] == FIRST_UPDATE + 30 * UPDATES
    for side in ("bids", "asks"):
        assert [level["price"] for level in row[side]] == prices(side)
        assert [level["size"] for level in row[side]] == sizes(number, row["sequence"]).tolist()


async def test_streams_are_acknowledged_and_sent(exchange: tuple[Exchange, str, str]) -> None:
    _, websocket, _ = exchange
    async with connect(websocket) as connection:
        await connection.send(subscription(7, ["s0001usdt@depth@100ms"]))
        assert json.loads(await connection.recv()) == {"result": None, "id": 7}
        assert json.loads(await connection.recv())["stream"] == "s0001usdt@depth@100ms"


async def test_more_messages_a_second_than_allowed_end_the_connection(exchange: tuple[Exchange, str, str]) -> None:
    one, websocket, _ = exchange
    async with connect(websocket) as connection:
        for number in range(MESSAGES_PER_SECOND + 1):
            await connection.send(subscription(number, []))
        await connection.wait_closed()
        assert connection.close_code == 1008
    assert one.counts["cut"] == 1


async def test_more_streams_than_allowed_end_the_connection(exchange: tuple[Exchange, str, str]) -> None:
    one, websocket, _ = exchange
    async with connect(websocket) as connection:
        await connection.send(subscription(1, [f"s{number}@trade" for number in range(MOST_STREAMS + 1)]))
        with pytest.raises(ConnectionClosed):
            await connection.recv()
    await until(lambda: one.counts["cut"] == 1)


async def test_an_address_that_is_too_long_is_refused(exchange: tuple[Exchange, str, str]) -> None:
    _, websocket, _ = exchange
    with pytest.raises(InvalidStatus, match="414"):
        await connect(f"{websocket}?streams={'x' * LONGEST_TARGET}")


async def test_weight_beyond_the_budget_is_refused_with_the_time_to_wait(exchange: tuple[Exchange, str, str]) -> None:
    one, _, rest = exchange
    async with aiohttp.ClientSession() as session:
        said = []
        for _ in range(4):
            async with session.get(f"{rest}/api/v3/depth?symbol={NAMES[0]}&limit=1000") as answer:
                said.append((answer.status, answer.headers.get("X-MBX-USED-WEIGHT-1M")))
                wait = answer.headers.get("Retry-After", "0")
    assert said == [(200, "50"), (200, "100"), (429, None), (418, None)]
    assert 50 <= int(wait) <= 61
    assert one.counts["refused"] == 2
    assert one.counts["weight_of_a_minute"] == 100, "what was refused is not spent"
