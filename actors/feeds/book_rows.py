"""Book messages as columns, made from what a feed's JSON decoder gave: the slow way, which decides."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from actors.feeds.columns import BookColumns, Times
from actors.feeds.events import Events
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL
from actors.feeds.texts import numbers
from storage.schema import BROKEN


class Level(msgspec.Struct, gc=False):
    """One level as the exchange wrote it. `side`: 0 bid, 1 ask. (A snapshot has thousands: of these, making one is
    cheapest.)"""

    side: int
    price: str
    size: str


@dataclass(slots=True)
class BookMessage:
    """One message of a book: the position of its frame, the code of its symbol, what it is and its levels."""

    at: int
    code: int
    kind: int
    levels: list[Level]


def book_columns(
    messages: Sequence[BookMessage],
    ts_event: Times | None,
    first_sequence: Sequence[int] | None = None,
    sequence: Sequence[int] | None = None,
) -> BookColumns:
    """The messages as columns; times and sequences as `BookColumns` has them, one for each message."""
    levels = [level for message in messages for level in message.levels]
    prices, price_decimals = numbers([level.price for level in levels])
    sizes, size_decimals = numbers([level.size for level in levels])
    return BookColumns(
        at=np.array([message.at for message in messages], np.intp),
        code=np.array([message.code for message in messages], np.int32),
        kind=np.array([message.kind for message in messages], np.uint8),
        ts_event=ts_event,
        first_sequence=None if first_sequence is None else np.array(first_sequence, np.int64),
        sequence=None if sequence is None else np.array(sequence, np.int64),
        previous_sequence=None,
        checksum=None,
        levels=np.array([len(message.levels) for message in messages], np.int64),
        level_side=np.array([level.side for level in levels], np.uint8),
        level_price=prices,
        level_size=sizes,
        level_price_decimals=price_decimals,
        level_size_decimals=size_decimals,
    )


def broken(places: Iterable[tuple[int, int]]) -> BookColumns:
    """A `BROKEN` row for each (position of the frame, code of the symbol)."""
    return book_columns([BookMessage(at, code, BROKEN, []) for at, code in places], None)


def ends(positions: Sequence[int]) -> Sequence[int]:
    """The first and the last: what breaks every book need not be told for each frame of a flood between them."""
    return positions if len(positions) < 3 else (positions[0], positions[-1])


def mark_broken(events: Events, frames: Sequence[bytes], book: re.Pattern[bytes], category: str = "") -> None:
    """A frame that cannot be used breaks the book it is about: that of the symbol (`category` before it) which the
    first group of `book` finds in it."""
    named = [(at, found) for at in sorted(events.reasons) if (found := book.search(frames[at]))]
    codes = events.symbols.codes(f"{category}{found[1].decode()}" for _, found in named)
    places = [(at, code) for (at, _), code in zip(named, codes.tolist(), strict=True) if code != UNKNOWN_SYMBOL]
    if places:
        events.books.append(broken(places))
