"""The best quotes over exchanges in a whole instance: without an exchange that is gone, and with it again."""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cluster.instance import Instance as InstanceFolder
from tests.cluster.running import Instance, rayfeed_up
from tests.polling import wait_until

BBO = "/api/v1/bbo"
#: A lost connection is known within a second, where nobody else wants the processors.
DROP_S = 3.0
BACK_S = 60.0
#: Shards hand quotes on four times a second.
SEEN_MS = 1000.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Three exchanges that have BTC-USDT; whatever pays at all is an opportunity."""
    pays = {"RAYFEED_ARBITRAGE__MIN_SPREAD": "0", "RAYFEED_ARBITRAGE__MIN_PROFIT": "0"}
    fees = {f"RAYFEED_ARBITRAGE__FEES__{name}__SPOT": "0" for name in ("BINANCE", "BYBIT", "OKX")}
    data = tmp_path_factory.mktemp("watched") / "data"
    with rayfeed_up(data, "--exchanges", "binance,bybit,okx", environment=pays | fees) as instance:
        wait_until(lambda: counted(instance) == 3, BACK_S)
        yield instance


def best(instance: Instance) -> Any:
    return instance.json(f"{BBO}/BTC-USDT")


def counted(instance: Instance) -> int:
    status, _, body = instance.get(f"{BBO}/BTC-USDT")
    return int(json.loads(body)["exchanges"]) if status == 200 else 0


def left_out(instance: Instance) -> dict[str, str]:
    return {quote["exchange"]: quote["left_out"] for quote in best(instance)["quotes"]}


def test_the_best_of_all_exchanges_is_over_http_in_redis_and_in_notebooks(watched: Instance) -> None:
    row = best(watched)
    bids = {quote["exchange"]: quote["bid_price"] for quote in row["quotes"]}
    assert row["bid_price"] == max(bids.values()) == bids[row["bid_exchange"]]
    instruments = [row["instrument"] for row in watched.json(BBO)]
    assert {"BTC-USDT", "ETH-USDT", "BTC-USDT-PERPETUAL"} <= set(instruments)
    assert watched.inside("answer = list(feed.best().index)") == instruments
    assert watched.inside("answer = sorted(feed.best('BTC-USDT').reset_index()['exchange'])") == sorted(bids)
    status, headers, body = watched.get(f"{BBO}/BTC-EUR")
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert BBO in json.loads(body)["detail"]
    details = InstanceFolder.read(watched.data)
    assert details is not None and details.details is not None
    client = redis.Redis.from_url(details.details.redis_url)
    kept = json.loads(client.get("bbo:BTC-USDT"))  # type: ignore[arg-type]
    client.close()
    assert time.time_ns() - kept["time"] < 30e9
    assert kept["exchanges"] == 3


def test_a_dead_exchange_is_dropped_in_time_and_comes_back(watched: Instance) -> None:
    wait_until(lambda: counted(watched) == 3, BACK_S)
    watched.inside("answer = 1")
    lost = time.monotonic()
    watched.inside("feed.fault('okx', 'restart', seconds=4); answer = 1")
    wait_until(lambda: counted(watched) == 2, DROP_S)
    took = time.monotonic() - lost
    assert left_out(watched)["okx"] == "dead"
    wait_until(lambda: counted(watched) == 3, BACK_S)
    assert set(left_out(watched).values()) == {""}
    print(f"dropped {took * 1000:.0f} ms after its connection ended, back {time.monotonic() - lost:.1f} s after it")


def test_arbitrage_is_one_row_for_as_long_as_it_pays_and_is_stored(watched: Instance) -> None:
    wait_until(lambda: any(row["closed"] for row in watched.json("/api/v1/arbitrage")), BACK_S)
    rows = watched.json("/api/v1/arbitrage")
    assert all(row["buy_exchange"] != row["sell_exchange"] and row["profit"] >= 0 for row in rows)
    over = next(row for row in rows if row["closed"])
    keys = ("buy_exchange", "buy_symbol", "sell_exchange", "sell_symbol", "opened", "closed", "ended")
    sql = f"SELECT {', '.join(keys)} FROM arbitrage FINAL WHERE closed IS NOT NULL"

    def stored() -> Any:
        return watched.inside(f"answer = ray.get(find_actor('database').query.remote({sql!r})).to_pylist()")

    wait_until(lambda: {key: over[key] for key in keys} in stored())
    assert watched.inside("answer = list(feed.arbitrage().columns)")[-1] == "lasted"


def test_a_quote_is_seen_over_http_soon_after_it_was_received(watched: Instance) -> None:
    ages, seen = [], set()
    until = time.monotonic() + 8
    while time.monotonic() < until:
        quotes = best(watched)["quotes"]
        now_ns = time.time_ns()
        ages += [(now_ns - one["ts_recv"]) / 1e6 for one in quotes if (one["exchange"], one["ts_recv"]) not in seen]
        seen |= {(one["exchange"], one["ts_recv"]) for one in quotes}
        time.sleep(0.005)
    ages.sort()
    print(
        f"{len(ages)} quotes, first seen after {ages[len(ages) // 2]:.0f} ms in the median, {ages[-1]:.0f} ms at most"
    )
    assert len(ages) > 20
    assert ages[len(ages) // 2] < SEEN_MS


def test_when_the_market_watch_dies_nothing_else_waits_and_it_knows_everything_again(watched: Instance) -> None:
    actors = watched.actors()
    os.kill(actors["market_watch"]["pid"], signal.SIGKILL)
    trades = actors["shard:0"]["TRADES"] + actors["shard:1"]["TRADES"]

    def grown() -> bool:
        now = watched.actors()
        unsunk = now["shard:0"]["unsunk"] + now["shard:1"]["unsunk"]
        assert unsunk == actors["shard:0"]["unsunk"] + actors["shard:1"]["unsunk"]
        return bool(now["shard:0"]["TRADES"] + now["shard:1"]["TRADES"] > trades + 100)

    wait_until(grown)
    wait_until(lambda: counted(watched) == 3, BACK_S)
    assert watched.actors()["market_watch"]["pid"] != actors["market_watch"]["pid"]
    lost = "SELECT count() AS n FROM arbitrage FINAL WHERE ended = 'lost'"
    left = "SELECT count() AS n FROM arbitrage FINAL WHERE closed IS NULL"

    def number(sql: str) -> int:
        said = watched.inside(f"answer = ray.get(find_actor('database').query.remote({sql!r})).to_pylist()")
        return int(said[0]["n"])

    wait_until(lambda: number(lost) > 0 or number(left) <= watched.actors()["market_watch"]["episodes_open"])
