"""What can be made to go wrong, at a replay and at the market."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors.simulator import deribit, kraken, okx
from actors.simulator.dialects.binance import BinanceDialect
from actors.simulator.exchange_server import ExchangeServer
from actors.simulator.faults import Faults
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import ReplayClock
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import line, nothing_more_comes, receive, recording_of, trade
from tests.actors.simulator.conftest import Play

STREAM = "/stream?streams=btcusdt@aggTrade"


@pytest.fixture(params=["replay", "market"])
async def exchange(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str, Faults]]:
    faults = Faults()
    dialect = BinanceDialect({"BTCUSDT": BinanceDialect.listing("BTCUSDT")})
    server: ReplayServer | ExchangeServer = ExchangeServer(dialect, 1, 500, faults=faults)
    if request.param == "replay":
        capture_files.write(tmp_path, [line("recv", trade(n)) for n in range(2000)])
        server = ReplayServer(recording_of(tmp_path, "binance"), ReplayClock(0, 0), faults)
    assert server.faults is faults
    yield *await server.start(), faults
    await asyncio.wait_for(server.stop(), 5)


async def trade_id(client: ClientConnection) -> int:
    number: int = json.loads(await client.recv())["data"]["a"]
    return number


async def test_connections_are_refused_and_let_in_again(exchange: tuple[str, str, Faults]) -> None:
    websocket, _, faults = exchange
    faults.refuse = 429
    with pytest.raises(InvalidStatus) as refusal:
        await connect(websocket + STREAM, max_queue=None)
    assert refusal.value.response.status_code == 429
    faults.refuse = None
    async with connect(websocket + STREAM, max_queue=None) as client:
        await trade_id(client)


async def test_connections_are_cut_without_a_good_bye(exchange: tuple[str, str, Faults]) -> None:
    websocket, _, faults = exchange
    async with (
        connect(websocket + STREAM, max_queue=None) as first,
        connect(websocket + STREAM, max_queue=None) as second,
    ):
        await asyncio.gather(trade_id(first), trade_id(second))
        faults.cut()
        for client in (first, second):
            with pytest.raises(ConnectionClosed) as end:
                while True:
                    await asyncio.wait_for(client.recv(), 5)
            assert end.value.rcvd is None


async def test_connections_end_with_a_close_code(exchange: tuple[str, str, Faults]) -> None:
    websocket, _, faults = exchange
    async with connect(websocket + STREAM, max_queue=None) as client:
        await trade_id(client)
        closing = asyncio.create_task(faults.close(1012, "restart"))
        with pytest.raises(ConnectionClosed) as end:
            while True:
                await asyncio.wait_for(client.recv(), 5)
        await closing
        assert end.value.rcvd is not None
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1012, "restart")


async def test_silence_sends_nothing_and_closes_nothing(exchange: tuple[str, str, Faults]) -> None:
    websocket, _, faults = exchange
    faults.silent = True
    async with connect(websocket + STREAM, max_queue=None) as client:
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        await nothing_more_comes(client)
        faults.silent = False
        async with asyncio.timeout(5):
            while "result" not in (text := json.loads(await client.recv())):
                assert "data" in text


async def test_rest_asks_to_come_back_later(exchange: tuple[str, str, Faults]) -> None:
    _, rest, faults = exchange
    faults.retry_after_s = 7
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{rest}/api/v3/depth?symbol=BTCUSDT") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        faults.retry_after_s = None
        async with http.get(f"{rest}/api/v3/depth?symbol=BTCUSDT") as answer:
            assert answer.status in (200, 404)


async def test_one_frame_is_dropped(exchange: tuple[str, str, Faults]) -> None:
    websocket, _, faults = exchange
    dropped: list[int] = []

    def third(frame: bytes) -> bool:
        dropped.append(json.loads(frame)["data"]["a"])
        return len(dropped) == 3

    faults.drop(third)
    async with connect(websocket + STREAM, max_queue=None) as client:
        received = [await trade_id(client) for _ in range(10)]
    assert received == [number for number in range(received[0], received[-1] + 1) if number != dropped[2]]
    assert len(dropped) == 3, "it is looked at no more once it has happened"


async def test_a_dropped_frame_counts_in_the_exchange_s_own_numbers(recordings: Path, play: Play) -> None:
    server, websocket, _ = await play(recording_of(recordings, "bitfinex"))
    server.faults.drop(lambda frame: frame.endswith(b",3]"))
    async with connect(websocket, max_queue=None) as client:
        await client.send('{"event":"conf","flags":65536}')
        await client.send('{"event":"subscribe","channel":"book","symbol":"tDOGUSD"}')
        received = [json.loads(text) for text in await receive(client, 8)]
    assert [one[-1] for one in received if isinstance(one, list)] == [1, 2, 4, 5, 6]


async def until_closed(client: ClientConnection) -> tuple[list[Any], int, str]:
    received = []
    with pytest.raises(ConnectionClosed) as end:
        while True:
            received.append(await asyncio.wait_for(client.recv(), 5))
    assert end.value.rcvd is not None
    return received, end.value.rcvd.code, end.value.rcvd.reason


async def test_okx_hangs_up_on_silence_and_a_ping_is_none(
    recordings: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(okx, "_SILENCE_S", 0.3)
    _, websocket, _ = await play(recording_of(recordings, "okx"))
    async with connect(websocket) as quiet, connect(websocket) as pinging:
        ending = asyncio.create_task(until_closed(quiet))
        while not ending.done():
            await pinging.send("ping")
            assert await pinging.recv() == "pong"
            await asyncio.sleep(0.05)
        assert await ending == ([], 4004, "No data received in 30s.")


async def test_deribit_asks_for_a_test_and_hangs_up_without_it(
    recordings: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deribit, "_SHORTEST_HEARTBEAT_S", 0.1)
    _, websocket, _ = await play(recording_of(recordings, "deribit"))
    heartbeat = '{"jsonrpc":"2.0","id":1,"method":"public/set_heartbeat","params":{"interval":0.1}}'
    async with connect(websocket) as client:
        await client.send(heartbeat)
        assert json.loads(await client.recv())["result"] == "ok"
        for number in range(3):
            request = json.loads(await asyncio.wait_for(client.recv(), 5))
            assert (request["method"], request["params"]) == ("heartbeat", {"type": "test_request"})
            await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "public/test"}))
            assert json.loads(await client.recv())["id"] == number
        received, _, reason = await until_closed(client)
        assert len(received) == 1
        assert reason == "no answer to test_request"


async def test_kraken_sends_heartbeats_when_nothing_else_comes(
    recordings: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kraken, "_HEARTBEAT_S", 0.05)
    _, websocket, _ = await play(recording_of(recordings, "kraken"))
    async with connect(websocket) as client:
        await client.recv()
        await nothing_more_comes(client)
        await client.send('{"event":"subscribe","pair":["XMR/USD"],"subscription":{"name":"trade"}}')
        received = await asyncio.wait_for(receive(client, 1 + 33 + 3), 5)
        assert received[-3:] == ['{"event":"heartbeat"}'] * 3
