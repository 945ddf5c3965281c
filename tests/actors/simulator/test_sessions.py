import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import recorded_clock
from actors.simulator.binance import BinanceSession
from actors.simulator.captures import SESSIONS
from actors.simulator.coinbase import CoinbaseSession
from actors.simulator.session import EVERYBODY, MAX_STREAMS, Session, UnknownTarget


def told(session: Session, message: Any) -> Any:
    return json.loads(session.receive(json.dumps(message)))


def test_binance_subscribes_by_address_and_by_message() -> None:
    session = BinanceSession("/stream?streams=btcusdt%40aggTrade/ethusdt@bookTicker")
    assert session.symbols == {"BTCUSDT", "ETHUSDT"}
    assert told(session, {"method": "SUBSCRIBE", "params": ["xrpusdt@trade"], "id": 7}) == {"result": None, "id": 7}
    assert told(session, {"method": "UNSUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": 8})["result"] is None
    assert told(session, {"method": "LIST_SUBSCRIPTIONS", "id": 9}) == {
        "result": ["btcusdt@aggTrade", "xrpusdt@trade"],
        "id": 9,
    }
    assert session.wants("xrpusdt@trade")
    assert not session.wants("ethusdt@bookTicker")
    assert not session.wants("xrpusdt@aggTrade")


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
    error = json.loads(session.receive(message))["error"]
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
    quote = b'{"u":1,"s":"BTCUSDT","b":"1"}'
    assert BinanceSession.key(combined) == BinanceSession.key(raw) == "btcusdt@aggTrade"
    assert BinanceSession.key(quote) == "btcusdt@bookTicker"
    assert BinanceSession.key(b'{"e":"kline","s":"BTCUSDT","k":{"i":"1m"}}') == "btcusdt@kline_1m"
    assert BinanceSession("/ws").outgoing(combined) == BinanceSession("/ws").outgoing(raw) == raw
    assert BinanceSession("/stream").outgoing(raw) == combined
    assert BinanceSession("/stream").outgoing(combined) == combined


def test_coinbase_lists_all_channels_with_products_of_the_message_and_of_the_channel() -> None:
    session = CoinbaseSession("/", {"A-USD", "B-USD"})
    ticker = {"name": "ticker", "product_ids": ["B-USD"]}
    answer = told(session, {"type": "subscribe", "product_ids": ["A-USD"], "channels": ["matches", ticker]})
    matches = {"name": "matches", "product_ids": ["A-USD"]}
    assert answer == {
        "type": "subscriptions",
        "channels": [matches, {"name": "ticker", "product_ids": ["A-USD", "B-USD"]}],
    }
    assert [session.wants(key) for key in ("match A-USD", "last_match A-USD", "ticker B-USD", EVERYBODY)] == [True] * 4
    assert not any(session.wants(key) for key in ("match B-USD", "l2update A-USD", "heartbeat A-USD"))
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
    session = CoinbaseSession("/", {"A-USD"})
    answer = json.loads(session.receive(message))
    assert answer["type"] == "error"
    assert text in answer["message"] + answer.get("reason", "")
    assert not session.channels


def test_answers_are_not_replayed_and_frames_of_no_stream_are_for_everybody() -> None:
    assert BinanceSession.key(b'{"result":null,"id":1}') is None
    assert CoinbaseSession.key(b'{"type":"subscriptions","channels":[]}') is None
    assert CoinbaseSession.key(b'{"type":"error","message":"x"}') is None
    for session in SESSIONS.values():
        for frame in (b"", b"{", b"\xff", b"[]", b'{"e":"serverShutdown","E":1}', b'{"type":"news"}'):
            assert session.key(frame) == EVERYBODY


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.binary(max_size=30)
    | st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE"]) | json_values,
            "id": json_values,
            "params": json_values,
            "type": st.sampled_from(["subscribe", "unsubscribe", "match"]) | json_values,
            "channels": json_values | st.just([{"name": "ticker", "product_ids": [None]}]),
            "product_ids": json_values,
            "stream": json_values,
            "s": json_values,
            "u": json_values,
            "product_id": json_values,
        },
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_message_and_no_frame_breaks_a_session(message: bytes) -> None:
    for session_of, target in ((BinanceSession, "/ws"), (CoinbaseSession, "/")):
        session = session_of(target)
        json.loads(session.receive(message))
        key = session.key(message)
        assert key is None or session.wants(key) in (True, False)
        session.outgoing(message)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_recorded_time_survives_the_wire(t_ns: int) -> None:
    payload = recorded_clock.encode(t_ns)
    assert len(payload) == 8
    assert recorded_clock.decode(payload) == t_ns
    with pytest.raises(ValueError, match="8 bytes"):
        recorded_clock.decode(payload + b"\0")
