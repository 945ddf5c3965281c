"""Who leads, on a real Redis: one at a time, and whoever lost the lead can no longer write."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from actors.overview_redis import LATEST, LEASE, Away, OverviewRedis
from storage.redis import STREAM
from tests.polling import until
from tests.servers import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url, decode_responses=True) as client:
        await client.flushall()
        yield client


def body(price: float) -> bytes:
    return msgspec.json.encode({"btc_price_usd": price, "fields": {}})


async def price(redis: Redis) -> Any:
    return msgspec.json.decode(await redis.get(f"mine:{LATEST}"))["btc_price_usd"]


def opened(server: RedisServer, holder: str, lease_s: float = 10) -> OverviewRedis:
    return OverviewRedis(server.url, "mine:", holder, lease_s)


async def test_one_leads_and_what_it_says_is_the_latest_and_in_the_stream(server: RedisServer, redis: Redis) -> None:
    first, second = opened(server, "a"), opened(server, "b")
    token = await first.hold()
    assert token
    assert await second.hold() == 0
    assert await first.hold() == token
    assert await first.write(token, body(1.0))
    assert await first.write(token, body(2.0))
    assert await price(redis) == 2.0
    entries = await redis.xrange(f"mine:{STREAM}")
    assert [msgspec.json.decode(fields["data"])["btc_price_usd"] for _, fields in entries] == [1.0, 2.0]
    assert all(list(fields) == ["data"] for _, fields in entries)
    assert 290_000 < await redis.pttl(f"mine:{LATEST}") <= 300_000
    assert await second.latest() == {"btc_price_usd": 2.0, "fields": {}}
    assert await redis.keys("[^m]*") == []
    await first.close()
    await second.close()


async def test_a_leader_that_was_stalled_never_overwrites_the_newer_one(server: RedisServer, redis: Redis) -> None:
    stalled, newer = opened(server, "a", 0.1), opened(server, "b", 60)
    old = await stalled.hold()
    assert await stalled.write(old, body(1.0))
    # It stops here, its lease ends, another one leads.
    new = 0

    async def leads() -> bool:
        nonlocal new
        new = await newer.hold()
        return new > 0

    await until(leads)
    assert new > old
    assert await newer.write(new, body(2.0))
    assert not await stalled.write(old, body(1.0))
    assert await price(redis) == 2.0
    assert await redis.xlen(f"mine:{STREAM}") == 2
    assert await stalled.hold() == 0
    # Not even when the newer one has died too.
    await newer.release()
    assert not await stalled.write(old, body(1.0))
    assert await stalled.hold() > new
    await stalled.close()
    await newer.close()


async def test_after_redis_lost_its_memory_an_old_token_is_worth_nothing(server: RedisServer, redis: Redis) -> None:
    first, second = opened(server, "a"), opened(server, "b")
    old = await first.hold()
    await redis.flushall()
    assert not await first.write(old, body(1.0))
    new = await second.hold()
    assert new > old
    assert not await first.write(old, body(1.0))
    assert await first.hold() == 0
    # The lease alone, or the token alone, can be driven out of a full memory.
    await redis.delete(f"mine:{LEASE}")
    assert await first.hold() > new
    await redis.delete("mine:market_overview:token")
    assert await first.hold() > new
    await first.close()
    await second.close()


async def test_of_many_that_try_at_once_one_leads_and_a_lead_that_is_given_back_passes_on_at_once(
    server: RedisServer, redis: Redis
) -> None:
    candidates = [opened(server, f"n{number}") for number in range(20)]
    tokens = await asyncio.gather(*(one.hold() for one in candidates))
    (leader,) = [one for one, token in zip(candidates, tokens, strict=True) if token]
    await candidates[(candidates.index(leader) + 1) % 20].release()
    assert sum(bool(token) for token in await asyncio.gather(*(one.hold() for one in candidates))) == 1
    await leader.release()
    assert await candidates[(candidates.index(leader) + 1) % 20].hold() > max(tokens)
    await asyncio.gather(*(one.close() for one in candidates))


async def test_a_lease_passes_on_within_its_time(server: RedisServer, redis: Redis) -> None:
    dead, next_one = opened(server, "a", 0.5), opened(server, "b", 0.5)
    await dead.hold()
    began = time.monotonic()

    async def leads() -> bool:
        return await next_one.hold() > 0

    await until(leads)
    assert 0.3 < time.monotonic() - began < 1.5
    await dead.close()
    await next_one.close()


@pytest.mark.parametrize("there", ["", "nothing", "[1]", '{"fields": 1}', '{"a": "\ud800"}'.encode("utf-8", "replace")])
async def test_what_cannot_be_read_is_nothing(server: RedisServer, redis: Redis, there: Any) -> None:
    own = opened(server, "a")
    assert await own.latest() is None
    await redis.set(f"mine:{LATEST}", there)
    assert await own.latest() is None
    await own.close()


async def test_a_redis_that_is_away_or_frozen_says_so_in_time(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as running:
        own = OverviewRedis(running.url, "", "a", 10, patience_s=0.3)
        assert await own.hold()
        running.freeze()
        began = time.monotonic()
        with pytest.raises(Away):
            await own.hold()
        assert time.monotonic() - began < 2
        running.thaw()
    with pytest.raises(Away):
        await own.write(1, b"{}")
    await own.close()
