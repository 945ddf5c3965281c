"""The overview in Redis: who asks for all where several instances share one, and what it says. A lease with a token:
each new leader gets a larger one than any before it (the time of Redis, so also after Redis lost its memory), and Redis
takes a summary with the newest token alone, in one step with looking. So whoever was stalled and goes on comes too
late.
"""

import asyncio
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from storage.redis import LATEST_SECONDS, STREAM, STREAM_LENGTH
from storage.redis_connection import opened

LATEST: Final = "latest_market_data"
LEASE: Final = "market_overview:leader"
TOKEN: Final = "market_overview:token"  # noqa: S105 - not a secret
#: Rather no answer of Redis than a late one: everything goes on without it.
PATIENCE_S: Final = 1.0

# KEYS lease, token; ARGV holder, lease in ms. Gives the holder's token, 0 while somebody else holds it.
_HOLD: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
local token = redis.call('GET', KEYS[2])
if not (holder and token) then
  local time = redis.call('TIME')
  token = string.format('%.0f', math.max(time[1] * 1000000 + time[2], tonumber(token or '0') + 1))
  redis.call('SET', KEYS[2], token)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(token)
"""
# KEYS token, latest, stream; ARGV token, summary, its life in ms, entries. Gives whether it was taken.
_WRITE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'data', ARGV[2])
return 1
"""
# KEYS lease; ARGV holder.
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Away(Exception):
    """Redis does not answer now."""


class OverviewRedis:
    """One for each process that may lead; `holder` names it and nobody else. Everything raises `Away` when Redis does
    not answer in time. Raises `ValueError` for a url that cannot be one."""

    def __init__(self, url: str, prefix: str, holder: str, lease_s: float, patience_s: float = PATIENCE_S) -> None:
        self._redis = opened(url)
        self._prefix = prefix
        self._holder = holder
        self._lease_ms = max(1, round(lease_s * 1000))
        self._patience_s = patience_s

    async def hold(self) -> int:
        """Become the leader, or stay it: the token to write with, 0 while somebody else leads."""
        return int(await self._run(_HOLD, (LEASE, TOKEN), self._holder, self._lease_ms))

    async def write(self, token: int, said: bytes) -> bool:
        """Publish a summary (JSON); False, and nothing happens, for one whose lead has passed to somebody else."""
        given = (token, said, LATEST_SECONDS * 1000, STREAM_LENGTH)
        return bool(await self._run(_WRITE, (TOKEN, LATEST, STREAM), *given))

    async def latest(self) -> dict[str, Any] | None:
        """What was published last, by whomever; None where there is nothing that can be read."""
        body = await self._asked(self._redis.get(self._prefix + LATEST))
        try:
            said = None if body is None else msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return said if isinstance(said, dict) and isinstance(said.get("fields"), dict) else None

    async def release(self) -> None:
        """Let another lead at once."""
        await self._run(_RELEASE, (LEASE,), self._holder)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _run(self, script: str, keys: tuple[str, ...], *arguments: Any) -> Any:
        return await self._asked(self._redis.eval(script, len(keys), *(self._prefix + key for key in keys), *arguments))

    async def _asked(self, question: Any) -> Any:
        try:
            async with asyncio.timeout(self._patience_s):
                return await question
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            raise Away from error
