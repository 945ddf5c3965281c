"""The front door of a whole instance: what happens to those who ask while parts of it are replaced or killed, and how
replicas come and go with the load."""

import json
import os
import re
import shutil
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest

from actors.contract import PACKAGES, ROOT
from cluster.certificate import self_signed
from tests.cluster.running import Instance, command, command_line, rayfeed_up
from tests.polling import wait_until

PATHS = ("/", "/api/symbols", "/api/v1/charts/BTCUSDT?exchange=binance&limit=10", "/healthz")
SCALING = {
    "market": {"min_replicas": 2, "max_replicas": 2, "ongoing": 100, "busy": 0.7, "streams": None},
    "pages": {"min_replicas": 1, "max_replicas": 1, "ongoing": 100, "busy": 0.7, "streams": None},
    # One replica that nobody asks is busy for 2 %.
    "data": {"min_replicas": 1, "max_replicas": 2, "ongoing": None, "busy": 0.1, "streams": None},
    "up_after_s": 1,
    "down_after_s": 3,
    "mean_over_s": 4,
}


def write_settings(data: Path, **edge: object) -> None:
    data.mkdir(exist_ok=True)
    (data / "settings.yaml").write_text(json.dumps({"scaling": SCALING, "edge": edge}))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, which the instance runs."""
    folder = tmp_path_factory.mktemp("installed")
    for package in PACKAGES:
        # With the kernels that are compiled.
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("node_modules"))
    return folder


@pytest.fixture(scope="module")
def instance(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data = tmp_path_factory.mktemp("door") / "data"
    write_settings(data)
    quick = {"RAYFEED_SIMULATOR__TRADES_PER_SECOND": "200"}
    with rayfeed_up(data, "--exchanges", "binance,kraken", environment=quick, installed=installed) as running:
        wait_until(lambda: all(running.get(path)[0] == 200 for path in PATHS))
        yield running


class Asking:
    """Asks for all the paths, each on a connection that is kept and on new ones, and counts what came back."""

    def __init__(self, port: int, paths: tuple[str, ...]) -> None:
        self.port = port
        self.said: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(path, keep), daemon=True)
            for path in paths
            for keep in (True, False)
        ]

    @property
    def failed(self) -> Counter[str]:
        return Counter({said: count for said, count in self.said.items() if not said.endswith(" 200")})

    def _ask(self, path: str, keep: bool) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=15)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                said = str(answer.status)
            except (OSError, HTTPException) as error:
                said = type(error).__name__
                connection.close()
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.said[f"{path} {said}"] += 1
            if not keep:
                connection.close()
            time.sleep(0.005)
        connection.close()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


@contextmanager
def asked(instance: Instance, *paths: str) -> Iterator[Asking]:
    """Meanwhile somebody asks for the paths, and goes on for a second afterwards."""
    asking = Asking(instance.port, paths or PATHS)
    asking.start()
    try:
        yield asking
        before = asking.said.total()
        wait_until(lambda: asking.said.total() > before + 50)
    finally:
        asking.stop()
        # For the table in docs/front_door.md: pytest -s.
        print(
            f"\n{asking.said.total()} asked, {asking.failed.total()} failed, slowest {1000 * asking.slowest_s:.0f} ms",
            file=sys.stderr,
        )


def replicas(instance: Instance, name: str) -> dict[str, int]:
    """The process ids of the running replicas of a deployment."""
    found: dict[str, int] = instance.inside(
        "from ray.util.state import list_actors\n"
        f"answer = {{a.actor_id: a.pid for a in list_actors(filters=[('state', '=', 'ALIVE')], limit=1000)"
        f" if a.class_name.startswith('ServeReplica') and '{name}' in a.class_name}}"
    )
    return found


def test_the_edge_goes_on_with_changed_settings_and_nobody_notices(instance: Instance) -> None:
    with asked(instance) as asking:
        for changed in ({"access_log_sample": 1}, {"compression": False}, {"access_log_sample": 1}):
            write_settings(instance.data, **changed)
            said = command("edge", "reload", "--data", str(instance.data))
            assert said.returncode == 0, said.stderr
    assert not asking.failed
    assert " GET /healthz HTTP/1.1 200 " in (instance.data / "logs" / "edge.log").read_text()


def test_settings_the_edge_cannot_go_on_with_are_one_line(instance: Instance) -> None:
    write_settings(instance.data, certificate="/no/such.pem")
    said = command("edge", "reload", "--data", str(instance.data))
    write_settings(instance.data)
    assert said.returncode == 1
    assert said.stderr == "rayfeed: certificate /no/such.pem cannot be read: No such file or directory\n"
    assert instance.get("/healthz")[0] == 200


def test_a_killed_replica_fails_no_request(instance: Instance) -> None:
    before = replicas(instance, "MarketApi")
    assert len(before) == 2
    with asked(instance) as asking:
        os.kill(next(iter(before.values())), signal.SIGKILL)
        wait_until(lambda: len(now := replicas(instance, "MarketApi")) == 2 and now.keys() != before.keys(), 60)
    assert not asking.failed


@pytest.mark.parametrize("title", ["redis-server", "ray::Database"])
def test_a_killed_store_fails_no_request(instance: Instance, title: str) -> None:
    family = psutil.Process(instance.process.pid).children(recursive=True)
    [store] = [one for one in family if title in " ".join(command_line(one))]
    with asked(instance) as asking:
        store.kill()
        wait_until(lambda: asking.said.total() > 300)
        wait_until(lambda: all(one["answers"] and one["pid"] != store.pid for one in instance.actors().values()), 60)
    assert not asking.failed


def test_replicas_come_with_the_load_and_go_with_it(instance: Instance) -> None:
    wait_until(lambda: len(replicas(instance, "DataApi")) == 1, within_s=60)
    with asked(instance, *["/api/symbols"] * 4) as asking:
        wait_until(lambda: len(replicas(instance, "DataApi")) == 2, within_s=60)
    with asked(instance, "/healthz") as quiet:
        wait_until(lambda: len(replicas(instance, "DataApi")) == 1, within_s=90)
    assert not asking.failed
    assert not quiet.failed


def test_the_cache_tells_what_it_did_and_is_cleared_with_the_token(instance: Instance) -> None:
    status, headers, body = instance.get("/cache-stats")
    assert (status, headers["cache-control"]) == (200, "no-store")
    said = json.loads(body)
    assert said["redis"] is True
    assert said["replicas"] >= 1
    assert clear(instance, None)[0] == 401
    token = (instance.data / "secrets" / "api_token").read_text()
    status, answer = clear(instance, token)
    assert (status, answer["cleared"]) == (200, "everything")


def clear(instance: Instance, token: str | None) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(f"{instance.url}/clear-cache", b"", method="POST")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_certificate_of_yours_is_served_after_a_reload(instance: Instance, tmp_path: Path) -> None:
    own = self_signed(tmp_path, "own.example", datetime.now(UTC))
    write_settings(instance.data, certificate=str(own))
    assert command("edge", "reload", "--data", str(instance.data)).returncode == 0
    served = ssl.get_server_certificate(("127.0.0.1", instance.tls_port))
    assert served.strip() in own.read_text()


def changed(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, path.read_text())
    assert count
    path.write_text(text)


def all_trades(instance: Instance) -> dict[str, list[int]]:
    rows = instance.json("/api/v1/integrity")
    return {
        f"{row['exchange']} {row['symbol']}": instance.rows(row["exchange"], row["symbol"], "TRADES", "id")[
            "id"
        ].tolist()
        for row in rows
    }


def test_code_that_does_not_fit_what_runs_is_refused_before_anything_is_touched(
    instance: Instance, installed: Path
) -> None:
    path = installed / "actors" / "reports.py"
    before, text = instance.actors(), path.read_text()
    changed(path, "    async def stop\\(self", "    async def forget(self) -> None: ...\n\n    async def stop(self")
    said = command("upgrade", "--data", str(instance.data), installed=installed)
    path.write_text(text)
    assert said.returncode == 1
    assert "does not work together with what runs (Reports.forget is new); stop and start it" in said.stderr
    assert {name: one["pid"] for name, one in instance.actors().items()} == {
        name: one["pid"] for name, one in before.items()
    }


def test_an_upgrade_of_the_code_fails_no_request_and_misses_no_trade(instance: Instance, installed: Path) -> None:
    wait_until(lambda: {row["state"] for row in instance.json("/api/v1/integrity")} == {"synced"}, within_s=60)
    for path in (installed / "actors").glob("*.py"):
        path.write_text(re.sub(r'return f"([A-Z]\w+)\(', r'return f"Newer \1(', path.read_text()))
    changed(
        installed / "serve_apps" / "health.py", r'\(b"cache-control", b"no-store"\)', r'\g<0>, (b"x-code", b"newer")'
    )
    gaps = len(instance.json("/api/v1/gaps?limit=5000"))
    before = all_trades(instance)
    with asked(instance, "/", "/api/v1/books/BTCUSDT?exchange=binance&levels=5") as asking:
        said = command("upgrade", "--data", str(instance.data), "--json", installed=installed, within_s=300)
        assert said.returncode == 0, said.stderr
        wait_until(lambda: all(len(ids) > len(before[name]) for name, ids in all_trades(instance).items()))
    print(f"\n{said.stdout}", file=sys.stderr)
    assert not asking.failed
    actors = instance.actors()
    older = {name for name, one in actors.items() if not one["actor"].startswith("Newer ")}
    assert older == {"simulator"}
    assert instance.get("/api/v1/health")[1]["x-code"] == "newer"
    # Both what has ids without holes, and what has not.
    for name, ids in all_trades(instance).items():
        assert sorted(set(ids)) == sorted(ids), f"a trade of {name} is there twice"
        if name.startswith("binance"):
            assert sorted(ids) == list(range(min(ids), max(ids) + 1))
    wait_until(lambda: {row["state"] for row in instance.json("/api/v1/integrity")} == {"synced"})
    # A shard that was restarted got what came meanwhile again: nothing was missing for a moment.
    assert len(instance.json("/api/v1/gaps?limit=5000")) == gaps
