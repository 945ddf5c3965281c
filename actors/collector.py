"""Collector: I own the connection to one exchange. Frames become Arrow batches every few milliseconds and go to the
shards of their symbols; a batch is mine until its shard acknowledged it, and while too many are not I stop reading
the socket. I survive lost connections (back-off, resubscribe); when I fail, the supervisor starts me again.
"""

import asyncio
import os
import random
import ssl
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import picows
import pyarrow as pa

from actors import recorded_clock
from actors.connection import Connection
from actors.directory import shard_of
from actors.feeds import FEEDS
from actors.feeds.feed import Decoded, RejectedFrame
from actors.frame_receiver import FrameReceiver
from config.settings import CollectorSettings
from storage.schema import QUOTES, TRADES, symbols_of

#: An exchange that sends nothing for this long is taken for dead; the quietest of ours sends heartbeats each second.
SILENCE_S = 60.0
CONNECT_TIMEOUT_S = 10.0
NO_TRADES = pa.RecordBatch.from_pylist([], schema=TRADES)
NO_QUOTES = pa.RecordBatch.from_pylist([], schema=QUOTES)
#: Different reasons counted apart; further ones share a name.
MAX_REASONS = 50


class Collector:
    """Collects `symbols` of `exchange` from `websocket` into `shards` (anything with `append.remote`).

    With `recorded`, the other side is a replay: receive times are the recorded ones and silence is normal.
    """

    def __init__(
        self,
        exchange: str,
        websocket: str,
        symbols: Sequence[str],
        settings: CollectorSettings,
        shards: Sequence[Any],
        recorded: bool,
    ) -> None:
        self.exchange = exchange
        self._websocket = websocket
        self._feed = FEEDS[exchange](symbols)
        self._settings = settings
        self._shards = list(shards)
        self._shard_of = {name: shard_of(exchange, name, len(shards)) for name in symbols}
        self._symbols = list(symbols)
        self._recorded = recorded
        self._connection = Connection(None if recorded else SILENCE_S)
        self._receiver: FrameReceiver | None = None
        self._transport: picows.WSTransport | None = None
        #: Batches on their way, with their bytes.
        self._deliveries: dict[asyncio.Task[None], int] = {}
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._quarantine: deque[RejectedFrame] = deque(maxlen=settings.quarantine)
        self._errors: deque[str] = deque(maxlen=20)
        self._subscribed: set[str] = set()
        self._lag_ms: float | None = None

    def __repr__(self) -> str:
        return f"Collector({self.exchange}, {len(self._symbols)} symbols, {self._connection.state})"

    async def start(self) -> None:
        """Begin collecting; does nothing when it runs already."""
        if self._task is None or self._task.done():
            self._failure = ""
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave the exchange, decode what was received and wait until the shards have it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._flush()
        await asyncio.gather(*self._deliveries)

    async def relocate(self, websocket: str) -> None:
        """The exchange is elsewhere now: connect there."""
        if websocket != self._websocket:
            self._websocket = websocket
            self._disconnect()

    async def status(self) -> dict[str, Any]:
        waiting_frames, waiting_bytes = self._receiver.waiting if self._receiver else (0, 0)
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "exchange": self.exchange,
            "running": self._task is not None and not self._task.done(),
            "failure": self._failure,
            "state": self._connection.state,
            "connects": self._connection.connects,
            "last_error": self._connection.last_error,
            "symbols": len(self._symbols),
            "subscribed": sorted(self._subscribed),
            "lag_ms": self._lag_ms,
            "frames_waiting": waiting_frames,
            "bytes_waiting": waiting_bytes,
            "batches_in_flight": len(self._deliveries),
            "rejected": dict(self._rejected),
            "errors": list(self._errors),
            **{name: self._counts[name] for name in ("frames", "trades", "quotes", "history", "ignored")},
        }

    async def quarantine(self) -> list[RejectedFrame]:
        """The newest frames that could not be used, with the reason."""
        return list(self._quarantine)

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stay_connected())
                group.create_task(self._flush_forever())
        except* Exception as failures:
            self._failure = "; ".join(repr(failure) for failure in failures.exceptions)
            raise
        finally:
            self._disconnect()

    async def _stay_connected(self) -> None:
        while True:
            self._connection.attempting()
            try:
                transport = await self._connect()
            except (OSError, picows.WSError, TimeoutError) as error:
                reason = f"cannot connect to {self._websocket}: {error or type(error).__name__}"
            else:
                await transport.wait_disconnected()
                closed = transport.close_handshake
                reason = (
                    f"connection lost: {closed.recv.reason or closed.recv.code}"
                    if closed and closed.recv
                    else ("connection lost")
                )
            wait = self._connection.lost(reason, random.random())  # noqa: S311 - jitter, not a secret
            await asyncio.sleep(wait)

    async def _connect(self) -> picows.WSTransport:
        self._subscribed.clear()
        limits = self._settings

        def receiver() -> FrameReceiver:
            return FrameReceiver(limits.max_frames, limits.max_bytes, limits.max_frame_bytes, self._recorded)

        self._flush()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            url = self._feed.url(self._websocket)
            transport, listener = await picows.ws_connect(
                receiver,
                url,
                ssl_context=ssl.create_default_context() if url.startswith("wss:") else None,
                enable_auto_ping=True,
                max_frame_size=limits.max_frame_bytes,
                extra_headers=recorded_clock.HEADERS if self._recorded else None,
            )
        assert isinstance(listener, FrameReceiver)
        self._receiver = listener
        self._hold_when_full()
        self._connection.opened(time.monotonic())
        for message in self._feed.subscribe():
            transport.send(picows.WSMsgType.TEXT, message.encode())
        self._transport = transport
        return transport

    def _disconnect(self) -> None:
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(picows.WSCloseCode.GOING_AWAY)
            self._transport.disconnect()

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.flush_interval_ms / 1000)
            self._flush()
            if self._is_full() and self._transport is not None:
                # What we do not read is not silence, and the answers to our pings are in it.
                self._connection.last_heard = time.monotonic()
                self._transport.notify_user_specific_pong_received()
            if self._connection.is_silent(time.monotonic()):
                self._errors.append(f"nothing received for {SILENCE_S:.0f} s, connecting again")
                self._disconnect()

    def _flush(self) -> None:
        """Decode what was received and send it on."""
        if self._receiver is None:
            return
        frames, times = self._receiver.take()
        if not frames:
            return
        self._connection.heard(time.monotonic())
        decoded = self._feed.decode(frames, times)
        self._count(decoded, len(frames))
        self._send(decoded, int(times[-1]))

    def _send(self, decoded: Decoded, clock_ns: int) -> None:
        trades, quotes = self._split(decoded.trades), self._split(decoded.quotes)
        for shard in trades.keys() | quotes.keys():
            batches = trades.get(shard, NO_TRADES), quotes.get(shard, NO_QUOTES)
            task = asyncio.create_task(self._deliver(shard, *batches, clock_ns))
            self._deliveries[task] = sum(batch.nbytes for batch in batches)
            task.add_done_callback(self._delivered)
        self._hold_when_full()

    def _split(self, batch: pa.RecordBatch) -> dict[int, pa.RecordBatch]:
        """The rows of each shard; shards without rows are left out."""
        if batch.num_rows == 0:
            return {}
        if len(self._shards) == 1:
            return {0: batch}
        names, codes = symbols_of(batch)
        shard = np.array([self._shard_of[name] for name in names])[codes]
        return {int(s): batch.take(np.flatnonzero(shard == s)) for s in np.unique(shard)}

    async def _deliver(self, shard: int, trades: pa.RecordBatch, quotes: pa.RecordBatch, clock_ns: int) -> None:
        # A shard that dies meanwhile is restarted and gets the call again; it drops what it has.
        await self._shards[shard].append.remote(self.exchange, trades, quotes, clock_ns)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        del self._deliveries[task]
        self._hold_when_full()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = f"a shard did not take a batch: {error!r}"
            if self._task is not None:
                self._task.cancel()

    def _hold_when_full(self) -> None:
        if self._receiver is not None:
            self._receiver.hold(self._is_full())

    def _is_full(self) -> bool:
        limits, deliveries = self._settings, self._deliveries
        return len(deliveries) >= limits.max_batches_in_flight or sum(deliveries.values()) >= limits.max_bytes

    def _count(self, decoded: Decoded, frames: int) -> None:
        self._counts.update(
            frames=frames,
            trades=decoded.trades.num_rows,
            quotes=decoded.quotes.num_rows,
            history=decoded.history.num_rows,
            ignored=decoded.ignored,
        )
        self._subscribed |= decoded.subscribed
        self._errors.extend(decoded.errors)
        self._quarantine.extend(decoded.rejected)
        for rejected in decoded.rejected:
            known = rejected.reason in self._rejected or len(self._rejected) < MAX_REASONS
            self._rejected[rejected.reason if known else "other"] += 1
        # Of trades, as not every feed gives its quotes a time. Below zero where the exchange's clock is ahead.
        if rows := decoded.trades.num_rows:
            last = decoded.trades.slice(rows - 1)
            self._lag_ms = (last["ts_recv"][0].as_py() - last["ts_event"][0].as_py()) / 1e6
