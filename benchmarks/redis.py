"""Trades to Redis and back out of it: batches as Arrow through the publisher, beside an entry for each trade.

The peer is what cryptofeed's stream back end does: XADD with the fields of a trade, in pipelines of what is queued.
Both use one server and one client library, and take turns; the numbers are trades in a second of the clock.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from redis.asyncio import Redis

from actors.parcels import packed
from actors.publisher import Publisher
from benchmarks.ledger import batch
from benchmarks.table import Bound, Row
from config import load
from storage.redis_consumer import Batch, Consumer
from tests.servers import RedisServer

PEER: Final = "an entry per trade, as cryptofeed 2.4.1"
ROUNDS: Final = 7
SYMBOLS: Final = 100
#: Trades of one batch: what a shard shares four times a second where 40,000 come in a second.
TRADES: Final = 10_000
BATCHES: Final = 20
#: Trades the peer writes at once, and in all.
QUEUED: Final = 1_000
PEER_TRADES: Final = 10_000


def rows() -> list[Row]:
    """Trades in a second, written and read by a group."""
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as folder, RedisServer(Path(folder)) as server:
        rounds = asyncio.run(_measured(Path(folder), server.url))
    names = ("written", "read by a group")
    return [
        Row(
            f"redis: trades {name}",
            median(ours),
            "trades/s",
            median(peer),
            PEER,
            Bound(ratio_at_least=20.0),
            f"batches of {TRADES:,}, with last trades and the stream of prices" if name == names[0] else "",
        )
        for name, ours, peer in zip(names, rounds[::2], rounds[1::2], strict=True)
    ]


async def _measured(folder: Path, url: str) -> list[list[float]]:
    """Of each round: ours written, the peer's written, ours read, the peer's read."""
    found: list[list[float]] = [[], [], [], []]
    async with Redis.from_url(url) as client:
        for _ in range(ROUNDS):
            await client.flushall()
            wrote, read = await _ours(folder, url)
            await client.flushall()
            peer_wrote, peer_read = await _peer(client)
            for kept, value in zip(found, (wrote, peer_wrote, read, peer_read), strict=True):
                kept.append(value)
    return found


async def _ours(folder: Path, url: str) -> tuple[float, float]:
    publisher = Publisher(load(folder), url)
    parcels = [packed({("trades", "binance"): batch(SYMBOLS, TRADES // SYMBOLS, number)}) for number in range(BATCHES)]
    started = time.perf_counter()
    for parcel in parcels:
        await publisher.take(parcel)
    while True:
        if (await publisher.status())["batches_written"] == BATCHES:
            break
        await asyncio.sleep(0.001)
    wrote = time.perf_counter() - started
    await publisher.stop()
    async with Consumer(url, "bench", "one", ["trades"], ["binance"], start="oldest") as consumer:
        left = TRADES * BATCHES
        started = time.perf_counter()
        async for event in consumer:
            assert isinstance(event, Batch)
            left -= event.table.num_rows
            await consumer.done(event)
            if not left:
                break
        read = time.perf_counter() - started
    return TRADES * BATCHES / wrote, TRADES * BATCHES / read


async def _peer(client: Redis) -> tuple[float, float]:
    trades: list[dict[Any, Any]] = [
        {
            "exchange": "BINANCE",
            "symbol": f"COIN{number % SYMBOLS}-USDT",
            "side": "buy",
            "amount": 0.25,
            "price": 100 + number % 7 * 0.01,
            "id": str(number),
            "type": "None",
            "timestamp": 1_767_268_800.0 + number / 1000,
            "receipt_timestamp": 1_767_268_800.0 + number / 1000,
        }
        for number in range(PEER_TRADES)
    ]
    started = time.perf_counter()
    for begin in range(0, PEER_TRADES, QUEUED):
        async with client.pipeline(transaction=False) as pipeline:
            for trade in trades[begin : begin + QUEUED]:
                pipeline.xadd(f"trades-{trade['exchange']}-{trade['symbol']}", trade)
            await pipeline.execute()
    wrote = time.perf_counter() - started
    streams: dict[Any, Any] = {f"trades-BINANCE-COIN{number}-USDT": ">" for number in range(SYMBOLS)}
    for stream in streams:
        await client.xgroup_create(stream, "bench", "0")
    left = PEER_TRADES
    started = time.perf_counter()
    while left:
        answer: Any = await client.xreadgroup("bench", "one", streams, count=QUEUED // SYMBOLS)
        async with client.pipeline(transaction=False) as pipeline:
            for stream, entries in answer:
                left -= len(entries)
                # A program wants numbers.
                assert all(float(fields[b"price"]) > 0 for _, fields in entries)
                pipeline.xack(stream, "bench", *(entry_id for entry_id, _ in entries))
            await pipeline.execute()
    read = time.perf_counter() - started
    return PEER_TRADES / wrote, PEER_TRADES / read
