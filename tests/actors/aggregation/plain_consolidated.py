"""A plain, slow book of the best quotes of several exchanges, and what tests of the real one need: some markets with
their instruments, and batches of quotes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from random import Random
from typing import Any, Final, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from actors.aggregation.consolidated import NEVER, Consolidated, Reception
from actors.feeds.instruments import instrument_table
from storage.schema import QUOTES

#: 2024-03-01 12:00:00 UTC in nanoseconds.
NOON: Final = 1_709_294_400_000_000_000
SECOND: Final = 1_000_000_000
MAX_AGE: Final = 60 * SECOND
SILENCE: Final = 10 * SECOND


def _listed(symbol: str, instrument: str, kind: str, base: str, quote: str, **terms: Any) -> dict[str, Any]:
    return {"symbol": symbol, "instrument": instrument, "kind": kind, "base": base, "quote": quote, **terms}


def _contract(symbol: str, quote: str, size: float, inverse: bool = False) -> dict[str, Any]:
    name = "BTC-PERPETUAL" if inverse else f"BTC-{quote}-PERPETUAL"
    terms = {"settle": "BTC" if inverse else quote, "inverse": inverse, "contract_size": size}
    return _listed(symbol, name, "perpetual", "BTC", quote, contract_currency=quote if inverse else "BTC", **terms)


#: What some exchanges list. Kraken has one instrument under two names.
LISTS: Final = {
    "binance": [
        _listed("BTCUSDT", "BTC-USDT", "spot", "BTC", "USDT"),
        _listed("ETHUSDT", "ETH-USDT", "spot", "ETH", "USDT"),
    ],
    "coinbase": [_listed("BTC-USD", "BTC-USD", "spot", "BTC", "USD")],
    "deribit": [
        _contract("BTC-PERPETUAL", "USD", 1.0, inverse=True),
        _listed("BTC-27MAR26", "BTC-USD-20260327", "future", "BTC", "USD", settle="BTC", inverse=True),
    ],
    "kraken": [_listed(symbol, "BTC-USD", "spot", "BTC", "USD") for symbol in ("BTC/USD", "XBT/USD")],
    "okx": [
        _listed("BTC-USDT", "BTC-USDT", "spot", "BTC", "USDT"),
        _listed("ETH-USDT", "ETH-USDT", "spot", "ETH", "USDT"),
        _contract("BTC-USD-SWAP", "USD", 100.0, inverse=True),
        _contract("BTC-USDT-SWAP", "USDT", 0.01),
    ],
    "bybit": [_listed("spot:BTCUSDT", "BTC-USDT", "spot", "BTC", "USDT"), _contract("linear:BTCUSDT", "USDT", 1.0)],
}  # fmt: skip
SYMBOLS: Final = {exchange: [row["symbol"] for row in rows] for exchange, rows in LISTS.items()}


class Quote(NamedTuple):
    """Unknown sizes and prices are None."""

    symbol: str
    ts_event: int
    sequence: int
    bid: float | None = 100.0
    ask: float | None = 101.0
    bid_size: float | None = 1.0
    ask_size: float | None = 1.0
    ts_recv: int | None = None

    @property
    def received(self) -> int:
        return self.ts_event if self.ts_recv is None else self.ts_recv


def batch(quotes: Sequence[Quote]) -> pa.RecordBatch:
    """As `storage.schema.QUOTES`."""
    rows = [
        {
            "symbol": one.symbol,
            "ts_event": one.ts_event,
            "ts_recv": one.received,
            "sequence": one.sequence,
            "bid_price": one.bid,
            "bid_size": one.bid_size,
            "ask_price": one.ask,
            "ask_size": one.ask_size,
        }
        for one in quotes
    ]
    return pa.RecordBatch.from_pylist(rows, schema=QUOTES)


def opened(exchanges: Iterable[str] = LISTS, now_ns: int = NOON) -> Consolidated:
    """A book that knows the lists of these exchanges, all of which are received since then."""
    book = Consolidated(MAX_AGE, SILENCE)
    for exchange in exchanges:
        book.received(exchange, [streaming(exchange, now_ns)])
        book.list_is(exchange, instrument_table(LISTS[exchange]))
    return book


def streaming(exchange: str, heard_ns: int, since_ns: int | None = None) -> Reception:
    since = heard_ns if since_ns is None else since_ns
    return Reception("streaming", heard_ns, dict.fromkeys(SYMBOLS[exchange], since))


class Side(NamedTuple):
    """The best price of one side, its size in the base currency and its exchange."""

    price: float | None = None
    size: float | None = None
    exchange: str | None = None


@dataclass
class PlainListing:
    exchange: str
    row: Mapping[str, Any]
    held: Quote | None = None
    void: bool = True
    since: int = NEVER
    broken: int = -NEVER
    heard: int | None = None
    collected: bool = False

    def why(self, now_ns: int) -> str:
        if not self.collected:
            return "removed"
        if self.since == NEVER or self.heard is None or now_ns - self.heard > SILENCE:
            return "dead"
        if self.held is None or self.held.received < self.since or self.held.received <= self.broken:
            return "waiting"
        if now_ns - min(self.held.received, self.held.ts_event) > MAX_AGE:
            return "stale"
        prices = [self.held.bid, self.held.ask]
        sizes = [size for size in (self.held.bid_size, self.held.ask_size) if size is not None and not math.isnan(size)]
        if (
            any(price is None or not math.isfinite(price) or price <= 0 for price in prices)
            or min(sizes, default=1) <= 0
        ):
            return "invalid"
        assert self.held.bid is not None and self.held.ask is not None
        return "" if self.held.bid < self.held.ask else "invalid"

    def size(self, price: float | None, size: float | None) -> float | None:
        """In the base currency."""
        if size is None or math.isnan(size) or price is None:
            return None
        worth: float = size * self.row.get("contract_size", 1.0)
        return worth / price if self.row.get("inverse") else worth

    def sides(self) -> tuple[Side, Side]:
        assert self.held is not None
        bid, ask = self.held.bid, self.held.ask
        return (
            Side(bid, self.size(bid, self.held.bid_size), self.exchange),
            Side(ask, self.size(ask, self.held.ask_size), self.exchange),
        )


@dataclass
class PlainBook:
    """The same as `Consolidated`, one quote at a time."""

    listings: dict[tuple[str, str], PlainListing] = field(
        default_factory=lambda: {
            (exchange, row["symbol"]): PlainListing(exchange, row)
            for exchange, rows in sorted(LISTS.items())
            for row in sorted(rows, key=lambda row: row["symbol"])
        }
    )

    def take(self, exchange: str, quotes: Iterable[Quote]) -> None:
        for one in quotes:
            listing = self.listings[exchange, one.symbol]
            held = listing.held
            if listing.void or held is None or (one.ts_event, one.sequence) > (held.ts_event, held.sequence):
                listing.held, listing.void = one, False

    def received(self, exchange: str, receptions: Iterable[Reception]) -> None:
        for (where, _), listing in self.listings.items():
            if where == exchange:
                listing.collected = False
        for one, symbol in ((said, symbol) for said in receptions for symbol in said.since):
            listing = self.listings[exchange, symbol]
            if listing.heard is not None and one.heard_ns - listing.heard > SILENCE:
                listing.broken = listing.heard + SILENCE
            listing.heard = max(one.heard_ns, listing.heard or one.heard_ns)
            listing.since = one.since[symbol] if one.state == "streaming" else NEVER
            listing.collected = True

    def lost(self, exchange: str) -> None:
        for (where, _), listing in self.listings.items():
            if where == exchange:
                listing.since = NEVER

    def look(self, now_ns: int) -> dict[str, tuple[Side, Side, int, dict[tuple[str, str], str]]]:
        """By instrument: best bid, best ask, how many exchanges count, and why each listing does not."""
        found: dict[str, tuple[Side, Side, int, dict[tuple[str, str], str]]] = {}
        for listing in self.listings.values():
            if (name := listing.row["instrument"]) in found or listing.row["kind"] not in ("spot", "perpetual"):
                continue
            mine = {key: one for key, one in self.listings.items() if one.row["instrument"] == name}
            why = {key: reason for key, one in mine.items() if (reason := one.why(now_ns)) != "removed"}
            bids, asks = [Side()], [Side()]
            for key, reason in why.items():
                if reason == "":
                    bid, ask = mine[key].sides()
                    bids.append(bid)
                    asks.append(ask)
            best_bid = max(bids, key=lambda side: (side.price or -1, -1 if side.size is None else side.size))
            best_ask = max(asks, key=lambda side: (-(side.price or 1e300), -1 if side.size is None else side.size))
            exchanges = {side.exchange for side in bids} - {None}
            if why:
                found[name] = (best_bid, best_ask, len(exchanges), why)
        for listing in self.listings.values():
            if listing.why(now_ns) in ("waiting", "stale"):
                listing.void = True
        return found

    def opportunities(
        self, now_ns: int, fees: Mapping[str, Mapping[str, float]], min_spread: float, min_profit: float
    ) -> dict[tuple[tuple[str, str], tuple[str, str]], tuple[float, float, float]]:
        """Size, spread and profit of what pays, by what is bought and what is sold, where all dollars are one."""

        def market(row: Mapping[str, Any]) -> tuple[Any, ...]:
            settle = row.get("settle")
            dollars = {"USDT": "USD", "USDC": "USD"}
            return row["kind"], row["base"], dollars.get(row["quote"], row["quote"]), dollars.get(settle, settle)

        found = {}
        for (buy_key, buy), (sell_key, sell) in product(self.listings.items(), repeat=2):
            if buy.exchange == sell.exchange or market(buy.row) != market(sell.row) or buy.row["kind"] == "future":
                continue
            if buy.why(now_ns) or sell.why(now_ns):
                continue
            ask, bid = buy.sides()[1], sell.sides()[0]
            if None in (ask.size, bid.size):
                continue
            assert ask.price is not None and bid.price is not None and ask.size is not None and bid.size is not None
            kind = buy.row["kind"]
            gain = bid.price * (1 - fees[sell.exchange][kind]) - ask.price * (1 + fees[buy.exchange][kind])
            size = min(ask.size, bid.size)
            if gain / ask.price >= min_spread and size * gain >= min_profit:
                found[buy_key, sell_key] = (size, gain / ask.price, size * gain)
        return found


def looked(book: Consolidated, now_ns: int) -> dict[str, tuple[Side, Side, int, dict[tuple[str, str], str]]]:
    """What the real book says, as the plain one does."""
    found = {}
    for row in book.best(book.look(now_ns)).to_pylist():
        sides = [Side(*(row[f"{side}_{name}"] for name in ("price", "size", "exchange"))) for side in ("bid", "ask")]
        why = {(one["exchange"], one["symbol"]): one["left_out"] for one in row["quotes"]}
        found[row["instrument"]] = (sides[0], sides[1], row["exchanges"], why)
    return found


PRICES = st.sampled_from([99.0, 100.0, 100.5, 101.0, 105.0, 110.0] * 3 + [1e-9, 1.1e-9, 1e9, 1.1e9])
WIDTHS = st.sampled_from([0.001, 0.01, 0.1] * 4 + [0.0, -0.1])
SIZES = st.sampled_from([0.5, 1.0, 2.0] * 3 + [1e-9, 1e9])
#: What a feed may say instead of a price or size, mostly nothing odd.
ODD = st.sampled_from(["", *[""] * 20, None, 0.0, -1.0, math.nan, math.inf])
AGES = st.sampled_from([0] * 6 + [1, SECOND, 5 * SECOND, SILENCE, MAX_AGE, MAX_AGE + 1])
STATES = st.sampled_from(["streaming"] * 3 + ["waiting"])


@st.composite
def _quotes(draw: st.DrawFn, exchange: str, now: int, number: int) -> list[Quote]:
    rows = []
    for symbol in draw(st.lists(st.sampled_from(SYMBOLS[exchange]), min_size=1, max_size=6)):
        bid, odd = draw(PRICES), draw(ODD)
        said = [bid, bid * (1 + draw(WIDTHS)), draw(SIZES), draw(SIZES)]
        if odd != "":
            said[draw(st.integers(0, 3))] = odd
        rows.append(Quote(symbol, now - draw(AGES), number + len(rows), *said, now - draw(AGES)))  # type: ignore[call-arg]
    return [*rows, *draw(st.lists(st.sampled_from(rows), max_size=2))]


@st.composite
def _received(draw: st.DrawFn, exchange: str, now: int) -> list[Reception]:
    if draw(st.booleans()):
        return [streaming(exchange, now, since_ns=NOON)]
    symbols = draw(st.lists(st.sampled_from(SYMBOLS[exchange]), unique=True))
    cut, since = draw(st.integers(0, len(symbols))), now - draw(AGES)
    return [
        Reception(draw(STATES), now - draw(AGES), dict.fromkeys(part, since)) for part in (symbols[:cut], symbols[cut:])
    ]


@st.composite
def steps(draw: st.DrawFn) -> list[Any]:
    """What happens one after the other: quotes come (also late ones, and some twice), connections come and go."""
    made: list[Any] = []
    now = NOON
    for number in range(draw(st.integers(1, 15))):
        now += draw(AGES)
        what = draw(st.sampled_from(["quotes"] * 4 + ["received"] * 2 + ["lost"]))
        some = st.lists(st.sampled_from(sorted(LISTS)), min_size=1, unique=True)
        for exchange in [draw(st.sampled_from(sorted(LISTS)))] if what == "lost" else draw(some):
            match what:
                case "quotes":
                    made.append((what, exchange, draw(_quotes(exchange, now, 100 * number))))
                case "received":
                    made.append((what, exchange, draw(_received(exchange, now))))
                case "lost":
                    made.append((what, exchange))
        if draw(st.booleans()):
            made.append(("look", now))
    return [*made, ("look", now)]


def know(book: Consolidated, plain: PlainBook) -> None:
    """Let both know everything of all exchanges."""
    for exchange in LISTS:
        for one in (book, plain):
            one.received(exchange, [streaming(exchange, NOON)])
        book.list_is(exchange, instrument_table(LISTS[exchange]))


def play(book: Consolidated, plain: PlainBook, made: Iterable[Any], random: Random) -> Iterator[int]:
    """Let both know everything and go through the steps, the real book with quotes mixed and cut; gives the times of
    looks."""
    know(book, plain)
    for step in made:
        match step:
            case ("quotes", exchange, rows):
                plain.take(exchange, rows)
                mixed = random.sample(rows, len(rows))
                cuts = sorted({0, len(mixed), *(random.randrange(len(mixed) + 1) for _ in range(2))})
                for begin, end in pairwise(cuts):
                    book.take(exchange, batch(mixed[begin:end]))
            case ("received", exchange, said):
                book.received(exchange, said)
                plain.received(exchange, said)
            case ("lost", exchange):
                book.lost(exchange)
                plain.lost(exchange)
            case ("look", now):
                yield now
