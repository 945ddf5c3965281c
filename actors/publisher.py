"""Keeps Redis up to date: latest trades and quotes, the best of them, bars, and the stream of prices.

I own one connection and what waits for it: entries of which the newest per key wins, so a Redis that was away
gets the present and not the past. I survive that Redis is down or restarts empty; callers never notice.
"""

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from actors.parcels import Parcel, unpacked
from config.settings import Settings
from storage import redis
from storage.redis import Entry

#: Kinds of rows that come from shards.
PUBLISHED: Final = frozenset({"trades", "quotes", "bars", "indicators", "features"})

FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Publisher:
    """An actor: one per instance. No method raises or waits because Redis is down."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        """Raises `ValueError` for a url that cannot be one."""
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # retrying is our own business
        )
        self._max_pending = settings.sinks.max_pending
        self._timeframes = pa.array(settings.features.timeframes, pa.string())
        self._pending: dict[tuple[str, int | None], Entry] = {}
        # Of each latest value, so that a late or backfilled row never replaces a newer one.
        self._newest: dict[str, tuple[int, int]] = {}
        self._arrived = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._available: bool | None = None
        self._written = self._superseded = self._dropped = self._rejected = 0
        self._last_error: str | None = None

    async def take(self, parcel: Parcel) -> None:
        """Publish what there is in it to publish."""
        for kind, exchange, table in unpacked(parcel, lambda key: key[0] in PUBLISHED):
            match kind:
                case "trades":
                    await self.publish_trades(exchange, table)
                case "quotes":
                    await self.publish_quotes(exchange, table)
                case "bars":
                    await self.publish_bars(exchange, table)
                case "indicators" | "features":
                    await self.publish_of_bars(kind, exchange, table)

    async def publish_trades(self, exchange: str, table: pa.Table) -> None:
        """The last trade per symbol, and an entry in the stream for each; `table` has schema TRADES."""
        self._publish(redis.last_trades(exchange, table))

    async def publish_quotes(self, exchange: str, table: pa.Table) -> None:
        """The last quote per symbol; `table` has schema QUOTES."""
        self._publish(redis.tickers(exchange, table))

    async def publish_best(self, best: pa.RecordBatch, time_ns: int) -> None:
        """The best bid and ask per instrument; `best` has schema CONSOLIDATED."""
        self._publish(redis.best_entries(best, time_ns))

    async def publish_bars(self, exchange: str, table: pa.Table) -> None:
        """The closed bars; `table` has schema BARS. A revised bar replaces the one before."""
        self._publish(redis.bar_entries(exchange, table))

    async def publish_of_bars(self, kind: Literal["indicators", "features"], exchange: str, table: pa.Table) -> None:
        """Those of the newest bar per series, of the timeframes in `features.timeframes`; `table` has schema INDICATORS
        or FEATURES."""
        wanted = pc.is_in(table["timeframe"], self._timeframes)
        self._publish(redis.of_newest_bars(kind, exchange, table.filter(wanted)))

    async def status(self) -> dict[str, Any]:
        """available (null until first tried), written, pending, superseded (replaced by newer ones before they
        were written), dropped (too many waited), rejected (Redis refused the command), last_error."""
        self._start()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "available": self._available,
            "written": self._written,
            "pending": len(self._pending),
            "superseded": self._superseded,
            "dropped": self._dropped,
            "rejected": self._rejected,
            "last_error": self._last_error,
        }

    async def stop(self) -> None:
        """Stop; what was not written is forgotten."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        await self._redis.aclose()

    def __repr__(self) -> str:
        return f"Publisher({len(self._pending)} pending, {self._written} written)"

    def _start(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_for_ever(), name="publisher-writer")
        elif self._writer.done():
            self._writer.result()

    def _publish(self, entries: Iterable[Entry]) -> None:
        self._start()
        for entry in entries:
            if entry.time is None:
                if entry.order < self._newest.get(entry.key, entry.order):
                    continue
                self._newest[entry.key] = entry.order
            place = (entry.key, entry.time)
            # Taken out first: the dict's order is by age, and the oldest are dropped.
            self._superseded += self._pending.pop(place, None) is not None
            self._pending[place] = entry
        while len(self._pending) > self._max_pending:
            del self._pending[next(iter(self._pending))]
            self._dropped += 1
        if self._pending:
            self._arrived.set()

    async def _write_for_ever(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                await self._write(list(self._pending.items()))
            except (RedisError, OSError) as error:
                if self._available is not False:
                    log.warning("Redis is unavailable, the newest values wait", error=str(error))
                self._available = False
                self._last_error = str(error) or type(error).__name__
                await asyncio.sleep(wait)
                wait = min(2 * wait, LAST_RETRY_SECONDS)
                self._arrived.set()
            else:
                if self._available is False:
                    log.info("Redis is available again")
                self._available = True
                wait = FIRST_RETRY_SECONDS

    async def _write(self, batch: list[tuple[tuple[str, int | None], Entry]]) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            redis.write(pipeline, (entry for _, entry in batch))
            answers = await pipeline.execute(raise_on_error=False)
        for place, entry in batch:
            # What arrived meanwhile under the same key stays.
            if self._pending.get(place) is entry:
                del self._pending[place]
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        if refused:
            self._rejected += len(refused)
            self._last_error = str(refused[0])
        self._written += len(batch)
