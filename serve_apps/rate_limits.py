"""How often somebody may ask: a token bucket for each, in Redis, so that all replicas count together.

One script looks and takes, so that no two requests get the same token; its clock is that of Redis. While Redis is away
each replica counts for itself, which is noted.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from actors.buckets import Buckets, Taken
from config.security_settings import RateSettings

#: Rather a count of its own than a late answer.
ANSWER_S: Final = 0.25
MOST_CONNECTIONS: Final = 16
#: A Redis that did not answer is asked again after this.
AWAY_S: Final = 1.0

#: As `actors.buckets.Buckets`, in whole microseconds. KEYS: the bucket. ARGV: microseconds until there is one more,
#: and until an empty one is full.
_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, whole = tonumber(ARGV[1]), tonumber(ARGV[2])
local before = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
local after = before + interval
if after - now > whole then
    return {0, 0, before - now, after - now - whole}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((whole - (after - now)) / interval), after - now, math.max(0, after + interval - now - whole)}
"""
_DIGEST: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_MICROSECOND: Final = 1e-6

log = structlog.get_logger(__name__)


class RateLimits:
    """Buckets in the Redis at `url`, their keys after `prefix`; without a url, of this process alone."""

    def __init__(
        self,
        url: str | None,
        prefix: str,
        clock: Callable[[], float] = time.monotonic,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._redis = None if url is None else _opened(url, answer_s)
        self._prefix = f"{prefix}rate_limit:"
        self._clock = clock
        self._own: dict[tuple[int, float], Buckets] = {}
        self._asked_again_at = 0.0
        #: Requests that were counted here alone.
        self.counted_alone = 0

    async def take(self, who: str, limit: RateSettings) -> Taken:
        """One request of `who` (`user:...`, `ip:...`)."""
        now = self._clock()
        if self._redis is not None and now >= self._asked_again_at:
            try:
                taken = await self._ask(self._redis, who, limit)
                if self._asked_again_at:
                    self._asked_again_at = 0.0
                    log.info("requests are counted by all replicas together again", alone=self.counted_alone)
                return taken
            except (RedisError, OSError, TimeoutError) as error:
                self._asked_again_at = now + AWAY_S
                log.warning("requests are counted by each replica alone", error=type(error).__name__)
        self.counted_alone += 1
        sizes = (limit.requests, limit.per_s)
        if sizes not in self._own:
            self._own[sizes] = Buckets(*sizes)
        return self._own[sizes].take(who, now)

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, redis: Redis, who: str, limit: RateSettings) -> Taken:
        interval = max(1, round(limit.per_s / limit.requests * 1e6))
        given = (1, self._prefix + who, interval, interval * limit.requests)
        try:
            said: Any = await redis.evalsha(_DIGEST, *given)
        except NoScriptError:
            said = await redis.eval(_SCRIPT, *given)
        allowed, left, full_in, retry_in = said
        return Taken(bool(allowed), int(left), full_in * _MICROSECOND, retry_in * _MICROSECOND)


def _opened(url: str, answer_s: float) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=answer_s,
        socket_connect_timeout=answer_s,
        socket_timeout=answer_s,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)
