"""The data in OKX's messages as columns, the slow way, which decides what is usable."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from actors.feeds.book_rows import BookMessage, Level, book_columns
from actors.feeds.columns import (
    NO_CHECKSUM,
    NO_TIME,
    DerivativeColumns,
    LiquidationColumns,
    Positions,
    QuoteColumns,
    Times,
    TradeColumns,
)
from actors.feeds.events import Events
from actors.feeds.frames import decode_each
from actors.feeds.okx.messages import (
    Book,
    Derivative,
    Liquidation,
    Reader,
    Ticker,
    Trade,
    decode_books,
)
from actors.feeds.texts import times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

_SIDES: Final = {"buy": BUY, "sell": SELL}
_KINDS: Final = {"snapshot": SNAPSHOT, "update": CHANGE}

_TRADES: Final = Reader(Trade)
_TICKERS: Final = Reader(Ticker)
_DERIVATIVES: Final = Reader(Derivative)
_LIQUIDATIONS: Final = Reader(Liquidation)


class Found(NamedTuple):
    """Data of one channel: the position of its frame and the codes of the symbols it is for."""

    at: int
    codes: tuple[int, ...]
    data: msgspec.Raw
    #: Of a book.
    action: str = ""


class Data:
    """What was found in a list of frames, by channel, to be added to `events`."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.ignored = 0
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
        read: Callable[[msgspec.Raw], list[Item]],
        read_again: Callable[[msgspec.Raw], list[Item]],
    ) -> list[tuple[Found, Item]]:
        lists, unreadable = decode_each(read, read_again, [one.data for one in found])
        self.events.reasons.update((found[number].at, reason) for number, reason in unreadable.items())
        self.ignored += lists.count([])
        return [(one, item) for one, items in zip(found, lists, strict=True) if items for item in items]

    def _add_trades(self, found: Sequence[Found]) -> None:
        pairs = self._read(found, _TRADES.read, _TRADES.read_blanks)
        if not pairs:
            return
        at, code = _places(pairs)
        trades = [trade for _, trade in pairs]
        self.events.trades.append(
            TradeColumns(
                at=at,
                code=code,
                ts_event=_milliseconds([trade.ts for trade in trades]),
                trade_id=np.array([trade.trade_id for trade in trades], np.int64),
                side=np.array([_SIDES[trade.side] for trade in trades], np.uint8),
                price=np.array([trade.px for trade in trades]),
                size=np.array([trade.sz for trade in trades]),
                fills=np.array([trade.count for trade in trades], np.int64),
            )
        )

    def _add_quotes(self, found: Sequence[Found]) -> None:
        pairs = self._read(found, _TICKERS.read, _TICKERS.read_blanks)
        if not pairs:
            return
        at, code = _places(pairs)
        tickers = [ticker for _, ticker in pairs]
        self.events.quotes.append(
            QuoteColumns(
                at=at,
                code=code,
                ts_event=_milliseconds([ticker.ts for ticker in tickers]),
                sequence=None,
                bid_price=np.array([ticker.bid_px for ticker in tickers]),
                bid_size=np.array([ticker.bid_sz for ticker in tickers]),
                ask_price=np.array([ticker.ask_px for ticker in tickers]),
                ask_size=np.array([ticker.ask_sz for ticker in tickers]),
                last_price=np.array([ticker.last for ticker in tickers]),
                last_size=np.array([ticker.last_sz for ticker in tickers]),
            )
        )

    def _add_books(self, found: Sequence[Found]) -> None:
        for one in found:
            if one.action not in _KINDS:
                self.events.reasons[one.at] = "neither a snapshot nor an update of a book"
        pairs = self._read([one for one in found if one.action in _KINDS], decode_books, decode_books)
        if not pairs:
            return
        books = [book for _, book in pairs]
        rows = book_columns(
            [BookMessage(one.at, one.codes[0], _KINDS[one.action], _levels(book)) for one, book in pairs],
            _milliseconds([book.ts for book in books]),
            sequence=[book.seq_id for book in books],
        )
        rows.previous_sequence = np.array([book.prev_seq_id for book in books], np.int64)
        checksums = [book.checksum & 0xFFFFFFFF if book.checksum else NO_CHECKSUM for book in books]
        rows.checksum = np.array(checksums, np.int64)
        self.events.books.append(rows)

    def _add_derivatives(self, found: Sequence[Found]) -> None:
        pairs = self._read(found, _DERIVATIVES.read, _DERIVATIVES.read_blanks)
        if not pairs:
            return
        # An index gives a row for each of its symbols.
        each = [len(one.codes) for one, _ in pairs]
        items = [item for _, item in pairs]
        at = np.array([one.at for one, _ in pairs], np.intp)
        said = _milliseconds([item.ts for item in items])
        self.events.derivatives.append(
            DerivativeColumns(
                at=np.repeat(at, each),
                code=np.array([code for one, _ in pairs for code in one.codes], np.int32),
                ts_event=np.repeat(np.where(said == NO_TIME, self.events.ts_recv[at], said), each),
                mark_price=np.repeat([item.mark_px for item in items], each),
                index_price=np.repeat([item.idx_px for item in items], each),
                open_interest=np.repeat([item.oi for item in items], each),
                funding_rate=np.repeat([item.funding_rate for item in items], each),
                predicted_funding_rate=np.repeat([item.next_funding_rate for item in items], each),
                next_funding_time=np.repeat(_milliseconds([item.funding_time for item in items]), each),
            )
        )

    def _add_liquidations(self, found: Sequence[Found]) -> None:
        pairs = self._read(found, _LIQUIDATIONS.read, _LIQUIDATIONS.read_blanks)
        ours = set(self.events.symbols.active)
        kept = [(one, item) for one, item in pairs if item.inst_id in ours and item.details]
        self.ignored += len({one.at for one, _ in pairs} - {one.at for one, _ in kept})
        if not kept:
            return
        each = [len(item.details) for _, item in kept]
        details = [detail for _, item in kept for detail in item.details]
        self.events.liquidations.append(
            LiquidationColumns(
                at=np.repeat(np.array([one.at for one, _ in kept], np.intp), each),
                code=np.repeat(self.events.symbols.codes(item.inst_id for _, item in kept), each),
                ts_event=_milliseconds([detail.ts for detail in details]),
                side=np.array([_SIDES[detail.side] for detail in details], np.uint8),
                price=np.array([detail.bk_px for detail in details]),
                size=np.array([detail.sz for detail in details]),
            )
        )


_ADD: Final[dict[str, Callable[[Data, Sequence[Found]], None]]] = {
    "trades": Data._add_trades,
    "tickers": Data._add_quotes,
    "books": Data._add_books,
    "mark-price": Data._add_derivatives,
    "index-tickers": Data._add_derivatives,
    "open-interest": Data._add_derivatives,
    "funding-rate": Data._add_derivatives,
    "liquidation-orders": Data._add_liquidations,
}


def _places(pairs: Sequence[tuple[Found, Any]]) -> tuple[Positions, npt.NDArray[np.int32]]:
    """Positions and codes of data that is for one symbol each."""
    at = np.array([one.at for one, _ in pairs], np.intp)
    return at, np.array([one.codes[0] for one, _ in pairs], np.int32)


def _milliseconds(values: Sequence[int]) -> Times:
    return times(np.array(values, np.int64), 1000)


def _levels(book: Book) -> list[Level]:
    """Asks first, as the exchange has them."""
    asks = [Level(1, level.price, level.size) for level in book.asks]
    return asks + [Level(0, level.price, level.size) for level in book.bids]
