import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from actors.feeds.binance import Binance
from actors.feeds.events import Events
from actors.feeds.feed import ALL_CHANNELS, BookRules, Channel, Refusal, RestRequest
from actors.simulator.binance import BinanceSession
from storage.schema import BOOK_MESSAGES, BROKEN, CHANGE, INSTRUMENTS, SNAPSHOT
from tests.actors.feeds.checks import (
    all_rows,
    check_batch,
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
DEPTH = {
    "e": "depthUpdate",
    "E": 1633998512568,
    "s": "NKNUSDT",
    "U": 499869753,
    "u": 499869754,
    "b": [["0.35170000", "4265.00000000"]],
    "a": [["0.35290000", "10968.00000000"], ["0.36", "0.00000000"]],
}
QUOTE = {"u": 499869768, "s": "NKNUSDT", "b": "0.35210000", "B": "672.00", "a": "0.35260000", "A": "3199.00"}


#: From https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#server-shutdown
SHUTDOWN = '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}'
ENDPOINT = "wss://stream.binance.com:9443"
RECORDED = ("NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR")


def new_feed(symbols: Sequence[str] = ("BTCUSDT", "NKNUSDT"), channels: frozenset[Channel] = ALL_CHANNELS) -> Binance:
    return Binance(symbols, ENDPOINT, channels)


@pytest.fixture
def feed() -> Binance:
    return new_feed()


@pytest.fixture
def recorded() -> Binance:
    return new_feed(RECORDED)


def frame(data: dict[str, Any], stream: str | None = None, **fields: Any) -> str:
    channel = {"depthUpdate": "depth@100ms"}.get(data.get("e", ""), data.get("e", "bookTicker"))
    return json.dumps({"stream": stream or f"nknusdt@{channel}", "data": data | fields})


def level(side: int, price: str, size: str) -> dict[str, Any]:
    decimals = [len(text.partition(".")[2]) for text in (price, size)]
    return {
        "side": side,
        "price": float(price),
        "size": float(size),
        "price_decimals": decimals[0],
        "size_decimals": decimals[1],
    }


def levels(bids: list[list[str]], asks: list[list[str]]) -> list[dict[str, Any]]:
    return [level(0, *bid) for bid in bids] + [level(1, *ask) for ask in asks]


def read_plainly(recording: Recording) -> tuple[list[dict[str, Any]], ...]:
    trades, quotes, books = [], [], []
    for message, received in zip(recording.connection.messages, recording.connection.ts_recv.tolist(), strict=True):
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
        if message["stream"].endswith("@depth@100ms"):
            books.append(
                {
                    "symbol": data["s"],
                    "ts_event": data["E"] * 1_000_000,
                    "ts_recv": received,
                    "kind": CHANGE,
                    "first_sequence": data["U"],
                    "sequence": data["u"],
                    "previous_sequence": None,
                    "checksum": None,
                    "levels": levels(data["b"], data["a"]),
                }
            )
    return trades, quotes, books


@pytest.mark.parametrize("layouts", [True, False])
def test_the_recording_reads_as_a_plain_reading_does(binance_recording: Recording, layouts: bool) -> None:
    feed = new_feed(RECORDED) if layouts else without_layouts(new_feed(RECORDED))
    connection = binance_recording.connection
    decoded = decode_checked(feed, connection.frames, connection.ts_recv)
    trades, quotes, books = read_plainly(binance_recording)
    assert rows(decoded.trades) == trades
    assert rows(decoded.quotes) == quotes
    assert rows(decoded.books) == books
    assert (len(trades), len(quotes), len(books), len(decoded.history)) == (2, 84, 177, 0)
    assert (decoded.rejected, decoded.refused, decoded.subscribed) == ((), (), frozenset())
    assert decoded.ignored == 2


def test_every_recorded_trade_quote_and_book_message_follows_a_layout(binance_recording: Recording) -> None:
    feed, frames = new_feed(RECORDED), binance_recording.connection.frames
    read = feed._layouts.read(frames, Events(binance_recording.connection.ts_recv, feed._symbols))
    assert [b"@kline" in frames[at] for at in read.others.tolist()] == [True] * 2


def test_the_recorded_books_follow_their_snapshots_without_a_hole(binance_recording: Recording) -> None:
    """The rules of Binance: the first change kept begins at or before the update after the snapshot and ends at or
    after it, each one after begins where the one before it ended."""
    feed = new_feed(RECORDED)
    connection = binance_recording.connection
    changes = rows(decode_checked(feed, connection.frames, connection.ts_recv).books)
    older = 0
    for symbol in RECORDED:
        request = feed.snapshot_request(symbol)
        assert request is not None
        batch = feed.read_snapshot(symbol, binance_recording.rest[request.path], 77)
        check_batch(batch, BOOK_MESSAGES)
        (snapshot,) = rows(batch)
        plain = json.loads(binance_recording.rest[request.path])
        assert snapshot["levels"] == levels(plain["bids"], plain["asks"])
        assert (snapshot["symbol"], snapshot["kind"], snapshot["ts_event"], snapshot["ts_recv"]) == (
            symbol,
            SNAPSHOT,
            77,
            77,
        )
        last = snapshot["sequence"]
        own = [change for change in changes if change["symbol"] == symbol]
        kept = [change for change in own if change["sequence"] > last]
        older += len(own) - len(kept)
        assert kept[0]["first_sequence"] <= last + 1 <= kept[0]["sequence"]
        for before, after in pairwise(kept):
            assert after["first_sequence"] == before["sequence"] + 1
    assert older == 5


@pytest.mark.parametrize("seed", range(3))
def test_the_recording_cut_anywhere_gives_the_same_rows(
    binance_recording: Recording, recorded: Binance, seed: int
) -> None:
    frames, ts_recv = binance_recording.connection.frames, binance_recording.connection.ts_recv
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


def test_a_book_change_has_its_levels_bids_first_with_their_decimals(feed: Binance) -> None:
    (row,) = rows(decode(feed, frame(DEPTH)).books)
    assert (row["symbol"], row["kind"]) == ("NKNUSDT", CHANGE)
    assert (row["first_sequence"], row["sequence"], row["previous_sequence"]) == (499869753, 499869754, None)
    assert row["levels"] == [
        level(0, "0.35170000", "4265.00000000"),
        level(1, "0.35290000", "10968.00000000"),
        level(1, "0.36", "0.00000000"),
    ]


def test_the_slower_depth_stream_is_a_book_too_and_a_change_may_be_empty(feed: Binance) -> None:
    decoded = decode(feed, frame(DEPTH, stream="nknusdt@depth"), frame(DEPTH, b=[], a=[]))
    assert [len(row["levels"]) for row in rows(decoded.books)] == [3, 0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame(DEPTH, b=[["0", "1"]]), "a level's price"),
        (frame(DEPTH, b=[["1", "-1"]]), "a level's price"),
        (frame(DEPTH, a=[["1", "nan"]]), "a level's price"),
        (frame(DEPTH, a=[["1"]]), "array"),
        (frame(DEPTH, a=[[1, 2]]), "Expected `str`"),
        (frame(DEPTH, a=None), "Expected `array`"),
        (frame(DEPTH, u="x"), "Expected `int`"),
        (frame(DEPTH, e="trade"), "Invalid value 'trade'"),
        (frame(DEPTH)[:-9], "truncated"),
        (frame(DEPTH).replace("[[", "[\x00["), "malformed"),
    ],
)
def test_a_book_that_lost_a_message_is_broken_in_its_place(feed: Binance, bad: str, reason: str) -> None:
    decoded = decode(feed, frame(DEPTH), bad, frame(DEPTH))
    assert [(row["kind"], row["symbol"]) for row in rows(decoded.books)] == [
        (CHANGE, "NKNUSDT"),
        (BROKEN, "NKNUSDT"),
        (CHANGE, "NKNUSDT"),
    ]
    assert [row["ts_recv"] for row in rows(decoded.books)] == [1_000, 1_001, 1_002]
    assert [reason in rejected.reason for rejected in decoded.rejected] == [True], decoded.rejected


def test_a_bad_frame_of_another_stream_or_symbol_breaks_no_book(feed: Binance) -> None:
    bad = [frame(DEPTH, stream="ethusdt@depth@100ms")[:-9], frame(AGGREGATE)[:-9], "{", frame(QUOTE, u="x")]
    decoded = decode(feed, *bad, frame(DEPTH, stream="ethusdt@depth@100ms"))
    assert len(decoded.rejected) == 5
    assert not len(decoded.books)


def test_a_time_out_of_range_costs_a_book_change_only_its_time(feed: Binance) -> None:
    (row,) = rows(decode(feed, frame(DEPTH, E=0)).books)
    assert (row["kind"], row["ts_event"]) == (CHANGE, row["ts_recv"])


def test_other_streams_are_ignored_whatever_they_hold(feed: Binance) -> None:
    decoded = decode(
        feed,
        frame(DEPTH, stream="nknusdt@depth5"),
        frame({"e": "kline"}, stream="nknusdt@kline_1m"),
        frame({"e": "24hrTicker"}, stream="unknown@ticker"),
        '{"stream":"!miniTicker@arr","data":[]}',
        '{"e":"outboundAccountPosition","E":1}',
    )
    assert decoded.ignored == 5
    assert decoded.notices == ()


def test_channels_nobody_asked_for_are_neither_subscribed_nor_stored() -> None:
    feed = new_feed(channels=frozenset(("trades", "derivatives")))
    assert asked_for(feed.subscribe(["NKNUSDT"])) == ["nknusdt@aggTrade"]
    compact = [text.replace(": ", ":").replace(", ", ",") for text in (frame(DEPTH), frame(QUOTE), frame(AGGREGATE))]
    decoded = decode(feed, frame(DEPTH), frame(QUOTE), frame(AGGREGATE), frame(DEPTH)[:-9], *compact)
    assert (len(decoded.trades), len(decoded.quotes), len(decoded.books)) == (2, 0, 0)
    assert (decoded.ignored, len(decoded.rejected)) == (4, 1)


def test_the_exchange_asks_to_connect_again_before_it_shuts_down(feed: Binance) -> None:
    assert decode(feed, SHUTDOWN).notices == ("reconnect",)
    assert decode(feed, '{"e":"serverShutdown","E":1770123456789}').notices == ("reconnect",)


def asked_for(messages: Sequence[bytes]) -> list[str]:
    return [stream for message in messages for stream in json.loads(message)["params"]]


def test_a_subscription_asks_for_three_streams_of_each_symbol_by_message(feed: Binance) -> None:
    assert feed.url == "wss://stream.binance.com:9443/stream"
    assert feed.greet() == []
    (message,) = feed.subscribe(["BTCUSDT", "NKNUSDT"])
    request = json.loads(message)
    assert (request["method"], request["id"]) == ("SUBSCRIBE", 1)
    names = ("aggTrade", "bookTicker", "depth@100ms")
    assert request["params"] == [f"{symbol}@{name}" for symbol in ("btcusdt", "nknusdt") for name in names]


def test_many_symbols_are_spread_over_messages_and_connections_within_the_limits() -> None:
    symbols = [f"COIN{number}USDT" for number in range(1_000)]
    groups = Binance.groups(symbols)
    assert [symbol for group in groups for symbol in group] == symbols
    for group in groups:
        messages = new_feed(group).subscribe(group)
        assert len(asked_for(messages)) == 3 * len(group) <= 1_024
        assert all(len(message) < 4_096 for message in messages)
        assert len({json.loads(message)["id"] for message in messages}) == len(messages)


@pytest.mark.parametrize("symbol", ["btcusdt", "BTC/USDT", "BTC USDT", "", "A" * 51, "BTC@USDT", "BTC\n"])
def test_a_name_no_symbol_can_have_is_refused_before_connecting(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot be a symbol of binance"):
        Binance.groups(["BTCUSDT", symbol])


def test_an_answer_confirms_the_symbols_of_its_request_and_only_once(feed: Binance) -> None:
    first, second = feed.subscribe(["BTCUSDT"]), feed.subscribe(["NKNUSDT", "ETHBTC"])
    ids = [json.loads(message)["id"] for message in (*first, *second)]
    assert decode(feed, f'{{"result":null,"id":{ids[1]}}}').subscribed == {"NKNUSDT", "ETHBTC"}
    decoded = decode(feed, f'{{"result":null,"id":{ids[0]}}}', f'{{"result":null,"id":{ids[1]}}}')
    assert decoded.subscribed == {"BTCUSDT"}
    assert decoded.ignored == 2
    assert decode(feed, '{"result":null,"id":99}', '{"result":["a@trade"],"id":"x"}').subscribed == frozenset()


def test_the_simulated_exchange_grants_what_is_asked_for(feed: Binance) -> None:
    session = BinanceSession(urlsplit(feed.url).path)
    answers = [answer for message in feed.subscribe(["BTCUSDT", "NKNUSDT"]) for answer in session.receive(message)]
    assert decode(feed, *answers).subscribed == {"BTCUSDT", "NKNUSDT"}
    assert len(session.streams) == 6
    (ending,) = feed.unsubscribe(["BTCUSDT"])
    assert decode(feed, *session.receive(ending)).ignored == 1
    assert session.symbols == {"NKNUSDT"}


def test_a_symbol_added_at_run_time_is_stored_and_a_removed_one_is_left_out_without_a_word(feed: Binance) -> None:
    later = [frame(data, s="ETHBTC", stream=stream) for data, stream in (
        (AGGREGATE, "ethbtc@aggTrade"), (QUOTE, "ethbtc@bookTicker"), (DEPTH, "ethbtc@depth@100ms"),
    )]  # fmt: skip
    assert len(decode(feed, *later).rejected) == 3
    feed.subscribe(["ETHBTC"])
    decoded = decode(feed, *later)
    assert [batch["symbol"][0].as_py() for batch in (decoded.trades, decoded.quotes, decoded.books)] == ["ETHBTC"] * 3
    (message,) = feed.unsubscribe(["ETHBTC"])
    assert json.loads(message)["method"] == "UNSUBSCRIBE"
    assert asked_for([message]) == ["ethbtc@aggTrade", "ethbtc@bookTicker", "ethbtc@depth@100ms"]
    gone = decode(feed, *later, left_out=3)
    assert gone.rejected == ()
    assert len(gone.trades) + len(gone.quotes) + len(gone.books) == 0
    feed.subscribe(["ETHBTC"])
    assert len(decode(feed, *later).trades) == 1


def test_a_symbol_removed_before_its_answer_is_not_confirmed(feed: Binance) -> None:
    (message,) = feed.subscribe(["ETHBTC", "BTCUSDT"])
    feed.unsubscribe(["ETHBTC"])
    number = json.loads(message)["id"]
    assert decode(feed, f'{{"result":null,"id":{number}}}').subscribed == {"BTCUSDT"}


def test_a_refusal_names_the_symbols_of_its_request_in_the_words_of_the_exchange(feed: Binance) -> None:
    (message,) = feed.subscribe(["BTCUSDT", "NKNUSDT"])
    number = json.loads(message)["id"]
    decoded = decode(
        feed, f'{{"error":{{"code":2,"msg":"Invalid request"}},"id":{number}}}', '{"code":3,"msg":"Invalid JSON"}'
    )
    assert decoded.refused == (
        Refusal(frozenset({"BTCUSDT", "NKNUSDT"}), "Invalid request (code 2)"),
        Refusal(frozenset(), "Invalid JSON (code 3)"),
    )
    assert decoded.subscribed == frozenset()
    assert decode(feed, f'{{"result":null,"id":{number}}}').subscribed == frozenset()


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
        (frame(AGGREGATE, T=0), "time is unreadable or not between 2000 and 2100"),
        (frame(AGGREGATE, T=5_680_281_600_000), "time is unreadable or not between 2000 and 2100"),
        (frame(AGGREGATE, T=1633998523963000), "time is unreadable or not between 2000 and 2100"),
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


def test_a_snapshot_is_asked_for_over_rest(feed: Binance) -> None:
    assert feed.snapshot_request("NKNUSDT") == RestRequest("/api/v3/depth?symbol=NKNUSDT&limit=1000", 50)
    assert feed.renew_book("NKNUSDT") == []
    assert feed.book_rules == BookRules("range", "none")


@pytest.mark.parametrize(
    ("symbol", "body", "reason"),
    [
        ("NKNUSDT", '{"code":-1121,"msg":"Invalid symbol."}', "Invalid symbol. (code -1121)"),
        ("NKNUSDT", '{"lastUpdateId":1,"bids":[]}', "missing required field `asks`"),
        ("NKNUSDT", '{"lastUpdateId":-1,"bids":[],"asks":[]}', "Expected `int` >= 0"),
        ("NKNUSDT", '{"lastUpdateId":1,"bids":[["0","1"]],"asks":[]}', "a level's price"),
        ("NKNUSDT", "<html>", "malformed"),
        ("NKNUSDT", '{"code":' * 5_000, "recursion"),
        ("ETHBTC", '{"lastUpdateId":1,"bids":[],"asks":[]}', "not a subscribed symbol"),
    ],
)
def test_a_snapshot_that_is_none_says_why(feed: Binance, symbol: str, body: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        feed.read_snapshot(symbol, body.encode(), 5)


def test_a_snapshot_of_a_symbol_that_was_removed_is_not_used(feed: Binance) -> None:
    feed.unsubscribe(["NKNUSDT"])
    with pytest.raises(ValueError, match="not a subscribed symbol"):
        feed.read_snapshot("NKNUSDT", b'{"lastUpdateId":1,"bids":[],"asks":[]}', 5)


def test_old_snapshots_with_a_third_element_in_a_level_read_too(feed: Binance) -> None:
    body = b'{"lastUpdateId":1,"bids":[["0.1","2",[]]],"asks":[]}'
    (row,) = rows(feed.read_snapshot("NKNUSDT", body, 5))
    assert row["levels"] == [level(0, "0.1", "2")]


def test_the_recorded_instruments_have_their_names_and_steps(binance_recording: Recording) -> None:
    (request,) = Binance.instrument_requests(["BTCUSDT"])
    assert request == RestRequest("/api/v3/exchangeInfo", 20)
    table = Binance.read_instruments([binance_recording.rest[request.path]])
    table.validate(full=True)
    assert table.schema == INSTRUMENTS
    assert table.num_rows == 1_695
    assert table["active"].to_pylist().count(True) == 1_262
    of_symbol = {row["symbol"]: row for row in table.to_pylist()}
    assert {name: value for name, value in of_symbol["NKNUSDT"].items() if value is not None} == {
        "symbol": "NKNUSDT",
        "instrument": "NKN-USDT",
        "kind": "spot",
        "base": "NKN",
        "quote": "USDT",
        "price_increment": 0.0001,
        "size_increment": 1.0,
        "price_decimals": 4,
        "size_decimals": 0,
        "inverse": False,
        "active": True,
    }


@pytest.mark.parametrize("body", ["", "[]", '{"symbols":7}', '{"code":-1003,"msg":"Too many requests."}', "[" * 5_000])
def test_a_list_of_instruments_that_is_none_says_why(body: str) -> None:
    with pytest.raises(ValueError) as caught:
        Binance.read_instruments([body.encode()])
    assert str(caught.value)


def test_mutated_frames_raise_nothing_and_the_feed_stays_as_it_is(binance_recording: Recording) -> None:
    feed = new_feed(RECORDED)
    feed.subscribe(RECORDED)
    good = [
        *binance_recording.connection.frames,
        b'{"result":null,"id":1}',
        b'{"code":3,"msg":"no"}',
        SHUTDOWN.encode(),
    ]
    last = survives(feed, good, seed=1)
    assert (len(last.trades), len(last.quotes), len(last.books)) == (2, 84, 177)
    assert last.notices == ("reconnect",)


def test_a_mutated_answer_over_rest_is_read_or_says_why(binance_recording: Recording) -> None:
    feed, info = new_feed(RECORDED), json.loads(binance_recording.rest["/api/v3/exchangeInfo"])
    snapshots = [
        binance_recording.rest["/api/v3/depth?symbol=RUNEEUR&limit=1000"],
        b'{"code":-1121,"msg":"Invalid symbol."}',
    ]
    lists = [json.dumps(info | {"symbols": info["symbols"][:2]}).encode()]
    readers: list[tuple[list[bytes], Callable[[bytes], Any]]] = [
        (snapshots, lambda body: check_batch(feed.read_snapshot("RUNEEUR", body, 5), BOOK_MESSAGES)),
        (lists, lambda body: Binance.read_instruments([body]).validate(full=True)),
    ]
    for good, read in readers:
        refused = 0
        for body in mutated(good, 2_000, seed=3):
            try:
                read(body)
            except ValueError as error:
                assert str(error)
                refused += 1
        assert 200 < refused < 2_000


def test_mutated_frames_are_the_same_with_and_without_layouts(binance_recording: Recording) -> None:
    fast, slow = new_feed(RECORDED), without_layouts(new_feed(RECORDED))
    same_outcomes(fast, slow, list(mutated(binance_recording.connection.frames, 10_000, seed=2)))
