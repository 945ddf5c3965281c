"""A made-up market: seeded random trades, quotes and books of several symbols as Binance's combined-stream frames.

The same seed, symbols, start and rate give the same bytes. Mid prices are geometric random walks whose drift and
volatility change slowly (trends) and sometimes jump (bursts); a weak pull keeps them near their usual level.
Each trade comes after the quote it was made on, and its price is that quote's bid or ask. A quote is the top of the
book after the update it names; every 100 ms the changes of a book come in one frame.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.simulator.market_book import Book, BookMaker, Top

#: Trades encoded together: half a second of the market, within these bounds.
_BLOCK_S: Final = 0.5
_MAX_BLOCK_TRADES: Final = 4096

#: Ids start at the start time in seconds times this, so that a market that is started again never uses an id
#: twice as long as a symbol has fewer trades a second than this.
_IDS_PER_SECOND: Final = 100_000

#: Changes of a book within this long come in one frame.
_DEPTH_NS: Final = 100_000_000

_VOLATILITY: Final = 1.1e-4  # of log price per square root of a second: about 60 % a year
_DRIFT: Final = 2e-6  # of log price per second
_DRIFT_LASTS_S: Final = 600.0
_VOLATILITY_LASTS_S: Final = 120.0
_BURSTS_PER_S: Final = 1 / 1800
_LEVEL_LASTS_S: Final = 2 * 86400.0

_QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY")
_SIZES: Final = 4096


@dataclass(frozen=True, slots=True)
class Listing:
    """How a symbol trades: its usual price, the steps of price and size (`decimals` each), a usual size."""

    symbol: str
    base: str
    quote: str
    price: float
    price_decimals: int
    size: float
    size_decimals: int

    @property
    def streams(self) -> tuple[str, str, str]:
        """Its quotes, its trades and the changes of its book; see `QUOTES`, `TRADES` and `CHANGES`."""
        name = self.symbol.lower()
        return f"{name}@bookTicker", f"{name}@aggTrade", f"{name}@depth@100ms"


#: Positions of a symbol's streams.
QUOTES, TRADES, CHANGES = range(3)
STREAMS: Final = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Frames in order of `times` (int64 ns); `streams` (int64) are positions in `stream_names` of the symbols, and
    `books` is how a book stands after each frame that changes it (by the position of the frame)."""

    times: NDArray[np.int64]
    streams: NDArray[np.int64]
    frames: list[bytes]
    books: dict[int, Book]


_KNOWN: Final = {
    "BTCUSDT": (63_000.0, 2, 0.02, 5),
    "ETHUSDT": (3_100.0, 2, 0.3, 4),
    "SOLUSDT": (150.0, 2, 5.0, 3),
    "XRPUSDT": (0.55, 4, 800.0, 0),
}


def listing(symbol: str) -> Listing:
    """What is listed under a name; one that is not known gets a price that depends on the name alone."""
    quote = next((name for name in _QUOTES if symbol.endswith(name) and symbol != name), "USDT")
    base = symbol.removesuffix(quote)
    if symbol in _KNOWN:
        price, price_decimals, size, size_decimals = _KNOWN[symbol]
    else:
        price = 10.0 ** (zlib.crc32(symbol.encode()) % 500 / 100 - 2)
        # About five significant digits, as exchanges choose their ticks; sizes worth some 500 units.
        price_decimals = min(max(4 - math.floor(math.log10(price)), 0), 8)
        size = 500.0 / price
        size_decimals = min(max(2 - math.floor(math.log10(size)), 0), 5)
    return Listing(symbol, base, quote, price, price_decimals, size, size_decimals)


def stream_names(symbols: Sequence[str]) -> list[str]:
    """The streams a market of these symbols has, `STREAMS` for each."""
    return [name for symbol in symbols for name in listing(symbol).streams]


class Market(Iterator[Block]):
    """An endless market from `start_ns` on, in blocks. `trades_per_second` is the mean over all symbols together;
    there is one quote frame for each trade. `books` is how the books open."""

    def __init__(self, seed: int, symbols: Sequence[str], start_ns: int, trades_per_second: float) -> None:
        self._random = np.random.default_rng(seed)
        self._start_ns = start_ns
        self._trades_per_second = trades_per_second
        first_id = start_ns // 1_000_000_000 * _IDS_PER_SECOND
        self._walks = [_Walk(listing(symbol), self._random, start_ns, first_id) for symbol in symbols]
        self.books = [walk.book for walk in self._walks]
        # Some symbols trade more than others, the first the most.
        weights = 1.0 / np.arange(1, len(symbols) + 1)
        self._weights = weights / weights.sum()
        self._count = min(max(round(trades_per_second * _BLOCK_S), 1), _MAX_BLOCK_TRADES)
        self._now = 0.0

    def __next__(self) -> Block:
        count = self._count
        seconds = self._now + np.cumsum(self._random.exponential(1 / self._trades_per_second, count))
        which = self._random.choice(len(self._walks), count, p=self._weights)
        times = self._start_ns + (seconds * 1e9).astype(np.int64)
        frames: list[bytes] = [b""] * (2 * count)
        changes: list[tuple[int, int, bytes, Book]] = []
        for number, walk in enumerate(self._walks):
            mine = np.flatnonzero(which == number)
            walk.advance(float(seconds[-1]) - self._now)
            quotes, trades, changed = walk.trade(seconds[mine], times[mine], int(times[-1]))
            for index, quote, trade in zip((2 * mine).tolist(), quotes, trades, strict=True):
                frames[index] = quote
                frames[index + 1] = trade
            changes += [(book.top.t_ns, number, frame, book) for frame, book in changed]
        self._now = float(seconds[-1])
        streams = np.repeat(STREAMS * which, 2)
        streams[1::2] += TRADES
        return _merged(np.repeat(times, 2), streams, frames, changes)


def _merged(
    times: NDArray[np.int64],
    streams: NDArray[np.int64],
    frames: list[bytes],
    changes: list[tuple[int, int, bytes, Book]],
) -> Block:
    """A change of a book stands before what comes at the same time: it tells of what was before."""
    changes.sort(key=lambda change: change[:2])
    before = np.searchsorted(times, [t_ns for t_ns, *_ in changes]).tolist()
    books: dict[int, Book] = {}
    for inserted, (at, (_, _, frame, book)) in enumerate(zip(before, changes, strict=True)):
        frames.insert(at + inserted, frame)
        books[at + inserted] = book
    return Block(
        np.insert(times, before, [t_ns for t_ns, *_ in changes]),
        np.insert(streams, before, [STREAMS * number + CHANGES for _, number, *_ in changes]),
        frames,
        books,
    )


class _Walk:
    """One symbol's price, regime, ids and book."""

    def __init__(self, listed: Listing, random: np.random.Generator, start_ns: int, first_id: int) -> None:
        self._random = random
        self._listed = listed
        self._tick = 10.0**-listed.price_decimals
        self._usual = math.log(listed.price)
        self._log_price = self._usual
        self._drift = 0.0
        self._heat = 0.0  # log of the volatility relative to the usual one
        self._last_s = 0.0
        self._trade_id = first_id
        self._update_id = first_id
        sizes = listed.size * random.lognormal(-0.5, 1.2, _SIZES)
        step = 10.0**-listed.size_decimals
        #: Drawn from a table, because their texts would cost more than all the rest.
        self._sizes = [f"{max(round(size / step), 1) * step:.8f}" for size in sizes.tolist()]
        self._prices: dict[int, str] = {}
        bid = self._ticks(self._log_price)
        maker = BookMaker(listed.symbol, bid, self._price, self._sizes)
        #: As of the last change that was written.
        self.book = Book(maker, Top(bid, 0, bid + 1, 1, first_id - 1, start_ns))
        self._sides = maker.sides(self.book.top)
        #: What the book has become since, and when that will be written.
        self._top: Top | None = None
        name, (quotes, trades, _) = listed.symbol, listed.streams
        self._quote_head = f'{{"stream":"{quotes}","data":{{"u":'
        self._quote_name = f',"s":"{name}","b":"'
        self._trade_head = f'{{"stream":"{trades}","data":{{"e":"aggTrade","E":'
        self._trade_name = f',"s":"{name}","a":'

    def advance(self, seconds: float) -> None:
        """Let drift and volatility change over the next `seconds`."""
        keep = math.exp(-seconds / _DRIFT_LASTS_S)
        self._drift = self._drift * keep + _DRIFT * math.sqrt(1 - keep**2) * self._random.standard_normal()
        keep = math.exp(-seconds / _VOLATILITY_LASTS_S)
        self._heat = self._heat * keep + 0.4 * math.sqrt(1 - keep**2) * self._random.standard_normal()
        if self._random.random() < -math.expm1(-seconds * _BURSTS_PER_S):
            self._heat += math.log(3)

    def trade(
        self, seconds: NDArray[np.float64], times: NDArray[np.int64], until_ns: int
    ) -> tuple[list[bytes], list[bytes], list[tuple[bytes, Book]]]:
        """Quote and trade frames of trades at these seconds since the start (`times` is the same in ns UTC), and what
        changed in the book until `until_ns`."""
        count = len(seconds)
        if not count:
            return [], [], self._written_until(until_ns)
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
        sells = random.random(count) < np.where(steps < 0, 0.65, 0.35)
        draw = random.integers(0, _SIZES, (3, count))
        changes = self._changes(bids, asks, draw, times, until_ns)
        return *self._frames(bids, asks, sells, draw, times // 1_000_000), changes

    def _changes(
        self,
        bids: NDArray[np.int64],
        asks: NDArray[np.int64],
        draw: NDArray[np.int64],
        times: NDArray[np.int64],
        until_ns: int,
    ) -> list[tuple[bytes, Book]]:
        written: list[tuple[bytes, Book]] = []
        due = (times // _DEPTH_NS + 1) * _DEPTH_NS
        for last in np.flatnonzero(np.diff(due, append=0)).tolist():
            due_ns = int(due[last])
            written += self._written_until(due_ns - 1)
            bid, bid_size, ask, ask_size = (int(one[last]) for one in (bids, draw[1], asks, draw[2]))
            self._top = Top(bid, bid_size, ask, ask_size, self._update_id + last, due_ns)
        return written + self._written_until(until_ns)

    def _written_until(self, t_ns: int) -> list[tuple[bytes, Book]]:
        """The frame that is due until then, if there is one."""
        top, before = self._top, self.book.top
        if top is None or top.t_ns > t_ns:
            return []
        maker, sides = self.book.maker, self.book.maker.sides(top)
        frame = maker.changes(self._sides, sides, before.update_id + 1, top.update_id, top.t_ns // 1_000_000)
        self.book, self._sides, self._top = Book(maker, top), sides, None
        return [(frame, self.book)]

    def _frames(
        self,
        bids: NDArray[np.int64],
        asks: NDArray[np.int64],
        sells: NDArray[np.bool_],
        draw: NDArray[np.int64],
        times_ms: NDArray[np.int64],
    ) -> tuple[list[bytes], list[bytes]]:
        sizes, price_of = self._sizes, self._price
        quote_head, quote_name = self._quote_head, self._quote_name
        trade_head, trade_name = self._trade_head, self._trade_name
        trade_id, update_id = self._trade_id, self._update_id
        quotes: list[bytes] = []
        trades: list[bytes] = []
        rows = zip(bids.tolist(), asks.tolist(), sells.tolist(), *draw.tolist(), times_ms.tolist(), strict=True)
        for bid_ticks, ask_ticks, sell, size, bid_size, ask_size, ms in rows:
            bid, ask = price_of(bid_ticks), price_of(ask_ticks)
            quotes.append(
                f'{quote_head}{update_id}{quote_name}{bid}","B":"{sizes[bid_size]}","a":"{ask}",'
                f'"A":"{sizes[ask_size]}"}}}}'.encode()
            )
            trades.append(
                f'{trade_head}{ms}{trade_name}{trade_id},"p":"{bid if sell else ask}","q":"{sizes[size]}",'
                f'"f":{trade_id},"l":{trade_id},"T":{ms},"m":{"true" if sell else "false"},"M":true}}}}'.encode()
            )
            trade_id += 1
            update_id += 1
        self._trade_id, self._update_id = trade_id, update_id
        return quotes, trades

    def _ticks(self, log_price: float) -> int:
        return max(round(math.exp(log_price) / self._tick), 1)

    def _price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) > 100_000:
                self._prices.clear()
            text = self._prices[ticks] = f"{ticks * self._tick:.8f}"
        return text
