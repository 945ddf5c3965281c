import json
from typing import Any

import numpy as np
import pytest

from actors.feeds.events import Events
from actors.feeds.feed import ALL_CHANNELS, Channel, Refusal
from actors.feeds.kraken import Kraken
from storage.schema import BROKEN, BUY, CHANGE, SELL, SNAPSHOT
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
from tests.actors.feeds.recordings import RecordedConnection, Recording

CHANNELS: dict[str, Channel] = {"ws-48": "trades", "ws-49": "quotes", "ws-50": "book"}
COUNTS = {"ws-48": {"trades": 10}, "ws-49": {"quotes": 18}, "ws-50": {"books": 4_279}}

BOOK = '[992,{"b":[["354.15000000","5.00000000","1618678133.365913"]],"c":"2583817756"},"book-1000","XMR/USD"]'
TWO_PARTS = (
    '[1920,{"a":[["0.042990","364630.28272081","1618678145.920470"]]},'
    '{"b":[["0.042990","0.00000000","1618678145.920708"]],"c":"4105471083"},"book-1000","SC/EUR"]'
)
#: https://docs.kraken.com/api/docs/websocket-v1/book has such a row.
REPUBLISHED = (
    '[992,{"a":[["5541.30000","2.50700000","1618678248.456738","r"],["5542.50000","0.40100000","1618678248.456737"]],'
    '"c":"974942666"},"book-1000","XMR/USD"]'
)
TRADES = (
    '[993,[["354.11000000","0.89594024","1618678142.557535","s","l",""],'
    '["354.11000000","0.89594024","1618678142.557535","s","l",""],'
    '["354.20000000","1.00000000","1618678142.557535","b","m",""]],"trade","XMR/USD"]'
)
TICKER = (
    '[1668,{"a":["13.253900",35,"35.72892241"],"b":["13.232900",185,"185.18432037"],"c":["13.253900","3.71672000"],'
    '"v":["26560.85364463","72035.05488104"],"p":["13.529003","13.734728"],"t":[640,1353],'
    '"l":["13.021800","13.021800"],"h":["13.942000","14.211200"],"o":["13.804000","13.428300"]},"ticker","XMR/USD"]'
)


def new_feed(*symbols: str, channels: frozenset[Channel] = ALL_CHANNELS) -> Kraken:
    feed = Kraken(symbols or ("XMR/USD", "SC/EUR"), "wss://ws.kraken.com", channels)
    feed.subscribe(symbols or ("XMR/USD", "SC/EUR"))
    return feed


def recorded(connection: RecordedConnection, channel: Channel) -> Kraken:
    symbols = json.loads(connection.sent[0])["pair"]
    return new_feed(*symbols, channels=frozenset((channel,)))


def nanoseconds(text: str) -> int:
    seconds, fraction = text.split(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0"))


def book_read_plainly(message: list[Any], ts_recv: int) -> dict[str, Any]:
    parts = message[1:-2]
    found = [(1, row) for part in parts for row in (*part.get("as", ()), *part.get("a", ()))]
    found += [(0, row) for part in parts for row in (*part.get("bs", ()), *part.get("b", ()))]
    return {
        "symbol": message[-1],
        "ts_event": max(nanoseconds(row[2]) for _, row in found),
        "ts_recv": ts_recv,
        "kind": SNAPSHOT if "as" in parts[0] else CHANGE,
        "first_sequence": None,
        "sequence": None,
        "previous_sequence": None,
        "checksum": int(parts[-1]["c"]) if "c" in parts[-1] else None,
        "levels": [
            {
                "side": side,
                "price": float(row[0]),
                "size": float(row[1]),
                "price_decimals": len(row[0].partition(".")[2]),
                "size_decimals": len(row[1].partition(".")[2]),
            }
            for side, row in found
        ],
    }


def test_the_recorded_books_read_as_a_plain_reading_does(kraken_recording: Recording) -> None:
    connection = kraken_recording.connections["ws-50"]
    decoded = decode_checked(recorded(connection, "book"), connection.frames, connection.ts_recv)
    expected = [
        book_read_plainly(message, received)
        for message, received in zip(connection.messages, connection.ts_recv.tolist(), strict=True)
        if isinstance(message, list)
    ]
    assert rows(decoded.books) == expected
    kinds = decoded.books.column("kind").to_pylist()
    assert (kinds.count(SNAPSHOT), kinds.count(CHANGE)) == (10, 4_269)


def test_the_recorded_trades_and_tickers_read_as_a_plain_reading_does(kraken_recording: Recording) -> None:
    connection = kraken_recording.connections["ws-48"]
    trades = decode_checked(recorded(connection, "trades"), connection.frames, connection.ts_recv).trades
    expected = [
        (message[-1], float(row[0]), float(row[1]), nanoseconds(row[2]), {"b": BUY, "s": SELL}[row[3]], received)
        for message, received in zip(connection.messages, connection.ts_recv.tolist(), strict=True)
        if isinstance(message, list)
        for row in message[1]
    ]
    names = ("symbol", "price", "size", "ts_event", "side", "ts_recv")
    assert [tuple(row[name] for name in names) for row in rows(trades)] == expected
    assert len(set(trades.column("trade_id").to_pylist())) == len(trades) == 10

    connection = kraken_recording.connections["ws-49"]
    quotes = decode_checked(recorded(connection, "quotes"), connection.frames, connection.ts_recv).quotes
    assert rows(quotes) == [
        {
            "symbol": message[-1],
            "ts_event": received,
            "ts_recv": received,
            "sequence": received,
            "bid_price": float(message[1]["b"][0]),
            "bid_size": float(message[1]["b"][2]),
            "ask_price": float(message[1]["a"][0]),
            "ask_size": float(message[1]["a"][2]),
            "last_price": float(message[1]["c"][0]),
            "last_size": float(message[1]["c"][1]),
            "last_side": None,
        }
        for message, received in zip(connection.messages, connection.ts_recv.tolist(), strict=True)
        if isinstance(message, list)
    ]


@pytest.mark.parametrize("name", CHANNELS)
def test_a_recorded_connection_has_its_rows_and_all_else_is_understood(kraken_recording: Recording, name: str) -> None:
    connection = kraken_recording.connections[name]
    feed = recorded(connection, CHANNELS[name])
    assert [message.decode() for message in feed.subscribe(json.loads(connection.sent[0])["pair"])] == connection.sent
    decoded = decode_checked(feed, connection.frames, connection.ts_recv)
    for batch, count in COUNTS[name].items():
        assert len(getattr(decoded, batch)) == count
    assert not decoded.rejected
    assert not decoded.refused
    assert decoded.subscribed == set(json.loads(connection.sent[0])["pair"])


@pytest.mark.parametrize("name", CHANNELS)
def test_the_recording_reads_the_same_without_layouts_and_cut_anywhere(kraken_recording: Recording, name: str) -> None:
    connection = kraken_recording.connections[name]
    frames, ts_recv = connection.frames, connection.ts_recv
    fast, slow = (recorded(connection, CHANNELS[name]) for _ in range(2))
    whole = all_rows([decode_checked(fast, frames, ts_recv)])
    assert all_rows([decode_checked(without_layouts(slow), frames, ts_recv)]) == whole
    assert all_rows(cut_at_random(recorded(connection, CHANNELS[name]), frames, ts_recv, 7)) == whole


@pytest.mark.parametrize("frame", [BOOK, TWO_PARTS, REPUBLISHED, TICKER, '{"event":"heartbeat"}'])
def test_frames_as_they_come_follow_a_layout(frame: str) -> None:
    feed = new_feed()
    assert not len(feed._layouts.read([frame.encode()], Events(np.array([1_000]), feed._symbols)).others)


@pytest.mark.parametrize("with_layouts", [True, False])
def test_a_message_of_two_parts_is_one_with_the_checksum_of_the_last(with_layouts: bool) -> None:
    feed = new_feed() if with_layouts else without_layouts(new_feed())
    (book,) = rows(decode(feed, TWO_PARTS).books)
    assert [(level["side"], level["price"], level["size"]) for level in book["levels"]] == [
        (1, 0.04299, 364630.28272081),
        (0, 0.04299, 0.0),
    ]
    assert (book["checksum"], book["ts_event"]) == (4105471083, 1_618_678_145_920_708_000)


@pytest.mark.parametrize("with_layouts", [True, False])
def test_a_republished_level_is_a_level(with_layouts: bool) -> None:
    feed = new_feed() if with_layouts else without_layouts(new_feed())
    (book,) = rows(decode(feed, REPUBLISHED).books)
    assert [level["price"] for level in book["levels"]] == [5541.3, 5542.5]
    assert book["levels"][0] == {"side": 1, "price": 5541.3, "size": 2.507, "price_decimals": 5, "size_decimals": 8}


def test_equal_trades_of_a_message_are_different_and_the_same_when_they_come_again() -> None:
    first, second, third = rows(decode(new_feed(), TRADES).trades)
    assert len({trade["trade_id"] for trade in (first, second, third)}) == 3
    assert rows(decode(new_feed("SC/EUR", "XMR/USD"), TRADES).trades) == [first, second, third]
    assert all(0 <= trade["trade_id"] < 2**63 for trade in (first, second, third))


@pytest.mark.parametrize("nothing", ['""', "null", '"nan"', '"0.000000"'])
def test_a_ticker_without_a_bid_has_null_never_zero(nothing: str) -> None:
    frame = TICKER.replace('"13.232900",185,"185.18432037"', f"{nothing},0,{nothing}")
    (quote,) = rows(decode(new_feed(), frame).quotes)
    assert (quote["bid_price"], quote["bid_size"], quote["ask_price"]) == (None, None, 13.2539)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (BOOK.replace('"354.15000000"', "354.15"), "Expected `str`"),
        (BOOK.replace("2583817756", "4294967296"), "Expected `int` <= 4294967295"),
        (BOOK.replace("2583817756", "soon"), "Expected `int | null`, got `str`"),
        (BOOK.replace('"5.00000000",', ""), "length"),
        (BOOK.replace('["354.15000000","5.00000000","1618678133.365913"]', '["354.15000000"]'), "length"),
        (BOOK.replace("354.15000000", "0"), "a level's price is not a positive number or its size is negative"),
        (BOOK.replace("5.00000000", "-1"), "a level's price is not a positive number or its size is negative"),
        (BOOK.replace("354.15000000", "many"), "a level's price is not a positive number or its size is negative"),
        (BOOK[:-14], "truncated"),
    ],
)
def test_an_unreadable_change_breaks_its_book_and_no_other(frame: str, reason: str) -> None:
    decoded = decode(new_feed(), BOOK, frame, TWO_PARTS)
    assert [one.frame for one in decoded.rejected] == [frame.encode()]
    assert reason in decoded.rejected[0].reason
    books = [(book["symbol"], book["kind"]) for book in rows(decoded.books)]
    expected = {"XMR/USD", "SC/EUR"} if frame == BOOK[:-14] else {"XMR/USD"}
    assert books[0] == ("XMR/USD", CHANGE)
    assert {symbol for symbol, kind in books if kind == BROKEN} == expected
    assert books[-1] == ("SC/EUR", CHANGE)


@pytest.mark.parametrize(
    "frame", [TRADES.replace('"s"', '"x"'), TICKER.replace("[640", "640"), "[]", '["a"]', "1", "{}"]
)
def test_other_unreadable_frames_are_rejected_and_cost_nothing_else(frame: str) -> None:
    decoded = decode(new_feed(channels=frozenset(("trades", "quotes"))), TRADES, frame, TICKER)
    assert [one.frame for one in decoded.rejected] == [frame.encode()]
    assert (len(decoded.trades), len(decoded.quotes)) == (3, 1)


def test_a_level_without_a_readable_time_is_used() -> None:
    (book,) = rows(decode(new_feed(), BOOK.replace("1618678133.365913", "soon")).books)
    assert (book["ts_event"], len(book["levels"])) == (1_000, 1)


def test_channels_not_asked_for_and_events_of_no_interest_are_ignored() -> None:
    feed = new_feed(channels=frozenset(("trades",)))
    frames = [
        BOOK,
        TICKER,
        '[42,["1542057314.748456"],"ohlc-5","XMR/USD"]',
        '{"event":"pong","reqid":42}',
        '{"event":"news"}',
        '[993,[],"trade","XMR/USD"]',
    ]
    assert decode(feed, *frames).ignored == len(frames)


def test_a_symbol_never_asked_for_is_rejected_and_one_we_left_is_not_missed() -> None:
    feed = new_feed("XMR/USD")
    assert [one.reason for one in decode(feed, TWO_PARTS).rejected] == ["not a subscribed symbol"]
    feed.unsubscribe(["XMR/USD"])
    decoded = decode(feed, BOOK, TRADES, TICKER, left_out=3)
    assert (len(decoded.books), len(decoded.trades), len(decoded.quotes), decoded.rejected) == (0, 0, 0, ())
    feed.subscribe(["XMR/USD"])
    assert len(decode(feed, BOOK).books) == 1


def test_an_error_about_nothing_in_particular_is_told() -> None:
    """As `errorMessage` is told in https://docs.kraken.com/api/docs/websocket-v1/subscriptionstatus"""
    frame = '{"errorMessage":"Exceeded msg rate","event":"error"}'
    assert decode(new_feed(), frame).refused == (Refusal(frozenset(), "Exceeded msg rate"),)


def some_frames(recording: Recording) -> list[bytes]:
    frames = [frame for connection in recording.connections.values() for frame in connection.frames]
    short = [frame for frame in frames if len(frame) < 3_000]
    extra = [BOOK, TWO_PARTS, REPUBLISHED, TRADES, TICKER]
    return [
        *short[:60],
        *(frame for frame in short if b'"ticker"' in frame or b'"trade"' in frame),
        *map(str.encode, extra),
    ]


def test_mutated_frames_cost_only_themselves(kraken_recording: Recording) -> None:
    frames = some_frames(kraken_recording)
    symbols = json.loads(kraken_recording.connections["ws-50"].sent[0])["pair"]
    decoded = survives(new_feed(*symbols), frames, seed=5)
    assert len(decoded.trades) > 0
    assert len(decoded.quotes) > 0


def test_mutated_frames_read_the_same_without_layouts(kraken_recording: Recording) -> None:
    frames = list(mutated(some_frames(kraken_recording), 6_000, seed=6))
    same_outcomes(new_feed(), without_layouts(new_feed()), frames)
