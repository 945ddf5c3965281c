"""What the live feed has told lately, numbered: so that whoever was away for a moment gets what came meanwhile, or
knows that it is too long ago. Pure: no clock, no Ray.
"""

from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

#: A topic and an exchange ("" where a topic has none).
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows of one topic and exchange. `content` is an Arrow IPC stream, or of topics in TOLD a JSON list of objects. An
    entry without a topic says that something was lost on its way here."""

    seq: int
    topic: str
    exchange: str
    content: bytes
    at_ns: int


class LiveLog:
    """The newest entries within `most_bytes` and `most_age_ns`. Their numbers count on by one from `first`."""

    def __init__(self, first: int, most_bytes: int, most_age_ns: int) -> None:
        self._most_bytes = most_bytes
        self._most_age_ns = most_age_ns
        self._entries: deque[Entry] = deque()
        #: From which number on everything of a key is here.
        self._since: dict[Key, int] = {}
        self.seq = first
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def keys(self) -> Set[Key]:
        return self._since.keys()

    @property
    def oldest(self) -> int:
        """Everything after this number is here."""
        return self._entries[0].seq - 1 if self._entries else self.seq

    def begin(self, key: Key) -> None:
        """Entries of a key come from now on."""
        self._since.setdefault(key, self.seq)

    def end(self, key: Key) -> None:
        """They do not come any more."""
        self._since.pop(key, None)

    def put(self, topic: str, exchange: str, content: bytes, now_ns: int) -> None:
        self.seq += 1
        self._entries.append(Entry(self.seq, topic, exchange, content, now_ns))
        self.nbytes += len(content)
        while self.nbytes > self._most_bytes or now_ns - self._entries[0].at_ns > self._most_age_ns:
            self.nbytes -= len(self._entries.popleft().content)
            if not self._entries:
                break

    def after(self, seq: int, keys: Set[Key], before_ns: int = 0) -> list[Entry]:
        """The entries of these keys after a number and in this time before it, oldest first; and those that tell of
        losses."""
        found, oldest_ns = [], None
        for entry in reversed(self._entries):
            if entry.seq <= seq:
                oldest_ns = entry.at_ns - before_ns if oldest_ns is None else oldest_ns
                if entry.at_ns <= oldest_ns:
                    break
            if not entry.topic or (entry.topic, entry.exchange) in keys:
                found.append(entry)
        return found[::-1]

    def reaches(self, seq: int, keys: Iterable[Key]) -> bool:
        """Whether all entries of these keys after that number are here, and it is one of ours."""
        return self.oldest <= seq <= self.seq and all(self._since.get(key, self.seq) <= seq for key in keys)


class NewTrades:
    """Leaves out trades that came before: while a connection takes over from another, both receive them. Remembers
    between one and two times `most` trades."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._known: set[tuple[str, str, int]] = set()
        self._older: set[tuple[str, str, int]] = set()

    def __call__(self, exchange: str, trades: pa.Table) -> pa.Table:
        """`trades` (`storage.schema.TRADES`), the same table when all of them are new."""
        symbols: list[Any] = trades["symbol"].to_pylist()
        ids: list[Any] = trades["trade_id"].to_pylist()
        named = [(exchange, symbol, number) for symbol, number in zip(symbols, ids, strict=True)]
        several = len(set(named)) < len(named)
        if several or not (self._known.isdisjoint(named) and self._older.isdisjoint(named)):
            is_new = []
            for one in named:
                is_new.append(one not in self._known and one not in self._older)
                self._known.add(one)
            trades = trades.filter(pa.array(is_new, pa.bool_()))
        self._known.update(named)
        if len(self._known) > self._most:
            self._known, self._older = set(), self._known
        return trades
