"""Keeps Redis up to date: latest trades, quotes and books, the best of them, bars, the stream of prices, the streams of
batches, the channels, and the health of the instance.

I own one connection and what waits for it. Of latest values the newest per key wins, so a Redis that was away gets the
present and not the past; batches for streams wait within a bound of bytes, and each has a number, so that readers see
what was dropped. I survive that Redis is down or restarts empty; callers never notice.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from redis.exceptions import RedisError

from actors.parcels import Parcel, unpacked
from actors.published_books import Books
from actors.redis_writer import RedisWriter
from actors.unwritten import Unwritten
from config.settings import Settings
from storage import redis
from storage.redis import Entry
from storage.redis_channels import CHART_UPDATES, COMPLETED_BARS, chart_updates, completed_bars, trades_channel
from storage.redis_connection import complaint
from storage.redis_streams import stream_name

#: Kinds of rows that come from shards.
PUBLISHED: Final = frozenset({"trades", "quotes", "bars", "indicators", "features"})

FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0
#: Books are asked for this often.
BOOKS_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Publisher:
    """An actor: one per instance. No method raises or waits because Redis is down."""

    def __init__(self, settings: Settings, redis_url: str, books: Books | None = None) -> None:
        """`books`: where the books of exchanges are asked for. Raises `ValueError` for a url that cannot be one."""
        enabled = {str(name): exchange for name, exchange in settings.exchanges.items() if exchange.enabled}
        self._with_books = [name for name, exchange in enabled.items() if "book" in exchange.channels]
        self._stream_bytes = settings.redis.stream_bytes
        self._waiting_bytes = settings.redis.waiting_bytes
        self._timeframes = pa.array(settings.features.timeframes, pa.string())
        self._books = books
        self._unwritten = Unwritten(self._waiting_bytes)
        self._writer = RedisWriter(settings.redis, redis_url, enabled, _now_ms())
        #: Told once, at the next attempt to write.
        self._messages: list[tuple[str, bytes]] = []
        # Of each latest value, so that a late or backfilled row never replaces a newer one.
        self._newest: dict[str, tuple[int, int]] = {}
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._available: bool | None = None
        self._last_error: str | None = None

    async def take(self, parcel: Parcel) -> None:
        """Publish what there is in it to publish."""
        tables = {
            (kind, exchange): table for kind, exchange, table in unpacked(parcel, lambda key: key[0] in PUBLISHED)
        }
        for (kind, exchange), table in tables.items():
            # What waits is not to hold on to the object it came in.
            content = bytes(parcel[kind, exchange])
            self._unwritten.put_batch(
                stream_name(kind, exchange), content, _now_ms(), keep=len(content) < self._stream_bytes
            )
            match kind:
                case "trades":
                    await self.publish_trades(exchange, table)
                    self._tell(trades_channel(exchange), content)
                case "quotes":
                    await self.publish_quotes(exchange, table)
                case "bars":
                    await self.publish_bars(exchange, table)
                    self._tell_bars(exchange, table, tables.get(("indicators", exchange)))
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

    async def publish_health(self, components: Mapping[str, Mapping[str, Any]]) -> None:
        """Of all components, by name, see `actors.health`; they take the place of those told before."""
        self._publish([redis.health_entry(components)] if components else [])

    async def status(self) -> dict[str, Any]:
        """available (null until first tried); values: written, pending, superseded (replaced by newer ones before they
        were written), expired (too old by then), dropped (too many waited); batches of streams: batches_written,
        batches_pending, batches_dropped; bytes_pending of both, stream_bytes that Redis keeps; rejected (Redis refused
        the command), last_error."""
        self._start()
        waiting, writer = self._unwritten, self._writer
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "available": self._available,
            "written": writer.written,
            "pending": len(waiting) - waiting.batches,
            "superseded": waiting.superseded,
            "expired": waiting.expired,
            "dropped": waiting.dropped,
            "batches_written": writer.batches_written,
            "batches_pending": waiting.batches,
            "batches_dropped": waiting.batches_dropped,
            "bytes_pending": waiting.nbytes,
            "stream_bytes": writer.stream_bytes,
            "rejected": writer.rejected,
            "last_error": writer.last_rejected or self._last_error,
        }

    async def stop(self) -> None:
        """Stop; what was not written is forgotten."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writer.close()

    def __repr__(self) -> str:
        return f"Publisher({len(self._unwritten)} pending, {self._writer.written} written)"

    def _start(self) -> None:
        if not self._tasks:
            work = [self._write_for_ever()]
            if self._books is not None:
                work += [self._follow_books(exchange, self._books) for exchange in self._with_books]
            self._tasks = [asyncio.create_task(one, name="publisher") for one in work]
        for task in self._tasks:
            if task.done():
                task.result()

    def _publish(self, entries: Iterable[Entry]) -> None:
        self._start()
        self._unwritten.put((entry for entry in entries if self._is_newest(entry)), time.monotonic())
        if self._unwritten:
            self._arrived.set()

    def _is_newest(self, entry: Entry) -> bool:
        if entry.time is not None or entry.order == (0, 0):
            return True
        if entry.order < self._newest.get(entry.key, entry.order):
            return False
        self._newest[entry.key] = entry.order
        return True

    def _tell_bars(self, exchange: str, bars: pa.Table, indicators: pa.Table | None) -> None:
        if COMPLETED_BARS in self._writer.listened:
            self._tell(COMPLETED_BARS, completed_bars(exchange, bars))
        if CHART_UPDATES in self._writer.listened:
            self._tell(CHART_UPDATES, chart_updates(exchange, bars, indicators))

    def _tell(self, channel: str, text: bytes | None) -> None:
        if text is None or channel not in self._writer.listened:
            return
        if sum(len(waiting) for _, waiting in self._messages) + len(text) <= self._waiting_bytes:
            self._messages.append((channel, text))

    async def _follow_books(self, exchange: str, books: Books) -> None:
        # One question at a time, however long the collector is away: its keys go meanwhile.
        while True:
            for depth in await books(exchange):
                self._publish(redis.order_books(exchange, depth))
            await asyncio.sleep(BOOKS_SECONDS)

    async def _write_for_ever(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                await self._writer.write(self._unwritten, self._messages)
            except (RedisError, OSError) as error:
                said = complaint(error)
                if self._available is not False:
                    log.warning("Redis is unavailable, the newest values wait", error=said)
                self._available = False
                self._last_error = said
                await asyncio.sleep(wait)
                wait = min(2 * wait, LAST_RETRY_SECONDS)
                self._arrived.set()
            else:
                if self._available is False:
                    log.info("Redis is available again")
                self._available = True
                wait = FIRST_RETRY_SECONDS


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
