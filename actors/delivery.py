"""What a collector has received and a shard has not acknowledged yet: split by shard, in order, and bounded.

Each shard gets one call at a time, the next with everything that gathered meanwhile: Ray starts the calls of an async
actor in any order, and a shard that gets trades out of order would see holes where there are none. A call whose shard
dies is made again by Ray once the shard is back; its `Origin` lets the shard drop what it has.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.directory import shard_of
from actors.feeds.feed import Decoded, Proof
from actors.ledger.origin import Origin
from actors.parcels import packed
from config.settings import CollectorSettings

#: What of `Decoded` is sent to the shards, by its name there.
KINDS: Final = ("trades", "quotes", "derivatives", "liquidations", "merged", "history")
#: A call carries no more than this, or one batch: the object store has to hold it.
CALL_BYTES: Final = 16 << 20

Batches = Mapping[str, pa.RecordBatch]


class Refused(Exception):
    """A shard did not take a batch; the message says why."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    batches: Batches
    clock_ns: int
    size: int
    #: Told the end of it, where somebody waits for it.
    taken: asyncio.Future[None] | None


@dataclass(slots=True)
class _Lane:
    """What one shard has not acknowledged, oldest first, and the number of the next call."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    sequence: int = 0
    task: asyncio.Task[None] | None = None


class Delivery:
    """Sends batches to `shards` (anything with `append.remote`) as what came in this `epoch` (ns).

    `changed` is called when the number of batches on their way changes, `acknowledged` with a shard's number and what
    it answered (how many gaps it has that want repair), `failed` with the reason when a shard refuses a batch: what
    waited for that shard is lost to it.
    """

    def __init__(
        self,
        exchange: str,
        shards: Sequence[Any],
        limits: CollectorSettings,
        epoch: int,
        changed: Callable[[], None],
        acknowledged: Callable[[int, int], None],
        failed: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._shards = list(shards)
        self._limits = limits
        self._epoch = epoch
        self._changed = changed
        self._acknowledged = acknowledged
        self._failed = failed
        self._shard_of: dict[str, int] = {}
        self._lanes = [_Lane() for _ in shards]
        self._count = self._bytes = 0
        #: How it is known that trades follow each other.
        self.proof: Proof = "none"

    def __len__(self) -> int:
        """Batches that are not acknowledged."""
        return self._count

    @property
    def full(self) -> bool:
        """A shard has so many batches to acknowledge, or all together so many bytes."""
        longest = max((len(lane.waiting) for lane in self._lanes), default=0)
        return longest >= self._limits.max_batches_in_flight or self._bytes >= self._limits.max_bytes

    @property
    def handed_on_ns(self) -> int:
        """Shards have acknowledged everything that was received before this; far ahead where nothing waits."""
        return min((lane.waiting[0].clock_ns for lane in self._lanes if lane.waiting), default=1 << 62)

    def send(self, decoded: Decoded, clock_ns: int) -> None:
        """Begin to deliver everything shards want; `clock_ns` is when the last of it was received."""
        self._send({kind: getattr(decoded, kind) for kind in KINDS}, clock_ns, wait=False)

    def put(self, batches: Batches, clock_ns: int) -> None:
        """Begin to deliver batches by kind."""
        self._send(batches, clock_ns, wait=False)

    async def deliver(self, batches: Batches, clock_ns: int) -> None:
        """Deliver batches by kind, after all that is on its way; returns when the shards have them. `Refused` when
        one does not take them."""
        await asyncio.gather(*self._send(batches, clock_ns, wait=True))

    async def finish(self) -> None:
        """Wait until the shards have everything, or have refused it, which `failed` was told."""
        while tasks := [lane.task for lane in self._lanes if lane.task is not None]:
            # Whoever stops waiting must not stop the calls.
            await asyncio.wait(tasks)

    def _send(self, batches: Batches, clock_ns: int, wait: bool) -> list[asyncio.Future[None]]:
        by_shard: dict[int, dict[str, pa.RecordBatch]] = {}
        for kind, batch in batches.items():
            for shard, rows in self._split(batch).items():
                by_shard.setdefault(shard, {})[kind] = rows
        futures = []
        for shard, mine in by_shard.items():
            taken = asyncio.get_running_loop().create_future() if wait else None
            size = sum(batch.nbytes for batch in mine.values())
            self._count += 1
            self._bytes += size
            lane = self._lanes[shard]
            lane.waiting.append(_Waiting(mine, clock_ns, size, taken))
            if taken is not None:
                futures.append(taken)
            if lane.task is None:
                self._begin(shard, lane)
        if by_shard:
            self._changed()
        return futures

    def _split(self, batch: pa.RecordBatch) -> dict[int, pa.RecordBatch]:
        """The rows of each shard; shards without rows are left out."""
        if batch.num_rows == 0:
            return {}
        if len(self._shards) == 1:
            return {0: batch}
        symbols: Any = batch.column("symbol")
        codes = np.asarray(symbols.indices)
        shards = np.zeros(len(symbols.dictionary), np.intp)
        # A few milliseconds bring few of hundreds of symbols.
        present = np.unique(codes) if len(codes) < len(shards) else np.arange(len(shards))
        shards[present] = [self._shard(name) for name in symbols.dictionary.take(pa.array(present)).to_pylist()]
        shard = shards[codes]
        return {int(s): batch.take(np.flatnonzero(shard == s)) for s in np.unique(shard)}

    def _shard(self, symbol: str) -> int:
        if symbol not in self._shard_of:
            self._shard_of[symbol] = shard_of(self._exchange, symbol, len(self._shards))
        return self._shard_of[symbol]

    async def _deliver(self, shard: int, lane: _Lane) -> None:
        """Make calls until nothing waits."""
        while lane.waiting:
            call = _next_call(lane.waiting)
            origin = Origin(self._epoch, lane.sequence, self.proof)
            # Of this call, whatever becomes of it: a shard may have taken what it did not acknowledge, and drops what
            # comes with the same number.
            lane.sequence += 1
            # A shard that dies meanwhile is restarted and gets the call again; it drops what it has.
            streams = packed(_together(call))
            gaps = await self._shards[shard].append.remote(self._exchange, streams, call[-1].clock_ns, origin)
            self._leave(lane, len(call), None)
            self._acknowledged(shard, gaps)

    def _begin(self, shard: int, lane: _Lane) -> None:
        lane.task = asyncio.create_task(self._deliver(shard, lane))
        lane.task.add_done_callback(partial(self._ended, shard, lane))

    def _ended(self, shard: int, lane: _Lane, task: asyncio.Task[None]) -> None:
        lane.task = None
        if (error := asyncio.CancelledError() if task.cancelled() else task.exception()) is not None:
            reason = f"a shard did not take a batch: {error!r}"
            # What would come after it is worth less than to know where the loss begins: at the last trade it stored.
            self._leave(lane, len(lane.waiting), Refused(reason))
            self._failed(reason)
        elif lane.waiting:
            # It came between the task's last look and this.
            self._begin(shard, lane)

    def _leave(self, lane: _Lane, count: int, refused: Refused | None) -> None:
        for _ in range(count):
            one = lane.waiting.popleft()
            self._count -= 1
            self._bytes -= one.size
            if one.taken is None or one.taken.done():
                continue
            if refused is None:
                one.taken.set_result(None)
            else:
                one.taken.set_exception(refused)
        self._changed()


def _next_call(waiting: deque[_Waiting]) -> list[_Waiting]:
    """As many of the oldest as a call may carry; past trades go by themselves, as what is said of merged trades is
    about either those or the live ones."""
    call: list[_Waiting] = []
    size = 0
    for one in waiting:
        size += one.size
        if call and (size > CALL_BYTES or "backfill" in one.batches or "backfill" in call[0].batches):
            break
        call.append(one)
    return call


def _together(call: Sequence[_Waiting]) -> dict[str, pa.RecordBatch]:
    kinds: dict[str, list[pa.RecordBatch]] = {}
    for one in call:
        for kind, batch in one.batches.items():
            kinds.setdefault(kind, []).append(batch)
    return {kind: _joined(batches) for kind, batches in kinds.items()}


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]
