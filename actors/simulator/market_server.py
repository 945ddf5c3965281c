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
from actors.simulator.binance import BinanceSession, stream_of
from actors.simulator.faults import Faults
from actors.simulator.loopback import LoopbackServers
from actors.simulator.market import CHANGES, STREAMS, TRADES, Block, Listing, Market, listing, stream_names
from actors.simulator.market_book import Book

#: Trades of each symbol that REST still knows.
HISTORY: Final = 100_000

#: Bytes a connection may leave unread before it is cut.
_MAX_UNREAD: Final = 32 * 1024 * 1024

#: Frames that are due within this many seconds go out together.
_PACE_S: Final = 0.005

_MOST_TRADES: Final = 1000
_USUAL_TRADES: Final = 500
_MOST_LEVELS: Final = 5000
_USUAL_LEVELS: Final = 100
#: What exchangeInfo says of the weight of requests; nobody is held to it.
_WEIGHT_PER_MINUTE: Final = 6000


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
        faults: Faults | None = None,
    ) -> None:
        self._symbols = tuple(symbols)
        self._now_ns = now_ns
        self.faults = faults or Faults()
        self._streams = [stream_of(name) for name in stream_names(symbols)]
        self._seed = seed
        self._trades_per_second = trades_per_second
        self._sessions: dict[ServerConnection, BinanceSession] = {}
        self._sent: dict[ServerConnection, int] = {}
        self._published = 0
        self._furthest = 0
        #: Trade frames of each symbol, newest last; their ids are contiguous.
        self._history: dict[str, deque[bytes]] = {symbol: deque(maxlen=HISTORY) for symbol in symbols}
        #: How the books stood when their last changes were published.
        self._books: dict[str, Book] = {}
        self._running: asyncio.Task[None] | None = None
        application = aiohttp.web.Application()
        application.router.add_get("/api/v3/time", self._serve_time)
        application.router.add_get("/api/v3/exchangeInfo", self._serve_exchange_info)
        application.router.add_get("/api/v3/aggTrades", self._serve_trades)
        application.router.add_get("/api/v3/depth", self._serve_depth)
        self._servers = LoopbackServers("binance", self._serve_connection, application, self.faults)

    def __repr__(self) -> str:
        return f"<MarketServer {len(self._symbols)} symbols, {self._published} frames, {len(self._sent)} connections>"

    async def start(self) -> tuple[str, str]:
        """Listen and let the market run; returns the addresses, WebSocket and REST."""
        market = Market(self._seed, self._symbols, self._now_ns(), self._trades_per_second)
        self._books = dict(zip(self._symbols, market.books, strict=True))
        addresses = await self._servers.open()
        self._running = asyncio.create_task(self._run(market), name="market")
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

    async def _run(self, market: Market) -> None:
        for block in market:
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
        for at, (stream, frame) in enumerate(zip(streams, frames, strict=True), start):
            if stream % STREAMS == TRADES:
                self._history[self._symbols[stream // STREAMS]].append(frame)
            elif stream % STREAMS == CHANGES:
                self._books[self._symbols[stream // STREAMS]] = block.books[at]
        if self.faults.silent:
            return
        # Connections that get the same share the bytes.
        encoded: dict[tuple[bool, tuple[str | None, ...]], tuple[int, bytes]] = {}
        for connection, session in list(self._sessions.items()):
            asked = tuple(map(session.streams.get, self._streams))
            group = (session.combined, asked)
            if group not in encoded:
                mine = [(frame, stream) for frame, stream in zip(frames, streams, strict=True) if asked[stream]]
                wanted = [frame for frame, _ in mine]
                chosen = session.outgoing(wanted, (self._streams[stream] for _, stream in mine), ())
                if self.faults.dropping:
                    chosen = [chosen[at] for at in self.faults.kept(chosen)]
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
                    for answer in session.receive(message):
                        await self.faults.spoken()
                        await connection.send(answer, text=True)
        finally:
            del self._sessions[connection]
            self._furthest = max(self._furthest, self._sent.pop(connection))

    async def _serve_time(self, _request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"serverTime": self._now_ns() // 1_000_000})

    async def _serve_exchange_info(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        try:
            asked = json.loads(request.query["symbols"]) if "symbols" in request.query else None
        except ValueError:
            return _error(-1100, "Illegal characters found in parameter 'symbols'.")
        names = asked if isinstance(asked, list) else [request.query["symbol"]] if "symbol" in request.query else None
        if names is not None and not all(isinstance(name, str) and name in self._history for name in names):
            return _error(-1121, "Invalid symbol.")
        listings = [_exchange_info(listing(name)) for name in (self._symbols if names is None else names)]
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
        information = {
            "timezone": "UTC",
            "serverTime": self._now_ns() // 1_000_000,
            "rateLimits": [weight | {"limit": _WEIGHT_PER_MINUTE}],
            "exchangeFilters": [],
            "symbols": listings,
        }
        return aiohttp.web.json_response(information)

    async def _serve_trades(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked = self._asked(request, _USUAL_TRADES)
        if isinstance(asked, aiohttp.web.Response):
            return asked
        symbol, limit = asked
        try:
            from_id = _whole_number(request.query["fromId"]) if "fromId" in request.query else None
        except ValueError:
            return _invalid("fromId")
        trades = _trades(self._history[symbol], from_id, min(limit, _MOST_TRADES))
        return aiohttp.web.Response(body=b"[%s]" % b",".join(trades), content_type="application/json")

    async def _serve_depth(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked = self._asked(request, _USUAL_LEVELS)
        if isinstance(asked, aiohttp.web.Response):
            return asked
        symbol, limit = asked
        body = self._books[symbol].snapshot(min(limit, _MOST_LEVELS))
        return aiohttp.web.Response(body=body, content_type="application/json")

    def _asked(self, request: aiohttp.web.Request, usual: int) -> tuple[str, int] | aiohttp.web.Response:
        """Symbol and limit of a request, or what is wrong with them."""
        symbol = request.query.get("symbol")
        if not symbol:
            return _error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol not in self._history:
            return _error(-1121, "Invalid symbol.")
        try:
            return symbol, _whole_number(request.query.get("limit", str(usual)))
        except ValueError:
            return _invalid("limit")


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


def _invalid(name: str) -> aiohttp.web.Response:
    return _error(-1130, f"Data sent for parameter '{name}' is not valid.")


def _error(code: int, text: str) -> aiohttp.web.Response:
    return aiohttp.web.json_response({"code": code, "msg": text}, status=400)
