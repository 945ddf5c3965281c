"""The data in Bybit's messages as columns, the slow way, which decides what is usable."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from actors.feeds.book_rows import BookMessage, Level, book_columns
from actors.feeds.bybit.messages import (
    Book,
    Envelope,
    Ticker,
    decode_blank_ticker,
    decode_book,
    decode_liquidations,
    decode_ticker,
    decode_top,
    decode_trades,
    trade_id,
)
from actors.feeds.bybit.messages import Level as BookLevel
from actors.feeds.columns import DerivativeColumns, LiquidationColumns, Positions, QuoteColumns, Times, TradeColumns
from actors.feeds.events import Events
from actors.feeds.frames import decode_each
from actors.feeds.texts import numbers, times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

_SIDES: Final = {"Buy": BUY, "Sell": SELL}
_KINDS: Final = {"snapshot": SNAPSHOT, "delta": CHANGE}
_NOTHING: Final = BookLevel("", "")


class Found(NamedTuple):
    """A message with data: the position of its frame and the code of its symbol."""

    at: int
    code: int
    envelope: Envelope


class Data:
    """What was found in a list of frames, by channel, to be added to `events`."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.ignored = 0
        #: When messages of trades were made (ms), by the position of their frame.
        self.made: dict[int, int] = {}
        self._found: dict[str, list[Found]] = {}

    def find(self, channel: str, found: Found) -> None:
        self._found.setdefault(channel, []).append(found)

    def add(self) -> None:
        """Read what was found and add it to the events; `ignored` counts frames that hold nothing for us."""
        for channel, found in self._found.items():
            _ADD[channel](self, found)

    def _read[Item](
        self,
        found: Sequence[Found],
        decode: Callable[[msgspec.Raw], Item],
        look_again: Callable[[msgspec.Raw], Item],
    ) -> tuple[list[Found], list[Item]]:
        items, unreadable = decode_each(decode, look_again, [one.envelope.data for one in found])
        self.events.reasons.update((found[number].at, reason) for number, reason in unreadable.items())
        pairs = [(one, item) for one, item in zip(found, items, strict=True) if item is not None]
        return [one for one, _ in pairs], [item for _, item in pairs]

    def _of_types(self, found: Sequence[Found], *types: str) -> list[Found]:
        for one in found:
            if one.envelope.type not in types:
                self.events.reasons[one.at] = f"not a {' or '.join(types)}"
        return [one for one in found if one.envelope.type in types]

    def _add_trades(self, found: Sequence[Found]) -> None:
        messages, lists = self._read(found, decode_trades, decode_trades)
        self.ignored += lists.count([])
        self.made = {one.at: one.envelope.made for one in messages}
        trades = [trade for items in lists for trade in items]
        if not trades:
            return
        at, code = _places(messages)
        each = [len(items) for items in lists]
        self.events.trades.append(
            TradeColumns(
                at=np.repeat(at, each),
                code=np.repeat(code, each),
                ts_event=_milliseconds([trade.T for trade in trades]),
                trade_id=np.array([trade_id(trade.i) for trade in trades], np.int64),
                side=np.array([_SIDES[trade.S] for trade in trades], np.uint8),
                price=np.array([trade.p for trade in trades]),
                size=np.array([trade.v for trade in trades]),
            )
        )

    def _add_quotes(self, found: Sequence[Found]) -> None:
        messages, tops = self._read(self._of_types(found, "snapshot"), decode_top, decode_top)
        if not tops:
            return
        at, code = _places(messages)
        bids = [top.b[-1] if top.b else _NOTHING for top in tops]
        asks = [top.a[-1] if top.a else _NOTHING for top in tops]
        self.events.quotes.append(
            QuoteColumns(
                at=at,
                code=code,
                ts_event=_happened(messages),
                sequence=np.array([top.seq for top in tops], np.int64),
                bid_price=numbers([bid.price for bid in bids])[0],
                bid_size=numbers([bid.size for bid in bids])[0],
                ask_price=numbers([ask.price for ask in asks])[0],
                ask_size=numbers([ask.size for ask in asks])[0],
            )
        )

    def _add_books(self, found: Sequence[Found]) -> None:
        messages, books = self._read(self._of_types(found, "snapshot", "delta"), decode_book, decode_book)
        if not books:
            return
        self.events.books.append(
            book_columns(
                [
                    BookMessage(one.at, one.code, _KINDS[one.envelope.type], _levels(book))
                    for one, book in zip(messages, books, strict=True)
                ],
                _happened(messages),
                sequence=[book.u for book in books],
            )
        )

    def _add_derivatives(self, found: Sequence[Found]) -> None:
        messages, tickers = self._read(found, decode_ticker, decode_blank_ticker)
        telling = [(one, ticker) for one, ticker in zip(messages, tickers, strict=True) if _tells(ticker)]
        self.ignored += len(messages) - len(telling)
        if not telling:
            return
        at, code = _places([one for one, _ in telling])
        self.events.derivatives.append(
            DerivativeColumns(
                at=at,
                code=code,
                ts_event=_milliseconds([one.envelope.made for one, _ in telling]),
                mark_price=np.array([ticker.mark_price for _, ticker in telling]),
                index_price=np.array([ticker.index_price for _, ticker in telling]),
                open_interest=np.array([ticker.open_interest for _, ticker in telling]),
                funding_rate=np.array([ticker.funding_rate for _, ticker in telling]),
                next_funding_time=_milliseconds([ticker.next_funding_time for _, ticker in telling]),
            )
        )

    def _add_liquidations(self, found: Sequence[Found]) -> None:
        messages, lists = self._read(found, decode_liquidations, decode_liquidations)
        self.ignored += lists.count([])
        liquidations = [one for items in lists for one in items]
        if not liquidations:
            return
        at, code = _places(messages)
        each = [len(items) for items in lists]
        self.events.liquidations.append(
            LiquidationColumns(
                at=np.repeat(at, each),
                code=np.repeat(code, each),
                ts_event=_milliseconds([one.T for one in liquidations]),
                # What is named is the side of the position; closing it is the opposite.
                side=np.array([SELL if one.S == "Buy" else BUY for one in liquidations], np.uint8),
                price=np.array([one.p for one in liquidations]),
                size=np.array([one.v for one in liquidations]),
            )
        )


_ADD: Final[dict[str, Callable[[Data, Sequence[Found]], None]]] = {
    "trades": Data._add_trades,
    "quotes": Data._add_quotes,
    "book": Data._add_books,
    "derivatives": Data._add_derivatives,
    "liquidations": Data._add_liquidations,
}


def _places(messages: Sequence[Found]) -> tuple[Positions, npt.NDArray[np.int32]]:
    at = np.array([one.at for one in messages], np.intp)
    return at, np.array([one.code for one in messages], np.int32)


def _milliseconds(values: Sequence[int]) -> Times:
    return times(np.array(values, np.int64), 1000)


def _happened(messages: Sequence[Found]) -> Times:
    """When the matching engine made it, or the message where it does not say."""
    return _milliseconds([one.envelope.cts or one.envelope.made for one in messages])


def _levels(book: Book) -> list[Level]:
    """Bids first, as the exchange has them."""
    bids = [Level(0, level.price, level.size) for level in book.b]
    return bids + [Level(1, level.price, level.size) for level in book.a]


def _tells(ticker: Ticker) -> bool:
    values: tuple[Any, ...] = (ticker.mark_price, ticker.index_price, ticker.open_interest, ticker.funding_rate)
    return ticker.next_funding_time > 0 or not all(map(math.isnan, values))
