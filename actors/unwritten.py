"""What waits to be written to Redis, within a bound of bytes: latest values, of which the newest per key wins, and
batches for streams, each of which counts. Pure: the time is passed in.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from storage.redis import Entry
from storage.redis_streams import Place

#: A value that waited longer than this is written with what is left of its time.
FRESH_S: Final = 1.0
#: What a batch or value takes besides its bytes, about.
_OVERHEAD: Final = 200

_Key = tuple[str, int | None]


@dataclass(slots=True, eq=False)
class Batch:
    """The `number`th batch (from 1) of its stream, that came at `ms`; `place` is its id once it was sent."""

    stream: str
    number: int
    ms: int
    content: bytes
    place: Place | None = None

    @property
    def nbytes(self) -> int:
        return len(self.content) + _OVERHEAD


@dataclass(slots=True, eq=False)
class _Value:
    entry: Entry
    since: float

    @property
    def nbytes(self) -> int:
        return self.entry.nbytes + _OVERHEAD


@dataclass(slots=True)
class Portion:
    """What is written at once; `of` is what it came from."""

    entries: list[Entry] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    of: list[tuple[_Key, _Value]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries) + len(self.batches)


class Unwritten:
    """No more than `most_bytes`; above, the oldest batches are dropped, then the oldest values."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._values: dict[_Key, _Value] = {}
        self._batches: deque[Batch] = deque()
        self._numbers: Counter[str] = Counter()
        self.nbytes = 0
        #: Replaced by newer ones, gone before they were written, and dropped.
        self.superseded = self.expired = self.dropped = self.batches_dropped = 0

    def __len__(self) -> int:
        return len(self._values) + len(self._batches)

    @property
    def batches(self) -> int:
        """How many batches wait."""
        return len(self._batches)

    def put(self, entries: Iterable[Entry], now: float) -> None:
        for entry in entries:
            key = (entry.key, entry.time)
            # Taken out first: the dict's order is by age, and the oldest are dropped.
            self.superseded += self._forget(key)
            value = self._values[key] = _Value(entry, now)
            self.nbytes += value.nbytes
        self._keep_within()

    def put_batch(self, stream: str, content: bytes, ms: int, keep: bool = True) -> None:
        """Number a batch and, with `keep`, let it wait; one that does not is missing in the stream, as one that is
        dropped."""
        self._numbers[stream] += 1
        if not keep:
            self.batches_dropped += 1
            return
        batch = Batch(stream, self._numbers[stream], ms, content)
        self._batches.append(batch)
        self.nbytes += batch.nbytes
        self._keep_within()

    def next(self, most_bytes: int, now: float) -> Portion:
        """The oldest values and batches of about so many bytes, at least one if there is any. They wait until `wrote`
        says that they need not."""
        portion, taken = Portion(), 0
        gone = []
        for key, value in self._values.items():
            if taken >= most_bytes:
                break
            entry, waited = value.entry, now - value.since
            if entry.expires_s is not None and waited > FRESH_S:
                if waited >= entry.expires_s:
                    gone.append(key)
                    continue
                entry = replace(entry, expires_s=entry.expires_s - waited)
            portion.entries.append(entry)
            portion.of.append((key, value))
            taken += value.nbytes
        for key in gone:
            self.expired += self._forget(key)
        for batch in self._batches:
            if portion.batches and taken + batch.nbytes > most_bytes:
                break
            portion.batches.append(batch)
            taken += batch.nbytes
        return portion

    def wrote(self, portion: Portion) -> None:
        """These need not wait any longer."""
        for key, value in portion.of:
            # What arrived meanwhile under the same key stays.
            if self._values.get(key) is value:
                self._forget(key)
        written = set(map(id, portion.batches))
        while self._batches and id(self._batches[0]) in written:
            self.nbytes -= self._batches.popleft().nbytes

    def _forget(self, key: _Key) -> bool:
        value = self._values.pop(key, None)
        if value is None:
            return False
        self.nbytes -= value.nbytes
        return True

    def _keep_within(self) -> None:
        while self.nbytes > self._most_bytes and self._batches:
            self.nbytes -= self._batches.popleft().nbytes
            self.batches_dropped += 1
        while self.nbytes > self._most_bytes:
            self._forget(next(iter(self._values)))
            self.dropped += 1
