"""What a collector has received and a shard has not acknowledged yet: split by shard, in order, and bounded.

Each shard gets one call at a time, the next with everything that gathered meanwhile: Ray starts the calls of an async
actor in any order, and a shard that gets trades out of order would see holes where there are none. A call whose shard
dies is made again by Ray once the shard is back; its `Origin` lets the shard drop what it has.

While a symbol moves to another shard its rows are held here, within the same bounds, and go to the new one in order.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray

from actors.feeds.feed import Decoded, Proof
from actors.ledger.origin import Origin
from actors.parcels import packed
from actors.placement import Placement
from actors.routes import Routes
from actors.tracing import tracing
from config.settings import CollectorSettings

#: What of `Decoded` is sent to the shards, by its name there.
KINDS: Final = ("trades", "quotes", "derivatives", "liquidations", "merged", "history")
#: A call carries no more than this, or one batch: the object store has to hold it.
CALL_BYTES: Final = 16 << 20
#: A shard whose node is gone is tried again this often.
RETRY_S: Final = 1.0
AWAY: Final = (
    ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError, ray.exceptions.ActorUnschedulableError
)  # fmt: skip
#: So many times as many batches may be held while symbols move as a shard may have to acknowledge.
MOST_HELD: Final = 50
#: The number of the lane of what is held.
_HELD: Final = -1

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
    #: How many batches have come and gone, and who waits until so many have gone.
    came: int = 0
    gone: int = 0
    #: Its shard cannot be reached.
    away: bool = False
    emptied: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)


class Delivery:
    """Sends batches on their `routes` (to anything with `append.remote`) as what came in this `epoch` (ns).

    `changed` is called when the number of batches on their way changes, `acknowledged` with a shard's number and what
    it answered (how many gaps it has that want repair), `failed` with the reason when a shard refuses a batch: what
    waited for that shard is lost to it.
    """

    def __init__(
        self,
        exchange: str,
        routes: Routes,
        limits: CollectorSettings,
        epoch: int,
        changed: Callable[[], None],
        acknowledged: Callable[[int, int], None],
        failed: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._routes = routes
        self._limits = limits
        self._epoch = epoch
        self._changed = changed
        self._acknowledged = acknowledged
        self._failed = failed
        #: By the shard's number. Those of shards that are gone stay: what comes to them again goes on counting.
        self._lanes: dict[int, _Lane] = {}
        self._held: frozenset[str] = frozenset()
        self._count = self._bytes = 0
        #: How it is known that trades follow each other.
        self.proof: Proof = "none"

    def __len__(self) -> int:
        """Batches that are not acknowledged."""
        return self._count

    @property
    def full(self) -> bool:
        """A shard has so many batches to acknowledge, or all together so many bytes."""
        most = self._limits.max_batches_in_flight
        return self._bytes >= self._limits.max_bytes or any(
            # A move, or a lost node, must not hold up the symbols of others.
            len(lane.waiting) >= (MOST_HELD * most if lane.away or number not in self._routes.shards else most)
            for number, lane in self._lanes.items()
        )

    @property
    def handed_on_ns(self) -> int:
        """Shards have acknowledged everything that was received before this; far ahead where nothing waits."""
        return min((lane.waiting[0].clock_ns for lane in self._lanes.values() if lane.waiting), default=1 << 62)

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
        """Wait until the shards have everything, or have refused it, which `failed` was told. Those that are away are
        not waited for: see `handed_on_ns`."""
        while tasks := [lane.task for lane in self._lanes.values() if lane.task is not None]:
            # Whoever stops waiting must not stop the calls.
            await asyncio.wait(tasks)

    async def hold(self, symbols: Iterable[str]) -> None:
        """Keep what comes of these symbols, and of no others, until `place`; returns when their shards have
        acknowledged everything that came before. `Refused` when one does not take it."""
        self._held = frozenset(symbols)
        self._release()
        waits = []
        for number in {self._routes.number(symbol) for symbol in self._held}:
            lane = self._lane(number)
            if lane.gone < lane.came:
                waits.append(asyncio.get_running_loop().create_future())
                lane.emptied.append((lane.came, waits[-1]))
        await asyncio.gather(*waits)

    def place(self, shards: Mapping[int, Any], placement: Placement) -> None:
        """Go by this placement, and let go what was held. What a shard that is gone has not acknowledged goes to those
        that have its symbols now."""
        self._routes.lead(shards, placement)
        self._held = frozenset()
        for number, lane in self._lanes.items():
            if number not in shards and number != _HELD and lane.task is not None:
                lane.task.cancel()
        self._release()

    def _release(self) -> None:
        """Send what waits for nobody, in order."""
        for number, lane in list(self._lanes.items()):
            if number in self._routes.shards:
                self._try_again(number, lane)
                continue
            waiting = list(lane.waiting)
            lane.waiting.clear()
            self._count -= len(waiting)
            self._bytes -= sum(one.size for one in waiting)
            self._pass(lane, len(waiting))
            for one in waiting:
                sent = self._send(one.batches, one.clock_ns, wait=one.taken is not None)
                if one.taken is not None:
                    _follow(one.taken, sent)

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
            lane = self._lane(shard)
            lane.waiting.append(_Waiting(mine, clock_ns, size, taken))
            lane.came += 1
            if taken is not None:
                futures.append(taken)
            if lane.task is None and not lane.away and shard in self._routes.shards:
                self._begin(shard, lane)
        if by_shard:
            self._changed()
        return futures

    def _split(self, batch: pa.RecordBatch) -> dict[int, pa.RecordBatch]:
        """The rows of each shard; shards without rows are left out."""
        if batch.num_rows == 0:
            return {}
        if self._routes.only is not None and not self._held:
            return {self._routes.only: batch}
        symbols: Any = batch.column("symbol")
        codes = np.asarray(symbols.indices)
        shards = np.zeros(len(symbols.dictionary), np.intp)
        # A few milliseconds bring few of hundreds of symbols.
        present = np.unique(codes) if len(codes) < len(shards) else np.arange(len(shards))
        names = symbols.dictionary.take(pa.array(present)).to_pylist()
        shards[present] = [_HELD if name in self._held else self._routes.number(name) for name in names]
        shard = shards[codes]
        return {int(s): batch.take(np.flatnonzero(shard == s)) for s in np.unique(shard)}

    def _lane(self, shard: int) -> _Lane:
        return self._lanes.setdefault(shard, _Lane())

    async def _deliver(self, shard: int, lane: _Lane) -> None:
        """Make calls until nothing waits."""
        while lane.waiting:
            call = _next_call(lane.waiting)
            origin = Origin(self._epoch, lane.sequence, self.proof, self._routes.placement.version)
            # Of this call, whatever becomes of it: a shard may have taken what it did not acknowledge, and drops what
            # comes with the same number.
            lane.sequence += 1
            # A shard that dies meanwhile is restarted and gets the call again; it drops what it has.
            streams = packed(_together(call))
            began, to = time.time_ns(), self._routes.shards[shard]
            gaps = await to.append.remote(self._exchange, streams, call[-1].clock_ns, origin)
            lane.away = False
            if (spans := tracing()) is not None:
                spans.delivered(self._exchange, shard, origin, began, time.time_ns(), len(call))
            self._leave(lane, len(call), None)
            self._acknowledged(shard, gaps)

    def _try_again(self, shard: int, lane: _Lane) -> None:
        if lane.waiting and lane.task is None and shard in self._routes.shards:
            self._begin(shard, lane)

    def _begin(self, shard: int, lane: _Lane) -> None:
        lane.task = asyncio.create_task(self._deliver(shard, lane))
        lane.task.add_done_callback(partial(self._ended, shard, lane))

    def _ended(self, shard: int, lane: _Lane, task: asyncio.Task[None]) -> None:
        lane.task = None
        if shard not in self._routes.shards:
            self._release()
        elif not task.cancelled() and isinstance(task.exception(), AWAY):
            # Its node is gone, and comes back, or others get its symbols. What it may have stored is dropped when it
            # comes again.
            lane.away = True
            asyncio.get_running_loop().call_later(RETRY_S, self._try_again, shard, lane)
        elif (error := asyncio.CancelledError() if task.cancelled() else task.exception()) is not None:
            reason = f"a shard did not take a batch: {error!r}"
            # What would come after it is worth less than to know where the loss begins: at the last trade it stored.
            self._leave(lane, len(lane.waiting), Refused(reason))
            self._failed(reason)
        elif lane.waiting:
            # It came between the task's last look and this.
            self._begin(shard, lane)

    def _pass(self, lane: _Lane, count: int, refused: Refused | None = None) -> None:
        lane.gone += count
        for waiting in [one for one in lane.emptied if refused is not None or one[0] <= lane.gone]:
            lane.emptied.remove(waiting)
            _tell(waiting[1], refused)

    def _leave(self, lane: _Lane, count: int, refused: Refused | None) -> None:
        self._pass(lane, count, refused)
        for _ in range(count):
            one = lane.waiting.popleft()
            self._count -= 1
            self._bytes -= one.size
            if one.taken is not None:
                _tell(one.taken, refused)
        self._changed()


def _tell(waits: asyncio.Future[None], refused: BaseException | None) -> None:
    if waits.done():
        return
    if refused is None:
        waits.set_result(None)
    else:
        waits.set_exception(refused)


def _follow(waits: asyncio.Future[None], others: Sequence[asyncio.Future[None]]) -> None:
    """Let it end as all of these do."""
    together = asyncio.gather(*others)
    together.add_done_callback(lambda done: _tell(waits, None if done.cancelled() else done.exception()))


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
