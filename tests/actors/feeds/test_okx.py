"""Messages without a source are shortened from the recording; the others are from https://www.okx.com/docs-v5/en/ (the
anchor is named)."""

import json
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.feeds.feed import Channel, Refusal, RestRequest
from actors.feeds.okx import Okx
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
from tests.actors.feeds.recordings import Recording

ENDPOINT = "wss://ws.okx.com:8443/ws/v5/public"
RECORDED = ["BTC-USDT", "BTC-USD-220527", "UNI-USD-SWAP"]
PLAIN: frozenset[Channel] = frozenset(("trades", "quotes", "book"))

TRADE: dict[str, Any] = {
    "instId": "BTC-USDT",
    "tradeId": "338476308",
    "px": "30228.7",
    "sz": "0.0024",
    "side": "buy",
    "ts": "1652459226049",
}
TICKER: dict[str, Any] = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "last": "30236",
    "lastSz": "0.0002",
    "askPx": "30228.7",
    "askSz": "1.55896972",
    "bidPx": "30228.6",
    "bidSz": "0.23393",
    "open24h": "29700.4",
    "high24h": "31073",
    "low24h": "28020.3",
    "sodUtc0": "29028.8",
    "sodUtc8": "30337.7",
    "volCcy24h": "525802090.62716611",
    "vol24h": "17602.13085371",
    "ts": "1652459224956",
}
#: #order-book-trading-market-data-ws-order-book-channel
BOOK: dict[str, Any] = {
    "asks": [["8476.98", "415", "0", "13"], ["8477", "7", "0", "2"]],
    "bids": [["8476.97", "256", "0", "12"], ["8475.55", "0", "0", "0"]],
    "ts": "1597026383085",
    "checksum": -855196043,
    "seqId": 123457,
    "prevSeqId": 123456,
}
#: #public-data-websocket-mark-price-channel, -open-interest-channel, -index-tickers-channel, -funding-rate-channel
MARK_PRICE: dict[str, Any] = {"instType": "FUTURES", "instId": "LTC-USD-190628", "markPx": "0.1", "ts": "1597026383085"}
#: As it has been written since 2023.
NEW_MARK_PRICE: dict[str, Any] = {
    "instId": "BTC-USD-SWAP",
    "instType": "SWAP",
    "markPx": "64472.0",
    "ts": "1785060301846",
}
OPEN_INTEREST: dict[str, Any] = {
    "instType": "SWAP",
    "instId": "LTC-USD-SWAP",
    "oi": "5000",
    "oiCcy": "555.55",
    "ts": "1597026383085",
}
INDEX_TICKER: dict[str, Any] = {
    "instId": "BTC-USDT",
    "idxPx": "0.1",
    "high24h": "0.5",
    "open24h": "0.1",
    "ts": "1597026383085",
}
FUNDING_RATE: dict[str, Any] = {
    "fundingRate": "0.0001875391284828",
    "fundingTime": "1700726400000",
    "instId": "BTC-USD-SWAP",
    "instType": "SWAP",
    "method": "current_period",
    "maxFundingRate": "0.00375",
    "minFundingRate": "-0.00375",
    "nextFundingRate": "",
    "nextFundingTime": "1700755200000",
    "premium": "0.0001233824646391",
    "settFundingRate": "0.0001699799259033",
    "settState": "settled",
    "ts": "1700724675402",
}
#: #public-data-websocket-liquidation-orders-channel
LIQUIDATION: dict[str, Any] = {
    "details": [
        {
            "bkLoss": "0",
            "bkPx": "0.007831",
            "ccy": "",
            "posSide": "short",
            "side": "buy",
            "sz": "13",
            "ts": "1692266434010",
        }
    ],
    "instFamily": "IOST-USDT",
    "instId": "IOST-USDT-SWAP",
    "instType": "SWAP",
    "uly": "IOST-USDT",
}


def compact(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def data(channel: str, *items: dict[str, Any], name: str = "BTC-USDT", **more: Any) -> str:
    kind = "instType" if channel == "liquidation-orders" else "instId"
    return compact({"arg": {"channel": channel, kind: name}, **more, "data": items})


def acknowledgement(channel: str, name: str = "BTC-USDT") -> str:
    kind = "instType" if channel == "liquidation-orders" else "instId"
    return compact({"event": "subscribe", "arg": {"channel": channel, kind: name}, "connId": "accb8e21"})


def arguments(messages: list[bytes], operation: str = "subscribe") -> list[tuple[str, str]]:
    """Channel and name of each subscription in these requests."""
    requests = [json.loads(message) for message in messages]
    assert {request["op"] for request in requests} <= {operation}
    found = [one for request in requests for one in request["args"]]
    return [(one["channel"], one.get("instId") or one["instType"]) for one in found]


def subscribed(symbols: list[str], channels: frozenset[Channel] | None = None) -> Okx:
    feed = Okx(symbols, ENDPOINT) if channels is None else Okx(symbols, ENDPOINT, channels)
    feed.subscribe(symbols)
    return feed


@pytest.fixture
def feed() -> Okx:
    return subscribed(["BTC-USDT", "BTC-USD-SWAP", "BTC-USD-260327", "BTC-USD-260327-60000-C"])


def plain_trade(item: Any, received: int) -> dict[str, Any]:
    return {
        "symbol": item["instId"],
        "ts_event": int(item["ts"]) * 1_000_000,
        "ts_recv": received,
        "trade_id": int(item["tradeId"]),
        "price": float(item["px"]),
        "size": float(item["sz"]),
        "side": {"buy": 0, "sell": 1}[item["side"]],
        "maker_order_id": None,
        "taker_order_id": None,
    }


def test_the_recording_reads_as_a_plain_reading_does(okx_recording: Recording) -> None:
    connection = okx_recording.connection
    trades, quotes, books = [], [], []
    for message, received in zip(connection.messages, connection.ts_recv.tolist(), strict=True):
        channel = message["arg"]["channel"]
        for item in message.get("data", []):
            if channel == "trades":
                trades.append(plain_trade(item, received))
            elif channel == "tickers":
                quotes.append(
                    {
                        "symbol": item["instId"],
                        "ts_event": int(item["ts"]) * 1_000_000,
                        "ts_recv": received,
                        "sequence": received,
                        "bid_price": float(item["bidPx"]),
                        "bid_size": float(item["bidSz"]),
                        "ask_price": float(item["askPx"]),
                        "ask_size": float(item["askSz"]),
                        "last_price": float(item["last"]),
                        "last_size": float(item["lastSz"]),
                        "last_side": None,
                    }
                )
            else:
                levels = [(1, *level[:2]) for level in item["asks"]] + [(0, *level[:2]) for level in item["bids"]]
                books.append(
                    {
                        "symbol": message["arg"]["instId"],
                        "ts_event": int(item["ts"]) * 1_000_000,
                        "ts_recv": received,
                        "kind": SNAPSHOT if message["action"] == "snapshot" else CHANGE,
                        "first_sequence": None,
                        "sequence": None,
                        "previous_sequence": None,
                        "checksum": item["checksum"] % 2**32,
                        "levels": [
                            {
                                "side": side,
                                "price": float(price),
                                "size": float(size),
                                "price_decimals": len(price.partition(".")[2]),
                                "size_decimals": len(size.partition(".")[2]),
                            }
                            for side, price, size in levels
                        ],
                    }
                )
    decoded = decode_checked(subscribed(RECORDED), connection.frames, connection.ts_recv)
    # Each symbol's first message came 3 ms after the acknowledgement, with a trade from before it.
    firsts = [next(trade for trade in trades if trade["symbol"] == symbol) for symbol in RECORDED]
    history = [trade for trade in trades if trade in firsts]
    assert rows(decoded.history) == history
    assert rows(decoded.trades) == [trade for trade in trades if trade not in history]
    assert rows(decoded.quotes) == quotes
    assert rows(decoded.books) == books
    assert (len(trades), len(history), len(quotes), len(books)) == (74, 3, 28, 3 + 287)
    assert max(row["ts_recv"] - row["ts_event"] for row in history) > 25 * 10**9
    assert not decoded.rejected
    assert not decoded.refused
    assert decoded.ignored == 18


def exact_text(value: float, decimals: int) -> str:
    assert decimals >= 0
    return f"{value:.{decimals}f}"


def test_the_digits_give_back_the_texts_that_all_checksums_of_the_recording_are_made_of(
    okx_recording: Recording,
) -> None:
    connection = okx_recording.connection
    decoded = decode_checked(subscribed(RECORDED), connection.frames, connection.ts_recv)
    books: dict[str, tuple[dict[float, str], dict[float, str]]] = {}
    for row in rows(decoded.books):
        if row["kind"] == SNAPSHOT:
            books[row["symbol"]] = ({}, {})
        for level in row["levels"]:
            side = books[row["symbol"]][level["side"]]
            side.pop(level["price"], None)
            if level["size"]:
                price = exact_text(level["price"], level["price_decimals"])
                side[level["price"]] = f"{price}:{exact_text(level['size'], level['size_decimals'])}"
        bids, asks = books[row["symbol"]]
        best = [sorted(side.items(), reverse=reverse)[:25] for side, reverse in ((bids, True), (asks, False))]
        alternating = [side[depth][1] for depth in range(25) for side in best if depth < len(side)]
        assert zlib.crc32(":".join(alternating).encode()) == row["checksum"]
    assert len(decoded.books) == 290
    assert max(len(side) for sides in books.values() for side in sides) <= 400


@pytest.mark.parametrize("seed", range(3))
def test_the_recording_cut_anywhere_gives_the_same_rows(okx_recording: Recording, seed: int) -> None:
    frames, ts_recv = okx_recording.connection.frames, okx_recording.connection.ts_recv
    whole = all_rows([decode_checked(subscribed(RECORDED), frames, ts_recv)])
    assert all_rows(cut_at_random(subscribed(RECORDED), frames, ts_recv, seed)) == whole
    feed = subscribed(RECORDED)
    single = [decode_checked(feed, frames[at : at + 1], ts_recv[at : at + 1]) for at in range(len(frames))]
    assert all_rows(single) == whole


def test_the_recorded_changes_trades_and_tickers_follow_the_layouts(okx_recording: Recording) -> None:
    connection = okx_recording.connection
    feed = subscribed(RECORDED)
    # What is left are the acknowledgements.
    assert len(feed._layouts.read(connection.frames, _events(feed, len(connection.frames))).others) == 18
    same_outcomes(subscribed(RECORDED), without_layouts(subscribed(RECORDED)), connection.frames)


def _events(feed: Okx, length: int) -> Any:
    from actors.feeds.events import Events

    return Events(np.arange(length), feed._symbols)


@pytest.mark.parametrize(
    "frame",
    [
        data("trades", TRADE),
        data("trades", TRADE, TRADE | {"tradeId": "338476309", "side": "sell"}),
        data("trades", TRADE | {"count": "1", "source": "0", "seqId": 80559459948}),
        data("tickers", TICKER),
        data("tickers", TICKER | {"askPx": "", "askSz": "", "last": ""}),
        data("books", BOOK, action="update"),
        data("books", BOOK | {"checksum": 0}, action="update"),
        data("books", BOOK | {"checksum": 0, "asks": [], "bids": [], "prevSeqId": 123457}, action="update"),
        data("books", BOOK | {"checksum": 0, "prevSeqId": -1}, action="snapshot"),
        data("mark-price", NEW_MARK_PRICE, name="BTC-USD-SWAP"),
        "pong",
    ],
)
def test_the_frames_of_today_follow_a_layout_and_read_the_same_without(feed: Okx, frame: str) -> None:
    assert not len(feed._layouts.read([frame.encode()], _events(feed, 1)).others)
    slow = without_layouts(subscribed(["BTC-USDT", "BTC-USD-SWAP", "BTC-USD-260327", "BTC-USD-260327-60000-C"]))
    same_outcomes(feed, slow, [frame.encode()])


@pytest.mark.parametrize(
    "frame",
    [
        data("books", BOOK | {"prevSeqId": -1}, action="update"),
        data(
            "books",
            {name: value for name, value in BOOK.items() if "eqId" not in name} | {"checksum": 0},
            action="update",
        ),
        data("books", BOOK | {"checksum": 2**31}, action="update"),
        data("books", BOOK | {"bids": [["8476.97", "-1", "0", "12"]]}, action="update"),
        data("books", BOOK | {"bids": [["8476.97", "", "0", "12"]]}, action="update"),
        data("books", BOOK, BOOK, action="update"),
        data("trades", TRADE | {"ts": "0"}),
        data("trades", TRADE | {"side": "Buy"}),
        data("trades"),
        data("tickers", TICKER | {"ts": ""}),
        data("trades", TRADE, name="ETH-USDT"),
        "pong ",
    ],
)
def test_frames_that_raise_a_question_read_the_same_with_and_without_layouts(feed: Okx, frame: str) -> None:
    slow = without_layouts(subscribed(["BTC-USDT", "BTC-USD-SWAP", "BTC-USD-260327", "BTC-USD-260327-60000-C"]))
    same_outcomes(feed, slow, [frame.encode()])


def test_a_change_names_the_one_before_it_and_a_checksum_of_zero_is_none(feed: Okx) -> None:
    decoded = decode(
        feed,
        data("books", BOOK | {"prevSeqId": -1, "seqId": 123456, "checksum": 0}, action="snapshot"),
        data("books", BOOK, action="update"),
        # Nothing changed; and the numbers begin anew after maintenance.
        data("books", BOOK | {"asks": [], "bids": [], "prevSeqId": 123457, "checksum": 0}, action="update"),
        data("books", BOOK | {"prevSeqId": 123457, "seqId": 3}, action="update"),
    )
    found = [(row["kind"], row["previous_sequence"], row["sequence"], row["checksum"]) for row in rows(decoded.books)]
    assert found == [
        (SNAPSHOT, None, 123456, None),
        (CHANGE, 123456, 123457, 2**32 - 855196043),
        (CHANGE, 123457, 123457, None),
        (CHANGE, 123457, 3, 2**32 - 855196043),
    ]
    assert [level["side"] for level in rows(decoded.books)[0]["levels"]] == [1, 1, 0, 0]
    assert rows(decoded.books)[2]["levels"] == []
    assert (feed.book_rules.chain, feed.book_rules.checksum, feed.book_rules.depth) == ("previous", "okx", 400)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (data("books", BOOK | {"asks": [["8476.98"]]}, action="update"), "length"),
        (data("books", BOOK | {"asks": [[8476.98, "1", "0", "1"]]}, action="update"), "Expected `str`"),
        (data("books", BOOK | {"asks": [["x", "1", "0", "1"]]}, action="update"), "a level's price"),
        (data("books", BOOK | {"checksum": 2**32}, action="update"), "Expected `int`"),
        (data("books", BOOK, action="partial"), "neither a snapshot nor an update"),
        (data("books", BOOK), "neither a snapshot nor an update"),
        (data("books", BOOK, action="update")[:-20], "truncated"),
        ('{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update"}', "truncated"),
    ],
)
def test_an_unreadable_frame_about_a_book_breaks_that_book_in_its_place(feed: Okx, bad: str, reason: str) -> None:
    decoded = decode(feed, data("books", BOOK, action="update"), bad, data("books", BOOK, action="update"))
    assert [row["kind"] for row in rows(decoded.books)] == [CHANGE, BROKEN, CHANGE]
    assert [row["symbol"] for row in rows(decoded.books)] == ["BTC-USDT"] * 3
    assert [one.frame for one in decoded.rejected] == [bad.encode()]
    assert reason in decoded.rejected[0].reason


def test_a_broken_frame_about_an_unknown_book_breaks_no_book(feed: Okx) -> None:
    decoded = decode(feed, data("books", BOOK, name="XRP-USDT", action="update")[:-9])
    assert not len(decoded.books)
    assert len(decoded.rejected) == 1


@pytest.mark.parametrize("nothing", ["", None, "0", "nan"])
def test_a_ticker_without_an_ask_has_null_never_zero(feed: Okx, nothing: object) -> None:
    blank = {"askPx": nothing, "askSz": nothing, "last": nothing, "lastSz": nothing}
    (row,) = rows(decode(feed, data("tickers", TICKER | blank)).quotes)
    assert (row["ask_price"], row["ask_size"], row["last_price"], row["last_size"]) == (None, None, None, None)
    assert (row["bid_price"], row["bid_size"]) == (30228.6, 0.23393)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (data("trades", TRADE | {"px": "0"}), "price is not a positive number"),
        (data("trades", TRADE | {"sz": ""}), "missing required field `sz`"),
        (data("trades", TRADE | {"tradeId": "a1"}), "Expected `int`"),
        (data("trades", TRADE | {"ts": "1"}), "time is unreadable"),
        (data("trades", TRADE | {"side": ""}), "missing required field `side`"),
        (data("trades", TRADE, name="ETH-USDT"), "not a subscribed symbol"),
        (data("tickers", TICKER | {"ts": ""}), "missing required field `ts`"),
        ('{"arg":{"channel":"trades","instId":"BTC-USDT"}}', "truncated"),
        ('{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":7}', "Expected `array`"),
        ("{}", "neither data nor an answer"),
        ("[]", "Expected `object`"),
        ("pong!", "malformed"),
        ("", "truncated"),
    ],
)
def test_a_bad_frame_is_rejected_with_its_reason_and_the_next_is_kept(feed: Okx, bad: str, reason: str) -> None:
    decoded = decode(feed, data("tickers", TICKER), bad, data("trades", TRADE))
    assert [one.frame for one in decoded.rejected] == [bad.encode()]
    assert reason in decoded.rejected[0].reason
    assert [row["ts_recv"] for row in rows(decoded.trades)] == [1_002]
    assert [row["ts_recv"] for row in rows(decoded.quotes)] == [1_000]


def test_several_trades_of_one_message_are_all_kept(feed: Okx) -> None:
    decoded = decode(feed, data("trades", TRADE, TRADE | {"tradeId": "338476309", "side": "sell", "count": "2"}))
    assert [(row["trade_id"], row["side"]) for row in rows(decoded.trades)] == [(338476308, 0), (338476309, 1)]


def received_at(feed: Okx, *frames: tuple[int, str]) -> Any:
    """Frames received at these times (ms)."""
    times = np.array([moment for moment, _ in frames], np.int64) * 1_000_000
    return decode_checked(feed, [frame.encode() for _, frame in frames], times)


def trade(number: int, ts: int, symbol: str = "BTC-USDT") -> str:
    return data("trades", TRADE | {"tradeId": str(number), "ts": str(ts), "instId": symbol}, name=symbol)


NOW = 1_652_459_226_000


@pytest.mark.parametrize("together", [True, False])
def test_only_the_first_message_after_an_acknowledgement_holds_history(together: bool) -> None:
    feed = subscribed(["BTC-USDT", "ETH-USDT"])
    frames = [
        (NOW, acknowledgement("trades")),
        (NOW + 1, trade(1, NOW - 25_000)),
        (NOW + 2, trade(2, NOW - 200)),
        (NOW + 3, acknowledgement("trades", "ETH-USDT")),
        (NOW + 4, acknowledgement("trades")),
        (NOW + 5, trade(3, NOW - 100)),
        # It happened after the acknowledgement, so it is live although it is the first.
        (NOW + 900, trade(4, NOW + 800, "ETH-USDT")),
    ]
    pieces = [frames] if together else [[one] for one in frames]
    decoded = [received_at(feed, *piece) for piece in pieces]
    assert [row["trade_id"] for one in decoded for row in rows(one.history)] == [1]
    assert [row["trade_id"] for one in decoded for row in rows(one.trades)] == [2, 3, 4]


def test_a_symbol_subscribed_again_has_history_again() -> None:
    feed = subscribed(["BTC-USDT"])
    received_at(feed, (NOW, acknowledgement("trades")), (NOW + 1, trade(1, NOW - 500)))
    feed.unsubscribe(["BTC-USDT"])
    feed.subscribe(["BTC-USDT"])
    decoded = received_at(
        feed,
        (NOW + 5, trade(2, NOW)),
        (NOW + 10, acknowledgement("trades")),
        (NOW + 11, trade(3, NOW + 2)),
        (NOW + 12, trade(4, NOW + 3)),
    )
    assert [row["trade_id"] for row in rows(decoded.history)] == [3]
    assert [row["trade_id"] for row in rows(decoded.trades)] == [2, 4]


def only_known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and name != "ts_recv"}


def test_each_channel_of_a_derivative_says_its_part_and_nothing_else(feed: Okx) -> None:
    swap = {"instId": "BTC-USD-SWAP"}
    decoded = decode(
        feed,
        data("mark-price", MARK_PRICE | swap, name="BTC-USD-SWAP"),
        data("open-interest", OPEN_INTEREST | swap, name="BTC-USD-SWAP"),
        data("funding-rate", FUNDING_RATE, name="BTC-USD-SWAP"),
        data("funding-rate", FUNDING_RATE | {"nextFundingRate": "-0.001", "fundingRate": None}, name="BTC-USD-SWAP"),
    )
    common = {"symbol": "BTC-USD-SWAP", "ts_event": 1_597_026_383_085_000_000}
    funding = {"ts_event": 1_700_724_675_402_000_000, "next_funding_time": 1_700_726_400_000_000_000}
    assert [only_known(row) for row in rows(decoded.derivatives)] == [
        common | {"mark_price": 0.1},
        common | {"open_interest": 5000.0},
        common | funding | {"funding_rate": 0.0001875391284828},
        common | funding | {"predicted_funding_rate": -0.001},
    ]


def test_a_funding_rate_without_a_time_has_the_time_received(feed: Okx) -> None:
    # As it was before 2022.
    old = {name: FUNDING_RATE[name] for name in ("fundingRate", "fundingTime", "instId", "instType")}
    decoded = received_at(feed, (NOW, data("funding-rate", old, name="BTC-USD-SWAP")))
    assert [row["ts_event"] for row in rows(decoded.derivatives)] == [NOW * 1_000_000]


def test_an_index_is_told_for_every_instrument_on_it(feed: Okx) -> None:
    decoded = decode(
        feed,
        data("index-tickers", INDEX_TICKER | {"instId": "BTC-USD", "idxPx": "63000.5"}, name="BTC-USD"),
        data("index-tickers", INDEX_TICKER, name="BTC-USDT"),
        data("index-tickers", name="BTC-USD"),
    )
    assert [(row["symbol"], row["index_price"]) for row in rows(decoded.derivatives)] == [
        ("BTC-USD-SWAP", 63000.5),
        ("BTC-USD-260327", 63000.5),
        ("BTC-USD-260327-60000-C", 63000.5),
    ]
    assert decoded.ignored == 2


def test_of_all_liquidations_only_those_of_our_symbols_are_kept() -> None:
    feed = subscribed(["IOST-USDT-SWAP", "BTC-USDT-SWAP"])
    feed.unsubscribe(["BTC-USDT-SWAP"])
    two = LIQUIDATION["details"] + [LIQUIDATION["details"][0] | {"side": "sell", "sz": "2"}]
    decoded = decode(
        feed,
        data("liquidation-orders", LIQUIDATION, LIQUIDATION | {"instId": "OTHER-USDT-SWAP"}, name="SWAP"),
        data("liquidation-orders", LIQUIDATION | {"instId": "OTHER-USDT-SWAP"}, name="SWAP"),
        data("liquidation-orders", LIQUIDATION | {"instId": "BTC-USDT-SWAP"}, name="SWAP"),
        data("liquidation-orders", LIQUIDATION | {"details": two}, name="SWAP"),
        data("liquidation-orders", LIQUIDATION | {"details": []}, name="SWAP"),
    )
    found = [(row["symbol"], row["side"], row["price"], row["size"]) for row in rows(decoded.liquidations)]
    assert found == [("IOST-USDT-SWAP", side, 0.007831, size) for side, size in ((0, 13.0), (0, 13.0), (1, 2.0))]
    assert rows(decoded.liquidations)[0]["ts_event"] == 1_692_266_434_010_000_000
    assert decoded.ignored == 3


def test_what_a_symbol_has_depends_on_its_kind() -> None:
    feed = Okx(["BTC-USDT"], ENDPOINT)
    shared = [("mark-price", "X"), ("open-interest", "X")]

    def asked(symbol: str) -> set[tuple[str, str]]:
        keys = arguments(feed.subscribe([symbol]))
        assert len(keys) == len(set(keys))
        return {(channel, name.replace(symbol, "X")) for channel, name in keys}

    spot = {("trades", "X"), ("tickers", "X"), ("books", "X")}
    assert asked("BTC-USDT") == spot
    funding = [("funding-rate", "X"), ("liquidation-orders", "SWAP")]
    assert asked("BTC-USDT-SWAP") == spot.union(shared, funding, [("index-tickers", "BTC-USDT")])
    future = [("index-tickers", "BTC-USD"), ("liquidation-orders", "FUTURES")]
    assert asked("BTC-USD_UM-260327") == spot.union(shared, future)
    assert asked("BTC-USD-260327-60000-C") == spot.union(shared, [("index-tickers", "BTC-USD")])


def test_a_symbol_is_subscribed_when_all_its_channels_are_acknowledged() -> None:
    feed = Okx(["BTC-USDT-SWAP", "BTC-USDT-260327"], ENDPOINT)
    keys = arguments(feed.subscribe(["BTC-USDT-SWAP", "BTC-USDT-260327"]))
    assert len(keys) == len(set(keys)) == 8 + 6, "the index is common to both"
    *first, last = [acknowledgement(*key) for key in keys if "SWAP" in key[1] or key[1] == "BTC-USDT"]
    assert decode(feed, *first, *first).subscribed == frozenset()
    decoded = decode(feed, last)
    assert decoded.subscribed == {"BTC-USDT-SWAP"}
    assert decoded.ignored == 1
    assert decode(feed, last).subscribed == frozenset()
    rest = [acknowledgement(*key) for key in keys if key[1] in ("BTC-USDT-260327", "FUTURES")]
    assert decode(feed, *rest).subscribed == {"BTC-USDT-260327"}
    # What is granted for all is not asked for again.
    assert arguments(feed.subscribe(["ETH-USDT-SWAP", "BTC-USDT-SWAP"])) == [
        (channel, "ETH-USDT" if channel == "index-tickers" else "ETH-USDT-SWAP")
        for channel in ("trades", "tickers", "books", "mark-price", "open-interest", "index-tickers", "funding-rate")
    ]


def test_the_recorded_acknowledgements_complete_what_was_asked_for_there(okx_recording: Recording) -> None:
    connection = okx_recording.connection
    feed = subscribed(RECORDED, PLAIN)
    assert decode_checked(feed, connection.frames, connection.ts_recv).subscribed == frozenset(RECORDED)
    sent = {tuple(one.values()) for message in connection.sent for one in json.loads(message)["args"]}
    assert sent == set(arguments(Okx(RECORDED, ENDPOINT, PLAIN).subscribe(RECORDED)))


def test_other_channels_than_those_asked_for_are_ignored_whatever_they_hold() -> None:
    feed = subscribed(["BTC-USDT"], frozenset(("trades",)))
    frames = [data("tickers", TICKER), data("books", action="x"), data("candle1m", {}), data("index-tickers", {})]
    decoded = decode(feed, *frames, data("trades", TRADE))
    assert decoded.ignored == 4
    assert len(decoded.trades) == 1
    assert arguments(Okx(["BTC-USDT-SWAP"], ENDPOINT, frozenset(("liquidations",))).subscribe(["BTC-USDT-SWAP"])) == [
        ("liquidation-orders", "SWAP")
    ]


def error(message: str, code: str = "60018", **more: Any) -> str:
    return compact({"event": "error", "msg": message, "code": code, "connId": "a4d3ae55", **more})


def no_such(channel: str, name: str, what: str = "instId") -> str:
    """#error-code-websocket, one for each channel that does not exist."""
    return error(
        f"Wrong URL or channel:{channel},{what}:{name} doesn't exist. Please use the correct URL, channel and "
        "parameters referring to API document."
    )


def test_a_symbol_that_does_not_exist_is_refused_by_name_and_the_others_go_on() -> None:
    feed = subscribed(["NOPE-USDT", "BTC-USDT"])
    granted = [acknowledgement(channel) for channel in ("trades", "tickers", "books")]
    decoded = decode(feed, no_such("books", "NOPE-USDT"), *granted)
    (refusal,) = decoded.refused
    assert refusal.symbols == {"NOPE-USDT"}
    assert refusal.reason.startswith("Wrong URL or channel:books,instId:NOPE-USDT doesn't exist.")
    assert refusal.reason.endswith("(code 60018)")
    assert decoded.subscribed == {"BTC-USDT"}
    named = error("No.", arg={"channel": "trades", "instId": "NOPE-USDT"})
    assert decode(feed, named).refused == (Refusal(frozenset({"NOPE-USDT"}), "No. (code 60018)"),)


def test_a_symbol_can_do_without_an_index() -> None:
    feed = Okx(["NEW-USDT-SWAP"], ENDPOINT)
    keys = arguments(feed.subscribe(["NEW-USDT-SWAP"]))
    granted = [acknowledgement(*key) for key in keys if key[0] not in ("index-tickers", "liquidation-orders")]
    decoded = decode(feed, *granted, no_such("index-tickers", "NEW-USDT"))
    assert [refusal.symbols for refusal in decoded.refused] == [frozenset()]
    assert decoded.subscribed == frozenset()
    assert decode(feed, no_such("liquidation-orders", "SWAP", "instType")).subscribed == {"NEW-USDT-SWAP"}


def test_other_errors_are_told_in_the_words_of_the_exchange() -> None:
    # #overview-websocket-subscribe
    feed = subscribed(["BTC-USDT"])
    decoded = decode(feed, error("Invalid request: {}", "60012"), error("x" * 999, "60014"), no_such("books", "X-Y"))
    assert [refusal.symbols for refusal in decoded.refused] == [frozenset()] * 3
    assert decoded.refused[0].reason == "Invalid request: {} (code 60012)"
    assert len(decoded.refused[1].reason) < 330


def test_a_notice_of_an_upgrade_asks_to_connect_again() -> None:
    # #overview-websocket-notification, #overview-websocket-connection-count-limit
    notice = {"event": "notice", "code": "64008", "msg": "The connection will soon be closed.", "connId": "a4d3ae55"}
    count = {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "abcd1234"}
    decoded = decode(subscribed(["BTC-USDT"]), compact(notice), compact(count), compact(notice | {"code": "1"}), "pong")
    assert decoded.notices == ("reconnect",)
    assert decoded.ignored == 4


def test_what_still_comes_of_ended_symbols_is_left_out_and_shared_channels_stay_for_the_others() -> None:
    feed = Okx(["BTC-USDT-SWAP", "ETH-USDT-SWAP"], ENDPOINT)
    feed.subscribe(["BTC-USDT-SWAP", "ETH-USDT-SWAP"])
    ended = arguments(feed.unsubscribe(["BTC-USDT-SWAP"]), "unsubscribe")
    assert ("liquidation-orders", "SWAP") not in ended
    assert ("index-tickers", "BTC-USDT") in ended
    assert len(ended) == 7
    late = [
        data("trades", TRADE, name="BTC-USDT-SWAP"),
        data("tickers", TICKER, name="BTC-USDT-SWAP"),
        data("books", BOOK, name="BTC-USDT-SWAP", action="update"),
        data("mark-price", MARK_PRICE, name="BTC-USDT-SWAP"),
    ]
    decoded = decode(feed, *late, data("index-tickers", INDEX_TICKER), left_out=4)
    assert decoded.ignored == 1
    assert not any(len(getattr(decoded, name)) for name in ("trades", "quotes", "books", "derivatives"))
    assert ("liquidation-orders", "SWAP") in arguments(feed.unsubscribe(["ETH-USDT-SWAP"]), "unsubscribe")
    assert feed.unsubscribe(["ETH-USDT-SWAP"]) == []


def test_requests_stay_within_64_kilobytes() -> None:
    symbols = [f"COIN{number:04}-USD_UM-260327-{number}00000-C" for number in range(1_000)]
    feed = Okx(symbols, ENDPOINT)
    messages = feed.subscribe(symbols)
    assert max(map(len, messages)) < 64_000
    keys = arguments(messages)
    assert len(keys) == len(set(keys)) == 6 * 1_000
    assert len(feed.subscribe(symbols[: feed.limits.symbols_per_message])) == 1


def test_a_book_is_renewed_by_subscribing_to_it_again() -> None:
    feed = subscribed(["BTC-USDT"], PLAIN)
    decode(feed, *[acknowledgement(channel) for channel in ("trades", "tickers", "books")])
    ended, begun = feed.renew_book("BTC-USDT")
    assert arguments([ended], "unsubscribe") == arguments([begun]) == [("books", "BTC-USDT")]
    gone = compact({"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}})
    decoded = decode(feed, gone, acknowledgement("books"), data("books", BOOK, action="snapshot"))
    assert (decoded.ignored, decoded.subscribed, len(decoded.books)) == (2, frozenset(), 1)
    assert feed.snapshot_request("BTC-USDT") is None
    with pytest.raises(ValueError, match="WebSocket"):
        feed.read_snapshot("BTC-USDT", b"{}", 0)


def test_symbols_are_grouped_within_the_limit_and_impossible_ones_named() -> None:
    symbols = [f"A{number}-USDT" for number in range(600)]
    groups = Okx.groups([*symbols, "A1-USDT"])
    assert [len(group) for group in groups] == [250, 250, 100]
    assert [symbol for group in groups for symbol in group] == symbols
    good = ["BTC-USD_UM-SWAP", "BTC-USD-260327", "BTC-USD-260327-60000-C", "1INCH-USDT", "XRP-USD-260327-0.5-P"]
    assert Okx.groups(good) == [tuple(good)]
    for bad in ("BTCUSDT", "btc-usdt", "BTC-USDT-PERP", "BTC-USD-260327-60000-X", "", "BTC-USDT\n", "x" * 10_000):
        with pytest.raises(ValueError, match="okx cannot have the symbol"):
            Okx.groups(["BTC-USDT", bad])
    feed = Okx(["BTC-USDT"], ENDPOINT)
    assert (feed.url, feed.greet(), feed.ping()) == (ENDPOINT, [], b"ping")


def instruments(recording: Recording) -> dict[str, dict[str, Any]]:
    symbols = [*RECORDED, "BTC-USD-220527-30000-P", "ETH-USD-220527-2000-C"]
    requests = Okx.instrument_requests(symbols)
    table = Okx.read_instruments([recording.rest[request.path] for request in requests])
    return {row["symbol"]: row for row in table.to_pylist()}


def test_only_the_lists_the_symbols_need_are_asked_for() -> None:
    path = "/api/v5/public/instruments?instType="
    assert Okx.instrument_requests(["BTC-USDT", "ETH-USDT"]) == [RestRequest(f"{path}SPOT")]
    assert Okx.instrument_requests(["ETH-USD_UM-260327-4000-C", "BTC-USD-SWAP", "BTC-USD-260327-60000-C"]) == [
        RestRequest(f"{path}OPTION&uly=BTC-USD"),
        RestRequest(f"{path}OPTION&uly=ETH-USD"),
        RestRequest(f"{path}SWAP"),
    ]


def test_the_recorded_instruments_have_normalised_names_units_and_steps(okx_recording: Recording) -> None:
    listed = instruments(okx_recording)
    assert len(listed) > 1_000
    pair = listed["BTC-USDT"]
    assert (pair["instrument"], pair["kind"], pair["base"], pair["quote"]) == ("BTC-USDT", "spot", "BTC", "USDT")
    assert (pair["price_increment"], pair["size_increment"]) == (0.1, 1e-8)
    assert (pair["price_decimals"], pair["size_decimals"]) == (1, 8)
    assert (pair["contract_size"], pair["contract_currency"], pair["settle"], pair["inverse"]) == (
        None,
        None,
        None,
        False,
    )
    inverse = listed["BTC-USD-SWAP"]
    assert (inverse["instrument"], inverse["inverse"], inverse["settle"]) == ("BTC-PERPETUAL", True, "BTC")
    assert (inverse["contract_size"], inverse["contract_currency"]) == (100.0, "USD")
    linear = listed["BTC-USDT-SWAP"]
    assert (linear["instrument"], linear["inverse"], linear["settle"]) == ("BTC-USDT-PERPETUAL", False, "USDT")
    assert (linear["contract_size"], linear["contract_currency"]) == (0.01, "BTC")
    future = listed["BTC-USD-220527"]
    assert (future["instrument"], future["kind"]) == ("BTC-USD-20220527", "future")
    assert future["expiry"] == 1_653_638_400 * 10**9
    option = listed["BTC-USD-220527-30000-P"]
    assert (option["instrument"], option["kind"]) == ("BTC-USD-20220527-30000-P", "option")
    assert (option["strike"], option["option_type"], option["inverse"]) == (30000.0, "put", True)
    # One BTC times 0.1 at that time.
    assert (option["contract_size"], option["contract_currency"]) == (0.1, "BTC")
    assert all(row["active"] for row in listed.values() if row["symbol"] in RECORDED)


def test_instruments_with_fields_that_say_nothing_have_nulls() -> None:
    listed = [
        {"instId": "A-USDT", "instType": "SPOT", "baseCcy": "A", "quoteCcy": "USDT", "tickSz": "", "state": "preopen"},
        {"instId": "A-USD-260327-1-C", "instType": "OPTION", "uly": "A-USD", "optType": "", "stk": "", "expTime": ""},
        {"instId": "A-EVENT", "instType": "EVENTS"},
    ]
    body = compact({"code": "0", "data": listed, "msg": ""}).encode()
    pair, option = Okx.read_instruments([body]).to_pylist()
    assert (pair["price_increment"], pair["price_decimals"], pair["active"]) == (None, None, False)
    assert (option["kind"], option["expiry"], option["strike"]) == ("other", None, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"code":"51001","data":[],"msg":"Instrument ID does not exist"}', r"does not exist \(code 51001\)"),
        (b"", "truncated"),
        (b"<html>", "malformed"),
        (b"[" * 100_000, "not a list of instruments"),
        (b'{"code":"0","data":[{"instId":7,"instType":"SPOT"}]}', "Expected `str`"),
    ],
)
def test_an_unreadable_list_of_instruments_is_an_error_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Okx.read_instruments([body])
    assert isinstance(Okx.read_instruments([]), pa.Table)


def test_mutated_frames_raise_nothing_and_cost_no_memory(okx_recording: Recording) -> None:
    symbols = [*RECORDED, "IOST-USDT-SWAP", "BTC-USD-SWAP"]
    frames = [
        *okx_recording.connection.frames[:200],
        *[
            frame.encode()
            for frame in (
                data("books", BOOK, action="update"),
                data("mark-price", MARK_PRICE | {"instId": "BTC-USD-SWAP"}, name="BTC-USD-SWAP"),
                data("open-interest", OPEN_INTEREST, name="BTC-USD-SWAP"),
                data("funding-rate", FUNDING_RATE, name="BTC-USD-SWAP"),
                data("index-tickers", INDEX_TICKER, name="BTC-USD"),
                data("liquidation-orders", LIQUIDATION, name="SWAP"),
                no_such("books", "BTC-USDT"),
                error("Invalid request: {}", "60012"),
                "pong",
            )
        ],
    ]
    good = survives(subscribed(symbols), frames, seed=1)
    assert len(good.trades)
    assert len(good.derivatives) == 5


def test_mutated_frames_read_the_same_with_and_without_layouts(okx_recording: Recording) -> None:
    from tests.actors.feeds.mutations import mutated

    now = [data("books", BOOK | {"checksum": 0}, action="update"), data("trades", TRADE | {"count": "1"}), "pong"]
    frames = [*okx_recording.connection.frames[:300], *[frame.encode() for frame in now]]
    same_outcomes(subscribed(RECORDED), without_layouts(subscribed(RECORDED)), list(mutated(frames, 5_000, seed=2)))
