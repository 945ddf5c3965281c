"""The pages and everything they ask for behind one origin on loopback: the real applications over a real shard, its
column files and a real live hub, in this process. Only Ray and the providers of market figures are missing, and the
database is empty: `summary` is what dashboard-summary answers.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import uvicorn

import serve_apps
from actors.alerting.definitions import Rules, changed_alert, new_alert, placed, shown
from actors.live_hub import LiveHub, Wanted
from actors.live_log import Entry
from actors.live_offers import RECEIVED_TRADES
from actors.parcels import packed
from config import load
from serve_apps.cache import Cache
from serve_apps.cache_routes import CacheRoutes
from serve_apps.data import DataApp
from serve_apps.data import build as build_data
from serve_apps.live import LiveApp
from serve_apps.live_feed import Rows
from serve_apps.live_source import each
from serve_apps.live_topics import Channel, Topic
from serve_apps.live_updates import rows_of
from serve_apps.market import MarketApp
from serve_apps.market_resources import Actors, resources
from serve_apps.pages import PagesApp
from storage.alert_log import Alert
from storage.column_reader import ColumnReader
from storage.schema import ARBITRAGE, BARS, CONSOLIDATED, DEPTH, INDICATORS, INSTRUMENTS
from tests.actors.batches import trades
from tests.actors.shards import Shard
from tests.polling import until
from tests.servers import free_port

DIST = Path(serve_apps.__file__).parent / "web" / "dist"
TOKEN = "of-the-data-folder"
MINUTE = 60_000_000_000
#: What exchanges list, by symbol.
INSTRUMENT = {
    "BTCUSDT": "BTC-USDT",
    "ETHUSDT": "ETH-USDT",
    "SHIBUSDT": "SHIB-USDT",
    "BTC/USD": "BTC-USD",
    "SOL/USD": "SOL-USD",
}
#: What alerts may be, and where their events begin.
_RULES, _BEFORE = Rules(most=100, log_rows=10, mail=False, private_targets=False, recorded=False), (0, 0)
_SHOWN = ("state", "lag_ms", "last_error", "failure")


class Site:
    """See the module. Tests change `collected`, `integrity_rows`, `gaps_rows`, `summary` and `books`, trade, and stop
    and start the server."""

    def __init__(self, folder: Path) -> None:
        self.settings = load(folder, {"shards": 1, "shard": {"commit_interval_ms": 5}}).model_copy(
            update={"clickhouse_url": None, "retention": {}}
        )
        self.port = free_port()
        self.collected: list[tuple[str, str]] = []
        self.integrity_rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.gaps_rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] | None = None
        self.defined: dict[str, Alert] = {}
        self.feeds: dict[str, dict[str, Any]] = {}
        #: What the pages look at.
        self.followed: frozenset[Wanted] = frozenset()
        self._books: dict[tuple[str, str], dict[str, Any]] = {}
        self._trade_id = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        self.shard = Shard(self.settings, self._sink)
        await self.shard.start()
        self.reader = ColumnReader(self.settings.columns)
        self.hub = LiveHub(self.settings.live_feed, ["binance", "kraken"], self)
        self._cache = Cache(self.settings.cache, None)
        self._pages = CacheRoutes(PagesApp(DIST, self.readiness), self._cache, lambda: TOKEN)
        self._data: DataApp = build_data(self.settings, self._instruments)
        actors = Actors(
            supervisor=self,
            alerts=self,  # type: ignore[arg-type]
            shards=lambda method: getattr(self.shard, method),
            query=self._query,
            book=self._book,
            best=self._best,
            episodes=self._episodes,
            instruments=self._instruments,
            accounts=self._nobody,
            reports=self._nobody,
            cache=self._cache,
        )
        self._market = MarketApp(resources(self.settings, TOKEN, actors))
        await self.start()

    async def close(self) -> None:
        await self.stop()
        await self.hub.stop()
        await self.shard.stop()
        await self._cache.close()

    async def start(self) -> None:
        """Serve, at the same port as before."""
        self._live = LiveApp(self.settings.live_feed, self, self.reader.symbols)
        config = uvicorn.Config(
            self,
            port=self.port,
            log_level="error",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._running = asyncio.create_task(self._server.serve())
        await until(lambda: self._server.started or self._running.done())  # type: ignore[union-attr]
        assert self._server.started

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._running is not None:
            await self._running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path == "/api/v1/stream":
            await self._live(scope, receive, send)
        elif path == "/api/crypto/dashboard-summary":
            said = json.dumps(self.summary).encode()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": said})
        elif path.startswith("/api/v1/"):
            await self._market(scope, receive, send)
        elif path.startswith("/api/"):
            await self._data(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    # ---- what happens

    async def trade(self, symbol: str, *prices: float, exchange: str = "binance", at_ns: int | None = None) -> None:
        """Trades of 0.5 each, now (or a microsecond apart from `at_ns`): told, and stored."""
        now = time.time_ns()
        begin = now if at_ns is None else at_ns
        rows = []
        for place, price in enumerate(prices):
            self._trade_id += 1
            rows.append((symbol, begin + place * 1000, self._trade_id, price, 0.5, self._trade_id % 2))
        await self._take(exchange, symbol, rows, max(now, begin))

    async def history(
        self, symbol: str, closes: Sequence[float], exchange: str = "binance", until_ns: int | None = None
    ) -> None:
        """Two trades in each of the minutes before the present one, the second at its close."""
        first = (until_ns or time.time_ns()) // MINUTE * MINUTE - len(closes) * MINUTE
        rows = []
        for minute, close in enumerate(closes):
            before = closes[minute - 1] if minute else close
            for at, price in ((1, before), (2, close)):
                self._trade_id += 1
                rows.append((symbol, first + minute * MINUTE + at * MINUTE // 4, self._trade_id, price, 0.5, at % 2))
        await self._take(exchange, symbol, rows, time.time_ns())

    def book(self, symbol: str, bids: Any, asks: Any, state: str = "synced", exchange: str = "binance") -> None:
        """From now on, until another."""
        row = {"symbol": symbol, "ts_event": 1, "ts_recv": 2, "state": state, "epoch": 0, "sequence": 7}
        sides = {"bids": bids, "asks": asks}
        levels = {name: [{"price": price, "size": size} for price, size in side] for name, side in sides.items()}
        self._books[exchange, symbol] = row | levels

    def trust(self, symbol: str, state: str, why: str = "", exchange: str = "binance", **more: Any) -> None:
        """What the supervisor says of a symbol from now on."""
        known = {"since": time.time_ns(), "proof": "ids", "missing": 0, "gaps_open": 0, "gaps_closed": 0}
        row = {"exchange": exchange, "symbol": symbol, "state": state, "why": why}
        self.integrity_rows[exchange, symbol] = row | known | more

    async def _take(self, exchange: str, symbol: str, rows: list[Any], clock_ns: int) -> None:
        if (exchange, symbol) not in self.collected:
            self.collected.append((exchange, symbol))
            self.trust(symbol, "synced", exchange=exchange)
            self.feeds[exchange] = {"state": "streaming", "lag_ms": 12.0, "last_error": "", "failure": ""}
        batch = trades(rows)
        await self.hub.take(packed({(RECEIVED_TRADES, exchange): batch}))
        await self.shard.send(exchange, {"trades": batch}, clock_ns)

    async def _sink(self, tables: Mapping[Any, pa.Table]) -> None:
        parcel = {
            key: table.combine_chunks().to_batches()[0]
            for key, table in tables.items()
            if key[0] in ("bars", "indicators") and table.num_rows
        }
        await self.hub.take(packed(parcel))

    # ---- what the hub asks for, and the live feed

    async def books(self, exchange: str, symbols: Sequence[str] | None) -> list[pa.RecordBatch]:
        wanted = [
            row for (at, symbol), row in self._books.items() if at == exchange and symbol in (symbols or [symbol])
        ]
        return [pa.RecordBatch.from_pylist(wanted, schema=DEPTH)] if wanted else []

    async def newest_bars(self, series: Iterable[tuple[str, str, str]]) -> dict[Any, pa.RecordBatch]:
        return await self.shard.newest_bars(list(series))

    async def best(self) -> list[dict[str, Any]]:
        return []

    async def integrity(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.integrity_rows.values()]

    async def follow(self, follower: str, wanted: frozenset[Wanted]) -> int:
        seq = await self.hub.follow(follower, wanted)
        self.followed = wanted
        return seq

    async def entries(self, follower: str, since: int) -> tuple[int, bool, list[Entry]] | None:
        return await self.hub.entries(follower, since)

    async def past(self, wanted: Wanted, sinces: Sequence[int], before_s: float) -> tuple[int, int, list[Entry]] | None:
        return await self.hub.past(wanted, sinces, before_s)

    async def snapshot(self, topic: Topic) -> Rows:
        channel = Channel(topic.topic, topic.exchange, topic.symbol, topic.timeframe)
        one = (topic.exchange, topic.symbol) in self.collected
        match topic.topic:
            case "trades" if one:
                (table,) = await self.shard.last_trades(topic.exchange, topic.symbol, 100)
                return [(channel, rows_of("trades", table))]
            case "bars" if one:
                return [(channel, rows_of("bars", await self.shard.bars(*channel[1:], 100)))]
            case "book":
                return [
                    (Channel("book", topic.exchange, row["symbol"], ""), rows_of("book", batch))
                    for batch in await self.books(topic.exchange, [topic.symbol])
                    for row in batch.to_pylist()
                ]
            case "integrity":
                return each(topic, await self.integrity())
            case "alerts":
                return each(topic, await self.hub.fired())
        return []

    # ---- the supervisor, and what else is asked

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        return True, {"status": "ready", "feeds": self.feeds, "not_answering": []}

    async def symbols(self) -> list[dict[str, Any]]:
        rest = {"state": "subscribed", "reason": "", "book": "synced", "book_since": 1, "book_why": "", "gaps": 0}
        return [{"exchange": exchange, "symbol": symbol, **rest} for exchange, symbol in sorted(self.collected)]

    async def status(self) -> dict[str, dict[str, Any]]:
        answers = {"answers": True, "age_s": 0.1}
        collectors = {
            f"collector:{exchange}": {"exchange": exchange, "data_s": 0.2, **feed, **answers}
            for exchange, feed in self.feeds.items()
        }
        metrics = {"replicas": {"data": 2, "pages": 1}, **answers}
        return {"shard:0": {**await self.shard.status(), **answers}, "metrics": metrics, **collectors}

    async def gaps(self, exchange: str | None, symbol: str | None, open_only: bool) -> list[dict[str, Any]]:
        return [
            row for row in self.gaps_rows if exchange in (None, row["exchange"]) and symbol in (None, row["symbol"])
        ]

    async def alerts(self) -> list[dict[str, Any]]:
        return [shown(alert) for alert in self.defined.values()]

    async def add_alert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        alert_id = f"alert-{len(self.defined)}"
        collected = {exchange: [symbol for at, symbol in self.collected if at == exchange] for exchange in self.feeds}
        self.defined[alert_id] = new_alert(placed(given, collected), alert_id, time.time_ns(), _BEFORE, _RULES)
        return shown(self.defined[alert_id])

    async def change_alert(self, alert_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        self.defined[alert_id] = changed_alert(self.defined[alert_id], given, _BEFORE, _RULES)
        return shown(self.defined[alert_id])

    async def remove_alert(self, alert_id: str) -> None:
        del self.defined[alert_id]

    def __getattr__(self, name: str) -> Any:
        """Of the supervisor and the alerter the pages ask for no more than there is here."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self._nobody

    async def _nobody(self, *asked: Any) -> Any:
        raise NotImplementedError(asked)

    async def _query(self, sql: str, parameters: Any) -> pa.Table:
        """It has nothing besides what a shard remembers."""
        if " FROM bars " in sql:
            return BARS.empty_table()
        return INDICATORS.empty_table().select(sql.removeprefix("SELECT ").partition(" FROM ")[0].split(", "))

    async def _book(self, exchange: str, symbol: str, levels: int | None) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([self._books[exchange, symbol]], schema=DEPTH)

    async def _best(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=CONSOLIDATED)

    async def _episodes(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=ARBITRAGE)

    async def _instruments(self) -> dict[str, pa.Table | None]:
        known: dict[str, pa.Table | None] = {}
        for exchange in {exchange for exchange, _ in self.collected}:
            rows = [
                {"symbol": symbol, "instrument": INSTRUMENT.get(symbol, symbol), "kind": "spot"}
                | dict(zip(("base", "quote"), INSTRUMENT.get(symbol, f"{symbol}-USD").split("-"), strict=True))
                | {"inverse": False, "active": True, "price_increment": 0.01}
                for at, symbol in self.collected
                if at == exchange
            ]
            known[exchange] = pa.Table.from_pylist(rows, schema=INSTRUMENTS)
        return known


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Site]:
    assert (DIST / "index.html").exists(), "the pages are not built: run `make web`"
    site = Site(folder)
    await site.open()
    try:
        yield site
    finally:
        await site.close()
