"""Dashboards and alert rules ask for what is exported, look as they should, and fire when they should."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.grafana.dashboards import DASHBOARDS, FOLDER
from cluster.grafana.drawing import Dashboard, Panel, rendered
from tests.promql import exported, filled_in, selected, wrong

RULES = FOLDER.parent / "prometheus" / "rules.yaml"
CONFIGURATION = RULES.with_name("prometheus.yaml")


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: str | Path) -> None:
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)
def test_the_file_of_a_dashboard_is_what_its_description_says(dashboard: Dashboard) -> None:
    said = (FOLDER / f"{dashboard.name}.json").read_text(encoding="utf-8")
    assert said == rendered(dashboard), "write it anew with: python -m cluster.grafana"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)
def test_a_dashboard_asks_for_what_is_exported(dashboard: Dashboard) -> None:
    for part in dashboard.parts:
        for expression, legend in part.shows if isinstance(part, Panel) else ():
            assert wrong(expression) == [], (part.title, expression)
            shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
            labels = {label for name, _ in selected(expression) if name != "up" for label in exported()[name].labels}
            assert shown <= labels | {"instance"}, (part.title, legend)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)
def test_panels_fill_the_width_without_lying_on_each_other(dashboard: Dashboard) -> None:
    panels = json.loads(rendered(dashboard))["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
    for y in {panel["gridPos"]["y"] for panel in panels}:
        assert sum(panel["gridPos"]["w"] for panel in panels if panel["gridPos"]["y"] == y) == 24, y


def test_no_metric_is_told_for_nobody() -> None:
    """What no panel and no rule shows is in the documentation alone; these are for who looks closer."""
    shown = {
        name
        for one in DASHBOARDS
        for part in one.parts
        if isinstance(part, Panel)
        for e, _ in part.shows
        for name, _ in selected(e)
    }
    shown |= {name for rule in alerts().values() for name, _ in selected(rule["expr"])}
    unseen = {metric.name for name, metric in exported().items() if name not in shown} - {
        exported()[name].name for name in shown if name != "up"
    }
    assert unseen == {
        "rayfeed_backfills",
        "rayfeed_batches_repeated_total",
        "rayfeed_cache_evicted_total",
        "rayfeed_connects_total",
        "rayfeed_edge_response_time_seconds",
        "rayfeed_flagged_trades_total",
        "rayfeed_instruments",
        "rayfeed_live_log_bytes",
        "rayfeed_log_lines_repeated_total",
        "rayfeed_messages_ignored_total",
        "rayfeed_metrics_series_merged_total",
        "rayfeed_poller_requests_total",
        "rayfeed_process_open_files",
        "rayfeed_process_start_time_seconds",
        "rayfeed_reports",
        "rayfeed_settings_info",
        "rayfeed_sign_in_failures_total",
        "rayfeed_symbol_synced",
    }


def test_rules_ask_for_what_is_exported_and_say_what_to_do() -> None:
    for name, rule in alerts().items():
        assert wrong(rule["expr"]) == [], name
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"] and rule["annotations"]["remedy"]


def test_promtool_accepts_configuration_and_rules() -> None:
    promtool("check", "config", CONFIGURATION)
    promtool("check", "rules", RULES)


def test_prometheus_understands_every_expression_of_every_panel(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{dashboard.name}:{number}", "expr": filled_in(expression)}
        for dashboard in DASHBOARDS
        for number, part in enumerate(dashboard.parts)
        if isinstance(part, Panel)
        for expression, _ in part.shows
    ]
    assert len(rules) > 100
    for number, rule in enumerate(rules):
        rule["record"] = f"panel:expression:{number}"
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)


def ends(name: str, *grow: tuple[str, int]) -> dict[str, str]:
    """Buckets by their upper ends, and what each gains every 30 s."""
    closing = "" if name.endswith("{") else ","
    return {f'{name}{closing}le="{end}"}}': f"0+{gain}x120" for end, gain in grow}


def lag(stage: str, *grow: tuple[str, int]) -> dict[str, str]:
    return ends(f'rayfeed_lag_seconds_bucket{{stage="{stage}",exchange="okx"', *grow)


def answers(application: str, route: str, *grow: tuple[str, int]) -> dict[str, str]:
    name = "rayfeed_http_request_duration_seconds_bucket"
    return ends(f'{name}{{application="{application}",route="{route}"', *grow)


def cached(**grow: int) -> dict[str, str]:
    name = 'rayfeed_cache_requests_total{application="market",result='
    return {f'{name}"{how}"}}': f"0+{gain}x120" for how, gain in grow.items()}


def one(name: str, fires: str, fine: str) -> tuple[dict[str, str], dict[str, str]]:
    return {name: fires}, {name: fine}


def part(size: str, limit: str, fires: tuple[str, str], fine: tuple[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    return dict(zip((size, limit), fires, strict=True)), dict(zip((size, limit), fine, strict=True))


_UP = 'up{job="rayfeed",instance="a"}'
_OKX = '{exchange="okx"}'
_STALE, _GAPPED = (f'rayfeed_symbols{{exchange="okx",state="{state}"}}' for state in ("stale", "gapped"))
_SYNCED = {'rayfeed_symbols{exchange="okx",state="synced"}': "2"}
_REPLICAS = [f'rayfeed_replicas{{application="{name}"}}' for name in ("data", "live", "market", "pages")]
_SLOW = (("1.0", 0), ("5.0", 9), ("+Inf", 9))
#: By alert the series (of a value each 30 s, for an hour; a single value stays) that make it fire, and others that do
#: not.
SERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "RayfeedDown": one(_UP, "0", "1"),
    "RayfeedNothingMeasured": ({_UP: "1"}, {_UP: "1", 'rayfeed_metrics_sources{instance="a"}': "9"}),
    "ExchangeDown": one(f"rayfeed_exchange_up{_OKX}", "0", "1"),
    "ExchangeSilent": one(f"rayfeed_exchange_silence_seconds{_OKX}", "301", "20"),
    "ExchangeReconnects": one(f"rayfeed_reconnects_total{_OKX}", "0+1x120", "7"),
    "ExchangeLag": (
        lag("exchange_to_socket", ("10.0", 0), ("30.0", 9), ("+Inf", 9)),
        lag("exchange_to_socket", ("0.1", 9), ("10.0", 9), ("+Inf", 9)),
    ),
    "DecodeErrors": one(f"rayfeed_decode_errors_total{_OKX}", "0+30x120", "50"),
    "RestLeftAlone": one('rayfeed_breaker_open{component="rest:okx"}', "1", "0"),
    "GapsOpen": one(f"rayfeed_gaps_open{_OKX}", "1", "0"),
    "SymbolsStale": ({_STALE: "2"}, _SYNCED),
    "SymbolsGapped": ({_GAPPED: "2"}, _SYNCED),
    "QualityLow": one('rayfeed_symbol_quality_score{exchange="okx",symbol="A"}', "0.6", "0.9"),
    "PipelineLag": (lag("shard_to_disk", *_SLOW), lag("exchange_to_socket", *_SLOW)),
    "QueueNearLimit": part(
        'rayfeed_queue_size{queue="frames",owner="a"}',
        'rayfeed_queue_limit{queue="frames",owner="a"}',
        ("90", "100"),
        ("90", "900"),
    ),
    "ShardDiskSlow": (
        ends("rayfeed_sync_duration_seconds_bucket{", ("2.5", 0), ("5.0", 9), ("+Inf", 9)),
        ends("rayfeed_sync_duration_seconds_bucket{", ("0.1", 9), ("5.0", 9), ("+Inf", 9)),
    ),
    "SinkDown": one('rayfeed_sink_up{sink="redis"}', "0", "1"),
    "SinkDropping": one('rayfeed_sink_dropped_total{sink="redis"}', "0+1x120", "5"),
    "SpoolGrowing": part(
        'rayfeed_spool_bytes{sink="c"}',
        'rayfeed_spool_limit_bytes{sink="c"}',
        ("60+0.1x120", "100"),
        ("90-0.1x120", "100"),
    ),
    "DiskNearlyFull": part(
        'rayfeed_disk_free_bytes{node="a"}', 'rayfeed_disk_size_bytes{node="a"}', ("9", "100"), ("11", "100")
    ),
    "DiskFullWithinADay": part(
        'rayfeed_disk_free_bytes{node="a"}',
        'rayfeed_disk_size_bytes{node="a"}',
        ("390-0.5x120", "1000"),
        ("390", "1000"),
    ),
    "EdgeDown": one("rayfeed_edge_up", "0", "1"),
    "NoServerUp": one('rayfeed_edge_servers{route="/"}', "0", "1"),
    "ReplicaMissing": (dict.fromkeys(_REPLICAS[1:], "1"), dict.fromkeys(_REPLICAS, "1")),
    "ErrorRate": part(
        'rayfeed_edge_responses_total{code="5xx"}',
        "rayfeed_edge_requests_total",
        ("0+2x120", "0+100x120"),
        ("0+0.5x120", "0+100x120"),
    ),
    "AnswersSlow": (answers("data", "/api/data", *_SLOW), answers("live", "/api/v1/stream", *_SLOW)),
    "CacheOfLittleUse": (cached(hit=10, miss=90), cached(hit=1, miss=9)),
    "LiveClientsTooSlow": (
        {'rayfeed_live_clients_closed_total{reason="slow"}': "0+30x120"},
        {'rayfeed_live_clients_closed_total{reason="stopped"}': "0+30x120"},
    ),
    "ActorDown": one('rayfeed_actor_up{actor="shard:0"}', "0", "1"),
    "ActorRestarts": one('rayfeed_actor_restarts_total{actor="shard:0"}', "0+1x120", "3"),
    "ChildRestarts": one('rayfeed_child_restarts_total{child="edge"}', "0+1x120", "2"),
    "MemoryHigh": one('rayfeed_process_resident_memory_bytes{process="shard:0"}', "9000000000", "900000000"),
    "NotificationsFail": (
        {'rayfeed_notifications_total{result="failed"}': "0+1x120"},
        {'rayfeed_notifications_total{result="delivered"}': "0+1x120"},
    ),
}


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    assert SERIES.keys() == alerts().keys()
    tests = []
    for alert, given in SERIES.items():
        for fires, series in zip((1, 0), given, strict=True):
            # Where nothing fires there is nothing to count.
            said = [{"labels": "{}", "value": 1}] if fires else []
            asked = f'count(count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}}))'
            steps = [
                {"series": name, "values": values if "x" in values else f"{values}+0x120"}
                for name, values in series.items()
            ]
            expected = [{"expr": asked, "eval_time": "55m", "exp_samples": said}]
            tests.append({"interval": "30s", "input_series": steps, "promql_expr_test": expected})
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": tests}))
    promtool("test", "rules", file)
