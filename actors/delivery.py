"""What a collector has received and a shard has not acknowledged yet: split by shard, on its way, and bounded."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.directory import shard_of
from actors.feeds.feed import Decoded
from config.settings import CollectorSettings

#: What is sent to the shards, by its name in `Decoded`.
KINDS: Final = ("trades", "quotes", "derivatives", "liquidations")


class Delivery:
    """Sends batches to `shards` (anything with `append.remote`).

    `changed` is called when the number of batches on their way changes, `failed` with the reason when a shard refuses
    one: what it held is lost to that shard until the collector starts again.
    """

    def __init__(
        self,
        exchange: str,
        shards: Sequence[Any],
        limits: CollectorSettings,
        changed: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._shards = list(shards)
        self._limits = limits
        self._changed = changed
        self._failed = failed
        self._shard_of: dict[str, int] = {}
        #: Batches on their way, with their bytes.
        self._on_their_way: dict[asyncio.Task[None], int] = {}

    def __len__(self) -> int:
        return len(self._on_their_way)

    @property
    def full(self) -> bool:
        waiting = self._on_their_way
        return len(waiting) >= self._limits.max_batches_in_flight or sum(waiting.values()) >= self._limits.max_bytes

    def send(self, decoded: Decoded, clock_ns: int) -> None:
        """Begin to deliver everything shards want; `clock_ns` is when the last of it was received."""
        by_shard: dict[int, dict[str, pa.RecordBatch]] = {}
        for kind in KINDS:
            for shard, batch in self._split(getattr(decoded, kind)).items():
                by_shard.setdefault(shard, {})[kind] = batch
        for shard, batches in by_shard.items():
            task = asyncio.create_task(self._deliver(shard, batches, clock_ns))
            self._on_their_way[task] = sum(batch.nbytes for batch in batches.values())
            task.add_done_callback(self._delivered)
        if by_shard:
            self._changed()

    async def finish(self) -> None:
        """Wait until the shards have everything, or have refused it, which `failed` was told."""
        await asyncio.gather(*self._on_their_way, return_exceptions=True)

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

    async def _deliver(self, shard: int, batches: dict[str, pa.RecordBatch], clock_ns: int) -> None:
        # A shard that dies meanwhile is restarted and gets the call again; it drops what it has.
        await self._shards[shard].append.remote(self._exchange, batches, clock_ns)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        del self._on_their_way[task]
        self._changed()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(f"a shard did not take a batch: {error!r}")
