"""The metrics of a running system: at the front door, in Prometheus, in Ray, and in every panel and rule."""

import asyncio
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
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

RULES = FOLDER.parent / "prometheus" / "rules.yaml"
Sample = tuple[str, dict[str, str], float]

#: Expressions that rightly find nothing where nothing is wrong.
_QUIET = ("overview: Restarts",)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with rayfeed_up(tmp_path_factory.mktemp("metrics") / "data", "--exchanges", "binance,kraken") as running:
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
    _, headers, body = instance.get("/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for exchange in ("binance", "kraken"):
        assert value(instance, "rayfeed_exchange_up", exchange=exchange) == 1
        assert value(instance, "rayfeed_received_bytes_total", exchange=exchange) > 1000
        for stage in ("exchange_to_socket", "socket_to_shard", "shard_to_disk", "socket_to_database"):
            assert value(instance, "rayfeed_lag_seconds_count", exchange=exchange, stage=stage) > 0
    assert value(instance, "rayfeed_stored_rows_total", kind="trades") > 0
    assert value(instance, "rayfeed_replicas") == 4
    assert value(instance, "rayfeed_edge_requests_total") > 5
    assert value(instance, "rayfeed_actor_up") == len(instance.actors())
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
