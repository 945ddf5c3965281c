"""The metrics of an instance as Prometheus reads them: its text format, version 0.0.4."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from actors.metering.catalog import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Series = dict[tuple[str, ...], float | list[float]]


class _Collected(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def text(collected: Iterable[tuple[Metric, Series]]) -> bytes:
    """See `Registry.collect`."""
    return generate_latest(_Collected([family(metric, series) for metric, series in collected]))


def family(metric: Metric, series: Series) -> Family:
    """As prometheus-client has it."""
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, counts in series.items():
            assert isinstance(counts, list)
            histogram.add_metric(labels, list(buckets(metric, counts)), counts[-1])
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in series.items():
        assert not isinstance(value, list)
        plain.add_metric(labels, value)
    return plain


def buckets(metric: Metric, counts: list[float]) -> Iterable[tuple[str, float]]:
    """Upper end and how many were not above it, in all."""
    total = 0.0
    for end, count in zip((*metric.ends, float("inf")), counts, strict=False):
        total += count
        yield "+Inf" if end == float("inf") else repr(end), total
