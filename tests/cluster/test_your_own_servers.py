"""With RAY_ADDRESS, CLICKHOUSE_URL and REDIS_URL rayfeed uses your servers and leaves them as they were."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clickhouse_driver
import psutil
import pytest
import redis

from tests.cluster.recorded import LIVE_TRADES, QUOTES
from tests.cluster.running import rayfeed_up
from tests.polling import wait_until
from tests.servers import ClickHouseServer, RedisServer, free_port, needs_clickhouse_server

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def your_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Ray started by its own command; gives what a client of it has in its environment."""
    folder = tmp_path_factory.mktemp("r")
    (folder / "token").write_text(secrets.token_hex(32))
    port = free_port()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_ADDRESS": f"127.0.0.1:{port}",
    }
    # A Unix socket's path is short.
    session = Path("/tmp") / f"ray-{os.getpid()}"
    start = [RAY, "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    more = [f"--temp-dir={session}", "--object-store-memory=100000000", "--disable-usage-stats"]
    without_address = {**os.environ, **environment, "RAY_ADDRESS": ""}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*start, *more], env=without_address, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(environment))
        yield environment
    finally:
        # Told to terminate, it waits for itself longer than a test should.
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()
        psutil.wait_procs(family, timeout=10)
        shutil.rmtree(session)


@needs_clickhouse_server
def test_your_ray_clickhouse_and_redis_are_used_and_left_running(
    your_ray: dict[str, str], tmp_path: Path, recordings: Path
) -> None:
    with RedisServer(tmp_path / "redis") as redis_server, ClickHouseServer(tmp_path / "clickhouse") as clickhouse:
        environment = {**your_ray, "CLICKHOUSE_URL": clickhouse.url, "REDIS_URL": redis_server.url}
        options = ["--source", f"replay:{recordings}", "--exchanges", "coinbase,deribit"]
        with rayfeed_up(tmp_path / "data", *options, environment=environment) as instance:
            wait_until(lambda: len(instance.json("/api/symbols")["symbols"]) == 20)
            assert set(instance.json("/readyz")["feeds"]) == {"coinbase", "deribit"}
            database = clickhouse_driver.Client.from_url(clickhouse.url)

            def stored() -> list[tuple[str, int]]:
                """How many trades and rows about derivatives, by exchange."""
                counts: list[tuple[str, int]] = [
                    row
                    for table in ("trades", "derivatives")
                    for row in database.execute(f"SELECT exchange, count() FROM {table} FINAL GROUP BY exchange")
                ]
                return counts

            wait_until(lambda: stored() == [("coinbase", LIVE_TRADES["coinbase"]), ("deribit", QUOTES["deribit"])])
            with redis.Redis.from_url(redis_server.url) as client:
                wait_until(lambda: client.exists("market_data_stream") == 1)
            assert not (tmp_path / "data" / "clickhouse").exists()
            assert instance.stop() == 0
        assert _answers(your_ray)
        assert stored() == [("coinbase", LIVE_TRADES["coinbase"]), ("deribit", QUOTES["deribit"])]
        database.disconnect()


def _answers(environment: dict[str, str]) -> bool:
    """Whether that Ray answers, and no actor of rayfeed is left in it."""
    script = (
        "import ray\n"
        "ray.init(namespace='rayfeed', log_to_driver=False, logging_level='ERROR')\n"
        "print(ray.util.list_named_actors())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    return answer.returncode == 0 and answer.stdout.strip() == "[]"
