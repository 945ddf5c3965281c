"""docs/metrics.md says of every metric what the code says."""

import re
from pathlib import Path

from actors.metering.catalog import METRICS
from cluster.grafana.dashboards import DASHBOARDS

DOCUMENT = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_every_metric_is_documented_as_it_is() -> None:
    rows = re.findall(r"^\| `(rayfeed_\w+)` \| (\w+) \| ([\w, ]*) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert [(name, kind, tuple(filter(None, labels.split(", "))), help_) for name, kind, labels, help_ in rows] == [
        (metric.name, metric.kind, metric.labels, metric.help) for metric in METRICS
    ]


def test_every_stage_and_dashboard_is_documented() -> None:
    code = "".join(path.read_text() for folder in ("actors", "serve_apps") for path in Path(folder).rglob("*.py"))
    stages = set(re.findall(r'"((?:exchange|socket|shard|hub)_to_\w+)"', code))
    assert stages == set(re.findall(r"^\| `(\w+_to_\w+)` \|", DOCUMENT, re.MULTILINE))
    for dashboard in DASHBOARDS:
        assert f"\n| {dashboard.name} |" in DOCUMENT
