import asyncio
import json
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from websockets.asyncio.client import connect

import config
from actors import recorded_clock
from actors.endpoint import Endpoint
from actors.feeds.registry import FEEDS
from actors.simulator.captures import CaptureError
from actors.simulator.simulator import Simulator
from storage.column_reader import ColumnReader
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import line, trade
from tests.polling import until

Start = Callable[..., Awaitable[tuple[Simulator, dict[str, Endpoint]]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    simulators: list[Simulator] = []

    async def start(
        source: str, exchanges: Iterable[str] = ("binance",), symbols: Iterable[str] | None = None, **market: Any
    ) -> tuple[Simulator, dict[str, Endpoint]]:
        """`symbols` are those of Binance."""
        wanted: dict[str, Any] = {name: {"enabled": name in exchanges} for name in FEEDS}
        if symbols is not None:
            wanted["binance"]["symbols"] = symbols
        overrides = {"source": source, "simulator": market, "exchanges": wanted}
        settings = config.load(tmp_path / "data", overrides)
        simulators.append(Simulator(settings))
        return simulators[-1], await simulators[-1].start()

    before = asyncio.all_tasks() - {asyncio.current_task()}
    yield start
    for simulator in simulators:
        await asyncio.wait_for(simulator.stop(), 5)
    assert asyncio.all_tasks() - {asyncio.current_task()} == before, "a task was left behind"


async def rest(endpoint: Endpoint, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.get(endpoint.rest + path) as answer:
        return answer.status, await answer.json()


async def test_a_replay_offers_each_recorded_exchange_and_tells_how_far_it_is(recordings: Path, start: Start) -> None:
    simulator, endpoints = await start(f"replay:{recordings}")
    assert set(endpoints) == {"binance", "bitfinex", "coinbase", "deribit", "kraken", "okx"}
    for exchange, symbol, path in (
        ("binance", "NKNUSDT", ""),
        ("bitfinex", "tDOGUSD", "/ws/2"),
        ("coinbase", "YFI-BTC", ""),
        ("deribit", "BTC-24SEP21-8000-P", "/ws/api/v2"),
        ("kraken", "XBT/CHF", ""),
        ("okx", "UNI-USD-SWAP", "/ws/v5/public"),
    ):
        assert symbol in endpoints[exchange].symbols
        assert endpoints[exchange].websocket.endswith(path)
        assert endpoints[exchange].websocket.removesuffix(path).rpartition(":")[2].isdigit()
    assert (await simulator.status())["skipped"] == []
    assert set(simulator.servers) == set(endpoints)
    assert await simulator.start() == endpoints
    assert pickle.loads(pickle.dumps(endpoints)) == endpoints
    before = (await simulator.progress())["binance"]
    assert before == {"frames": 265, "sent": 0, "connections": 0, "finished": False}
    async with connect(endpoints["binance"].websocket + "/ws/lrcbtc@aggTrade") as client:
        assert json.loads(await client.recv())["a"] == 9213679
        after = (await simulator.progress())["binance"]
    assert after == {"frames": 1, "sent": 1, "connections": 1, "finished": True}
    assert f"replay:{recordings}" in repr(simulator)


async def test_a_capture_that_cannot_be_read_starts_nothing(tmp_path: Path, start: Start) -> None:
    path = capture_files.write(tmp_path, [line("recv", trade(1)), "{"])
    with pytest.raises(CaptureError, match="line 2: not JSON") as error:
        await start(f"replay:{tmp_path}")
    assert str(path) in str(pickle.loads(pickle.dumps(error.value)))


async def test_a_capture_of_an_exchange_nobody_speaks_is_skipped_and_named(tmp_path: Path, start: Start) -> None:
    capture_files.write(tmp_path, [line("recv", "{}", url="wss://ws.example.com")], "other.jsonl")
    capture_files.write(tmp_path, [line("recv", trade(1))], "binance.jsonl")
    simulator, endpoints = await start(f"replay:{tmp_path}")
    assert set(endpoints) == {"binance"}
    assert (await simulator.status())["skipped"] == ["other.jsonl"]


async def test_the_market_goes_by_the_wall_clock_and_all_connections_see_the_same(start: Start) -> None:
    _, endpoints = await start("sim", symbols=["BTCUSDT", "ETHUSDT"], trades_per_second=500)
    endpoint = endpoints["binance"]
    assert endpoint.symbols == ("BTCUSDT", "ETHUSDT")
    address = endpoint.websocket + "/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade"
    async with connect(address) as first, connect(address, additional_headers=recorded_clock.HEADERS) as second:
        left = [json.loads(await first.recv()) for _ in range(200)]
        assert abs(left[-1]["data"]["T"] - time.time() * 1000) < 1000
        right = [json.loads(await second.recv()) for _ in range(200)]
    shared = {json.dumps(event) for event in left} & {json.dumps(event) for event in right}
    assert len(shared) > 100
    for symbol in endpoint.symbols:
        ids = [event["data"]["a"] for event in left if event["data"]["s"] == symbol]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_only_the_streams_asked_for_come_and_they_can_change(start: Start) -> None:
    _, endpoints = await start("sim", symbols=["BTCUSDT", "ETHUSDT"], trades_per_second=500)
    async with connect(endpoints["binance"].websocket + "/ws") as client:
        await client.send('{"method":"SUBSCRIBE","params":["ethusdt@aggTrade"],"id":1}')
        assert json.loads(await client.recv()) == {"result": None, "id": 1}
        for _ in range(50):
            event = json.loads(await client.recv())
            assert (event["e"], event["s"]) == ("aggTrade", "ETHUSDT")
        await client.send('{"method":"UNSUBSCRIBE","params":["ethusdt@aggTrade"],"id":2}')
        while "id" not in json.loads(await client.recv()):
            pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.recv(), 0.1)


async def test_missed_trades_are_found_over_rest(start: Start) -> None:
    _, endpoints = await start("sim", symbols=["BTCUSDT"], trades_per_second=2000)
    endpoint = endpoints["binance"]
    async with connect(endpoint.websocket + "/ws/btcusdt@aggTrade", max_queue=None) as client:
        live = [json.loads(await client.recv()) for _ in range(50)]
    first = live[0]["a"]
    status, trades = await rest(endpoint, f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={first}&limit=50")
    assert status == 200
    assert trades == [{name: event[name] for name in ("a", "p", "q", "f", "l", "T", "m", "M")} for event in live]
    _, newest = await rest(endpoint, "/api/v3/aggTrades?symbol=BTCUSDT&limit=3")
    assert [one["a"] for one in newest] == list(range(newest[0]["a"], newest[0]["a"] + 3))
    assert newest[0]["a"] > first
    assert (await rest(endpoint, f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={10**17}"))[1] == []
    assert (await rest(endpoint, "/api/v3/aggTrades?symbol=BTCUSDT&fromId=0&limit=1"))[1][0]["a"] <= first


async def test_a_book_over_rest_and_its_changes_fit_and_quotes_are_its_top(start: Start) -> None:
    """As https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams says a book is kept."""
    _, endpoints = await start("sim", symbols=["BTCUSDT", "ETHUSDT"], trades_per_second=200)
    endpoint = endpoints["binance"]
    streams = "ethusdt@depth@100ms/ethusdt@bookTicker"
    async with connect(f"{endpoint.websocket}/stream?streams={streams}", max_queue=None) as client:
        events = [json.loads(await client.recv())["data"] for _ in range(40)]
        status, snapshot = await rest(endpoint, "/api/v3/depth?symbol=ETHUSDT&limit=1000")
        assert status == 200
        assert len(snapshot["bids"]) == len(snapshot["asks"]) == 100
        while sum("U" in event and event["U"] > snapshot["lastUpdateId"] for event in events) < 3:
            events.append(json.loads(await client.recv())["data"])
    quotes = {event["u"]: event for event in events if "U" not in event}
    changes = [event for event in events if "U" in event and event["u"] > snapshot["lastUpdateId"]]
    assert changes[0]["U"] <= snapshot["lastUpdateId"] + 1 <= changes[0]["u"]
    book = {side: {float(price): size for price, size in snapshot[side]} for side in ("bids", "asks")}
    last = snapshot["lastUpdateId"]
    for event in changes:
        assert event["U"] == last + 1
        last = event["u"]
        for side, levels in ((book["bids"], event["b"]), (book["asks"], event["a"])):
            side.update({float(price): size for price, size in levels})
            for price in [price for price, size in side.items() if not float(size)]:
                del side[price]
        bid, ask = max(book["bids"]), min(book["asks"])
        quote = quotes[last]
        assert (bid, book["bids"][bid]) == (float(quote["b"]), quote["B"])
        assert (ask, book["asks"][ask]) == (float(quote["a"]), quote["A"])
    _, top = await rest(endpoint, "/api/v3/depth?symbol=ETHUSDT&limit=5")
    assert len(top["bids"]) == 5


async def test_our_own_feed_reads_the_market_s_books(start: Start) -> None:
    _, endpoints = await start("sim", symbols=["BTCUSDT", "SOLUSDT"], trades_per_second=200)
    endpoint = endpoints["binance"]
    feed = FEEDS["binance"](endpoint.symbols, endpoint.websocket)
    async with connect(feed.url, max_queue=None) as client:
        for message in feed.subscribe(endpoint.symbols):
            await client.send(message.decode())
        frames = [str(await client.recv()).encode() for _ in range(300)]
    decoded = feed.decode(frames, np.full(len(frames), time.time_ns()))
    assert decoded.subscribed == {"BTCUSDT", "SOLUSDT"}
    assert not decoded.rejected
    assert min(decoded.books.num_rows, decoded.trades.num_rows, decoded.quotes.num_rows) > 3
    request = feed.snapshot_request("SOLUSDT")
    assert request is not None
    async with aiohttp.ClientSession() as http, http.get(endpoint.rest + request.path) as answer:
        assert feed.read_snapshot("SOLUSDT", await answer.read(), 1).num_rows == 1
    (listing,) = feed.instrument_requests(endpoint.symbols)
    async with aiohttp.ClientSession() as http, http.get(endpoint.rest + listing.path) as answer:
        assert set(feed.read_instruments([await answer.read()])["symbol"].to_pylist()) == {"BTCUSDT", "SOLUSDT"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v3/depth", -1102),
        ("/api/v3/depth?symbol=NONE", -1121),
        ("/api/v3/depth?symbol=BTCUSDT&limit=x", -1130),
        ("/api/v3/exchangeInfo?symbols=%5B", -1100),
        ('/api/v3/exchangeInfo?symbols=["NONE"]', -1121),
        ("/api/v3/aggTrades", -1102),
        ("/api/v3/aggTrades?symbol=btcusdt", -1121),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=-1", -1130),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=%C2%B2", -1130),
        ("/api/v3/aggTrades?symbol=BTCUSDT&limit=" + "9" * 40, -1130),
        ("/api/v3/exchangeInfo?symbol=NONE", -1121),
    ],
)
async def test_a_bad_request_is_binance_s_own_error(start: Start, path: str, code: int) -> None:
    _, endpoints = await start("sim", symbols=["BTCUSDT"])
    status, error = await rest(endpoints["binance"], path)
    assert (status, error["code"]) == (400, code)


async def test_the_exchange_tells_its_time_and_its_symbols(start: Start) -> None:
    simulator, endpoints = await start("sim", symbols=["BTCUSDT", "NEWBTC", "BTCUSDT"])
    _, answer = await rest(endpoints["binance"], "/api/v3/time")
    assert abs(answer["serverTime"] - time.time() * 1000) < 1000
    _, information = await rest(endpoints["binance"], "/api/v3/exchangeInfo")
    assert [(one["symbol"], one["baseAsset"], one["quoteAsset"]) for one in information["symbols"]] == [
        ("BTCUSDT", "BTC", "USDT"),
        ("NEWBTC", "NEW", "BTC"),
    ]
    assert information["symbols"][0]["filters"][0]["tickSize"] == "0.01000000"
    assert information["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"
    _, one = await rest(endpoints["binance"], '/api/v3/exchangeInfo?symbols=["NEWBTC"]')
    assert [listed["symbol"] for listed in one["symbols"]] == ["NEWBTC"]
    assert (await simulator.progress())["binance"]["finished"] is False


async def test_symbols_no_market_can_have_are_named(start: Start) -> None:
    with pytest.raises(config.SettingsError, match=r"'exchanges\.binance\.symbols'.*'btc-usd'"):
        await start("sim", symbols=["btc-usd"])


async def test_two_simulators_run_at_once(tmp_path: Path, start: Start) -> None:
    capture_files.write(tmp_path, [line("recv", trade(1))])
    (_, market), (_, replay) = await asyncio.gather(start("sim"), start(f"replay:{tmp_path}"))
    async with (
        connect(market["binance"].websocket + "/ws/btcusdt@aggTrade") as first,
        connect(replay["binance"].websocket + "/stream?streams=btcusdt@aggTrade") as second,
    ):
        assert json.loads(await first.recv())["s"] == "BTCUSDT"
        assert await second.recv() == trade(1)


async def test_all_enabled_exchanges_run_with_their_symbols(tmp_path: Path, start: Start) -> None:
    simulator, endpoints = await start("sim", FEEDS, trades_per_second=200)
    settings = config.load(tmp_path)
    assert {name: list(own.symbols) for name, own in endpoints.items()} == {
        name: own.symbols for name, own in settings.exchanges.items()
    }
    status = await simulator.status()
    root = Path(status["truth"])
    assert root == tmp_path / "data" / "simulator" / "columns"
    stored = ColumnReader(root, rescan_s=0)
    await until(lambda: all(set(stored.symbols().get(name, ())) == set(own.symbols) for name, own in endpoints.items()))


async def test_a_market_can_be_halted_compared_with_and_let_go_on(start: Start) -> None:
    simulator, endpoints = await start("sim", ("binance", "kraken"), trades_per_second=200)
    await simulator.halt("kraken", True)
    progress = await simulator.progress()
    assert (progress["kraken"]["halted"], progress["binance"]["halted"]) == (True, False)
    await simulator.halt(None, True)
    book = await simulator.book("binance", "BTCUSDT", 3)
    _, snapshot = await rest(endpoints["binance"], "/api/v3/depth?symbol=BTCUSDT&limit=3")
    assert book == {side: [(float(price), float(size)) for price, size in snapshot[side]] for side in ("bids", "asks")}
    assert await simulator.book("binance", "BTCUSDT", 3) == book
    await simulator.halt(None, False)
    await until(lambda: changed(simulator, book))


async def changed(simulator: Simulator, book: dict[str, list[tuple[float, float]]]) -> bool:
    return await simulator.book("binance", "BTCUSDT", 3) != book


async def test_faults_are_injected_and_told_and_those_there_are_not_are_a_setting_error(start: Start) -> None:
    simulator, endpoints = await start("sim", ("binance", "kraken"))
    assert await simulator.faults() == []
    said = await simulator.fault("binance", "rest_failing", seconds=60)
    assert said.startswith("rest_failing")
    async with aiohttp.ClientSession() as http, http.get(endpoints["binance"].rest + "/api/v3/time") as answer:
        assert answer.status == 503
    (row,) = await simulator.faults()
    assert (row["exchange"], row["kind"], row["active"]) == ("binance", "rest_failing", True)
    for exchange, kind, options, reason in (
        ("nowhere", "restart", {}, "nowhere.*binance, kraken"),
        ("binance", "flood", {}, "flood.*restart"),
        ("binance", "delist", {"symbol": "NONE"}, "NONE"),
        ("binance", "restart", {"seconds": -1}, "seconds"),
    ):
        with pytest.raises(config.SettingsError, match=reason):
            await simulator.fault(exchange, kind, **options)
    for call in (simulator.halt("nowhere", True), simulator.book("binance", "NONE", 1)):
        with pytest.raises(config.SettingsError):
            await call


async def test_a_symbol_listed_while_it_runs_goes_on_after_a_restart(start: Start) -> None:
    async def newest_id() -> int:
        async with connect(endpoints["binance"].websocket + "/ws/dogeusdt@aggTrade") as client:
            event = json.loads(await asyncio.wait_for(client.recv(), 5))
        assert event["s"] == "DOGEUSDT"
        return int(event["a"])

    simulator, endpoints = await start("sim", trades_per_second=500)
    await simulator.list_symbol("binance", "DOGEUSDT")
    before = await newest_id()
    for exchange, symbol, reason in (
        ("binance", "doge", "^binance cannot list 'doge'"),
        ("nowhere", "DOGEUSDT", "^no exchange called 'nowhere'"),
    ):
        with pytest.raises(config.SettingsError, match=reason):
            await simulator.list_symbol(exchange, symbol)
    await simulator.stop()
    _, endpoints = await start("sim", trades_per_second=500)
    assert "DOGEUSDT" not in endpoints["binance"].symbols, "nobody collects it unasked"
    assert await newest_id() > before


async def test_what_only_a_market_can_do_a_replay_cannot(tmp_path: Path, start: Start) -> None:
    capture_files.write(tmp_path, [line("recv", trade(1))])
    simulator, _ = await start(f"replay:{tmp_path}")
    with pytest.raises(config.SettingsError, match="replay"):
        await simulator.halt("binance", True)
    with pytest.raises(config.SettingsError, match="market"):
        await simulator.fault("binance", "restart")


async def test_a_stopped_simulator_can_be_stopped_again_and_started_again(start: Start) -> None:
    simulator, first = await start("sim")
    await simulator.stop()
    await simulator.stop()
    assert "stopped" in repr(simulator)
    with pytest.raises(OSError, match="Connect call failed"):
        await connect(first["binance"].websocket + "/ws")
    again = await simulator.start()
    assert (await rest(again["binance"], "/api/v3/time"))[0] == 200
