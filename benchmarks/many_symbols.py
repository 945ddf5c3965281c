"""Binance with thousands of symbols, as far as a collector sees it, and with its limits enforced.

`python -m benchmarks.many_symbols SYMBOLS WEIGHT` prints its ports (WebSocket, REST) and serves until its standard
input ends. Streams are subscribed by message or in the address, books come as depth streams and snapshots of 1,000
levels a side; WEIGHT may be spent on REST in any 60 s. Update `n` of a book sets the sizes of level `n % MOVING` of
both sides, so what a book holds follows from its last update alone: see `sizes`.

Limits and messages: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams,
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits and .../market-data-endpoints#order-book
"""

import asyncio
import http
import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from actors.simulator import wire

LEVELS: Final = 1_000
#: How many levels of a side, from the best, ever change; how many updates one message of a depth stream has.
MOVING: Final = 50
UPDATES: Final = 5
FIRST_UPDATE: Final = 1_000_000
#: Books are updated so often in a second until told otherwise; each time with a quote, every fifth time with a trade.
RATE: Final = 1.0
TRADE_EVERY: Final = 5

MOST_STREAMS: Final = 1_024
MESSAGES_PER_SECOND: Final = 5
LONGEST_TARGET: Final = 8_000
#: Between what a snapshot holds and its arrival: updates come meanwhile.
SNAPSHOT_DELAY_S: Final = 0.05
_TICK_S: Final = 0.02
_WINDOW_S: Final = 60.0

_BIDS: Final = [f"{100 - (level + 1) / 100:.8f}" for level in range(LEVELS)]
_ASKS: Final = [f"{100 + (level + 1) / 100:.8f}" for level in range(LEVELS)]
_STATIC_BIDS, _STATIC_ASKS = (
    ",".join(f'["{price}","1.00000000"]' for price in side[MOVING:]) for side in (_BIDS, _ASKS)
)
_TRADING: Final = "SPOT MARGIN TRD_GRP_004 TRD_GRP_005 TRD_GRP_006 TRD_GRP_009 TRD_GRP_010 TRD_GRP_011 TRD_GRP_012"


def symbols(count: int) -> tuple[str, ...]:
    """The names of the first `count` symbols."""
    return tuple(f"S{number:04}USDT" for number in range(count))


def sizes(number: int, update: int) -> npt.NDArray[np.float64]:
    """The sizes of each side of the book of symbol `number` after `update`, best level first."""
    every = np.ones(LEVELS)
    every[:MOVING] = [float(_size(number, _last(update, level))) for level in range(MOVING)]
    return every


def prices(side: str) -> list[float]:
    """The prices of `bids` or `asks`, best level first: those of all books, for ever."""
    return [float(price) for price in (_BIDS if side == "bids" else _ASKS)]


def _last(update: int, level: int) -> int:
    """The last update of a level up to this one."""
    return update - (update - level) % MOVING


def _size(number: int, update: int) -> str:
    return f"{number}.{update % 100_000_000:08}"


def _weight(levels: int) -> int:
    return next((weight for most, weight in ((100, 5), (500, 25), (1_000, 50)) if levels <= most), 250)


def instrument(name: str) -> dict[str, Any]:
    base = name.removesuffix("USDT")
    return {
        "symbol": name, "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8, "quoteAsset": "USDT",
        "quotePrecision": 8, "quoteAssetPrecision": 8, "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT"],
        "icebergAllowed": True, "ocoAllowed": True, "otoAllowed": True, "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True, "cancelReplaceAllowed": True, "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000.00000000",
             "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "minQty": "0.00000001", "maxQty": "9000.00000000", "stepSize": "0.00000001"},
            {"filterType": "ICEBERG_PARTS", "limit": 10},
            {"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "5", "bidMultiplierDown": "0.2",
             "askMultiplierUp": "5", "askMultiplierDown": "0.2", "avgPriceMins": 5},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        ],
        "permissions": [], "permissionSets": [_TRADING.split()], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }  # fmt: skip


class Books:
    """What is traded: the last update of each symbol, and what is streamed of it."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.number = {name: number for number, name in enumerate(names)}
        self.updates = [FIRST_UPDATE] * len(names)

    def snapshot(self, name: str) -> bytes:
        """A snapshot within what the next message of the stream says, as snapshots are."""
        number = self.number[name]
        update = self.updates[number] + number % UPDATES
        bids, asks = (
            ",".join(f'["{side[level]}","{_size(number, _last(update, level))}"]' for level in range(MOVING))
            for side in (_BIDS, _ASKS)
        )
        return (f'{{"lastUpdateId":{update},"bids":[{bids},{_STATIC_BIDS}],"asks":[{asks},{_STATIC_ASKS}]}}').encode()

    def update(self, number: int, now_ms: int) -> dict[str, bytes]:
        """The next message of a book and what comes with it, by stream."""
        name, first = self.names[number], self.updates[number] + 1
        last = self.updates[number] = first + UPDATES - 1
        bids, asks = (
            ",".join(f'["{side[n % MOVING]}","{_size(number, n)}"]' for n in range(first, last + 1))
            for side in (_BIDS, _ASKS)
        )
        best = [_size(number, _last(last, 0))] * 2
        events = {
            "depth@100ms": f'{{"e":"depthUpdate","E":{now_ms},"s":"{name}","U":{first},"u":{last},'
            f'"b":[{bids}],"a":[{asks}]}}',
            "bookTicker": f'{{"u":{last},"s":"{name}","b":"{_BIDS[0]}","B":"{best[0]}",'
            f'"a":"{_ASKS[0]}","A":"{best[1]}"}}',
        }
        if last // UPDATES % TRADE_EVERY == 0:
            events["aggTrade"] = (
                f'{{"e":"aggTrade","E":{now_ms},"s":"{name}","a":{last},"p":"{_ASKS[0]}","q":"0.01000000",'
                f'"f":{last},"l":{last},"T":{now_ms},"m":false,"M":true}}'
            )
        names = {kind: f"{name.lower()}@{kind}" for kind in events}
        return {names[kind]: f'{{"stream":"{names[kind]}","data":{event}}}'.encode() for kind, event in events.items()}


class Exchange:
    """The servers. `counts` tells what was asked of them and how often a limit was passed."""

    def __init__(self, count: int, weight: int) -> None:
        self._books = Books(symbols(count))
        self._weight = weight
        self._rate = RATE
        self._listeners: dict[str, set[ServerConnection]] = defaultdict(set)
        self._spent: deque[tuple[float, int]] = deque()
        self._refused_until = 0.0
        self._exchange_info = json.dumps(
            {
                "timezone": "UTC",
                "serverTime": time.time_ns() // 1_000_000,
                "rateLimits": [
                    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight}
                ],
                "exchangeFilters": [],
                "symbols": [instrument(name) for name in self._books.names],
            }
        ).encode()
        self.counts = {"connections": 0, "messages": 0, "cut": 0, "snapshots": 0, "refused": 0, "weight_of_a_minute": 0}

    # WebSocket

    def check_target(self, connection: ServerConnection, request: Request) -> Response | None:
        if len(request.path) > LONGEST_TARGET:
            return connection.respond(http.HTTPStatus.REQUEST_URI_TOO_LONG, "\n")
        return None

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.counts["connections"] += 1
        streams: set[str] = set()
        asked = parse_qs(urlsplit(connection.request.path).query).get("streams", [""])[0]
        sent: deque[float] = deque(maxlen=MESSAGES_PER_SECOND)
        try:
            self._listen(connection, streams, [name for name in asked.split("/") if name])
            async for message in connection:
                now = time.monotonic()
                self.counts["messages"] += 1
                if len(sent) == MESSAGES_PER_SECOND and now - sent[0] < 1.0:
                    self.counts["cut"] += 1
                    await connection.close(1008, "Too many requests")
                    return
                sent.append(now)
                request = json.loads(message)
                if request["method"] == "SUBSCRIBE":
                    self._listen(connection, streams, request["params"])
                else:
                    self._leave(connection, streams, request["params"])
                await connection.send(json.dumps({"result": None, "id": request["id"]}))
        except (ConnectionClosed, _TooManyStreams):
            pass
        finally:
            self._leave(connection, streams, list(streams))

    def _listen(self, connection: ServerConnection, streams: set[str], names: Sequence[str]) -> None:
        streams.update(names)
        if len(streams) > MOST_STREAMS:
            self.counts["cut"] += 1
            raise _TooManyStreams
        for name in names:
            self._listeners[name].add(connection)

    def _leave(self, connection: ServerConnection, streams: set[str], names: Sequence[str]) -> None:
        streams.difference_update(names)
        for name in names:
            self._listeners[name].discard(connection)

    async def stream(self) -> None:
        """Update books in turn, at the rate that is wanted now."""
        due, number = 0.0, 0
        before = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            due += (now - before) * self._rate * len(self._books.names)
            before = now
            outgoing: dict[ServerConnection, list[bytes]] = defaultdict(list)
            now_ms = time.time_ns() // 1_000_000
            while due >= 1:
                due -= 1
                for name, frame in self._books.update(number, now_ms).items():
                    for connection in self._listeners.get(name, ()):
                        outgoing[connection].append(frame)
                number = (number + 1) % len(self._books.names)
            for connection, frames in outgoing.items():
                with suppress(ConnectionClosed):
                    async with connection.send_context():
                        connection.transport.write(wire.block(frames))

    # REST

    async def list_all(self, _request: web.Request) -> web.Response:
        return self._spend(20) or self._answer(self._exchange_info)

    async def depth(self, request: web.Request) -> web.Response:
        levels = int(request.query.get("limit", "100"))
        refusal = self._spend(_weight(levels))
        if refusal is not None:
            return refusal
        self.counts["snapshots"] += 1
        body = self._books.snapshot(request.query["symbol"])
        await asyncio.sleep(SNAPSHOT_DELAY_S)
        return self._answer(body)

    def _spend(self, weight: int) -> web.Response | None:
        """A refusal when the weight of the last minute would be too much."""
        now = time.monotonic()
        while self._spent and self._spent[0][0] <= now - _WINDOW_S:
            self._spent.popleft()
        used = sum(spent for _, spent in self._spent) + weight
        if used > self._weight or now < self._refused_until:
            self.counts["refused"] += 1
            again = now < self._refused_until
            self._refused_until = max(self._refused_until, self._spent[0][0] + _WINDOW_S)
            rest = {"Retry-After": str(int(self._refused_until - now) + 1)}
            return web.json_response({"code": -1003}, status=418 if again else 429, headers=rest)
        self._spent.append((now, weight))
        self.counts["weight_of_a_minute"] = max(self.counts["weight_of_a_minute"], used)
        return None

    def _answer(self, body: bytes) -> web.Response:
        used = sum(weight for _, weight in self._spent)
        return web.Response(body=body, content_type="application/json", headers={"X-MBX-USED-WEIGHT-1M": str(used)})

    # Whoever measures

    async def set_rate(self, request: web.Request) -> web.Response:
        """Update each book so often in a second from now on."""
        self._rate = float(request.query["rate"])
        return web.json_response({})

    async def tell(self, _request: web.Request) -> web.Response:
        """The counts, and the last update of each symbol."""
        return web.json_response({**self.counts, "updates": self._books.updates})


class _TooManyStreams(Exception):
    """A connection wants more streams than one may have."""


@asynccontextmanager
async def serving(exchange: Exchange) -> AsyncIterator[tuple[int, int]]:
    """The ports of its servers, WebSocket and REST, which end with the block."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/api/v3/exchangeInfo", exchange.list_all),
            web.get("/api/v3/depth", exchange.depth),
            web.get("/measured/rate", exchange.set_rate),
            web.get("/measured/counts", exchange.tell),
        ]
    )
    rest = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await rest.setup()
    await web.TCPSite(rest, "127.0.0.1", 0).start()
    settings: dict[str, Any] = {"compression": None, "ping_interval": 20, "ping_timeout": None, "close_timeout": 1}
    async with serve(exchange.serve, "127.0.0.1", 0, process_request=exchange.check_target, **settings) as server:
        streaming = asyncio.create_task(exchange.stream())
        try:
            yield next(iter(server.sockets)).getsockname()[1], rest.addresses[0][1]
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)
    await rest.cleanup()


async def main(count: str, weight: str) -> None:
    async with serving(Exchange(int(count), int(weight))) as ports:
        print(*ports, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
