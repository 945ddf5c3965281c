"""The live feed on the real embedded Redis."""

import asyncio
import json
from pathlib import Path

from redis.asyncio import Redis

from actors.alert_channels.live_feed import LiveFeed
from storage import redis
from storage.alert_log import Targets
from tests.actors.alert_channels.firings import firing
from tests.actors.alerting.tables import NOW
from tests.servers import PASSWORD, RedisServer, free_port


async def test_those_who_listen_hear_it_and_the_newest_stay_for_those_who_come_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        feed, client = LiveFeed(server.url), Redis.from_url(server.url)
        async with client.pubsub() as listening:
            await listening.subscribe(redis.ALERTS)
            assert (await listening.get_message(timeout=5))["type"] == "subscribe"
            assert (await feed.send(Targets(), firing())).status == "delivered"
            heard = await listening.get_message(timeout=5)
        assert json.loads(heard["data"])["delivery_id"] == f"3f0c:{NOW}"
        [(_, fields)] = await client.xrange(redis.ALERT_STREAM)
        assert fields[b"data"] == heard["data"]
        for number in range(redis.STREAM_LENGTH + 200):
            await feed.send(Targets(), firing(ts_event=number))
        assert redis.STREAM_LENGTH <= await client.xlen(redis.ALERT_STREAM) < redis.STREAM_LENGTH + 150
        await asyncio.to_thread(server.stop)
        outcome = await feed.send(Targets(), firing())
        assert outcome.status == "passing"
        assert PASSWORD not in outcome.error
        await asyncio.to_thread(server.start)
        assert (await feed.send(Targets(), firing())).status == "delivered"
        await client.aclose()
        await feed.close()


async def test_without_redis_it_may_pass() -> None:
    feed = LiveFeed(redis.url(free_port(), PASSWORD))
    outcome = await feed.send(Targets(), firing())
    assert outcome.status == "passing"
    assert outcome.error.startswith("Redis: ")
    await feed.close()
