"""What programs read from the streams that the publisher writes, on the real embedded Redis: whole, shared out, after
the death of others, with holes said, and over outages.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from redis.asyncio import Redis

from actors.parcels import packed
from actors.publisher import Publisher
from config.settings import load
from storage.redis_consumer import Batch, Consumer, Lag, replay
from storage.redis_streams import ARROW, Hole
from tests.actors.test_publisher import bars, trades
from tests.polling import until
from tests.servers import RedisServer

STREAM = "stream:trades:binance"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def server(shared: RedisServer) -> RedisServer:
    async with Redis.from_url(shared.url) as client:
        await client.flushall()
    return shared


@contextlib.asynccontextmanager
async def publishing(folder: Path, url: str, **own: Any) -> AsyncIterator[Publisher]:
    publisher = Publisher(load(folder, {"redis": own}), url)
    try:
        yield publisher
    finally:
        await publisher.stop()


async def publish(publisher: Publisher, *prices: float, wait: bool = True) -> None:
    """One batch of one trade for each price."""
    for price in prices:
        await publisher.take(packed({("trades", "binance"): trades([price])}))
    if wait:
        await written(publisher)


async def written(publisher: Publisher) -> None:
    async def nothing_waits() -> bool:
        return (await publisher.status())["batches_pending"] == 0

    await until(nothing_waits)


def consumer(server: RedisServer, name: str = "one", group: str = "g", **more: Any) -> Consumer:
    return Consumer(server.url, group, name, ["trades"], ["binance"], **{"start": "oldest", **more})


class Reading:
    """A consumer at work: what it got, in order; it says `done` unless told otherwise."""

    def __init__(self, of: Consumer, finishes: bool = True) -> None:
        self.consumer = of
        self.events: list[Batch | Hole] = []
        self._finishes = finishes

    @property
    def prices(self) -> list[float]:
        return [price for one in self.events if isinstance(one, Batch) for price in one.table["price"].to_pylist()]

    @property
    def holes(self) -> list[int | None]:
        return [one.missing for one in self.events if isinstance(one, Hole)]

    async def read(self) -> None:
        async for event in self.consumer:
            self.events.append(event)
            if isinstance(event, Batch) and self._finishes:
                await self.consumer.done(event)

    async def __aenter__(self) -> "Reading":
        self._task = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.consumer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Fails as soon as reading does."""

        def met() -> bool:
            if self._task.done():
                self._task.result()
            return condition()

        await until(met)


async def test_a_batch_arrives_as_the_bytes_that_were_published(server: RedisServer, tmp_path: Path) -> None:
    table = trades([1.0, 2.5, 3.0])
    parcel = packed({("trades", "binance"): table, ("bars", "binance"): bars([0, 1])})
    async with publishing(tmp_path, server.url) as publisher:
        await publisher.take(parcel)
        await written(publisher)
    async with Redis.from_url(server.url) as client:
        [(entry_id, fields)] = await client.xrange(STREAM)
        assert fields[ARROW] == bytes(parcel["trades", "binance"])
        heads = await client.hgetall("streams")
        assert heads.keys() == {STREAM.encode(), b"stream:bars:binance"}
        assert heads[STREAM.encode()] == entry_id
    both = Consumer(server.url, "g", "one", ["trades", "bars"], ["binance"], start="oldest")
    async with Reading(both) as reading:
        await reading.until(lambda: len(reading.events) == 2)
    tables = {one.kind: one.table for one in reading.events if isinstance(one, Batch) and one.exchange == "binance"}
    assert tables["trades"].equals(table)
    assert tables["bars"].num_rows == 2


async def test_a_batch_in_the_object_store_is_not_held_there(server: RedisServer, tmp_path: Path) -> None:
    buffer = pa.py_buffer(bytes(packed({1: trades([1.0])})[1]))
    before = sys.getrefcount(buffer)
    async with publishing(tmp_path, server.url) as publisher:
        await publisher.take({("trades", "binance"): buffer})
        assert (await publisher.status())["batches_pending"] == 1
        # The last trade's row was read in place; what waits was not.
        assert sys.getrefcount(buffer) == before


async def test_the_consumers_of_a_group_share_the_work_and_groups_do_not(server: RedisServer, tmp_path: Path) -> None:
    prices = [float(number) for number in range(40)]
    async with (
        publishing(tmp_path, server.url) as publisher,
        Reading(consumer(server, "one", at_once=1)) as one,
        Reading(consumer(server, "two", at_once=1)) as two,
        Reading(consumer(server, "one", group="other")) as other,
    ):
        for price in prices:
            await publish(publisher, price)
        await until(lambda: len(one.prices) + len(two.prices) == len(other.prices) == 40)
        assert sorted(one.prices + two.prices) == other.prices == prices
        assert one.prices and two.prices
        assert not one.holes + two.holes + other.holes, "each saw only some, and nobody took that for a hole"


_WORKS_FOR_EVER = """
import asyncio, sys
from storage.redis_consumer import Consumer

async def main():
    async for batch in Consumer(sys.argv[1], "g", "dead", ["trades"], ["binance"], start="oldest"):
        print(batch.id, flush=True)

asyncio.run(main())
"""


async def test_what_a_killed_consumer_had_comes_to_another(server: RedisServer, tmp_path: Path) -> None:
    async with publishing(tmp_path, server.url) as publisher:
        await publish(publisher, 1.0, 2.0)
        dying = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WORKS_FOR_EVER, server.url, stdout=subprocess.PIPE
        )
        assert dying.stdout is not None
        had = [await dying.stdout.readline() for _ in range(2)]
        dying.kill()
        await dying.wait()
        assert all(had)
        async with Reading(consumer(server, "heir", abandoned_s=0.2)) as reading:
            await publish(publisher, 3.0)
            await reading.until(lambda: sorted(reading.prices) == [1.0, 2.0, 3.0])
            again = {one.table["price"][0].as_py(): one.again for one in reading.events if isinstance(one, Batch)}
            assert again == {1.0: True, 2.0: True, 3.0: False}
            assert (await reading.consumer.lag())["trades", "binance"] == Lag(0, 0.0, 0)


async def test_who_comes_back_gets_what_it_had_not_done(server: RedisServer, tmp_path: Path) -> None:
    async with publishing(tmp_path, server.url) as publisher:
        await publish(publisher, *map(float, range(9)))
        async with Reading(consumer(server), finishes=False) as before:
            await before.until(lambda: len(before.prices) == 9)
        async with Reading(consumer(server)) as reading:
            await publish(publisher, 9.0)
            await reading.until(lambda: len(reading.prices) == 10)
            assert reading.prices == [float(number) for number in range(10)]
            assert [one.again for one in reading.events if isinstance(one, Batch)] == [True] * 9 + [False]


async def test_batches_that_were_trimmed_before_they_were_read_are_a_hole(server: RedisServer, tmp_path: Path) -> None:
    async with publishing(tmp_path, server.url, stream_entries=3) as publisher:
        async with Reading(consumer(server)) as reading:
            await publish(publisher, 1.0)
            await reading.until(lambda: reading.prices == [1.0])
        await publish(publisher, *map(float, range(2, 12)))
        async with Reading(consumer(server, "two")) as reading:
            await reading.until(lambda: reading.prices == [9.0, 10.0, 11.0])
            assert reading.holes == [7]
            hole = reading.events[0]
            assert isinstance(hole, Hole)
            assert (hole.after or "").endswith("-1") and (hole.before or "").endswith("-9")
            assert "trimmed" in hole.reason


async def test_batches_that_were_trimmed_before_they_were_done_are_a_hole(server: RedisServer, tmp_path: Path) -> None:
    async with publishing(tmp_path, server.url, stream_entries=3) as publisher:
        await publish(publisher, 1.0, 2.0)
        async with Reading(consumer(server, "slow", group="h"), finishes=False) as slow:
            await slow.until(lambda: len(slow.prices) == 2)
        await publish(publisher, 3.0, 4.0, 5.0)
        async with Reading(consumer(server, "heir", group="h", abandoned_s=0.1)) as reading:
            await reading.until(lambda: len(reading.events) == 5)
            assert (sorted(reading.prices), reading.holes) == ([3.0, 4.0, 5.0], [1, 1])
            assert (await reading.consumer.lag())["trades", "binance"].pending == 0
        await publish(publisher, 6.0)
        async with Reading(consumer(server, "slow", group="h")) as slow:
            await slow.until(lambda: len(slow.prices) == 1)
            assert slow.prices == [6.0], "what it had was taken from it"


def with_xautoclaim_of_version_7(of: Consumer) -> Consumer:
    """The embedded server is older: from version 7 on what was trimmed goes from whoever has it, idle or not, and comes
    third in the answer."""

    async def xautoclaim(key: str, group: str, *_: Any, **__: Any) -> Any:
        pending = [one["message_id"] for one in await of._redis.xpending_range(key, group, "-", "+", 10)]
        gone = [one for one in pending if not await of._redis.xrange(key, one, one)]
        if gone:
            await of._redis.xack(key, group, *gone)
        return b"0-0", [], gone

    vars(of._redis)["xautoclaim"] = xautoclaim
    return of


async def test_a_batch_that_was_trimmed_while_somebody_is_at_work_on_it_is_no_hole(
    server: RedisServer, tmp_path: Path
) -> None:
    async with publishing(tmp_path, server.url, stream_entries=3) as publisher:
        await publish(publisher, 1.0, 2.0)
        own, others = (with_xautoclaim_of_version_7(consumer(server, name)) for name in ("own", "other"))
        async with Reading(own, finishes=False) as working:
            await working.until(lambda: len(working.prices) == 2)
            await publish(publisher, 3.0, 4.0, 5.0)
            async with Reading(others) as idle:
                await until(lambda: len(working.prices) + len(idle.prices) == 5)
                await publish(publisher, 6.0)
                await until(lambda: len(working.prices) + len(idle.prices) == 6)
                assert working.holes + idle.holes == []


async def test_a_new_publisher_says_that_nobody_knows_what_the_one_before_had_left(
    server: RedisServer, tmp_path: Path
) -> None:
    async with Reading(consumer(server)) as reading:
        async with publishing(tmp_path, server.url) as publisher:
            await publish(publisher, 1.0, 2.0)
        async with publishing(tmp_path, server.url) as publisher:
            await publish(publisher, 3.0, 4.0)
        await reading.until(lambda: len(reading.prices) == 4)
        assert [one.missing if isinstance(one, Hole) else "" for one in reading.events] == ["", "", None, "", ""]


async def test_a_new_publisher_keeps_to_the_bounds_with_what_the_one_before_left(
    server: RedisServer, tmp_path: Path
) -> None:
    for prices in ([1.0, 2.0, 3.0], [4.0, 5.0]):
        async with publishing(tmp_path, server.url, stream_entries=3) as publisher:
            await publish(publisher, *prices)
    events = [event async for event in replay(server.url, ["trades"], ["binance"], "0-0")]
    assert [one.table["price"][0].as_py() for one in events if isinstance(one, Batch)] == [3.0, 4.0, 5.0]


async def test_replay_begins_at_a_moment_or_after_an_id(server: RedisServer, tmp_path: Path) -> None:
    async with publishing(tmp_path, server.url) as publisher:
        await publish(publisher, 1.0, 2.0)
        await asyncio.sleep(0.005)
        moment = datetime.now(UTC)
        await publish(publisher, 3.0, 4.0, 5.0)

    async def replayed(start: datetime | str) -> list[Any]:
        return [event async for event in replay(server.url, ["trades"], ["binance"], start, at_once=2)]

    since = await replayed(moment)
    assert [one.table["price"][0].as_py() for one in since] == [3.0, 4.0, 5.0]
    assert [one.id for one in await replayed(since[0].id)] == [one.id for one in since[1:]]
    assert await replayed(datetime.now(UTC)) == []
    with pytest.raises(ValueError, match="time zone"):
        await replayed(datetime(2026, 1, 1))


async def test_replay_says_that_older_ones_were_trimmed_and_goes_on_with_what_comes(
    server: RedisServer, tmp_path: Path
) -> None:
    async with publishing(tmp_path, server.url, stream_entries=2) as publisher:
        await publish(publisher, 1.0, 2.0, 3.0)
        events = replay(server.url, ["trades"], ["binance"], datetime.fromtimestamp(0, UTC), follow=True)
        hole = await anext(events)
        assert isinstance(hole, Hole)
        assert (hole.after, hole.missing) == (None, None)
        prices = [await anext(events), await anext(events)]
        following = asyncio.ensure_future(anext(events))
        await publish(publisher, 4.0)
        prices.append(await following)
        assert [one.table["price"][0].as_py() for one in prices if isinstance(one, Batch)] == [2.0, 3.0, 4.0]
        await events.aclose()  # type: ignore[attr-defined]


async def test_the_lag_of_a_group_is_in_batches_and_in_seconds_of_publishing(
    server: RedisServer, tmp_path: Path
) -> None:
    async with publishing(tmp_path, server.url) as publisher:
        async with Reading(consumer(server)) as reading:
            await publish(publisher, 1.0)
            await reading.until(lambda: reading.prices == [1.0])
        await asyncio.sleep(0.1)
        await publish(publisher, 2.0, 3.0, 4.0)
        async with consumer(server, "two") as watching:
            lag = (await watching.lag())["trades", "binance"]
    assert (lag.batches, lag.pending) == (3, 0)
    assert 0.1 <= lag.seconds < 5


async def test_the_lag_of_a_group_that_has_read_nothing_counts_from_where_it_began(
    server: RedisServer, tmp_path: Path
) -> None:
    async with publishing(tmp_path, server.url) as publisher:
        await publish(publisher, *map(float, range(10)))
        await asyncio.sleep(0.005)
        async with Reading(consumer(server, start=datetime.now(UTC))) as reading:

            async def has_begun() -> bool:
                return bool(await reading.consumer.lag())

            await until(has_begun)
        await publish(publisher, 10.0)
        await asyncio.sleep(0.1)
        await publish(publisher, 11.0)
        async with consumer(server, "two") as watching:
            lag = (await watching.lag())["trades", "binance"]
    assert (reading.events, lag.batches) == ([], 2)
    assert 0.1 <= lag.seconds < 5


async def test_over_an_outage_that_loses_everything_waiting_batches_arrive_and_dropped_ones_are_a_hole(
    tmp_path: Path,
) -> None:
    size = len(packed({1: trades([1.0])})[1]) + 1000
    with RedisServer(tmp_path / "redis") as server:
        async with (
            publishing(tmp_path, server.url, waiting_bytes=5 * size) as publisher,
            Reading(consumer(server, start="new")) as reading,
        ):
            await until(lambda: _groups(server, "g"))
            await publish(publisher, 1.0, 2.0)
            await reading.until(lambda: reading.prices == [1.0, 2.0])
            await asyncio.to_thread(server.stop)
            await publish(publisher, *map(float, range(3, 21)), wait=False)
            status = await publisher.status()
            assert status["bytes_pending"] <= 5 * size
            await until(lambda: reading.consumer.away != "")
            await asyncio.to_thread(server.start)
            await written(publisher)
            await reading.until(lambda: reading.prices[-1:] == [20.0])
            dropped = (await publisher.status())["batches_dropped"]
            assert dropped > 0
            assert reading.holes == [dropped]
            assert reading.prices == [1.0, 2.0, *map(float, range(3 + dropped, 21))]
            assert reading.consumer.away == ""


async def _groups(server: RedisServer, name: str) -> bool:
    async with Redis.from_url(server.url) as client:
        return bool(await client.exists(STREAM)) and any(
            group["name"] == name.encode() for group in await client.xinfo_groups(STREAM)
        )


class Proxy:
    """Between a client and Redis; it cuts the connection instead of passing on the next answer with `cut_at` in it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.cut_at = b""
        self.cuts = 0

    async def __aenter__(self) -> "Proxy":
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        self.url = self._server.url.replace(f":{self._server.port}", f":{port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._server.port)

        async def ask() -> None:
            while data := await reader.read(65536):
                back.write(data)

        asking = asyncio.create_task(ask())
        while data := await there.read(65536):
            if self.cut_at and self.cut_at in data:
                self.cut_at = b""
                self.cuts += 1
                break
            writer.write(data)
        asking.cancel()
        for one in (writer, back):
            one.close()


async def test_a_batch_whose_answer_got_lost_is_in_the_stream_once(server: RedisServer, tmp_path: Path) -> None:
    async with Proxy(server) as proxy, publishing(tmp_path, proxy.url) as publisher:
        await publish(publisher, 1.0)
        proxy.cut_at = b"-2\r\n"
        await publish(publisher, 2.0, 3.0)
        await publish(publisher, 4.0)
        assert proxy.cuts == 1
        status = await publisher.status()
        assert (status["batches_written"], status["rejected"]) == (4, 0)
    events = [event async for event in replay(server.url, ["trades"], ["binance"], "0-0")]
    assert [one.table["price"][0].as_py() for one in events if isinstance(one, Batch)] == [1.0, 2.0, 3.0, 4.0]


async def test_a_batch_whose_delivery_got_lost_comes_again(server: RedisServer, tmp_path: Path) -> None:
    async with Proxy(server) as proxy, publishing(tmp_path, server.url) as publisher:
        own = Consumer(proxy.url, "g", "one", ["trades"], ["binance"], start="oldest")
        async with Reading(own, finishes=False) as reading:
            await publish(publisher, 1.0)
            await reading.until(lambda: reading.prices == [1.0])
            proxy.cut_at = ARROW
            await publish(publisher, 2.0)
            await reading.until(lambda: reading.prices == [1.0, 2.0])
            assert [one.again for one in reading.events if isinstance(one, Batch)] == [False, True]
            assert proxy.cuts == 1


async def test_two_who_share_a_redis_do_not_meet(server: RedisServer, tmp_path: Path) -> None:
    async with (
        publishing(tmp_path, server.url, namespace="mine") as mine,
        publishing(tmp_path, server.url, namespace="yours") as yours,
    ):
        await publish(mine, 1.0)
        await publish(yours, 2.0)
        await mine.publish_health({"shard:0": {"status": "ok"}})
        async with Reading(consumer(server, namespace="yours")) as reading:
            await reading.until(lambda: reading.prices == [2.0])
            assert (await reading.consumer.lag())["trades", "binance"].batches == 0
    async with Redis.from_url(server.url) as client:
        keys = await client.keys("*")
        assert {key.split(b":")[0] for key in keys} == {b"mine", b"yours"}
        assert b"mine:binance:BTCUSDT:last_trade" in keys


async def test_streams_full_to_their_bound_drive_out_no_latest_value(tmp_path: Path) -> None:
    memory = 24 * 2**20
    big = trades([1.0] * 8000, symbol="BIG")
    with RedisServer(tmp_path / "redis") as server:
        async with Redis.from_url(server.url) as client:
            await client.config_set("maxmemory", memory)
            async with publishing(tmp_path, server.url, stream_bytes=memory // 2) as publisher:
                await publisher.publish_trades("binance", trades([7.0], symbol="OLD"))
                for exchange in ("okx", "bybit", "kraken") * 20:
                    await publisher.take(packed({("trades", exchange): big}))
                    await written(publisher)
                assert (await publisher.status())["stream_bytes"] <= memory // 2
            info = await client.info()
            assert info["evicted_keys"] == 0
            assert memory // 3 < info["used_memory"] < memory
            assert await client.exists("binance:OLD:last_trade") == 1


async def test_an_entry_of_somebody_else_is_a_hole_and_stops_nobody(server: RedisServer, tmp_path: Path) -> None:
    async with Redis.from_url(server.url) as client, publishing(tmp_path, server.url) as publisher:
        await publish(publisher, 1.0)
        await client.xadd(STREAM, {"what": "ever"}, id=f"{time.time_ns() // 1_000_000 + 10_000}-5")
        await publish(publisher, 2.0)
        assert (await publisher.status())["rejected"] == 1
        await publish(publisher, 3.0)
        async with Reading(consumer(server)) as reading:
            await reading.until(lambda: reading.prices == [1.0, 3.0])
            assert next(one.reason for one in reading.events if isinstance(one, Hole)) == "not a batch of rayfeed"
            assert len(reading.holes) == 2, "and one for the batch that was refused"


async def test_an_id_begins_one_stream_and_no_others(server: RedisServer, tmp_path: Path) -> None:
    async with publishing(tmp_path, server.url) as publisher:
        await publisher.take(packed({("trades", "okx"): trades([7.0])}))
        await publish(publisher, 1.0, 2.0)
    async with Redis.from_url(server.url) as client:
        [(entry_id, _)] = await client.xrange("stream:trades:okx")
    # Nothing is missing in the other one, whose batches have numbers of their own.
    with pytest.raises(ValueError, match="a place in one stream"):
        await anext(replay(server.url, ["trades"], ["okx", "binance"], entry_id.decode()))
    with pytest.raises(ValueError, match="a place in one stream"):
        Consumer(server.url, "g", "one", ["trades"], ["okx", "binance"], start=entry_id.decode())
    assert [event async for event in replay(server.url, ["trades"], ["okx"], entry_id.decode())] == []


def test_a_kind_or_a_beginning_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="a moment or an id"):
        Consumer("redis://127.0.0.1:1", "g", "one", ["trades"], ["binance"], start="latest")
    with pytest.raises(ValueError, match="no stream of 'tickers'"):
        Consumer("redis://127.0.0.1:1", "g", "one", ["tickers"], ["binance"])


async def test_consumers_wait_for_a_redis_that_is_not_there(tmp_path: Path) -> None:
    started = time.monotonic()
    with RedisServer(tmp_path / "redis") as server:
        server.stop()
        async with Reading(consumer(server)) as reading:
            await until(lambda: "connecting" in reading.consumer.away)
            await asyncio.to_thread(server.start)
            async with publishing(tmp_path, server.url) as publisher:
                await publish(publisher, 1.0)
                await reading.until(lambda: reading.prices == [1.0])
    assert time.monotonic() - started < 15
