"""What a system takes: processor time and memory of its processes by kind, how long trades were on their way by what it
says at `/metrics`, and what one more of something adds.
"""

import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.footprint import kind_of

#: What a trade passes on its way into the files.
STAGES: Final = ("exchange_to_socket", "socket_to_shard", "shard_to_disk")
_ANSWER_S: Final = 30.0


@dataclass(frozen=True)
class Taken:
    """By kind of process: seconds of processor time since each began, bytes that are its own alone (only where they
    were asked for), and how many there are."""

    cpu_s: Counter[str] = field(default_factory=Counter)
    memory: Counter[str] = field(default_factory=Counter)
    processes: Counter[str] = field(default_factory=Counter)

    def since(self, before: "Taken") -> dict[str, float]:
        """Seconds of processor time by kind."""
        return {kind: used - before.cpu_s[kind] for kind, used in self.cpu_s.items()}


def taken(processes: Iterable[psutil.Process], memory: bool = False) -> Taken:
    """What these take; those that have just ended take nothing."""
    found = Taken()
    for process in processes:
        with suppress(psutil.Error):
            kind, times = kind_of(process), process.cpu_times()
            found.cpu_s[kind] += times.user + times.system  # type: ignore[assignment]  # seconds
            found.processes[kind] += 1
            if memory:
                found.memory[kind] += process.memory_full_info().uss
    return found


def slope(counts: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """What nothing and what each one costs, by the line that is nearest to these points."""
    each, nothing = np.polyfit(counts, costs, 1)
    return float(nothing), float(each)


#: Of a stage: by the end of each bucket (seconds), how many took no longer.
Lags = Mapping[str, Mapping[float, float]]


def lags(url: str) -> Lags:
    """Of the stages, as the instance counts them at the front door `url`; all exchanges together."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=_ANSWER_S) as answer:
        return read_lags(answer.read().decode())


def read_lags(text: str) -> Lags:
    """The same from what `/metrics` says."""
    found: dict[str, Counter[float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name == "rayfeed_lag_seconds" else ():
            if sample.name.endswith("_bucket"):
                counts = found.setdefault(sample.labels["stage"], Counter())
                counts[float(sample.labels["le"])] += sample.value  # type: ignore[assignment]  # counts are floats there
    return found


def percentile_ms(before: Lags, after: Lags, stage: str, part: float) -> float:
    """Within how many milliseconds this part of what passed the stage in between did; evenly within a bucket. NaN when
    nothing did."""
    earlier = before.get(stage, {})
    ends = sorted(after.get(stage, {}))
    counts = np.array([after[stage][end] - earlier.get(end, 0.0) for end in ends])
    if not ends or not counts[-1]:
        return float("nan")
    # The last bucket has no end.
    limits = [0.0, *ends[:-1], ends[-2]]
    return float(np.interp(part * counts[-1], [0.0, *counts], limits)) * 1e3
