"""The same metrics in Ray's own system: on each node's metrics port, and so wherever somebody watches Ray. Names get
`ray_` in front there. Ray takes no counts of histograms, so each bucket is told as a number of its own under the names
that Prometheus expects.
"""

from typing import Any

from ray.util.metrics import Counter, Gauge

from actors.metering.catalog import Metric
from actors.metering.exposition import Series, buckets


class RayExport:
    """Ray's metrics of this process; they are told by Ray every ten seconds."""

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}

    def tell(self, collected: list[tuple[Metric, Series]]) -> None:
        """See `Registry.collect`."""
        for metric, series in collected:
            for labels, value in series.items():
                if isinstance(value, list):
                    self._histogram(metric, labels, value)
                elif metric.kind == "counter":
                    self._count(metric, labels, value)
                else:
                    self._of(Gauge, metric.name, metric).set(value, dict(zip(metric.labels, labels, strict=True)))

    def _histogram(self, metric: Metric, labels: tuple[str, ...], counts: list[float]) -> None:
        tags = dict(zip(metric.labels, labels, strict=True))
        total = 0.0
        for end, total in buckets(metric, counts):
            self._of(Gauge, f"{metric.name}_bucket", metric, "le").set(total, {**tags, "le": end})
        self._of(Gauge, f"{metric.name}_sum", metric).set(counts[-1], tags)
        self._of(Gauge, f"{metric.name}_count", metric).set(total, tags)

    def _count(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        new = value - self._counted.get((metric.name, labels), 0.0)
        if new > 0:
            self._counted[metric.name, labels] = value
            self._of(Counter, metric.name, metric).inc(new, dict(zip(metric.labels, labels, strict=True)))

    def _of(self, kind: type[Any], name: str, metric: Metric, *more: str) -> Any:
        if name not in self._metrics:
            self._metrics[name] = kind(name, metric.help, (*metric.labels, *more))
        return self._metrics[name]
