"""What a simulated exchange has published up to now, for its REST answers and for whoever subscribes.

Blocks are made ahead; nothing that is not due yet can be seen here.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final

import numpy as np

from actors.simulator.dialect import Book, Listing, Mark, Quotes, Trades
from actors.simulator.market import Events, row
from actors.simulator.truth import TradeHistory, joined

_ALWAYS: Final = (0, 2**63 - 1)
_due = itemgetter(0)


class ExchangeState:
    """See `dialect.View`."""

    def __init__(self, listings: Mapping[str, Listing], history: TradeHistory, now_ns: Callable[[], int]) -> None:
        """`listings` may change; `now_ns` is the exchange's clock."""
        self._listings = listings
        self._history = history
        self._now_ns = now_ns
        #: How each symbol stood before the block that is being published, and the last id by then.
        self._before: dict[str, tuple[Book, Quotes, Mark, int]] = {}
        self._block: dict[str, Events] = {}
        self._published_ns = 0

    @property
    def listings(self) -> Mapping[str, Listing]:
        return self._listings

    @property
    def now_ns(self) -> int:
        return self._now_ns()

    def begin(self, symbol: str, book: Book, quote: Quotes, mark: Mark) -> None:
        """A symbol that is new, as it stands."""
        self._before[symbol] = (book, quote, mark, int(quote.last_ids[-1]))

    def end(self, symbol: str) -> None:
        """A symbol that is no more."""
        del self._before[symbol]
        self._block.pop(symbol, None)

    def publishing(self, block: Sequence[Events]) -> None:
        """The next block; the one before has been published to its end."""
        for symbol, events in self._block.items():
            book, quote, mark, last_id = self._before[symbol]
            if events.changes:
                book = events.changes[-1][1].after
            if events.marks:
                mark = events.marks[-1][1]
            if len(events.due):
                quote, last_id = row(events.quotes, len(events.due) - 1), int(events.trades.ids[-1])
            self._before[symbol] = (book, quote, mark, last_id)
        self._block = {events.symbol: events for events in block}

    def published(self, until_ns: int) -> None:
        """What was due until then is now known to everybody."""
        self._published_ns = until_ns

    def book(self, symbol: str) -> Book:
        changes = self._block[symbol].changes if symbol in self._block else []
        count = bisect_right(changes, self._published_ns, key=_due)
        return changes[count - 1][1].after if count else self._before[symbol][0]

    def quote(self, symbol: str) -> Quotes:
        count = self._count(symbol)
        return row(self._block[symbol].quotes, count - 1) if count else self._before[symbol][1]

    def mark(self, symbol: str) -> Mark:
        marks = self._block[symbol].marks if symbol in self._block else []
        count = bisect_right(marks, self._published_ns, key=_due)
        return marks[count - 1][1] if count else self._before[symbol][2]

    def newest(self, symbol: str, limit: int) -> Trades:
        return self._select(symbol, _ALWAYS, _ALWAYS, limit, newest=True)

    def by_id(self, symbol: str, first: int, last: int, limit: int, newest: bool = False) -> Trades:
        return self._select(symbol, (first, last), _ALWAYS, limit, newest)

    def by_time(self, symbol: str, from_ns: int, to_ns: int, limit: int, newest: bool = False) -> Trades:
        return self._select(symbol, _ALWAYS, (from_ns, to_ns), limit, newest)

    def _select(self, symbol: str, ids: tuple[int, int], span: tuple[int, int], limit: int, newest: bool) -> Trades:
        first, last = ids[0], min(ids[1], self._last_id(symbol))
        if first > last or span[0] > span[1]:
            return joined([])
        return self._history.select(self._listings[symbol], (first, last), span, limit, newest)

    def _count(self, symbol: str) -> int:
        """Trades, and quotes, of the block that are published."""
        events = self._block.get(symbol)
        return 0 if events is None else int(np.searchsorted(events.due, self._published_ns, "right"))

    def _last_id(self, symbol: str) -> int:
        count = self._count(symbol)
        return int(self._block[symbol].trades.ids[count - 1]) if count else self._before[symbol][3]
