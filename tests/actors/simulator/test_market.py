import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.simulator.block_encoder import BlockEncoder
from actors.simulator.dialect import Change, Dialect
from actors.simulator.dialects import DIALECTS
from actors.simulator.dialects.binance import BinanceDialect
from actors.simulator.market import Events, Last, Market, usual

START_NS = 1_700_000_000_123_456_789
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "NEWBTC")
HOUR_NS = 3600 * 10**9


def exchange(symbols: Sequence[str] = SYMBOLS, name: str = "binance") -> Dialect:
    return DIALECTS[name]({symbol: DIALECTS[name].listing(symbol) for symbol in symbols})


def blocks(
    count: int, seed: int = 7, rate: float = 1000, start_ns: int = START_NS, dialect: Dialect | None = None
) -> list[list[Events]]:
    return list(islice(Market(seed, dialect or exchange(), start_ns, rate), count))


def encoded(many: list[list[Events]]) -> list[bytes]:
    dialect = exchange()
    encoder = BlockEncoder(dialect)
    for symbol in dialect.listings:
        encoder.add(symbol)
    return [frame for block in many for frame in encoder.encode(block).frames]


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (encoded(blocks(3, seed)) for seed in (7, 7, 8))
    assert first == again
    assert len(first) > 1000
    assert first != other


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 1000), st.integers(0, 2**61), st.sampled_from(["binance", "bitfinex"]))
def test_trades_are_contiguous_positive_and_at_the_bid_or_ask_of_their_quote(
    seed: int, rate: float, start_ns: int, name: str
) -> None:
    dialect = exchange(SYMBOLS if name == "binance" else ("tBTCUSD", "tETHUSD"), name)
    next_id: dict[str, int] = defaultdict(lambda: start_ns // 10**9 * 100_000)
    last_ns = start_ns // 1_000_000 * 1_000_000
    for block in blocks(3, seed, rate, start_ns, dialect):
        found: list[tuple[int, int, str]] = []
        for events in block:
            quotes, trades = events.quotes, events.trades
            assert len(trades) == len(quotes) == len(events.due) == len(events.order)
            found += zip(events.order.tolist(), trades.ids.tolist(), [events.symbol] * len(trades), strict=True)
            assert (trades.prices == np.where(trades.sides, quotes.bids, quotes.asks)).all()
            assert (quotes.bids > 0).all()
            assert (quotes.bids < quotes.asks).all()
            sizes = [trades.sizes, quotes.bid_sizes, quotes.ask_sizes]
            assert min(size.min(initial=1) for size in sizes) > 0
            assert (np.diff(quotes.update_ids) == 1).all()
            assert (trades.t_ns % dialect.resolution_ns == 0).all()
            assert (np.diff(trades.t_ns) >= 0).all()
            assert trades.t_ns.min(initial=2**62) >= last_ns
            assert (trades.t_ns <= events.due).all()
        for _, number, symbol in sorted(found):
            counted = symbol if dialect.ids == "symbol" else "all"
            assert number == next_id[counted]
            next_id[counted] += 1
        last_ns = max(events.trades.t_ns.max(initial=last_ns) for events in block)


def test_a_quote_names_the_trade_before_it() -> None:
    last: dict[str, tuple[int, ...]] = {}
    for block in blocks(3):
        for events in block:
            quotes, trades = events.quotes, events.trades
            said = zip(quotes.last_ids, quotes.last_prices, quotes.last_sizes, quotes.last_sides, strict=True)
            made = zip(trades.ids, trades.prices, trades.sizes, trades.sides, strict=True)
            for before, trade in zip(said, made, strict=True):
                assert last.setdefault(events.symbol, before) == before
                last[events.symbol] = trade
    assert set(last) == set(SYMBOLS)


def test_the_rate_is_the_mean_over_all_symbols() -> None:
    for rate, count in ((5.0, 100), (40.0, 60), (20_000.0, 4)):
        many = blocks(count, rate=rate)
        seconds = (max(events.due.max(initial=0) for events in many[-1]) - START_NS) / 1e9
        trades = sum(len(events.trades) for block in many for events in block)
        assert 0.75 < trades / seconds / rate < 1.3


def test_prices_move_and_stay_near_their_level_over_hours() -> None:
    last: dict[str, list[float]] = {symbol: [] for symbol in SYMBOLS}
    dialect = exchange()
    for block in Market(3, dialect, START_NS, 0.5):
        for events in block:
            tick = 10.0 ** -dialect.listings[events.symbol].price_decimals
            last[events.symbol] += (events.trades.prices * tick).tolist()
        if max(events.due.max(initial=0) for events in block) > START_NS + 2 * HOUR_NS:
            break
    for symbol, prices in last.items():
        assert len(set(prices)) > 30
        assert 0.5 < min(prices) / dialect.listings[symbol].price < max(prices) / dialect.listings[symbol].price < 2


def test_a_market_started_again_without_its_past_never_uses_an_id_twice() -> None:
    last = 0
    for block in Market(1, exchange(["BTCUSDT"]), START_NS, 40):
        last = int(block[0].trades.ids[-1])
        if block[0].due[-1] > START_NS + 30 * 10**9:
            break
    ((again,),) = blocks(1, 1, 40, START_NS + 30 * 10**9, exchange(["BTCUSDT"]))
    assert again.trades.ids[0] > last


@pytest.mark.parametrize(("name", "symbols"), [("binance", SYMBOLS), ("bitfinex", ("tBTCUSD", "tETHUSD"))])
def test_a_market_goes_on_from_the_last_ids_prices_and_times(name: str, symbols: tuple[str, ...]) -> None:
    dialect = exchange(symbols, name)
    last = {symbols[0]: Last(77, START_NS + 10**9, 70_000), "GONE": Last(10**16, START_NS, 0)}
    (block, second) = islice(Market(7, dialect, START_NS, 1000, last), 2)
    found = {events.symbol: events for events in block}
    first = found[symbols[0]].trades
    assert min(events.trades.t_ns.min(initial=2**62) for events in block) >= START_NS // 10**6 * 10**6 + 10**9
    assert abs(first.prices[0] - 70_000) < 700
    ids = sorted(int(number) for events in [*block, *second] for number in events.trades.ids)
    if dialect.ids == "symbol":
        assert first.ids[0] == 78
        assert found[symbols[1]].trades.ids[0] == START_NS // 10**9 * 100_000
    else:
        assert ids == list(range(10**16 + 1, 10**16 + 1 + len(ids)))


class Kept:
    """A book kept from its changes."""

    def __init__(self, change: Change, depth: int) -> None:
        self.sides = [dict(side) for side in change.before.levels(depth)]

    def apply(self, change: Change, depth: int, cuts: bool) -> None:
        for number, levels in enumerate(change.levels):
            side = self.sides[number]
            assert levels == sorted(levels)
            for price, size in levels:
                if size:
                    assert side.get(price) != size, "what did not change is not told"
                    side[price] = size
                else:
                    assert side.pop(price), "a level is removed that is not there"
            if cuts:
                best_first = sorted(side, reverse=number == 0)
                self.sides[number] = {price: side[price] for price in best_first[:depth]}


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32), st.floats(0.1, 1000), st.integers(0, 2**60), st.sampled_from(["binance", "kraken", "bybit"])
)
def test_books_follow_from_their_changes_and_a_quote_is_their_top(
    seed: int, rate: float, start_ns: int, name: str
) -> None:
    symbols = {"binance": SYMBOLS, "kraken": ("BTC/USD", "NEW/BTC"), "bybit": ("spot:BTCUSDT",)}[name]
    dialect = exchange(symbols, name)
    depth, cuts = dialect.depth, dialect.cuts
    books: dict[str, Kept] = {}
    numbers: dict[str, int] = defaultdict(int)
    quotes: dict[tuple[str, int], tuple[int, ...]] = {}
    for block in islice(Market(seed, dialect, start_ns, rate), 3):
        for events in block:
            symbol = events.symbol
            rows = (events.quotes.bids, events.quotes.bid_sizes, events.quotes.asks, events.quotes.ask_sizes)
            for update, *top in zip(events.quotes.update_ids.tolist(), *(row.tolist() for row in rows), strict=True):
                quotes[symbol, update] = tuple(top)
            for due_ns, change in events.changes:
                assert change.before.number == numbers[symbol]
                numbers[symbol] = change.after.number
                assert change.after.number == change.before.number + 1
                assert change.after.update_id > change.before.update_id
                assert due_ns == change.after.t_ns
                book = books.setdefault(symbol, Kept(change, depth))
                book.apply(change, depth, cuts)
                after = change.after.levels(depth)
                assert book.sides == [dict(side) for side in after]
                bid, ask = after.bids[0], after.asks[0]
                assert quotes[symbol, change.after.update_id] == (*bid, *ask)
                assert bid[0] < ask[0]
                assert change.after.levels(5) == (after.bids[:5], after.asks[:5])
    assert books or rate < 100


@given(st.from_regex(r"[A-Z0-9]{2,20}", fullmatch=True))
def test_any_name_has_a_listing_that_depends_on_the_name_alone(symbol: str) -> None:
    listed = BinanceDialect.listing(symbol)
    assert listed == BinanceDialect.listing(symbol)
    assert listed.price > 10.0**-listed.price_decimals
    assert listed.base
    (events,) = next(Market(1, exchange([symbol]), START_NS, 100))
    assert len(events.trades)


def test_what_everybody_knows_has_the_price_everybody_expects() -> None:
    assert usual("x", "BTC", "USD").price == usual("y", "XBT", "USDT").price == 63_000
    assert usual("x", "ETH", "BTC").price == pytest.approx(3_100 / 63_000)
    assert usual("x", "USDC", "USDT").price == 1
    assert re.fullmatch(r"0\.0+\d*", f"{usual('x', 'ADA', 'BTC').price:.8f}")


def test_a_skewed_clock_is_told_and_never_goes_back() -> None:
    market = Market(1, exchange(["BTCUSDT"]), START_NS, 1000)
    last_ns = 0
    for skew_ns in (0, 5 * 10**9, -(10**9), 0):
        market.skew_ns = skew_ns
        (events,) = next(market)
        assert (np.diff(events.trades.t_ns) >= 0).all()
        assert events.trades.t_ns[0] >= last_ns
        last_ns = int(events.trades.t_ns[-1])
        if skew_ns > 0:
            assert (events.trades.t_ns - events.due > skew_ns - 10**6).all()


def test_symbols_come_and_go_and_come_back_with_their_next_ids() -> None:
    market = Market(1, exchange(["BTCUSDT", "ETHUSDT"]), START_NS, 1000)
    for _ in range(3):
        events = {events.symbol: events for events in next(market)}
    last = {symbol: int(own.trades.ids[-1]) for symbol, own in events.items()}
    update = events["ETHUSDT"].quotes.update_ids[-1]
    market.remove("ETHUSDT")
    assert {events.symbol for events in next(market)} == {"BTCUSDT"}
    market.add(BinanceDialect.listing("ETHUSDT"))
    market.add(BinanceDialect.listing("SOLUSDT"))
    again = {events.symbol: events for events in next(market)}
    assert set(again) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert again["ETHUSDT"].trades.ids[0] == last["ETHUSDT"] + 1
    assert again["ETHUSDT"].quotes.update_ids[0] > update
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        market.remove(symbol)
    assert next(market) == []


def test_nothing_happens_before_the_time_that_is_skipped_to() -> None:
    market = Market(1, exchange(), START_NS, 1000)
    next(market)
    market.skip_to(START_NS + HOUR_NS)
    assert min(events.due.min(initial=2**62) for events in next(market)) > START_NS + HOUR_NS


def test_derivatives_have_marks_about_every_second() -> None:
    dialect = exchange(["BTC-PERPETUAL"], "deribit")
    marks = [mark for block in blocks(20, rate=40, dialect=dialect) for events in block for mark in events.marks]
    assert len(marks) >= 8
    due = [due_ns for due_ns, _, _ in marks]
    assert due == sorted(set(due))
    for due_ns, mark, quote in marks:
        assert mark.t_ns == due_ns
        assert len(quote) == 1
        assert quote.t_ns[0] <= due_ns
        assert 30_000 < mark.mark_price < 120_000
        assert 0 <= mark.funding_rate <= 1e-4
        assert 0 < mark.next_funding_ns - mark.t_ns <= 8 * HOUR_NS
        assert mark.open_interest > 0
