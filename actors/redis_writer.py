"""How what waits for Redis gets there: in transactions of bounded size, over one connection.

A transaction that got no answer is sent again as it was. The values in it are the same, and the ids of its batches
are, so that a stream has none of them twice.
"""

import time
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, Final

from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from actors.unwritten import Batch, Portion, Unwritten
from config.storage_settings import RedisSettings
from storage import redis
from storage.redis_channels import CHART_UPDATES, COMPLETED_BARS, trades_channel
from storage.redis_connection import opened
from storage.redis_streams import HEADS, Bounds, Numbering, Place, entry_fields

#: Of one transaction.
PORTION_BYTES: Final = 1 << 22
#: It is looked this often which channels somebody listens to.
LISTENERS_SECONDS: Final = 1.0

_OLD_ID: Final = "equal or smaller than the target stream top item"


class RedisWriter:
    """Writes for one publisher, which began at `epoch` (ms). Raises `ValueError` for a url that cannot be one."""

    def __init__(self, settings: RedisSettings, url: str, channels: Iterable[str], epoch: int) -> None:
        self._redis = opened(url)
        self._prefix = settings.prefix
        self._epoch = epoch
        self._bounds = Bounds(settings.stream_bytes, settings.stream_entries)
        self._numberings: dict[str, Numbering] = {}
        self._channels = [COMPLETED_BARS, CHART_UPDATES, *map(trades_channel, channels)]
        self._listeners_due = 0.0
        #: The channels that somebody listens to.
        self.listened: frozenset[str] = frozenset()
        #: Values and batches that were written; commands that were refused, and the last reason.
        self.written = self.batches_written = self.rejected = 0
        self.last_rejected: str | None = None

    @property
    def stream_bytes(self) -> int:
        """Of all batches that are kept."""
        return self._bounds.nbytes

    async def write(self, unwritten: Unwritten, messages: list[tuple[str, bytes]]) -> None:
        """Write everything that waits, and tell the messages (channel and text) once. Raises what Redis raises when it
        is away: then messages are lost, and everything else waits."""
        told, messages[:] = list(messages), []
        try:
            await self._look_for_listeners()
            while portion := unwritten.next(PORTION_BYTES, time.monotonic()):
                await self._number(portion.batches)
                await self._send(portion, told)
                unwritten.wrote(portion)
                told = []
        except (RedisError, OSError):
            self.listened, self._listeners_due = frozenset(), 0.0
            raise

    async def close(self) -> None:
        await self._redis.aclose()

    async def _send(self, portion: Portion, messages: list[tuple[str, bytes]]) -> None:
        again = {id(batch) for batch in portion.batches if batch.place is not None}
        async with self._redis.pipeline(transaction=True) as pipeline:
            for batch in portion.batches:
                self._add(pipeline, batch)
            redis.write(pipeline, portion.entries, self._prefix)
            for stream, length in self._bounds.lengths().items():
                pipeline.xtrim(self._prefix + stream, maxlen=length, approximate=False)
            if portion.batches:
                pipeline.hset(self._prefix + HEADS, mapping={one.stream: str(one.place) for one in portion.batches})
            for channel, text in messages:
                pipeline.publish(self._prefix + channel, text)
            answers = await pipeline.execute(raise_on_error=False)
        self._bounds.were_cut()
        for batch, answer in zip_longest(portion.batches, answers):
            if not isinstance(answer, Exception):
                continue
            if batch is not None and _OLD_ID in str(answer):
                if id(batch) in again:
                    # It was written when the answer got lost.
                    continue
                # Somebody else writes to it: go on after them.
                self._numberings.pop(batch.stream, None)
            self.rejected += 1
            self.last_rejected = str(answer)
        self.written += len(portion.entries)
        self.batches_written += len(portion.batches)

    def _add(self, pipeline: Pipeline, batch: Batch) -> None:
        if batch.place is None:
            batch.place = self._numberings[batch.stream].place(batch.number, batch.ms)
            self._bounds.add(batch.stream, batch.nbytes)
        fields = entry_fields(batch.place.sequence, self._epoch, batch.content)
        pipeline.xadd(self._prefix + batch.stream, fields, id=str(batch.place))

    async def _number(self, batches: Iterable[Batch]) -> None:
        """Look what streams hold from before, once for each."""
        new = sorted({batch.stream for batch in batches} - self._numberings.keys())
        if not new:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for stream in new:
                pipeline.xinfo_stream(self._prefix + stream)
                pipeline.memory_usage(self._prefix + stream)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        for stream, known, size in zip(new, answers[::2], answers[1::2], strict=True):
            if isinstance(known, ResponseError):
                self._numberings[stream] = Numbering(None)
                continue
            self._numberings[stream] = Numbering(Place.of(known["last-generated-id"]))
            length = known["length"]
            for _ in range(length):
                self._bounds.add(stream, size // length if isinstance(size, int) else 0)

    async def _look_for_listeners(self) -> None:
        if time.monotonic() < self._listeners_due:
            return
        self._listeners_due = time.monotonic() + LISTENERS_SECONDS
        try:
            listening = await self._redis.pubsub_numsub(*(self._prefix + channel for channel in self._channels))
            patterns = await self._redis.pubsub_numpat()
        except ResponseError:
            # Who may not ask tells everybody.
            self.listened = frozenset(self._channels)
            return
        counts = zip(self._channels, listening, strict=True)
        self.listened = frozenset(channel for channel, (_, count) in counts if count or patterns)
