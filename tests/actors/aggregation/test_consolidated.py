"""The best quotes over several exchanges: equal to a plain book's, and without those that do not count."""

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.consolidated import Consolidated, Reception
from actors.feeds.instruments import instrument_table
from storage.schema import CONSOLIDATED
from tests.actors.aggregation.plain_consolidated import (
    LISTS,
    MAX_AGE,
    NOON,
    SECOND,
    SILENCE,
    SYMBOLS,
    PlainBook,
    Quote,
    Side,
    batch,
    looked,
    opened,
    play,
    steps,
    streaming,
)


@given(steps(), st.randoms(use_true_random=False))
def test_it_equals_a_plain_book_however_quotes_are_cut_and_mixed(made: list[Any], random: Random) -> None:
    book, plain = Consolidated(MAX_AGE, SILENCE), PlainBook()
    for now in play(book, plain, made, random):
        assert looked(book, now) == plain.look(now)


def test_each_side_is_the_best_of_any_exchange_with_its_size_and_the_spread_between() -> None:
    book = opened()
    book.take("binance", batch([Quote("BTCUSDT", NOON, 1, 100.0, 102.0, 1.0, 2.0)]))
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1, 99.0, 101.0, 3.0, 4.0)]))
    batch_of_best = book.best(book.look(NOON))
    assert batch_of_best.schema == CONSOLIDATED
    row = next(row for row in batch_of_best.to_pylist() if row["instrument"] == "BTC-USDT")
    quotes = row.pop("quotes")
    assert row == {
        "instrument": "BTC-USDT",
        "kind": "spot",
        "bid_price": 100.0,
        "bid_size": 1.0,
        "bid_exchange": "binance",
        "ask_price": 101.0,
        "ask_size": 4.0,
        "ask_exchange": "okx",
        "mid": 100.5,
        "spread": 1.0,
        "exchanges": 2,
    }
    assert [(one["exchange"], one["symbol"], one["left_out"]) for one in quotes] == [
        ("binance", "BTCUSDT", ""),
        ("bybit", "spot:BTCUSDT", "waiting"),
        ("okx", "BTC-USDT", ""),
    ]


@pytest.mark.parametrize(
    ("sizes", "first"),
    [
        ((1.0, 2.0), "okx"),
        ((2.0, 1.0), "binance"),
        ((1.0, 1.0), "binance"),
        ((None, 1.0), "okx"),
        ((1.0, None), "binance"),
    ],
)
def test_of_equal_prices_the_larger_size_is_best_and_then_the_exchange_by_name(sizes: Any, first: str) -> None:
    book = opened()
    for (exchange, symbol), size in zip((("binance", "BTCUSDT"), ("okx", "BTC-USDT")), sizes, strict=True):
        book.take(exchange, batch([Quote(symbol, NOON, 1, 100.0, 101.0, size, size)]))
    bid, ask, *_ = looked(book, NOON)["BTC-USDT"]
    assert (bid.exchange, ask.exchange) == (first, first)


def test_a_bid_above_the_ask_of_another_exchange_is_shown_and_one_above_its_own_ask_is_not() -> None:
    book = opened()
    book.take("binance", batch([Quote("BTCUSDT", NOON, 1, 105.0, 106.0)]))
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1, 99.0, 101.0)]))
    bid, ask, exchanges, _ = looked(book, NOON)["BTC-USDT"]
    assert (bid.price, ask.price, exchanges) == (105.0, 101.0, 2)
    book.take("binance", batch([Quote("BTCUSDT", NOON, 2, 106.0, 106.0)]))
    bid, _, exchanges, why = looked(book, NOON)["BTC-USDT"]
    assert (bid.price, exchanges, why["binance", "BTCUSDT"]) == (99.0, 1, "invalid")


def test_inverse_and_linear_contracts_and_spot_do_not_mix_and_sizes_are_in_the_base_currency() -> None:
    book = opened()
    book.take("okx", batch([Quote("BTC-USD-SWAP", NOON, 1, 50.0, 100.0, 2.0, 3.0), Quote("BTC-USDT-SWAP", NOON, 1)]))
    book.take("deribit", batch([Quote("BTC-PERPETUAL", NOON, 1, 40.0, 110.0, 5.0, 6.0), Quote("BTC-27MAR26", NOON, 1)]))
    found = looked(book, NOON)
    assert set(found) == {"BTC-USDT", "ETH-USDT", "BTC-USD", "BTC-PERPETUAL", "BTC-USDT-PERPETUAL"}
    # Two contracts of 100 USD at 50, three at 100.
    assert found["BTC-PERPETUAL"][:3] == (Side(50.0, 4.0, "okx"), Side(100.0, 3.0, "okx"), 2)
    assert found["BTC-USDT-PERPETUAL"][:3] == (Side(100.0, 0.01, "okx"), Side(101.0, 0.01, "okx"), 1)
    assert found["BTC-USDT"][2] == 0


def test_contracts_of_one_name_with_different_terms_have_their_own_rows() -> None:
    book = Consolidated(MAX_AGE, SILENCE)
    usual = LISTS["okx"][-1]
    rows = [usual, {**usual, "symbol": "BTC-USDT_UM-SWAP", "settle": "USDC"}]
    book.received("okx", [Reception("streaming", NOON, {row["symbol"]: NOON for row in rows})])
    book.list_is("okx", instrument_table(rows))
    assert list(looked(book, NOON)) == ["BTC-USDT-PERPETUAL", "BTC-USDT-PERPETUAL:USDT:USDC"]


def test_a_contract_whose_worth_is_unknown_has_prices_and_no_sizes() -> None:
    book = Consolidated(MAX_AGE, SILENCE)
    row = {**LISTS["okx"][-1], "contract_size": None}
    book.received("okx", [Reception("streaming", NOON, {row["symbol"]: NOON})])
    book.list_is("okx", instrument_table([row]))
    book.take("okx", batch([Quote(row["symbol"], NOON, 1)]))
    assert looked(book, NOON)["BTC-USDT-PERPETUAL"][0] == Side(100.0, None, "okx")


def test_a_late_quote_changes_nothing() -> None:
    book = opened()
    book.take("binance", batch([Quote("BTCUSDT", NOON + 5, 7, 100.0, 101.0)]))
    before = book.best(book.look(NOON + 9))
    book.take("binance", batch([Quote("BTCUSDT", NOON + 4, 9, 1.0, 2.0), Quote("BTCUSDT", NOON + 5, 6, 3.0, 4.0)]))
    assert book.best(book.look(NOON + 9)).equals(before)


@pytest.mark.parametrize("price", [1e-9, 1e9])
def test_very_low_and_very_high_prices_are_as_good_as_others(price: float) -> None:
    book = opened()
    book.take("binance", batch([Quote("BTCUSDT", NOON, 1, price, 1.5 * price)]))
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1, 1.1 * price, 1.2 * price)]))
    [row] = [row for row in book.best(book.look(NOON)).to_pylist() if row["instrument"] == "BTC-USDT"]
    assert (row["bid_price"], row["ask_price"]) == (1.1 * price, 1.2 * price)
    assert row["spread"] == pytest.approx(0.1 * price, rel=1e-9)


def test_a_lost_exchange_is_left_out_and_comes_back_with_its_first_quote() -> None:
    book = opened()
    for exchange, symbol in (("binance", "BTCUSDT"), ("okx", "BTC-USDT")):
        book.take(exchange, batch([Quote(symbol, NOON, 1)]))
    assert looked(book, NOON)["BTC-USDT"][2] == 2
    book.received("okx", [Reception("waiting", NOON, dict.fromkeys(SYMBOLS["okx"], NOON))])
    assert looked(book, NOON + SECOND)["BTC-USDT"][2:] == (
        1,
        {("binance", "BTCUSDT"): "", ("bybit", "spot:BTCUSDT"): "waiting", ("okx", "BTC-USDT"): "dead"},
    )
    back = NOON + 2 * SECOND
    book.received("okx", [streaming("okx", back)])
    # One that was received before it was lost and comes only now does not bring it back.
    book.take("okx", batch([Quote("BTC-USDT", NOON + SECOND, 2)]))
    assert looked(book, back)["BTC-USDT"][3]["okx", "BTC-USDT"] == "waiting"
    book.take("okx", batch([Quote("BTC-USDT", back, 3, 107.0, 108.0)]))
    bid, _, exchanges, _ = looked(book, back)["BTC-USDT"]
    assert (bid.price, exchanges) == (107.0, 2)


def test_a_quote_holds_while_another_connection_takes_over() -> None:
    book = opened()
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1)]))
    book.received("okx", [streaming("okx", NOON + SECOND, since_ns=NOON)])
    assert looked(book, NOON + SECOND)["BTC-USDT"][2] == 1


def test_a_quiet_symbol_of_a_living_exchange_stays_until_it_is_too_old() -> None:
    book = opened()
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1)]))
    for seconds in range(1, 62):
        book.received("okx", [streaming("okx", NOON + seconds * SECOND, since_ns=NOON)])
    assert looked(book, NOON + MAX_AGE)["BTC-USDT"][2] == 1
    assert looked(book, NOON + MAX_AGE + 1)["BTC-USDT"][3]["okx", "BTC-USDT"] == "stale"


def test_an_exchange_that_says_nothing_is_dead_after_the_silence_and_back_with_what_comes_after_it() -> None:
    book = opened()
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1), Quote("ETH-USDT", NOON, 1)]))
    assert looked(book, NOON + SILENCE)["BTC-USDT"][2] == 1
    assert looked(book, NOON + SILENCE + 1)["BTC-USDT"][3]["okx", "BTC-USDT"] == "dead"
    again = NOON + SILENCE + 3 * SECOND
    book.take("okx", batch([Quote("BTC-USDT", again, 2)]))
    book.received("okx", [streaming("okx", again + SECOND, since_ns=NOON)])
    found = looked(book, again + SECOND)
    assert found["BTC-USDT"][3]["okx", "BTC-USDT"] == ""
    assert found["ETH-USDT"][3]["okx", "ETH-USDT"] == "waiting"


def test_a_clock_that_was_set_back_costs_an_exchange_no_more_than_the_longest_age() -> None:
    book = opened()
    ahead = Quote("BTC-USDT", NOON + 3600 * SECOND, 1, ts_recv=NOON)
    book.take("okx", batch([ahead]))
    later = NOON + MAX_AGE + SECOND
    book.received("okx", [streaming("okx", later, since_ns=NOON)])
    assert looked(book, later)["BTC-USDT"][3]["okx", "BTC-USDT"] in ("stale", "waiting")
    book.take("okx", batch([Quote("BTC-USDT", later, 2)]))
    assert looked(book, later)["BTC-USDT"][2] == 1


def test_what_is_not_collected_any_more_is_not_shown() -> None:
    book = opened(["okx"])
    book.received("okx", [Reception("streaming", NOON, {"ETH-USDT": NOON})])
    assert list(looked(book, NOON)) == ["ETH-USDT"]
    book.received("okx", [])
    assert looked(book, NOON) == {}
    book.received("okx", [streaming("okx", NOON)])
    assert "BTC-USDT" in looked(book, NOON)


def test_quotes_count_once_it_is_known_what_they_are_of() -> None:
    book = Consolidated(MAX_AGE, SILENCE)
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1)]))
    book.received("okx", [streaming("okx", NOON)])
    assert (looked(book, NOON), sorted(book.unlisted("okx"))) == ({}, sorted(SYMBOLS["okx"]))
    book.list_is("okx", instrument_table(LISTS["okx"][:1]))
    assert looked(book, NOON)["BTC-USDT"][2] == 1
    assert "BTC-USDT" not in book.unlisted("okx")
    assert book.unlisted("nasdaq") == []


def test_there_is_room_for_more_symbols_than_there_was_at_first() -> None:
    rows = [{**LISTS["binance"][0], "symbol": f"S{n}", "instrument": f"S{n}-USDT", "base": f"S{n}"} for n in range(500)]
    book = Consolidated(MAX_AGE, SILENCE)
    book.received("binance", [Reception("streaming", NOON, {row["symbol"]: NOON for row in rows})])
    book.list_is("binance", instrument_table(rows))
    quotes = batch([Quote(row["symbol"], NOON, 1, 1.0 + n, 2.0 + n) for n, row in enumerate(rows)])
    book.take("binance", pa.Table.from_batches([quotes.slice(250), quotes.slice(0, 250)]))
    assert {name: bid.price for name, (bid, *_) in looked(book, NOON).items()} == {
        f"S{n}-USDT": 1.0 + n for n in range(500)
    }
