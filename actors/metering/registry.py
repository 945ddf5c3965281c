"""What all processes told, as one whole: counters that only grow, whoever was restarted meanwhile, gauges of those who
are there, and no more series than there may be. Pure; time is passed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from actors.metering.catalog import BY_NAME, Metric
from actors.metering.meters import Samples

#: Of one metric; what has further labels counts under `other`.
MOST_SERIES: Final = 1500
#: A label is cut after so many characters.
MOST_CHARACTERS: Final = 80
MOST_SOURCES: Final = 1000
#: Who has told nothing for so long, and for three times the time after which it tells again, is gone.
SILENT_S: Final = 20.0
OTHER: Final = "other"

Labels = tuple[str, ...]
_MERGED: Final = "rayfeed_metrics_series_merged_total"


@dataclass(slots=True)
class _Source:
    heard_at: float
    #: What it told last.
    told: Samples = field(default_factory=dict)


class Registry:
    """Takes samples of sources, each of which tells all it has each time, every `interval_s`."""

    def __init__(self, most_series: int = MOST_SERIES, interval_s: float = 0.0) -> None:
        self._most_series = most_series
        self._silent_s = max(SILENT_S, 3 * interval_s)
        self._sources: dict[str, _Source] = {}
        #: By source what it counted last, also of one that is silent and may go on; the last heard ones.
        self._counted: dict[str, Samples] = {}
        #: By metric and labels.
        self._grown: dict[str, dict[Labels, list[float]]] = {}
        self._shared: dict[str, dict[Labels, float]] = {}
        self._known: dict[str, set[Labels]] = {}

    def __len__(self) -> int:
        """Sources that are there."""
        return len(self._sources)

    def take(self, source: str, samples: Samples, now: float) -> None:
        """What `source` tells at `now` (seconds). A source is a process: when it begins anew its counters do, under the
        same name or another. KeyError for a metric that is not in the catalog, ValueError for labels that do not fit:
        nothing is taken then."""
        for name, labels in samples:
            if len(BY_NAME[name].labels) != len(labels):
                raise ValueError(f"{name} has the labels {BY_NAME[name].labels}, not {labels}")
        if source not in self._sources and len(self._sources) >= MOST_SOURCES:
            return
        self._sources[source] = _Source(now, samples)
        counted = self._counted[source] = self._counted.pop(source, {})
        while len(self._counted) > MOST_SOURCES:
            del self._counted[next(iter(self._counted))]
        for (name, labels), value in samples.items():
            metric = BY_NAME[name]
            if metric.kind != "gauge":
                self._grow(metric, self._bounded(metric, labels), value, counted.get((name, labels)))
                counted[name, labels] = value
            elif metric.shared and not isinstance(value, list):
                self._shared.setdefault(name, {})[self._bounded(metric, labels)] = value

    def forget(self, source: str) -> None:
        """It is gone: its gauges go, what it counted stays."""
        self._sources.pop(source, None)
        self._counted.pop(source, None)

    def forget_silent(self, now: float) -> None:
        for name in [name for name, source in self._sources.items() if now - source.heard_at > self._silent_s]:
            del self._sources[name]

    def collect(self) -> list[tuple[Metric, dict[Labels, float | list[float]]]]:
        """Of each metric that somebody told its series."""
        found: dict[str, dict[Labels, float | list[float]]] = {
            name: {
                labels: list(value) if BY_NAME[name].kind == "histogram" else value[0] for labels, value in own.items()
            }
            for name, own in self._grown.items()
        }
        for source in self._sources.values():
            for (name, labels), value in source.told.items():
                metric = BY_NAME[name]
                if metric.kind != "gauge" or isinstance(value, list):
                    continue
                own, bounded = found.setdefault(name, {}), self._bounded(metric, labels)
                before = own.get(bounded, 0.0)
                assert not isinstance(before, list)
                own[bounded] = self._shared[name][bounded] if metric.shared else before + value
        found["rayfeed_metrics_sources"] = {(): float(len(self._sources))}
        return [(BY_NAME[name], found[name]) for name in BY_NAME if name in found]

    def gauge(self, name: str) -> dict[Labels, float]:
        """Of those who are there, added up; for one that is not shared."""
        found: dict[Labels, float] = {}
        for source in self._sources.values():
            for (told, labels), value in source.told.items():
                if told == name and not isinstance(value, list):
                    found[labels] = found.get(labels, 0.0) + value
        return found

    def _grow(
        self, metric: Metric, labels: Labels, value: float | list[float], last: float | list[float] | None
    ) -> None:
        new = value if isinstance(value, list) else [value]
        old = last if isinstance(last, list) else [last or 0.0]
        # Who counts less than before has begun anew.
        if len(old) != len(new) or any(one > other for one, other in zip(old, new, strict=True)):
            old = [0.0] * len(new)
        total = self._grown.setdefault(metric.name, {}).setdefault(labels, [0.0] * len(new))
        for place, (one, other) in enumerate(zip(new, old, strict=True)):
            total[place] += one - other

    def _bounded(self, metric: Metric, labels: Labels) -> Labels:
        cut = tuple(label[:MOST_CHARACTERS] for label in labels)
        known = self._known.setdefault(metric.name, set())
        if cut in known or len(known) < self._most_series:
            known.add(cut)
            return cut
        merged = self._grown.setdefault(_MERGED, {}).setdefault((metric.name,), [0.0])
        merged[0] += 1
        return (OTHER,) * len(labels)


def together(samples: Iterable[Samples]) -> Samples:
    """Of several that tell different things."""
    return {key: value for own in samples for key, value in own.items()}
