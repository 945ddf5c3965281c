"""The market poller against a local server that speaks Yahoo's API, on a clock at which the market is open."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from aiohttp import web
from redis.asyncio import Redis
from structlog.testing import capture_logs

from actors.market_poller import MAX_BODY_BYTES, MarketPoller
from actors.parcels import Key, packed
from actors.polling import market_hours
from actors.publisher import Publisher
from tests.actors.polling.pollers import (
    CLOSE,
    NOON,
    OPEN,
    Bars,
    clock_from,
    counted,
    minute,
    polling,
    settings,
)
from tests.actors.polling.provider_server import ProviderServer, endless, silence, status
from tests.polling import until
from tests.servers import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore:.*(weekday|Series.values).*deprecated")


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as running:
        yield running


async def test_new_and_changed_bars_reach_the_sink_and_others_do_not(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["^GSPC"] = [minute(0), (OPEN + 60, None, None, None, None, None), minute(118)]
    sink = Bars()
    async with polling(settings(tmp_path, server.url, symbols=["^GSPC"]), sink) as poller:
        await counted(poller, "answered", 4)
        assert sink.exchange == "yahoo"
        assert [(row["symbol"], row["timeframe"], row["time"] // 10**9 - OPEN) for row in sink.rows()] == [
            ("^GSPC", "1m", 0),
            ("^GSPC", "1m", 118 * 60),
        ]
        assert [row["closed"] for row in sink.rows()] == [True, False]
        server.minutes["^GSPC"] = [minute(0, close=10.7), minute(118, close=10.8), minute(119)]
        await until(lambda: len(sink.rows()) == 5)
        changed = [(row["time"] // 10**9 - OPEN, row["close"], row["revision"], row["closed"]) for row in sink.rows()]
        assert changed[2:] == [(0, 10.7, 1, True), (118 * 60, 10.8, 0, True), (119 * 60, 10.5, 0, False)]
        said = await poller.status()
        assert said["bars"] == 5
        assert said["unusable"] == {"no price": said["unusable"]["no price"]}
        (symbol,) = said["symbols"]
        assert (symbol["symbol"], symbol["price"], symbol["price_time"]) == (
            "^GSPC",
            10.5,
            (OPEN + 119 * 60 + 30) * 10**9,
        )


async def test_the_status_says_how_it_goes(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["AAPL"] = [minute(0)]
    poller = MarketPoller("yahoo", settings(tmp_path, server.url), Bars(), clock_from(NOON))
    before = await poller.status()
    assert (before["running"], before["failure"], before["breaker"], before["last_success"]) == (False, "", None, None)
    await poller.start()
    said = await counted(poller, "answered", 1)
    assert said["provider"] == "yahoo"
    assert "AAPL" not in said["actor"]
    assert said["pid"]
    assert said["market"] == "open"
    assert said["next_close"] == CLOSE * 10**9
    assert said["breaker"]["state"] == "closed"
    assert NOON * 10**9 < said["last_success"] < CLOSE * 10**9
    assert said["stale"] == []
    json.dumps(said)
    await poller.stop()
    assert not (await poller.status())["running"]
    await poller.start()
    await counted(poller, "answered", said["answered"] + 3)
    await poller.stop()


async def test_a_symbol_the_provider_does_not_have_is_named_and_the_others_go_on(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.minutes["AAPL"] = [minute(0)]
    async with polling(settings(tmp_path, server.url, symbols=["GONE", "AAPL"]), Bars()) as poller:
        said = await counted(poller, "answered", 5)
    assert len(server.asked("GONE")) == 1
    gone, there = said["symbols"]
    assert gone["refused"]
    assert gone["error"] == "404 Not Found: No data found, symbol may be delisted"
    assert gone["price"] is None
    assert (there["refused"], there["error"]) == (False, "")
    assert said["stale"] == ["GONE"]
    assert said["breaker"]["failure_count"] == 0


async def test_a_provider_that_is_down_opens_the_breaker_and_closes_it_when_it_is_back(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.minutes["AAPL"] = [minute(0)]
    server.faults[""] = [status(503, "down"), status(500), status(502), status(504)]
    sink = Bars()
    with capture_logs() as logs:
        async with polling(settings(tmp_path, server.url), sink) as poller:
            said = await counted(poller, "answered", 2)
    assert said["breaker"]["state"] == "closed"
    changes = [(log["state"], log["last_error"]) for log in logs if log["event"] == "the breaker changed"]
    assert changes == [("open", "AAPL 1m: 502"), ("open", "AAPL 1m: 504"), ("closed", "AAPL 1m: 504")]
    assert len(sink.rows()) == 1
    # Failures one to three, then a probe after the first wait and one after its double.
    times = [at for at, _, _ in server.requests]
    assert times[3] - times[2] >= 0.29
    assert times[4] - times[3] >= 0.59


async def test_the_rest_a_provider_asks_for_is_kept(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["AAPL"] = [minute(0)]
    server.faults[""] = [status(429, "Too Many Requests\r\n", Retry_After="1")]
    async with polling(settings(tmp_path, server.url), Bars()) as poller:
        said = await counted(poller, "limited", 1)
        assert said["symbols"][0]["error"] == "too many requests, asked to rest for 1 s"
        said = await counted(poller, "answered", 1)
        assert said["failed"] == 0
    times = [at for at, _, _ in server.requests]
    assert times[1] - times[0] >= 0.99


async def test_what_cannot_be_used_is_a_failure_with_a_reason_and_costs_no_memory(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.minutes["AAPL"] = [minute(0)]
    packed = gzip.compress(b" " * 100_000_000)

    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    faults = {
        "cannot be read": [status(200, "<html>"), status(200, '{"chart": 5}'), bomb],
        f"more than {MAX_BODY_BYTES >> 20} MB": [endless()],
        "302": [status(302, Location=f"{server.url}/elsewhere")],
        "no answer: TimeoutError": [silence()],
    }
    async with polling(settings(tmp_path, server.url, timeout_s=0.5), Bars()) as poller:
        for reason, kinds in faults.items():
            for fault in kinds:
                before = (await poller.status())["failed"]
                server.faults[""] = [fault]
                said = await counted(poller, "failed", before + 1)
                assert reason in said["last_error"]
                # Back to good, or the breaker would have to wait.
                await counted(poller, "answered", said["answered"] + 1)
    assert not any("elsewhere" in path for _, path, _ in server.requests)


async def test_without_anybody_there_it_says_so_and_goes_on(tmp_path: Path) -> None:
    async with ProviderServer() as server:
        url = server.url
    async with polling(settings(tmp_path, url), Bars()) as poller:
        said = await counted(poller, "failed", 2)
        assert "AAPL 1m: no answer: " in said["last_error"]
        assert said["stale"] == ["AAPL"]


async def test_an_unknown_calendar_stops_it_with_a_clear_reason(tmp_path: Path, server: ProviderServer) -> None:
    async with polling(settings(tmp_path, server.url, calendar="XNYX"), Bars()) as poller:

        async def failed() -> bool:
            return not (await poller.status())["running"]

        await until(failed)
        assert "there is no market calendar 'XNYX'" in (await poller.status())["failure"]


async def test_bars_nobody_took_come_again(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["AAPL"] = [minute(0)]
    sink = Bars()
    sink.broken = True
    async with polling(settings(tmp_path, server.url), sink) as poller:
        said = await counted(poller, "undelivered", 2)
        assert said["last_error"] == "AAPL 1m: the bars were not taken: nobody there"
        assert (said["breaker"]["failure_count"], said["last_success"]) == (0, None)
        sink.broken = False
        await until(lambda: len(sink.rows()) == 1)


async def test_before_the_opening_it_polls_once_and_at_the_opening_again(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.minutes["AAPL"] = [minute(0)]
    # The first time takes most of a second, which the clock of this test would run through.
    market_hours.load("XNYS", int(OPEN * 1e9))
    sooner = 1.5
    started = asyncio.get_running_loop().time()
    async with polling(settings(tmp_path, server.url), Bars(), clock_s=OPEN - sooner) as poller:
        await counted(poller, "answered", 1)
        assert (await poller.status())["market"] == "closed"
        await counted(poller, "answered", 3)
        assert (await poller.status())["market"] == "open"
    times = server.asked("AAPL")
    assert times[1] - started >= sooner


async def test_it_stops_at_once_although_an_answer_is_awaited(tmp_path: Path, server: ProviderServer) -> None:
    server.faults[""] = [silence()]
    async with polling(settings(tmp_path, server.url, timeout_s=60), Bars()) as poller:
        await until(lambda: bool(server.requests))
        before = time.monotonic()
        await poller.stop()
        assert time.monotonic() - before < 2


async def test_closed_minutes_arrive_in_redis_with_null_for_what_is_not_known(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.minutes["AAPL"] = [minute(0), minute(1)]
    with RedisServer(tmp_path / "redis") as redis_server:
        own = settings(tmp_path, server.url)
        publisher = Publisher(own, redis_server.url)

        async def sink(tables: Mapping[Key, pa.Table]) -> None:
            await publisher.take(packed(tables))

        redis = Redis.from_url(redis_server.url)
        try:
            async with polling(own, sink):

                async def arrived() -> bool:
                    return bool(await redis.zcard("bars:yahoo:AAPL:1m") == 2)

                await until(arrived)
                first = json.loads((await redis.zrange("bars:yahoo:AAPL:1m", 0, 0))[0])
        finally:
            await redis.aclose()
            await publisher.stop()
    assert first["time"] == OPEN
    assert first["volume"] == 100
    assert (first["quote_volume"], first["trade_count"], first["buy_volume"]) == (None, None, None)
