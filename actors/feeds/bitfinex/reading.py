"""What a list of Bitfinex frames said, while it is read."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from actors.feeds.bitfinex.channels import Meaning
from actors.feeds.bitfinex.rows import Data
from actors.feeds.columns import NO_SEQUENCE, Integers, Times
from actors.feeds.events import Events
from actors.feeds.feed import Notice, Refusal
from actors.feeds.symbol_codes import SymbolCodes

#: What the layouts read without making anything of it.
_NOTHING: Final = re.compile(rb'\[\d+,"(?:hb|tu)",')


class Reading:
    """A list of frames and what they said so far."""

    def __init__(self, frames: Sequence[bytes], ts_recv: Times, symbols: SymbolCodes) -> None:
        self.frames = frames
        self.events = Events(ts_recv, symbols)
        self.data = Data(self.events)
        #: Of each frame on this connection, `NO_SEQUENCE` without one.
        self.numbers: Integers = np.full(len(frames), NO_SEQUENCE)
        self.refused: list[Refusal] = []
        self.replies: list[bytes] = []
        self.notices: list[Notice] = []
        #: Frames of known layouts with nothing in them; the others are in `data`.
        self.ignored = 0

    def take(self, start: int, events: Events) -> None:
        """What the layouts read in the frames from `start` on. Numbers hold for one connection, so they do not
        identify quotes; below zero there are none."""
        for trades in (*events.trades, *events.history):
            trades.at += start
        for quotes in events.quotes:
            quotes.at += start
            quotes.sequence = None
        for books in events.books:
            books.at += start
            if books.sequence is not None:
                np.maximum(books.sequence, NO_SEQUENCE, out=books.sequence)
        self.events.trades += events.trades
        self.events.history += events.history
        self.events.quotes += events.quotes
        self.events.books += events.books

    def is_any_before(self, since: Mapping[Meaning, int]) -> bool:
        """Whether a row is from a frame before the position its meaning has here."""
        own = self.events
        trades, quotes, books = [*own.trades, *own.history], own.quotes, own.books
        for channel, parts in ("trades", trades), ("quotes", quotes), ("book", books):
            first = np.zeros(len(own.symbols.names), np.intp)
            for (of, code), at in since.items():
                if of == channel:
                    first[code] = at
            if any((part.at < first[part.code]).any() for part in parts):
                return True
        return False

    def counts_no_more(self, at: int) -> None:
        """A frame with nothing in it says something after all: that others are missing."""
        if at in self.data.ignored:
            self.data.ignored.remove(at)
        elif _NOTHING.match(self.frames[at]):
            self.ignored -= 1
