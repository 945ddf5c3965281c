"""Rows on their way to ClickHouse, in the order they came: on the disk (`storage.spool`), and in memory too as far as
there is room. What waits is bounded in both; what had no room, the oldest, is counted.
"""

import contextlib
from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

import pyarrow as pa

from actors.parcels import Stream
from storage.spool import Described, Record, Spool

# Every insert makes a part on disk that has to be merged later; ClickHouse asks for few and large ones.
MAX_ROWS: Final = 500_000
#: Of what waits so many tables are looked through for those that go into the same insert.
LOOK_THROUGH: Final = 1000


@dataclass(slots=True, eq=False)
class Waiting:
    """Rows of one table and exchange."""

    described: Described
    #: Where it is in the spool; None where the disk did not take it.
    record: Record | None
    #: None where it is in the spool alone.
    rows: pa.Table | None


class WaitingRows:
    """`most_held` tables in memory, `most_bytes` on the disk. One thread; `read` from any."""

    def __init__(self, folder: Path, most_bytes: int, most_held: int) -> None:
        self.spool = Spool(folder, most_bytes)
        self._most_held = most_held
        self._queue = deque(Waiting(record.described, record, None) for record in self.spool.found)
        #: How many of them are in memory.
        self._held = 0
        #: Tables there was no room for.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def rows(self) -> int:
        return sum(waiting.described.rows for waiting in self._queue)

    @property
    def ends(self) -> tuple[int, int] | None:
        """The versions of the oldest and the newest table; None where nothing waits."""
        return (self._queue[0].described.version, self._queue[-1].described.version) if self._queue else None

    def put(self, described: Described, rows: pa.Table, stream: Stream) -> str:
        """Behind all others; says why the disk does not take it, "" where it does."""
        record, failure = None, ""
        try:
            record = self.spool.append(described, stream)
        except OSError as error:
            failure = f"rows cannot be kept on the disk: {error.strerror}"
        self._queue.append(Waiting(described, record, rows))
        self._held += 1
        self._forget_dropped()
        self._let_go()
        return failure

    def take(self, one: bool) -> list[Waiting]:
        """The oldest table and, unless it is to be `one`, those behind it that go into the same insert."""
        taken: list[Waiting] = []
        rest: list[Waiting] = []
        rows = 0
        for _ in range(min(len(self._queue), LOOK_THROUGH)):
            waiting = self._queue.popleft()
            fits = rows + waiting.described.rows <= MAX_ROWS and not one
            if not taken or (fits and waiting.described.table == taken[0].described.table):
                taken.append(waiting)
                rows += waiting.described.rows
            else:
                rest.append(waiting)
        self._queue.extendleft(reversed(rest))
        self._held -= sum(waiting.rows is not None for waiting in taken)
        return taken

    def put_back(self, group: list[Waiting]) -> None:
        """They are the first again."""
        self._queue.extendleft(reversed(group))
        self._held += sum(waiting.rows is not None for waiting in group)
        self._let_go()

    def done(self, group: list[Waiting]) -> None:
        """Nobody needs them any more."""
        for waiting in group:
            if waiting.record is not None:
                self.spool.done(waiting.record)

    def read(self, waiting: Waiting) -> pa.Table | None:
        """Its rows on the disk; None where they are gone."""
        if waiting.record is not None:
            with contextlib.suppress(OSError, EOFError, ValueError):
                return self.spool.read(waiting.record)
        return None

    def close(self) -> None:
        self.spool.close()

    def _forget_dropped(self) -> None:
        """What the spool had no room for, the oldest, goes from memory too: or that would grow for as long as the
        database is away."""
        first = takewhile(lambda one: one.record is None or not self.spool.holds(one.record), self._queue)
        for waiting in [one for one in first if one.record is not None]:
            # Before it are only those that the disk did not take.
            self._queue.remove(waiting)
            self._held -= waiting.rows is not None
            self.dropped += 1

    def _let_go(self) -> None:
        """Keep no more in memory than there may be: the newest go, which are written last, where the disk has them, or
        else the oldest."""
        for waiting in reversed(self._queue):
            if self._held <= self._most_held:
                return
            if waiting.record is not None and waiting.rows is not None:
                waiting.rows = None
                self._held -= 1
        while self._held > self._most_held:
            oldest = next(waiting for waiting in self._queue if waiting.record is None)
            self._queue.remove(oldest)
            self._held -= 1
            self.dropped += 1
