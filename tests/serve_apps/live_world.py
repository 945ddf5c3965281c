"""A live feed without Ray: the hub in this process, and actors that know what the test says."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
import uvicorn
import websockets

from actors.live_hub import LiveHub, Wanted
from actors.live_log import Entry
from actors.live_offers import RECEIVED_QUOTES, RECEIVED_TRADES
from actors.parcels import packed
from config.live_settings import LiveFeedSettings
from serve_apps.live import LiveApp
from serve_apps.live_feed import Away, Rows
from serve_apps.live_session import Authenticate, anybody
from serve_apps.live_topics import Topic
from storage.schema import BARS, INDICATORS
from tests.actors.batches import NOON, SECOND, quotes, trades
from tests.polling import until

SETTINGS = LiveFeedSettings(
    history_s=60,
    history_bytes=2**22,
    max_connections=50,
    max_subscriptions=20,
    max_message_bytes=4096,
    max_burst=50,
    max_messages_per_s=20,
    queue_messages=200,
    queue_bytes=2**20,
    stalled_s=1,
    heartbeat_s=0.5,
)


class Known:
    """What the hub asks actors for."""

    def __init__(self) -> None:
        self.integrity_rows: list[dict[str, Any]] = []

    async def books(self, exchange: str, symbols: Sequence[str] | None) -> list[pa.RecordBatch]:
        return []

    async def newest_bars(self, series: Iterable[tuple[str, str, str]]) -> dict[Any, pa.RecordBatch]:
        return {}

    async def best(self) -> list[dict[str, Any]]:
        return []

    async def integrity(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.integrity_rows]


class World:
    """A hub, and what is known before its updates. `away`: the hub does not answer."""

    def __init__(self, settings: LiveFeedSettings = SETTINGS) -> None:
        self.settings = settings
        self.known = Known()
        self.snapshots: dict[str, Rows] = {}
        self.asked: list[Topic] = []
        self.resumed: list[list[int]] = []
        self.away = False
        self._trade_id = 0
        self.new_hub()

    def new_hub(self) -> None:
        self.hub = LiveHub(self.settings, ["binance", "kraken"], self.known)

    async def follow(self, follower: str, wanted: frozenset[Wanted]) -> int:
        return await self._there.follow(follower, wanted)

    async def entries(self, follower: str, since: int) -> tuple[int, bool, list[Entry]] | None:
        return await self._there.entries(follower, since)

    async def past(self, wanted: Wanted, sinces: Sequence[int], before_s: float) -> tuple[int, int, list[Entry]] | None:
        self.resumed.append(list(sinces))
        return await self._there.past(wanted, sinces, before_s)

    async def snapshot(self, topic: Topic) -> Rows:
        self.asked.append(topic)
        return self.snapshots.get(topic.topic, [])

    @property
    def _there(self) -> LiveHub:
        if self.away:
            raise Away("the hub")
        return self.hub

    async def trade(self, *symbols: str, exchange: str = "binance", count: int = 1) -> None:
        """So many trades of each symbol, with ids that count on."""
        rows = []
        for symbol in symbols:
            for _ in range(count):
                self._trade_id += 1
                rows.append((symbol, NOON + self._trade_id, self._trade_id, 100.0, 1.0, 1))
        await self.hub.take(packed({(RECEIVED_TRADES, exchange): trades(rows)}))

    async def quote(self, symbol: str, bid: float) -> None:
        self._trade_id += 1
        batch = quotes([(symbol, NOON, self._trade_id, bid, bid + 1)])
        await self.hub.take(packed({(RECEIVED_QUOTES, "binance"): batch}))

    async def bar(self, symbol: str, minute: int, close: float, closed: bool, rsi: float | None = None) -> None:
        bar: dict[str, Any] = dict.fromkeys(
            ("open", "high", "low", "volume", "quote_volume", "buy_volume", "vwap"), 1.0
        )
        name = {"symbol": symbol, "timeframe": "1m", "time": NOON + minute * 60 * SECOND}
        bar |= {**name, "close": close, "trade_count": 3, "revision": 0, "closed": closed}
        parcel = {("bars", "binance"): pa.RecordBatch.from_pylist([bar], BARS)}
        if rsi is not None:
            parcel["indicators", "binance"] = pa.RecordBatch.from_pylist([{**name, "rsi_14": rsi}], INDICATORS)
        await self.hub.take(packed(parcel))

    @asynccontextmanager
    async def serving(self, authenticate: Authenticate = anybody, only_tls: bool = False) -> Any:
        """The feed on a real server; its port and the application."""
        app = LiveApp(self.settings, self, lambda: {"binance": ["BTCUSDT", "ETHUSDT"]}, authenticate, only_tls)
        config = uvicorn.Config(
            app,
            port=0,
            log_level="warning",
            ws="websockets-sansio",
            ws_max_size=self.settings.max_message_bytes,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started or serving.done())
        try:
            yield server.servers[0].sockets[0].getsockname()[1], app
        finally:
            server.should_exit = True
            await serving
            await self.hub.stop()


class Socket:
    """A client that reads when it is asked to."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def send(self, **said: Any) -> None:
        await self.connection.send(json.dumps(said))

    async def read(self, kind: str, within_s: float = 20.0) -> Any:
        """The next message of a type; heartbeats and others before it are left out."""
        async with asyncio.timeout(within_s):
            while True:
                said = json.loads(await self.connection.recv())
                if said["type"] == kind:
                    return said

    async def subscribe(self, *topics: str, **more: Any) -> None:
        """Returns when their updates come."""
        await self.send(type="subscribe", topics=topics, **more)
        await self.read("subscribed")
        for _ in topics:
            await self.read("snapshot" if "since" not in more else "resumed")

    async def close_code(self, within_s: float = 20.0) -> int:
        async with asyncio.timeout(within_s):
            try:
                while True:
                    await self.connection.recv()
            except websockets.ConnectionClosed as closed:
                assert closed.rcvd is not None, closed
                return closed.rcvd.code


@asynccontextmanager
async def connected(port: int, path: str = "/ws", **options: Any) -> Any:
    async with websockets.connect(f"ws://127.0.0.1:{port}{path}", **options) as connection:
        yield Socket(connection)
