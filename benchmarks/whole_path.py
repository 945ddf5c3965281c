"""The whole path on Ray: an exchange that floods, collector, shard, bars and files, each in a process of its own; once
without sinks and once with ClickHouse and Redis. Against it cryptofeed, which writes the same feed to Redis.

`python -m benchmarks.whole_path DATA ENDPOINT COUNT SINKS` is such a run and prints what came of it as JSON.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.collector import flood
from benchmarks.flood import BLOCK_FRAMES, SYMBOLS
from benchmarks.peers import CRYPTOFEED, environment
from benchmarks.table import Bound, Row

PROJECT: Final = Path(__file__).parents[1]
EXCHANGE: Final = "binance"
ROUNDS: Final = 3
#: Trades of a round: enough for seconds.
COUNTS: Final = {"files": 8_000_000, "all": 4_000_000}
PEER_COUNT: Final = 10 * BLOCK_FRAMES
#: The first part of a round is not counted: kernels are loaded and files are made.
UNCOUNTED: Final = 0.1
#: What has not come by then does not come.
PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.02


@dataclass
class Outcome:
    """Trades a second; how many are not in the files, the bars, ClickHouse exactly once; and when the sinks had all of
    them, in seconds after the files."""

    rate: float = 0.0
    wrong: int = 0
    sinks_later_s: float = 0.0


def rows() -> list[Row]:
    """Rates, and what is missing; raises CalledProcessError when a process of its own fails."""
    outcomes: dict[str, list[Outcome]] = {case: [] for case in COUNTS}
    peers = []
    with flood() as endpoint:
        for _ in range(ROUNDS):
            for case, count in COUNTS.items():
                outcomes[case].append(_run(endpoint, count, case))
            peers.append(_cryptofeed(endpoint))
    peer = statistics.median(peers)
    rates = {case: statistics.median(one.rate for one in known) for case, known in outcomes.items()}
    sent = ROUNDS * sum(COUNTS.values())
    later = statistics.median(one.sinks_later_s for one in outcomes["all"])
    return [
        Row(
            "whole path: socket to files and bars, on Ray",
            rates["files"],
            "trades/s",
            peer,
            f"{CRYPTOFEED}, trades to a stream of Redis",
            Bound(at_least=1_000_000),
            f"{os.cpu_count()} processors for exchange, collector and shard; files synced every second",
        ),
        Row(
            "whole path: the same with ClickHouse and Redis",
            rates["all"],
            "trades/s",
            peer,
            f"{CRYPTOFEED}, trades to a stream of Redis",
            Bound(at_least=400_000),
            f"until the files have all trades; ClickHouse has them {later:.1f} s later",
        ),
        Row(
            "whole path: missing or doubled trades",
            sum(one.wrong for known in outcomes.values() for one in known),
            "trades",
            bound=Bound(at_most=0),
            note=f"of {sent:,}: in files and bars, and where there are sinks in ClickHouse",
        ),
    ]


def _run(endpoint: str, count: int, case: str) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="rf-bench-", dir=Path.home()) as data:
        command = [sys.executable, "-m", "benchmarks.whole_path", data, endpoint, str(count), case]
        said = subprocess.check_output(command, cwd=PROJECT, text=True, timeout=3 * PATIENCE_S)
    return Outcome(**json.loads(said.splitlines()[-1]))


def _cryptofeed(endpoint: str) -> float:
    """Trades a second of a process of its own."""
    python = environment("cryptofeed-2.4.1-redis", "cryptofeed==2.4.1", "redis")
    with tempfile.TemporaryDirectory(prefix="rf-bench-") as data, _redis(Path(data)) as url:
        # Beside the script there are modules with names of packages.
        script = str(Path(__file__).with_name("cryptofeed_redis.py"))
        command = [str(python), "-P", script, f"{endpoint}/{PEER_COUNT}/stream", url, str(PEER_COUNT), *SYMBOLS]
        said = subprocess.check_output(command, text=True, timeout=PATIENCE_S)
    return PEER_COUNT / float(json.loads(said.splitlines()[-1])["seconds"])


@contextmanager
def _redis(data: Path) -> Iterator[str]:
    import redis

    from cluster.instance import free_ports
    from storage.redis import embedded_command
    from storage.redis import url as url_of

    (port,), password = free_ports(1), "benchmark-of-rayfeed"
    with subprocess.Popen(embedded_command(data / "redis", port, password), stdout=subprocess.DEVNULL) as process:
        url = url_of(port, password)
        client = redis.Redis.from_url(url)
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_S)
        try:
            yield url
        finally:
            client.close()
            process.terminate()


async def _measured(data: Path, endpoint: str, count: int, case: str) -> Outcome:
    import ray

    from actors.collector import Collector
    from actors.database import Database
    from actors.directory import find_actor, shard_name
    from actors.endpoint import Endpoint
    from actors.own_process import COLLECTOR, TOLD
    from actors.publisher import Publisher
    from actors.sinks import Sinks
    from actors.starting import start_actor
    from actors.symbol_shard import SymbolShard
    from cluster import ray_head
    from config import load

    exchanges = {EXCHANGE: {"channels": ["trades"]}}
    settings = load(data, {"shards": 1, "exchanges": exchanges, "ray": {"object_store_mb": 1024}})
    runtime = ray_head.runtime_folder(data)
    ray_head.prepare_environment(settings, runtime)
    ray_head.start(settings, runtime)
    outcome = Outcome()
    with _redis(data) as url:
        database, sink = None, _nowhere
        if case == "all":
            database = start_actor("database", Database, settings, gives_way=TOLD)
            sink = Sinks(ray.put, database, start_actor("publisher", Publisher, settings, url, gives_way=TOLD))
        shard = start_actor(shard_name(0), SymbolShard, 0, settings, ray.put, sink, False)
        # Nothing answers at the second address: the symbols are taken as they are.
        place = Endpoint(f"{endpoint}/{count}", "http://127.0.0.1:1", SYMBOLS)
        collector = start_actor("collector", Collector, EXCHANGE, place, settings, [shard], gives_way=COLLECTOR)
        await asyncio.gather(*(one.status.remote() for one in (shard, collector, database) if one is not None))
        await collector.start.remote()
        first = await _stored(settings.columns, int(count * UNCOUNTED))
        last = await _stored(settings.columns, count)
        outcome.rate = (last[1] - first[1]) / (last[0] - first[0])
        if database is not None:
            while (await database.query.remote(_COUNT))["rows"][0].as_py() < count:
                if time.monotonic() > last[0] + PATIENCE_S:
                    break
                await asyncio.sleep(10 * _LOOK_S)
            outcome.sinks_later_s = time.monotonic() - last[0]
            outcome.wrong += abs(count - (await database.query.remote(_COUNT))["rows"][0].as_py())
        await collector.stop.remote()
        for symbol in SYMBOLS:
            bars = await find_actor(shard_name(0)).bars.remote(EXCHANGE, symbol, "1m", 100)
            outcome.wrong += abs(count // len(SYMBOLS) - int(np.sum(bars["trade_count"].to_numpy())))
        await shard.stop.remote()
        outcome.wrong += _wrong_in_files(settings, count)
        ray.shutdown()
    return outcome


#: Each trade once, whatever was sent again.
_COUNT: Final = "SELECT uniqExact(symbol, trade_id) AS rows FROM trades"


async def _nowhere(*_: object) -> None:
    pass


def _wrong_in_files(settings: Any, count: int) -> int:
    from benchmarks.flooded import wrong_in_files

    return wrong_in_files(settings, count)


async def _stored(columns: Path, count: int) -> tuple[float, int]:
    """When the files had so many trades, and how many they had then."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        now, stored = time.monotonic(), _rows(columns)
        if stored >= count or now > deadline:
            return now, stored
        await asyncio.sleep(_LOOK_S)


def _rows(columns: Path) -> int:
    return sum(path.stat().st_size // 4 for path in columns.glob("*/*/TRADES/time.*.bin"))


def main(data: str, endpoint: str, count: str, case: str) -> None:
    print(json.dumps(asdict(asyncio.run(_measured(Path(data), endpoint, int(count), case)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
