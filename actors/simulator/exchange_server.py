"""A simulated exchange: the made-up market on the wall clock, behind the exchange's own WebSocket and REST protocols.

There is one market; every connection sees the same. Frames are made a block ahead, and a trade is in the truth before
anybody is told of it: while the disk takes none, nothing happens. A client too slow to read is cut, as exchanges do,
and finds what it missed over REST.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiohttp.web
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from actors.simulator.block_encoder import BlockEncoder, EncodedBlock
from actors.simulator.dialect import Dialect, Kind, Levels
from actors.simulator.exchange_client import ExchangeClient
from actors.simulator.exchange_state import ExchangeState
from actors.simulator.faults import Faults
from actors.simulator.loopback import LOOPBACK, LoopbackServers
from actors.simulator.market import Events, Market
from actors.simulator.request_weight import RequestWeight
from actors.simulator.session import EVERYBODY, Known, Stream
from actors.simulator.sessions import session_at
from actors.simulator.truth import RecentTrades, Truth

#: Frames that are due within this many seconds go out together.
_PACE_S: Final = 0.01
_IDLE_S: Final = 0.1
#: A disk that took no trades is tried again after so long.
_RETRY_S: Final = 0.5


class ExchangeServer:
    """An exchange of our own that trades the listings of `dialect` at `trades_per_second` in all. Its trades are
    below `truth`/EXCHANGE (None: only recent ones are kept, in memory); `now_ns` is the wall clock (UTC).

    Above what one core can make its trades fall behind the wall clock; none is left out.
    """

    def __init__(
        self,
        dialect: Dialect,
        seed: int,
        trades_per_second: float,
        truth: Path | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        faults: Faults | None = None,
    ) -> None:
        self.dialect = dialect
        self.faults = faults or Faults()
        self.faults.market = self
        self._seed = seed
        self._trades_per_second = trades_per_second
        self._truth = truth
        self._wall_ns = now_ns
        #: What may be changed is this; the dialect and the state see the same.
        self._listings = dict(dialect.listings)
        dialect.listings = self._listings
        self._history: Truth | RecentTrades = RecentTrades()
        self._state = ExchangeState(self._listings, self._history, self._now_ns)
        self._known = Known(_Tradable(self))
        self._weight = RequestWeight(dialect.weight_per_minute)
        self._encoder = BlockEncoder(dialect)
        self._clients: set[ExchangeClient] = set()
        self._published = 0
        self._furthest = 0
        #: Why nothing happens now; empty when the market runs.
        self._halts: set[object] = set()
        self._halted = asyncio.Event()
        self._resumed = asyncio.Event()
        #: What to do to the market before its next block.
        self._changes: list[Callable[[Market], None]] = []
        #: Why it cannot trade; empty when it can.
        self.failure = ""
        self._running: asyncio.Task[None] | None = None
        self._interruptions: set[asyncio.Task[None]] = set()
        application = aiohttp.web.Application()
        application.router.add_get("/{path:.*}", self._serve_rest)
        self._servers = LoopbackServers(dialect.exchange, self._serve_connection, application, self.faults)

    def __repr__(self) -> str:
        return (
            f"<ExchangeServer {self.dialect.exchange} {len(self._listings)} symbols, {self._published} frames, "
            f"{len(self._clients)} connections>"
        )

    async def start(self, host: str = LOOPBACK) -> tuple[str, str]:
        """Listen there and let the market run on from the truth; returns the addresses, WebSocket (with the path of the
        protocol) and REST."""
        last = {}
        if self._truth is not None:
            truth = self._history = Truth(self._truth, self.dialect.exchange)
            last = await asyncio.to_thread(truth.last, self._listings)
        self._state = ExchangeState(self._listings, self._history, self._now_ns)
        market = Market(self._seed, self.dialect, self._wall_ns(), self._trades_per_second, last)
        for symbol in self._listings:
            self._begin(symbol, market)
        websocket, rest = await self._servers.open(host)
        self._running = asyncio.create_task(self._run(market), name=f"market of {self.dialect.exchange}")
        return websocket + self.dialect.path, rest

    async def stop(self) -> None:
        """Stop both. Raises what ended the market, if it ended by itself."""
        for task in tuple(self._interruptions):
            task.cancel()
        await asyncio.gather(*self._interruptions, return_exceptions=True)
        try:
            if self._running is not None:
                self._running.cancel()
                with suppress(asyncio.CancelledError):
                    await self._running
        finally:
            await self._servers.close()
            await asyncio.to_thread(self._history.close)

    def progress(self) -> dict[str, int | bool]:
        """`frames` of all streams so far, `sent` to the connection that got most; a market never finishes."""
        if self._running is not None and self._running.done():
            self._running.result()
        return {
            "frames": self._published,
            "sent": max((client.sent for client in self._clients), default=self._furthest),
            "connections": len(self._clients),
            "halted": bool(self._halts),
            "finished": False,
        }

    async def halt(self, on: bool = True, why: object = "asked") -> None:
        """No new trades or changes: returns when everything that happened is published. Heartbeats and REST go on.
        Everybody who halted has to let it go on."""
        if on:
            self._halts.add(why)
            if self._running is not None and not self._running.done():
                halted = asyncio.create_task(self._halted.wait())
                try:
                    await asyncio.wait((halted, self._running), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    halted.cancel()
        else:
            self._halts.discard(why)
            if not self._halts:
                self._resumed.set()

    def book(self, symbol: str, levels: int) -> Levels:
        """The best levels as published, in ticks and units. KeyError for what is not listed."""
        if symbol not in self._listings:
            raise KeyError(symbol)
        return self._state.book(symbol).levels(levels)

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        """The stream of a symbol's frames of that kind."""
        return self.dialect.stream(symbol, kind)

    def restart(self, seconds: float) -> None:
        """End all connections as a restarted server does, and let nobody in for that long; the market goes on."""
        self._interrupt(self._restart(seconds))

    def maintain(self, seconds: float) -> None:
        """Maintenance: nothing happens for that long."""
        self._interrupt(self._maintain(seconds))

    def delist(self, symbol: str) -> None:
        """After what has been made ahead (half a second) nothing of the symbol comes any more, its subscriptions end,
        and nobody can subscribe to it. KeyError for what is not listed."""
        if symbol not in self._listings:
            raise KeyError(symbol)
        self._change(lambda market: self._end(symbol, market))

    def relist(self, symbol: str) -> None:
        """List a symbol, again or for the first time; it goes on with its next ids. ValueError for what cannot be a
        symbol of the exchange."""
        listed = self.dialect.listing(symbol)
        self._change(lambda market: self._add(listed.symbol, market))

    def _now_ns(self) -> int:
        return self._wall_ns() + self.faults.skew_ns

    def _change(self, change: Callable[[Market], None]) -> None:
        self._changes.append(change)
        self._resumed.set()

    def _begin(self, symbol: str, market: Market) -> None:
        self._state.begin(symbol, *market.state(symbol))
        self._encoder.add(symbol)
        for client in self._clients:
            client.look(self._encoder.streams)

    def _add(self, symbol: str, market: Market) -> None:
        if symbol not in self._listings:
            self._listings[symbol] = self.dialect.listing(symbol)
            market.add(self._listings[symbol])
            self._begin(symbol, market)

    def _end(self, symbol: str, market: Market) -> None:
        if symbol in self._listings:
            del self._listings[symbol]
            market.remove(symbol)
            self._state.end(symbol)
            for client in self._clients:
                client.end(symbol)
                client.look(self._encoder.streams)

    async def _run(self, market: Market) -> None:
        unwritten: Sequence[Events] = ()
        while True:
            # What is of the symbols before a change is written before it.
            if not unwritten:
                changes, self._changes = self._changes, []
                for change in changes:
                    change(market)
            if self._halts:
                self._halted.set()
                self._resumed.clear()
                await self._resumed.wait()
                market.skip_to(self._wall_ns())
                continue
            self._halted.clear()
            market.skew_ns = self.faults.skew_ns
            block = unwritten or next(market)
            if not block:
                # Nothing is listed.
                await asyncio.sleep(_IDLE_S)
                market.skip_to(self._wall_ns())
            try:
                for events in block:
                    if len(events.trades):
                        self._history.append(market.listed(events.symbol), events.trades)
            except OSError as error:
                self.failure = f"cannot write its trades: {error.strerror}"
                unwritten = block
                await asyncio.sleep(_RETRY_S)
                market.skip_to(self._wall_ns())
                continue
            self.failure, unwritten = "", ()
            self._state.publishing(block)
            await self._publish(self._encoder.encode(block))

    async def _publish(self, encoded: EncodedBlock) -> None:
        position, count = 0, len(encoded.frames)
        while position < count:
            now_ns = self._wall_ns()
            end = int(np.searchsorted(encoded.due, now_ns, "right"))
            if end > position:
                self._state.published(now_ns)
                self._send(encoded, slice(position, end))
                position = end
            ahead_s = (int(encoded.due[position]) - now_ns) / 1e9 if position < count else 0.0
            # A market that is behind must not keep the others waiting.
            await asyncio.sleep(max(ahead_s, _PACE_S) if ahead_s > 0 else 0)

    def _send(self, encoded: EncodedBlock, part: slice) -> None:
        frames, places, times = encoded.frames[part], encoded.streams[part], encoded.times[part]
        self._published += len(frames)
        # Connections that get the same share the bytes.
        shared: dict[tuple[Any, bytes], tuple[int, bytes]] = {}
        for client in tuple(self._clients):
            form = client.form
            key = (form, client.wanted.tobytes())
            formed = shared.get(key)
            if formed is None:
                mine = np.flatnonzero(client.wanted[places])
                chosen = frames if len(mine) == len(frames) else [frames[at] for at in mine.tolist()]
                streams = map(self._encoder.streams.__getitem__, places[mine].tolist())
                formed = client.formed(chosen, streams, _integers(times[mine]))
                if form is not None:
                    shared[key] = formed
            if not self.faults.silent:
                client.send(formed)

    async def _serve_connection(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        target = connection.request.path
        session = session_at(self.dialect.exchange, target)(target, self._known)
        client = ExchangeClient(connection, session, self.faults, self._opening, self._now_ns)
        try:
            async with asyncio.TaskGroup() as tasks:
                await self.faults.spoken()
                client.greet(self._encoder.streams)
                self._clients.add(client)
                beating = tasks.create_task(client.beat_forever())
                with suppress(ConnectionClosed):
                    async for message in connection:
                        await self.faults.spoken()
                        client.answer(message, self._encoder.streams)
                beating.cancel()
        finally:
            self._clients.discard(client)
            self._furthest = max(self._furthest, client.sent)

    def _opening(self, stream: Stream) -> list[bytes]:
        if stream.symbol and stream.symbol not in self._listings:
            return []
        return self.dialect.opening(stream, self._state)

    async def _serve_rest(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        query = dict(request.query)
        verdict = self._weight.take(self.dialect.weight(request.path, query), self._wall_ns())
        headers = {self.dialect.weight_header: str(verdict.used)} if self.dialect.weight_header else {}
        if verdict.status == 200:
            body, status, further = self.dialect.rest(request.path, query, self._state)
            headers |= further
        else:
            body, status = self.dialect.overrun, verdict.status
            headers["Retry-After"] = str(verdict.retry_after_s)
        return aiohttp.web.Response(
            body=body, status=status, headers=headers, content_type="application/json", charset="utf-8"
        )

    def _notify(self, notice: bytes | None) -> None:
        if notice is not None and not self.faults.silent:
            for client in tuple(self._clients):
                client.tell([notice], [EVERYBODY], [self._now_ns()])

    def _interrupt(self, interruption: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(interruption)
        self._interruptions.add(task)
        task.add_done_callback(self._interruptions.discard)

    async def _restart(self, seconds: float) -> None:
        self._servers.down += 1
        try:
            self._notify(self.dialect.notice("reconnect"))
            await self.faults.close(1012, "Service Restart")
            await asyncio.sleep(seconds)
        finally:
            self._servers.down -= 1

    async def _maintain(self, seconds: float) -> None:
        self._notify(self.dialect.notice("maintenance"))
        why = object()
        try:
            await self.halt(why=why)
            await asyncio.sleep(seconds)
        finally:
            await self.halt(on=False, why=why)
        self._notify(self.dialect.notice("resumed"))


class _Tradable:
    """What can be subscribed to now."""

    def __init__(self, server: ExchangeServer) -> None:
        self._server = server

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._server.dialect.listings and symbol not in self._server.faults.refused


def _integers(values: NDArray[np.int64]) -> Iterator[int]:
    """Made only where somebody wants them."""
    yield from values.tolist()
