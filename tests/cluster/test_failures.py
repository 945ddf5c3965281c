"""Parts of a running system are killed; what they did goes on, and no stored trade is lost or doubled."""

import asyncio
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from cluster.instance import Instance as Running
from serve_apps.data_answers import WHOLE_REPLY_BYTES
from storage.redis_consumer import Batch, Consumer
from storage.redis_streams import Hole
from tests.cluster.running import Instance, command, command_line, rayfeed_up
from tests.polling import wait_until


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    quick = {
        "RAYFEED_SIMULATOR__TRADES_PER_SECOND": "2000",
        "RAYFEED_EXCHANGES__BINANCE__SYMBOLS": '["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]',
    }
    data = tmp_path_factory.mktemp("lively") / "data"
    with rayfeed_up(data, environment=quick) as instance:
        wait_until(lambda: len(instance.json("/api/symbols")["symbols"]) == 4)
        yield instance


def trade_ids(instance: Instance, symbol: str) -> np.ndarray[Any, Any]:
    return instance.rows("binance", symbol, "TRADES", "id")["id"].astype(np.int64)


def symbols(instance: Instance) -> list[str]:
    listed: list[str] = instance.json("/api/symbols")["exchanges"]["binance"]
    return listed


def kill_actor(instance: Instance, name: str) -> None:
    """SIGKILL its process and wait until another one has taken its place."""
    before = instance.actors()[name]["pid"]
    os.kill(before, signal.SIGKILL)

    def replaced() -> bool:
        now = instance.actors()[name]
        return bool(now["answers"]) and now["pid"] != before

    wait_until(replaced)


def process(instance: Instance, title: str) -> psutil.Process:
    """The process of the instance that Ray has given this title."""
    family = psutil.Process(instance.process.pid).children(recursive=True)
    [found] = [one for one in family if title in "".join(command_line(one))]
    return found


def kill_child(instance: Instance, program: str) -> None:
    [child] = [c for c in psutil.Process(instance.process.pid).children() if program in c.name()]
    child.kill()


def keeps_growing(instance: Instance) -> None:
    before = {symbol: len(trade_ids(instance, symbol)) for symbol in symbols(instance)}
    wait_until(lambda: all(len(trade_ids(instance, symbol)) > rows for symbol, rows in before.items()))


def books_are_synced(instance: Instance) -> None:
    """All four, and served with a spread that makes sense."""

    def synced() -> bool:
        return [row["book"] for row in instance.collected().values()] == ["synced"] * 4

    wait_until(synced)
    for symbol in symbols(instance):
        book = instance.book("binance", symbol, levels=1)
        assert book["bids"][0][0] < book["asks"][0][0]


def test_a_killed_shard_comes_back_and_every_trade_is_there_once(lively: Instance) -> None:
    starts = {symbol: trade_ids(lively, symbol)[0] for symbol in symbols(lively)}
    books_are_synced(lively)
    books = lively.collected()
    for index in range(2):
        kill_actor(lively, f"shard:{index}")
        keeps_growing(lively)
    for symbol, first in starts.items():
        ids = trade_ids(lively, symbol)
        assert ids[0] == first
        assert np.array_equal(ids, np.arange(first, first + len(ids))), f"{symbol}: ids are not contiguous"
        bars = lively.json(f"/api/v1/charts/{symbol}?limit=5000")["bars"]
        assert sum(bar["trade_count"] for bar in bars) >= len(ids), "bars were read back from the files"
    assert lively.collected() == books, "books are no shard's business"


def test_a_killed_shard_goes_on_counting_where_it_was_killed(lively: Instance) -> None:
    def judged() -> dict[str, int]:
        counted = "{symbol: int(total) for (_, symbol), total in feed.quality()['total_checks'].items()}"
        found: dict[str, int] = lively.inside(f"answer = {counted}")
        return found

    def stands_still() -> bool:
        before = judged()
        time.sleep(0.5)
        return judged() == before

    assert command("sim", "halt", "binance", "--data", str(lively.data)).returncode == 0
    try:
        wait_until(stands_still)
        before = judged()
        for index in range(2):
            kill_actor(lively, f"shard:{index}")
        assert judged() == before
    finally:
        command("sim", "go", "binance", "--data", str(lively.data))
    keeps_growing(lively)
    wait_until(lambda: all(count > before[symbol] for symbol, count in judged().items()))


def test_a_killed_collector_connects_again_and_doubles_nothing(lively: Instance) -> None:
    kill_actor(lively, "collector:binance")
    keeps_growing(lively)
    for symbol in symbols(lively):
        ids = trade_ids(lively, symbol)
        assert np.all(np.diff(ids) > 0), f"{symbol}: a trade is stored twice"
    books_are_synced(lively)


def test_collectors_follow_a_simulator_that_was_killed_to_its_new_address(lively: Instance) -> None:
    kill_actor(lively, "simulator")
    keeps_growing(lively)
    books_are_synced(lively)


def test_without_redis_the_feed_goes_on_and_redis_is_filled_again(lively: Instance) -> None:
    before = lively.actors()["publisher"]["written"]
    kill_child(lively, "redis-server")
    keeps_growing(lively)
    wait_until(lambda: lively.actors()["publisher"]["written"] > before and lively.actors()["publisher"]["available"])


def test_who_consumes_streams_is_told_of_a_killed_publisher_and_gets_what_comes_then(lively: Instance) -> None:
    running = Running.read(lively.data)
    assert running is not None and running.details is not None and running.details.redis_url is not None

    async def consumed(url: str) -> None:
        name = ("trades",), ("binance",)
        async with asyncio.timeout(60), Consumer(url, "test", "one", *name, start="oldest", abandoned_s=1) as consumer:
            events = aiter(consumer)
            while isinstance(before := await anext(events), Hole):
                pass
            await asyncio.to_thread(kill_actor, lively, "publisher")
            while isinstance(hole := await anext(events), Batch):
                await consumer.done(hole)
            assert hole.missing is None
            after = await anext(events)
            assert isinstance(after, Batch)
            assert after.table["ts_recv"][0].as_py() > before.table["ts_recv"][-1].as_py()

    asyncio.run(consumed(running.details.redis_url))


def test_clickhouse_has_every_trade_once_after_its_actor_and_the_shards_were_killed(lively: Instance) -> None:
    for name in ("database", "shard:0", "database", "shard:1", "database"):
        kill_actor(lively, name)
        keeps_growing(lively)
    stored = {symbol: trade_ids(lively, symbol) for symbol in symbols(lively)}
    own_rows = sum(map(len, stored.values()))

    def asked(sql: str) -> dict[str, list[Any]]:
        said: dict[str, list[Any]] = lively.inside(
            f"answer = ray.get(find_actor('database').query.remote({sql!r})).to_pydict()"
        )
        return said

    def has_them() -> bool:
        if asked("SELECT count() AS rows FROM trades FINAL")["rows"][0] < own_rows:
            return False
        said = asked("SELECT symbol, trade_id FROM trades FINAL ORDER BY symbol, trade_id")
        names, ids = np.array(said["symbol"]), np.array(said["trade_id"], np.int64)
        written = {symbol: ids[names == symbol] for symbol in stored}
        # Others have come since the files were read.
        return all(np.array_equal(written[symbol][: len(own)], own) for symbol, own in stored.items())

    wait_until(has_them, 90)


def test_a_killed_supervisor_finds_the_others_at_work_and_looks_after_them_again(lively: Instance) -> None:
    books_are_synced(lively)
    books, before = lively.collected(), {name: said["pid"] for name, said in lively.actors().items()}
    process(lively, "ray::Supervisor").kill()

    def found() -> bool:
        said = lively.actors()
        return said.keys() == before.keys() and lively.get("/readyz")[0] == 200

    wait_until(found)
    assert {name: said["pid"] for name, said in lively.actors().items()} == before
    assert lively.collected() == books
    kill_actor(lively, "collector:binance")
    keeps_growing(lively)


def test_a_killed_edge_listens_again(lively: Instance) -> None:
    kill_child(lively, "haproxy")

    def answers() -> bool:
        try:
            return lively.get("/healthz")[0] == 200
        except OSError:
            return False

    wait_until(answers)


def test_serves_own_proxy_gives_large_answers_whole(lively: Instance) -> None:
    """It answers while no other door of a new replica is known."""
    port = process(lively, "DataApi").environ()["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]
    query = "exchange=binance&symbol=BTCUSDT&type=TRADES&start=0&end=4294967295&columns=time_ns,price64,size64,id"

    def gives_a_large_one() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/data?{query}", timeout=20) as answer:
            body = answer.read()
        assert int(answer.headers["content-length"]) == len(body)
        return len(body) > 2 * WHOLE_REPLY_BYTES

    wait_until(gives_a_large_one)


def test_a_killed_data_replica_is_replaced_and_the_door_says_when_to_ask_again(lively: Instance) -> None:
    process(lively, "DataApi").kill()

    def answers() -> bool:
        status, headers, body = lively.get("/api/symbols")
        assert status in (200, 500, 502, 503), body
        assert status != 503 or headers["retry-after"] == "1"
        return status == 200 and bool(json.loads(body)["symbols"])

    wait_until(answers)
    keeps_growing(lively)
