"""The messages are those of https://bybit-exchange.github.io/docs/v5/ (the page is named), a few with levels or fields
added as the page describes them."""

import json
import random
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.bybit import Bybit
from actors.feeds.bybit.messages import trade_id
from actors.feeds.events import Events
from actors.feeds.feed import Channel, Refusal, RestRequest
from storage.schema import BROKEN, CHANGE, SNAPSHOT
from tests.actors.feeds.checks import (
    all_rows,
    cut_at_random,
    decode,
    decode_checked,
    rows,
    same_outcomes,
    survives,
    without_layouts,
)
from tests.actors.feeds.mutations import mutated

ENDPOINT = "wss://stream.bybit.com"
BTC = "linear:BTCUSDT"

#: websocket/public/trade; spot as it is sent: other keys in another order.
TRADE: dict[str, Any] = {
    "T": 1672304486865,
    "s": "BTCUSDT",
    "S": "Buy",
    "v": "0.001",
    "p": "16578.50",
    "L": "PlusTick",
    "i": "20f43950-d8dd-5b31-9112-a178eb6023af",
    "BT": False,
    "seq": 1783284617,
}
SPOT_TRADE: dict[str, Any] = {
    "i": "2290000000587387108",
    "T": 1735689653898,
    "p": "93611.04",
    "v": "0.000725",
    "S": "Sell",
    "s": "BTCUSDT",
    "BT": False,
}
#: websocket/public/orderbook
BOOK: dict[str, Any] = {
    "s": "BTCUSDT",
    "b": [["30247.20", "30.028"], ["30245.40", "0.224"], ["30240.00", "0"]],
    "a": [["30248.70", "0"], ["30249.30", "0.892"]],
    "u": 177400507,
    "seq": 66544703342,
}
TOP: dict[str, Any] = {
    "s": "BTCUSDT",
    "b": [["16493.50", "0.006"]],
    "a": [["16611.00", "0.029"]],
    "u": 18521288,
    "seq": 7961638724,
}
#: websocket/public/ticker
TICKER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "tickDirection": "PlusTick",
    "price24hPcnt": "0.017103",
    "lastPrice": "17216.00",
    "prevPrice24h": "16926.50",
    "highPrice24h": "17281.50",
    "lowPrice24h": "16915.00",
    "prevPrice1h": "17238.00",
    "markPrice": "17217.33",
    "indexPrice": "17227.36",
    "openInterest": "68744.761",
    "openInterestValue": "1183601235.91",
    "turnover24h": "1570383121.943499",
    "volume24h": "91705.276",
    "nextFundingTime": "1673280000000",
    "fundingRate": "-0.000212",
    "bid1Price": "17215.50",
    "bid1Size": "84.489",
    "ask1Price": "17216.00",
    "ask1Size": "83.020",
}
SPOT_TICKER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "lastPrice": "21109.77",
    "highPrice24h": "21426.99",
    "lowPrice24h": "20575",
    "prevPrice24h": "20704.93",
    "volume24h": "6780.866843",
    "turnover24h": "141946527.22907118",
    "price24hPcnt": "0.0196",
    "usdIndexPrice": "21120.2400136",
}
#: websocket/public/all-liquidation
LIQUIDATION: dict[str, Any] = {"T": 1739502302929, "s": "ROSEUSDT", "S": "Sell", "v": "20000", "p": "0.04499"}


def compact(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def trades(*items: dict[str, Any], name: str = "BTCUSDT", ts: int = 1672304486868) -> str:
    return compact({"topic": f"publicTrade.{name}", "type": "snapshot", "ts": ts, "data": items})


def spot_trades(*items: dict[str, Any], ts: int = 1735689653900) -> str:
    return compact({"topic": "publicTrade.BTCUSDT", "ts": ts, "type": "snapshot", "data": items})


def book(data: dict[str, Any] = BOOK, kind: str = "delta", depth: int = 200, name: str = "BTCUSDT", **more: Any) -> str:
    times = {"ts": 1687940967466, "data": data, "cts": 1687940967464}
    return compact({"topic": f"orderbook.{depth}.{name}", "type": kind, **times, **more})


def top(data: dict[str, Any] = TOP, **more: Any) -> str:
    return book(data, "snapshot", 1, **more)


def ticker(data: dict[str, Any], kind: str = "snapshot", name: str = "BTCUSDT") -> str:
    return compact({"topic": f"tickers.{name}", "type": kind, "data": data, "cs": 24987956059, "ts": 1673272861686})


def liquidations(*items: dict[str, Any], name: str = "ROSEUSDT") -> str:
    return compact({"topic": f"allLiquidation.{name}", "type": "snapshot", "ts": 1739502303204, "data": items})


def answer(number: object, text: str = "", success: bool = True, op: str = "subscribe") -> str:
    """ws/connect"""
    connection = "3cd84cb1-4d06-4a05-930a-2efe5fc70f0f"
    return compact({"success": success, "ret_msg": text, "conn_id": connection, "req_id": number, "op": op})


def subscribed(*symbols: str, channels: frozenset[Channel] | None = None) -> Bybit:
    feed = Bybit(symbols, ENDPOINT) if channels is None else Bybit(symbols, ENDPOINT, channels)
    feed.subscribe(symbols)
    return feed


@pytest.fixture
def feed() -> Bybit:
    return subscribed(BTC, "linear:ROSEUSDT")


@pytest.fixture
def spot() -> Bybit:
    return subscribed("spot:BTCUSDT")


def events_of(feed: Bybit, length: int) -> Events:
    return Events(np.arange(length), feed._symbols)


# Rows


def test_a_trade_of_a_contract_has_the_takers_side_and_bits_of_its_id(feed: Bybit) -> None:
    decoded = decode(feed, trades(TRADE, TRADE | {"S": "Sell", "i": "20f43950-d8dd-5b31-9112-a178eb6023b0"}))
    assert rows(decoded.trades)[0] == {
        "symbol": BTC,
        "ts_event": 1_672_304_486_865_000_000,
        "ts_recv": 1_000,
        "trade_id": uuid.UUID(TRADE["i"]).int >> 65,
        "price": 16578.5,
        "size": 0.001,
        "side": 0,
        "maker_order_id": None,
        "taker_order_id": None,
    }
    assert [row["side"] for row in rows(decoded.trades)] == [0, 1]


def test_a_trade_of_a_pair_has_its_number(spot: Bybit) -> None:
    decoded = decode(spot, spot_trades(SPOT_TRADE, SPOT_TRADE | {"i": "2290000000587387109", "seq": 7, "RPI": True}))
    found = [(row["symbol"], row["trade_id"], row["side"], row["price"]) for row in rows(decoded.trades)]
    assert found == [("spot:BTCUSDT", number, 1, 93611.04) for number in (2290000000587387108, 2290000000587387109)]


def test_an_id_that_is_no_number_gives_63_bits_that_are_always_the_same() -> None:
    assert trade_id("2290000000587387108") == 2290000000587387108
    assert trade_id(str(2**63 - 1)) == 2**63 - 1
    texts = ["20f43950-d8dd-5b31-9112-a178eb6023af", str(2**63), "007", "", "x", "\ud800", "٣", "1" * 5_000]
    numbers = [trade_id(text) for text in texts]
    assert len(set(numbers)) == len(texts)
    assert all(0 <= number < 2**63 for number in numbers)
    assert numbers == [trade_id(text) for text in texts]
    assert numbers[0] == 0x20F43950D8DD5B31 >> 1


def test_a_book_counts_by_one_and_any_snapshot_replaces_it(feed: Bybit) -> None:
    decoded = decode(
        feed,
        book(kind="snapshot"),
        book(BOOK | {"u": 177400508}),
        # After a restart of the service.
        book(BOOK | {"u": 1}, kind="snapshot"),
        book(BOOK | {"u": 2, "b": [], "a": []}),
    )
    found = [(row["kind"], row["sequence"], len(row["levels"])) for row in rows(decoded.books)]
    assert found == [(SNAPSHOT, 177400507, 5), (CHANGE, 177400508, 5), (SNAPSHOT, 1, 5), (CHANGE, 2, 0)]
    row = rows(decoded.books)[0]
    assert (row["symbol"], row["ts_event"]) == (BTC, 1_687_940_967_464_000_000)
    assert (row["first_sequence"], row["previous_sequence"], row["checksum"]) == (None, None, None)
    level = {"side": 0, "price": 30247.2, "size": 30.028, "price_decimals": 2, "size_decimals": 3}
    assert row["levels"][0] == level
    assert [(one["side"], one["size"]) for one in row["levels"][2:4]] == [(0, 0.0), (1, 0.0)]
    assert (feed.book_rules.chain, feed.book_rules.checksum, feed.book_rules.depth) == ("next", "none", 200)


def test_the_best_prices_are_quotes_in_both_categories(feed: Bybit, spot: Bybit) -> None:
    for one, symbol in ((feed, BTC), (spot, "spot:BTCUSDT")):
        full, half = rows(decode(one, top(), top(TOP | {"b": [], "seq": 7961638725})).quotes)
        assert full == {
            "symbol": symbol,
            "ts_event": 1_687_940_967_464_000_000,
            "ts_recv": 1_000,
            "sequence": 7961638724,
            "bid_price": 16493.5,
            "bid_size": 0.006,
            "ask_price": 16611.0,
            "ask_size": 0.029,
            "last_price": None,
            "last_size": None,
            "last_side": None,
        }
        assert (half["bid_price"], half["bid_size"], half["ask_price"]) == (None, None, 16611.0)


def test_a_message_without_the_time_of_the_matching_engine_has_its_own(feed: Bybit) -> None:
    message = {name: value for name, value in json.loads(top()).items() if name != "cts"}
    assert rows(decode(feed, compact(message)).quotes)[0]["ts_event"] == 1_687_940_967_466_000_000


def test_a_ticker_of_a_contract_says_what_has_changed_and_nothing_else(feed: Bybit) -> None:
    decoded = decode(
        feed,
        ticker(TICKER),
        ticker({"symbol": "BTCUSDT", "markPrice": "86716.30", "openInterestValue": "5250990127.10"}, "delta"),
        ticker({"symbol": "BTCUSDT", "ask1Price": "17216.50"}, "delta"),
        # A future has no funding.
        ticker(TICKER | {"fundingRate": "", "nextFundingTime": "", "openInterest": None}),
        ticker({"symbol": "BTCUSDT", "nextFundingTime": "0"}, "delta"),
    )
    first, mark, future = rows(decoded.derivatives)
    assert first == {
        "symbol": BTC,
        "ts_event": 1_673_272_861_686_000_000,
        "ts_recv": 1_000,
        "mark_price": 17217.33,
        "index_price": 17227.36,
        "open_interest": 68744.761,
        "funding_rate": -0.000212,
        "predicted_funding_rate": None,
        "next_funding_time": 1_673_280_000_000_000_000,
    }
    known = {name for name, value in mark.items() if value is not None}
    assert (mark["mark_price"], known) == (86716.3, {"symbol", "ts_event", "ts_recv", "mark_price"})
    assert (future["funding_rate"], future["next_funding_time"], future["open_interest"]) == (None, None, None)
    assert decoded.ignored == 2


def test_what_closes_a_long_position_is_a_sale(feed: Bybit) -> None:
    decoded = decode(feed, liquidations(LIQUIDATION, LIQUIDATION | {"S": "Buy"}), liquidations())
    assert [(row["side"], row["price"], row["size"]) for row in rows(decoded.liquidations)] == [
        (0, 0.04499, 20000.0),
        (1, 0.04499, 20000.0),
    ]
    assert rows(decoded.liquidations)[0]["symbol"] == "linear:ROSEUSDT"
    assert rows(decoded.liquidations)[0]["ts_event"] == 1_739_502_302_929_000_000
    assert decoded.ignored == 1


def test_topics_nobody_asked_for_are_ignored_whatever_they_hold(spot: Bybit) -> None:
    decoded = decode(spot, ticker(SPOT_TICKER), '{"topic":"kline.5.BTCUSDT","data":7}', book(depth=50), liquidations())
    assert decoded.ignored == 4
    only_trades = subscribed(BTC, channels=frozenset(("trades",)))
    assert decode(only_trades, book(), top(), ticker(TICKER), "}", trades(TRADE)).ignored == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (trades(TRADE | {"p": "0"}), "price is not a positive number"),
        (trades(TRADE | {"v": "nan"}), "size is not a positive number"),
        (trades(TRADE | {"p": ""}), "Expected `float`"),
        (trades(TRADE | {"T": 7}), "time is unreadable"),
        (trades(TRADE | {"S": "buy"}), "Invalid enum value"),
        (trades(TRADE | {"i": 7}), "Expected `str`"),
        (trades(TRADE, name="ETHUSDT"), "not a subscribed symbol"),
        (top(ts=0, cts=0), "time is unreadable"),
        (book(TOP, "delta", 1), "not a snapshot"),
        (top(TOP | {"b": [7]}), "Expected `array`"),
        (ticker(TICKER | {"markPrice": "x"}), "Expected `float`"),
        ('{"topic":"publicTrade.BTCUSDT"}', "truncated"),
        ("{}", "neither data nor an answer"),
        ("[]", "Expected `object`"),
        ("pong", "malformed"),
        ("", "truncated"),
    ],
)
def test_a_bad_frame_is_rejected_with_its_reason_and_the_next_is_kept(feed: Bybit, bad: str, reason: str) -> None:
    decoded = decode(feed, top(), bad, trades(TRADE))
    assert [one.frame for one in decoded.rejected] == [bad.encode()]
    assert reason in decoded.rejected[0].reason
    assert [row["ts_recv"] for row in rows(decoded.trades)] == [1_002]
    assert [row["ts_recv"] for row in rows(decoded.quotes)] == [1_000]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (book(BOOK | {"b": [["30247.20"]]}), "length"),
        (book(BOOK | {"b": [[30247.20, 1]]}), "Expected `str`"),
        (book(BOOK | {"b": [["x", "1"]]}), "a level's price"),
        (book(BOOK | {"a": [["1", "-1"]]}), "a level's price"),
        (book(BOOK | {"u": -1}), "Expected `int`"),
        (book(kind="partial"), "not a snapshot or delta"),
        (book()[:-20], "truncated"),
    ],
)
def test_an_unreadable_frame_about_a_book_breaks_that_book_in_its_place(feed: Bybit, bad: str, reason: str) -> None:
    decoded = decode(feed, book(), bad, book())
    assert [(row["kind"], row["symbol"]) for row in rows(decoded.books)] == [
        (CHANGE, BTC),
        (BROKEN, BTC),
        (CHANGE, BTC),
    ]
    assert [one.frame for one in decoded.rejected] == [bad.encode()]
    assert reason in decoded.rejected[0].reason


# History


def moment(number: int, happened: int, made: int) -> str:
    return trades(TRADE | {"T": happened, "i": str(number)}, ts=made)


NOW = 1_672_304_486_000


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("slow", [True, False])
def test_old_trades_of_the_first_message_are_history(together: bool, slow: bool) -> None:
    feed = subscribed(BTC, "linear:ETHUSDT")
    if slow:
        without_layouts(feed)
    old, young = TRADE | {"T": NOW - 42_000}, TRADE | {"T": NOW - 900, "i": "20f43951-d8dd-5b31-9112-a178eb6023af"}
    frames = [
        trades(old, young, ts=NOW),
        # Late, but not the first.
        trades(old, ts=NOW + 1),
        trades(young | {"s": "ETHUSDT"}, name="ETHUSDT", ts=NOW),
    ]
    decoded = [decode(feed, *frames)] if together else [decode(feed, frame) for frame in frames]
    history = [(row["symbol"], row["ts_event"]) for one in decoded for row in rows(one.history)]
    assert history == [(BTC, (NOW - 42_000) * 1_000_000)]
    live = [(row["symbol"], row["ts_event"] // 1_000_000 - NOW) for one in decoded for row in rows(one.trades)]
    assert live == [(BTC, -900), (BTC, -42_000), ("linear:ETHUSDT", -900)]


@pytest.mark.parametrize("made", [0, -1, 7, 2**62, 2**63, "1672304486868", None, 1.5, [[]]])
def test_a_first_message_that_does_not_say_when_it_was_made_is_live(made: Any) -> None:
    feed = subscribed(BTC)
    assert len(decode(feed, trades(TRADE, ts=made)).trades) == 1
    assert len(decode(feed, trades(TRADE | {"T": NOW - 42_000}, ts=NOW)).history) == 0


def test_a_symbol_subscribed_again_has_history_again(feed: Bybit) -> None:
    old = trades(TRADE | {"T": NOW - 42_000}, ts=NOW)
    assert len(decode(feed, trades(TRADE), old).history) == 0
    feed.unsubscribe([BTC])
    feed.subscribe([BTC])
    assert len(decode(feed, old).history) == 1


# Layouts

FRAMES_OF_TODAY = [
    trades(TRADE),
    trades(TRADE, {**{name: value for name, value in TRADE.items() if name != "seq"}, "RPI": False, "seq": 1783284618}),
    book(),
    book(kind="snapshot"),
    book(BOOK | {"b": [], "a": []}),
    top(),
    top(TOP | {"a": []}),
]
NEWER_SPOT_TRADE: dict[str, Any] = {
    **{name: SPOT_TRADE[name] for name in ("i", "T", "p", "v", "S")},
    **{"seq": 115115351336, "s": "BTCUSDT", "BT": False, "RPI": False},
}
SPOT_FRAMES_OF_TODAY = [
    spot_trades(SPOT_TRADE),
    spot_trades(SPOT_TRADE, NEWER_SPOT_TRADE),
    compact({"topic": "orderbook.200.BTCUSDT", "ts": NOW, "type": "delta", "data": BOOK, "cts": NOW}),
    compact({"topic": "orderbook.1.BTCUSDT", "ts": NOW, "type": "snapshot", "data": TOP, "cts": NOW}),
]


@pytest.mark.parametrize(
    ("symbols", "frames"), [((BTC, "linear:ROSEUSDT"), FRAMES_OF_TODAY), (("spot:BTCUSDT",), SPOT_FRAMES_OF_TODAY)]
)
def test_the_frames_of_today_follow_a_layout_and_read_the_same_without(
    symbols: Sequence[str], frames: list[str]
) -> None:
    encoded = [frame.encode() for frame in frames]
    feed = subscribed(*symbols)
    assert not len(feed._layouts.read(encoded, events_of(feed, len(encoded))).others)
    same_outcomes(feed, without_layouts(subscribed(*symbols)), encoded)


def all_frames(category: str) -> list[bytes]:
    if category == "spot":
        frames = [*SPOT_FRAMES_OF_TODAY, ticker(SPOT_TICKER)]
    else:
        frames = [*FRAMES_OF_TODAY, ticker(TICKER), ticker({"markPrice": "1"}, "delta"), liquidations(LIQUIDATION)]
    answers = [
        answer("1"),
        answer("2", "error:handler not found,topic:publicTrade.ROSEUSDT", False),
        answer("", "error:already subscribed,topic:publicTrade.BTCUSDT", False),
        answer("", "pong", op="ping"),
        '{"success":false,"ret_msg":"error:invalid op","conn_id":"x","req_id":"","op":"x"}',
    ]
    return [frame.encode() for frame in (*frames, *answers)]


SYMBOLS = {"linear": (BTC, "linear:ROSEUSDT"), "spot": ("spot:BTCUSDT",)}


@pytest.mark.parametrize("category", SYMBOLS)
def test_mutated_frames_raise_nothing_and_cost_no_memory(category: str) -> None:
    good = survives(subscribed(*SYMBOLS[category]), all_frames(category), seed=1)
    assert len(good.trades)
    assert len(good.books)


@pytest.mark.parametrize("category", SYMBOLS)
def test_mutated_frames_read_the_same_with_and_without_layouts(category: str) -> None:
    frames = list(mutated(all_frames(category), 5_000, seed=2))
    same_outcomes(subscribed(*SYMBOLS[category]), without_layouts(subscribed(*SYMBOLS[category])), frames)


@pytest.mark.parametrize("seed", range(3))
def test_frames_cut_anywhere_give_the_same_rows(seed: int) -> None:
    frames = all_frames("linear") * 5
    ts_recv = np.arange(len(frames)) + 1_000
    whole = all_rows([decode_checked(subscribed(*SYMBOLS["linear"]), frames, ts_recv)])
    assert all_rows(cut_at_random(subscribed(*SYMBOLS["linear"]), frames, ts_recv, seed)) == whole


# Subscriptions


def requests(messages: Sequence[bytes], operation: str = "subscribe") -> list[tuple[str, list[str]]]:
    """Number and topics of each request."""
    read = [json.loads(message) for message in messages]
    assert {one["op"] for one in read} <= {operation}
    return [(one.get("req_id", ""), one["args"]) for one in read]


def test_each_category_has_its_own_address_and_topics() -> None:
    linear, spot = Bybit([BTC], ENDPOINT), Bybit(["spot:BTCUSDT"], f"{ENDPOINT}/")
    assert linear.url == "wss://stream.bybit.com/v5/public/linear"
    assert spot.url == "wss://stream.bybit.com/v5/public/spot"
    common = ["publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.200.BTCUSDT"]
    assert requests(spot.subscribe(["spot:BTCUSDT"])) == [("1", common)]
    assert requests(linear.subscribe([BTC])) == [("1", [*common, "tickers.BTCUSDT", "allLiquidation.BTCUSDT"])]
    assert linear.greet() == []
    assert json.loads(linear.ping() or b"") == {"op": "ping"}


def test_symbols_are_grouped_by_category_and_limit_and_impossible_ones_named() -> None:
    linear, spot = ([f"{category}:A{number}USDT" for number in range(150)] for category in ("linear", "spot"))
    mixed = [symbol for pair in zip(linear, spot, strict=True) for symbol in pair]
    groups = Bybit.groups([*mixed, linear[0]])
    assert [group[0].partition(":")[0] for group in groups] == ["spot", "spot", "linear", "linear"]
    assert [len(group) for group in groups] == [100, 50, 100, 50]
    assert {symbol for group in groups for symbol in group} == set(mixed)
    good = ["linear:BTC-25DEC26", "linear:1000PEPEUSDT", "linear:BTCPERP"]
    assert Bybit.groups(good) == [tuple(good)]
    for bad in (
        "BTCUSDT",
        "inverse:BTCUSD",
        "spot:btcusdt",
        "spot:",
        "linear:BTC/USDT",
        "",
        f"spot:{'A' * 25}",
        "spot:A B",
    ):
        with pytest.raises(ValueError, match="bybit cannot have the symbol"):
            Bybit.groups([BTC, bad])


def test_a_request_has_ten_topics_and_a_connection_21_000_characters() -> None:
    symbols = [f"linear:{'A' * 22}{number:02}" for number in range(100)]
    (group,) = Bybit.groups(symbols)
    asked = requests(Bybit(group, ENDPOINT).subscribe(group))
    assert {len(topics) for _, topics in asked} == {10}
    assert len({number for number, _ in asked}) == 50
    topics = [topic for _, topics in asked for topic in topics]
    assert len(set(topics)) == 500
    assert len(compact(topics)) < 21_000


def test_a_symbol_is_subscribed_when_all_its_requests_are_granted() -> None:
    symbols = [f"linear:A{number}USDT" for number in range(3)]
    feed = Bybit(symbols, ENDPOINT)
    assert len(feed.subscribe(symbols)) == 2
    first, second = decode(feed, answer("1")), decode(feed, answer("2"), answer("2"), answer("99"))
    assert first.subscribed == {"linear:A0USDT", "linear:A1USDT"}
    assert second.subscribed == {"linear:A2USDT"}
    assert (first.ignored, second.ignored) == (1, 3)
    assert feed.subscribe(symbols) == [], "what is granted is not asked for again"
    assert len(feed.subscribe(["linear:NEWUSDT"])) == 1


def test_an_unknown_symbol_is_refused_by_name_and_the_others_of_its_batch_are_asked_for_again() -> None:
    feed = Bybit([BTC, "linear:NOPEUSDT"], ENDPOINT)
    feed.subscribe([BTC, "linear:NOPEUSDT"])
    text = "error:handler not found,topic:publicTrade.NOPEUSDT"
    decoded = decode(feed, answer("1", text, success=False))
    assert decoded.refused == (Refusal(frozenset({"linear:NOPEUSDT"}), text),)
    ((number, topics),) = requests(decoded.replies)
    assert topics == [
        f"{topic}.BTCUSDT" for topic in ("publicTrade", "orderbook.1", "orderbook.200", "tickers", "allLiquidation")
    ]
    assert decode(feed, answer(number)).subscribed == {BTC}


@pytest.mark.parametrize("text", ["Invalid symbol :[publicTrade.NOPEUSDT]", "Invalid symbol :[NOPEUSDT]"])
@pytest.mark.parametrize("number", ["1", ""])
def test_the_words_of_spot_are_understood_too(text: str, number: str) -> None:
    symbols = ["spot:BTCUSDT", "spot:NOPEUSDT"]
    feed = Bybit(symbols, ENDPOINT)
    feed.subscribe(symbols)
    decoded = decode(feed, answer(number, text, success=False))
    if text == "Invalid symbol :[NOPEUSDT]" and not number:
        # Nothing tells which request was refused.
        assert decoded.refused == (Refusal(frozenset(), text),)
    else:
        assert decoded.refused == (Refusal(frozenset({"spot:NOPEUSDT"}), text),)
        assert [len(topics) for _, topics in requests(decoded.replies)] == [3]


def test_a_refusal_that_names_no_topic_is_found_out_one_topic_at_a_time() -> None:
    symbols = ["spot:BTCUSDT", "spot:NOPEUSDT"]
    feed = Bybit(symbols, ENDPOINT)
    feed.subscribe(symbols)
    decoded = decode(feed, answer("1", "Params Error", success=False))
    assert (decoded.refused, decoded.ignored) == ((), 1)
    single = requests(decoded.replies)
    assert [len(topics) for _, topics in single] == [1] * 6
    answers = [answer(number, "Params Error", success="NOPE" not in topics[0]) for number, topics in single]
    after = decode(feed, *answers)
    assert after.subscribed == {"spot:BTCUSDT"}
    assert {refusal.symbols for refusal in after.refused} == {frozenset({"spot:NOPEUSDT"})}
    assert after.replies == ()


def test_a_contract_can_do_without_liquidations() -> None:
    feed = Bybit([BTC], ENDPOINT)
    feed.subscribe([BTC])
    decoded = decode(feed, answer("1", "error:handler not found,topic:allLiquidation.BTCUSDT", success=False))
    assert [refusal.symbols for refusal in decoded.refused] == [frozenset()]
    ((number, topics),) = requests(decoded.replies)
    assert len(topics) == 4
    assert decode(feed, answer(number)).subscribed == {BTC}


def test_what_is_subscribed_already_is_no_reason_to_give_up(feed: Bybit) -> None:
    text = "error:already subscribed,topic:publicTrade.BTCUSDT"
    decoded = decode(feed, answer("1", text, success=False))
    assert (decoded.refused, decoded.ignored) == ((), 1)
    ((number, topics),) = requests(decoded.replies)
    assert len(topics) == 9
    assert decode(feed, answer(number)).subscribed == {BTC, "linear:ROSEUSDT"}


class Exchange:
    """Answers as Bybit does: a request with a topic it cannot grant is refused, naming the first of them. Topics
    before that one may have been granted all the same."""

    def __init__(self, unknown: set[str], names: bool, keeps: bool) -> None:
        self.unknown, self.names, self.keeps = unknown, names, keeps
        self.granted: set[str] = set()

    def take(self, message: bytes) -> str:
        request = json.loads(message)
        assert len(request["args"]) <= 10
        for place, topic in enumerate(request["args"]):
            no = topic.rpartition(".")[2] in self.unknown
            if no or topic in self.granted:
                if self.keeps:
                    self.granted.update(request["args"][:place])
                why = "error:handler not found" if no else "error:already subscribed"
                return answer(request["req_id"], f"{why},topic:{topic}" if self.names else "Params Error", False)
        self.granted.update(request["args"])
        return answer(request["req_id"])


@settings(max_examples=60, deadline=None)
@given(
    good=st.integers(0, 8), bad=st.integers(0, 5), names=st.booleans(), keeps=st.booleans(), seed=st.integers(0, 1_000)
)
def test_whatever_is_refused_all_others_end_up_subscribed(
    good: int, bad: int, names: bool, keeps: bool, seed: int
) -> None:
    existing, unknown = (
        [f"linear:{kind}{number}USDT" for number in range(count)] for kind, count in (("A", good), ("N", bad))
    )
    # An exchange that names nothing cannot have granted something, or asking for it again would be refused for ever.
    exchange = Exchange({symbol.partition(":")[2] for symbol in unknown}, names, keeps and names)
    symbols = existing + unknown
    random.Random(seed).shuffle(symbols)
    feed = Bybit(symbols, ENDPOINT)
    left = feed.subscribe(symbols)
    granted: set[str] = set()
    refused: set[str] = set()
    sent = 0
    while left:
        sent += len(left)
        decoded = decode(feed, *[exchange.take(message) for message in left])
        granted |= decoded.subscribed
        refused |= {symbol for refusal in decoded.refused for symbol in refusal.symbols}
        left = list(decoded.replies)
    assert granted == set(existing)
    assert refused == set(unknown)
    assert sent <= 5 * len(symbols) * 3 + 10


def test_other_errors_are_told_in_the_words_of_the_exchange(feed: Bybit) -> None:
    decoded = decode(
        feed,
        answer("", "error:invalid op", success=False, op="nope"),
        answer("77", "x" * 999, success=False),
        answer("", "Not found", success=False, op="unsubscribe"),
        answer("", "pong", op="ping"),
        '{"args":["1672916271846"],"op":"pong"}',
    )
    assert [refusal.symbols for refusal in decoded.refused] == [frozenset(), frozenset()]
    assert decoded.refused[0].reason == "error:invalid op"
    assert len(decoded.refused[1].reason) == 300
    assert decoded.ignored == 3


def test_requests_nobody_answers_are_forgotten_in_the_end() -> None:
    feed = subscribed(BTC)
    for _ in range(2_000):
        feed.renew_book(BTC)
    assert len(feed._requests) == 1_000


def test_a_book_is_renewed_by_subscribing_to_it_again(feed: Bybit) -> None:
    ended, begun = feed.renew_book(BTC)
    assert requests([ended], "unsubscribe") == [("", ["orderbook.200.BTCUSDT"])]
    ((number, topics),) = requests([begun])
    assert topics == ["orderbook.200.BTCUSDT"]
    decoded = decode(feed, answer("", op="unsubscribe"), answer(number), book(kind="snapshot"))
    assert (decoded.ignored, len(decoded.books)) == (2, 1)
    assert feed.snapshot_request(BTC) is None
    with pytest.raises(ValueError, match="WebSocket"):
        feed.read_snapshot(BTC, b"{}", 0)


def test_what_still_comes_of_ended_symbols_is_left_out(feed: Bybit) -> None:
    ((_, topics),) = requests(feed.unsubscribe([BTC]), "unsubscribe")
    assert len(topics) == 5
    late = [trades(TRADE), top(), book(), ticker(TICKER)]
    decoded = decode(feed, *late, answer("1"), left_out=4)
    assert decoded.subscribed == {"linear:ROSEUSDT"}
    assert not any(len(getattr(decoded, name)) for name in ("trades", "quotes", "books", "derivatives"))
    assert feed.unsubscribe([BTC]) == []
    assert len(feed.subscribe([BTC])) == 1


# Instruments

#: market/instrument
LINEAR_LIST: dict[str, Any] = {
    "retCode": 0,
    "retMsg": "OK",
    "result": {
        "category": "linear",
        "list": [
            {
                "symbol": "BTCUSDT",
                "contractType": "LinearPerpetual",
                "status": "Trading",
                "baseCoin": "BTC",
                "quoteCoin": "USDT",
                "launchTime": "1585526400000",
                "deliveryTime": "0",
                "deliveryFeeRate": "",
                "priceScale": "2",
                "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
                "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
                "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001"},
                "unifiedMarginTrade": True,
                "fundingInterval": 480,
                "settleCoin": "USDT",
            },
            {
                "symbol": "BTC-25DEC26",
                "contractType": "LinearFutures",
                "status": "Settling",
                "baseCoin": "BTC",
                "quoteCoin": "USDC",
                "deliveryTime": "1798185600000",
                "priceFilter": {"tickSize": "0.5"},
                "lotSizeFilter": {"qtyStep": "0.001"},
                "settleCoin": "USDC",
            },
        ],
        "nextPageCursor": "",
    },
    "time": 1672712495660,
}
SPOT_LIST: dict[str, Any] = {
    "retCode": 0,
    "retMsg": "OK",
    "result": {
        "category": "spot",
        "list": [
            {
                "symbol": "BTCUSDT",
                "baseCoin": "BTC",
                "quoteCoin": "USDT",
                "innovation": "0",
                "status": "Trading",
                "marginTrading": "utaOnly",
                "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.00000001"},
                "priceFilter": {"tickSize": "0.01"},
            }
        ],
    },
}


def test_the_lists_of_the_categories_the_symbols_have_are_asked_for() -> None:
    path = "/v5/market/instruments-info?category="
    assert Bybit.instrument_requests([BTC]) == [RestRequest(f"{path}linear&limit=1000")]
    assert Bybit.instrument_requests([BTC, "spot:BTCUSDT", "spot:ETHUSDT"]) == [
        RestRequest(f"{path}spot&limit=1000"),
        RestRequest(f"{path}linear&limit=1000"),
    ]


def test_instruments_have_normalised_names_units_and_steps() -> None:
    bodies = [compact(one).encode() for one in (SPOT_LIST, LINEAR_LIST)]
    pair, perpetual, future = Bybit.read_instruments(bodies).to_pylist()
    assert (pair["symbol"], pair["instrument"], pair["kind"]) == ("spot:BTCUSDT", "BTC-USDT", "spot")
    assert (pair["price_increment"], pair["size_increment"], pair["size_decimals"]) == (0.01, 1e-6, 6)
    assert (pair["contract_size"], pair["settle"], pair["active"]) == (None, None, True)
    assert (perpetual["symbol"], perpetual["instrument"]) == (BTC, "BTC-USDT-PERPETUAL")
    assert (perpetual["kind"], perpetual["inverse"], perpetual["expiry"]) == ("perpetual", False, None)
    assert (perpetual["price_increment"], perpetual["price_decimals"], perpetual["size_decimals"]) == (0.1, 1, 3)
    assert (perpetual["contract_size"], perpetual["contract_currency"], perpetual["settle"]) == (1.0, "BTC", "USDT")
    assert (future["symbol"], future["instrument"]) == ("linear:BTC-25DEC26", "BTC-USDC-20261225")
    assert (future["expiry"], future["active"]) == (1_798_185_600 * 10**9, False)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"retCode":10001,"retMsg":"params error","result":{}}', r"params error \(code 10001\)"),
        (b'{"retCode":0,"result":{"category":"option","list":[]}}', "not a category of ours"),
        (b"", "truncated"),
        (b"[" * 100_000, "not a list of instruments"),
        (b'{"retCode":0,"result":{"category":"spot","list":[{"symbol":7}]}}', "Expected `str`"),
    ],
)
def test_an_unreadable_list_of_instruments_is_an_error_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Bybit.read_instruments([body])
