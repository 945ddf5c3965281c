"""`ray up ray_cluster.yaml` on three hosts: from nothing to data on every endpoint, and back to nothing."""

import csv
import json
import re
import time
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from cluster.edge_configuration import Route, backend_names
from serve_apps.live import HEALTH
from tests.cluster.test_live import read
from tests.hosts.machines import Host
from tests.hosts.ray_up import VENV, Cluster, cluster_of
from tests.polling import wait_until

#: A host that is started has to be installed and joined; several share two processors here.
JOIN_S = 240.0
SETTINGS = {
    "exchanges": {
        name: {"enabled": name in ("binance", "kraken")}
        for name in ("binance", "bitfinex", "bybit", "coinbase", "deribit", "kraken", "okx")
    },
    "simulator": {"trades_per_second": 40},
    "scaling": {"on_all_hosts": True},
}


@pytest.fixture(scope="module")
def brought_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """A head and two workers, and what `ray up` said."""
    with cluster_of(tmp_path_factory.mktemp("ray_up"), workers=2, settings=SETTINGS) as (cluster, said):
        wait_until(lambda: len(cluster.alive()) == 3, JOIN_S)
        yield cluster, said


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> None:
    """Hosts outlive a test; that nothing outlives `ray down` is a test of its own, and the hosts end with the last."""


@pytest.mark.timeout(900)
def test_one_command_brings_data_to_every_endpoint(brought_up: tuple[Cluster, str]) -> None:
    cluster, _ = brought_up
    assert cluster.alive() == sorted(host.address for host in cluster.hosts)
    door = cluster.door
    wait_until(lambda: door.get("/readyz")[0] == 200, 60)
    wait_until(lambda: len(door.json("/api/symbols")["symbols"]) == 11, 60)
    wait_until(lambda: len(door.rows("binance", "BTCUSDT", "TRADES", "time,price64,id")["id"]) > 10, 60)
    assert door.get("/")[0] == 200
    assert door.get("/", tls=False)[2].startswith(b"<!doctype html>")
    assert door.json("/api/v1/charts/BTCUSDT?exchange=binance&timeframe=1s")
    with connect(f"ws://{cluster.head.address}:{door.port}/ws") as client:
        client.send(json.dumps({"type": "subscribe", "topics": ["trades:binance:BTCUSDT"], "rate": 0}))
        assert read(client, "update")["data"]


@pytest.mark.timeout(300)
def test_what_the_hosts_share_is_secret(brought_up: tuple[Cluster, str]) -> None:
    cluster, said = brought_up
    tokens = {(host.home / ".ray" / "auth_token").read_text() for host in cluster.hosts}
    assert len(tokens) == 1 and re.fullmatch("[0-9a-f]{64}", token := tokens.pop())
    assert token not in said
    for host in cluster.hosts:
        assert (host.home / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
        assert token not in "\n".join(host.commands().values())
    stranger = f"import ray; ray.init(address='{cluster.head.address}:6380', logging_level='ERROR')"
    environment = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN={'0' * 64}"
    ran = cluster.workers[0].run("sh", "-c", f'{environment} {VENV}/python -c "{stranger}"', check=False)
    assert ran.returncode != 0 and "uthenticat" in ran.stderr


@pytest.mark.timeout(300)
def test_the_instance_of_a_cluster_is_operated_on_its_head(brought_up: tuple[Cluster, str]) -> None:
    cluster, _ = brought_up
    status = json.loads(cluster.door.rayfeed("status", "--json"))
    assert status["running"] and status["ray_address"] == f"{cluster.head.address}:6380"
    assert {"collector:binance", "collector:kraken", "supervisor"} <= status["actors"].keys() | {"supervisor"}
    assert all(actor["answers"] for actor in status["actors"].values())
    assert [(node["address"], node["head"]) for node in status["nodes"] if node["alive"]] == [
        (host.address, host is cluster.head) for host in cluster.hosts
    ]
    assert "hosts" in (shown := cluster.door.rayfeed("status"))
    assert all(host.address in shown for host in cluster.hosts)
    assert cluster.door.inside("answer = len([node for node in ray.nodes() if node['Alive']])") == 3
    cluster.door.detach()


@pytest.mark.timeout(600)
def test_collectors_shards_and_replicas_are_on_all_hosts(brought_up: tuple[Cluster, str]) -> None:
    cluster, _ = brought_up
    door, addresses = cluster.door, {host.address for host in cluster.hosts}
    done = json.loads(door.rayfeed("scale", "--shards", "3", "--json", timeout_s=300))
    assert done["done"] and not done["error"]

    def hosts_of(kind: str) -> set[str]:
        actors = json.loads(door.rayfeed("status", "--json"))["actors"]
        return {one["host"] for name, one in actors.items() if name.startswith(kind)}

    assert hosts_of("shard:") == addresses
    assert len(hosts_of("collector:")) == 2, "one for each exchange, beside a shard"
    before = int(door.rows("binance", "BTCUSDT", "TRADES", "time,price64,id")["id"][-1])
    wait_until(lambda: door.rows("binance", "BTCUSDT", "TRADES", "time,price64,id")["id"][-1] > before + 50, 60)
    ports = json.loads((door.data / "instance.json").read_text())["details"]["ports"]
    own = door.get("/api/symbols")[2]

    def said_on(worker: Host, lane: str, path: str) -> str:
        asked = f"curl -s --max-time 5 http://{worker.address}:{ports[lane]}{path}"
        return cluster.laptop.run("sh", "-c", asked, check=False).stdout

    for worker in cluster.workers:
        wait_until(lambda worker=worker: said_on(worker, "data", "/api/symbols") == own.decode(), 120)
        wait_until(lambda worker=worker: said_on(worker, "live", f"{HEALTH} -w %{{http_code}}").endswith("200"), 120)

    parts = backend_names([Route([], prefix) for prefix in (None, "/api", "/api/v1", "/api/v1/stream", "/ws")])

    def answered() -> dict[str, int]:
        """By server of the data API, how many requests it had."""
        url = f"http://127.0.0.1:{ports['edge metrics']}/stats;csv"
        rows = csv.DictReader(cluster.head.run("curl", "-s", url).stdout.removeprefix("# ").splitlines())
        return {row["svname"]: int(row["stot"] or 0) for row in rows if parts.get(row["pxname"]) == "/api"}

    def all_have_answered() -> bool:
        assert door.get("/api/symbols")[2] == own
        return all(answered()[f"s{number}"] for number in range(3))

    wait_until(all_have_answered, 60)


@pytest.mark.timeout(600)
def test_a_cluster_is_taken_down_on_all_hosts(brought_up: tuple[Cluster, str]) -> None:
    """The last of this file: nothing of it runs afterwards, and what was stored is still there."""
    cluster, _ = brought_up
    stored = cluster.door.data / "columns" / "binance" / "BTCUSDT" / "TRADES"
    assert any(stored.iterdir())
    began = time.monotonic()
    cluster.down()
    wait_until(lambda: not any(host.commands() for host in cluster.hosts), 120)
    print(f"ray down: {time.monotonic() - began:.0f} s until no process was left")
    assert any(stored.iterdir())
