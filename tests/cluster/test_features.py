"""Features of a running instance: of its newest bars and of a range the same, and those of the last bar in Redis."""

import datetime
import json
from typing import Any

import redis

from cluster.instance import Instance as Running
from tests.cluster.running import Instance
from tests.polling import wait_until

PATH = "/api/v1/features/BTCUSDT?exchange=binance"


def test_features_are_the_same_live_and_of_a_range_and_in_redis(simulated: Instance) -> None:
    def newest() -> list[dict[str, Any]]:
        status, _, body = simulated.get(f"{PATH}&timeframe=1s&limit=30")
        return json.loads(body)["features"] if status == 200 else []

    def are_the_same() -> bool:
        # Of seconds in which whatever was late has come; what came later still changes both.
        if len(live := newest()[:-3]) < 27 or not live[-1]["quoted_seconds_60s"] > 5:
            return False
        begin, end = (
            datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).isoformat().replace("+", "%2B")
            for ms in (live[0]["time"], live[-1]["time"] + 1000)
        )
        past = simulated.json(f"{PATH}&timeframe=1s&mode=batch&start_time={begin}&end_time={end}")
        assert past["count"] == len(past["features"])
        assert any(row["spread"] is not None for row in live)
        return bool(past["features"] == live)

    wait_until(are_the_same, 90)

    running = Running.read(simulated.data)
    assert running is not None
    assert running.details is not None
    assert running.details.redis_url is not None
    with redis.Redis.from_url(running.details.redis_url) as server:

        def of_minute() -> Any:
            return server.get("features:binance:BTCUSDT:1m")

        wait_until(lambda: of_minute() is not None, 90)
        stored = json.loads(of_minute())
    served = simulated.json(f"{PATH}&timeframe=1m&limit=5")["features"]
    assert stored["time"] * 1000 in [row["time"] for row in served]
    assert stored.keys() == served[-1].keys()
