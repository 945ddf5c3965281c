"""How often somebody may ask, counted in a real Redis and without it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from config.security_settings import RateSettings
from serve_apps.rate_limits import RateLimits
from tests.polling import until
from tests.servers import RedisServer, free_port

HUNDRED = RateSettings(requests=100, per_s=3600)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def replicas(server: RedisServer) -> AsyncIterator[list[RateLimits]]:
    running = [RateLimits(server.url, "test:", answer_s=30) for _ in range(3)]
    yield running
    for one in running:
        await one.close()


async def test_of_many_requests_at_once_over_many_replicas_exactly_as_many_pass_as_may(
    replicas: list[RateLimits],
) -> None:
    said = await asyncio.gather(*(replicas[number % 3].take("ip:a", HUNDRED) for number in range(300)))
    assert sum(taken.allowed for taken in said) == 100
    assert sorted(taken.left for taken in said if taken.allowed) == list(range(100))
    refused = [taken for taken in said if not taken.allowed]
    # One more in 36 seconds, all in an hour.
    assert all(30 < taken.retry_in_s <= 36 and 3500 < taken.full_in_s <= 3600 for taken in refused)
    assert all(one.counted_alone == 0 for one in replicas)
    assert (await replicas[0].take("ip:b", HUNDRED)).left == 99


async def test_there_is_one_more_after_a_while_and_a_full_bucket_is_forgotten(
    server: RedisServer, replicas: list[RateLimits]
) -> None:
    quick = RateSettings(requests=2, per_s=0.4)
    said = [await replicas[0].take("user:1", quick) for _ in range(3)]
    assert [taken.allowed for taken in said] == [True, True, False]

    async def allowed() -> bool:
        return (await replicas[1].take("user:1", quick)).allowed

    await until(allowed, 3)
    redis = replicas[0]._redis
    assert redis is not None

    async def forgotten() -> bool:
        return not await redis.exists("test:rate_limit:user:1")

    await until(forgotten, 3)


async def test_while_redis_is_away_each_replica_counts_for_itself_and_says_so(tmp_path: Path) -> None:
    now = 1000.0
    away = RateLimits(f"redis://:x@127.0.0.1:{free_port()}/0", "", lambda: now)
    said = [await away.take("ip:a", RateSettings(requests=2, per_s=60)) for _ in range(3)]
    assert [taken.allowed for taken in said] == [True, True, False]
    assert away.counted_alone == 3
    await away.close()


async def test_redis_is_asked_again_once_it_is_back(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    limits = RateLimits(server.url, "")
    await limits.take("ip:a", HUNDRED)
    assert limits.counted_alone == 1
    with server:

        async def together() -> bool:
            before = limits.counted_alone
            await limits.take("ip:a", HUNDRED)
            return limits.counted_alone == before

        await until(together)
        # A frozen one holds nobody up for long.
        server.freeze()
        taken = await asyncio.wait_for(limits.take("ip:a", HUNDRED), 5)
        assert taken.allowed
        server.thaw()
        await until(together)
    await limits.close()
