"""The data in Deribit's messages as columns, the slow way, which decides what is usable."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from actors.feeds.book_rows import BookMessage, Level, book_columns
from actors.feeds.columns import (
    NO_SEQUENCE,
    DerivativeColumns,
    Floats,
    LiquidationColumns,
    QuoteColumns,
    Times,
    TradeColumns,
)
from actors.feeds.deribit.messages import Book, Ticker, Trade, decode_book, decode_ticker, decode_trades
from actors.feeds.events import Events
from actors.feeds.feed import Channel
from actors.feeds.frames import decode_each
from actors.feeds.texts import times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

_SIDES: Final = {"buy": BUY, "sell": SELL}
_KINDS: Final = {"snapshot": SNAPSHOT, "change": CHANGE}
_ANOTHER_INSTRUMENT: Final = "about another instrument than its channel"

#: Whose order was forced, as factors of the taker's side: the maker's is the opposite one.
_FORCED: Final[dict[str, tuple[bool, ...]]] = {"T": (True,), "M": (False,), "MT": (True, False)}


class Found(NamedTuple):
    """Data of an instrument's channel: the position of its frame, the instrument and its code."""

    at: int
    symbol: str
    code: int
    data: msgspec.Raw


class Data:
    """What was found in a list of frames, by kind of channel, to be added to `events`."""

    def __init__(self, events: Events, channels: frozenset[Channel]) -> None:
        self.ignored = 0
        self._events = events
        self._channels = channels
        self._found: dict[str, list[Found]] = {}

    def find(self, kind: str, found: Found) -> None:
        self._found.setdefault(kind, []).append(found)

    def add(self) -> None:
        """Read what was found and add it to the events; `ignored` counts frames that hold nothing for us."""
        if books := self._read("book", decode_book, lambda book: [book]):
            self._add_books(books)
        if trades := self._read("trades", decode_trades, lambda trades: trades):
            self._add_trades(trades)
        if tickers := self._read("ticker", decode_ticker, lambda ticker: [ticker]):
            self._add_tickers(tickers)

    def _read[Item, Part: (Book, Trade, Ticker)](
        self, kind: str, decode: Callable[[msgspec.Raw], Item], parts_of: Callable[[Item], list[Part]]
    ) -> list[tuple[Found, Part]]:
        found = self._found.get(kind, [])
        items, unreadable = decode_each(decode, decode, [one.data for one in found])
        self._events.reasons.update((found[number].at, reason) for number, reason in unreadable.items())
        pairs: list[tuple[Found, Part]] = []
        for one, item in zip(found, items, strict=True):
            if item is None:
                continue
            parts = parts_of(item)
            if all(part.instrument_name == one.symbol for part in parts):
                pairs += [(one, part) for part in parts]
                self.ignored += not parts
            else:
                self._events.reasons[one.at] = _ANOTHER_INSTRUMENT
        return pairs

    def _add_books(self, pairs: Sequence[tuple[Found, Book]]) -> None:
        books = [book for _, book in pairs]
        rows = book_columns(
            [BookMessage(one.at, one.code, _KINDS[book.type], _levels(book)) for one, book in pairs],
            _milliseconds([book.timestamp for book in books]),
            sequence=[book.change_id for book in books],
        )
        before = [NO_SEQUENCE if book.prev_change_id is None else book.prev_change_id for book in books]
        rows.previous_sequence = np.array(before, np.int64)
        deleted = [level.action == "delete" for book in books for level in (*book.bids, *book.asks)]
        rows.level_size[np.array(deleted, np.bool_)] = 0.0
        self._events.books.append(rows)

    def _add_trades(self, pairs: Sequence[tuple[Found, Trade]]) -> None:
        if "trades" in self._channels:
            at, code = _places(pairs)
            trades = [trade for _, trade in pairs]
            self._events.trades.append(
                TradeColumns(
                    at=at,
                    code=code,
                    ts_event=_milliseconds([trade.timestamp for trade in trades]),
                    trade_id=np.array([trade.trade_seq for trade in trades], np.int64),
                    side=np.array([_SIDES[trade.direction] for trade in trades], np.uint8),
                    price=np.array([trade.price for trade in trades]),
                    size=np.array([trade.amount for trade in trades]),
                )
            )
        wanted = "liquidations" in self._channels
        forced = [(one, trade) for one, trade in pairs if wanted and trade.liquidation is not None]
        if "trades" not in self._channels:
            self.ignored += len({one.at for one, _ in pairs} - {one.at for one, _ in forced})
        if forced:
            self._add_liquidations(forced)

    def _add_liquidations(self, pairs: Sequence[tuple[Found, Trade]]) -> None:
        orders = [(one, trade, taker) for one, trade in pairs for taker in _FORCED[trade.liquidation or ""]]
        sides = [_SIDES[trade.direction] if taker else 1 - _SIDES[trade.direction] for _, trade, taker in orders]
        self._events.liquidations.append(
            LiquidationColumns(
                at=np.array([one.at for one, _, _ in orders], np.intp),
                code=np.array([one.code for one, _, _ in orders], np.int32),
                ts_event=_milliseconds([trade.timestamp for _, trade, _ in orders]),
                side=np.array(sides, np.uint8),
                price=np.array([trade.price for _, trade, _ in orders]),
                size=np.array([trade.amount for _, trade, _ in orders]),
            )
        )

    def _add_tickers(self, pairs: Sequence[tuple[Found, Ticker]]) -> None:
        if "quotes" in self._channels:
            self._add_quotes(pairs)
        derivatives = [(one, ticker) for one, ticker in pairs if "-" in one.symbol]
        if "derivatives" in self._channels and derivatives:
            self._add_derivatives(derivatives)
        if "quotes" not in self._channels:
            self.ignored += len(pairs) - len(derivatives)

    def _add_quotes(self, pairs: Sequence[tuple[Found, Ticker]]) -> None:
        at, code = _places(pairs)
        tickers = [ticker for _, ticker in pairs]
        self._events.quotes.append(
            QuoteColumns(
                at=at,
                code=code,
                ts_event=_milliseconds([ticker.timestamp for ticker in tickers]),
                sequence=None,
                bid_price=_floats([ticker.best_bid_price for ticker in tickers]),
                bid_size=_floats([ticker.best_bid_amount for ticker in tickers]),
                ask_price=_floats([ticker.best_ask_price for ticker in tickers]),
                ask_size=_floats([ticker.best_ask_amount for ticker in tickers]),
                last_price=_floats([ticker.last_price for ticker in tickers]),
            )
        )

    def _add_derivatives(self, pairs: Sequence[tuple[Found, Ticker]]) -> None:
        at, code = _places(pairs)
        tickers = [ticker for _, ticker in pairs]
        self._events.derivatives.append(
            DerivativeColumns(
                at=at,
                code=code,
                ts_event=_milliseconds([ticker.timestamp for ticker in tickers]),
                mark_price=_floats([ticker.mark_price for ticker in tickers]),
                index_price=_floats([ticker.index_price for ticker in tickers]),
                open_interest=_floats([ticker.open_interest for ticker in tickers]),
                funding_rate=_floats([ticker.current_funding for ticker in tickers]),
            )
        )


def _places(pairs: Sequence[tuple[Found, Any]]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    return np.array([one.at for one, _ in pairs], np.intp), np.array([one.code for one, _ in pairs], np.int32)


def _milliseconds(values: Sequence[int]) -> Times:
    return times(np.array(values, np.int64), 1000)


def _floats(values: Sequence[float | None]) -> Floats:
    """What is null becomes NaN."""
    return np.array(values, np.float64)


def _levels(book: Book) -> list[Level]:
    sides = ((0, book.bids), (1, book.asks))
    return [
        Level(side, bytes(level.price).decode(errors="replace"), bytes(level.amount).decode(errors="replace"))
        for side, levels in sides
        for level in levels
    ]
