"""Messages are those of Kraken's documentation: the examples of the pages named beside them, on one line as they come,
or with the text of numbers as the exchange writes it."""

import json
from typing import Any

import numpy as np
import pytest

from actors.feeds.events import Events
from actors.feeds.feed import ALL_CHANNELS, Channel, Refusal
from actors.feeds.kraken import Kraken
from storage.schema import BROKEN, BUY, CHANGE, SELL, SNAPSHOT
from tests.actors.feeds.checks import all_rows, decode, rows, same_outcomes, survives, without_layouts
from tests.actors.feeds.mutations import mutated

#: https://docs.kraken.com/api/docs/websocket-v2/book
SNAPSHOT_OF_BOOK = (
    '{"channel":"book","type":"snapshot","data":[{"symbol":"MATIC/USD",'
    '"bids":[{"price":0.5666,"qty":4831.75496356},{"price":0.5665,"qty":6658.22734739}],'
    '"asks":[{"price":0.5668,"qty":4410.79769741},{"price":0.5669,"qty":4655.40412487}],"checksum":2439117997}]}'
)
UPDATE = (
    '{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],'
    '"asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
)
#: https://docs.kraken.com/api/docs/guides/spot-ws-book-v2: full precision, and a size of 0 removes the level.
PRECISE = (
    '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":45283.0,"qty":0.10000000}],'
    '"asks":[{"price":45285.2,"qty":0.00000000}],"checksum":3310070434,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
)
#: https://docs.kraken.com/api/docs/websocket-v2/trade
TRADES = (
    '{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,'
    '"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"},'
    '{"symbol":"MATIC/USD","side":"buy","price":0.5118,"qty":1136.19677815,"ord_type":"limit","trade_id":4665907,'
    '"timestamp":"2023-09-25T07:49:37.708707Z"}]}'
)
TRADES_BEFORE = (
    '{"channel":"trade","type":"snapshot","data":[{"symbol":"MATIC/USD","side":"buy","price":0.5147,"qty":6423.46326,'
    '"ord_type":"limit","trade_id":4665846,"timestamp":"2023-09-25T07:48:36.925533Z"}]}'
)
#: https://docs.kraken.com/api/docs/websocket-v2/ticker, and as
#: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/ticker has it now, with its time.
TICKER = (
    '{"channel":"ticker","type":"update","data":[{"symbol":"MATIC/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,'
    '"ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,'
    '"change":-0.00017,"change_pct":-0.17}]}'
)
TICKER_NOW = TICKER.replace("-0.17}", '-0.17,"timestamp":"2023-09-25T09:04:31.742648Z"}')
#: https://docs.kraken.com/api/docs/websocket-v2/heartbeat
HEARTBEAT = '{"channel":"heartbeat"}'
#: https://docs.kraken.com/api/docs/websocket-v2/status
STATUS = (
    '{"channel":"status","data":[{"api_version":"v2","connection_id":13834774380200032777,"system":"online",'
    '"version":"2.0.0"}],"type":"update"}'
)
#: https://docs.kraken.com/api/docs/websocket-v2/book
ACKNOWLEDGED = (
    '{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"MATIC/USD"},"success":true,'
    '"time_in":"2023-10-06T17:35:55.219022Z","time_out":"2023-10-06T17:35:55.219067Z"}'
)
REFUSED = (
    '{"error":"Currency pair not supported MATIC/USD","method":"subscribe","success":false,"symbol":"MATIC/USD",'
    '"time_in":"2023-10-06T17:35:55.219022Z","time_out":"2023-10-06T17:35:55.219067Z"}'
)
#: https://docs.kraken.com/api/docs/websocket-v2/ping
PONG = '{"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z","time_out":"2023-09-24T14:10:23.799703Z"}'
ALL = [SNAPSHOT_OF_BOOK, UPDATE, PRECISE, TRADES, TRADES_BEFORE, TICKER, TICKER_NOW, HEARTBEAT, STATUS, ACKNOWLEDGED,
       REFUSED, PONG]  # fmt: skip


def new_feed(*symbols: str, channels: frozenset[Channel] = ALL_CHANNELS) -> Kraken:
    feed = Kraken(symbols or ("BTC/USD", "MATIC/USD"), "wss://ws.kraken.com/v2", channels)
    feed.subscribe(symbols or ("BTC/USD", "MATIC/USD"))
    return feed


@pytest.fixture(params=[True, False], ids=["layouts", "json"])
def feed(request: pytest.FixtureRequest) -> Kraken:
    return new_feed() if request.param else without_layouts(new_feed())


def level(side: int, price: float, size: float, price_decimals: int, size_decimals: int) -> dict[str, Any]:
    return {
        "side": side, "price": price, "size": size, "price_decimals": price_decimals, "size_decimals": size_decimals
    }  # fmt: skip


def test_books_have_their_checksums_and_the_digits_they_are_made_of(feed: Kraken) -> None:
    snapshot, update, precise = rows(decode(feed, SNAPSHOT_OF_BOOK, UPDATE, PRECISE).books)
    assert (snapshot["kind"], snapshot["checksum"], snapshot["ts_event"]) == (SNAPSHOT, 2439117997, 1_000)
    assert [one["price"] for one in snapshot["levels"]] == [0.5666, 0.5665, 0.5668, 0.5669]
    assert [one["side"] for one in snapshot["levels"]] == [0, 0, 1, 1]
    assert (update["kind"], update["checksum"]) == (CHANGE, 2114181697)
    assert update["ts_event"] == 1_696_613_755_440_295_000
    assert update["levels"] == [level(0, 0.5657, 1098.3947558, 4, 7)]
    assert precise["levels"] == [level(0, 45283.0, 0.1, 1, 8), level(1, 45285.2, 0.0, 1, 8)]


def test_trades_and_those_from_before_the_subscription(feed: Kraken) -> None:
    decoded = decode(feed, TRADES_BEFORE, TRADES)
    (before,) = rows(decoded.history)
    assert (before["trade_id"], before["side"], before["price"]) == (4665846, BUY, 0.5147)
    first, second = rows(decoded.trades)
    assert (first["trade_id"], first["side"], first["price"], first["size"]) == (4665906, SELL, 0.5117, 40.0)
    assert (second["trade_id"], second["side"], second["ts_event"]) == (4665907, BUY, 1_695_628_177_708_707_000)
    assert first["ts_recv"] == second["ts_recv"] == 1_001


def test_tickers_with_and_without_a_time(feed: Kraken) -> None:
    old, new = rows(decode(feed, TICKER, TICKER_NOW).quotes)
    assert old == {
        "symbol": "MATIC/USD", "ts_event": 1_000, "ts_recv": 1_000, "sequence": 1_000, "bid_price": 0.10025,
        "bid_size": 740.0, "ask_price": 0.10036, "ask_size": 1361.44813783, "last_price": 0.10035, "last_size": None,
        "last_side": None,
    }  # fmt: skip
    assert new["ts_event"] == 1_695_632_671_742_648_000


def test_a_ticker_without_a_bid_has_null_never_zero(feed: Kraken) -> None:
    for nothing in ("null", "0", "0.0"):
        frame = TICKER.replace('"bid":0.10025,"bid_qty":740.0', f'"bid":{nothing},"bid_qty":{nothing}')
        (quote,) = rows(decode(feed, frame).quotes)
        assert (quote["bid_price"], quote["bid_size"], quote["ask_price"]) == (None, None, 0.10036)


@pytest.mark.parametrize(
    "frame", [SNAPSHOT_OF_BOOK, UPDATE, PRECISE, TRADES, TRADES_BEFORE, TICKER, TICKER_NOW, HEARTBEAT]
)
def test_frames_as_they_come_follow_a_layout(frame: str) -> None:
    feed = new_feed()
    assert not len(feed._layouts.read([frame.encode()], Events(np.array([1_000]), feed._symbols)).others)


def test_every_documented_message_reads_the_same_with_spaces_and_in_another_order() -> None:
    messages = [json.loads(message) for message in ALL]
    # Numbers lose the zeros at their ends in this.
    plain = [json.dumps(message, separators=(",", ":")) for message in messages]
    turned = [json.dumps(dict(reversed(message.items()))) for message in messages]
    fast, slow = decode(new_feed(), *plain), decode(new_feed(), *turned)
    assert all_rows([fast]) == all_rows([slow])
    assert (fast.refused, fast.ignored, fast.subscribed) == (slow.refused, slow.ignored, slow.subscribed)


def test_what_is_asked_for() -> None:
    trade, ticker, book = (json.loads(message)["params"] for message in new_feed().subscribe(["BTC/USD"]))
    assert trade == {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}
    assert ticker == {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "bbo"}
    assert book == {"channel": "book", "symbol": ["BTC/USD"], "depth": 1000}


def test_answers_as_they_are_documented() -> None:
    feed = new_feed("MATIC/USD", channels=frozenset(("book",)))
    decoded = decode(feed, STATUS, ACKNOWLEDGED, HEARTBEAT, PONG)
    assert decoded.subscribed == {"MATIC/USD"}
    assert decoded.ignored == 4
    assert decode(feed, REFUSED).refused == (
        Refusal(frozenset({"MATIC/USD"}), "Currency pair not supported MATIC/USD"),
    )
    unnamed = '{"error":"Exceeded msg rate","success":false}'
    assert decode(feed, unnamed).refused == (Refusal(frozenset(), "Exceeded msg rate"),)
    late = '{"method":"unsubscribe","error":"Subscription Not Found","success":false}'
    assert decode(feed, late).ignored == 1


def test_one_bad_trade_of_a_message_costs_itself_only(feed: Kraken) -> None:
    decoded = decode(feed, TRADES.replace('"sell"', '"both"'), TRADES.replace("0.5117", "0"), TRADES)
    assert [row["trade_id"] for row in rows(decoded.trades)] == [4665907, 4665907, 4665906, 4665907]
    reasons = [one.reason for one in decoded.rejected]
    assert "Invalid enum value" in reasons[0]
    assert reasons[1] == "price is not a positive number"


@pytest.mark.parametrize(
    ("frame", "everything"),
    [
        (UPDATE.replace("0.5657", '"0.5657"'), False),
        (UPDATE.replace("0.5657", "-1"), False),
        (UPDATE.replace("0.5657", "null"), False),
        (UPDATE.replace("2114181697", "4294967296"), False),
        (UPDATE.replace('"update"', '"part"'), False),
        (UPDATE.replace('"asks":[]', '"asks":{}'), False),
        (UPDATE.replace('"MATIC/USD"', "5"), True),
        (UPDATE[:-20], False),
        (UPDATE[10:], True),
        ("", True),
    ],
)
def test_an_unreadable_change_breaks_the_books_it_may_have_been_for(feed: Kraken, frame: str, everything: bool) -> None:
    decoded = decode(feed, PRECISE, frame, UPDATE)
    assert [one.frame for one in decoded.rejected] == [frame.encode()]
    books = rows(decoded.books)
    broken = {book["symbol"] for book in books if book["kind"] == BROKEN}
    assert broken == ({"BTC/USD", "MATIC/USD"} if everything else {"MATIC/USD"})
    assert (books[0]["kind"], books[-1]["kind"]) == (CHANGE, CHANGE)


def test_other_unreadable_frames_break_no_book(feed: Kraken) -> None:
    for frame in (TRADES[:-30], TICKER.replace("0.10025", "{}"), '{"x":1}', STATUS.replace('"online"', "5")):
        decoded = decode(feed, frame)
        assert len(decoded.rejected) == 1
        assert not len(decoded.books)


def test_channels_not_asked_for_are_ignored() -> None:
    feed = new_feed(channels=frozenset(("trades",)))
    nothing = '{"channel":"trade","type":"update","data":[]}'
    frames = [UPDATE, TICKER, '{"channel":"ohlc","type":"update","data":[{}]}', nothing]
    assert decode(feed, *frames).ignored == len(frames)


def test_what_still_comes_of_a_symbol_we_left_is_not_missed(feed: Kraken) -> None:
    feed.unsubscribe(["MATIC/USD"])
    decoded = decode(feed, UPDATE, TRADES, TRADES_BEFORE, TICKER, PRECISE, left_out=4)
    assert [book["symbol"] for book in rows(decoded.books)] == ["BTC/USD"]
    assert not decoded.rejected


def test_a_number_with_an_exponent_keeps_its_value_and_says_that_its_digits_are_unknown(feed: Kraken) -> None:
    (book,) = rows(decode(feed, UPDATE.replace("0.5657", "1E-9").replace("1098.3947558", "13753613.68241863")).books)
    assert book["levels"] == [level(0, 1e-9, 13753613.68241863, -1, 8)]


def test_mutated_frames_cost_only_themselves() -> None:
    decoded = survives(new_feed(), [message.encode() for message in ALL], seed=8)
    assert (len(decoded.trades), len(decoded.quotes), len(decoded.books)) == (2, 2, 3)


def test_mutated_frames_read_the_same_without_layouts() -> None:
    frames = list(mutated([message.encode() for message in ALL], 6_000, seed=9))
    same_outcomes(new_feed(), without_layouts(new_feed()), frames)
