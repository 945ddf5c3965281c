"""Arbitrage: what pays after fees, found as by brute force, and one episode for as long as it does."""

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.arbitrage import ENDED, Arbitrage, Rules
from actors.aggregation.consolidated import Consolidated, Reception
from storage.schema import ARBITRAGE
from tests.actors.aggregation.plain_consolidated import (
    LISTS,
    MAX_AGE,
    NOON,
    SECOND,
    SILENCE,
    SYMBOLS,
    PlainBook,
    Quote,
    batch,
    opened,
    play,
    steps,
    streaming,
)

SAME = {"USDT": "USD", "USDC": "USD"}
NO_FEES = {exchange: {"spot": 0.0, "perpetual": 0.0} for exchange in LISTS}
FEES = {
    exchange: {"spot": 0.001 * number, "perpetual": 0.0005} for number, exchange in enumerate(sorted(LISTS), start=1)
}


def watching(
    min_spread: float = 0.0, min_profit: float = 0.0, fees: Any = NO_FEES, same: Any = SAME, keep: int = 100
) -> Arbitrage:
    return Arbitrage(Rules(fees, min_spread, min_profit, same), keep)


def episodes(arbitrage: Arbitrage, book: Consolidated) -> list[dict[str, Any]]:
    found = arbitrage.episodes(book)
    assert found.schema == ARBITRAGE
    return found.to_pylist()


def two(ask: float, bid: float, ask_size: float | None = 1.0, bid_size: float | None = 1.0) -> Consolidated:
    """Binance asks and OKX bids."""
    book = opened()
    book.take("binance", batch([Quote("BTCUSDT", NOON, 1, ask / 2, ask, 9.0, ask_size)]))
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1, bid, bid * 2, bid_size, 9.0)]))
    return book


def pairs(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["buy_exchange"], row["sell_exchange"]) for row in found]


@given(steps(), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.004]), st.sampled_from([0.0, 0.5]))
def test_episodes_are_those_of_a_brute_force_search(
    made: list[Any], random: Random, min_spread: float, min_profit: float
) -> None:
    book, plain, arbitrage = Consolidated(MAX_AGE, SILENCE), PlainBook(), watching(min_spread, min_profit, FEES)
    current: dict[Any, dict[str, Any]] = {}
    over: list[dict[str, Any]] = []
    told: dict[Any, int] = {}
    for now in play(book, plain, made, random):
        arbitrage.follow(book, book.look(now))
        found = plain.opportunities(now, FEES, min_spread, min_profit)
        plain.look(now)
        over += [{**current.pop(key), "closed": now} for key in current.keys() - found.keys()]
        for key, (size, spread, profit) in found.items():
            at_peak = {"peak": now, "size": size, "spread": spread, "profit": profit}
            if key not in current:
                current[key] = {"key": key, "opened": now, "closed": None, **at_peak}
            elif profit > current[key]["profit"]:
                current[key] |= at_peak
            current[key]["last_profit"] = profit
        rows = [
            {
                "key": tuple((row[f"{side}_exchange"], row[f"{side}_symbol"]) for side in ("buy", "sell")),
                **{name: row[name] for name in ("opened", "closed", "peak", "size", "spread", "profit", "last_profit")},
            }
            for row in episodes(arbitrage, book)
        ]
        still = [row for row in rows if row["closed"] is None]
        assert {row["key"]: row for row in still} == current
        assert len(still) == len(current)
        assert [row["last_profit"] for row in still] == sorted((row["last_profit"] for row in still), reverse=True)
        ended = [row for row in rows if row["closed"] is not None]
        assert sorted(map(repr, ended)) == sorted(map(repr, over))
        for row in arbitrage.changed(book).to_pylist():
            told[row["buy_exchange"], row["buy_symbol"], row["sell_exchange"], row["sell_symbol"], row["opened"]] = row[
                "revision"
            ]
        # Each is told when it opens and when it closes, no more; of those that opened at one time the newest counts.
        tellings = Counter((*row["key"][0], *row["key"][1], row["opened"]) for row in [*current.values(), *over, *over])
        assert told == {one: count - 1 for one, count in tellings.items()}


def test_an_opportunity_is_what_is_left_after_both_fees_for_the_smaller_size() -> None:
    fees = {"binance": {"spot": 0.001}, "okx": {"spot": 0.002}}
    arbitrage, book = watching(fees=fees), two(100.0, 101.0, ask_size=2.0, bid_size=5.0)
    arbitrage.follow(book, book.look(NOON))
    [row] = episodes(arbitrage, book)
    # 101 * 0.998 - 100 * 1.001 = 0.698 for each of two.
    assert (row["spread"], row["profit"], row["size"]) == (pytest.approx(0.00698), pytest.approx(1.396), 2.0)
    assert (row["instrument"], row["kind"]) == ("BTC-USD", "spot")
    assert (row["buy_exchange"], row["buy_symbol"], row["buy_price"]) == ("binance", "BTCUSDT", 100.0)
    assert (row["sell_exchange"], row["sell_symbol"], row["sell_price"]) == ("okx", "BTC-USDT", 101.0)
    arbitrage, book = watching(fees=fees), two(100.0, 101.0, ask_size=2.0, bid_size=0.25)
    arbitrage.follow(book, book.look(NOON))
    assert episodes(arbitrage, book)[0]["profit"] == pytest.approx(0.1745)
    # Bid above ask, and yet nothing is left.
    arbitrage, book = watching(fees=fees), two(100.0, 100.3)
    arbitrage.follow(book, book.look(NOON))
    assert episodes(arbitrage, book) == []


@pytest.mark.parametrize(
    ("min_spread", "min_profit", "pays"),
    [
        (1 / 128, 0.5, True),
        (np.nextafter(1 / 128, 1), 0.5, False),
        (1 / 128, np.nextafter(0.5, 1), False),
        (0.0, 0.0, True),
    ],
)
def test_both_limits_are_inclusive(min_spread: float, min_profit: float, pays: bool) -> None:
    arbitrage, book = watching(min_spread, min_profit), two(128.0, 129.0, ask_size=0.5)
    arbitrage.follow(book, book.look(NOON))
    assert len(episodes(arbitrage, book)) == pays


@pytest.mark.parametrize("price", [1e-9, 1e9])
def test_very_low_and_very_high_prices_pay_like_others(price: float) -> None:
    arbitrage, book = watching(0.005, 10.0), two(price, 1.01 * price, 2e4 / price, 3e4 / price)
    arbitrage.follow(book, book.look(NOON))
    [row] = episodes(arbitrage, book)
    assert (row["spread"], row["profit"]) == (pytest.approx(0.01), pytest.approx(200.0))


def test_an_exchange_alone_is_never_arbitrage_with_itself() -> None:
    book, arbitrage = opened(["kraken"]), watching()
    book.take("kraken", batch([Quote("BTC/USD", NOON, 1, 50.0, 60.0), Quote("XBT/USD", NOON, 1, 70.0, 80.0)]))
    arbitrage.follow(book, book.look(NOON))
    assert episodes(arbitrage, book) == []


def test_currencies_count_as_one_where_that_is_set_and_inverse_contracts_never_as_linear_ones() -> None:
    def dear(symbol: str) -> Quote:
        return Quote(symbol, NOON, 1, 200.0, 201.0)

    def found(same: dict[str, str]) -> set[tuple[str, str, str]]:
        book, arbitrage = opened(), watching(same=same)
        book.take("binance", batch([Quote("BTCUSDT", NOON, 1)]))
        book.take("okx", batch([Quote("BTC-USD-SWAP", NOON, 1), Quote("BTC-USDT-SWAP", NOON, 1)]))
        book.take("coinbase", batch([dear("BTC-USD")]))
        book.take("deribit", batch([dear("BTC-PERPETUAL")]))
        book.take("bybit", batch([dear("linear:BTCUSDT")]))
        arbitrage.follow(book, book.look(NOON))
        return {(row["instrument"], row["buy_symbol"], row["sell_symbol"]) for row in episodes(arbitrage, book)}

    apart = {
        ("BTC-PERPETUAL", "BTC-USD-SWAP", "BTC-PERPETUAL"),
        ("BTC-USDT-PERPETUAL", "BTC-USDT-SWAP", "linear:BTCUSDT"),
    }
    assert found({}) == apart
    assert found({"USDT": "USDT"}) == apart
    assert found(SAME) == {
        ("BTC-USD", "BTCUSDT", "BTC-USD"),
        ("BTC-PERPETUAL", "BTC-USD-SWAP", "BTC-PERPETUAL"),
        ("BTC-USD-PERPETUAL", "BTC-USDT-SWAP", "linear:BTCUSDT"),
    }


@pytest.mark.parametrize("fees", [{}, {"binance": {"perpetual": 0.0}, "okx": {"spot": 0.0}}])
def test_without_a_known_fee_nothing_is_known_to_pay(fees: Any) -> None:
    arbitrage, book = watching(fees=fees), two(100.0, 200.0)
    arbitrage.follow(book, book.look(NOON))
    assert episodes(arbitrage, book) == []


def test_without_a_known_size_no_profit_is_known() -> None:
    arbitrage, book = watching(), two(100.0, 200.0, bid_size=None)
    arbitrage.follow(book, book.look(NOON))
    assert episodes(arbitrage, book) == []


def test_an_opportunity_that_lasts_is_one_row_with_its_peak_and_end() -> None:
    book, arbitrage = two(100.0, 110.0), watching()
    for number, bid in enumerate([110.0, 130.0, 120.0, 99.0], start=1):
        at = NOON + number * SECOND
        book.take("okx", batch([Quote("BTC-USDT", at, number, bid, 2 * bid)]))
        for exchange in LISTS:
            book.received(exchange, [streaming(exchange, at, since_ns=NOON)])
        arbitrage.follow(book, book.look(at))
        if number < 4:
            [row] = episodes(arbitrage, book)
            assert (row["closed"], row["ended"], row["last_profit"]) == (None, "", bid - 100.0)
    [row] = episodes(arbitrage, book)
    assert (row["opened"], row["peak"], row["closed"]) == tuple(NOON + s * SECOND for s in (1, 2, 4))
    assert (row["profit"], row["sell_price"], row["last_profit"]) == (30.0, 130.0, 20.0)
    assert (row["ended"], row["revision"]) == ("prices", 1)
    assert [row["revision"] for row in arbitrage.changed(book).to_pylist()] == [0, 1]
    assert arbitrage.changed(book).num_rows == 0
    assert (arbitrage.opened, arbitrage.open) == (1, 0)


def test_an_episode_that_opens_again_while_the_clock_stands_still_replaces_the_one_before() -> None:
    book, arbitrage = two(100.0, 110.0), watching()
    for number, bid in enumerate([110.0, 99.0, 120.0, 99.0, 130.0], start=2):
        book.take("okx", batch([Quote("BTC-USDT", NOON, number, bid, 2 * bid)]))
        arbitrage.follow(book, book.look(NOON))
    rows = arbitrage.changed(book).to_pylist()
    assert [row["revision"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["closed"] for row in rows] == [None, NOON, None, NOON, None]
    assert {row["opened"] for row in rows} == {NOON}


def test_an_episode_ends_with_an_exchange_and_says_so() -> None:
    book, arbitrage = two(100.0, 110.0), watching()
    arbitrage.follow(book, book.look(NOON))
    book.received("okx", [Reception("waiting", NOON, dict.fromkeys(SYMBOLS["okx"], NOON))])
    arbitrage.follow(book, book.look(NOON + SECOND))
    [row] = episodes(arbitrage, book)
    assert (row["closed"], row["ended"]) == (NOON + SECOND, "dead")


def test_whoever_stops_closes_what_is_open() -> None:
    book, arbitrage = two(100.0, 110.0), watching()
    arbitrage.follow(book, book.look(NOON))
    arbitrage.stop(NOON + SECOND)
    [row] = episodes(arbitrage, book)
    assert (row["closed"], row["ended"], arbitrage.open) == (NOON + SECOND, ENDED[-1], 0)


def test_only_the_newest_of_those_that_are_over_are_kept() -> None:
    book, arbitrage = opened(), watching(keep=3)
    for number in range(10):
        at = NOON + number
        book.take("binance", batch([Quote("BTCUSDT", at, number)]))
        book.take("okx", batch([Quote("BTC-USDT", at, number, *((200.0, 201.0) if number % 2 else (100.0, 101.0)))]))
        arbitrage.follow(book, book.look(at))
    assert pairs(episodes(arbitrage, book)) == [("binance", "okx")] * 4
    assert [row["opened"] - NOON for row in episodes(arbitrage, book)] == [9, 7, 5, 3]
    assert arbitrage.changed(book).num_rows == 9


def test_more_opportunities_than_there_is_room_for_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.aggregation.arbitrage.MOST", 3)
    book, arbitrage = opened(), watching()
    exchanges = {"binance": "BTCUSDT", "okx": "BTC-USDT", "bybit": "spot:BTCUSDT", "coinbase": "BTC-USD"}
    for number, (exchange, symbol) in enumerate(exchanges.items(), start=1):
        book.take(exchange, batch([Quote(symbol, NOON, 1, 100.0 * number, 100.0 * number + 1)]))
    arbitrage.follow(book, book.look(NOON))
    assert (arbitrage.open, arbitrage.beyond) == (3, 3)
    for _ in range(3):
        arbitrage.stop(NOON + SECOND)
        arbitrage.follow(book, book.look(NOON + SECOND))
    assert arbitrage.unsaid > 0
    assert arbitrage.changed(book).num_rows <= 3
