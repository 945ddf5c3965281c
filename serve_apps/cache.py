"""The cache of the replicas: what one of them has made is given by all until it is too old.

Two tiers: the memory of the replica, then Redis. A key is made once at a time, in all replicas together: requests in
one replica wait for one task, which no request can cancel, and replicas hold a lease (see `serve_apps.cache_redis`).
What is a little too old is given while one makes it anew. Without Redis the memory goes on alone, and keeps nothing
for long, as nobody could tell it to forget.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from config.cache_settings import CacheSettings
from serve_apps.cache_memory import Kept, Memory
from serve_apps.cache_redis import Away, Lease, Shelf

#: Without Redis nothing is fresh for longer.
ALONE_S: Final = 10.0
#: Who waits for another replica's answer for so long makes it alone.
WAIT_S: Final = 30.0
_FIRST_WAIT_S: Final = 0.01
_LONGEST_WAIT_S: Final = 0.1
_COUNTS_EVERY_S: Final = 2.0
_COUNTED: Final = (
    "asked", "from_memory", "from_redis", "stale", "made", "failed", "joined", "none", "forgotten", "refused_late",
)  # fmt: skip

#: Makes an answer; None where there is none, which is remembered for a while.
Make = Callable[[], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class Strategy:
    """For how long an answer is fresh, for how long after that it may be given while a new one is made, and for how
    long it is remembered that there is none."""

    fresh_s: float
    stale_s: float
    none_s: float = 5.0


REAL_TIME: Final = Strategy(10, 10)
SHORT_TERM: Final = Strategy(300, 300)
MEDIUM_TERM: Final = Strategy(3600, 3600)
LONG_TERM: Final = Strategy(10800, 10800)


class Cache:
    """One for each replica; `shelf` is what it shares with the others, None where there is no Redis. Used on one event
    loop."""

    def __init__(
        self,
        settings: CacheSettings,
        shelf: Shelf | None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._memory = Memory(settings.memory_bytes)
        self._shelf = shelf
        self._clock = clock
        self._chance = chance
        self._making: dict[str, asyncio.Task[bytes | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listener: asyncio.Task[None] | None = None
        self._hears = False
        self._changes = 0
        self._counts = Counter[str]()

    async def get(self, key: str, make: Make, strategy: Strategy) -> bytes | None:
        """The answer of that key, made by `make` when nobody has a good one. Raises what `make` raises."""
        self._listen()
        self._counts["asked"] += 1
        kept = self._memory.get(key, self._clock())
        if kept is None:
            if key in self._making:
                self._counts["joined"] += 1
            # One who goes away does not take it from the others.
            return await asyncio.shield(self._made(key, make, strategy))
        if self._clock() < kept.fresh_until:
            self._counts["from_memory"] += 1
        else:
            self._counts["stale"] += 1
            self._made(key, make, strategy, waited_for=False)
        self._counts["none"] += kept.body is None
        return kept.body

    async def forget_below(self, prefix: str) -> int | None:
        """Make all answers invalid whose keys begin like that, in all replicas, also those just being made; how many
        there were in Redis, None when it is away."""
        self._listen()
        self._forget(prefix)
        if self._shelf is None:
            return None
        try:
            return await self._shelf.forget_below(prefix)
        except Away:
            return None

    def counts(self) -> dict[str, Any]:
        """What this replica has counted since it started, and what it holds."""
        return {name: self._counts[name] for name in _COUNTED} | {
            "entries": len(self._memory),
            "bytes": self._memory.nbytes,
            "most_bytes": self._settings.memory_bytes,
            "evicted": self._memory.evicted,
            "being_made": len(self._making),
            "hears_redis": self._hears,
        }

    async def all_counts(self) -> dict[str, dict[str, Any]] | None:
        """What all replicas counted, by replica; None when Redis is away."""
        self._listen()
        if self._shelf is None:
            return None
        try:
            return await self._shelf.counts()
        except Away:
            return None

    async def close(self) -> None:
        """End what goes on beside the requests."""
        tasks = [*self._tasks, *self._making.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._shelf is not None:
            await self._shelf.close()

    def _made(self, key: str, make: Make, strategy: Strategy, waited_for: bool = True) -> asyncio.Task[bytes | None]:
        """The one task of this replica that gets a good answer; `waited_for` by who has none yet."""
        if (task := self._making.get(key)) is None:
            task = self._making[key] = self._beside(self._find(key, make, strategy, waited_for))
            task.add_done_callback(lambda done: self._done(key, done))
        return task

    def _done(self, key: str, task: asyncio.Task[bytes | None]) -> None:
        if self._making.get(key) is task:
            del self._making[key]

    async def _find(self, key: str, make: Make, strategy: Strategy, waited_for: bool) -> bytes | None:
        changes, shelf = self._changes, self._shelf
        if shelf is None:
            return await self._make_alone(key, make, strategy)
        deadline, wait_s = self._clock() + WAIT_S, _FIRST_WAIT_S
        try:
            while self._clock() < deadline:
                kept = await shelf.look(key)
                if kept is not None and self._clock() < kept.fresh_until:
                    self._counts["from_redis"] += waited_for
                    self._keep(key, kept, changes)
                    return kept.body
                lease = await shelf.lease(key)
                if isinstance(lease, Lease):
                    making = self._beside(self._make_for_all(shelf, lease, make, strategy, changes))
                    if kept is None:
                        return await asyncio.shield(making)
                if kept is not None and lease is not True:
                    self._counts["stale"] += waited_for
                    self._keep(key, kept, changes)
                    return kept.body
                await asyncio.sleep(wait_s * (0.5 + self._chance()))
                wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)
        except Away:
            pass
        return await self._make_alone(key, make, strategy)

    async def _make_alone(self, key: str, make: Make, strategy: Strategy) -> bytes | None:
        changes = self._changes
        kept = self._kept(await self._counted(make), strategy, alone=True)
        self._keep(key, kept, changes)
        return kept.body

    async def _make_for_all(
        self, shelf: Shelf, lease: Lease, make: Make, strategy: Strategy, changes: int
    ) -> bytes | None:
        holding = self._beside(self._hold(shelf, lease))
        try:
            kept = self._kept(await self._counted(make), strategy, alone=not self._hears)
        except BaseException:
            with contextlib.suppress(Away):
                await shelf.release(lease)
            raise
        finally:
            holding.cancel()
        stored = True
        with contextlib.suppress(Away):
            if len(kept.body or b"") <= self._settings.entry_bytes:
                stored = await shelf.store(lease, kept)
            else:
                await shelf.release(lease)
        if stored:
            self._keep(lease.key, kept, changes)
        else:
            self._counts["refused_late"] += 1
        return kept.body

    async def _counted(self, make: Make) -> bytes | None:
        try:
            body = await make()
        except BaseException:
            self._counts["failed"] += 1
            raise
        self._counts["made"] += 1
        return body

    async def _hold(self, shelf: Shelf, lease: Lease) -> None:
        """Renew it for as long as the answer takes."""
        with contextlib.suppress(Away):
            held = True
            while held:
                await asyncio.sleep(self._settings.lease_s / 3)
                held = await shelf.renew(lease)

    def _kept(self, body: bytes | None, strategy: Strategy, alone: bool) -> Kept:
        fresh_s = strategy.none_s if body is None else strategy.fresh_s
        fresh_s *= 1 - self._settings.jitter * self._chance()
        stale_s = 0.0 if body is None else strategy.stale_s
        if alone:
            fresh_s, stale_s = min(fresh_s, ALONE_S), min(stale_s, ALONE_S)
        now = self._clock()
        return Kept(body, now + fresh_s, now + fresh_s + stale_s)

    def _keep(self, key: str, kept: Kept, changes: int) -> None:
        # What was forgotten meanwhile may have been this.
        if changes == self._changes and len(kept.body or b"") <= self._settings.entry_bytes:
            self._memory.put(key, kept)

    def _listen(self) -> None:
        if self._shelf is not None and self._listener is None:
            self._listener = self._beside(self._hear(self._shelf))
            self._beside(self._tell_counts(self._shelf))

    async def _hear(self, shelf: Shelf) -> None:
        while True:
            with contextlib.suppress(Away):
                async for told in shelf.told():
                    self._forget(told)
                    self._hears = True
            self._hears = False
            await asyncio.sleep(0.5 + self._chance())

    async def _tell_counts(self, shelf: Shelf) -> None:
        replica = f"{random.getrandbits(64):016x}"
        while True:
            with contextlib.suppress(Away):
                await shelf.tell_counts(replica, msgspec.json.encode(self.counts()))
            await asyncio.sleep(_COUNTS_EVERY_S)

    def _forget(self, prefix: str) -> None:
        self._changes += 1
        self._counts["forgotten"] += 1
        self._memory.drop_below(prefix)
        for key in [key for key in self._making if key.startswith(prefix)]:
            del self._making[key]

    def _beside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that is ours until it ends; what it raises is for whoever waits for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
