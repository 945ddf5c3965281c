"""What of an exchange's backfills has to survive a kill: the jobs somebody asked for, and how far long gaps are. Both
say what is left to ask for; what was fetched again is dropped by the shards. Kept as one small text."""

from collections.abc import Container
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec
import numpy as np

from actors.backfill.schedule import Key
from actors.feeds.history import Wanted
from storage.file_operations import write_new_file

#: Jobs that may run at the same time, and ended ones that are remembered.
MOST_JOBS: Final = 100

State = Literal["running", "done", "failed", "cancelled"]


class Job(msgspec.Struct):
    """Past trades of a symbol, from_ns..to_ns (inclusive): `reached_ns` is how far it is, `rows` what the exchange has
    shown, `new` what of it was not stored before."""

    job: int
    symbol: str
    from_ns: int
    to_ns: int
    reached_ns: int | None = None
    rows: int = 0
    new: int = 0
    pages: int = 0
    state: State = "running"
    error: str = ""

    def left(self, forwards: bool) -> Wanted:
        """What is not fetched yet."""
        if self.reached_ns is None:
            return Wanted(self.symbol, self.from_ns, self.to_ns)
        if forwards:
            return Wanted(self.symbol, self.reached_ns, self.to_ns)
        return Wanted(self.symbol, self.from_ns, self.reached_ns)


class _Kept(msgspec.Struct):
    jobs: list[Job] = []
    #: By symbol and number of the gap.
    gaps: dict[str, dict[int, Wanted]] = {}


class Notes(Protocol):
    """Where records are kept; one process writes them at a time."""

    async def read(self) -> bytes | None:
        """None while there are none. OSError."""

    def write(self, content: bytes) -> None:
        """OSError when it cannot be kept; what was there before is whole then."""

    async def written(self) -> None:
        """Returns once everything is kept."""


class NotesInFile:
    """On this disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes | None:
        """See `Notes`."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """See `Notes`."""
        written = self._path.with_suffix(".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_new_file(written, np.frombuffer(content, np.uint8))
        written.replace(self._path)

    async def written(self) -> None:
        """It is when `write` returns."""


class Records:
    """What is kept of an exchange; nothing before it was read."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._kept = _Kept()
        #: Why what was there could not be used.
        self.failure = ""

    async def read(self) -> None:
        """Go on from what is kept, which another process may have written meanwhile."""
        try:
            if (content := await self._notes.read()) is not None:
                self._kept = msgspec.json.decode(content, type=_Kept)
        except (OSError, msgspec.DecodeError) as error:
            # It saves requests and holds nothing that cannot be asked for again.
            self.failure = f"what was known of backfills cannot be read: {error}"

    @property
    def jobs(self) -> list[Job]:
        return self._kept.jobs

    def add(self, symbol: str, from_ns: int, to_ns: int) -> Job:
        """A new job; ValueError when there are too many."""
        ended = [job for job in self.jobs if job.state != "running"]
        if len(self.jobs) - len(ended) >= MOST_JOBS:
            raise ValueError(f"{MOST_JOBS} backfills run already")
        for job in ended[: max(0, len(ended) - MOST_JOBS + 1)]:
            self.jobs.remove(job)
        job = Job(max((job.job for job in self.jobs), default=0) + 1, symbol, from_ns, to_ns)
        self.jobs.append(job)
        self.save()
        return job

    def left(self, key: Key) -> Wanted | None:
        """What of a gap was not fetched yet, if some was."""
        return self._kept.gaps.get(key.symbol, {}).get(key.gap_id)

    def keep(self, key: Key, left: Wanted) -> None:
        self._kept.gaps.setdefault(key.symbol, {})[key.gap_id] = left
        self.save()

    def drop(self, key: Key) -> None:
        """The gap has been gone through."""
        if self._kept.gaps.get(key.symbol, {}).pop(key.gap_id, None) is not None:
            if not self._kept.gaps[key.symbol]:
                del self._kept.gaps[key.symbol]
            self.save()

    def forget(self, open_gaps: Container[Key]) -> None:
        """Other gaps than these have closed, however that came, perhaps while nobody was here."""
        left = {
            symbol: {gap_id: wanted for gap_id, wanted in own.items() if Key(symbol, gap_id) in open_gaps}
            for symbol, own in self._kept.gaps.items()
        }
        left = {symbol: own for symbol, own in left.items() if own}
        if left != self._kept.gaps:
            self._kept.gaps = left
            self.save()

    def save(self) -> None:
        """OSError when it cannot be kept."""
        self._notes.write(msgspec.json.format(msgspec.json.encode(self._kept)))

    async def saved(self) -> None:
        """Returns once everything is kept."""
        await self._notes.written()
