"""The data in Bitfinex's messages as columns, the slow way, which decides what is usable."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from actors.feeds.bitfinex.messages import (
    Level,
    Trade,
    decode_array,
    decode_level,
    decode_levels,
    decode_liquidations,
    decode_status,
    decode_ticker,
    decode_trade,
    decode_trades,
)
from actors.feeds.book_rows import BookMessage, book_columns
from actors.feeds.book_rows import Level as BookLevel
from actors.feeds.columns import (
    NO_CHECKSUM,
    NO_TIME,
    DerivativeColumns,
    Floats,
    LiquidationColumns,
    QuoteColumns,
    Times,
    TradeColumns,
)
from actors.feeds.events import Events
from actors.feeds.frames import decode_each
from actors.feeds.texts import times
from storage.schema import BUY, CHANGE, CHECKSUM, SELL, SNAPSHOT


class Found(NamedTuple):
    """What one array holds: its position, the code of its symbol, its number (`NO_SEQUENCE` without one), the data."""

    at: int
    code: int
    number: int
    data: msgspec.Raw


class _Book(NamedTuple):
    kind: int
    levels: list[Level]
    checksum: int = NO_CHECKSUM


class Data:
    """What was found in a list of frames, to be added to `events`."""

    def __init__(self, events: Events) -> None:
        self.books: list[Found] = []
        self.checksums: list[Found] = []
        self.trades: list[Found] = []
        self.history: list[Found] = []
        self.tickers: list[Found] = []
        self.statuses: list[Found] = []
        self.liquidations: list[Found] = []
        #: Positions of frames that hold nothing for us.
        self.ignored: set[int] = set()
        self._events = events

    def add(self) -> None:
        """Read what was found and add it to the events."""
        if books := self._read(self.books, _decode_book) + self._read(self.checksums, _decode_checksum):
            self._add_books(books)
        if trades := self._read(self.trades, decode_trade):
            self._events.trades.append(_trades(trades))
        lists = self._read(self.history, decode_trades)
        self.ignored.update(found.at for found, trades_before in lists if not trades_before)
        if history := [(found, trade) for found, trades_before in lists for trade in trades_before]:
            self._events.history.append(_trades(history))
        if tickers := self._read(self.tickers, decode_ticker):
            at, code = _places(tickers)
            unknown = np.full(len(at), np.nan)
            self._events.quotes.append(
                QuoteColumns(
                    at=at,
                    code=code,
                    ts_event=None,
                    sequence=None,
                    bid_price=_floats([ticker.bid for _, ticker in tickers]),
                    bid_size=unknown,
                    ask_price=_floats([ticker.ask for _, ticker in tickers]),
                    ask_size=unknown,
                    last_price=_floats([ticker.last for _, ticker in tickers]),
                )
            )
        if statuses := self._read(self.statuses, decode_status):
            at, code = _places(statuses)
            self._events.derivatives.append(
                DerivativeColumns(
                    at=at,
                    code=code,
                    ts_event=_milliseconds([status.time for _, status in statuses]),
                    mark_price=_floats([status.mark_price for _, status in statuses]),
                    index_price=_floats([status.spot_price for _, status in statuses]),
                    open_interest=_floats([status.open_interest for _, status in statuses]),
                    funding_rate=_floats([status.current_funding for _, status in statuses]),
                    predicted_funding_rate=_floats([status.next_funding_accrued for _, status in statuses]),
                    next_funding_time=_milliseconds([status.next_funding_time or NO_TIME for _, status in statuses]),
                )
            )
        self._add_liquidations()

    def _read[Item](self, found: Sequence[Found], decode: Callable[[msgspec.Raw], Item]) -> list[tuple[Found, Item]]:
        items, unreadable = decode_each(decode, decode, [one.data for one in found])
        self._events.reasons.update((found[number].at, reason) for number, reason in unreadable.items())
        return [(one, item) for one, item in zip(found, items, strict=True) if item is not None]

    def _add_books(self, books: Sequence[tuple[Found, _Book]]) -> None:
        rows = book_columns(
            [BookMessage(found.at, found.code, book.kind, list(map(_level, book.levels))) for found, book in books],
            None,
            sequence=[found.number for found, _ in books],
        )
        rows.checksum = np.array([book.checksum for _, book in books], np.int64)
        removed = np.array([level.count == 0 for _, book in books for level in book.levels], np.bool_)
        # An amount of 0 has no sign, so no side.
        rows.level_size[rows.level_size == 0] = np.nan
        rows.level_size[removed & ~np.isnan(rows.level_size)] = 0.0
        self._events.books.append(rows)

    def _add_liquidations(self) -> None:
        """Those of our symbols that were carried out."""
        lists = self._read(self.liquidations, _decode_liquidations)
        ours = set(self._events.symbols.active)
        done = [(found, one) for found, all_ones in lists for one in all_ones if one.is_match and one.symbol in ours]
        self.ignored.update({found.at for found, _ in lists} - {found.at for found, _ in done})
        if done:
            milliseconds = np.array([one.time for _, one in done])
            usable = (milliseconds > 0) & (milliseconds < 1e13)
            self._events.liquidations.append(
                LiquidationColumns(
                    at=np.array([found.at for found, _ in done], np.intp),
                    code=self._events.symbols.codes(one.symbol for _, one in done),
                    ts_event=times(np.where(usable, milliseconds, NO_TIME).astype(np.int64), 1000),
                    # A long position is closed by a sale.
                    side=np.array([SELL if one.amount > 0 else BUY for _, one in done], np.uint8),
                    price=_floats([one.price for _, one in done]),
                    size=np.abs(_floats([one.amount for _, one in done])),
                )
            )


def _decode_book(data: msgspec.Raw) -> _Book:
    parts = decode_array(data)
    if not parts or bytes(parts[0]).startswith(b"["):
        return _Book(SNAPSHOT, decode_levels(data))
    return _Book(CHANGE, [decode_level(data)])


_decode_int32: Final = msgspec.json.Decoder(int).decode


def _decode_checksum(data: msgspec.Raw) -> _Book:
    checksum = _decode_int32(data)
    if not -(2**31) <= checksum < 2**32:
        raise msgspec.ValidationError("a checksum that has no 32 bits")
    return _Book(CHECKSUM, [], checksum & 0xFFFFFFFF)


def _decode_liquidations(data: msgspec.Raw) -> list[Any]:
    """A list of them; one that came alone counts as such a list."""
    parts = decode_array(data)
    alone = bool(parts) and not bytes(parts[0]).startswith(b"[")
    return decode_liquidations(b"[%b]" % bytes(data) if alone else data)


def _level(level: Level) -> BookLevel:
    amount = bytes(level.amount).decode(errors="replace")
    side = 1 if amount.startswith("-") else 0
    return BookLevel(side, bytes(level.price).decode(errors="replace"), amount.removeprefix("-"))


def _trades(pairs: Sequence[tuple[Found, Trade]]) -> TradeColumns:
    at, code = _places(pairs)
    amount = np.array([trade.amount for _, trade in pairs])
    return TradeColumns(
        at=at,
        code=code,
        ts_event=_milliseconds([trade.time for _, trade in pairs]),
        trade_id=np.array([trade.id for _, trade in pairs], np.int64),
        side=np.where(amount < 0, SELL, BUY).astype(np.uint8),
        price=np.array([trade.price for _, trade in pairs]),
        size=np.abs(amount),
    )


def _places(pairs: Sequence[tuple[Found, Any]]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    return np.array([one.at for one, _ in pairs], np.intp), np.array([one.code for one, _ in pairs], np.int32)


def _milliseconds(values: Sequence[int]) -> Times:
    return times(np.array(values, np.int64), 1000)


def _floats(values: Sequence[float | None]) -> Floats:
    """What is null becomes NaN."""
    return np.array(values, np.float64)
