import json
from typing import Any

import pytest

from actors.feeds import FEEDS
from actors.feeds.binance import Binance
from tests.actors.feeds.checks import all_rows, cut_at_random, decode, decode_checked, rows
from tests.actors.feeds.conftest import Recording

AGGREGATE = {
    "e": "aggTrade",
    "E": 1633998523963,
    "s": "NKNUSDT",
    "a": 9007199254740993,
    "p": "0.35280000",
    "q": "58.00000000",
    "f": 19862790,
    "l": 19862790,
    "T": 1633998523963,
    "m": False,
    "M": True,
}
SINGLE = {
    "e": "trade",
    "E": 1633998523963,
    "s": "NKNUSDT",
    "t": 12345,
    "p": "0.001",
    "q": "100",
    "b": 88,
    "a": 50,
    "T": 1633998523964,
    "m": True,
    "M": True,
}
QUOTE = {"u": 499869768, "s": "NKNUSDT", "b": "0.35210000", "B": "672.00", "a": "0.35260000", "A": "3199.00"}


@pytest.fixture
def feed() -> Binance:
    return Binance(["BTCUSDT", "NKNUSDT"])


@pytest.fixture
def recorded(binance_recording: Recording) -> Binance:
    return Binance(sorted({message["data"]["s"] for message in binance_recording.messages}))


def frame(data: dict[str, Any], stream: str | None = None, **fields: Any) -> str:
    channel = data.get("e", "bookTicker")
    return json.dumps({"stream": stream or f"nknusdt@{channel}", "data": data | fields})


def test_the_recording_reads_as_a_plain_reading_does(binance_recording: Recording, recorded: Binance) -> None:
    trades, quotes = [], []
    for message, received in zip(binance_recording.messages, binance_recording.ts_recv.tolist(), strict=True):
        data = message["data"]
        if message["stream"].endswith("@aggTrade"):
            trades.append(
                {
                    "symbol": data["s"],
                    "ts_event": data["T"] * 1_000_000,
                    "ts_recv": received,
                    "trade_id": data["a"],
                    "price": float(data["p"]),
                    "size": float(data["q"]),
                    "side": int(data["m"]),
                    "maker_order_id": None,
                    "taker_order_id": None,
                }
            )
        if message["stream"].endswith("@bookTicker"):
            quotes.append(
                {
                    "symbol": data["s"],
                    "ts_event": received,
                    "ts_recv": received,
                    "sequence": data["u"],
                    "bid_price": float(data["b"]),
                    "bid_size": float(data["B"]),
                    "ask_price": float(data["a"]),
                    "ask_size": float(data["A"]),
                    "last_price": None,
                    "last_size": None,
                    "last_side": None,
                }
            )
    decoded = decode_checked(recorded, binance_recording.frames, binance_recording.ts_recv)
    assert rows(decoded.trades) == trades
    assert rows(decoded.quotes) == quotes
    assert (len(trades), len(quotes), len(decoded.history)) == (2, 84, 0)
    assert not decoded.rejected
    assert not decoded.errors
    assert decoded.ignored == 177 + 2
    assert decoded.subscribed == frozenset()


@pytest.mark.parametrize("seed", range(3))
def test_the_recording_cut_anywhere_gives_the_same_rows(
    binance_recording: Recording, recorded: Binance, seed: int
) -> None:
    frames, ts_recv = binance_recording.frames, binance_recording.ts_recv
    whole = all_rows([decode_checked(recorded, frames, ts_recv)])
    assert all_rows(cut_at_random(recorded, frames, ts_recv, seed)) == whole
    single = [decode_checked(recorded, frames[at : at + 1], ts_recv[at : at + 1]) for at in range(len(frames))]
    assert all_rows(single) == whole


def test_single_and_aggregate_trades_keep_the_order_of_their_frames(feed: Binance) -> None:
    decoded = decode(feed, frame(SINGLE), frame(AGGREGATE), frame(QUOTE), frame(SINGLE, t=12346))
    assert [row["trade_id"] for row in rows(decoded.trades)] == [12345, 2**53 + 1, 12346]
    assert [row["ts_recv"] for row in rows(decoded.trades)] == [1_000, 1_001, 1_003]


def test_the_taker_sold_when_the_buyer_was_the_maker(feed: Binance) -> None:
    decoded = decode(feed, frame(AGGREGATE, m=True), frame(AGGREGATE, m=False))
    assert [row["side"] for row in rows(decoded.trades)] == [1, 0]


def test_other_streams_are_ignored_whatever_they_hold(feed: Binance) -> None:
    decoded = decode(
        feed,
        frame(QUOTE, stream="nknusdt@depth@100ms"),
        frame({"e": "kline"}, stream="nknusdt@kline_1m"),
        frame({"e": "24hrTicker"}, stream="unknown@ticker"),
        '{"stream":"!miniTicker@arr","data":[]}',
        '{"e":"serverShutdown","E":1}',
    )
    assert decoded.ignored == 5


def test_a_granted_request_confirms_all_symbols(feed: Binance) -> None:
    decoded = decode(feed, '{"result":null,"id":1}')
    assert decoded.subscribed == {"BTCUSDT", "NKNUSDT"}
    assert decoded.ignored == 1
    assert decode(feed, '{"result":["a@trade"],"id":2}').subscribed == frozenset()


def test_a_refusal_is_told_in_the_words_of_the_exchange(feed: Binance) -> None:
    decoded = decode(feed, '{"error":{"code":2,"msg":"Invalid request"},"id":1}', '{"code":3,"msg":"Invalid JSON"}')
    assert decoded.errors == ("Invalid request (code 2)", "Invalid JSON (code 3)")
    assert decoded.subscribed == frozenset()


@pytest.mark.parametrize("nothing", ["", "0", "0.00000000", 0, None, "nan", "-1"])
def test_a_quote_without_a_bid_has_null_never_zero(feed: Binance, nothing: object) -> None:
    good, row = rows(decode(feed, frame(QUOTE), frame(QUOTE, b=nothing, B=nothing)).quotes)
    assert (good["bid_price"], good["bid_size"]) == (0.3521, 672.0)
    assert (row["bid_price"], row["bid_size"], row["ask_price"]) == (None, None, 0.3526)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame(AGGREGATE, p="0"), "price is not a positive number"),
        (frame(AGGREGATE, q="nan"), "size is not a positive number"),
        (frame(AGGREGATE, q=""), "Expected `float`"),
        (frame(AGGREGATE, T=0), "time is unreadable or not between 2000 and 2200"),
        (frame(AGGREGATE, T=1633998523963000), "time is unreadable or not between 2000 and 2200"),
        (frame(AGGREGATE, a=-1), "Expected `int` >= 0"),
        (frame(AGGREGATE, stream="ethusdt@aggTrade"), "not a subscribed symbol"),
        (frame(QUOTE, stream="ethusdt@bookTicker"), "not a subscribed symbol"),
        (frame(QUOTE, u="x"), "Expected `int`"),
        (frame(QUOTE, stream="nknusdt@trade"), "missing required field `e`"),
        ('{"stream":"nknusdt@trade","data":7}', "Expected `object`"),
        ('{"stream":"nknusdt@trade"}', "neither a stream nor an answer"),
        ("{}", "neither a stream nor an answer"),
        ("[]", "Expected `object`"),
        ("", "truncated"),
    ],
)
def test_a_bad_frame_is_rejected_with_its_reason_and_the_next_is_kept(feed: Binance, bad: str, reason: str) -> None:
    decoded = decode(feed, frame(QUOTE), bad, frame(AGGREGATE))
    assert [rejected.frame for rejected in decoded.rejected] == [bad.encode()]
    assert reason in decoded.rejected[0].reason
    assert [row["ts_recv"] for row in rows(decoded.trades)] == [1_002]
    assert [row["ts_recv"] for row in rows(decoded.quotes)] == [1_000]


def test_the_address_subscribes_trades_and_quotes_of_all_symbols(feed: Binance) -> None:
    streams = "btcusdt@aggTrade/btcusdt@bookTicker/nknusdt@aggTrade/nknusdt@bookTicker"
    assert feed.url("wss://stream.binance.com:9443") == f"wss://stream.binance.com:9443/stream?streams={streams}"
    assert feed.subscribe() == []
    assert FEEDS["binance"] is Binance
