import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import recorded_clock
from actors.simulator.binance import BinanceSession
from actors.simulator.coinbase import CoinbaseSession
from actors.simulator.session import EVERYBODY, MAX_STREAMS, Known, Recorded, Session, Stream, UnknownTarget
from actors.simulator.sessions import SESSIONS, session_at


def told(session: Session, message: Any) -> Any:
    (answer,) = session.receive(json.dumps(message))
    return json.loads(answer)


def read(session: type[Session], *frames: bytes, target: str = "") -> list[Recorded]:
    return session.read(target, frames)


def test_binance_subscribes_by_address_and_by_message() -> None:
    session = BinanceSession("/stream?streams=btcusdt%40aggTrade/ethusdt@bookTicker")
    assert session.symbols == {"BTCUSDT", "ETHUSDT"}
    assert told(session, {"method": "SUBSCRIBE", "params": ["xrpusdt@trade"], "id": 7}) == {"result": None, "id": 7}
    assert told(session, {"method": "UNSUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": 8})["result"] is None
    assert told(session, {"method": "LIST_SUBSCRIPTIONS", "id": 9}) == {
        "result": ["btcusdt@aggTrade", "xrpusdt@trade"],
        "id": 9,
    }
    assert session.wants(Stream("trade", "XRPUSDT"))
    assert not session.wants(Stream("bookTicker", "ETHUSDT"))
    assert not session.wants(Stream("aggTrade", "XRPUSDT"))


def test_binance_lets_in_who_names_no_stream_yet() -> None:
    session = BinanceSession("/ws/0")
    assert session.symbols == set()
    assert told(session, {"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 1}) == {"result": None, "id": 1}
    assert session.symbols == {"BTCUSDT"}


@pytest.mark.parametrize("target", ["/", "/streams", "/stream?streams=%00", "/ws/btc usdt", "//[/stream"])
def test_binance_knows_no_other_address(target: str) -> None:
    with pytest.raises(UnknownTarget):
        BinanceSession(target)


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ("{", 3, "Invalid JSON"),
        ("[]", 2, "expected an object"),
        ('{"method":"SUBSCRIBE","params":[],"id":"1"}', 2, "unsigned integer"),
        ('{"method":"SUBSCRIBE","params":[],"id":-1}', 2, "unsigned integer"),
        ('{"method":"JUMP","params":[],"id":1}', 2, "unknown variant"),
        ('{"method":"SUBSCRIBE","params":"btcusdt@trade","id":1}', 2, "array of strings"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "array of strings"),
        ('{"method":"SUBSCRIBE","params":["nonsense"],"id":1}', 2, "invalid stream"),
    ],
)
def test_binance_says_what_is_wrong_with_a_message(message: str, code: int, text: str) -> None:
    session = BinanceSession("/ws")
    error = json.loads(session.receive(message)[0])["error"]
    assert error["code"] == code
    assert text in error["msg"]
    assert not session.streams


def test_binance_limits_the_streams_of_a_connection() -> None:
    session = BinanceSession("/ws")
    streams = [f"s{number}@trade" for number in range(MAX_STREAMS + 1)]
    assert told(session, {"method": "SUBSCRIBE", "params": streams, "id": 1})["error"]["code"] == 2
    assert told(session, {"method": "SUBSCRIBE", "params": streams[1:], "id": 1})["result"] is None


def test_binance_frames_take_the_form_of_the_connection() -> None:
    combined = b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","s":"BTCUSDT", "a":1}}'
    raw = b'{"e":"aggTrade","s":"BTCUSDT", "a":1}'
    others = (b'{"u":1,"s":"BTCUSDT","b":"1"}', b'{"e":"kline","s":"BTCUSDT","k":{"i":"1m"}}')
    trade, same, quote, bar = (one.stream for one in read(BinanceSession, combined, raw, *others))
    assert trade == same == Stream("aggTrade", "BTCUSDT")
    assert (quote.channel, bar.channel) == ("bookTicker", "kline_1m")
    target = "streams=btcusdt@aggTrade"
    assert BinanceSession("/ws/btcusdt@aggTrade").outgoing([combined, raw], [trade] * 2, []) == [raw] * 2
    assert BinanceSession(f"/stream?{target}").outgoing([raw, combined], [trade] * 2, []) == [combined] * 2


def test_binance_books_come_under_the_speed_that_was_asked_for() -> None:
    raw = b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}'
    fast = b'{"stream":"btcusdt@depth@100ms","data":' + raw + b"}"
    slow = b'{"stream":"btcusdt@depth","data":' + raw + b"}"
    streams = {one.stream for one in read(BinanceSession, fast, slow, raw)}
    assert streams == {Stream("depth", "BTCUSDT")}
    for name, expected in (("btcusdt@depth@100ms", fast), ("btcusdt@depth", slow)):
        session = BinanceSession(f"/stream?streams={name}")
        assert session.wants(Stream("depth", "BTCUSDT"))
        assert session.outgoing([fast, slow, raw], [Stream("depth", "BTCUSDT")] * 3, []) == [expected] * 3


def test_coinbase_lists_all_channels_with_products_of_the_message_and_of_the_channel() -> None:
    session = CoinbaseSession("/", Known({"A-USD", "B-USD"}))
    ticker = {"name": "ticker", "product_ids": ["B-USD"]}
    answer = told(session, {"type": "subscribe", "product_ids": ["A-USD"], "channels": ["matches", ticker]})
    matches = {"name": "matches", "product_ids": ["A-USD"]}
    assert answer == {
        "type": "subscriptions",
        "channels": [matches, {"name": "ticker", "product_ids": ["A-USD", "B-USD"]}],
    }
    assert all(session.wants(Stream(*key.split())) for key in ("match A-USD", "last_match A-USD", "ticker B-USD"))
    assert not any(session.wants(Stream(*key.split())) for key in ("match B-USD", "level2 A-USD", "heartbeat A-USD"))
    answer = told(session, {"type": "unsubscribe", "product_ids": ["A-USD"], "channels": ["ticker"]})
    assert answer["channels"] == [matches, ticker]
    assert told(session, {"type": "unsubscribe", "channels": ["matches"]})["channels"] == [ticker]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("{", "Malformed JSON"),
        ("[]", "Type has to be"),
        ('{"type":"listen"}', "Type has to be"),
        ('{"type":"subscribe","product_ids":["A-USD"]}', "No channels provided"),
        ('{"type":"subscribe","product_ids":["A-USD"],"channels":["level9"]}', "level9 is not a valid channel"),
        ('{"type":"subscribe","product_ids":["Z-USD"],"channels":["ticker"]}', "Z-USD is not a valid product"),
        ('{"type":"subscribe","product_ids":"A-USD","channels":["ticker"]}', "must be an array"),
        ('{"type":"subscribe","channels":["ticker"]}', "No product_ids provided"),
        ('{"type":"subscribe","product_ids":["A-USD"],"channels":["ticker",{"name":[]}]}', "not a valid channel"),
    ],
)
def test_coinbase_says_what_is_wrong_and_subscribes_to_nothing(message: str, text: str) -> None:
    session = CoinbaseSession("/", Known({"A-USD"}))
    answer = json.loads(session.receive(message)[0])
    assert answer["type"] == "error"
    assert text in answer["message"] + answer.get("reason", "")
    assert not session.channels


def test_answers_and_notices_are_not_replayed_and_frames_of_no_stream_are_for_everybody() -> None:
    unplayed = {
        "binance": [b'{"result":null,"id":1}', b'{"e":"serverShutdown","E":1}'],
        "bitfinex": [b'{"event":"info","code":20051,"msg":"Stopping"}', b'{"event":"pong","cid":1}'],
        "bybit": [b'{"success":true,"ret_msg":"pong","conn_id":"1","op":"ping"}'],
        "coinbase": [b'{"type":"subscriptions","channels":[]}', b'{"type":"error","message":"x"}'],
        "deribit": [b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'],
        "kraken": [b'{"event":"systemStatus","status":"maintenance"}', b'{"event":"pong"}'],
        "okx": [b"pong", b'{"event":"notice","code":"64008","msg":"upgrade","connId":"1"}'],
    }
    for exchange, (session, *_) in SESSIONS.items():
        target = {"bybit": "/v5/public/spot"}.get(exchange, "")
        assert {one.state for one in read(session, *unplayed[exchange], target=target)} == {"unplayed"}, exchange
        for frame in (b"", b"{", b"\xff", b"[]", b"[" * 5000):
            (one,) = read(session, frame, target=target)
            assert (one.frame, one.stream, one.state) == (frame, EVERYBODY, "event"), exchange


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


TARGETS = {
    "binance": "/ws",
    "bitfinex": "/ws/2",
    "bybit": "/v5/public/linear",
    "coinbase": "/",
    "deribit": "/ws/api/v2",
    "kraken": "/",
    "okx": "/ws/v5/public",
}
WORDS = [
    *(
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "subscribe",
        "unsubscribe",
        "conf",
        "ping",
        "public/subscribe",
        "public/set_heartbeat",
    ),
    *(
        "book",
        "book.A.raw",
        "orderbook.50.A",
        "trades",
        "ticker",
        "A",
        "instrument",
        "status",
        "subscription",
        "update",
    ),
]
wild = st.sampled_from(WORDS) | json_values
FIELDS = [
    *("method", "id", "params", "type", "channels", "product_ids", "stream", "s", "u", "product_id", "event", "pair"),
    *("subscription", "channel", "symbol", "prec", "chanId", "key", "flags", "op", "args", "arg", "topic", "name"),
    *("depth", "data", "interval", "channelID", "channelName", "action", "reqid", "req_id", "cid", "jsonrpc", "instId"),
]
nested = st.dictionaries(st.sampled_from(FIELDS), wild | st.lists(wild, max_size=3), max_size=4)
messages = st.dictionaries(st.sampled_from(FIELDS), wild | nested | st.lists(wild | nested, max_size=3), max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*TARGETS.items(), ("kraken", "/v2")]),
    # What is made up at Bitfinex goes out twice, or not at all.
    st.lists(
        st.binary(max_size=30).filter(lambda it: not it.startswith(b"[0,"))
        | (messages | st.lists(wild, max_size=5)).map(lambda it: json.dumps(it).encode())
    ),
)
def test_no_message_and_no_frame_breaks_a_session(exchange: tuple[str, str], texts: list[bytes]) -> None:
    name, target = exchange
    session = session_at(name, target)(target, Known({"A", "linear:A"}))
    for text in texts:
        session.receive(text, 1)
        session.receive(text.decode(errors="replace"), 1)
        json.dumps(sorted(session.symbols))
    recorded = session.read(target, texts)
    assert len(recorded) == len(texts)
    wanted = [one for one in recorded if session.wants(one.stream) or one.stream == EVERYBODY]
    frames = session.outgoing([one.frame for one in wanted], [one.stream for one in wanted], [1] * len(wanted))
    assert len(frames) == len(wanted)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_recorded_time_survives_the_wire(t_ns: int) -> None:
    payload = recorded_clock.encode(t_ns)
    assert len(payload) == 8
    assert recorded_clock.decode(payload) == t_ns
    with pytest.raises(ValueError, match="8 bytes"):
        recorded_clock.decode(payload + b"\0")
