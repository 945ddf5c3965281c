"""Books of Kraken at the depth a client asked for, made of a deeper one.

The exchange sends a level when it comes into the depth, and nothing when it falls out of it:
https://docs.kraken.com/api/docs/guides/spot-ws-book-v2
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

#: What can be asked for.
DEPTHS: Final = (10, 25, 100, 500, 1000)


def is_depth(value: object) -> bool:
    return type(value) is int and value in DEPTHS


class Level(msgspec.Struct, frozen=True, gc=False):
    """Numbers as they were written."""

    price: msgspec.Raw
    qty: msgspec.Raw


class Sides(NamedTuple):
    bids: Sequence[Level]
    asks: Sequence[Level]


class CutBook:
    """One book, followed to say what of it a client sees."""

    def __init__(self, depth: int, snapshot: Sides) -> None:
        self._depth = depth
        #: The depth of the book itself, as far as a snapshot shows it.
        longest = max(map(len, snapshot))
        self._whole = next((depth for depth in DEPTHS if depth >= longest), DEPTHS[-1])
        self._sides = tuple({float(bytes(level.price)): level for level in side} for side in snapshot)

    def seen(self) -> Sides:
        bids, asks = (self._best(side, self._depth) for side in range(2))
        return Sides(list(bids.values()), list(asks.values()))

    def change(self, levels: Sides) -> Sides:
        """What a change of the whole book is to the client."""
        bids, asks = (self._change(side, levels[side]) for side in range(2))
        return Sides(bids, asks)

    def _change(self, side: int, levels: Sequence[Level]) -> list[Level]:
        before = self._best(side, self._depth)
        book = self._sides[side]
        gone = {}
        for level in levels:
            price = float(bytes(level.price))
            if float(bytes(level.qty)):
                book[price] = level
            else:
                book.pop(price, None)
                gone[price] = level
        if len(book) > self._whole:
            kept = self._best(side, self._whole)
            book.clear()
            book.update(kept)
        after = self._best(side, self._depth)
        removed = [level for price, level in gone.items() if price in before and price not in book]
        return removed + [level for price, level in after.items() if before.get(price) != level]

    def _best(self, side: int, depth: int) -> dict[float, Level]:
        book = self._sides[side]
        return {price: book[price] for price in sorted(book, reverse=side == 0)[:depth]}
