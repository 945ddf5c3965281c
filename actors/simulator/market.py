"""A made-up market: seeded random trades, quotes and books of the symbols of one exchange, in ticks and units.

The same seed, symbols, start and rate give the same market. Mid prices are geometric random walks whose drift and
volatility change slowly (trends) and sometimes jump (bursts); a weak pull keeps them near their usual level.
Each trade comes after the quote it was made on, and its price is that quote's bid or ask. A quote is the top of the
book after the update it names; every 100 ms the changes of a book come together.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.simulator.dialect import Change, Dialect, Listing, Mark, Quotes, Trades
from actors.simulator.market_book import BookMaker, MarketBook, Top, change

#: Trades made together: half a second of the market, within these bounds.
_BLOCK_S: Final = 0.5
_MAX_BLOCK_TRADES: Final = 4096

#: Ids start at the start time in seconds times this, so that a market that is started again without its past never
#: uses an id twice as long as it has fewer trades a second than this.
_IDS_PER_SECOND: Final = 100_000

#: Changes of a book within this long come together; marks of a derivative this often at most.
_CHANGES_NS: Final = 100_000_000
_MARKS_NS: Final = 1_000_000_000
_FUNDING_NS: Final = 8 * 3600 * 1_000_000_000

_VOLATILITY: Final = 1.1e-4  # of log price per square root of a second: about 60 % a year
_DRIFT: Final = 2e-6  # of log price per second
_DRIFT_LASTS_S: Final = 600.0
_VOLATILITY_LASTS_S: Final = 120.0
_BURSTS_PER_S: Final = 1 / 1800
_LEVEL_LASTS_S: Final = 2 * 86400.0

_SIZES: Final = 1024

#: Price in dollars, decimals of price, usual size, decimals of size.
_USUAL: Final = {
    "BTC": (63_000.0, 2, 0.02, 5),
    "ETH": (3_100.0, 2, 0.3, 4),
    "BNB": (580.0, 2, 1.5, 3),
    "SOL": (150.0, 2, 5.0, 3),
    "LINK": (14.0, 3, 40.0, 2),
    "XRP": (0.55, 4, 800.0, 0),
    "ADA": (0.45, 4, 900.0, 1),
}
_DOLLARS: Final = frozenset(("USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "UST"))


def usual(symbol: str, base: str, quote: str, kind: Literal["spot", "perpetual"] = "spot") -> Listing:
    """A listing whose price and size depend on the names of what is traded alone: as in life for the best known."""
    known = _USUAL.get("BTC" if base == "XBT" else base)
    if known is not None and quote in _DOLLARS:
        return Listing(symbol, base, quote, *known, kind)
    dollars = _dollars(base)
    price = max(dollars / _dollars(quote), 1e-5)
    # About five significant digits, as exchanges choose their ticks; sizes worth some 500 dollars.
    size = 500.0 / dollars
    price_decimals = min(max(4 - math.floor(math.log10(price)), 0), 8)
    size_decimals = min(max(2 - math.floor(math.log10(size)), 0), 5)
    return Listing(symbol, base, quote, price, price_decimals, size, size_decimals, kind)


def _dollars(name: str) -> float:
    if name in _DOLLARS or name in ("EUR", "GBP", "CHF"):
        return 1.0
    if name in _USUAL:
        return _USUAL[name][0]
    return math.pow(10.0, zlib.crc32(name.encode()) % 500 / 100 - 2)


class Last(NamedTuple):
    """The newest trade of a symbol in an earlier run: id, ns, ticks."""

    trade_id: int
    t_ns: int
    price: int


@dataclass(frozen=True, slots=True)
class Events:
    """What happens to one symbol in a block. `due` (int64 ns) is when each trade is published, with the quote before
    it; `order` its place among all trades of the block. Changes and marks have their own times; a mark comes with the
    newest quote."""

    symbol: str
    due: NDArray[np.int64]
    order: NDArray[np.int64]
    quotes: Quotes
    trades: Trades
    changes: list[tuple[int, Change]]
    marks: list[tuple[int, Mark, Quotes]] = field(default_factory=list)


class Market(Iterator[list[Events]]):
    """An endless market from `start_ns` on, in blocks. `trades_per_second` is the mean over all symbols together;
    there is one quote for each trade. It goes on from the newest trades of an earlier run (`last`, also of symbols
    that are no longer listed)."""

    def __init__(
        self,
        seed: int,
        dialect: Dialect,
        start_ns: int,
        trades_per_second: float,
        last: Mapping[str, Last] | None = None,
    ) -> None:
        last = last or {}
        self._random = np.random.default_rng((seed, zlib.crc32(dialect.exchange.encode())))
        self._dialect = dialect
        self._start_ns = max([start_ns, *(one.t_ns + 1 for one in last.values())])
        self._trades_per_second = trades_per_second
        #: Sizes relative to the usual one, for all symbols.
        self._sizes = self._random.lognormal(-0.5, 1.2, _SIZES)
        self._first_id = start_ns // 1_000_000_000 * _IDS_PER_SECOND
        self._last = last
        #: The next id where symbols share them.
        self._next_id = max([self._first_id - 1, *(one.trade_id for one in last.values())]) + 1
        self._count = min(max(round(trades_per_second * _BLOCK_S), 1), _MAX_BLOCK_TRADES)
        self._now = 0.0
        #: No time that was told is before this.
        self._told_ns = self._start_ns
        #: What the exchange's clock is ahead; what comes from now on is told with it, never going back in time.
        self.skew_ns = 0
        self._walks: dict[str, _Walk] = {}
        self._weights: NDArray[np.float64] = np.array([])
        #: Walks whose book has changed since that was told.
        self._pending: dict[str, _Walk] = {}
        for listed in dialect.listings.values():
            self._walks[listed.symbol] = self._walk(listed)
        self._weigh()

    def add(self, listed: Listing) -> None:
        """List one more symbol, from the next block on."""
        self._walks[listed.symbol] = self._walk(listed)
        self._weigh()

    def remove(self, symbol: str) -> None:
        """Nothing happens to the symbol any more; listed again, it goes on with the next ids."""
        walk = self._walks.pop(symbol)
        self._pending.pop(symbol, None)
        self._last = {**self._last, symbol: walk.last}
        self._weigh()

    def listed(self, symbol: str) -> Listing:
        """As it trades here; KeyError for what does not."""
        return self._walks[symbol].listed

    def skip_to(self, t_ns: int) -> None:
        """Nothing happens until then."""
        self._now = max(self._now, (t_ns - self._start_ns) / 1e9)

    def state(self, symbol: str) -> tuple[MarketBook, Quotes, Mark]:
        """How a symbol stands after the last block; its book after the last change that was told."""
        walk = self._walks[symbol]
        return walk.book, walk.quote, walk.mark(walk.quote.t_ns[-1].item())

    def __next__(self) -> list[Events]:
        if not self._walks:
            return []
        random, count = self._random, self._count
        seconds = self._now + np.cumsum(random.exponential(1 / self._trades_per_second, count))
        before_ns, self._now = self._start_ns + int(self._now * 1e9), float(seconds[-1])
        due = self._start_ns + (seconds * 1e9).astype(np.int64)
        until_ns = int(due[-1])
        resolution_ns = self._dialect.resolution_ns
        times = np.maximum(due + self.skew_ns, self._told_ns) // resolution_ns * resolution_ns
        self._told_ns = int(times[-1])
        which = random.choice(len(self._walks), count, p=self._weights)
        walks = list(self._walks.values())
        grouped = np.argsort(which, kind="stable")
        numbers, starts = np.unique(which[grouped], return_index=True)
        events: dict[str, Events] = {}
        for number, mine in zip(numbers.tolist(), np.split(grouped, starts[1:]), strict=True):
            walk = walks[number]
            ids = self._next_id + mine if self._dialect.ids == "exchange" else walk.next_ids(len(mine))
            events[walk.symbol] = walk.trade(seconds[mine], due[mine], times[mine], mine, ids, self.skew_ns)
            self._pending[walk.symbol] = walk
        self._next_id += count
        for symbol, walk in list(self._pending.items()):
            if change := walk.change_until(until_ns, self.skew_ns):
                if symbol not in events:
                    events[symbol] = walk.nothing()
                events[symbol].changes.append(change)
                del self._pending[symbol]
        mark_ns = until_ns // _MARKS_NS * _MARKS_NS
        if mark_ns > before_ns:
            for walk in walks:
                if walk.listed.kind == "perpetual":
                    own = events[walk.symbol] = events.get(walk.symbol) or walk.nothing()
                    quote = _newest(own, mark_ns) or walk.quote_before
                    own.marks.append((mark_ns, walk.mark(mark_ns + self.skew_ns), quote))
        return list(events.values())

    def _walk(self, listed: Listing) -> "_Walk":
        last = self._last.get(listed.symbol)
        if last is None:
            first_id = self._next_id if self._dialect.ids == "exchange" else self._first_id
            last = Last(first_id - 1, self._start_ns, 0)
        now_ns = self._start_ns + int(self._now * 1e9)
        first_update = now_ns // 1_000_000_000 * _IDS_PER_SECOND
        return _Walk(listed, self._dialect, self._random, self._sizes, now_ns, self._now, first_update, last)

    def _weigh(self) -> None:
        # Some symbols trade more than others, the first the most.
        weights = 1.0 / np.arange(1, len(self._walks) + 1)
        self._weights = weights / weights.sum()


def _newest(events: Events, until_ns: int) -> Quotes | None:
    """The newest quote that is due."""
    count = int(np.searchsorted(events.due, until_ns, "right"))
    return row(events.quotes, count - 1) if count else None


def row(quotes: Quotes, at: int) -> Quotes:
    """One of them."""
    return Quotes(*(getattr(quotes, name)[at : at + 1] for name in Quotes.__slots__))


class _Walk:
    """One symbol's price, regime, ids and book."""

    def __init__(
        self,
        listed: Listing,
        dialect: Dialect,
        random: np.random.Generator,
        sizes: NDArray[np.float64],
        start_ns: int,
        now_s: float,
        first_update: int,
        last: Last,
    ) -> None:
        self.symbol = listed.symbol
        self.listed = listed
        self._dialect = dialect
        self._random = random
        self._tick = 10.0**-listed.price_decimals
        self._usual = math.log(listed.price)
        self._log_price = math.log(last.price * self._tick) if last.price else self._usual
        self._drift = 0.0
        self._heat = 0.0  # log of the volatility relative to the usual one
        self._last_s = now_s
        self._update_id = first_update
        self._sizes = np.maximum(np.rint(sizes * listed.size * 10.0**listed.size_decimals), 1).astype(np.int64)
        self._phase = zlib.crc32(listed.symbol.encode()) % 1000
        bid = max(round(math.exp(self._log_price) / self._tick), 1)
        size, other = self._sizes[:2].tolist()
        top = Top(bid, size, bid + 1, other, first_update - 1, start_ns)
        #: As of the last change that was told.
        self.book = MarketBook(BookMaker(listed.symbol, bid, self._sizes), top)
        #: What the book has become since, and when that will be told.
        self._top: tuple[int, Top] | None = None
        self.last = last
        numbers = (start_ns, top.update_id, bid, size, bid + 1, other, last.trade_id, last.price or bid, size)
        columns: list[NDArray[Any]] = [*(np.array([number]) for number in numbers), np.zeros(1, np.uint8)]
        quote = Quotes(*columns)
        self._last_trade = (quote.last_ids, quote.last_prices, quote.last_sizes, quote.last_sides)
        self.quote = quote
        #: The newest before the block.
        self.quote_before = self.quote

    def next_ids(self, count: int) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = self.last.trade_id + 1 + np.arange(count)
        return ids

    def nothing(self) -> Events:
        """Events of a block without trades."""
        self.quote_before = self.quote
        quotes = row(self.quote, 1)
        trades = Trades(quotes.t_ns, quotes.last_ids, quotes.last_prices, quotes.last_sizes, quotes.last_sides)
        return Events(self.symbol, quotes.t_ns, quotes.t_ns, quotes, trades, [])

    def trade(
        self,
        seconds: NDArray[np.float64],
        due: NDArray[np.int64],
        times: NDArray[np.int64],
        order: NDArray[np.int64],
        ids: NDArray[np.int64],
        skew_ns: int,
    ) -> Events:
        """Trades at these seconds since the start, due and told at these ns, with their quotes and the changes of the
        book that are due before the last of them."""
        count = len(seconds)
        self._advance(float(seconds[-1]) - self._last_s)
        random = self._random
        volatility = _VOLATILITY * math.exp(self._heat)
        elapsed = np.diff(seconds, prepend=self._last_s)
        pull = (self._usual - self._log_price) / _LEVEL_LASTS_S
        steps = (self._drift + pull) * elapsed + volatility * np.sqrt(elapsed) * random.standard_normal(count)
        log_prices = self._log_price + np.cumsum(steps)
        self._log_price, self._last_s = float(log_prices[-1]), float(seconds[-1])
        # Tick sizes differ from symbol to symbol; the spread is a tick, and wider where the market is hot.
        spreads = 1 + random.poisson(0.3 * math.exp(self._heat), count)
        bids = np.maximum(np.rint(np.exp(log_prices) / self._tick).astype(np.int64), 1)
        asks = bids + spreads
        # Takers follow the price more often than not.
        sides = (random.random(count) < np.where(steps < 0, 0.65, 0.35)).astype(np.uint8)
        sizes, bid_sizes, ask_sizes = self._sizes[random.integers(0, _SIZES, (3, count))]
        prices = np.where(sides, bids, asks)
        updates = self._update_id + np.arange(count)
        self._update_id += count
        last_id, last_price, last_size, last_side = self._last_trade
        quotes = Quotes(
            times,
            updates,
            bids,
            bid_sizes,
            asks,
            ask_sizes,
            np.append(last_id, ids[:-1]),
            np.append(last_price, prices[:-1]),
            np.append(last_size, sizes[:-1]),
            np.append(last_side, sides[:-1]),
        )
        self.quote_before, self.quote = self.quote, row(quotes, count - 1)
        self.last = Last(int(ids[-1]), int(times[-1]), int(prices[-1]))
        self._last_trade = (ids[-1:], prices[-1:], sizes[-1:], sides[-1:])
        changes: list[tuple[int, Change]] = []
        told = (due // _CHANGES_NS + 1) * _CHANGES_NS
        for last in np.flatnonzero(np.diff(told, append=0)).tolist():
            told_ns = int(told[last])
            if found := self.change_until(told_ns - 1, skew_ns):
                changes.append(found)
            bid, bid_size, ask, ask_size, update = (
                int(one[last]) for one in (bids, bid_sizes, asks, ask_sizes, updates)
            )
            self._top = (told_ns, Top(bid, bid_size, ask, ask_size, update, told_ns))
        return Events(self.symbol, due, order, quotes, Trades(times, ids, prices, sizes, sides), changes)

    def change_until(self, t_ns: int, skew_ns: int) -> tuple[int, Change] | None:
        """The change of the book that is due until then, if there is one, and when it is."""
        if self._top is None or self._top[0] > t_ns:
            return None
        (due_ns, top), before = self._top, self.book
        top = top._replace(t_ns=max(due_ns + skew_ns, before.t_ns))
        self.book, self._top = MarketBook(before.maker, top, before.number + 1), None
        return due_ns, change(before, self.book, self._dialect.depth, self._dialect.cuts)

    def mark(self, t_ns: int) -> Mark:
        """As of that time; the index is a little off the mark, and open interest and funding go in waves."""
        mid = math.exp(self._log_price)
        wave = math.sin(t_ns / 3.6e12 + self._phase)
        return Mark(
            t_ns=t_ns,
            mark_price=mid,
            index_price=mid * (1 - 1e-4 * wave),
            open_interest=self.listed.size * 1e5 * (1 + 0.1 * math.sin(t_ns / 2.2e13 + self._phase)),
            funding_rate=1e-4 * (1 + wave) / 2,
            next_funding_ns=(t_ns // _FUNDING_NS + 1) * _FUNDING_NS,
        )

    def _advance(self, seconds: float) -> None:
        """Let drift and volatility change over `seconds`."""
        keep = math.exp(-seconds / _DRIFT_LASTS_S)
        self._drift = self._drift * keep + _DRIFT * math.sqrt(1 - keep**2) * self._random.standard_normal()
        keep = math.exp(-seconds / _VOLATILITY_LASTS_S)
        self._heat = self._heat * keep + 0.4 * math.sqrt(1 - keep**2) * self._random.standard_normal()
        if self._random.random() < -math.expm1(-seconds * _BURSTS_PER_S):
            self._heat += math.log(3)
