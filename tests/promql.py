"""What an expression of Prometheus asks for: metrics and labels, read without a parser of the language."""

import re
from collections.abc import Iterator
from typing import Final

from actors.metering.catalog import METRICS, Metric

_SELECTED: Final = re.compile(r"\b((?:rayfeed|up)\w*)\s*(?:\{([^{}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED: Final = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
#: What Prometheus adds itself.
_ADDED: Final = frozenset({"instance", "job", "le"})


def exported() -> dict[str, Metric]:
    """Every name Prometheus knows, with its metric."""
    names = {}
    for metric in METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.name + end: metric for end in ends}
    return names


def selected(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric with the labels it is selected by."""
    for name, labels in _SELECTED.findall(expression):
        yield name, set(_LABEL.findall(_QUOTED.sub('""', labels)))


def grouped(expression: str) -> set[str]:
    """Labels that something is put together by."""
    return {label.strip() for labels in _GROUPED.findall(expression) for label in labels.split(",") if label.strip()}


def wrong(expression: str) -> list[str]:
    """What it asks for that nobody exports."""
    known, found, labels = exported(), [], set(_ADDED)
    for name, own in selected(expression):
        if name == "up":
            continue
        if name not in known:
            found.append(f"there is no metric {name}")
            continue
        labels |= set(known[name].labels)
        found += [f"{name} has no label {label}" for label in own - set(known[name].labels) - _ADDED]
    return found + [f"nothing has the label {label}" for label in grouped(expression) - labels]


def filled_in(expression: str, interval: str = "1m") -> str:
    """As Grafana asks when everything is chosen."""
    return expression.replace("$__rate_interval", interval).replace("$instance", ".*").replace("$exchange", ".*")
