"""The live feed: Redis tells those who listen now, and keeps the newest firings for those who come back."""

from redis.exceptions import RedisError

from actors.alerting.messages import as_json
from actors.alerting.retries import Outcome
from storage import redis
from storage.alert_log import Firing, Targets
from storage.redis_connection import complaint, opened


class LiveFeed:
    """On the Redis at `url`, with `prefix` before every name; ValueError for a url that cannot be one."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self._redis = opened(url)
        self._prefix = prefix

    async def send(self, targets: Targets, firing: Firing) -> Outcome:
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                redis.write_alert(pipeline, as_json(firing), self._prefix)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            return Outcome("passing", error=f"Redis: {complaint(error)}")
        return Outcome("delivered")

    async def close(self) -> None:
        await self._redis.aclose()
