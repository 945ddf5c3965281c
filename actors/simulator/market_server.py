"""The made-up market on the wall clock, behind Binance's WebSocket and REST protocols.

There is one market; every connection sees the same. A client too slow to read is cut, as exchanges do, and finds
what it missed over REST in a bounded recent history.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import aiohttp.web
import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from actors.simulator import wire
from actors.simulator.binance import BinanceSession
from actors.simulator.loopback import LoopbackServers
from actors.simulator.market import Block, Listing, listing, market, stream_names

#: Trades of each symbol that REST still knows.
HISTORY: Final = 100_000

#: Bytes a connection may leave unread before it is cut.
_MAX_UNREAD: Final = 32 * 1024 * 1024

#: Frames that are due within this many seconds go out together.
_PACE_S: Final = 0.005

_MOST_TRADES: Final = 1000
_USUAL_TRADES: Final = 500


class MarketServer:
    """A Binance of our own for `symbols` at `trades_per_second` in all. `now_ns` is the wall clock (UTC).

    Above what one core can make (some 300,000 trades a second) its trades fall behind the wall clock; none is left
    out.
    """

    def __init__(
        self,
        seed: int,
        symbols: Sequence[str],
        trades_per_second: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._symbols = tuple(symbols)
        self._now_ns = now_ns
        self._streams = stream_names(symbols)
        self._seed = seed
        self._trades_per_second = trades_per_second
        self._sessions: dict[ServerConnection, BinanceSession] = {}
        self._sent: dict[ServerConnection, int] = {}
        self._published = 0
        self._furthest = 0
        #: Trade frames of each symbol, newest last; their ids are contiguous.
        self._history: dict[str, deque[bytes]] = {symbol: deque(maxlen=HISTORY) for symbol in symbols}
        self._running: asyncio.Task[None] | None = None
        application = aiohttp.web.Application()
        application.router.add_get("/api/v3/time", self._serve_time)
        application.router.add_get("/api/v3/exchangeInfo", self._serve_exchange_info)
        application.router.add_get("/api/v3/aggTrades", self._serve_trades)
        self._servers = LoopbackServers(self._serve_connection, application, BinanceSession)

    def __repr__(self) -> str:
        return f"<MarketServer {len(self._symbols)} symbols, {self._published} frames, {len(self._sent)} connections>"

    async def start(self) -> tuple[str, str]:
        """Listen and let the market run; returns the addresses, WebSocket and REST."""
        addresses = await self._servers.open()
        self._running = asyncio.create_task(self._run(), name="market")
        return addresses

    async def stop(self) -> None:
        """Stop both. Raises what ended the market, if it ended by itself."""
        try:
            if self._running is not None:
                self._running.cancel()
                with suppress(asyncio.CancelledError):
                    await self._running
        finally:
            await self._servers.close()

    def progress(self) -> dict[str, int | bool]:
        """`frames` of all streams so far, `sent` to the connection that got most; a market never finishes."""
        if self._running is not None and self._running.done():
            self._running.result()
        return {
            "frames": self._published,
            "sent": max(self._sent.values(), default=self._furthest),
            "connections": len(self._sent),
            "finished": False,
        }

    async def _run(self) -> None:
        for block in market(self._seed, self._symbols, self._now_ns(), self._trades_per_second):
            position = 0
            while position < len(block.frames):
                end = int(np.searchsorted(block.times, self._now_ns(), "right"))
                if end > position:
                    self._publish(block, position, end)
                    position = end
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(max((int(block.times[position]) - self._now_ns()) / 1e9, _PACE_S))

    def _publish(self, block: Block, start: int, end: int) -> None:
        frames, streams = block.frames[start:end], block.streams[start:end].tolist()
        self._published += len(frames)
        for stream, frame in zip(streams, frames, strict=True):
            if stream % 2:
                self._history[self._symbols[stream // 2]].append(frame)
        # Connections that get the same share the bytes.
        encoded: dict[tuple[bool, frozenset[int]], tuple[int, bytes]] = {}
        for connection, session in list(self._sessions.items()):
            wanted = frozenset(number for number, name in enumerate(self._streams) if session.wants(name))
            group = (session.combined, wanted)
            if group not in encoded:
                chosen = [
                    session.outgoing(frame) for stream, frame in zip(streams, frames, strict=True) if stream in wanted
                ]
                encoded[group] = (len(chosen), wire.block(chosen))
            self._send(connection, *encoded[group])

    def _send(self, connection: ServerConnection, count: int, frames: bytes) -> None:
        if not count or connection.state is not State.OPEN or connection.transport.is_closing():
            return
        if connection.transport.get_write_buffer_size() > _MAX_UNREAD:
            # There is no way to say good-bye to somebody who does not read.
            connection.transport.abort()
            return
        connection.transport.write(frames)
        self._sent[connection] += count

    async def _serve_connection(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        session = BinanceSession(connection.request.path)
        self._sessions[connection] = session
        self._sent[connection] = 0
        try:
            with suppress(ConnectionClosed):
                async for message in connection:
                    await connection.send(session.receive(message), text=True)
        finally:
            del self._sessions[connection]
            self._furthest = max(self._furthest, self._sent.pop(connection))

    async def _serve_time(self, _request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"serverTime": self._now_ns() // 1_000_000})

    async def _serve_exchange_info(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        symbol = request.query.get("symbol")
        if symbol is not None and symbol not in self._history:
            return _error(-1121, "Invalid symbol.")
        listings = [_exchange_info(listing(name)) for name in ([symbol] if symbol else self._symbols)]
        information = {
            "timezone": "UTC",
            "serverTime": self._now_ns() // 1_000_000,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": listings,
        }
        return aiohttp.web.json_response(information)

    async def _serve_trades(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        symbol = request.query.get("symbol")
        if not symbol:
            return _missing("symbol")
        if symbol not in self._history:
            return _error(-1121, "Invalid symbol.")
        try:
            limit = _whole_number(request.query.get("limit", str(_USUAL_TRADES)))
        except ValueError:
            return _error(-1130, "Data sent for parameter 'limit' is not valid.")
        try:
            from_id = _whole_number(request.query["fromId"]) if "fromId" in request.query else None
        except ValueError:
            return _error(-1130, "Data sent for parameter 'fromId' is not valid.")
        trades = _trades(self._history[symbol], from_id, min(limit, _MOST_TRADES))
        return aiohttp.web.Response(body=b"[%s]" % b",".join(trades), content_type="application/json")


def _trades(history: deque[bytes], from_id: int | None, limit: int) -> Iterator[bytes]:
    """Up to `limit` trades from `from_id` on, or the newest, as REST writes them: a frame's fields from `a` on."""
    start = len(history) - limit
    if from_id is not None and history:
        start = from_id - json.loads(history[0])["data"]["a"]
    start = max(start, 0)
    for frame in islice(history, start, start + limit):
        yield b"{" + frame[frame.index(b'"a":') : -1]


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(text)
    return int(text)


def _exchange_info(listed: Listing) -> dict[str, Any]:
    tick, step = f"{10**-listed.price_decimals:.8f}", f"{10**-listed.size_decimals:.8f}"
    return {
        "symbol": listed.symbol,
        "status": "TRADING",
        "baseAsset": listed.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listed.quote,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000.00000000", "stepSize": step},
        ],
    }


def _missing(name: str) -> aiohttp.web.Response:
    return _error(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _error(code: int, text: str) -> aiohttp.web.Response:
    return aiohttp.web.json_response({"code": code, "msg": text}, status=400)
