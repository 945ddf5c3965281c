"""Replicas with a cache each, and one Redis: real, and at times frozen or gone."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.cache_settings import CacheSettings
from serve_apps.cache import LONG_TERM, MEDIUM_TERM, REAL_TIME, SHORT_TERM, Cache, Strategy
from serve_apps.cache_memory import Kept, Memory
from serve_apps.cache_redis import Away, Lease, Shelf
from tests.polling import until
from tests.servers import RedisServer

LEASE_S = 2.0
#: Longer than a busy machine keeps Redis from its work.
PATIENCE_S = 5.0
SETTINGS = CacheSettings(lease_s=LEASE_S, jitter=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class Maker:
    """Makes an answer when it is allowed to, and counts how often it was asked."""

    def __init__(self, answer: bytes | None = b"answer", free: bool = True) -> None:
        self.answer = answer
        self.asked = 0
        self.go = asyncio.Event()
        if free:
            self.go.set()

    async def __call__(self) -> bytes | None:
        self.asked += 1
        answer = self.answer
        await self.go.wait()
        return answer


Replica = Callable[..., Awaitable[Cache]]


@pytest.fixture
async def replica(server: RedisServer) -> AsyncIterator[Replica]:
    """Makes replicas that already hear each other."""
    caches = []

    async def one(clock: Clock | None = None, heard: bool = True) -> Cache:
        clock = clock or Clock()
        cache = Cache(SETTINGS, Shelf(server.url, "test:", LEASE_S, clock, PATIENCE_S), clock, chance=lambda: 0.5)
        caches.append(cache)
        cache._listen()
        if heard:
            await until(lambda: cache.counts()["hears_redis"])
        return cache

    yield one
    for cache in caches:
        await cache.forget_below("")
        await cache.close()


async def test_five_hundred_requests_for_a_cold_key_over_two_replicas_make_it_once(replica: Replica) -> None:
    one, two = await replica(), await replica()
    make = Maker(free=False)
    asking = [asyncio.create_task(cache.get("cold", make, SHORT_TERM)) for cache in (one, two) for _ in range(250)]
    await until(lambda: make.asked > 0)
    # Longer than a lease: it is held on while the answer is made.
    await asyncio.sleep(1.5 * LEASE_S)
    make.go.set()
    assert await asyncio.gather(*asking) == [b"answer"] * 500
    assert make.asked == 1
    counts = [cache.counts() for cache in (one, two)]
    assert sum(count["asked"] for count in counts) == 500
    assert sum(count["made"] for count in counts) == 1
    assert sum(count["from_redis"] for count in counts) == 1
    assert sum(count["joined"] for count in counts) == 498


async def test_a_request_that_is_cancelled_takes_the_answer_from_nobody(replica: Replica) -> None:
    cache = await replica()
    make = Maker(free=False)
    asking = [asyncio.create_task(cache.get("cancelled", make, SHORT_TERM)) for _ in range(10)]
    await until(lambda: make.asked == 1)
    for task in asking[:9]:
        task.cancel()
    make.go.set()
    assert await asking[9] == b"answer"
    assert make.asked == 1


_DIES = """
import asyncio, sys
from config.cache_settings import CacheSettings
from serve_apps.cache import SHORT_TERM, Cache
from serve_apps.cache_redis import Shelf
async def make():
    print("making", flush=True)
    await asyncio.Event().wait()
asyncio.run(Cache(CacheSettings(), Shelf(sys.argv[1], "test:", 2, patience_s=5)).get("dies", make, SHORT_TERM))
"""


async def test_when_the_one_who_makes_it_dies_the_next_takes_over(replica: Replica, server: RedisServer) -> None:
    cache = await replica()
    arguments = [sys.executable, "-c", _DIES, server.url]
    dying = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert dying.stdout is not None
        assert await dying.stdout.readline() == b"making\n"
        make = Maker()
        asking = asyncio.create_task(cache.get("dies", make, SHORT_TERM))
        await asyncio.sleep(1.5 * LEASE_S)
        assert make.asked == 0, "while it lives and renews its lease, nobody else makes it"
    finally:
        dying.kill()
        await dying.communicate()
    assert await asyncio.wait_for(asking, 10) == b"answer"
    assert make.asked == 1


async def test_one_that_fails_is_followed_by_the_next_and_says_why(replica: Replica) -> None:
    one, two = await replica(), await replica()

    async def fails() -> bytes:
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        await one.get("fails", fails, SHORT_TERM)
    assert await two.get("fails", Maker(), SHORT_TERM) == b"answer"
    assert one.counts()["failed"] == 1


async def test_one_who_comes_late_after_its_lease_has_passed_on_is_refused(server: RedisServer) -> None:
    late, next_one = (Shelf(server.url, "late:", lease_s, patience_s=PATIENCE_S) for lease_s in (0.1, 30))
    good = Clock()() + 60
    first = await late.lease("key")
    assert isinstance(first, Lease)
    assert await next_one.lease("key") is False
    second: Lease | bool = False

    async def passed() -> bool:
        nonlocal second
        second = await next_one.lease("key")
        return isinstance(second, Lease)

    await until(passed)
    assert isinstance(second, Lease)
    assert second.token > first.token
    assert not await late.renew(first)
    assert await next_one.store(second, Kept(b"new", good, good))
    assert not await late.store(first, Kept(b"old", good, good))
    kept = await late.look("key")
    assert kept is not None and kept.body == b"new"
    assert await late.lease("key") is True, "there is a fresh answer"
    await late.close()
    await next_one.close()


async def test_what_is_made_invalid_while_it_is_made_is_not_kept(replica: Replica) -> None:
    one, two = await replica(), await replica()
    old = Maker(b"old", free=False)
    asking = asyncio.create_task(one.get("changes", old, SHORT_TERM))
    await until(lambda: old.asked == 1)
    await two.forget_below("changes")
    new = Maker(b"new")
    assert await two.get("changes", new, SHORT_TERM) == b"new"
    old.go.set()
    assert await asking == b"old", "it was asked before the change"
    assert one.counts()["refused_late"] == 1
    await until(lambda: _gives(one, "changes", b"new"))
    assert new.asked == 1


async def _gives(cache: Cache, key: str, expected: bytes) -> bool:
    return await cache.get(key, Maker(b"made again"), SHORT_TERM) == expected


async def test_all_replicas_forget_what_one_is_told_to(replica: Replica) -> None:
    one, two = await replica(), await replica()
    for key in ("bars:a:1", "bars:b:1"):
        for cache in (one, two):
            assert await cache.get(key, Maker(b"old"), LONG_TERM) == b"old"
    assert await one.forget_below("bars:a:") == 1
    await until(lambda: two.counts()["entries"] == 1)
    assert await two.get("bars:a:1", Maker(b"new"), LONG_TERM) == b"new"
    assert await one.get("bars:b:1", Maker(b"new"), LONG_TERM) == b"old"


async def test_clearing_touches_only_what_is_the_caches(replica: Replica, server: RedisServer) -> None:
    cache = await replica()
    other = Shelf(server.url, "", 1, patience_s=PATIENCE_S)
    for key in ("test:books", "other:cache:value:key"):
        await other._redis.set(key, "stays")
    assert await cache.get("key[*]", Maker(), SHORT_TERM) == b"answer"
    assert await cache.forget_below("key[*]") == 1
    assert await cache.forget_below("") == 0
    assert await other._redis.mget("test:books", "other:cache:value:key") == [b"stays"] * 2
    await other.close()


async def test_a_stale_answer_is_given_at_once_while_a_new_one_is_made(replica: Replica) -> None:
    clock = Clock()
    one, two = await replica(clock), await replica(clock)
    assert await one.get("stale", Maker(b"old"), REAL_TIME) == b"old"
    clock.offset = 15
    new = Maker(b"new", free=False)
    assert await one.get("stale", new, REAL_TIME) == b"old"
    assert await two.get("stale", new, REAL_TIME) == b"old", "from Redis"
    await until(lambda: new.asked == 1)
    new.go.set()
    await until(lambda: _gives(one, "stale", b"new"))
    assert new.asked == 1
    clock.offset = 100
    assert await two.get("stale", Maker(b"newest"), REAL_TIME) == b"newest", "older than that is never given"


async def test_what_is_made_beside_an_answer_counts_for_nobody(replica: Replica) -> None:
    clock = Clock()
    one, two = await replica(clock), await replica(clock)
    for cache in (one, two):
        await cache.get("beside", Maker(b"old"), REAL_TIME)
    clock.offset = 15
    await one.get("beside", Maker(b"new"), REAL_TIME)
    await until(lambda: _gives(one, "beside", b"new"))
    before = two.counts()
    await two.get("beside", Maker(b"none"), REAL_TIME)
    await until(lambda: not two._making)
    after = two.counts()
    given = {name: after[name] - before[name] for name in ("asked", "from_memory", "from_redis", "stale")}
    assert given == {"asked": 1, "from_memory": 0, "from_redis": 0, "stale": 1}


async def test_that_there_is_nothing_is_remembered_for_seconds(replica: Replica) -> None:
    clock = Clock()
    one, two = await replica(clock), await replica(clock)
    nothing = Maker(None)
    for cache in (one, two, one):
        assert await cache.get("nothing", nothing, LONG_TERM) is None
    assert nothing.asked == 1
    clock.offset = 6
    assert await one.get("nothing", Maker(), LONG_TERM) == b"answer"


async def test_a_taken_over_answer_lives_no_longer_than_it_did(replica: Replica) -> None:
    clock = Clock()
    one, two = await replica(clock), await replica(clock)
    await one.get("age", Maker(b"old"), Strategy(10, 0))
    clock.offset = 8
    assert await two.get("age", Maker(b"new"), Strategy(10, 0)) == b"old"
    clock.offset = 11
    assert await two.get("age", Maker(b"new"), Strategy(10, 0)) == b"new"


async def test_without_redis_the_memory_goes_on_alone_and_keeps_nothing_for_long(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        clock = Clock()
        cache = Cache(SETTINGS, Shelf(server.url, "", LEASE_S, clock), clock)
        make = Maker()
        assert await cache.get("first", make, LONG_TERM) == b"answer"
        await until(lambda: cache.counts()["hears_redis"])
        server.freeze()
        began = clock()
        assert await cache.get("frozen", make, LONG_TERM) == b"answer"
        assert await cache.get("frozen", make, LONG_TERM) == b"answer"
        assert clock() - began < 5
        assert make.asked == 2
        server.thaw()
        server.stop()
        assert await cache.get("gone", make, LONG_TERM) == b"answer"
        assert await cache.forget_below("") is None
        assert await cache.all_counts() is None
        assert await cache.get("gone", make, LONG_TERM) == b"answer"
        clock.offset = 25
        assert await cache.get("gone", make, LONG_TERM) == b"answer"
        assert make.asked == 5
        server.start()
        await until(lambda: cache.counts()["hears_redis"])
        await until(lambda: _shared(cache))
        await cache.close()


async def _shared(cache: Cache) -> bool:
    await cache.forget_below("again")
    await cache.get("again", Maker(), LONG_TERM)
    shelf = cache._shelf
    assert shelf is not None
    try:
        return await shelf.look("again") is not None
    except Away:
        return False


async def test_counts_of_all_replicas_are_known_to_each(replica: Replica) -> None:
    one, two = await replica(), await replica()
    assert one._shelf is not None
    # Replicas of other tests are remembered for a while.
    await one._shelf._redis.delete("test:cache:counts")
    await one.get("counted", Maker(), MEDIUM_TERM)
    await two.get("counted", Maker(), MEDIUM_TERM)
    await two.get("counted", Maker(), MEDIUM_TERM)

    async def told() -> bool:
        counts = await one.all_counts()
        assert counts is not None
        mine = [count for count in counts.values() if count["asked"]]
        return sorted(count["asked"] for count in mine) == [1, 2] and sum(count["made"] for count in mine) == 1

    await until(told)


async def test_times_are_spread_so_that_not_all_end_at_once() -> None:
    numbers = iter([0.0, 0.999])
    cache = Cache(CacheSettings(jitter=0.5), None, lambda: 1000.0, chance=lambda: next(numbers))
    for key in ("a", "b"):
        await cache.get(key, Maker(), Strategy(8, 0))
    kept = [cache._memory.get(key, 1000.0) for key in ("a", "b")]
    assert [round(one.fresh_until - 1000, 1) for one in kept if one] == [8.0, 4.0]
    await cache.close()


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 900) | st.none(), st.booleans())))
def test_the_memory_never_holds_more_than_it_may_and_keeps_what_was_used_last(
    steps: list[tuple[str, int | None, bool]],
) -> None:
    memory = Memory(3000)
    for key, size, read in steps:
        if read:
            memory.get(key, 0.0)
        else:
            memory.put(key, Kept(None if size is None else b"x" * size, 1.0, 2.0))
            assert memory.get(key, 0.0) is not None
        assert 0 <= memory.nbytes <= 3000
    for key in "abcdefgh":
        memory.drop(key)
    assert (memory.nbytes, len(memory)) == (0, 0)


def test_what_is_too_large_or_too_old_is_not_in_the_memory() -> None:
    memory = Memory(1000)
    memory.put("large", Kept(b"x" * 900, 1.0, 2.0))
    memory.put("old", Kept(b"x", 1.0, 2.0))
    assert memory.get("large", 0.0) is None
    assert memory.get("old", 2.0) is None
    assert memory.nbytes == 0
