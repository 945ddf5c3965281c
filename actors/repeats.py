"""Lines of a log that say the same again and again: the first few are let through, of the rest it is said how many
there were. Pure; time is passed in.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

#: Different lines that are remembered; beyond, what began first is told and forgotten.
MOST_KEYS: Final = 500

#: Level, words and exchange of a line.
Key = tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    began: float
    count: int = 0


class Repeats:
    """Lets `most` of a kind through in `window_s` seconds."""

    def __init__(self, most: int, window_s: float, most_keys: int = MOST_KEYS) -> None:
        self._most = most
        self._window_s = window_s
        self._most_keys = most_keys
        #: What began first is first.
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()
        #: Lines that were not let through, ever.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, key: Key, now: float) -> bool:
        """Whether a line of that kind is let through. Ask `over` first."""
        seen = self._seen.setdefault(key, _Seen(now))
        seen.count += 1
        admitted = seen.count <= self._most
        self.dropped += not admitted
        return admitted

    def over(self, now: float) -> list[tuple[Key, int, float]]:
        """What is over: its kind, how many lines were not let through (more than 0), and in how many seconds."""
        found: list[tuple[Key, int, float]] = []
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if now - seen.began < self._window_s and len(self._seen) < self._most_keys:
                break
            del self._seen[key]
            if seen.count > self._most:
                found.append((key, seen.count - self._most, now - seen.began))
        return found
