"""The second tier of the cache: what all replicas share in Redis, who makes an answer for all of them, and what they
tell each other to forget.

Whoever makes an answer holds a short lease and renews it. With the lease comes a token that is larger than all before
(the time of Redis, so also after Redis lost its memory): what is stored has its token, and one who comes late, after
the lease has passed on or the key was made invalid, is refused. All keys begin with the namespace of the instance and
`cache:`, so clearing touches nothing else.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from serve_apps.cache_memory import Kept
from storage.redis_connection import opened

#: Rather no answer of Redis than a late one: everything here is done without it when it is away.
PATIENCE_S: Final = 0.5
#: One who has just not answered is not asked again at once.
RETRY_S: Final = 1.0
#: What a replica has counted is shown for so long after it last said it.
COUNTS_S: Final = 15.0
_SCAN: Final = 500
#: What a pattern of Redis does not take for itself.
_SPECIAL: Final = re.compile(r"[*?\[\]^\\]")

_NEXT: Final = """
local function new_token(counter)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local token = string.format('%.0f', math.max(now, tonumber(redis.call('GET', counter) or '0') + 1))
  redis.call('SET', counter, token)
  return token
end
"""
# KEYS value, lease, counter; ARGV holder, lease in ms, now in s. Gives the token, 0: held, -1: there is an answer now.
_LEASE: Final = (
    _NEXT
    + """
local fresh = redis.call('HGET', KEYS[1], 'fresh')
if fresh and tonumber(fresh) > tonumber(ARGV[3]) then return -1 end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
return tonumber(new_token(KEYS[3]))
"""
)
# KEYS lease; ARGV holder, lease in ms.
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
# KEYS lease; ARGV holder.
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
# KEYS value, lease, floor; ARGV token, holder, body ('' for none), whether there is one, fresh, stale, its life in ms.
_STORE: Final = """
local token = tonumber(ARGV[1])
local last = math.max(
  tonumber(redis.call('HGET', KEYS[1], 'token') or '0'), tonumber(redis.call('GET', KEYS[3]) or '0'))
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
if token <= last then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'body', ARGV[3], 'found', ARGV[4], 'fresh', ARGV[5], 'stale', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return 1
"""
# KEYS floor, counter.
_RAISE_FLOOR: Final = _NEXT + "redis.call('SET', KEYS[1], new_token(KEYS[2]))"


class Away(Exception):
    """Redis does not answer now."""


class Lease(msgspec.Struct, frozen=True):
    """The right to make an answer for all; see above."""

    key: str
    holder: str
    token: int


class Shelf:
    """The shared tier. Everything it does raises `Away` within `patience_s` when Redis does not answer."""

    def __init__(
        self,
        url: str,
        prefix: str,
        lease_s: float,
        clock: Callable[[], float] = time.time,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._redis = opened(url)
        self._prefix = f"{prefix}cache:"
        self._channel = f"{prefix}cache:forget"
        self._lease_ms = round(lease_s * 1000)
        self._clock = clock
        self._patience_s = patience_s
        self._away_until = 0.0

    @property
    def answers(self) -> bool:
        """Whether Redis did when it was last asked."""
        return time.monotonic() >= self._away_until

    async def look(self, key: str) -> Kept | None:
        """What is kept, fresh or stale."""
        found = await self._asked(self._redis.hmget(self._value(key), "found", "body", "fresh", "stale"))
        has_body, body, fresh, stale = found
        if stale is None or float(stale) <= self._clock():
            return None
        return Kept(body if has_body == b"1" else None, float(fresh), float(stale))

    async def lease(self, key: str) -> Lease | bool:
        """The right to make it; True when there is a fresh answer now, False while somebody else has the right."""
        holder = secrets.token_hex(8)
        keys = (self._value(key), self._lease_of(key), self._prefix + "counter")
        token = int(await self._run(_LEASE, keys, holder, self._lease_ms, repr(self._clock())))
        return Lease(key, holder, token) if token > 0 else token < 0

    async def renew(self, lease: Lease) -> bool:
        """Hold it on; False when it has passed to somebody else."""
        return bool(await self._run(_RENEW, (self._lease_of(lease.key),), lease.holder, self._lease_ms))

    async def release(self, lease: Lease) -> None:
        """Let the next one try."""
        await self._run(_RELEASE, (self._lease_of(lease.key),), lease.holder)

    async def store(self, lease: Lease, kept: Kept) -> bool:
        """Keep it for all and give the lease back; False, and nothing is kept, for one who comes too late."""
        life_ms = max(1, round((kept.stale_until - self._clock()) * 1000))
        keys = (self._value(lease.key), self._lease_of(lease.key), self._prefix + "floor")
        times = (repr(kept.fresh_until), repr(kept.stale_until), life_ms)
        found = int(kept.body is not None)
        return bool(await self._run(_STORE, keys, lease.token, lease.holder, kept.body or b"", found, *times))

    async def forget_below(self, below: str) -> int:
        """Make all invalid whose keys begin like that, everywhere, also those being made now; gives how many were kept
        in Redis."""
        await self._run(_RAISE_FLOOR, (self._prefix + "floor", self._prefix + "counter"))
        removed = await self._unlink(self._value(below))
        # What is being made will be refused: nobody has to wait for it.
        await self._unlink(self._lease_of(below))
        await self._asked(self._redis.publish(self._channel, below))
        return removed

    async def _unlink(self, begin: str) -> int:
        removed, cursor = 0, 0
        pattern = _SPECIAL.sub(r"\\\g<0>", begin) + "*"
        while True:
            cursor, keys = await self._asked(self._redis.scan(cursor, match=pattern, count=_SCAN))
            if keys:
                removed += await self._asked(self._redis.unlink(*keys))
            if not cursor:
                return removed

    async def told(self) -> AsyncIterator[str]:
        """What keys that are to be forgotten begin with, as it is told. All ("") when it listens from now on: what was
        told before is unknown. Raises `Away` when Redis has gone."""
        try:
            async with self._redis.pubsub() as listening:
                await listening.subscribe(self._channel)
                while True:
                    message = await listening.get_message(timeout=1.0)
                    if message is None:
                        # One that is frozen says nothing either.
                        await self._asked(self._redis.ping())
                    elif message["type"] == "subscribe":
                        yield ""
                    elif message["type"] == "message":
                        yield message["data"].decode()
        except (RedisError, OSError) as error:
            raise Away from error

    async def tell_counts(self, replica: str, counts: bytes) -> None:
        """Let all know what a replica has counted (JSON)."""
        said = msgspec.json.encode((self._clock(), msgspec.Raw(counts)))
        await self._asked(self._redis.hset(self._prefix + "counts", replica, said))

    async def counts(self) -> dict[str, dict[str, Any]]:
        """By replica, what those counted that said so lately; those that have gone are removed."""
        found: dict[bytes, bytes] = await self._asked(self._redis.hgetall(self._prefix + "counts"))
        told = {replica: msgspec.json.decode(said) for replica, said in found.items()}
        gone = [replica for replica, (when, _) in told.items() if when < self._clock() - COUNTS_S]
        if gone:
            await self._asked(self._redis.hdel(self._prefix + "counts", *gone))
        return {replica.decode(): counts for replica, (_, counts) in told.items() if replica not in gone}

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _value(self, key: str) -> str:
        return f"{self._prefix}value:{key}"

    def _lease_of(self, key: str) -> str:
        return f"{self._prefix}lease:{key}"

    async def _run(self, script: str, keys: tuple[str, ...], *arguments: Any) -> Any:
        return await self._asked(self._redis.eval(script, len(keys), *keys, *arguments))

    async def _asked(self, question: Any) -> Any:
        answer: Awaitable[Any] = question
        if not self.answers:
            # Never awaited, and said so by nobody.
            getattr(answer, "close", lambda: None)()
            raise Away
        try:
            async with asyncio.timeout(self._patience_s):
                return await answer
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            self._away_until = time.monotonic() + RETRY_S
            raise Away from error
