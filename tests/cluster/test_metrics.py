"""What can be seen of a running system: metrics at the front door, in Prometheus, in Ray, and in every panel and rule;
logs; spans."""

import asyncio
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import websockets
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster.grafana.dashboards import DASHBOARDS, FOLDER
from cluster.grafana.drawing import Panel
from cluster.instance import free_ports
from cluster.ray_head import runtime_folder, session_folder
from tests.cluster.running import Instance, rayfeed_up
from tests.polling import wait_until
from tests.promql import exported, filled_in, selected
from tests.span_receiver import Receiver, receiving

RULES = FOLDER.parent / "prometheus" / "rules.yaml"
Sample = tuple[str, dict[str, str], float]

#: All lines of all replicas, as the state API of Ray, which its dashboard asks too, tells them.
LINES_OF_REPLICAS = """
from ray.util.state import get_log, list_actors
alive = list_actors(filters=[("state", "=", "ALIVE")], limit=1000)
replicas = [one.actor_id for one in alive if one.class_name.startswith("ServeReplica")]
answer = [line for one in replicas for text in get_log(actor_id=one) for line in text.splitlines()]
"""

#: Expressions that rightly find nothing where nothing is wrong.
_QUIET = ("overview: Restarts",)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Instance]:
    settings = receiver.settings(0.05)
    traced = {"RAYFEED_TRACING__ENDPOINT": str(settings.endpoint), "RAYFEED_TRACING__SAMPLE": str(settings.sample)}
    data = tmp_path_factory.mktemp("metrics") / "data"
    with rayfeed_up(data, "--exchanges", "binance,kraken", environment=traced) as running:
        yield running


def scraped(instance: Instance) -> list[Sample]:
    status, _, body = instance.get("/metrics")
    assert status == 200, body
    families = text_string_to_metric_families(body.decode())
    return [(one.name, one.labels, one.value) for family in families for one in family.samples]


def value(instance: Instance, name: str, **labels: str) -> float:
    found = [value for known, own, value in scraped(instance) if known == name and labels.items() <= own.items()]
    return sum(found)


async def use(instance: Instance) -> None:
    """As users do: pages, data, answers of the API, errors, the live feed."""
    for path in (
        "/",
        "/api/symbols",
        "/api/v1/symbols",
        "/api/v1/charts/BTCUSDT?exchange=binance&timeframe=1s",
        "/api/data?exchange=binance&symbol=BTCUSDT&type=TRADES&start=0&end=4294967295&columns=time,price",
        "/crypto_reports_list",
        "/api/v1/nothing",
    ):
        await asyncio.to_thread(instance.get, path)
    async with websockets.connect(instance.url.replace("http", "ws") + "/ws") as client:
        await client.send(json.dumps({"type": "subscribe", "topics": ["trades:binance:BTCUSDT", "bars:binance:*"]}))
        async with asyncio.timeout(30):
            while json.loads(await client.recv())["type"] != "update":
                pass
        await asyncio.sleep(3)  # for a look of those who measure


def test_the_text_is_what_prometheus_wants_and_tells_of_every_part(instance: Instance) -> None:
    asyncio.run(use(instance))
    wait_until(lambda: value(instance, "rayfeed_http_requests_total", route="/api/data") >= 1, within_s=20)
    wait_until(lambda: value(instance, "rayfeed_lag_seconds_count", stage="hub_to_client") >= 1, within_s=20)
    wait_until(lambda: value(instance, "rayfeed_symbols", state="synced") >= 10, within_s=30)
    stored = partial(value, instance, "rayfeed_lag_seconds_count", stage="socket_to_database")
    wait_until(lambda: stored(exchange="binance") > 0 and stored(exchange="kraken") > 0)
    _, headers, body = instance.get("/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for exchange in ("binance", "kraken"):
        assert value(instance, "rayfeed_exchange_up", exchange=exchange) == 1
        assert value(instance, "rayfeed_received_bytes_total", exchange=exchange) > 1000
        for stage in ("exchange_to_socket", "socket_to_shard", "shard_to_disk"):
            assert value(instance, "rayfeed_lag_seconds_count", exchange=exchange, stage=stage) > 0
    assert value(instance, "rayfeed_stored_rows_total", kind="trades") > 0
    assert value(instance, "rayfeed_replicas") == 4
    told = instance.json("/api/v1/health")["components"]["metrics"]["replicas"]
    assert told == {"data": 1, "live": 1, "market": 1, "pages": 1}
    assert value(instance, "rayfeed_edge_requests_total") > 5
    wait_until(lambda: value(instance, "rayfeed_actor_up") == len(instance.actors()))
    assert {"rayfeed up", "edge", "redis", "supervisor", "shard:0", "collector:kraken", "data", "metrics"} <= {
        labels["process"] for name, labels, _ in scraped(instance) if name == "rayfeed_process_cpu_seconds_total"
    }


def test_nothing_is_told_that_the_catalog_does_not_have(instance: Instance) -> None:
    for name, labels, _ in scraped(instance):
        metric = exported()[name]
        assert labels.keys() - {"le"} == set(metric.labels), name
        assert len(labels) <= 4


def test_counters_do_not_fall_when_an_actor_is_killed(instance: Instance) -> None:
    before = value(instance, "rayfeed_messages_total", exchange="kraken")
    instance.inside("ray.kill(find_actor('collector:kraken'), no_restart=False); answer = None")
    wait_until(lambda: value(instance, "rayfeed_actor_restarts_total", actor="collector:kraken") == 1, within_s=60)
    wait_until(lambda: value(instance, "rayfeed_messages_total", exchange="kraken") > before, within_s=60)
    wait_until(lambda: value(instance, "rayfeed_exchange_up", exchange="kraken") == 1, within_s=60)


def test_ray_tells_the_same_on_its_own_port(instance: Instance) -> None:
    file = session_folder(runtime_folder(instance.data)) / "prom_metrics_service_discovery.json"

    def told() -> str:
        text = ""
        for target in json.loads(file.read_text())[0]["targets"]:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=10) as answer:
                text += answer.read().decode()
        return text

    names = ("ray_rayfeed_messages_total{", "ray_rayfeed_exchange_up{", "ray_rayfeed_lag_seconds_bucket{")
    wait_until(lambda: all(name in told() for name in names), within_s=40)


def test_what_a_replica_logs_is_read_through_the_dashboard_of_ray(instance: Instance) -> None:
    assert instance.get("/api/v1/stream?topics=trades:binance:BTCUSDT&token=wrong")[0] == 401

    def said() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in instance.inside(LINES_OF_REPLICAS) if line.startswith("{")]
        return [line for line in lines if line["event"] == "refused on the live feed"]

    wait_until(said, within_s=20)
    (line, *_) = said()
    assert line["actor"] == "live" and line["level"] == "info" and line["reason"]


def test_every_panel_and_rule_finds_what_it_asks_for(instance: Instance, tmp_path: Path) -> None:
    panels = [
        (f"{dashboard.name}: {part.title}", expression)
        for dashboard in DASHBOARDS
        for part in dashboard.parts
        if isinstance(part, Panel)
        for expression, _ in part.shows
    ]
    rules = [
        (rule["alert"], rule["expr"])
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    ]
    asked = {name for _, expression in [*panels, *rules] for name, _ in selected(expression)} - {"up"}
    # Of an actor that does not answer in time there is nothing to tell for a moment.
    wait_until(lambda: not asked - {name for name, _, _ in scraped(instance)}, within_s=30)
    with prometheus(instance, tmp_path) as ask:
        wait_until(lambda: len(ask("rayfeed_edge_requests_total")) == 1, within_s=30)
        asyncio.run(use(instance))
        # A rate needs some looks in its time.
        wait_until(lambda: len(ask("rate(rayfeed_edge_requests_total[20s] offset 12s) > 0")) == 1, within_s=60)
        asyncio.run(use(instance))
        empty = [(where, one) for where, one in panels if where not in _QUIET and not ask(filled_in(one))]
        assert empty == []
        for _, expression in rules:
            ask(expression)  # it can be asked
        firing = [one["metric"]["alertname"] for one in ask('ALERTS{alertstate="firing"}')]
        assert firing == [], "nothing is wrong here"


@contextmanager
def prometheus(instance: Instance, folder: Path) -> Iterator[Any]:
    """A real one that looks at the instance each second; asks it."""
    (port,) = free_ports(1)
    configuration = folder / "prometheus.yaml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {"job_name": "rayfeed", "static_configs": [{"targets": [f"127.0.0.1:{instance.port}"]}]}
                ],
            }
        )
    )
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        stderr=(folder / "prometheus.log").open("w"),
    )

    def ask(expression: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=20) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(is_ready, within_s=30)
        yield ask
    finally:
        process.terminate()
        process.wait(10)


def test_a_batch_and_a_request_are_followed_through_the_system(instance: Instance, receiver: Receiver) -> None:
    def told(name: str) -> dict[bytes, bytes]:
        """By trace, the span that was before the one of this name."""
        return {one.trace_id: one.parent_span_id for one in list(receiver.spans) if one.name == name}

    wait_until(lambda: bool(told("deliver").keys() & told("store").keys()), within_s=60)
    assert all(parent for parent in told("store").values()), "the shard's is within the collector's"
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    asked = urllib.request.Request(f"{instance.url}/api/symbols", headers={"traceparent": f"00-{trace}-{span}-01"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 200
    wait_until(lambda: told("GET /api/symbols").get(bytes.fromhex(trace)) == bytes.fromhex(span), within_s=30)
