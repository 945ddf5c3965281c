"""The live feed: Redis tells those who listen now, and keeps the newest firings for those who come back."""

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from actors.alerting.messages import as_json
from actors.alerting.retries import Outcome
from storage import redis
from storage.alert_log import Firing, Targets

ANSWER_S: Final = 5.0


class LiveFeed:
    """On the Redis at `url`; ValueError for one that cannot be."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0)
        )

    async def send(self, targets: Targets, firing: Firing) -> Outcome:
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                redis.write_alert(pipeline, as_json(firing))
                await pipeline.execute()
        except (RedisError, OSError) as error:
            return Outcome("passing", error=f"Redis: {str(error) or type(error).__name__}")
        return Outcome("delivered")

    async def close(self) -> None:
        await self._redis.aclose()
