"""Made-up order books: what is behind the best bid and ask depends on these, the time and the symbol alone, so that a
book costs nothing until somebody looks at it.

Levels behind the best stand on a grid of prices. A level keeps its size for a few seconds.
"""

import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.simulator.dialect import Change, Levels

_SIZE_LASTS_NS: Final = 4_000_000_000
#: Distance of the levels relative to the price; never less than a tick.
_GRID: Final = 1e-5


class _Side(NamedTuple):
    """Prices (ticks) and sizes (units), best first."""

    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]


_NO_SIDE: Final = _Side(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Top(NamedTuple):
    """The best bid and ask (ticks and units) after the update `update_id` at `t_ns`."""

    bid: int
    bid_size: int
    ask: int
    ask_size: int
    update_id: int
    t_ns: int


class BookMaker:
    """Makes the books of one symbol. `sizes` (units) are those that levels may have, 2**n of them."""

    def __init__(self, symbol: str, price: int, sizes: NDArray[np.int64]) -> None:
        self._salt = zlib.crc32(symbol.encode())
        self._step = max(round(price * _GRID), 1)
        self._sizes = sizes

    def sides(self, top: Top, depth: int) -> tuple[_Side, _Side]:
        """The best levels of bids and asks; fewer bids where prices end."""
        step = self._step
        below = (top.bid - 1) // step * step
        above = (top.ask // step + 1) * step
        bids = np.arange(below, max(below - (depth - 1) * step, 0), -step)
        asks = np.arange(above, above + (depth - 1) * step, step)
        return self._side(top.bid, top.bid_size, bids, top.t_ns), self._side(top.ask, top.ask_size, asks, top.t_ns)

    def has(self, side: int, prices: NDArray[np.int64], top: Top) -> NDArray[np.bool_]:
        """Whether the side (0 bids, 1 asks) has levels at these prices, however deep."""
        best = top.ask if side else top.bid
        beyond = prices > best if side else prices < best
        found: NDArray[np.bool_] = (prices == best) | ((prices % self._step == 0) & beyond)
        return found

    def _side(self, best: int, size: int, prices: NDArray[np.int64], t_ns: int) -> _Side:
        # Levels change one after the other, not all at once.
        mixed = (prices.astype(np.uint64) + np.uint64(self._salt)) * np.uint64(0x9E3779B97F4A7C15)
        age = (np.uint64(t_ns) + (mixed >> np.uint64(32))) // np.uint64(_SIZE_LASTS_NS)
        drawn = (mixed ^ (age * np.uint64(0xD1B54A32D192ED03))) >> np.uint64(40)
        sizes = self._sizes[drawn % np.uint64(len(self._sizes))]
        return _Side(np.concatenate([[best], prices]), np.concatenate([[size], sizes]))


@dataclass(slots=True, eq=False)
class MarketBook:
    """See `dialect.Book`."""

    maker: BookMaker
    top: Top
    number: int = 0
    _depth: int = field(default=0, init=False, repr=False)
    _sides: tuple[_Side, _Side] = field(default=(_NO_SIDE, _NO_SIDE), init=False, repr=False)

    @property
    def t_ns(self) -> int:
        return self.top.t_ns

    @property
    def update_id(self) -> int:
        return self.top.update_id

    def levels(self, depth: int) -> Levels:
        bids, asks = (
            list(zip(prices[:depth].tolist(), sizes[:depth].tolist(), strict=True))
            for prices, sizes in self.sides(depth)
        )
        return Levels(bids, asks)

    def sides(self, depth: int) -> tuple[_Side, _Side]:
        """At least the best `depth` levels; asked for again and again."""
        if depth > self._depth:
            self._depth, self._sides = depth, self.maker.sides(self.top, depth)
        return self._sides


def change(before: MarketBook, after: MarketBook, depth: int, cuts: bool) -> Change:
    """See `Change`; `cuts` as in `Dialect`."""
    bids, asks = (
        _changed(number, old, new, after, depth, cuts)
        for number, old, new in zip((0, 1), before.sides(depth), after.sides(depth), strict=True)
    )
    return Change(before, after, Levels(bids, asks))


def _changed(number: int, old: _Side, new: _Side, after: MarketBook, depth: int, cuts: bool) -> list[tuple[int, int]]:
    """Levels of one side by rising price."""
    rising = slice(None, depth) if number else slice(min(depth, len(old.prices)) - 1, None, -1)
    old_prices, old_sizes = old.prices[rising], old.sizes[rising]
    rising = slice(None, depth) if number else slice(min(depth, len(new.prices)) - 1, None, -1)
    prices, sizes = new.prices[rising], new.sizes[rising]
    places = np.minimum(old_prices.searchsorted(prices), len(old_prices) - 1)
    fresh = (old_prices[places] != prices) | (old_sizes[places] != sizes)
    places = np.minimum(prices.searchsorted(old_prices), len(prices) - 1)
    gone = old_prices[prices[places] != old_prices]
    if cuts:
        gone = gone[~after.maker.has(number, gone, after.top)]
    told = np.concatenate([prices[fresh], gone])
    amounts = np.concatenate([sizes[fresh], np.zeros(len(gone), np.int64)])
    order = np.argsort(told)
    return list(zip(told[order].tolist(), amounts[order].tolist(), strict=True))
