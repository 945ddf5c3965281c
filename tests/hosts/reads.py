"""How long readers wait at the front door, all the time."""

import http.client
import threading
import time
from dataclasses import dataclass, field
from typing import Final

import numpy as np

#: Between two reads of one reader, and until it gives up (seconds).
_PAUSE_S: Final = 0.02
_PATIENCE_S: Final = 5.0
_SPAN_S: Final = 10


@dataclass(frozen=True, slots=True)
class Waits:
    """Of the reads that began in a span of time: how many, how many of them got no answer, and percentiles (ms) of
    those that did."""

    reads: int
    failed: int
    p50_ms: float
    p99_ms: float


@dataclass(slots=True)
class Reads:
    """Reads `path` (`{since}` is ten seconds ago) again and again until it is closed; any answer but 200 is none.
    Use as a context manager."""

    host: str
    port: int
    path: str
    #: (when it began on the monotonic clock, seconds it took or NaN)
    taken: list[tuple[float, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Reads":
        self._thread = threading.Thread(target=self._read, name="reads", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def answered(self, since: float) -> bool:
        """Whether the newest read that is over began since then, and got an answer."""
        return bool(self.taken) and self.taken[-1][0] >= since and not np.isnan(self.taken[-1][1])

    def between(self, begin: float, end: float) -> Waits:
        took = np.array([seconds for at, seconds in list(self.taken) if begin <= at < end])
        answered = took[~np.isnan(took)] * 1e3
        p50, p99 = np.percentile(answered, (50, 99)) if len(answered) else (np.nan, np.nan)
        return Waits(len(took), len(took) - len(answered), round(float(p50), 1), round(float(p99), 1))

    def _read(self) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_PATIENCE_S)
        while not self._over.wait(_PAUSE_S):
            began = time.monotonic()
            try:
                connection.request("GET", self.path.format(since=int(time.time()) - _SPAN_S))
                answer = connection.getresponse()
                answer.read()
                took = time.monotonic() - began if answer.status == 200 else float("nan")
            except (OSError, http.client.HTTPException):
                connection.close()
                took = float("nan")
            self.taken.append((began, took))
        connection.close()
