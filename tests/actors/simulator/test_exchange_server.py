import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors.aggregation.book_sync import BookSync, RequestSnapshot
from actors.feeds.registry import FEEDS
from actors.simulator import exchange_client
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from actors.simulator.request_weight import RequestWeight, Verdict
from storage.column_layout import join_time
from storage.column_reader import ColumnReader
from tests.polling import until

SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "bitfinex": ("tBTCUSD", "tBTCF0:USTF0"),
    "bybit": ("linear:BTCUSDT", "linear:ETHUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "deribit": ("BTC-PERPETUAL", "ETH-PERPETUAL"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "okx": ("BTC-USDT", "BTC-USDT-SWAP"),
}
SECOND = 1_000_000_000
TRADES = "/stream?streams=btcusdt@aggTrade"
#: Id, ns, price, size, side.
Row = tuple[int, int, float, float, int]


class Serve:
    """Starts exchanges; `websocket` and `rest` are those of the last."""

    def __init__(self) -> None:
        self.servers: list[ExchangeServer] = []
        self.websocket = self.rest = ""

    async def __call__(self, name: str = "binance", rate: float = 500, truth: Path | None = None) -> ExchangeServer:
        dialect = DIALECTS[name]
        listings = {symbol: dialect.listing(symbol) for symbol in SYMBOLS[name]}
        self.servers.append(ExchangeServer(dialect(listings), 7, rate, truth))
        self.websocket, self.rest = await self.servers[-1].start()
        return self.servers[-1]

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as http, http.get(self.rest + path) as answer:
            return answer.status, json.loads(await answer.read() or b"null")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    before = asyncio.all_tasks() - {asyncio.current_task()}
    serve = Serve()
    yield serve
    for server in serve.servers:
        await asyncio.wait_for(server.stop(), 5)
    assert asyncio.all_tasks() - {asyncio.current_task()} == before, "a task was left behind"


class Follower:
    """A client with our own feed and books."""

    def __init__(self, name: str, serve: Serve) -> None:
        self.symbols = SYMBOLS[name]
        self.feed = FEEDS[name](self.symbols, serve.websocket)
        self.books = BookSync(self.feed.book_rules, by_request=self.feed.snapshot_request(self.symbols[0]) is not None)
        self.books.add(self.symbols, time.monotonic())
        self.rest = serve.rest
        self.rows: dict[str, list[Row]] = {symbol: [] for symbol in self.symbols}
        self.subscribed: set[str] = set()

    async def follow(self) -> None:
        async with connect(self.feed.url, max_queue=None, max_size=None) as client, aiohttp.ClientSession() as http:
            for message in [*self.feed.greet(), *self.feed.subscribe(self.symbols)]:
                await client.send(message.decode())
            while True:
                self._read([str(await client.recv()).encode()])
                for effect in self.books.take_effects():
                    if isinstance(effect, RequestSnapshot):
                        await self._snapshot(http, effect)

    def _read(self, frames: list[bytes]) -> None:
        decoded = self.feed.decode(frames, np.full(len(frames), time.time_ns()))
        assert not decoded.rejected
        assert not decoded.refused
        self.subscribed |= decoded.subscribed
        self.books.subscribed(decoded.subscribed, time.monotonic())
        self.books.apply(decoded.books, time.monotonic())
        for row in decoded.trades.to_pylist():
            columns = ("trade_id", "ts_event", "price", "size", "side")
            self.rows[row["symbol"]].append(tuple(row[name] for name in columns))

    async def _snapshot(self, http: aiohttp.ClientSession, wanted: RequestSnapshot) -> None:
        request = self.feed.snapshot_request(wanted.symbol)
        assert request is not None
        async with http.get(self.rest + request.path) as answer:
            batch = self.feed.read_snapshot(wanted.symbol, await answer.read(), time.time_ns())
        self.books.snapshot(batch, time.monotonic(), wanted.question)

    def has(self, symbol: str, last: Row) -> bool:
        return self.rows[symbol][-1:] == [last]

    def has_book(self, symbol: str, book: tuple[Any, ...]) -> bool:
        row = self.books.depth([symbol]).to_pylist()[0]
        return book == tuple([(level["price"], level["size"]) for level in row[side]] for side in ("bids", "asks"))


def told(server: ExchangeServer, symbol: str, levels: int) -> tuple[Any, ...]:
    listed = server.dialect.listings[symbol]
    price, size = 10**listed.price_decimals, 10**listed.size_decimals
    return tuple([(ticks / price, units / size) for ticks, units in side] for side in server.book(symbol, levels))


def truth_of(root: Path, name: str, symbol: str) -> list[Row]:
    columns = ("time", "nanos", "id", "price64", "size64", "side")
    stored = ColumnReader(root).select(name, symbol, "TRADES", 0, 2**62, columns)
    times, nanos, ids, *others = (stored.column(column) for column in columns)
    arrays = (ids, join_time(times, nanos), *others)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


@pytest.mark.parametrize("name", SYMBOLS)
async def test_what_a_client_received_is_the_truth_and_its_books_are_the_exchange_s(
    name: str, serve: Serve, tmp_path: Path
) -> None:
    server = await serve(name, 1000, tmp_path)
    early, late = Follower(name, serve), Follower(name, serve)
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(early.follow())]
        await until(lambda: min(map(len, early.rows.values())) > 30)
        # The books it gets first stand in the middle of things.
        following.append(tasks.create_task(late.follow()))
        await until(lambda: min(map(len, late.rows.values())) > 30)
        await server.halt()
        for client in (early, late):
            assert client.subscribed == set(client.symbols)
            for symbol in client.symbols:
                truth = truth_of(tmp_path, name, symbol)
                await until(partial(client.has, symbol, truth[-1]))
                assert client.rows[symbol] == truth[-len(client.rows[symbol]) :]
                book = told(server, symbol, server.dialect.depth)
                await until(partial(client.has_book, symbol, book))
                assert client.books.states()[symbol].gaps == 0
        for task in following:
            task.cancel()


async def test_a_halted_market_does_nothing_and_answers_and_goes_on_with_the_next_id(
    serve: Serve, tmp_path: Path
) -> None:
    server = await serve("binance", 500, tmp_path)
    async with connect(serve.websocket + TRADES, max_queue=None) as client:
        await client.recv()
        await server.halt()
        await server.halt()
        last = truth_of(tmp_path, "binance", "BTCUSDT")[-1][0]
        async with asyncio.timeout(5):
            while json.loads(await client.recv())["data"]["a"] != last:
                pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.1)
        assert (await serve.get("/api/v3/time"))[0] == 200
        status, newest = await serve.get("/api/v3/aggTrades?symbol=BTCUSDT&limit=1")
        assert (status, newest[0]["a"]) == (200, last)
        resumed_ms = time.time_ns() // 1_000_000
        await server.halt(False)
        first = json.loads(await client.recv())["data"]
        assert first["a"] == last + 1
        assert first["T"] >= resumed_ms


async def test_an_exchange_started_again_goes_on_and_knows_its_past(serve: Serve, tmp_path: Path) -> None:
    server = await serve("binance", 500, tmp_path)
    async with connect(serve.websocket + TRADES, max_queue=None) as client:
        first = json.loads(await client.recv())["data"]
    await server.stop()
    before = truth_of(tmp_path, "binance", "BTCUSDT")
    again = await serve("binance", 500, tmp_path)
    async with connect(serve.websocket + TRADES, max_queue=None) as client:
        event = json.loads(await client.recv())["data"]
        while event["a"] < before[-1][0] + 50:
            event = json.loads(await client.recv())["data"]
    _, past = await serve.get(f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={first['a']}&limit=1000")
    assert past[0]["a"] == first["a"]
    ids = [trade["a"] for trade in past]
    assert ids == list(range(first["a"], first["a"] + len(ids)))
    assert ids[-1] > before[-1][0]
    times = [trade["T"] for trade in past]
    assert times == sorted(times)
    prices = [float(trade["p"]) for trade in past]
    assert max(prices) / min(prices) < 1.05
    assert again.progress()["frames"]


@pytest.mark.parametrize("kept", [True, False])
async def test_rest_never_knows_what_is_not_published(serve: Serve, tmp_path: Path, kept: bool) -> None:
    await serve("binance", 100, tmp_path if kept else None)
    async with connect(serve.websocket + TRADES, max_queue=None) as client:
        for _ in range(20):
            live = json.loads(await client.recv())["data"]
            _, newest = await serve.get("/api/v3/aggTrades?symbol=BTCUSDT&limit=1")
            assert newest[0]["a"] >= live["a"]
            assert newest[0]["T"] <= time.time_ns() // 1_000_000
            _, by_time = await serve.get(f"/api/v3/aggTrades?symbol=BTCUSDT&startTime={live['T']}&limit=1000")
            assert live["a"] in [trade["a"] for trade in by_time]
            assert all(live["T"] <= trade["T"] <= time.time_ns() // 1_000_000 for trade in by_time)


async def closed(client: ClientConnection) -> tuple[int, str]:
    with suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 5)
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


async def test_a_restart_ends_all_connections_and_nobody_is_served_until_it_is_over(serve: Serve) -> None:
    server = await serve()
    async with connect(serve.websocket + TRADES) as first, connect(serve.websocket + TRADES) as second:
        server.restart(0.4)
        server.restart(0.2)
        assert await closed(first) == await closed(second) == (1012, "Service Restart")
        with pytest.raises(InvalidStatus) as refusal:
            await connect(serve.websocket + TRADES)
        assert refusal.value.response.status_code == 503
        assert (await serve.get("/api/v3/time"))[0] == 503

    async def served() -> bool:
        return (await serve.get("/api/v3/time"))[0] == 200

    await until(served, 5)
    async with connect(serve.websocket + TRADES) as client:
        await client.recv()


async def test_maintenance_is_announced_nothing_happens_and_its_end_is_announced(serve: Serve) -> None:
    server = await serve("kraken")
    async with connect(serve.websocket, max_queue=None) as client:
        await client.send('{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}')
        server.maintain(0.3)
        systems: list[str] = []
        async with asyncio.timeout(5):
            while len(systems) < 3:
                message = json.loads(await client.recv())
                if message.get("channel") == "status":
                    systems.append(message["data"][0]["system"])
                    assert server.progress()["halted"] is (systems[-1] == "maintenance")
        assert systems == ["online", "maintenance", "online"]
        async with asyncio.timeout(5):
            while json.loads(await client.recv()).get("channel") != "trade":
                pass


async def test_heartbeats_go_on_while_nothing_happens(serve: Serve) -> None:
    server = await serve("kraken")
    await server.halt()
    async with connect(serve.websocket, max_queue=None) as client:
        await client.send('{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}')
        async with asyncio.timeout(5):
            while json.loads(await client.recv()) != {"channel": "heartbeat"}:
                pass


async def gone(there: Callable[[], Awaitable[bool]]) -> bool:
    return not await there()


async def test_a_delisted_symbol_is_gone_and_goes_on_with_its_next_id_when_it_is_listed_again(
    serve: Serve, tmp_path: Path
) -> None:
    server = await serve("binance", 500, tmp_path)
    depth = "/api/v3/depth?symbol=ETHUSDT"
    streams = TRADES + "/ethusdt@aggTrade"
    async with connect(serve.websocket + streams, max_queue=None) as client:
        while json.loads(await client.recv())["data"]["s"] != "ETHUSDT":
            pass
        server.delist("ETHUSDT")
        server.delist("ETHUSDT")

        async def listed() -> bool:
            return "lastUpdateId" in (await serve.get(depth))[1]

        await until(lambda: gone(listed), 5)
        with pytest.raises(KeyError):
            server.book("ETHUSDT", 5)
        with pytest.raises(KeyError):
            server.delist("ETHUSDT")
        last = truth_of(tmp_path, "binance", "ETHUSDT")[-1][0]
        await server.halt()
        assert truth_of(tmp_path, "binance", "ETHUSDT")[-1][0] == last
        # It is listed while nothing happens, too.
        server.relist("ETHUSDT")
        await until(listed, 5)
        await server.halt(False)
        await client.send('{"method":"SUBSCRIBE","params":["ethusdt@aggTrade"],"id":1}')
        while json.loads(await client.recv()).get("id") != 1:
            pass
        event: dict[str, Any] = {}
        while event.get("s") != "ETHUSDT":
            event = json.loads(await client.recv())["data"]
        _, past = await serve.get(f"/api/v3/aggTrades?symbol=ETHUSDT&fromId={last}&limit=2")
        assert [trade["a"] for trade in past] == [last, last + 1]
    with pytest.raises(ValueError, match="no-such"):
        server.relist("no-such")


async def test_an_exchange_that_lists_nothing_waits(serve: Serve) -> None:
    server = await serve("binance")
    for symbol in SYMBOLS["binance"]:
        server.delist(symbol)
    await asyncio.wait_for(server.halt(), 5)
    await server.halt(False)
    server.relist("NEWUSDT")
    async with connect(serve.websocket + "/stream?streams=newusdt@aggTrade") as client:
        assert json.loads(await asyncio.wait_for(client.recv(), 5))["data"]["s"] == "NEWUSDT"


async def test_who_asks_too_much_over_rest_is_told_to_wait_and_then_banned(serve: Serve) -> None:
    await serve("binance")
    answers: list[tuple[int, dict[str, str], Any]] = []
    async with aiohttp.ClientSession() as http:
        while not answers or answers[-1][0] != 418:
            async with http.get(f"{serve.rest}/api/v3/depth?symbol=BTCUSDT&limit=5000") as answer:
                answers.append((answer.status, dict(answer.headers), await answer.json()))
            assert len(answers) < 100
    assert answers[0][1]["X-MBX-USED-WEIGHT-1M"] == "250"
    statuses = [status for status, _, _ in answers]
    assert list(dict.fromkeys(statuses)) == [200, 429, 418]
    assert statuses.count(200) >= 6000 // 250
    _, headers, body = answers[statuses.index(429)]
    assert 0 < int(headers["Retry-After"]) <= 60
    assert body["code"] == -1003
    assert 60 < int(answers[-1][1]["Retry-After"]) <= 120


def test_weight_is_counted_by_the_minute_and_a_ban_ends() -> None:
    budget = RequestWeight(10)
    second = 1_000_000_000
    minute = 60 * second
    assert budget.take(6, 5 * second) == Verdict(6)
    assert budget.take(4, 5 * second) == Verdict(10)
    assert budget.take(1, 50 * second) == Verdict(11, 429, 10)
    assert budget.take(1, minute) == Verdict(1)
    assert budget.take(20, minute + second) == Verdict(21, 418, 120)
    assert budget.take(1, 2 * minute) == Verdict(0, 418, 61)
    assert budget.take(1, 3 * minute + second) == Verdict(1)


async def test_the_clock_of_a_skewed_exchange_is_wrong_and_the_truth_says_what_it_said(
    serve: Serve, tmp_path: Path
) -> None:
    server = await serve("binance", 500, tmp_path)
    server.faults.inject("skew", ms=5000.0, seconds=60)
    _, answer = await serve.get("/api/v3/time")
    assert 4000 < answer["serverTime"] - time.time() * 1000 < 5100
    async with connect(serve.websocket + TRADES, max_queue=None) as client:
        async with asyncio.timeout(5):
            event = json.loads(await client.recv())["data"]
            while event["T"] < time.time() * 1000 + 4000:
                event = json.loads(await client.recv())["data"]
    row = next(row for row in truth_of(tmp_path, "binance", "BTCUSDT") if row[0] == event["a"])
    assert row[1] == event["T"] * 1_000_000


async def test_a_client_that_does_not_read_is_cut_and_the_others_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_client, "MAX_UNREAD", 100_000)
    server = await serve("binance", 20_000)
    address = serve.websocket + "/stream?streams=btcusdt@aggTrade/btcusdt@bookTicker"
    async with connect(address, max_queue=1) as deaf, connect(address) as other:
        async with asyncio.timeout(20):
            while server.progress()["connections"] == 2:
                await other.recv()
            await other.recv()
        deaf.transport.abort()
        other.transport.abort()


async def test_a_market_that_cannot_write_its_truth_says_so_and_trades_as_soon_as_it_can(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "binance").write_text("in the way")
    server = await serve("binance", 500, tmp_path)
    await until(lambda: server.failure == "cannot write its trades: Not a directory", 5)
    assert server.progress()["frames"] == 0, "nobody is told of what is not written"
    await asyncio.wait_for(server.halt(), 5)
    server.delist("ETHUSDT")
    await server.halt(on=False)
    made_ns = time.time_ns()
    await until(lambda: time.time_ns() > made_ns + 3 * SECOND, 5)
    (tmp_path / "binance").unlink()
    written_ns = time.time_ns()
    await until(lambda: server.progress()["frames"] > 100, 5)
    assert server.failure == ""
    async with connect(serve.websocket + TRADES) as client:
        event = json.loads(await client.recv())["data"]
    rows = truth_of(tmp_path, "binance", "BTCUSDT")
    ids = [row[0] for row in rows]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert event["a"] in ids
    made_up = [row for row in rows if made_ns + SECOND < row[1] < written_ns - SECOND]
    assert not made_up, "there was no trade while none could be written"


async def test_a_silent_exchange_can_be_stopped(serve: Serve) -> None:
    server = await serve()
    async with connect(serve.websocket + TRADES) as client:
        await client.recv()
        server.faults.inject("silent", seconds=600)
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        await asyncio.wait_for(server.stop(), 5)


async def test_any_number_of_clients_come_and_go_while_frames_are_harmed(serve: Serve) -> None:
    server = await serve("binance", 2000)
    server.faults.inject("skip", count=5, about="trades", seconds=60)

    async def one() -> None:
        async with connect(serve.websocket + TRADES, max_queue=None) as client:
            for _ in range(20):
                assert json.loads(await client.recv())["data"]["s"] == "BTCUSDT"

    await asyncio.gather(*(one() for _ in range(10)))
    await until(lambda: server.progress()["connections"] == 0, 5)
    assert server.faults.active() == []
