"""Made-up order books: what is behind the best bid and ask depends on these, the time and the symbol alone, so that a
book costs nothing until somebody looks at it.

Levels behind the best stand on a grid of prices. A level keeps its size for a few seconds.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

#: Levels of each side.
DEPTH: Final = 100

_SIZE_LASTS_NS: Final = 4_000_000_000
#: Distance of the levels relative to the price; never less than a tick.
_GRID: Final = 1e-5

#: Price (in ticks) to the number of its size.
Side = dict[int, int]


class Top(NamedTuple):
    """The best bid and ask (ticks, and numbers of their sizes) after the update `update_id` at `t_ns`."""

    bid: int
    bid_size: int
    ask: int
    ask_size: int
    update_id: int
    t_ns: int


class BookMaker:
    """Writes the books of one symbol. `price` writes ticks as text, `sizes` are the texts of all sizes (2**n)."""

    def __init__(self, symbol: str, price_ticks: float, price: Callable[[int], str], sizes: Sequence[str]) -> None:
        self._salt = zlib.crc32(symbol.encode())
        self._step = max(round(price_ticks * _GRID), 1)
        self._price = price
        self._sizes = sizes
        name = symbol.lower()
        self._head = f'{{"stream":"{name}@depth@100ms","data":{{"e":"depthUpdate","E":'
        self._name = f',"s":"{symbol}","U":'

    def sides(self, top: Top) -> tuple[Side, Side]:
        """Bids and asks, best first."""
        step = self._step
        below = (top.bid - 1) // step * step
        above = (top.ask // step + 1) * step
        bids = self._levels(range(below, max(below - (DEPTH - 1) * step, 0), -step), top.t_ns)
        asks = self._levels(range(above, above + (DEPTH - 1) * step, step), top.t_ns)
        return {top.bid: top.bid_size} | bids, {top.ask: top.ask_size} | asks

    def changes(self, before: tuple[Side, Side], after: tuple[Side, Side], first: int, last: int, ms: int) -> bytes:
        """A depthUpdate frame of the updates from `first` to `last`, with Binance's own time `ms`."""
        bids, asks = (self._changed(old, new) for old, new in zip(before, after, strict=True))
        bids.reverse()
        return (
            f'{self._head}{ms}{self._name}{first},"u":{last},"b":[{",".join(bids)}],"a":[{",".join(asks)}]}}}}'
        ).encode()

    def snapshot(self, top: Top, limit: int) -> bytes:
        """Binance's answer to a request for the best `limit` levels of each side."""
        bids, asks = (",".join(map(self._level, list(side.items())[:limit])) for side in self.sides(top))
        return f'{{"lastUpdateId":{top.update_id},"bids":[{bids}],"asks":[{asks}]}}'.encode()

    def _levels(self, prices: range, t_ns: int) -> Side:
        ticks = np.array(prices, np.uint64)
        # Levels change one after the other, not all at once.
        mixed = (ticks + np.uint64(self._salt)) * np.uint64(0x9E3779B97F4A7C15)
        age = (np.uint64(t_ns) + (mixed >> np.uint64(32))) // np.uint64(_SIZE_LASTS_NS)
        drawn = (mixed ^ (age * np.uint64(0xD1B54A32D192ED03))) >> np.uint64(40)
        sizes = (drawn % np.uint64(len(self._sizes))).tolist()
        return dict(zip(prices, sizes, strict=True))

    def _changed(self, before: Side, after: Side) -> list[str]:
        """By rising price."""
        changed = dict(after.items() - before.items())
        gone = before.keys() - after.keys()
        return [
            self._level((ticks, changed[ticks])) if ticks in changed else f'["{self._price(ticks)}","0.00000000"]'
            for ticks in sorted(changed.keys() | gone)
        ]

    def _level(self, level: tuple[int, int]) -> str:
        return f'["{self._price(level[0])}","{self._sizes[level[1]]}"]'


class Book(NamedTuple):
    """A book as it stands."""

    maker: BookMaker
    top: Top

    def snapshot(self, limit: int) -> bytes:
        """See `BookMaker.snapshot`."""
        return self.maker.snapshot(self.top, limit)
