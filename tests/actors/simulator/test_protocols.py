"""Each recorded exchange through real sockets: what its recorded client sent brings what that client received."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import line, nothing_more_comes, receive, recording_of
from tests.actors.simulator.conftest import Play

PATHS = {
    "bitfinex": "/ws/2",
    "coinbase": "",
    "deribit": "/ws/api/v2",
    "kraken": "",
    "okx": "/ws/v5/public",
}
#: What marks an answer or a greeting.
ANSWERS = {
    "bitfinex": re.compile(r'{"event":"(info|conf|subscribed|error|unsubscribed|pong)"'),
    "coinbase": re.compile(r'{"type":"(subscriptions|error)"'),
    "deribit": re.compile(r'{"jsonrpc":"2.0","(id|error)"'),
    "kraken": re.compile(r'{("\w+":[^{]*?,)*"event":"(systemStatus|subscriptionStatus|error|pong)"'),
    "okx": re.compile(r'{"event"|pong'),
}
DATA_FRAMES = {"bitfinex": 1670, "coinbase": 9943, "deribit": 135, "kraken": 4397, "okx": 392}


def apart(exchange: str, texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Answers, and data."""
    answers: list[str] = []
    data: list[str] = []
    for text in texts:
        (answers if ANSWERS[exchange].match(text) else data).append(text)
    return answers, data


def recorded(recordings: Path, exchange: str, kind: str = "recv") -> list[str]:
    lines = capture_files.recorded(recordings / f"{exchange}.jsonl", kind)
    return [fields["data"] for fields in sorted(lines, key=lambda fields: fields["t_ns"])]


async def told(client: ClientConnection, message: Any, answers: int = 1) -> list[Any]:
    await client.send(message if isinstance(message, str) else json.dumps(message))
    return [json.loads(text) for text in await receive(client, answers)]


@pytest.mark.parametrize("exchange", PATHS)
async def test_the_recorded_client_gets_what_it_got_in_recorded_order(
    recordings: Path, play: Play, exchange: str
) -> None:
    server, websocket, _ = await play(recording_of(recordings, exchange))
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+" + PATHS[exchange], websocket)
    answers, data = apart(exchange, recorded(recordings, exchange))
    assert len(data) == DATA_FRAMES[exchange]
    greetings = 1 if exchange in ("bitfinex", "kraken") else 0
    asked = recorded(recordings, exchange, "send")
    async with connect(websocket, max_size=None) as client:
        for message in asked:
            await client.send(message)
        own = answers if exchange != "kraken" else [text for text in answers if "systemStatus" not in text]
        received = await receive(client, len(own) + len(data) + (greetings if exchange == "kraken" else 0))
        await nothing_more_comes(client)
        assert server.progress()["finished"] is True
    own_answers, own_data = apart(exchange, received)
    # Byte for byte: the numbers Bitfinex gives to arrays included.
    assert own_data == data
    if exchange in ("kraken", "okx"):
        assert sorted(text for text in own_answers if "systemStatus" not in text) == sorted(own)
    elif exchange == "bitfinex":
        assert sorted(own_answers[1:]) == sorted(answers[1:])
        assert json.loads(own_answers[0]).keys() == json.loads(answers[0]).keys()
    elif exchange == "deribit":
        (answer,), (original,) = map(json.loads, own_answers), map(json.loads, answers)
        assert answer.keys() == original.keys()
        assert sorted(answer["result"]) == sorted(original["result"])
        assert answer["id"] == original["id"]


async def test_kraken_acknowledges_each_pair_and_names_those_it_does_not_have(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "kraken"))
    async with connect(websocket) as client:
        assert json.loads(await client.recv())["event"] == "systemStatus"
        book = {"name": "book", "depth": 1000}
        message = {"event": "subscribe", "pair": ["XMR/USD", "XMR/XXX"], "subscription": book, "reqid": 7}
        granted, refused = await told(client, message, 2)
        assert granted == {
            "channelID": 992,
            "channelName": "book-1000",
            "event": "subscriptionStatus",
            "pair": "XMR/USD",
            "reqid": 7,
            "status": "subscribed",
            "subscription": {"depth": 1000, "name": "book"},
        }
        assert (refused["status"], refused["pair"]) == ("error", "XMR/XXX")
        assert refused["errorMessage"] == "Currency pair not supported XMR/XXX"
        while isinstance(first := json.loads(await client.recv()), dict):
            assert first == {"event": "heartbeat"}
        assert "as" in first[1]
        assert first[-1] == "XMR/USD"
        client.transport.abort()


async def test_kraken_serves_a_book_at_the_recorded_depth_only(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "kraken"))
    async with connect(websocket) as client:
        await client.recv()
        for depth in (10, 7):
            message = {"event": "subscribe", "pair": ["XMR/USD"], "subscription": {"name": "book", "depth": depth}}
            (refused,) = await told(client, message)
            assert refused["errorMessage"] == "Subscription depth not supported"
        (refused,) = await told(
            client, {"event": "unsubscribe", "pair": ["XMR/USD"], "subscription": {"name": "trade"}}
        )
        assert refused["errorMessage"] == "Subscription Not Found"
        assert await told(client, {"event": "ping", "reqid": 3}) == [{"event": "pong", "reqid": 3}]
        assert (await told(client, "{"))[0]["event"] == "error"


async def test_deribit_s_channels_come_at_the_interval_that_was_asked_for(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "deribit"))
    _, data = apart("deribit", recorded(recordings, "deribit"))
    of_symbol = [text for text in data if '.ETH-23JUL21-2300-C.raw"' in text]
    assert len(of_symbol) > 5
    asked = [f"{kind}.ETH-23JUL21-2300-C.100ms" for kind in ("book", "trades", "ticker")]
    async with connect(websocket) as client:
        message = {
            "jsonrpc": "2.0",
            "id": 5,
            "method": "public/subscribe",
            "params": {"channels": [*asked, "book.X.raw"]},
        }
        (answer,) = await told(client, message)
        # What does not exist is left out, without a word.
        assert (answer["id"], answer["result"]) == (5, asked)
        assert await receive(client, len(of_symbol)) == [text.replace('-C.raw"', '-C.100ms"') for text in of_symbol]
        await nothing_more_comes(client)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"id": 1, "method": "public/set_heartbeat", "params": {"interval": 30}}, {"id": 1, "result": "ok"}),
        ({"id": 2, "method": "public/test"}, {"id": 2, "result": {"version": "1.2.26"}}),
        ({"id": 3, "method": "public/disable_heartbeat"}, {"id": 3, "result": "ok"}),
        ({"id": 4, "method": "public/fly"}, {"id": 4, "error": {"message": "Method not found", "code": -32601}}),
        (
            {"id": 5, "method": "public/subscribe", "params": {"channels": "book"}},
            {
                "id": 5,
                "error": {
                    "message": "Invalid params",
                    "data": {"reason": "value must be a list", "param": "channels"},
                    "code": -32602,
                },
            },
        ),
        (
            {"id": 6, "method": "public/auth", "params": {"grant_type": "client_credentials", "client_id": ""}},
            {"id": 6, "error": {"message": "invalid_credentials", "code": 13004}},
        ),
    ],
)
async def test_deribit_answers_calls(
    recordings: Path, play: Play, message: dict[str, Any], expected: dict[str, Any]
) -> None:
    _, websocket, _ = await play(recording_of(recordings, "deribit"))
    async with connect(websocket) as client:
        (answer,) = await told(client, {"jsonrpc": "2.0", **message})
        assert {name: answer[name] for name in expected} == expected
        assert answer["jsonrpc"] == "2.0"


async def test_okx_refuses_an_instrument_by_name_and_the_others_go_on(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "okx"))
    async with connect(websocket) as client:
        args = [{"channel": "books", "instId": "BTC-NONE"}, {"channel": "books", "instId": "BTC-USDT"}]
        refused, granted = await told(client, {"op": "subscribe", "args": args}, 2)
        assert (refused["event"], refused["code"]) == ("error", "60018")
        assert refused["msg"].startswith("Wrong URL or channel:books,instId:BTC-NONE doesn't exist.")
        assert granted == {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}
        assert json.loads(await client.recv())["action"] == "snapshot"
        await client.send("ping")
        while (text := await client.recv()) != "pong":
            assert json.loads(text)["arg"]["channel"] == "books"


async def test_okx_has_channels_of_indices_and_of_kinds_of_instruments(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "okx"))
    args = [{"channel": "index-tickers", "instId": "BTC-USD"}, {"channel": "liquidation-orders", "instType": "SWAP"}]
    async with connect(websocket) as client:
        assert [one["arg"] for one in await told(client, {"op": "subscribe", "args": args}, 2)] == args
        for wrong in ({"op": "jump", "args": args}, {"op": "subscribe"}, "{"):
            (refused,) = await told(client, wrong)
            assert refused["code"] == "60012"


async def test_bitfinex_numbers_arrays_only_for_who_asks(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "bitfinex"))
    subscription = {
        "event": "subscribe",
        "channel": "book",
        "symbol": "tDOGUSD",
        "prec": "P0",
        "freq": "F0",
        "len": "25",
    }
    _, data = apart("bitfinex", recorded(recordings, "bitfinex"))
    bodies = [text.rpartition(",")[0] for text in data if text.startswith("[225206,")]
    for flags in (None, 65536, 65536 | 32768 | 131072):
        async with connect(websocket) as client:
            assert json.loads(await client.recv())["event"] == "info"
            if flags is not None:
                assert await told(client, {"event": "conf", "flags": flags}) == [
                    {"event": "conf", "status": "OK", "flags": flags}
                ]
            (granted,) = await told(client, subscription)
            assert granted == {**subscription, "event": "subscribed", "chanId": 225206, "pair": "DOGUSD"}
            received = await receive(client, len(bodies))
            await nothing_more_comes(client)
        if flags is None:
            assert received == [f"{body}]" for body in bodies]
        elif flags == 65536:
            assert received == [f"{body},{number}]" for number, body in enumerate(bodies, 1)]
        else:
            assert [text.rpartition(",")[0] for text in received] == [
                f"{body},{number}" for number, body in enumerate(bodies, 1)
            ]
            assert all(1618677543197 < json.loads(text)[-1] < 1618677575000 for text in received)


async def test_bitfinex_refuses_in_its_own_words(recordings: Path, play: Play) -> None:
    _, websocket, _ = await play(recording_of(recordings, "bitfinex"))
    trades = {"event": "subscribe", "channel": "trades", "symbol": "tBFTUSD"}
    async with connect(websocket) as client:
        await client.recv()
        refusals = [
            (trades | {"symbol": "tNONE"}, 10300, "symbol: invalid"),
            (trades | {"channel": "news"}, 10300, "channel: unknown"),
            (trades | {"channel": "book", "prec": "P9"}, 10300, "precision: invalid"),
            ({"event": "unsubscribe", "chanId": 5}, 10400, "unsubscribe: invalid"),
            ({"event": "nope"}, 10000, "event: invalid (nope)"),
        ]
        for message, code, text in refusals:
            (refused,) = await told(client, message)
            assert (refused["event"], refused["code"], refused["msg"]) == ("error", code, text)
        # Neither what is no JSON nor the status of something unknown is answered.
        await client.send("{")
        await client.send('{"event":"subscribe","channel":"status","key":"deriv:tNONE"}')
        (pong,) = await told(client, {"event": "ping", "cid": 9})
        assert (pong["event"], pong["cid"]) == ("pong", 9)
        (granted,) = await told(client, trades)
        received = [json.loads(text) for text in await receive(client, 3)]
        assert {one[0] for one in received} == {granted["chanId"]} == {232959}
        assert [one[1] for one in received[1:]] == ["hb", "hb"]
        (refused,) = await told(client, trades)
        assert (refused["code"], refused["msg"], refused["symbol"]) == (10301, "subscribe: dup", "tBFTUSD")
        (ended,) = await told(client, {"event": "unsubscribe", "chanId": 232959})
        assert ended == {"event": "unsubscribed", "status": "OK", "chanId": 232959}


KRAKEN_V2 = "wss://ws.kraken.com/v2"


def kraken_v2_lines() -> list[str]:
    """Messages of https://docs.kraken.com/exchange/api-reference/spot-websocket-v2"""
    book = '{"channel":"book","type":"%s","data":[{"symbol":"%s","bids":[],"asks":[],"checksum":1}]}'
    trade = '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":1.0,"trade_id":7}]}'
    ask = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": 1000}}
    frames = [
        '{"channel":"status","type":"update","data":[{"version":"2.0.4","system":"online"}]}',
        '{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD"},"success":true}',
        book % ("snapshot", "BTC/USD"),
        book % ("snapshot", "ETH/USD"),
        book % ("update", "BTC/USD"),
        trade,
        '{"channel":"heartbeat"}',
    ]
    return [
        line("open", None, 0, KRAKEN_V2),
        line("send", json.dumps(ask), 1, KRAKEN_V2),
        *(line("recv", text, 2 + number, KRAKEN_V2) for number, text in enumerate(frames)),
    ]


async def test_kraken_s_second_version_is_spoken_below_v2(tmp_path: Path, play: Play) -> None:
    capture_files.write(tmp_path, kraken_v2_lines())
    _, websocket, _ = await play(recording_of(tmp_path, "kraken"))
    assert websocket.endswith("/v2")
    async with connect(websocket) as client:
        status = json.loads(await client.recv())
        assert (status["channel"], status["data"][0]["api_version"]) == ("status", "v2")
        params = {"channel": "book", "symbol": ["BTC/USD", "NO/USD"], "depth": 1000}
        granted, refused = await told(client, {"method": "subscribe", "params": params, "req_id": 4}, 2)
        assert (granted["success"], granted["req_id"]) == (True, 4)
        assert granted["result"] == {"channel": "book", "depth": 1000, "snapshot": True, "symbol": "BTC/USD"}
        assert re.fullmatch(r"2023-11-14T22:13:20\.\d{6}Z", granted["time_in"])
        assert (refused["success"], refused["symbol"]) == (False, "NO/USD")
        assert refused["error"] == "Currency pair not supported NO/USD"
        received = [json.loads(text) for text in await receive(client, 3)]
        assert [one.get("type") for one in received] == ["snapshot", "update", None]
        assert received[2] == {"channel": "heartbeat"}
        (pong,) = await told(client, {"method": "ping", "req_id": 8})
        assert (pong["method"], pong["req_id"]) == ("pong", 8)


def bybit_lines(category: str) -> list[str]:
    """Messages of https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook and .../trade"""
    url = f"wss://stream.bybit.com/v5/public/{category}"
    book = '{"topic":"orderbook.50.BTCUSDT","type":"%s","ts":1,"data":{"s":"BTCUSDT","b":[],"a":[],"u":%d}}'
    frames = [
        '{"success":true,"ret_msg":"","conn_id":"x","req_id":"1","op":"subscribe"}',
        book % ("snapshot", 7),
        book % ("delta", 8),
        json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "data": [{"s": "BTCUSDT", "i": category}]}),
    ]
    ask = json.dumps({"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]})
    return [line("open", None, 0, url), line("send", ask, 1, url), *(line("recv", text, 2, url) for text in frames)]


async def test_bybit_s_categories_are_apart(tmp_path: Path, play: Play) -> None:
    for category in ("spot", "linear"):
        capture_files.write(tmp_path, bybit_lines(category), f"{category}.jsonl")
    recording = recording_of(tmp_path, "bybit")
    assert set(recording.symbols) == {"spot:BTCUSDT", "linear:BTCUSDT"}
    _, websocket, _ = await play(recording)
    topics = ["publicTrade.BTCUSDT", "orderbook.50.BTCUSDT"]
    for category, done, refusal in (
        ("spot", "subscribe", "Invalid symbol :[publicTrade.NONE]"),
        ("linear", "", "error:handler not found,topic:publicTrade.NONE"),
    ):
        async with connect(f"{websocket}/v5/public/{category}") as client:
            # One topic that does not exist, and the whole request is refused.
            (refused,) = await told(client, {"op": "subscribe", "args": [*topics, "publicTrade.NONE"], "req_id": "1"})
            assert (refused["success"], refused["ret_msg"], refused["req_id"]) == (False, refusal, "1")
            (granted,) = await told(client, {"op": "subscribe", "args": topics, "req_id": "2"})
            assert (granted["success"], granted["ret_msg"], granted["op"]) == (True, done, "subscribe")
            received = [json.loads(text) for text in await receive(client, 3)]
            assert [one["type"] for one in received] == ["snapshot", "delta", "snapshot"]
            assert received[2]["data"][0]["i"] == category
            (pong,) = await told(client, {"op": "ping"})
            assert (pong["ret_msg"], pong["op"]) == ("pong", "ping")
