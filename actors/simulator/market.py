"""A made-up market: seeded random trades and quotes of several symbols as Binance's combined-stream frames.

The same seed, symbols, start and rate give the same bytes. Mid prices are geometric random walks whose drift and
volatility change slowly (trends) and sometimes jump (bursts); a weak pull keeps them near their usual level.
Each trade comes after the quote it was made on, and its price is that quote's bid or ask.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Trades encoded together: half a second of the market, within these bounds.
_BLOCK_S: Final = 0.5
_MAX_BLOCK_TRADES: Final = 4096

#: Ids start at the start time in seconds times this, so that a market that is started again never uses an id
#: twice as long as a symbol has fewer trades a second than this.
_IDS_PER_SECOND: Final = 100_000

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
    def streams(self) -> tuple[str, str]:
        """Its quotes and its trades."""
        return f"{self.symbol.lower()}@bookTicker", f"{self.symbol.lower()}@aggTrade"


@dataclass(frozen=True, slots=True)
class Block:
    """Frames in order of `times` (int64 ns); `streams` (int64) are positions in `stream_names` of the symbols."""

    times: NDArray[np.int64]
    streams: NDArray[np.int64]
    frames: list[bytes]


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
    """The streams a market of these symbols has; even positions are quotes, odd ones trades."""
    return [name for symbol in symbols for name in listing(symbol).streams]


def market(seed: int, symbols: Sequence[str], start_ns: int, trades_per_second: float) -> Iterator[Block]:
    """An endless market from `start_ns` on, in blocks. `trades_per_second` is the mean over all symbols together;
    there is one quote frame for each trade."""
    random = np.random.default_rng(seed)
    first_id = start_ns // 1_000_000_000 * _IDS_PER_SECOND
    walks = [_Walk(listing(symbol), random, first_id) for symbol in symbols]
    # Some symbols trade more than others, the first the most.
    weights = 1.0 / np.arange(1, len(symbols) + 1)
    weights /= weights.sum()
    count = min(max(round(trades_per_second * _BLOCK_S), 1), _MAX_BLOCK_TRADES)
    now = 0.0
    while True:
        seconds = now + np.cumsum(random.exponential(1 / trades_per_second, count))
        which = random.choice(len(symbols), count, p=weights)
        times = start_ns + (seconds * 1e9).astype(np.int64)
        frames: list[bytes] = [b""] * (2 * count)
        for number, walk in enumerate(walks):
            mine = np.flatnonzero(which == number)
            walk.advance(float(seconds[-1]) - now)
            quotes, trades = walk.trade(seconds[mine], times[mine] // 1_000_000)
            for index, quote, trade in zip((2 * mine).tolist(), quotes, trades, strict=True):
                frames[index] = quote
                frames[index + 1] = trade
        now = float(seconds[-1])
        streams = np.repeat(2 * which, 2)
        streams[1::2] += 1
        yield Block(np.repeat(times, 2), streams, frames)


class _Walk:
    """One symbol's price, regime and ids."""

    def __init__(self, listed: Listing, random: np.random.Generator, first_id: int) -> None:
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
        name, (quotes, trades) = listed.symbol, listed.streams
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

    def trade(self, seconds: NDArray[np.float64], times_ms: NDArray[np.int64]) -> tuple[list[bytes], list[bytes]]:
        """Quote and trade frames of trades at these seconds since the start (their times in ms beside them)."""
        count = len(seconds)
        if not count:
            return [], []
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
        return self._frames(bids, asks, sells, draw, times_ms)

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

    def _price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) > 100_000:
                self._prices.clear()
            text = self._prices[ticks] = f"{ticks * self._tick:.8f}"
        return text
