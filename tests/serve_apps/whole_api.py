"""The whole market API over HTTP, with real storage underneath: column files and bars of a real shard, a real embedded
ClickHouse, a real alerter, and a server on loopback. Only Ray between them is left out.
"""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import uvicorn

from actors.accounts import Accounts
from actors.alerter import Alerter
from actors.chronicle import Chronicle
from actors.configuration import Configuration
from actors.database import Database
from actors.integrity import combined
from actors.reports import Reports
from config import load
from serve_apps.cache import Cache
from serve_apps.market import MarketApp
from serve_apps.market_resources import Actors, resources
from serve_apps.openapi import with_documents
from serve_apps.openapi_routes import ROUTES
from serve_apps.overview import OverviewRoutes
from storage.clickhouse import DatabaseUnavailable
from storage.clickhouse_tables import TABLES
from storage.schema import ARBITRAGE, CONSOLIDATED, DEPTH, INSTRUMENTS
from tests.actors.batches import NOON, trades
from tests.actors.shards import Shard
from tests.actors.test_alerter import NO_REDIS
from tests.polling import until
from tests.serve_apps.asgi_client import Answer
from tests.serve_apps.test_alerts import Supervised as Alerts
from tests.serve_apps.test_overview import Told as KnownOverview
from tests.serve_apps.test_overview import said as known_summary

TOKEN = "of-the-data-folder"
MINUTE = 60_000_000_000
#: Bars of one minute of BTCUSDT on binance, of which the shard has the newest.
MINUTES, HELD = 450, 250
FIRST = NOON
_LISTED = {"binance": {"BTCUSDT": "BTC-USDT", "ETHUSDT": "ETH-USDT"}, "kraken": {"BTC/USDT": "BTC-USDT"}}


class _Handle:
    """A method as a handle of an actor has it."""

    def __init__(self, method: Any) -> None:
        self.remote = method


class _DatabaseHandle:
    def __init__(self, database: Database) -> None:
        self.insert = _Handle(database.insert)


class WholeApi:
    """Runs in a thread of its own until `close`. `away` says what the database raises."""

    def __init__(self, folder: Path) -> None:
        self.settings = load(folder, {"shards": 1, "shard": {"commit_interval_ms": 5, "recent_bars": HELD}}).model_copy(
            update={"clickhouse_url": None, "retention": {}}
        )
        self.away = False
        #: By kind, the times of bars that were handed on.
        self._told_bars: dict[str, set[int]] = {"bars": set(), "indicators": set()}
        self.collected = {("binance", "BTCUSDT"), ("kraken", "BTC/USDT")}
        self.added: list[tuple[str, list[str]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = self.run(self._start())

    def run(self, doing: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(600)

    def close(self) -> None:
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def ask(
        self, target: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, target, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def json(self, target: str) -> Any:
        answer = self.ask(target)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    async def _start(self) -> int:
        self.database = Database(self.settings)
        self.shard = Shard(self.settings, self._sink)
        self.alerter = Alerter(self.settings, NO_REDIS, recorded=False)
        self.configured = Configuration(self.settings)
        self.accounts = Accounts(self.settings)
        self.reports = Reports(self.settings)
        await self.reports.publish({"title_vi": "Báo cáo", "html_vi": "<p>giá</p>"}, "ada")
        self.chronicle = Chronicle(_DatabaseHandle(self.database), self._next_ns)
        self._now_ns = NOON
        for table in ("bars", "indicators", "audit_log"):
            await self.database.query(f"TRUNCATE TABLE {table}")
        await self.shard.start()
        await self._trade()
        for number in range(5):
            self.chronicle.note(
                "symbols_added", "symbols", "collected", exchange="binance", symbols=[f"S{number}"], number=number
            )
        await self.chronicle.flush(10)
        assert await self.database.flush(300)
        actors = Actors(
            self,
            Alerts(self.alerter),
            self._shards,
            self._query,
            self._book,
            self._best,
            self._episodes,
            self._instruments,
            self._ask_accounts,
            Cache(self.settings.cache, None),
            self._ask_reports,
        )
        market = MarketApp(resources(self.settings, TOKEN, actors))
        app = with_documents(OverviewRoutes(market, KnownOverview(known_summary(time.time()))), ROUTES)
        listener = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, http="httptools", loop="none", log_level="warning"))
        self._serving = asyncio.create_task(self._server.serve([listener]))
        await until(lambda: self._server.started)
        return int(listener.getsockname()[1])

    async def _ask_accounts(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.accounts, method)(*arguments)

    async def _ask_reports(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.reports, method)(*arguments)

    async def _stop(self) -> None:
        self._server.should_exit = True
        await self._serving
        await self.shard.stop()
        await self.alerter.stop()
        await self.accounts.stop()
        await self.reports.stop()
        await self.database.stop()
        self.configured.close()

    async def _trade(self) -> None:
        """Two trades a minute, and time for the shard to hand on what it will not remember."""
        step = 50
        for begin in range(0, MINUTES, step):
            rows = [
                (
                    "BTCUSDT",
                    FIRST + minute * MINUTE + at * MINUTE // 2,
                    2 * minute + at + 1,
                    100.0 + minute % 7,
                    0.5,
                    at,
                )
                for minute in range(begin, begin + step)
                for at in (0, 1)
            ]
            now = FIRST + (begin + step) * MINUTE
            await self.shard.send("binance", {"trades": trades(rows)}, now + MINUTE // 4)
            await until(lambda: min(map(len, self._told_bars.values())) >= begin + step - 1, 300)  # noqa: B023
        rows = [("BTC/USDT", FIRST + n * MINUTE, n, 99.0, 1.0, 0) for n in range(3)]
        await self.shard.send("kraken", {"trades": trades(rows)}, FIRST + MINUTES * MINUTE)

    async def _sink(self, tables: Mapping[Any, pa.Table]) -> None:
        for (kind, exchange), table in tables.items():
            if kind in self._told_bars:
                own = table.filter(pc.and_(pc.equal(table["timeframe"], "1m"), pc.equal(table["symbol"], "BTCUSDT")))
                self._told_bars[kind].update(own["time"].to_pylist())
            if kind in TABLES:
                await self.database.insert(kind, exchange, table)

    def _next_ns(self) -> int:
        self._now_ns += 1
        return self._now_ns

    def _shards(self, method: str) -> Any:
        return getattr(self.shard, method)

    async def _query(self, sql: str, parameters: Any) -> pa.Table:
        if self.away:
            raise DatabaseUnavailable("refused")
        return await self.database.query(sql, parameters)

    async def _book(self, exchange: str, symbol: str, levels: int | None) -> pa.RecordBatch:
        if (exchange, symbol) not in self.collected:
            raise KeyError(symbol)
        row = {"symbol": symbol, "ts_event": 1, "ts_recv": 2, "state": "synced", "epoch": 0, "sequence": 7}
        row |= {"bids": [{"price": 10.0, "size": 1.0}], "asks": []}
        return pa.RecordBatch.from_pylist([row], schema=DEPTH)

    async def _best(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=CONSOLIDATED)

    async def _episodes(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=ARBITRAGE)

    async def _instruments(self) -> dict[str, pa.Table | None]:
        known: dict[str, pa.Table | None] = {"okx": None}
        for exchange, symbols in _LISTED.items():
            rows = [
                {"symbol": symbol, "instrument": name, "kind": "spot", "base": name[:3], "quote": name[4:]}
                | {"inverse": False, "active": True, "price_increment": 0.01}
                for symbol, name in symbols.items()
            ]
            known[exchange] = pa.Table.from_pylist(rows, schema=INSTRUMENTS)
        return known

    async def symbols(self) -> list[dict[str, Any]]:
        rest = {"state": "subscribed", "reason": "", "book": "synced", "book_since": 1, "book_why": "", "gaps": 0}
        return [{"exchange": exchange, "symbol": symbol, **rest} for exchange, symbol in sorted(self.collected)]

    async def add(self, exchange: str, symbols: list[str]) -> dict[str, str]:
        self._check(exchange)
        self.added.append((exchange, symbols))
        return dict.fromkeys(symbols, "")

    async def remove(self, exchange: str, symbols: list[str]) -> list[str]:
        self._check(exchange)
        return []

    async def status(self) -> dict[str, dict[str, Any]]:
        answers = {"answers": True, "age_s": 0.1}
        return {
            "shard:0": {**await self.shard.status(), **answers},
            "database": {**await self.database.status(), **answers},
            "collector:binance": {
                "exchange": "binance",
                "state": "streaming",
                "lag_ms": 1.0,
                "last_error": "",
                **answers,
            },
        }

    async def configuration(self) -> dict[str, Any]:
        return self.configured.now()

    async def configuration_versions(self) -> list[dict[str, Any]]:
        return self.configured.versions()

    async def configure(self, values: dict[str, Any], note: str, user: str, expected: int | None) -> dict[str, Any]:
        return await self._told(self.configured.change(values, note, user, expected))

    async def roll_back(self, version: int, note: str, user: str) -> dict[str, Any]:
        return await self._told(self.configured.rollback(version, note, user))

    async def _told(self, changed: dict[str, Any]) -> dict[str, Any]:
        await self.shard.configure(self.configured.settings)
        return {"version": self.configured.now()["version"], "changed": changed}

    async def integrity(self) -> list[dict[str, Any]]:
        row = {"state": "subscribed", "received": 1, "book": None, "lost": None}
        kept = {(one["exchange"], one["symbol"]): one for one in await self.shard.integrity(None)}
        return [combined(*name, row, kept.get(name)) for name in sorted(self.collected)]

    async def gaps(self, exchange: str | None, symbol: str | None, open_only: bool) -> list[dict[str, Any]]:
        return []

    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
        return await self.shard.quality(exchange, symbol, hours)

    def _check(self, exchange: str) -> None:
        if exchange not in _LISTED:
            raise LookupError(f"no exchange called {exchange!r} runs here")
