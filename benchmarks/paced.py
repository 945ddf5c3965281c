"""Binance with as many symbols as are wanted, which trade at the rate it is told, each trade with a quote if one likes.

`python -m benchmarks.paced SYMBOLS [ADDRESS]` prints its ports (WebSocket, REST) and serves until its standard input
ends. Nobody trades until `/measured/trade?rate=` says how often (trades a second, of all symbols together, one symbol
after the other; `&quotes=1` with quotes). A socket that is not read holds up everybody, so at a rate that is never
reached trades come as fast as they are taken. `/measured/counts` says what was sent, and of how many symbols the trades
are subscribed to.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from actors.simulator import wire
from benchmarks.many_symbols import instrument, symbols

#: Of each symbol; all have twelve digits.
FIRST_ID: Final = 100_000_000_000
#: Prices go round so many, from the lowest (cents).
_PRICES: Final = 1_000
_LOWEST: Final = 6_300_000
#: At most so many trades go out at once.
_AT_ONCE: Final = 20_000
_TICK_S: Final = 0.005
_TRADE: Final = (
    '{{"stream":"{stream}@aggTrade","data":{{"e":"aggTrade","E":{time},"s":"{name}","a":{id},"p":"{price}.00",'
    '"q":"0.10000000","f":{id},"l":{id},"T":{time},"m":true,"M":true}}}}'
)
_QUOTE: Final = (
    '{{"stream":"{stream}@bookTicker","data":{{"u":{id},"s":"{name}","b":"{price}.00","B":"1.00000000",'
    '"a":"6400000.00","A":"2.00000000"}}}}'
)
Integers = npt.NDArray[np.int64]


class Frames:
    """A message of each symbol, all equally long, which are numbered anew for each that is sent."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        marks = {"id": "#" * 12, "price": "$" * 7, "time": "%" * 13}
        made = [wire.block([text.format(stream=name.lower(), name=name, **marks).encode()]) for name in names]
        self._every = np.array([np.frombuffer(one, np.uint8) for one in made])
        # What stands before the text may look like anything.
        text_of_first = self._every[0, -len(text.format(stream=names[0], name=names[0], **marks)) :]
        before = self._every.shape[1] - len(text_of_first)
        self._ids, self._prices, self._times = (before + np.flatnonzero(text_of_first == ord(mark)) for mark in "#$%")

    def of(self, which: Integers, numbers: Integers, time_ms: int) -> bytes:
        """The messages of the symbols `which` (by position), the `numbers`th of each, at `time_ms` (UTC)."""
        found = self._every[which]
        for places, values, digits in (
            (self._ids, FIRST_ID + numbers, 12),
            (self._prices, _LOWEST + numbers % _PRICES, 7),
            (self._times, np.array([time_ms]), 13),
        ):
            written = (values[:, np.newaxis] // 10 ** np.arange(digits - 1, -1, -1) % 10 + ord("0")).astype(np.uint8)
            found[:, places] = np.tile(written, len(places) // digits)
        return found.tobytes()


@dataclass(slots=True)
class _Listener:
    """A connection, and of each symbol whether it has its trades and quotes."""

    trades: npt.NDArray[np.bool_]
    quotes: npt.NDArray[np.bool_]


@dataclass
class Exchange:
    """The servers of so many symbols."""

    names: Sequence[str]
    rate: float = 0.0
    with_quotes: bool = False
    #: How many trades and quotes there were, and what somebody got of them.
    traded: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"trades": 0, "quotes": 0, "bytes": 0})
    _listeners: dict[ServerConnection, _Listener] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._number = {name.lower(): number for number, name in enumerate(self.names)}
        self._frames = {"trades": Frames(_TRADE, self.names), "quotes": Frames(_QUOTE, self.names)}

    async def serve(self, connection: ServerConnection) -> None:
        own = self._listeners[connection] = _Listener(*(np.zeros(len(self.names), bool) for _ in range(2)))
        with suppress(ConnectionClosed):
            async for message in connection:
                request = json.loads(message)
                for stream in request["params"]:
                    name, _, kind = stream.partition("@")
                    if (wanted := {"aggTrade": own.trades, "bookTicker": own.quotes}.get(kind)) is not None:
                        wanted[self._number[name]] = request["method"] == "SUBSCRIBE"
                await connection.send(json.dumps({"result": None, "id": request["id"]}))
        del self._listeners[connection]

    async def trade(self) -> None:
        """Goes on for ever."""
        due, before = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S if due < _AT_ONCE else 0)
            now = time.monotonic()
            # What could not be sent in time is not made up for.
            due = min(due + (now - before) * self.rate, 2 * _AT_ONCE) if self.rate else 0.0
            before = now
            if count := min(int(due), _AT_ONCE):
                due -= count
                await self._send(np.arange(self.traded, self.traded + count))
                self.traded += count

    async def _send(self, trades: Integers) -> None:
        which, numbers = trades % len(self.names), trades // len(self.names)
        for connection, own in list(self._listeners.items()):
            for kind, wanted in (("trades", own.trades), ("quotes", own.quotes)):
                mine = wanted[which]
                if not mine.any() or (kind == "quotes" and not self.with_quotes):
                    continue
                said = self._frames[kind].of(which[mine], numbers[mine], time.time_ns() // 1_000_000)
                with suppress(ConnectionClosed):
                    async with connection.send_context():
                        connection.transport.write(said)
                    self.counts[kind] += int(mine.sum())
                    self.counts["bytes"] += len(said)

    # REST

    async def list_all(self, _request: web.Request) -> web.Response:
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}]
        return web.json_response(
            {
                "timezone": "UTC", "serverTime": time.time_ns() // 1_000_000, "rateLimits": limits,
                "exchangeFilters": [], "symbols": [instrument(name) for name in self.names],
            }
        )  # fmt: skip

    async def past_trades(self, _request: web.Request) -> web.Response:
        """None: there was no trade before the first that was sent."""
        return web.json_response([])

    async def set_rate(self, request: web.Request) -> web.Response:
        self.rate, self.with_quotes = float(request.query["rate"]), "quotes" in request.query
        return web.json_response(self.counts)

    async def tell(self, _request: web.Request) -> web.Response:
        subscribed = sum(int(own.trades.sum()) for own in self._listeners.values())
        return web.json_response({**self.counts, "subscribed": subscribed})


@asynccontextmanager
async def serving(exchange: Exchange, address: str = "127.0.0.1") -> AsyncIterator[tuple[int, int]]:
    """The ports of its servers, WebSocket and REST, which end with the block."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/api/v3/exchangeInfo", exchange.list_all),
            web.get("/api/v3/aggTrades", exchange.past_trades),
            web.get("/measured/trade", exchange.set_rate),
            web.get("/measured/counts", exchange.tell),
        ]
    )
    rest = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await rest.setup()
    await web.TCPSite(rest, address, 0).start()
    settings: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}
    async with serve(exchange.serve, address, 0, **settings) as server:
        trading = asyncio.create_task(exchange.trade())
        try:
            yield next(iter(server.sockets)).getsockname()[1], rest.addresses[0][1]
        finally:
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)
    await rest.cleanup()


async def main(count: str, address: str = "127.0.0.1") -> None:
    async with serving(Exchange(symbols(int(count))), address) as ports:
        print(*ports, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
