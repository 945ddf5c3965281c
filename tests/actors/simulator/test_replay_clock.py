import json
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect

from actors.simulator.captures import CapturedConnection, Recording, read_captures
from actors.simulator.captures import recordings as recordings_of
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import ReplayClock, shared_clocks
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import COINBASE, START_NS, line, nothing_more_comes, recording_of, trade
from tests.actors.simulator.conftest import Play

SECOND = 1_000_000_000


def spanning(exchange: str, first_s: int, last_s: int) -> Recording:
    connection = CapturedConnection("", [first_s * SECOND, last_s * SECOND], [b"{}", b"{}"])
    return Recording(exchange, (), [connection], {})


def test_recordings_that_overlap_share_a_clock_and_others_have_their_own() -> None:
    spans = {"okx": (100, 200), "kraken": (150, 300), "binance": (290, 310), "deribit": (311, 400), "bybit": (20, 30)}
    clocks = shared_clocks((spanning(name, *span) for name, span in spans.items()), 1)
    assert clocks["okx"] is clocks["kraken"] is clocks["binance"]
    assert len({id(clock) for clock in clocks.values()}) == 3
    assert [clocks[name].due_ns // SECOND for name in ("bybit", "okx", "kraken", "deribit")] == [20, 100, 100, 311]


def test_the_recordings_were_made_at_different_times(recordings: Path) -> None:
    clocks = shared_clocks(recordings_of(read_captures(recordings)), 1)
    assert len({id(clock) for clock in clocks.values()}) == 6


def test_a_clock_runs_from_its_first_start_at_its_speed() -> None:
    now = 50.0
    clock = ReplayClock(START_NS, 10, lambda: now)
    now = 60.0
    assert clock.due_ns == START_NS
    assert clock.seconds_until(START_NS + 5 * SECOND) == 0.5
    clock.start()
    now = 61.0
    clock.start()
    assert clock.due_ns == START_NS + 10 * SECOND


async def test_what_came_later_on_another_exchange_comes_as_much_later(tmp_path: Path) -> None:
    ask = json.dumps({"type": "subscribe", "product_ids": ["A-USD"], "channels": ["ticker"]})
    ticker = '{"type":"ticker","product_id":"A-USD"}'
    capture_files.write(tmp_path, [line("recv", trade(n), n * 10_000_000) for n in range(2)], "binance.jsonl")
    capture_files.write(
        tmp_path, [line("send", ask, 0, COINBASE), line("recv", ticker, 2_000_000, COINBASE)], "coinbase.jsonl"
    )
    now = 0.0
    played = recordings_of(read_captures(tmp_path))
    clocks = shared_clocks(played, 1, lambda: now)
    servers = {one.exchange: ReplayServer(one, clocks[one.exchange]) for one in played}
    try:
        addresses = {name: (await server.start())[0] for name, server in servers.items()}
        now = 100.0
        async with connect(f"{addresses['binance']}/ws/btcusdt@aggTrade") as binance:
            assert json.loads(await binance.recv())["a"] == 0
            now = 2050
            async with connect(addresses["coinbase"]) as coinbase:
                await coinbase.send(ask)
                await coinbase.recv()
                await nothing_more_comes(coinbase)
                now = 2150
                await coinbase.send(ask)
                assert json.loads(await coinbase.recv())["type"] == "subscriptions"
                assert await coinbase.recv() == ticker
                await nothing_more_comes(binance)
    finally:
        for server in servers.values():
            await server.stop()


@pytest.mark.parametrize(
    ("speed", "times", "expected"),
    [(1, [0.0, 1.5, 2.5, 8.0, 99.0], "1000 1000 2000 2000 9000"), (0, [0.0] * 4, "1000 2000 9000 9000")],
)
async def test_rest_answers_with_the_newest_body_that_is_due_or_with_one_after_the_other(
    tmp_path: Path, play: Play, speed: float, times: list[float], expected: str
) -> None:
    url = "https://api.binance.com/api/v3/depth?symbol=X"
    lines = [line("recv", trade(1)), *(line("rest", str(after), after, url) for after in (1000, 2000, 9000))]
    capture_files.write(tmp_path, lines)
    now = 0.0
    _, websocket, rest = await play(recording_of(tmp_path, "binance"), speed, lambda: now)
    bodies = []
    async with connect(f"{websocket}/ws/btcusdt@aggTrade") as client, aiohttp.ClientSession() as http:
        await client.recv()
        for seconds in times:
            now = seconds
            async with http.get(f"{rest}/api/v3/depth?symbol=X") as answer:
                bodies.append(await answer.text())
    assert " ".join(bodies) == expected
