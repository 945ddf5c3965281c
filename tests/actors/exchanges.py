"""What tests of collectors need around them: a Binance on loopback that does as it is told and remembers what it was
asked, and shards at hand instead of in other processes.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Protocol, Self

import aiohttp.web
import pyarrow as pa
import pytest
import ray
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.feeds.registry import FEEDS
from actors.ledger.origin import Origin
from actors.parcels import Stream, batches_of
from actors.simulator import wire
from actors.simulator.captures import Recording, read_capture, recordings
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import ReplayClock
from config import Settings, load
from storage.ledger_log import Gap

#: Nothing listens there.
NOWHERE = "http://127.0.0.1:1"
SNAPSHOT_WEIGHT = 50
#: 2024-03-01 12:00:00 UTC.
NOON_MS = 1_709_294_400_000


class Handle:
    """A shard as a collector sees it: each of its methods is called as `method.remote`."""

    def __init__(self, shard: object) -> None:
        self._shard = shard

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self._shard, name))


class Whole:
    """A shard that misses nothing."""

    async def gaps(self, exchange: str, open_only: bool = True) -> list[Gap]:
        return []

    async def integrity(self, exchange: str) -> list[dict[str, Any]]:
        return []


class Kept(Whole):
    """Takes batches and keeps them; holds them back until `open` is set."""

    def __init__(self) -> None:
        self.batches: list[dict[str, pa.RecordBatch]] = []
        self.clocks: list[int] = []
        self.origins: list[Origin] = []
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
        await self.open.wait()
        self.batches.append(batches_of(streams))
        self.clocks.append(clock_ns)
        self.origins.append(origin)
        return 0

    @property
    def breaks(self) -> list[dict[str, Any]]:
        return [row for batches in self.batches if "breaks" in batches for row in batches["breaks"].to_pylist()]

    @property
    def trades(self) -> list[pa.RecordBatch]:
        return [batches["trades"] for batches in self.batches if "trades" in batches]

    @property
    def ids(self) -> list[int]:
        return [trade_id for batch in self.trades for trade_id in numbers(batch, "trade_id")]

    def ids_of(self, symbol: str) -> list[int]:
        """The ids of one symbol's trades, as they came: a shard keeps each once."""
        rows = (
            zip(batch.column("symbol").to_pylist(), numbers(batch, "trade_id"), strict=True) for batch in self.trades
        )
        return [trade_id for batch in rows for name, trade_id in batch if name == symbol]


class Leaving(Kept):
    """Its node is gone while `away`; counts how often it is `asked` for its account."""

    away = False
    asked = 0

    async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
        self._answer()
        return await super().append(exchange, streams, clock_ns, origin)

    async def integrity(self, exchange: str) -> list[dict[str, Any]]:
        self.asked += 1
        self._answer()
        return await super().integrity(exchange)

    def _answer(self) -> None:
        if self.away:
            raise ray.exceptions.ActorUnavailableError("its node is gone", None)


def numbers(batch: pa.RecordBatch, name: str) -> list[int]:
    """A column of integers none of which is null."""
    column: list[Any] = batch.column(name).to_pylist()
    assert None not in column
    return column


class Shard(Protocol):
    async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int: ...

    async def gaps(self, exchange: str, open_only: bool = True) -> list[Gap]: ...


@contextlib.asynccontextmanager
async def collecting(
    settings: Settings, endpoint: Endpoint, *shards: Shard, exchange: str = "binance"
) -> AsyncIterator[Collector]:
    """A collector that runs, and leaves no task behind."""
    before = asyncio.all_tasks()
    collector = Collector(exchange, endpoint, settings, [Handle(shard) for shard in shards or [Kept()]])
    await collector.start()
    try:
        yield collector
    finally:
        await collector.stop()
    left = {task for task in asyncio.all_tasks() - before if "actors/" in str(task.get_coro())}
    assert not left, f"left behind: {left}"


def live(folder: Path, **collector: Any) -> Settings:
    """Settings of an instance that collects from outside, with further ones of its collectors."""
    return load(folder, {"source": "live", "shards": 1, "collector": {"flush_interval_ms": 5, **collector}})


def recorded(folder: Path) -> Settings:
    """As `live`, for a collector of a replay."""
    return load(folder, {"source": f"replay:{folder}", "shards": 1, "collector": {"flush_interval_ms": 5}})


@lru_cache
def recording(folder: Path, exchange: str) -> Recording:
    """What was recorded of an exchange."""
    return recordings([read_capture(folder / f"{exchange}.jsonl")])[0]


@contextlib.asynccontextmanager
async def replaying(played: Recording, speed: float = 0) -> AsyncIterator[tuple[ReplayServer, Endpoint]]:
    """The server of a recording, and where it is."""
    server = ReplayServer(played, ReplayClock(played.span[0], speed))
    addresses = await server.start()
    try:
        yield server, Endpoint(*addresses, played.symbols)
    finally:
        await server.stop()


def limit(monkeypatch: pytest.MonkeyPatch, exchange: str, **changes: Any) -> None:
    """Let an exchange allow or expect something else."""
    feed = FEEDS[exchange]
    monkeypatch.setattr(feed, "limits", replace(feed.limits, **changes))


async def synced(collector: Collector, *symbols: str) -> bool:
    """Whether the books of all these symbols are good."""
    return await books_are(collector, "synced", *symbols)


async def books_are(collector: Collector, state: str, *symbols: str) -> bool:
    """Whether the books of all these symbols are in this state."""
    states = {row["symbol"]: row["book"] for row in await collector.symbols()}
    return all(states.get(symbol) == state for symbol in symbols)


async def epochs(collector: Collector) -> dict[str, int]:
    """How often each book was built."""
    return {row["symbol"]: row["epoch"] for row in await collector.symbols() if row["epoch"] is not None}


async def settled(collector: Collector) -> None:
    """Wait until nothing comes any more: what was sent over loopback is there within a few turns of the loop."""
    seen, looks = -1, 0
    while looks < 10:
        await asyncio.sleep(0.01)
        status = await collector.status()
        quiet = status["frames"] == seen and not status["frames_waiting"] and not status["batches_in_flight"]
        seen, looks = status["frames"], looks + 1 if quiet else 0


class BinanceServer:
    """A market of few levels: every `pace_s` each symbol trades once and its book changes once, while `moving`.

    Trade ids and update ids of a symbol are 1, 2, 3 ... The best bid (100.00) and ask (101.00) have the size of the
    last update's id, so a book shows what it holds.
    """

    def __init__(self, symbols: Iterable[str], pace_s: float = 0.01, certificate: Path | None = None) -> None:
        """With a certificate (and its key, in one file) for localhost its WebSocket is encrypted."""
        #: What the list of instruments says of each symbol.
        self.status = dict.fromkeys(symbols, "TRADING")
        self.traded = dict.fromkeys(self.status, 0)
        self.updated = dict.fromkeys(self.status, 0)
        self.moving = True
        #: No frame is sent, no subscription answered.
        self.silent = False
        #: Subscriptions are answered; trades come in any case.
        self.granting = True
        #: Symbols whose next change gets lost.
        self.losing: set[str] = set()
        #: When each trade was, in ms; those that are not here at noon.
        self.times: dict[tuple[str, int], int] = {}
        #: Symbols whose trades get lost.
        self.skipping: set[str] = set()
        #: Past trades: what was asked (symbol, first id), and what is answered instead.
        self.trades_asked: list[tuple[str, int]] = []
        self.trades_instead: Callable[[], Awaitable[aiohttp.web.Response | None]] | None = None
        #: Symbols that go on being sent after they were ended.
        self.late: set[str] = set()
        #: Status and headers that connections get instead of a WebSocket.
        self.refusing: tuple[int, Mapping[str, str]] | None = None
        #: When connections were asked for, made (by number) and ended (by number), in seconds of the steady clock.
        self.attempts: list[float] = []
        self.opened: dict[int, float] = {}
        self.closed: dict[int, float] = {}
        #: What each connection is subscribed to.
        self.subscribed: dict[int, set[str]] = {}
        #: (connection, method, symbols) of every message, and when it came.
        self.asked: list[tuple[int, str, tuple[str, ...]]] = []
        self.heard: list[float] = []
        #: Symbols whose subscription is refused.
        self.refused: set[str] = set()
        #: When the snapshot of which book was asked for, and when it was answered.
        self.snapshots: list[tuple[float, str]] = []
        self.answered: list[tuple[float, str]] = []
        self.snapshots_open = asyncio.Event()
        self.snapshots_open.set()
        #: Answers that snapshots of a symbol get first.
        self.instead: dict[str, list[aiohttp.web.Response]] = {}
        self.clients: dict[int, ServerConnection] = {}
        self._pace_s = pace_s
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._servers: tuple[Server, aiohttp.web.AppRunner] | None = None
        self._market: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        application = aiohttp.web.Application()
        application.router.add_get("/api/v3/exchangeInfo", self._serve_list)
        application.router.add_get("/api/v3/depth", self._serve_depth)
        application.router.add_get("/api/v3/aggTrades", self._serve_trades)
        rest = aiohttp.web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await rest.setup()
        await aiohttp.web.TCPSite(rest, "127.0.0.1", 0).start()
        websocket = await serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=self._tls,
            compression=None,
            process_request=self._let_in,
            close_timeout=0.2,
        )
        self._servers = websocket, rest
        self._market = asyncio.create_task(self._move())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._servers is not None and self._market is not None
        self._market.cancel()
        websocket, rest = self._servers
        websocket.close()
        await websocket.wait_closed()
        await rest.cleanup()
        with contextlib.suppress(asyncio.CancelledError):
            await self._market

    def endpoint(self, *symbols: str) -> Endpoint:
        """Where it is, and what to collect there; all it has without `symbols`."""
        assert self._servers is not None
        websocket, rest = self._servers
        scheme, host = ("ws", "127.0.0.1") if self._tls is None else ("wss", "localhost")
        address = f"{scheme}://{host}:{websocket.sockets[0].getsockname()[1]}"
        return Endpoint(address, f"http://127.0.0.1:{rest.addresses[0][1]}", symbols or tuple(self.status))

    def list(self, symbol: str, status: str = "TRADING") -> None:
        """Begin to trade a symbol, or list it with another status."""
        self.status[symbol] = status
        self.traded.setdefault(symbol, 0)
        self.updated.setdefault(symbol, 0)

    def methods(self, method: str) -> Sequence[tuple[int, tuple[str, ...]]]:
        """The connection and symbols of each message with this method."""
        return [(number, symbols) for number, said, symbols in self.asked if said == method]

    def cut(self) -> None:
        """End all connections without a good-bye."""
        for client in tuple(self.clients.values()):
            client.transport.abort()

    def say(self, frame: str, to: int | None = None) -> None:
        """Send a frame to all connections, or to one."""
        for number, client in self.clients.items():
            if to in (None, number):
                _write(client, [frame.encode()])

    def move(self, symbol: str) -> None:
        """One trade and one change of a symbol."""
        self.traded[symbol] += 1
        self.updated[symbol] += 1
        number = self.traded[symbol]
        self.times[symbol, number] = time.time_ns() // 1_000_000
        frames = [] if symbol in self.skipping else [trade(number, symbol, self.times[symbol, number]).encode()]
        if symbol in self.losing:
            self.losing.discard(symbol)
        else:
            frames.append(change(self.updated[symbol], symbol).encode())
        for number, client in self.clients.items():
            if not self.silent and (symbol in self.subscribed[number] or symbol in self.late):
                _write(client, frames)

    async def _move(self) -> None:
        while True:
            await asyncio.sleep(self._pace_s)
            if self.moving:
                for symbol in tuple(self.traded):
                    self.move(symbol)

    def _let_in(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts.append(time.monotonic())
        if self.refusing is None:
            return None
        status, headers = self.refusing
        response = connection.respond(HTTPStatus(status), "")
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def _serve(self, client: ServerConnection) -> None:
        number = len(self.opened) + 1
        self.opened[number] = time.monotonic()
        self.subscribed[number] = set()
        self.clients[number] = client
        try:
            with contextlib.suppress(ConnectionClosed):
                async for message in client:
                    self._take(number, client, json.loads(message))
        finally:
            del self.clients[number]
            self.closed[number] = time.monotonic()

    def _take(self, number: int, client: ServerConnection, request: dict[str, Any]) -> None:
        symbols = tuple(dict.fromkeys(name.partition("@")[0].upper() for name in request["params"]))
        self.asked.append((number, request["method"], symbols))
        self.heard.append(time.monotonic())
        if self.silent:
            return
        if self.refused.intersection(symbols):
            refusal = {"error": {"code": 3, "msg": "Too many requests."}, "id": request["id"]}
            _write(client, [_encode(refusal).encode()])
            return
        if request["method"] == "SUBSCRIBE":
            self.subscribed[number].update(symbols)
        else:
            self.subscribed[number].difference_update(symbols)
        if self.granting:
            _write(client, [_encode({"result": None, "id": request["id"]}).encode()])

    async def _serve_list(self, _request: aiohttp.web.Request) -> aiohttp.web.Response:
        symbols = [
            {"symbol": symbol, "status": status, "baseAsset": symbol[:-4], "quoteAsset": symbol[-4:], "filters": []}
            for symbol, status in self.status.items()
        ]
        return aiohttp.web.json_response({"symbols": symbols})

    async def _serve_trades(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        symbol, limit = request.query["symbol"], int(request.query["limit"])
        if "startTime" in request.query:
            begin = int(request.query["startTime"])
            numbers = range(1, self.traded[symbol] + 1)
            later = (number for number in numbers if self.times.get((symbol, number), NOON_MS) >= begin)
            first = next(later, self.traded[symbol] + 1)
        else:
            first = int(request.query.get("fromId", max(1, self.traded[symbol] - limit + 1)))
        self.trades_asked.append((symbol, first))
        if self.trades_instead is not None and (instead := await self.trades_instead()) is not None:
            return instead
        last = min(self.traded[symbol], first + limit - 1)
        numbers = range(first, last + 1)
        times = [self.times.get((symbol, number), NOON_MS) for number in numbers]
        return aiohttp.web.json_response(list(map(trade_data, numbers, times)))

    async def _serve_depth(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        symbol = request.query["symbol"]
        self.snapshots.append((time.monotonic(), symbol))
        await self.snapshots_open.wait()
        if self.instead.get(symbol):
            return self.instead[symbol].pop(0)
        self.answered.append((time.monotonic(), symbol))
        size = str(self.updated[symbol])
        levels = {"bids": [["100.00", size]], "asks": [["101.00", size]]}
        return aiohttp.web.json_response({"lastUpdateId": self.updated[symbol], **levels})


def _write(client: ServerConnection, frames: Sequence[bytes]) -> None:
    if client.state is State.OPEN and not client.transport.is_closing():
        client.transport.write(wire.block(frames))


def trade(trade_id: int, symbol: str = "BTCUSDT", t_ms: int = NOON_MS) -> str:
    data = {"e": "aggTrade", "E": t_ms, "s": symbol} | trade_data(trade_id, t_ms)
    return _encode({"stream": f"{symbol.lower()}@aggTrade", "data": data})


def trade_data(trade_id: int, t_ms: int) -> dict[str, Any]:
    """A trade as REST has it."""
    more = {"f": trade_id, "l": trade_id, "T": t_ms, "m": False, "M": True}
    return {"a": trade_id, "p": "100.5", "q": "0.1"} | more


def change(update_id: int, symbol: str = "BTCUSDT") -> str:
    data = {"e": "depthUpdate", "E": 1709294400000, "s": symbol, "U": update_id, "u": update_id}
    levels = {"b": [["100.00", str(update_id)]], "a": [["101.00", str(update_id)]]}
    return _encode({"stream": f"{symbol.lower()}@depth@100ms", "data": data | levels})


def _encode(frame: dict[str, Any]) -> str:
    return json.dumps(frame, separators=(",", ":"))
