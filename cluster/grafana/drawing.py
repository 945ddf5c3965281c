"""From what a dashboard shows to the JSON that Grafana loads: one look for all of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["timeseries", "stat", "gauge", "bargauge", "state-timeline"]
WIDTH: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_GOOD, _DOUBTFUL, _BAD = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Panel:
    """`shows` are expressions with their legends. From `doubtful` and `bad` on it has another colour; below them where
    `doubtful` is the larger. `texts` are values with what is shown instead and its colour; `named` shows legends
    alone."""

    title: str
    shows: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    doubtful: float | None = None
    bad: float | None = None
    least: float | None = 0
    most: float | None = None
    stacked: bool = False
    about: str = ""
    texts: tuple[tuple[float, str, str], ...] = ()
    named: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A heading."""

    title: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    title: str
    about: str
    parts: tuple[Panel | Row, ...]
    by_exchange: bool = False


def rendered(dashboard: Dashboard) -> str:
    """The file."""
    return json.dumps(_dashboard(dashboard), indent=1, ensure_ascii=False) + "\n"


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": f"rayfeed-{dashboard.name}",
        "title": f"rayfeed: {dashboard.title}",
        "description": dashboard.about,
        "tags": ["rayfeed"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "title": "rayfeed", "tags": ["rayfeed"], "asDropdown": True, "keepTime": True,
             "includeVars": True, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}
        ],
        "annotations": {"list": []},
        "templating": {"list": list(_variables(dashboard))},
        "panels": list(_panels(dashboard)),
    }  # fmt: skip


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}
    yield _variable("instance", "Instance", "label_values(rayfeed_build_info, instance)")
    if dashboard.by_exchange:
        yield _variable("exchange", "Exchange", 'label_values(rayfeed_exchange_up{instance=~"$instance"}, exchange)')


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    left = top = height = 0
    for number, part in enumerate(dashboard.parts, 1):
        wide, high = (WIDTH, 1) if isinstance(part, Row) else (part.width, part.height)
        if left + wide > WIDTH or isinstance(part, Row):
            left, top, height = 0, top + height, 0
        place = {"x": left, "y": top, "w": wide, "h": high}
        left, height = left + wide, max(height, high)
        if isinstance(part, Row):
            yield {"id": number, "type": "row", "title": part.title, "collapsed": False, "gridPos": place, "panels": []}
        else:
            yield _panel(number, part, place)


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel), "noValue": "none"}
    coloured = panel.kind != "timeseries" and (panel.bad is not None or bool(panel.texts))
    defaults["color"] = {"mode": "thresholds" if coloured else "palette-classic"}
    if panel.least is not None:
        defaults["min"] = panel.least
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.texts:
        options = {str(value): {"text": text, "color": colour} for value, text, colour in panel.texts}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if panel.bad is None else "dashed"},
        }
    instant = panel.kind not in ("timeseries", "state-timeline")
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + place_),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
            }
            for place_, (expression, legend) in enumerate(panel.shows)
        ],
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": _GOOD, "value": None}]
    if panel.bad is not None:
        doubtful = panel.bad if panel.doubtful is None else panel.doubtful
        if doubtful <= panel.bad:
            steps += [{"color": _DOUBTFUL, "value": doubtful}] if doubtful < panel.bad else []
            steps.append({"color": _BAD, "value": panel.bad})
        else:
            steps = [
                {"color": _BAD, "value": None},
                {"color": _DOUBTFUL, "value": panel.bad},
                {"color": _GOOD, "value": doubtful},
            ]
    return {"mode": "absolute", "steps": steps}


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "stat":
            mode = "background" if panel.bad is not None or panel.texts else "none"
            text = "name" if panel.named else "auto"
            return {"reduceOptions": last, "colorMode": mode, "graphMode": "none", "textMode": text}
        case "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        case "gauge":
            return {"reduceOptions": last, "showThresholdLabels": False, "showThresholdMarkers": True}
        case "state-timeline":
            return {"showValue": "never", "rowHeight": 0.8, "legend": {"showLegend": False}, "mergeValues": True}
