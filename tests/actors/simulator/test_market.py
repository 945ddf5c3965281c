import json
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.simulator.market import CHANGES, STREAMS, Block, Market, listing, stream_names

START_NS = 1_700_000_000_123_456_789
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "NEWBTC")


def blocks(count: int, seed: int = 7, rate: float = 1000, start_ns: int = START_NS) -> list[Block]:
    return list(islice(Market(seed, SYMBOLS, start_ns, rate), count))


def events(block: Block) -> list[Any]:
    return [json.loads(frame) for frame in block.frames]


def of_streams(block: Block, *kinds: str) -> list[Any]:
    """The payloads of some streams, in order."""
    return [frame["data"] for frame in events(block) if frame["stream"].split("@")[1] in kinds]


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = blocks(3), blocks(3), blocks(3, seed=8)
    for left, right, different in zip(first, again, other, strict=True):
        assert left.frames == right.frames
        assert left.times.tobytes() == right.times.tobytes()
        assert left.frames != different.frames


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.1, 1000), st.integers(0, 2**62))
def test_trades_are_contiguous_positive_and_at_the_bid_or_ask_of_the_quote_before(
    seed: int, rate: float, start_ns: int
) -> None:
    first_id = start_ns // 10**9 * 100_000
    next_id = dict.fromkeys(SYMBOLS, first_id)
    last_update = dict.fromkeys(SYMBOLS, first_id - 1)
    quotes: dict[str, Any] = {}
    last_time = start_ns
    names = stream_names(SYMBOLS)
    for block in blocks(2, seed, rate, start_ns):
        assert len(block.frames) == len(block.times) == len(block.streams)
        assert list(block.books) == np.flatnonzero(block.streams % STREAMS == CHANGES).tolist()
        assert (np.diff(block.times) >= 0).all()
        assert block.times[0] >= last_time
        last_time = int(block.times[-1])
        for t_ns, stream, frame in zip(block.times.tolist(), block.streams.tolist(), events(block), strict=True):
            assert frame["stream"] == names[stream]
            event = frame["data"]
            symbol = event["s"]
            if frame["stream"].endswith("@bookTicker"):
                assert event["u"] > last_update[symbol]
                last_update[symbol] = event["u"]
                assert 0 < Decimal(event["b"]) < Decimal(event["a"])
                assert min(Decimal(event["B"]), Decimal(event["A"])) > 0
                quotes[symbol] = event
                continue
            if frame["stream"].endswith("@depth@100ms"):
                assert event["E"] == t_ns // 1_000_000
                continue
            assert frame["stream"].endswith("@aggTrade")
            assert event["a"] == next_id[symbol]
            next_id[symbol] += 1
            assert event["T"] == event["E"] == t_ns // 1_000_000
            # The buyer is the maker when the taker sells, and who sells gets the bid.
            assert event["p"] == quotes[symbol]["b" if event["m"] else "a"]
            assert Decimal(event["q"]) > 0


def test_prices_and_sizes_are_whole_steps() -> None:
    (block,) = blocks(1)
    for frame in events(block):
        event = frame["data"]
        listed = listing(event["s"])
        for field, decimals in (("p", listed.price_decimals), ("q", listed.size_decimals)):
            if field in event:
                assert Decimal(event[field]) % Decimal(1).scaleb(-decimals) == 0
                assert len(event[field].split(".")[1]) == 8


def test_the_rate_is_the_mean_over_all_symbols() -> None:
    for rate, count in ((5.0, 100), (40.0, 60), (20_000.0, 4)):
        many = blocks(count, rate=rate)
        seconds = (many[-1].times[-1] - START_NS) / 1e9
        trades = sum(len(of_streams(block, "aggTrade")) for block in many)
        assert 0.75 < trades / seconds / rate < 1.3


def test_prices_move_and_stay_near_their_level_over_hours() -> None:
    last: dict[str, list[float]] = {symbol: [] for symbol in SYMBOLS}
    for block in Market(3, SYMBOLS, START_NS, 0.5):
        for trade in of_streams(block, "aggTrade"):
            last[trade["s"]].append(float(trade["p"]))
        if block.times[-1] - START_NS > 2 * 3600 * 10**9:
            break
    for symbol, prices in last.items():
        assert len(set(prices)) > 30
        assert 0.5 < min(prices) / listing(symbol).price < max(prices) / listing(symbol).price < 2


def test_a_market_started_again_never_uses_an_id_twice() -> None:
    ran_s = 30
    last = 0
    for block in Market(1, ["BTCUSDT"], START_NS, 40):
        last = of_streams(block, "aggTrade")[-1]["a"]
        if block.times[-1] - START_NS > ran_s * 10**9:
            break
    again = next(Market(1, ["BTCUSDT"], START_NS + ran_s * 10**9, 40))
    assert of_streams(again, "aggTrade")[0]["a"] > last


class Levels:
    """A book kept as Binance's documentation says."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.last = snapshot["lastUpdateId"]
        self.bids = {Decimal(price): Decimal(size) for price, size in snapshot["bids"]}
        self.asks = {Decimal(price): Decimal(size) for price, size in snapshot["asks"]}

    def apply(self, event: dict[str, Any]) -> None:
        assert event["U"] == self.last + 1
        assert event["u"] >= event["U"]
        self.last = event["u"]
        for side, changes in ((self.bids, event["b"]), (self.asks, event["a"])):
            for price, size in changes:
                if Decimal(size):
                    side[Decimal(price)] = Decimal(size)
                else:
                    assert side.pop(Decimal(price)), "a level is removed that is not there"

    def best(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 1000), st.integers(0, 2**60))
def test_books_follow_from_snapshot_and_changes_and_a_quote_is_their_top(seed: int, rate: float, start_ns: int) -> None:
    market = Market(seed, SYMBOLS, start_ns, rate)
    books = {
        symbol: Levels(json.loads(book.snapshot(5000))) for symbol, book in zip(SYMBOLS, market.books, strict=True)
    }
    quotes: dict[tuple[str, int], tuple[Decimal, ...]] = {}
    changed = 0
    for block in islice(market, 3):
        for at, frame in enumerate(events(block)):
            event = frame["data"]
            if frame["stream"].endswith("@bookTicker"):
                quotes[event["s"], event["u"]] = tuple(Decimal(event[name]) for name in "bBaA")
            if frame["stream"].endswith("@depth@100ms"):
                changed += 1
                book = books[event["s"]]
                book.apply(event)
                assert book.best() == quotes[event["s"], event["u"]]
                assert max(book.bids) < min(book.asks)
                assert vars(book) == vars(Levels(json.loads(block.books[at].snapshot(5000))))
                top = json.loads(block.books[at].snapshot(5))
                assert len(top["asks"]) == min(5, len(book.asks))
    assert changed or rate < 100


def test_a_book_that_is_asked_for_between_two_changes_fits_the_next_one() -> None:
    """Binance: the first event to apply has U <= lastUpdateId + 1 <= u."""
    market = Market(5, ["BTCUSDT"], START_NS, 200)
    first, second = next(market), next(market)
    book = Levels(json.loads(list(first.books.values())[-1].snapshot(1000)))
    for event in of_streams(second, "depth"):
        book.apply(event)
    assert len(book.bids) == len(book.asks) == 100


@given(st.from_regex(r"[A-Z0-9]{2,20}", fullmatch=True))
def test_any_name_has_a_listing_that_depends_on_the_name_alone(symbol: str) -> None:
    listed = listing(symbol)
    assert listed == listing(symbol)
    assert listed.price > 0
    assert listed.price > 10.0**-listed.price_decimals
    assert listed.base
    assert next(Market(1, [symbol], START_NS, 100)).frames
