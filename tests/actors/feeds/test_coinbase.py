import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.feeds.coinbase import Coinbase
from actors.feeds.events import Events
from actors.feeds.feed import ALL_CHANNELS, BookRules, Channel, Decoded, Refusal, RestRequest
from actors.simulator.coinbase import CoinbaseSession
from actors.simulator.session import Known
from storage.schema import BROKEN, CHANGE, INSTRUMENTS, SNAPSHOT
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
from tests.actors.feeds.recordings import Recording

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
UPDATE = {
    "type": "l2update",
    "product_id": "SKL-BTC",
    "changes": [["sell", "0.00001306", "660.5"], ["buy", "0.00001300", "0.00"], ["sell", "1", "2"]],
    "time": "2021-04-17T16:43:37.075687Z",
}
BOOK = {
    "type": "snapshot",
    "product_id": "SKL-BTC",
    "asks": [["0.00001305", "985.0"], ["0.00001306", "1"]],
    "bids": [["0.00001301", "2.50"]],
}
#: https://docs.rs/barter-data/latest/src/barter_data/exchange/coinbase/subscription.rs.html
INVALID = '{"type":"error","message":"Failed to subscribe","reason":"SKL-BTC is not a valid product"}'
ENDPOINT = "wss://ws-feed.exchange.coinbase.com"
SUBSCRIBED = {"type": "subscribe", "channels": ["matches", "ticker", "level2_batch", "heartbeat"]}


def new_feed(symbols: Sequence[str] = ("BAND-GBP", "SKL-BTC"), channels: frozenset[Channel] = ALL_CHANNELS) -> Coinbase:
    return Coinbase(symbols, ENDPOINT, channels)


@pytest.fixture
def feed() -> Coinbase:
    return new_feed()


def for_recording(recording: Recording) -> Coinbase:
    messages = recording.connection.messages
    return new_feed(sorted({message["product_id"] for message in messages if "product_id" in message}))


@pytest.fixture
def recorded(coinbase_recording: Recording) -> Coinbase:
    return for_recording(coinbase_recording)


def changed(message: dict[str, Any], **fields: Any) -> str:
    return json.dumps(message | fields)


def without(message: dict[str, Any], *names: str) -> str:
    return json.dumps({name: value for name, value in message.items() if name not in names})


def compact(text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":"))


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
        for message, received in zip(recording.connection.messages, recording.connection.ts_recv.tolist(), strict=True)
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
        for message, received in zip(recording.connection.messages, recording.connection.ts_recv.tolist(), strict=True)
        if message["type"] == "ticker"
    ]


def level(side: int, price: str, size: str) -> dict[str, Any]:
    decimals = [len(text.partition(".")[2]) for text in (price, size)]
    return {
        "side": side,
        "price": float(price),
        "size": float(size),
        "price_decimals": decimals[0],
        "size_decimals": decimals[1],
    }


def books_read_plainly(recording: Recording) -> list[dict[str, Any]]:
    connection, books = recording.connection, []
    for message, received in zip(connection.messages, connection.ts_recv.tolist(), strict=True):
        if message["type"] == "l2update":
            levels = [level({"buy": 0, "sell": 1}[side], price, size) for side, price, size in message["changes"]]
        elif message["type"] == "snapshot":
            levels = [level(1, *ask) for ask in message["asks"]] + [level(0, *bid) for bid in message["bids"]]
        else:
            continue
        books.append(
            {
                "symbol": message["product_id"],
                "ts_event": ns(message["time"]) if "time" in message else received,
                "ts_recv": received,
                "kind": SNAPSHOT if message["type"] == "snapshot" else CHANGE,
                "first_sequence": None,
                "sequence": None,
                "previous_sequence": None,
                "checksum": None,
                "levels": levels,
            }
        )
    return books


@pytest.mark.parametrize("layouts", [True, False])
def test_the_recording_reads_as_a_plain_reading_does(coinbase_recording: Recording, layouts: bool) -> None:
    feed = for_recording(coinbase_recording)
    feed = feed if layouts else without_layouts(feed)
    connection = coinbase_recording.connection
    decoded = decode_checked(feed, connection.frames, connection.ts_recv)
    assert rows(decoded.trades) == trades_read_plainly(coinbase_recording, "match")
    assert rows(decoded.history) == trades_read_plainly(coinbase_recording, "last_match")
    assert rows(decoded.quotes) == quotes_read_plainly(coinbase_recording)
    assert rows(decoded.books) == books_read_plainly(coinbase_recording)
    assert (len(decoded.trades), len(decoded.history), len(decoded.quotes)) == (97, 10, 107)
    kinds = decoded.books["kind"].to_pylist()
    assert (kinds.count(CHANGE), kinds.count(SNAPSHOT)) == (9_719, 10)
    assert (decoded.rejected, decoded.refused, decoded.replies, decoded.ignored) == ((), (), (), 3)


def test_every_recorded_match_ticker_and_book_message_follows_a_layout(coinbase_recording: Recording) -> None:
    feed, connection = for_recording(coinbase_recording), coinbase_recording.connection
    others = feed._layouts.read(connection.frames, Events(connection.ts_recv, feed._symbols)).others
    left = [connection.messages[at]["type"] for at in others.tolist()]
    assert (left.count("last_match"), left.count("subscriptions"), len(left)) == (10, 3, 13)


def test_a_recorded_ticker_and_match_of_one_trade_agree_on_the_taker(
    coinbase_recording: Recording, recorded: Coinbase
) -> None:
    decoded = recorded.decode(coinbase_recording.connection.frames, coinbase_recording.connection.ts_recv)
    of_trade = {(row["symbol"], row["trade_id"]): row["side"] for row in rows(decoded.trades) + rows(decoded.history)}
    tickers = [message for message in coinbase_recording.connection.messages if message["type"] == "ticker"]
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
    frames, ts_recv = coinbase_recording.connection.frames, coinbase_recording.connection.ts_recv
    whole = all_rows([decode_checked(recorded, frames, ts_recv)])
    assert all_rows(cut_at_random(recorded, frames, ts_recv, seed)) == whole


def test_the_recording_frame_by_frame_gives_the_same_rows(coinbase_recording: Recording, recorded: Coinbase) -> None:
    frames, ts_recv = coinbase_recording.connection.frames, coinbase_recording.connection.ts_recv
    whole = all_rows([decode_checked(recorded, frames, ts_recv)])
    single = [recorded.decode(frames[at : at + 1], ts_recv[at : at + 1]) for at in range(len(frames))]
    assert all_rows(single) == whole


def test_a_trade_id_is_exact_beyond_what_a_float_holds(feed: Coinbase) -> None:
    (row,) = rows(decode(feed, json.dumps(MATCH)).trades)
    assert row["trade_id"] == 2**53 + 1
    assert row["price"] == 0.00001305


def test_the_recorded_subscriptions_confirm_once_all_channels_are_there(
    coinbase_recording: Recording, recorded: Coinbase
) -> None:
    connection = coinbase_recording.connection
    answers = [
        frame
        for frame, message in zip(connection.frames, connection.messages, strict=True)
        if message["type"] == "subscriptions"
    ]
    confirmed = [len(decode(recorded, answer).subscribed) for answer in answers]
    assert confirmed == [0, 0, 10]
    assert decode(recorded, answers[2]).subscribed == frozenset(), "only what is new"


def answer(*products: str, channels: Sequence[str] = ("matches", "ticker", "level2_50", "heartbeat")) -> str:
    return json.dumps({"type": "subscriptions", "channels": [{"name": n, "product_ids": products} for n in channels]})


@pytest.mark.parametrize("book", ["level2", "level2_50", "level2_batch"])
def test_only_symbols_that_were_asked_for_count_as_subscribed(feed: Coinbase, book: str) -> None:
    decoded = decode(feed, answer("SKL-BTC", "BTC-USD", channels=("matches", "ticker", book)))
    assert decoded.subscribed == {"SKL-BTC"}
    assert decoded.ignored == 1


def test_channels_nobody_asked_for_are_neither_subscribed_nor_awaited_nor_stored() -> None:
    feed = new_feed(channels=frozenset(("quotes", "liquidations")))
    (message,) = feed.subscribe(["SKL-BTC"])
    assert json.loads(message)["channels"] == ["ticker", "heartbeat"]
    assert decode(feed, answer("SKL-BTC", channels=("ticker",))).subscribed == {"SKL-BTC"}
    texts = [json.dumps(one) for one in (UPDATE, BOOK, MATCH, MATCH | {"type": "last_match"}, TICKER)]
    decoded = decode(feed, *texts, *(compact(text) for text in texts), json.dumps(UPDATE)[:-9])
    assert (len(decoded.trades), len(decoded.history), len(decoded.books), len(decoded.quotes)) == (0, 0, 0, 2)
    assert (decoded.ignored, len(decoded.rejected)) == (8, 1)


def test_a_refusal_names_the_product_and_the_others_of_its_message_are_asked_for_again(feed: Coinbase) -> None:
    feed.subscribe(["BAND-GBP"])
    feed.subscribe(["SKL-BTC", "SKL-USD", "YFI-BTC"])
    decoded = decode(feed, INVALID)
    assert decoded.refused == (Refusal(frozenset({"SKL-BTC"}), "Failed to subscribe: SKL-BTC is not a valid product"),)
    assert [json.loads(reply) for reply in decoded.replies] == [SUBSCRIBED | {"product_ids": ["SKL-USD", "YFI-BTC"]}]
    assert decode(feed, INVALID).replies == (), "once"
    again = decode(feed, INVALID.replace("SKL-BTC", "SKL-USD"))
    assert [json.loads(reply)["product_ids"] for reply in again.replies] == [["YFI-BTC"]]
    assert decode(feed, answer("BAND-GBP", "YFI-BTC")).subscribed == {"BAND-GBP", "YFI-BTC"}
    assert decode(feed, INVALID.replace("SKL-BTC", "YFI-BTC")).replies == ()


@pytest.mark.parametrize("reason", ["", " is not a valid product", "XYZ is not a valid product", "rate limit exceeded"])
def test_a_refusal_that_names_no_product_of_ours_is_told_and_changes_nothing(feed: Coinbase, reason: str) -> None:
    feed.subscribe(["SKL-BTC"])
    decoded = decode(feed, json.dumps({"type": "error", "message": "Failed to subscribe", "reason": reason}))
    text = f"Failed to subscribe: {reason}" if reason else "Failed to subscribe"
    assert decoded.refused == (Refusal(frozenset(), text),)
    assert decoded.replies == ()


def test_heartbeats_and_types_nobody_knows_are_ignored(feed: Coinbase) -> None:
    decoded = decode(
        feed,
        json.dumps(HEARTBEAT),
        '{"type":"rfq_matches","price":{"nested":true},"trade_id":"x"}',
        '{"type":"status"}',
    )
    assert decoded.ignored == 3
    assert decoded.rejected == ()


def test_a_book_change_keeps_its_levels_in_their_order(feed: Coinbase) -> None:
    snapshot, change = rows(decode(feed, json.dumps(BOOK), json.dumps(UPDATE)).books)
    assert (snapshot["kind"], change["kind"]) == (SNAPSHOT, CHANGE)
    assert change["levels"] == [level(1, "0.00001306", "660.5"), level(0, "0.00001300", "0.00"), level(1, "1", "2")]
    assert snapshot["ts_event"] == snapshot["ts_recv"] == 1_000
    assert change["ts_event"] == ns(str(UPDATE["time"]))
    assert feed.book_rules == BookRules("none", "none")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00.000000Z", "", "soon", None])
def test_a_book_change_with_a_time_of_the_year_1_or_none_is_kept(feed: Coinbase, text: object) -> None:
    (row,) = rows(decode(feed, changed(UPDATE, time=text)).books)
    assert (row["kind"], row["ts_event"]) == (CHANGE, 1_000)


def test_a_ticker_of_a_product_without_a_trade_is_kept_with_the_time_received(feed: Coinbase) -> None:
    frames = [changed(TICKER, time="0001-01-01T00:00:00.000000Z"), without(TICKER, "time"), changed(TICKER, time="x")]
    decoded = decode(feed, *frames)
    assert [row["ts_event"] for row in rows(decoded.quotes)] == [1_000, 1_001]
    assert len(decoded.rejected) == 1


ONE, ALL = ["SKL-BTC"], ["BAND-GBP", "SKL-BTC"]


@pytest.mark.parametrize(
    ("bad", "books"),
    [
        (changed(UPDATE, changes=[["sell", "0", "1"]]), ONE),
        (changed(UPDATE, changes=[["buy", "1", "-1"]]), ONE),
        (changed(UPDATE, changes=[["buy", "1", ""]]), ONE),
        (changed(UPDATE, changes=[["bid", "1", "1"]]), ONE),
        (changed(UPDATE, changes=[["buy", 1, 1]]), ONE),
        (changed(UPDATE, changes=None), ONE),
        (changed(BOOK, asks=[["1"]]), ONE),
        (without(BOOK, "bids"), ONE),
        (json.dumps(UPDATE)[:-5], ONE),
        (json.dumps(BOOK)[:-5], ONE),
        (json.dumps(UPDATE).replace("[[", "[\x00["), ONE),
        (without(UPDATE, "product_id"), ALL),
        (changed(UPDATE, product_id=5), ALL),
        (json.dumps(UPDATE)[:25], ALL),
        ("", ALL),
        ("{" * 5_000, ALL),
        (changed(UPDATE, product_id="BTC-USD"), []),
        (changed(UPDATE, product_id="BTC-USD", changes=None), []),
        (json.dumps(MATCH)[:-5], []),
        (changed(MATCH, price="x"), []),
        ("{}", []),
        ("[]", ALL),
    ],
)
def test_a_book_that_lost_a_message_is_broken_in_its_place(feed: Coinbase, bad: str, books: list[str]) -> None:
    decoded = decode(feed, json.dumps(BOOK), bad, json.dumps(UPDATE))
    assert [rejected.frame for rejected in decoded.rejected] == [bad.encode()]
    first, *between, last = rows(decoded.books)
    assert (first["kind"], last["kind"]) == (SNAPSHOT, CHANGE)
    assert [(row["kind"], row["symbol"], row["ts_recv"]) for row in between] == [
        (BROKEN, name, 1_001) for name in books
    ]


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
        ({"time": "0001-01-01T00:00:00.000000Z"}, "time is unreadable or not between 2000 and 2100"),
        ({"time": "soon"}, "time is unreadable or not between 2000 and 2100"),
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


def test_one_message_subscribes_all_channels_of_all_symbols(feed: Coinbase) -> None:
    assert feed.url == ENDPOINT
    assert feed.greet() == []
    (message,) = feed.subscribe(["BAND-GBP", "SKL-BTC"])
    assert json.loads(message) == SUBSCRIBED | {"product_ids": ["BAND-GBP", "SKL-BTC"]}
    ended = [json.loads(message) for message in feed.unsubscribe(["SKL-BTC"])]
    assert ended == [SUBSCRIBED | {"type": "unsubscribe", "product_ids": ["SKL-BTC"]}]


def test_the_simulated_exchange_grants_what_is_asked_for_but_for_one_invalid_product() -> None:
    symbols = ["BAND-GBP", "SKL-BTC", "XYZ-USD", "SKL-USD"]
    feed, session = new_feed(symbols), CoinbaseSession("/", Known({*symbols} - {"XYZ-USD"}))

    def sent(messages: Sequence[bytes]) -> Decoded:
        return decode(feed, *(answer for message in messages for answer in session.receive(message)))

    refusal = sent(feed.subscribe(symbols))
    assert [one.symbols for one in refusal.refused] == [{"XYZ-USD"}]
    assert refusal.subscribed == frozenset()
    assert sent(refusal.replies).subscribed == {"BAND-GBP", "SKL-BTC", "SKL-USD"}
    assert sent(feed.renew_book("SKL-BTC")).refused == ()
    assert sent(feed.unsubscribe(symbols)).refused == ()
    assert not session.symbols


def test_what_was_refused_is_not_ended_with_a_message_that_would_be_refused_too(feed: Coinbase) -> None:
    feed.subscribe(["BAND-GBP", "SKL-BTC"])
    decode(feed, INVALID)
    (message,) = feed.unsubscribe(["BAND-GBP", "SKL-BTC"])
    assert json.loads(message)["product_ids"] == ["BAND-GBP"]
    feed.subscribe(["SKL-BTC"])
    assert len(feed.unsubscribe(["SKL-BTC"])) == 1


def test_a_book_is_renewed_by_subscribing_to_it_again(feed: Coinbase) -> None:
    assert feed.snapshot_request("SKL-BTC") is None
    ended, begun = (json.loads(message) for message in feed.renew_book("SKL-BTC"))
    assert ended == {"type": "unsubscribe", "product_ids": ["SKL-BTC"], "channels": ["level2_batch"]}
    assert begun == {"type": "subscribe", "product_ids": ["SKL-BTC"], "channels": ["level2_batch"]}
    with pytest.raises(ValueError, match="come with the subscription"):
        feed.read_snapshot("SKL-BTC", b"{}", 5)


def test_many_symbols_are_spread_over_connections() -> None:
    symbols = [f"COIN{number}-USD" for number in range(250)]
    groups = Coinbase.groups(symbols)
    assert [symbol for group in groups for symbol in group] == symbols
    assert [len(group) for group in groups] == [100, 100, 50]


@pytest.mark.parametrize("symbol", ["btc-usd", "BTCUSD", "BTC/USD", "", "BTC-USD\n", "BTC-", "BTC-USD-X"])
def test_a_name_no_symbol_can_have_is_refused_before_connecting(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot be a symbol of coinbase"):
        Coinbase.groups(["BTC-USD", symbol])


def test_a_symbol_added_at_run_time_is_stored_and_a_removed_one_is_left_out_without_a_word(feed: Coinbase) -> None:
    frames = [changed(message, product_id="BTC-USD") for message in (MATCH, TICKER, BOOK, UPDATE)]
    frames += [compact(frame) for frame in frames]
    assert len(decode(feed, *frames).rejected) == 8
    feed.subscribe(["BTC-USD"])
    decoded = decode(feed, *frames)
    assert (len(decoded.trades), len(decoded.quotes), len(decoded.books)) == (2, 2, 4)
    feed.unsubscribe(["BTC-USD"])
    gone = decode(feed, *frames, left_out=8)
    assert (gone.rejected, len(gone.trades), len(gone.quotes), len(gone.books)) == ((), 0, 0, 0)
    assert set(rows(decode(feed, "").books)[0]) == set(decoded.books.schema.names)
    assert [row["symbol"] for row in rows(decode(feed, "").books)] == ["BAND-GBP", "SKL-BTC"]
    feed.subscribe(["BTC-USD"])
    assert len(decode(feed, *frames).books) == 4


def test_the_recorded_instruments_have_their_names_and_steps(coinbase_recording: Recording) -> None:
    (request,) = Coinbase.instrument_requests(["BTC-USD"])
    assert request == RestRequest("/products")
    table = Coinbase.read_instruments([coinbase_recording.rest[request.path]])
    table.validate(full=True)
    assert table.schema == INSTRUMENTS
    assert (table.num_rows, table["active"].to_pylist().count(True)) == (162, 162)
    of_symbol = {row["symbol"]: row for row in table.to_pylist()}
    assert {name: value for name, value in of_symbol["SKL-EUR"].items() if value is not None} == {
        "symbol": "SKL-EUR",
        "instrument": "SKL-EUR",
        "kind": "spot",
        "base": "SKL",
        "quote": "EUR",
        "price_increment": 0.0001,
        "size_increment": 0.1,
        "price_decimals": 4,
        "size_decimals": 1,
        "inverse": False,
        "active": True,
    }


@pytest.mark.parametrize("body", ["", "{}", '[{"id":7}]', '{"message":"NotFound"}', "[" * 5_000])
def test_a_list_of_instruments_that_is_none_says_why(body: str) -> None:
    with pytest.raises(ValueError) as caught:
        Coinbase.read_instruments([body.encode()])
    assert str(caught.value)


def test_mutated_frames_raise_nothing_and_the_feed_stays_as_it_is(coinbase_recording: Recording) -> None:
    feed = for_recording(coinbase_recording)
    feed.subscribe(feed._symbols.names)
    good = [*coinbase_recording.connection.frames, INVALID.replace("SKL-BTC", "XYZ-USD").encode()]
    last = survives(feed, good, seed=1)
    assert (len(last.trades), len(last.quotes)) == (97, 107)


def test_a_mutated_list_of_instruments_is_read_or_says_why(coinbase_recording: Recording) -> None:
    good = json.dumps(json.loads(coinbase_recording.rest["/products"])[:2]).encode()
    refused = 0
    for body in mutated([good], 2_000, seed=3):
        try:
            Coinbase.read_instruments([body]).validate(full=True)
        except ValueError as error:
            assert str(error)
            refused += 1
    assert 200 < refused < 2_000


def test_mutated_frames_are_the_same_with_and_without_layouts(coinbase_recording: Recording) -> None:
    fast, slow = for_recording(coinbase_recording), without_layouts(for_recording(coinbase_recording))
    same_outcomes(fast, slow, list(mutated(coinbase_recording.connection.frames, 10_000, seed=2)))
