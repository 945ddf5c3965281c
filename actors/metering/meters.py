"""What this process counts and measures, for whoever asks now and then. To count costs a look-up and an addition; a
batch of durations becomes counts in one pass. Nothing is sent from here.
"""

import os
import shutil
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from actors.metering.catalog import BY_NAME

#: By metric and the values of its labels a number, or of a histogram how many fell into each bucket and their sum.
Samples = dict[tuple[str, tuple[str, ...]], float | list[float]]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")
_FILES: Final = Path("/proc/self/fd")
_BEGAN: Final = time.time()


class Counted:
    """A counter of this process; under `labels`, or without any where it has none, it is there from the beginning."""

    def __init__(self, name: str, *labels: tuple[str, ...]) -> None:
        if BY_NAME[name].kind != "counter":
            raise ValueError(f"{name} is no counter")
        self._name = name
        known = labels if BY_NAME[name].labels else ((),)
        self._counts: Counter[tuple[str, ...]] = Counter(dict.fromkeys(known, 0))
        _METERS.append(self.samples)

    def add(self, *labels: str, by: float = 1) -> None:
        self._counts[labels] += by  # type: ignore[assignment]  # seconds are counted too

    def samples(self) -> Samples:
        # Threads may add labels meanwhile.
        return {(self._name, labels): count for labels, count in list(self._counts.items())}


class Durations:
    """A histogram of this process, of seconds; without labels it is there from the beginning."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ends = BY_NAME[name].ends
        self._array = np.array(self._ends)
        self._counts: dict[tuple[str, ...], list[float]] = {}
        if not BY_NAME[name].labels:
            self._of(())
        _METERS.append(self.samples)

    def observe(self, seconds: float, *labels: str) -> None:
        counts = self._of(labels)
        # A clock that is ahead of ours makes ages below zero.
        counts[bisect_left(self._ends, seconds)] += 1
        counts[-1] += max(seconds, 0.0)

    def observe_ns(self, durations: np.ndarray[Any, Any], *labels: str) -> None:
        """Many at once, in nanoseconds."""
        seconds = durations * 1e-9
        counts = self._of(labels)
        places = np.bincount(np.searchsorted(self._array, seconds), minlength=len(self._ends) + 1)
        for place in np.flatnonzero(places):
            counts[place] += int(places[place])
        counts[-1] += float(np.maximum(seconds, 0.0).sum())

    def samples(self) -> Samples:
        return {(self._name, labels): list(counts) for labels, counts in list(self._counts.items())}

    def _of(self, labels: tuple[str, ...]) -> list[float]:
        if (counts := self._counts.get(labels)) is None:
            # One more bucket than ends, and the sum.
            counts = self._counts[labels] = [0.0] * (len(self._ends) + 2)
        return counts


_METERS: list[Callable[[], Samples]] = []
#: Folders whose disks matter to this process.
DISKS: Final[set[Path]] = set()


def watch(samples: Callable[[], Samples]) -> None:
    """Ask that too when somebody asks this process."""
    _METERS.append(samples)


def snapshot(process: str) -> Samples:
    """Everything this process counts; itself under the name `process`."""
    found = _process(process)
    for samples in _METERS:
        found |= samples()
    for folder in DISKS:
        found |= disk(folder)
    return found


def disk(folder: Path) -> Samples:
    """The disk of a folder; nothing where it cannot be seen."""
    try:
        usage, node = shutil.disk_usage(folder), (socket.gethostname(),)
    except OSError:
        return {}
    return {("rayfeed_disk_size_bytes", node): usage.total, ("rayfeed_disk_free_bytes", node): usage.free}


def _process(process: str) -> Samples:
    own = (process,)
    memory = int(_STATM.read_text().split()[1]) * _PAGE if _STATM.exists() else 0
    return {
        ("rayfeed_process_resident_memory_bytes", own): memory,
        ("rayfeed_process_cpu_seconds_total", own): time.process_time(),
        ("rayfeed_process_open_files", own): len(os.listdir(_FILES)) if _FILES.exists() else 0,  # noqa: PTH208 - names alone
        ("rayfeed_process_start_time_seconds", own): _BEGAN,
    }


#: Age of what passes a stage, by stage and exchange.
LAG: Final = Durations("rayfeed_lag_seconds")
