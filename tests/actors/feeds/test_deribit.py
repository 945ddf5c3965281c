"""Messages without a source are from the recording; the others are from https://docs.deribit.com (the page is named)
or those shapes with the keys in the order in which Deribit writes them today."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.connection import Connection, Disconnect, Effect, Subscribe
from actors.feeds.deribit import Deribit
from actors.feeds.feed import ALL_CHANNELS, Channel, Credentials
from storage.schema import BROKEN, CHANGE, SNAPSHOT
from tests.actors.feeds.checks import (
    all_rows,
    cut_at_random,
    decode,
    decode_checked,
    rows,
    without_layouts,
)
from tests.actors.feeds.recordings import Recording

ENDPOINT = "wss://www.deribit.com/ws/api/v2"
PERPETUAL = "BTC-PERPETUAL"

#: https://docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval
SNAPSHOT_DATA = {
    "timestamp": 1554373962454,
    "type": "snapshot",
    "change_id": 297217,
    "instrument_name": PERPETUAL,
    "bids": [["new", 5042.34, 30.0], ["new", 5041.94, 20.0]],
    "asks": [["new", 5042.64, 40.0], ["new", 5043.3, 1.0002e6]],
}
CHANGE_DATA = {
    "timestamp": 1554373911330,
    "type": "change",
    "change_id": 297218,
    "instrument_name": PERPETUAL,
    "bids": [["delete", 5041.94, 0.0], ["change", 5042.34, 10.0]],
    "asks": [["new", 5042.5, 350.0]],
    "prev_change_id": 297217,
}
#: https://docs.deribit.com/subscriptions/trades/tradesinstrument_nameinterval
TRADE = {
    "timestamp": 1590484156350,
    "price": 8950.0,
    "amount": 10.0,
    "direction": "sell",
    "index_price": 8955.88,
    "instrument_name": PERPETUAL,
    "trade_seq": 30289432,
    "mark_price": 8948.9,
    "tick_direction": 0,
    "trade_id": "48079254",
    "contracts": 1.0,
}
TRADE_OF_2021 = {
    "trade_seq": 92836831,
    "trade_id": "137487241",
    "timestamp": 1616321478553,
    "tick_direction": 1,
    "price": 56168.0,
    "mark_price": 56172.08,
    "instrument_name": PERPETUAL,
    "index_price": 56173.74,
    "direction": "buy",
    "amount": 5580.0,
}
#: https://docs.deribit.com/subscriptions/market-data/tickerinstrument_nameinterval
TICKER = {
    "timestamp": 1623060194301,
    "state": "open",
    "stats": {
        "high": 36824.5,
        "low": 35213.5,
        "price_change": 0.7229,
        "volume": 7871.02139035,
        "volume_usd": 284061480,
    },
    "index_price": 36441.64,
    "instrument_name": PERPETUAL,
    "last_price": 36457.5,
    "settlement_price": 36169.49,
    "min_price": 35898.37,
    "max_price": 36991.72,
    "open_interest": 502097590,
    "mark_price": 36446.51,
    "interest_value": 1.7362511,
    "current_funding": 0.0000211,
    "estimated_delivery_price": 36441.64,
    "funding_8h": 0.0000211,
    "best_ask_price": 36443.0,
    "best_bid_price": 36442.5,
    "best_ask_amount": 100.0,
    "best_bid_amount": 5000.0,
}


def subscribed(
    *symbols: str, channels: frozenset[Channel] = ALL_CHANNELS, credentials: Credentials | None = None
) -> Deribit:
    feed = Deribit(symbols, ENDPOINT, channels, credentials)
    feed.greet()
    feed.subscribe(symbols)
    return feed


def message(channel: str, data: Any) -> str:
    content = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(content, separators=(",", ":"))


def answer(number: int, **outcome: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, **outcome, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False})


def recorded_symbols(recording: Recording) -> list[str]:
    channels = json.loads(recording.connection.sent[0])["params"]["channels"]
    return [channel.split(".")[1] for channel in channels if channel.startswith("book.")]


def test_recording_decodes_completely(deribit_recording: Recording) -> None:
    recorded = deribit_recording.connection
    symbols = recorded_symbols(deribit_recording)
    decoded = decode_checked(subscribed(*symbols), recorded.frames, recorded.ts_recv)
    data = [one["params"] for one in recorded.messages if "params" in one]
    books = [one["data"] for one in data if one["channel"].startswith("book.")]
    tickers = [one["data"] for one in data if one["channel"].startswith("ticker.")]
    assert (len(books), len(tickers)) == (46, 89)

    assert [
        (
            row["symbol"],
            row["ts_event"],
            row["kind"],
            row["sequence"],
            row["previous_sequence"],
            [(level["side"], level["price"], level["size"]) for level in row["levels"]],
        )
        for row in rows(decoded.books)
    ] == [
        (
            book["instrument_name"],
            book["timestamp"] * 1_000_000,
            CHANGE if book["type"] == "change" else SNAPSHOT,
            book["change_id"],
            book.get("prev_change_id"),
            [(0, price, size) for _, price, size in book["bids"]]
            + [(1, price, size) for _, price, size in book["asks"]],
        )
        for book in books
    ]
    assert [
        (row["symbol"], row["ts_event"], row["bid_price"], row["bid_size"], row["ask_price"], row["ask_size"])
        for row in rows(decoded.quotes)
    ] == [
        (
            ticker["instrument_name"],
            ticker["timestamp"] * 1_000_000,
            *(
                ticker[name] or None
                for name in ("best_bid_price", "best_bid_amount", "best_ask_price", "best_ask_amount")
            ),
        )
        for ticker in tickers
    ]
    assert [
        (row["symbol"], row["mark_price"], row["index_price"], row["open_interest"], row["funding_rate"])
        for row in rows(decoded.derivatives)
    ] == [
        (one["instrument_name"], one["mark_price"], one["index_price"], one["open_interest"], None) for one in tickers
    ]
    assert decoded.trades.num_rows == decoded.history.num_rows == decoded.liquidations.num_rows == 0
    assert (decoded.rejected, decoded.refused, decoded.ignored) == ((), (), 1)
    assert decoded.subscribed == frozenset(symbols)


def test_recorded_books_chain_without_a_hole(deribit_recording: Recording) -> None:
    recorded = deribit_recording.connection
    decoded = decode_checked(subscribed(*recorded_symbols(deribit_recording)), recorded.frames, recorded.ts_recv)
    last: dict[str, int] = {}
    chained = 0
    for row in rows(decoded.books):
        if row["kind"] == CHANGE:
            assert row["previous_sequence"] == last[row["symbol"]]
            chained += 1
        last[row["symbol"]] = row["sequence"]
    assert chained == 36


def test_the_cut_of_batches_changes_nothing(deribit_recording: Recording) -> None:
    recorded = deribit_recording.connection
    symbols = recorded_symbols(deribit_recording)
    whole = decode_checked(subscribed(*symbols), recorded.frames, recorded.ts_recv)
    pieces = cut_at_random(subscribed(*symbols), recorded.frames, recorded.ts_recv, seed=1)
    assert all_rows(pieces) == all_rows([whole])


def test_a_book_has_its_levels_exactly_as_they_are_written() -> None:
    decoded = decode(
        subscribed(PERPETUAL),
        message("book.BTC-PERPETUAL.100ms", SNAPSHOT_DATA).replace("1000200.0", "1.0002e6"),
        message("book.BTC-PERPETUAL.100ms", CHANGE_DATA),
    )
    snapshot, change = rows(decoded.books)
    assert (snapshot["kind"], snapshot["sequence"], snapshot["previous_sequence"]) == (SNAPSHOT, 297217, None)
    assert (change["kind"], change["sequence"], change["previous_sequence"]) == (CHANGE, 297218, 297217)
    assert change["first_sequence"] is change["checksum"] is None
    assert [tuple(level.values()) for level in snapshot["levels"]] == [
        (0, 5042.34, 30.0, 2, 1),
        (0, 5041.94, 20.0, 2, 1),
        (1, 5042.64, 40.0, 2, 1),
        (1, 5043.3, 1_000_200.0, 1, -1),
    ]
    assert [tuple(level.values()) for level in change["levels"]] == [
        (0, 5041.94, 0.0, 2, 1),
        (0, 5042.34, 10.0, 2, 1),
        (1, 5042.5, 350.0, 1, 1),
    ]


def test_a_deleted_level_is_gone_whatever_amount_it_names() -> None:
    data = CHANGE_DATA | {"bids": [["delete", 5041.94, 20.0]], "asks": []}
    reordered = {name: data[name] for name in sorted(data)}
    for content in (data, reordered):
        (row,) = rows(decode(subscribed(PERPETUAL), message("book.BTC-PERPETUAL.100ms", content)).books)
        assert [level["size"] for level in row["levels"]] == [0.0]


def test_trades_are_numbered_by_instrument_and_the_direction_is_the_takers() -> None:
    second = TRADE | {"trade_seq": 30289433, "direction": "buy", "amount": 2.2e3}
    decoded = decode(
        subscribed(PERPETUAL),
        message("trades.BTC-PERPETUAL.100ms", [TRADE, second]),
        message("trades.BTC-PERPETUAL.raw", [TRADE_OF_2021]),
        message("trades.BTC-PERPETUAL.raw", []),
    )
    assert [
        (row["trade_id"], row["ts_event"], row["price"], row["size"], row["side"]) for row in rows(decoded.trades)
    ] == [
        (30289432, 1590484156350000000, 8950.0, 10.0, 1),
        (30289433, 1590484156350000000, 8950.0, 2200.0, 0),
        (92836831, 1616321478553000000, 56168.0, 5580.0, 0),
    ]
    assert decoded.history.num_rows == 0
    assert decoded.ignored == 1


@pytest.mark.parametrize(
    ("mark", "direction", "sides"),
    [("T", "sell", [1]), ("T", "buy", [0]), ("M", "sell", [0]), ("M", "buy", [1]), ("MT", "sell", [1, 0])],
)
def test_a_liquidation_has_the_side_of_the_order_that_was_forced(mark: str, direction: str, sides: list[int]) -> None:
    trade = TRADE | {"direction": direction, "liquidation": mark}
    decoded = decode(subscribed(PERPETUAL), message("trades.BTC-PERPETUAL.100ms", [TRADE, trade]))
    assert [(row["side"], row["price"], row["size"]) for row in rows(decoded.liquidations)] == [
        (side, 8950.0, 10.0) for side in sides
    ]
    assert [row["side"] for row in rows(decoded.trades)] == [1, {"buy": 0, "sell": 1}[direction]]


def test_only_what_is_asked_for_is_read() -> None:
    frames = [
        message("trades.BTC-PERPETUAL.100ms", [TRADE]),
        message("trades.BTC-PERPETUAL.100ms", [TRADE | {"liquidation": "T"}]),
        message("ticker.BTC-PERPETUAL.100ms", TICKER),
        message("book.BTC-PERPETUAL.100ms", SNAPSHOT_DATA),
    ]
    found: dict[Channel, tuple[int, ...]] = {
        "trades": (2, 0, 0, 0, 0, 0),
        "quotes": (0, 1, 0, 0, 0, 0),
        "book": (0, 0, 0, 1, 0, 0),
        "derivatives": (0, 0, 0, 0, 1, 0),
        "liquidations": (0, 0, 0, 0, 0, 1),
    }
    for channel, expected in found.items():
        feed = subscribed(PERPETUAL, channels=frozenset({channel}))
        assert tuple(map(len, all_rows([decode(feed, *frames)]))) == expected, channel
        slow = without_layouts(subscribed(PERPETUAL, channels=frozenset({channel})))
        assert tuple(map(len, all_rows([decode(slow, *frames)]))) == expected, channel


def test_a_perpetuals_ticker_is_a_quote_and_a_row_of_derivatives() -> None:
    decoded = decode(subscribed(PERPETUAL), message("ticker.BTC-PERPETUAL.100ms", TICKER))
    (quote,) = rows(decoded.quotes)
    assert quote | {"symbol": PERPETUAL, "ts_event": 1623060194301000000, "sequence": 1_000} == quote
    assert [quote[name] for name in ("bid_price", "bid_size", "ask_price", "ask_size")] == [36442.5, 5000, 36443.0, 100]
    assert [quote[name] for name in ("last_price", "last_size", "last_side")] == [36457.5, None, None]
    (derivative,) = rows(decoded.derivatives)
    assert derivative["ts_event"] == 1623060194301000000
    assert [
        derivative[name]
        for name in ("mark_price", "index_price", "open_interest", "funding_rate", "predicted_funding_rate")
    ] == [36446.51, 36441.64, 502097590.0, 0.0000211, None]
    assert derivative["next_funding_time"] is None


def test_a_quote_that_does_not_exist_is_null_as_zero_and_as_null() -> None:
    empty = dict.fromkeys(("best_bid_price", "best_bid_amount", "best_ask_price", "best_ask_amount", "last_price"))
    for value in (0.0, None):
        ticker = message("ticker.BTC-PERPETUAL.100ms", TICKER | dict.fromkeys(empty, value))
        for feed in (subscribed(PERPETUAL), without_layouts(subscribed(PERPETUAL))):
            (quote,) = rows(decode(feed, ticker).quotes)
            names = ("bid_price", "bid_size", "ask_price", "ask_size", "last_price")
            assert [quote[name] for name in names] == [None] * 5


def test_a_funding_of_zero_stays_zero_and_a_missing_one_null() -> None:
    without = {name: value for name, value in TICKER.items() if name not in ("current_funding", "open_interest")}
    decoded = decode(
        subscribed(PERPETUAL),
        message("ticker.BTC-PERPETUAL.100ms", TICKER | {"current_funding": 0.0}),
        message("ticker.BTC-PERPETUAL.100ms", without),
    )
    assert [(row["funding_rate"], row["open_interest"]) for row in rows(decoded.derivatives)] == [
        (0.0, 502097590.0),
        (None, None),
    ]


def test_spot_is_no_derivative() -> None:
    ticker = TICKER | {"instrument_name": "BTC_USDC"}
    decoded = decode(subscribed("BTC_USDC"), message("ticker.BTC_USDC.100ms", ticker))
    assert (decoded.quotes.num_rows, decoded.derivatives.num_rows) == (1, 0)
    only = subscribed("BTC_USDC", channels=frozenset({"derivatives"}))
    assert decode(only, message("ticker.BTC_USDC.100ms", ticker)).ignored == 1


def test_a_book_message_that_cannot_be_read_breaks_its_book_only() -> None:
    feed = subscribed(PERPETUAL, "ETH-PERPETUAL")
    good = message("book.BTC-PERPETUAL.100ms", SNAPSHOT_DATA)
    unreadable = [
        good[:-5],
        good.replace("5042.34", "null"),
        good.replace("5042.34", "-1"),
        good.replace('"new"', '"old"'),
        good.replace('"snapshot"', '"grouped"'),
        good.replace('"instrument_name":"BTC-PERPETUAL"', '"instrument_name":"ETH-PERPETUAL"'),
    ]
    decoded = decode(feed, *unreadable, good)
    assert [(row["symbol"], row["kind"], row["levels"] == []) for row in rows(decoded.books)] == [
        *[(PERPETUAL, BROKEN, True)] * 6,
        (PERPETUAL, SNAPSHOT, False),
    ]
    assert len(decoded.rejected) == 6


def test_what_was_not_asked_for_is_ignored_or_named() -> None:
    #: https://docs.deribit.com/subscriptions/orderbook/bookinstrument_namegroupdepthinterval
    grouped = {
        "timestamp": 1554375447971,
        "instrument_name": PERPETUAL,
        "change_id": 1,
        "bids": [[1.0, 2.0]],
        "asks": [],
    }
    decoded = decode(
        subscribed(PERPETUAL),
        message("book.BTC-PERPETUAL.none.10.100ms", grouped),
        message("trades.future.BTC.100ms", [TRADE]),
        message("quote.BTC-PERPETUAL", {"timestamp": 1550658624149}),
        message("trades.SOL-PERPETUAL.100ms", [TRADE | {"instrument_name": "SOL-PERPETUAL"}]),
        '{"jsonrpc":"2.0","method":"something new"}',
    )
    assert decoded.ignored == 3
    assert [one.reason for one in decoded.rejected] == [
        "not a subscribed symbol",
        "neither data nor an answer to a request",
    ]


def test_empty_lists_decode_to_empty_batches() -> None:
    decoded = Deribit([], ENDPOINT).decode([], np.array([], np.int64))
    assert isinstance(decoded.trades, pa.RecordBatch)
    assert all(not found for found in all_rows([decoded]))


def test_what_was_refused_for_maintenance_is_asked_for_again() -> None:
    """Nobody says that it is over to who was not there when it began."""
    feed, life = Deribit([PERPETUAL, "ETH-PERPETUAL"], ENDPOINT), Connection(Deribit.limits)
    life.opened(0.0, 0.5)
    life.queue(feed.greet())
    asked = feed.subscribe([PERPETUAL]) + feed.subscribe(["ETH-PERPETUAL"])
    life.ask([PERPETUAL, "ETH-PERPETUAL"], asked, 0.0)
    granted, refused = (json.loads(message) for message in asked)
    answers = [
        {"jsonrpc": "2.0", "id": granted["id"], "result": granted["params"]["channels"]},
        {"jsonrpc": "2.0", "id": refused["id"], "error": {"code": 11051, "message": "system_maintenance"}},
    ]
    decoded = feed.decode([json.dumps(answer).encode() for answer in answers], np.full(2, 1_700_000_000 * 10**9))
    life.heard(1.0, data=True)
    life.answered(decoded.subscribed)
    effects: list[Effect] = [effect for notice in decoded.notices for effect in life.noticed(notice)]
    for second in range(1, 4000):
        life.heard(float(second), data=True)
        effects += life.tick(float(second))
    assert any(isinstance(effect, Subscribe | Disconnect) for effect in effects)
