import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.feeds import FEEDS
from actors.feeds.coinbase import Coinbase
from tests.actors.feeds.checks import all_rows, cut_at_random, decode, decode_checked, rows
from tests.actors.feeds.conftest import Recording

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MATCH = {
    "type": "match",
    "trade_id": 9007199254740993,
    "maker_order_id": "2a0da34e-61f7-4c36-88e5-c9dd15927b16",
    "taker_order_id": "3c82abaa-c01e-4608-be59-6a1e69742891",
    "side": "sell",
    "size": "985",
    "price": "0.00001305",
    "product_id": "SKL-BTC",
    "sequence": 177100030,
    "time": "2021-04-17T16:43:37.089723Z",
}
TICKER = {
    "type": "ticker",
    "sequence": 333938798,
    "product_id": "SKL-BTC",
    "price": "14.7775",
    "best_bid": "14.7550",
    "best_bid_size": "2.5",
    "best_ask": "14.8060",
    "best_ask_size": "0.1",
    "side": "buy",
    "time": "2021-04-17T16:43:30.244075Z",
    "trade_id": 881613,
    "last_size": "0.04",
}
HEARTBEAT = {"type": "heartbeat", "sequence": 1, "last_trade_id": 2, "product_id": "SKL-BTC", "time": "x"}


@pytest.fixture
def feed() -> Coinbase:
    return Coinbase(["BAND-GBP", "SKL-BTC"])


@pytest.fixture
def recorded(coinbase_recording: Recording) -> Coinbase:
    return Coinbase(sorted({m["product_id"] for m in coinbase_recording.messages if "product_id" in m}))


def changed(message: dict[str, Any], **fields: Any) -> str:
    return json.dumps(message | fields)


def without(message: dict[str, Any], *names: str) -> str:
    return json.dumps({name: value for name, value in message.items() if name not in names})


def ns(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) * 1000


def trades_read_plainly(recording: Recording, kind: str) -> list[dict[str, Any]]:
    return [
        {
            "symbol": message["product_id"],
            "ts_event": ns(message["time"]),
            "ts_recv": received,
            "trade_id": message["trade_id"],
            "price": float(message["price"]),
            "size": float(message["size"]),
            "side": {"sell": 0, "buy": 1}[message["side"]],
            "maker_order_id": uuid.UUID(message["maker_order_id"]).bytes,
            "taker_order_id": uuid.UUID(message["taker_order_id"]).bytes,
        }
        for message, received in zip(recording.messages, recording.ts_recv.tolist(), strict=True)
        if message["type"] == kind
    ]


def quotes_read_plainly(recording: Recording) -> list[dict[str, Any]]:
    return [
        {
            "symbol": message["product_id"],
            "ts_event": ns(message["time"]),
            "ts_recv": received,
            "sequence": message["sequence"],
            "bid_price": float(message["best_bid"]),
            "bid_size": None,
            "ask_price": float(message["best_ask"]),
            "ask_size": None,
            "last_price": float(message["price"]),
            "last_size": float(message["last_size"]),
            "last_side": {"buy": 0, "sell": 1}[message["side"]],
        }
        for message, received in zip(recording.messages, recording.ts_recv.tolist(), strict=True)
        if message["type"] == "ticker"
    ]


def test_the_recording_reads_as_a_plain_reading_does(coinbase_recording: Recording, recorded: Coinbase) -> None:
    decoded = decode_checked(recorded, coinbase_recording.frames, coinbase_recording.ts_recv)
    assert rows(decoded.trades) == trades_read_plainly(coinbase_recording, "match")
    assert rows(decoded.history) == trades_read_plainly(coinbase_recording, "last_match")
    assert rows(decoded.quotes) == quotes_read_plainly(coinbase_recording)
    assert (len(decoded.trades), len(decoded.history), len(decoded.quotes)) == (97, 10, 107)
    assert not decoded.rejected
    assert not decoded.errors
    assert decoded.ignored == len(coinbase_recording.frames) - 97 - 10 - 107


def test_a_recorded_ticker_and_match_of_one_trade_agree_on_the_taker(
    coinbase_recording: Recording, recorded: Coinbase
) -> None:
    decoded = recorded.decode(coinbase_recording.frames, coinbase_recording.ts_recv)
    of_trade = {(row["symbol"], row["trade_id"]): row["side"] for row in rows(decoded.trades) + rows(decoded.history)}
    tickers = [message for message in coinbase_recording.messages if message["type"] == "ticker"]
    compared = 0
    for ticker, quote in zip(tickers, rows(decoded.quotes), strict=True):
        side = of_trade.get((ticker["product_id"], ticker["trade_id"]))
        if side is not None:
            assert quote["last_side"] == side
            compared += 1
    assert compared > 90


@pytest.mark.parametrize("seed", range(3))
def test_the_recording_cut_anywhere_gives_the_same_rows(
    coinbase_recording: Recording, recorded: Coinbase, seed: int
) -> None:
    frames, ts_recv = coinbase_recording.frames, coinbase_recording.ts_recv
    whole = all_rows([decode_checked(recorded, frames, ts_recv)])
    assert all_rows(cut_at_random(recorded, frames, ts_recv, seed)) == whole


def test_the_recording_frame_by_frame_gives_the_same_rows(coinbase_recording: Recording, recorded: Coinbase) -> None:
    frames, ts_recv = coinbase_recording.frames, coinbase_recording.ts_recv
    whole = all_rows([decode_checked(recorded, frames, ts_recv)])
    single = [recorded.decode(frames[at : at + 1], ts_recv[at : at + 1]) for at in range(len(frames))]
    assert all_rows(single) == whole


def test_a_trade_id_is_exact_beyond_what_a_float_holds(feed: Coinbase) -> None:
    (row,) = rows(decode(feed, json.dumps(MATCH)).trades)
    assert row["trade_id"] == 2**53 + 1
    assert row["price"] == 0.00001305


def test_the_recorded_subscriptions_confirm_once_both_channels_are_there(
    coinbase_recording: Recording, recorded: Coinbase
) -> None:
    answers = [
        frame
        for frame, message in zip(coinbase_recording.frames, coinbase_recording.messages, strict=True)
        if message["type"] == "subscriptions"
    ]
    confirmed = [len(decode(recorded, answer).subscribed) for answer in answers]
    assert confirmed == [0, 0, 10]


def test_only_symbols_that_were_asked_for_count_as_subscribed(feed: Coinbase) -> None:
    products = ["SKL-BTC", "BTC-USD"]
    channels = [{"name": name, "product_ids": products} for name in ("matches", "ticker", "heartbeat")]
    decoded = decode(feed, json.dumps({"type": "subscriptions", "channels": channels}))
    assert decoded.subscribed == {"SKL-BTC"}
    assert decoded.ignored == 1


def test_a_refusal_is_told_in_the_words_of_the_exchange(feed: Coinbase) -> None:
    refusal = {"type": "error", "message": "Failed to subscribe", "reason": "XYZ is not a valid product"}
    decoded = decode(feed, json.dumps(refusal), '{"type":"error","message":"rate limit exceeded"}')
    assert decoded.errors == ("Failed to subscribe: XYZ is not a valid product", "rate limit exceeded")


def test_heartbeats_books_and_types_nobody_knows_are_ignored(feed: Coinbase) -> None:
    decoded = decode(
        feed,
        json.dumps(HEARTBEAT),
        '{"type":"l2update","product_id":"SKL-BTC","changes":[["buy","1","2"]]}',
        '{"type":"snapshot","bids":[],"asks":[]}',
        '{"type":"rfq_matches","price":{"nested":true},"trade_id":"x"}',
    )
    assert decoded.ignored == 4
    assert decoded.rejected == ()


def test_a_ticker_without_sizes_or_last_trade_has_nulls(feed: Coinbase) -> None:
    frame = without(TICKER, "best_bid_size", "best_ask_size", "price", "side", "last_size")
    (row,) = rows(decode(feed, frame).quotes)
    absent = {name for name, value in row.items() if value is None}
    assert absent == {"bid_size", "ask_size", "last_price", "last_size", "last_side"}


@pytest.mark.parametrize("nothing", ["", "0", "0.00", 0, None, "nan", "-1", "inf"])
def test_a_quote_without_a_bid_has_null_never_zero(feed: Coinbase, nothing: object) -> None:
    frame = changed(TICKER, best_bid=nothing, best_bid_size=nothing)
    (good, row) = rows(decode(feed, json.dumps(TICKER), frame).quotes)
    assert (good["bid_price"], good["bid_size"]) == (14.755, 2.5)
    assert (row["bid_price"], row["bid_size"], row["ask_price"]) == (None, None, 14.806)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"price": "0"}, "price is not a positive number"),
        ({"price": "nan"}, "price is not a positive number"),
        ({"price": "inf"}, "price is not a positive number"),
        ({"price": ""}, "missing required field `price`"),
        ({"price": None}, "missing required field `price`"),
        ({"price": "1e999"}, "out of range"),
        ({"size": "-1"}, "size is not a positive number"),
        ({"time": "0001-01-01T00:00:00.000000Z"}, "time is unreadable or not between 2000 and 2200"),
        ({"time": "soon"}, "time is unreadable or not between 2000 and 2200"),
        ({"product_id": "BTC-USD"}, "not a subscribed symbol"),
        ({"side": "SELL"}, "Invalid enum value"),
        ({"trade_id": 2**63}, "Expected `int` <= 9223372036854775807"),
        ({"trade_id": 1.5}, "Expected `int`"),
        ({"type": 5}, "Expected `str`"),
    ],
)
def test_a_bad_match_is_rejected_with_its_reason_and_the_next_is_kept(
    feed: Coinbase, fields: dict[str, Any], reason: str
) -> None:
    bad = changed(MATCH, **fields)
    decoded = decode(feed, json.dumps(HEARTBEAT), bad, json.dumps(MATCH))
    assert [frame.frame for frame in decoded.rejected] == [bad.encode()]
    assert reason in decoded.rejected[0].reason
    assert [row["ts_recv"] for row in rows(decoded.trades)] == [1_002]


def test_a_trade_whose_order_ids_are_not_uuids_is_kept_without_them(feed: Coinbase) -> None:
    frames = [changed(MATCH, maker_order_id="none"), without(MATCH, "taker_order_id"), json.dumps(MATCH)]
    kept = rows(decode(feed, *frames).trades)
    assert [row["maker_order_id"] is None for row in kept] == [True, False, False]
    assert [row["taker_order_id"] is None for row in kept] == [False, True, False]
    assert kept[2]["maker_order_id"] == uuid.UUID(str(MATCH["maker_order_id"])).bytes


def test_one_message_subscribes_all_symbols(feed: Coinbase) -> None:
    (message,) = feed.subscribe()
    assert json.loads(message) == {
        "type": "subscribe",
        "product_ids": ["BAND-GBP", "SKL-BTC"],
        "channels": ["matches", "ticker", "heartbeat"],
    }
    assert feed.url("wss://ws-feed.exchange.coinbase.com") == "wss://ws-feed.exchange.coinbase.com"
    assert FEEDS["coinbase"] is Coinbase
