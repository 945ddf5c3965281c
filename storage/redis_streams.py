"""Streams of batches in Redis: `stream:{kind}:{exchange}`, of which each entry is an Arrow IPC stream of many rows.

The id of an entry is `{ms}-{sequence}`: when it was published, and its number in the stream. Numbers count on by one,
so whoever knows the id before sees from an id alone whether batches between the two are missing.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Self

#: A hash: of each stream the id of its newest entry, which outlives the entries.
HEADS: Final = "streams"
SEQUENCE: Final = b"sequence"
#: When its publisher began (ms): it is later than an entry before it when the publisher has begun anew in between.
EPOCH: Final = b"epoch"
ARROW: Final = b"arrow"


def stream_name(kind: str, exchange: str) -> str:
    return f"stream:{kind}:{exchange}"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The id of an entry; sequence 0 is that of none."""

    ms: int
    sequence: int

    @classmethod
    def of(cls, entry_id: bytes | str) -> Self:
        """Raises `ValueError` for what is no id."""
        text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
        ms, _, sequence = text.partition("-")
        return cls(int(ms), int(sequence))

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"


def entry_fields(sequence: int, epoch: int, content: bytes) -> dict[Any, Any]:
    return {SEQUENCE: sequence, EPOCH: epoch, ARROW: content}


@dataclass(frozen=True, slots=True)
class Hole:
    """Batches of a stream that do not come: those after the entry `after` and before the entry `before` (ids; None
    where none is known), or where both are one, that entry. `missing`: how many, None when nobody knows."""

    kind: str
    exchange: str
    after: str | None
    before: str | None
    missing: int | None
    reason: str


def hole_between(kind: str, exchange: str, last: Place, found: Place, epoch: int) -> Hole | None:
    """What is missing between an entry and the one that was found after it, of a publisher that began at `epoch`."""
    if epoch > last.ms or found.sequence <= last.sequence:
        missing, reason = None, "the publisher began anew; what it had not written is not known"
    elif found.sequence == last.sequence + 1:
        return None
    else:
        missing, reason = found.sequence - last.sequence - 1, "trimmed before they were read, or never written"
    return Hole(kind, exchange, str(last), str(found), missing, reason)


class Numbering:
    """Gives the batches of one stream their ids. A batch has one id however often it is sent, so that Redis refuses
    the second of two; the first after another publisher's leaves a number out."""

    def __init__(self, newest: Place | None) -> None:
        """`newest`: the id the stream has come to, of whoever wrote it; None or 0-0 for a new one."""
        self._first = newest.sequence + 1 if newest and newest.ms else 0
        self._ms = newest.ms if newest else 0

    def place(self, number: int, ms: int) -> Place:
        """Of the `number`th batch (from 1) of this publisher, which it got at that time."""
        self._ms = max(self._ms, ms)
        return Place(self._ms, self._first + number)


class Bounds:
    """What the streams may keep: the newest entries within `most_bytes` together, of each no more than
    `most_entries`. It believes that nobody else takes entries away, so there is never more than it knows of."""

    def __init__(self, most_bytes: int, most_entries: int) -> None:
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        #: Of each stream its entries, oldest first: when they were added, and their size.
        self._entries: dict[str, deque[tuple[int, int]]] = {}
        self._order: Iterator[int] = count()
        self._cut: set[str] = set()
        self.nbytes = 0

    def add(self, stream: str, nbytes: int) -> None:
        own = self._entries.setdefault(stream, deque())
        own.append((next(self._order), nbytes))
        self.nbytes += nbytes
        if len(own) > self._most_entries:
            self._drop(stream)
        while self.nbytes > self._most_bytes:
            _, oldest = min((kept[0], name) for name, kept in self._entries.items() if kept)
            self._drop(oldest)

    def lengths(self) -> Mapping[str, int]:
        """The streams to be cut, and how many entries they keep; until `were_cut`."""
        return {stream: len(self._entries[stream]) for stream in sorted(self._cut)}

    def were_cut(self) -> None:
        self._cut.clear()

    def _drop(self, stream: str) -> None:
        self.nbytes -= self._entries[stream].popleft()[1]
        self._cut.add(stream)
