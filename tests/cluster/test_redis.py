"""Redis of a running instance: what is in it, and what a program that consumes its streams gets."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pyarrow.compute as pc
import redis

from cluster.instance import Instance as Running
from storage.redis_consumer import Batch, Consumer
from storage.redis_streams import Hole
from tests.cluster.running import Instance, command
from tests.polling import wait_until
from tests.servers import PASSWORD, RedisServer


def redis_url(instance: Instance) -> str:
    running = Running.read(instance.data)
    assert running is not None and running.details is not None and running.details.redis_url is not None
    return running.details.redis_url


def test_books_health_and_streams_are_there(simulated: Instance) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
    with redis.Redis.from_url(redis_url(simulated)) as client:
        wait_until(lambda: all(client.exists(f"binance:{symbol}:orderbook") for symbol in symbols))
        book = json.loads(client.get("binance:BTCUSDT:orderbook"))  # type: ignore[arg-type]
        assert book["bids"][0][0] < book["asks"][0][0]
        assert 10 < len(book["bids"]) <= 25
        wait_until(lambda: client.exists("system:health"))

        def all_are_well() -> bool:
            said: dict[bytes, bytes] = client.hgetall("system:health")  # type: ignore[assignment]
            health = {name.decode(): json.loads(text)["status"] for name, text in said.items()}
            return health == dict.fromkeys(simulated.actors(), "ok")

        wait_until(all_are_well)
        for kind in ("trades", "quotes", "bars", "indicators", "features"):
            wait_until(lambda kind=kind: client.exists(f"stream:{kind}:binance"), 90)  # type: ignore[misc]


async def _consumed(url: str, whole: Callable[[Mapping[str, list[int]]], bool], batches: int) -> list[Batch | Hole]:
    """What comes until that many batches came and the ids of the trades, by symbol, are whole."""
    events: list[Batch | Hole] = []
    async with asyncio.timeout(60), Consumer(url, "test", "one", ["trades"], ["binance"], start="oldest") as consumer:
        async for event in consumer:
            events.append(event)
            if isinstance(event, Batch):
                await consumer.done(event)
            if len(events) >= batches and whole(_ids(events)):
                return events
    raise AssertionError("consumers end when they are told to")


def _ids(events: Iterable[Batch | Hole]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events:
        for row in event.table.select(["symbol", "trade_id"]).to_pylist() if isinstance(event, Batch) else ():
            found.setdefault(row["symbol"], []).append(row["trade_id"])
    return found


def test_a_program_gets_every_trade_once_and_no_hole(simulated: Instance) -> None:
    def whole(found: Mapping[str, list[int]]) -> bool:
        """Trades that were asked for later come later."""
        for symbol, ids in found.items():
            stored = simulated.rows("binance", symbol, "TRADES", "id")["id"].tolist()
            if not {number for number in stored if min(ids) <= number <= max(ids)} <= set(ids):
                return False
        return True

    events = asyncio.run(_consumed(redis_url(simulated), whole, 20))
    assert all(isinstance(event, Batch) for event in events)
    assert all(len(ids) == len(set(ids)) for ids in _ids(events).values())
    assert all(pc.all(pc.greater(event.table["price"], 0)).as_py() for event in events if isinstance(event, Batch))


def test_a_redis_that_refuses_us_is_one_line_before_anything_else_is_started(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        wrong = {
            server.url.replace(PASSWORD, "wrong"): "refuses the user or password",
            f"rediss{server.url.removeprefix('redis')}?ssl_ca_certs=none.pem": "none.pem",
        }
        for url, why in wrong.items():
            said = command("up", "--data", str(tmp_path / "data"), environment={"REDIS_URL": url})
            assert said.returncode == 1
            first, last = said.stderr.splitlines()
            assert "redis" in first
            assert why in last
            assert PASSWORD not in said.stderr


def test_streams_that_leave_no_room_for_latest_values_are_refused_in_one_line(tmp_path: Path) -> None:
    said = command("up", "--data", str(tmp_path / "data"), environment={"RAYFEED_REDIS__STREAM_BYTES": "100000000"})
    assert said.returncode == 1
    assert "redis.stream_bytes" in said.stderr.splitlines()[-1]
