import asyncio
import json
import tracemalloc
from pathlib import Path

import aiohttp
import picows
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from actors import recorded_clock
from actors.simulator.captures import CapturedConnection, Recording
from actors.simulator.coinbase import CoinbaseSession
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import (
    BINANCE,
    START_NS,
    line,
    nothing_more_comes,
    receive,
    recording_of,
    trade,
)
from tests.actors.simulator.conftest import Play

COINBASE_CHANNELS = ["matches", "ticker"]
TARGET = BINANCE.removeprefix("wss://stream.binance.com:9443")


def tiny(folder: Path, lines: list[str]) -> Recording:
    capture_files.write(folder, lines)
    return recording_of(folder, "binance")


async def subscribe(client: ClientConnection, products: tuple[str, ...], channels: list[str]) -> None:
    message = {"type": "subscribe", "product_ids": products, "channels": channels}
    await client.send(json.dumps(message))
    assert json.loads(await client.recv())["type"] == "subscriptions"


async def test_binance_frames_come_byte_for_byte_and_only_those_subscribed(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "binance"))
    streams = {"nknusdt@aggTrade", "lrcbtc@aggTrade", "nknusdt@bookTicker", "runeeur@bookTicker"}
    recorded = [fields["data"] for fields in capture_files.recorded(recordings / "binance.jsonl")]
    expected = [text for text in recorded if json.loads(text)["stream"] in streams]
    assert 0 < len(expected) < len(recorded)
    async with connect(f"{websocket}/stream?streams={'/'.join(streams)}") as client:
        assert await receive(client, len(expected)) == expected
        await nothing_more_comes(client)


async def test_all_of_binance_comes_for_the_recorded_address(recordings: Path, play: Play) -> None:
    server, websocket, _ = await play(recording_of(recordings, "binance"))
    recorded = capture_files.recorded(recordings / "binance.jsonl")
    address = recorded[0]["url"].replace("wss://stream.binance.com:9443", websocket)
    async with connect(address) as client:
        assert await receive(client, len(recorded)) == [fields["data"] for fields in recorded]
        assert server.progress() == {"frames": 265, "sent": 265, "connections": 1, "finished": True}


async def test_coinbase_frames_come_for_the_channels_asked_for(recordings: Path, play: Play) -> None:
    recording = recording_of(recordings, "coinbase")
    _, websocket, _ = await play(recording)
    recorded = [fields["data"] for fields in capture_files.recorded(recordings / "coinbase.jsonl")]
    expected = [text for text in recorded if json.loads(text)["type"] in ("match", "last_match", "ticker")]
    assert len(expected) == 97 + 10 + 107
    async with connect(websocket) as client:
        await subscribe(client, recording.symbols, COINBASE_CHANNELS)
        assert await receive(client, len(expected)) == expected
        await nothing_more_comes(client)


async def test_the_recorded_subscriptions_sent_one_after_the_other_bring_everything(
    recordings: Path, play: Play
) -> None:
    _, websocket, _ = await play(recording_of(recordings, "coinbase"))
    recorded = capture_files.recorded(recordings / "coinbase.jsonl")
    expected = [f["data"] for f in recorded if json.loads(f["data"])["type"] != "subscriptions"]
    async with connect(websocket) as client:
        for fields in capture_files.recorded(recordings / "coinbase.jsonl", "send"):
            await client.send(fields["data"])
        received = await receive(client, len(expected) + 3)
        await nothing_more_comes(client)
    frames = [text for text in received if json.loads(text)["type"] != "subscriptions"]
    assert sorted(frames) == sorted(expected)


async def test_the_recorded_clock_comes_before_each_frame_and_each_answer(recordings: Path, play: Play) -> None:
    recording = recording_of(recordings, "coinbase")
    _, websocket, _ = await play(recording)
    recorded = capture_files.recorded(recordings / "coinbase.jsonl")
    expected = [(f["t_ns"], f["data"]) for f in recorded if json.loads(f["data"])["type"] == "ticker"]
    async with connect(websocket, subprotocols=[Subprotocol(recorded_clock.SUBPROTOCOL)]) as client:
        assert client.subprotocol == recorded_clock.SUBPROTOCOL
        message = {"type": "subscribe", "product_ids": recording.symbols, "channels": ["ticker"]}
        await client.send(json.dumps(message))
        received = [await client.recv() for _ in range(2 * (1 + len(expected)))]
    assert all(isinstance(clock, bytes) for clock in received[::2])
    times = [recorded_clock.decode(clock) for clock in received[::2] if isinstance(clock, bytes)]
    answer, *texts = received[1::2]
    assert json.loads(answer)["type"] == "subscriptions"
    assert times[0] == recorded[0]["t_ns"]
    assert list(zip(times[1:], texts, strict=True)) == expected


async def test_another_subprotocol_leaves_the_exchange_s_own_protocol(tmp_path: Path, play: Play) -> None:
    _, websocket, _ = await play(tiny(tmp_path, [line("recv", trade(1))]))
    async with connect(websocket + TARGET, subprotocols=[Subprotocol("chat")]) as client:
        assert client.subprotocol is None
        assert await client.recv() == trade(1)


async def test_a_picows_client_gets_the_recording(tmp_path: Path, play: Play) -> None:
    _, websocket, _ = await play(tiny(tmp_path, [line("recv", trade(n), n) for n in range(500)]))
    done = asyncio.get_running_loop().create_future()
    received: list[tuple[picows.WSMsgType, bytes]] = []

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            received.append((frame.msg_type, frame.get_payload_as_bytes()))
            if len(received) == 1000:
                done.set_result(None)

    transport, _ = await picows.ws_connect(Listener, websocket + TARGET, extra_headers=recorded_clock.HEADERS)
    await asyncio.wait_for(done, 5)
    assert [recorded_clock.decode(payload) for _, payload in received[::2]] == [
        START_NS + n * 1_000_000 for n in range(500)
    ]
    assert [payload.decode() for _, payload in received[1::2]] == [trade(n) for n in range(500)]
    transport.disconnect()


@pytest.mark.parametrize(("speed", "step"), [(1, 10_000.0), (10, 1_000.0)])
async def test_speed_one_plays_as_recorded_and_speed_ten_ten_times_faster(
    tmp_path: Path, play: Play, speed: float, step: float
) -> None:
    recording = tiny(tmp_path, [line("recv", trade(n), n * 10_000_000) for n in range(4)])
    now = 100.0
    server, websocket, _ = await play(recording, speed, clock=lambda: now)
    async with connect(websocket + TARGET) as client:
        assert await client.recv() == trade(0)
        for number in range(1, 4):
            now += step - 20
            await look_at_the_clock(client)
            await nothing_more_comes(client)
            assert server.progress()["sent"] == number
            now += 30
            await look_at_the_clock(client)
            assert await asyncio.wait_for(client.recv(), 5) == trade(number)
            now -= 10
        assert server.progress()["finished"] is True


async def look_at_the_clock(client: ClientConnection) -> None:
    """Wakes the server, which sleeps for as many real seconds as the test's clock is away from the next frame."""
    await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    assert json.loads(await client.recv())["id"] == 1


async def test_real_time_passes_at_speed_one_and_none_at_speed_zero(tmp_path: Path, play: Play) -> None:
    recording = tiny(tmp_path, [line("recv", trade(n), n * 150) for n in range(3)])
    loop = asyncio.get_running_loop()
    for speed, least, most in ((1, 0.3, 2.0), (0, 0.0, 0.29)):
        _, websocket, _ = await play(recording, speed)
        async with connect(websocket + TARGET) as client:
            started = loop.time()
            await receive(client, 3)
            assert least - 0.05 <= loop.time() - started < most


async def test_a_late_subscription_gets_at_once_what_is_due_already(tmp_path: Path, play: Play) -> None:
    lines = [line("recv", trade(n, ("BTCUSDT", "ETHUSDT")[n % 2]), n * 100_000) for n in range(6)]
    now = 0.0
    _, websocket, _ = await play(tiny(tmp_path, lines), 1, clock=lambda: now)
    async with connect(f"{websocket}/ws/btcusdt@aggTrade") as client:
        assert json.loads(await client.recv())["a"] == 0
        now = 350
        await client.send('{"method":"SUBSCRIBE","params":["ethusdt@aggTrade"],"id":1}')
        received = [json.loads(text) for text in await receive(client, 4)]
        assert received.count({"result": None, "id": 1}) == 1
        assert sorted(event["a"] for event in received if "a" in event) == [1, 2, 3]
        await client.send('{"method":"UNSUBSCRIBE","params":["btcusdt@aggTrade"],"id":2}')
        assert json.loads(await client.recv()) == {"result": None, "id": 2}
        now = 900
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":3}')
        received = [json.loads(text) for text in await receive(client, 2)]
        assert [event["a"] for event in received if "a" in event] == [5]


async def test_every_connection_plays_from_the_beginning(tmp_path: Path, play: Play) -> None:
    expected = [trade(n) for n in range(50)]
    server, websocket, _ = await play(tiny(tmp_path, [line("recv", text) for text in expected]))
    async with connect(websocket + TARGET) as client:
        assert await receive(client, 20) == expected[:20]
        client.transport.abort()
    async with connect(websocket + TARGET) as first, connect(websocket + TARGET) as second:
        assert await receive(first, 50) == await receive(second, 50) == expected
        assert server.progress()["connections"] == 2


async def test_a_frame_that_is_not_json_reaches_every_subscriber(tmp_path: Path, play: Play) -> None:
    _, websocket, _ = await play(tiny(tmp_path, [line("recv", text) for text in ("{", "", trade(1), "\0é")]))
    async with connect(websocket + TARGET) as client:
        assert await receive(client, 4) == ["{", "", trade(1), "\0é"]


async def test_rest_bodies_are_the_recorded_bytes_and_others_are_the_exchange_s_404(
    recordings: Path, play: Play
) -> None:
    for exchange, not_found in (("binance", "code"), ("coinbase", "message")):
        _, _, rest = await play(recording_of(recordings, exchange))
        async with aiohttp.ClientSession() as http:
            for fields in capture_files.recorded(recordings / f"{exchange}.jsonl", "rest"):
                path = "/" + fields["url"].split("/", 3)[3]
                async with http.get(rest + path) as answer:
                    assert answer.status == 200
                    assert answer.content_type == "application/json"
                    assert await answer.read() == fields["data"].encode()
            async with http.get(f"{rest}/api/v3/depth?symbol=NOTHING") as answer:
                assert answer.status == 404
                assert not_found in await answer.json()
    async with aiohttp.ClientSession() as http, http.get(f"{rest}/products?x=%ff%00") as answer:
        assert answer.status == 404


async def test_an_address_the_exchange_does_not_have_is_a_404(tmp_path: Path, play: Play) -> None:
    _, websocket, _ = await play(tiny(tmp_path, [line("recv", trade(1))]))
    with pytest.raises(InvalidStatus) as error:
        await connect(f"{websocket}/elsewhere")
    assert error.value.response.status_code == 404


async def test_coinbase_hangs_up_on_a_client_that_does_not_subscribe(
    recordings: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoinbaseSession, "subscribe_within_s", 0.2)
    recording = recording_of(recordings, "coinbase")
    _, websocket, _ = await play(recording)
    async with connect(websocket) as silent, connect(websocket) as subscribed:
        await subscribe(subscribed, recording.symbols[:1], ["ticker"])
        await silent.send("nonsense")
        assert json.loads(await silent.recv())["type"] == "error"
        with pytest.raises(ConnectionClosed, match="no subscription within"):
            await asyncio.wait_for(silent.recv(), 5)
        await (await subscribed.ping())


async def test_a_client_that_does_not_read_makes_nothing_grow_and_does_not_hold_up_stopping(
    tmp_path: Path, play: Play
) -> None:
    one = tiny(tmp_path, [line("recv", trade(1))])
    count = 200_000
    frame = one.connections[0].frames[0] + b" " * 1000
    recording = Recording("binance", one.symbols, [CapturedConnection(TARGET, [START_NS] * count, [frame] * count)], {})
    server, websocket, _ = await play(recording)
    async with connect(websocket + TARGET, max_queue=1) as client:
        tracemalloc.start()
        sent, before = 0, -1
        for _ in range(20):
            await asyncio.sleep(0.1)
            before, sent = sent, int(server.progress()["sent"])
            if before == sent > 0:
                break
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert before == sent, "it goes on sending to somebody who does not read"
        assert sent < count / 4
        assert grown < 8 * 1024 * 1024
        # Others are served meanwhile.
        async with connect(websocket + TARGET) as other:
            await receive(other, 100)
            other.transport.abort()
        await asyncio.wait_for(server.stop(), 5)
        client.transport.abort()


async def test_two_exchanges_play_side_by_side(recordings: Path, play: Play) -> None:
    async def count(exchange: str, target: str, expected: int) -> None:
        recording = recording_of(recordings, exchange)
        _, websocket, _ = await play(recording)
        async with connect(websocket + target) as client:
            if exchange == "coinbase":
                await subscribe(client, recording.symbols, ["matches"])
            await receive(client, expected)
            await nothing_more_comes(client)

    binance = "/stream?streams=" + "/".join(f"{name}@bookTicker" for name in ("nknusdt", "blzeth", "lrcbtc", "runeeur"))
    await asyncio.gather(count("binance", binance, 84), count("coinbase", "/", 107))
