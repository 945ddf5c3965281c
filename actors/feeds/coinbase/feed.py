"""Coinbase Exchange: matches are trades, tickers are quotes, level2 is the book.

https://docs.cdp.coinbase.com/exchange/websocket-feed/overview describes the feed,
https://docs.cdp.coinbase.com/exchange/websocket-feed/rate-limits the limits. The book comes as a snapshot and changes
without any number, so what cannot be read breaks the book it was for. There are no derivatives here.
"""

import re
from collections.abc import Sequence
from itertools import batched
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
import pyarrow as pa

from actors.feeds.book_rows import BookMessage, Level, book_columns, broken, ends
from actors.feeds.coinbase.instruments import read_products
from actors.feeds.coinbase.messages import (
    BookChange,
    BookSnapshot,
    Error,
    Heartbeat,
    LastMatch,
    Match,
    Other,
    Subscriptions,
    Ticker,
    decode_event,
    decode_fields,
    look_again,
)
from actors.feeds.columns import BookColumns, Positions, QuoteColumns, Times, TradeColumns
from actors.feeds.events import Events
from actors.feeds.feed import (
    ALL_CHANNELS,
    BookRules,
    Channel,
    Credentials,
    Decoded,
    Limits,
    Proof,
    Refusal,
    RestRequest,
    decoded,
)
from actors.feeds.frames import decode_each, positions_by_type
from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, QUOTE, TRADE, KnownLayouts, Layout
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes
from actors.feeds.texts import iso_times, order_ids
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT, UNKNOWN_SIDE

_LAYOUTS: Final[dict[Channel, tuple[Layout, ...]]] = {
    "book": (
        Layout(
            BOOK,
            '{"type":"l2update","product_id":"<symbol>","changes":'
            '[((["<level_side>","<level_price>","<level_size>"]))],"time":"<iso_time>"}',
        ),
        Layout(
            BOOK_SNAPSHOT,
            '{"type":"snapshot","product_id":"<symbol>","asks":[((ask:["<level_price>","<level_size>"]))],'
            '"bids":[((bid:["<level_price>","<level_size>"]))]}',
        ),
    ),
    "trades": (
        Layout(
            TRADE,
            '{"type":"match","trade_id":<trade_id>,"maker_order_id":"<maker>","taker_order_id":"<taker>",'
            '"side":"<maker_side>","size":"<size>","price":"<price>","product_id":"<symbol>","sequence":<any>,'
            '"time":"<iso_time>"}',
        ),
    ),
    "quotes": (
        Layout(
            QUOTE,
            '{"type":"ticker","sequence":<sequence>,"product_id":"<symbol>","price":"<last_price>","open_24h":"<text>",'
            '"volume_24h":"<text>","low_24h":"<text>","high_24h":"<text>","volume_30d":"<text>",'
            '"best_bid":"<bid_price>",[["best_bid_size":"<bid_size>",]]"best_ask":"<ask_price>",'
            '[["best_ask_size":"<ask_size>",]]"side":"<taker_side>","time":"<iso_time>","trade_id":<any>,'
            '"last_size":"<last_size>"}',
        ),
    ),
}

#: What is subscribed for a channel. `level2` itself asks for a key, the batches of 50 ms do not.
_NAMES: Final[dict[Channel, str]] = {"trades": "matches", "quotes": "ticker", "book": "level2_batch"}
_HEARTBEAT: Final = "heartbeat"
#: What answers call the channels.
_CHANNEL: Final[dict[str, Channel]] = {
    "matches": "trades", "ticker": "quotes", "level2_batch": "book", "level2_50": "book", "level2": "book",
}  # fmt: skip
#: Which messages belong to a channel.
_CHANNEL_OF: Final[dict[type, Channel]] = {
    Match: "trades", LastMatch: "trades", Ticker: "quotes", BookChange: "book", BookSnapshot: "book",
}  # fmt: skip
_BOOK_TYPES: Final = ("l2update", "snapshot")

_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}", re.ASCII)
_INVALID_PRODUCT: Final = re.compile(r"(\S+) is not a valid product")
_TYPE_TEXT: Final = re.compile(rb'"type"\s*:\s*"(\w+)"')
_PRODUCT_TEXT: Final = re.compile(rb'"product_id"\s*:\s*"([^"]{1,50})"')

_SIDES: Final = {"buy": 0, "sell": 1}
#: A ticker names the taker's side. A match names the maker's: one trade has opposite sides in the two.
_TICKER_SIDES: Final = {"buy": BUY, "sell": SELL, "": UNKNOWN_SIDE}


class Coinbase:
    """See `Feed`. Trades from `match`, history from `last_match`, quotes from `ticker`, books from `snapshot` and
    `l2update`."""

    exchange: ClassVar[str] = "coinbase"
    hosts: ClassVar[frozenset[str]] = frozenset(
        {
            "ws-feed.exchange.coinbase.com",
            "ws-feed.pro.coinbase.com",
            "api.exchange.coinbase.com",
            "api.pro.coinbase.com",
        }
    )
    limits: ClassVar[Limits] = Limits(
        # No limit is documented but slow readers are cut: "spread subscriptions over more than one connection".
        symbols_per_connection=100,
        symbols_per_message=100,
        messages_per_second=100.0,
        # 8 a second.
        connects_per_minute=480.0,
        # 10 requests a second.
        rest_weight_per_minute=600,
        # Every product has a heartbeat each second.
        silence_s=15.0,
        answer_s=10.0,
    )

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._channels = [channel for channel in _NAMES if channel in channels]
        self._symbols = SymbolCodes()
        #: Symbols without an answer, each with the number of the message that asked for it.
        self._asked: dict[str, int] = {}
        self._messages = 0
        self._refused: set[str] = set()
        self._complete: frozenset[str] = frozenset()
        self._layouts = KnownLayouts(
            [layout for channel, layouts in _LAYOUTS.items() if channel in channels for layout in layouts],
            {"symbol": {}},
        )
        self._add(symbols)

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        for symbol in symbols:
            if not _SYMBOL.fullmatch(symbol):
                raise ValueError(f"{symbol!r} cannot be a symbol of coinbase: expected a name like BTC-USD")
        return list(batched(dict.fromkeys(symbols), cls.limits.symbols_per_connection))

    @property
    def url(self) -> str:
        return self._endpoint

    @property
    def book_rules(self) -> BookRules:
        return BookRules("none", "none")

    @property
    def proof(self) -> Proof:
        return "ids"

    def greet(self) -> list[bytes]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """The exchange closes connections that ask for nothing for 5 s."""
        self._add(symbols)
        self._refused.difference_update(symbols)
        messages = []
        for part in batched(symbols, self.limits.symbols_per_message):
            self._messages += 1
            self._asked |= dict.fromkeys(part, self._messages)
            messages.append(self._message("subscribe", part))
        return messages

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.retire(symbols)
        self._complete -= frozenset(symbols)
        for symbol in symbols:
            self._asked.pop(symbol, None)
        # To end what was refused would be refused too.
        ending = [symbol for symbol in symbols if symbol not in self._refused]
        return [self._message("unsubscribe", part) for part in batched(ending, self.limits.symbols_per_message)]

    def renew_book(self, symbol: str) -> list[bytes]:
        """Every subscription brings a snapshot."""
        names = [_NAMES["book"]]
        return [self._message("unsubscribe", [symbol], names), self._message("subscribe", [symbol], names)]

    def ping(self) -> bytes | None:
        return None

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        return None

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        raise ValueError("snapshots of coinbase come with the subscription")

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        return [RestRequest("/products")]

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        return pa.concat_tables([read_products(body) for body in bodies])

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        events = Events(ts_recv, self._symbols)
        read = self._layouts.read(frames, events)
        others = read.others
        messages: list[Any]
        messages, unreadable = decode_each(decode_event, look_again, [frames[at] for at in others.tolist()])
        events.reasons.update((int(others[number]), reason) for number, reason in unreadable.items())
        numbers = positions_by_type(messages)

        def of(kind: type) -> tuple[list[Any], Positions]:
            found = numbers.get(kind, []) if _CHANNEL_OF.get(kind) in (None, *self._channels) else []
            return [messages[number] for number in found], others[found]

        events.trades += _trades(self._symbols, *of(Match))
        events.history += _trades(self._symbols, *of(LastMatch))
        events.quotes += _quotes(self._symbols, *of(Ticker), ts_recv)
        events.books += _books(self._symbols, of(BookChange), of(BookSnapshot))
        lost = self._lost_books(frames, sorted(events.reasons))
        if lost:
            events.books.append(broken(lost))
        errors, _ = of(Error)
        answers, _ = of(Subscriptions)
        return decoded(
            events,
            frames,
            subscribed=frozenset().union(*map(self._confirmed, answers)),
            refused=[Refusal(self._invalid(error), error.text) for error in errors],
            replies=self._others_again(errors),
            ignored=read.ignored + sum(len(found) for kind, found in numbers.items() if self._is_ignored(kind)),
        )

    def _add(self, symbols: Sequence[str]) -> None:
        self._symbols.add(symbols)
        self._layouts.rename({"symbol": {name: code for code, name in enumerate(self._symbols.names)}})

    def _message(self, kind: str, symbols: Sequence[str], names: Sequence[str] = ()) -> bytes:
        names = names or [*(_NAMES[channel] for channel in self._channels), _HEARTBEAT]
        return msgspec.json.encode({"type": kind, "product_ids": symbols, "channels": names})

    def _is_ignored(self, kind: type) -> bool:
        channel = _CHANNEL_OF.get(kind)
        return channel not in self._channels if channel else kind in (Subscriptions, Heartbeat, Other)

    def _confirmed(self, answer: Subscriptions) -> frozenset[str]:
        """Our symbols that are now on all channels asked for; each answer repeats all that is subscribed."""
        products: dict[Channel, set[str]] = {channel: set() for channel in self._channels}
        for channel in answer.channels:
            if (ours := _CHANNEL.get(channel.name)) in products:
                products[ours].update(channel.product_ids)
        complete = frozenset(self._symbols.active).intersection(*products.values()) if products else frozenset()
        new = complete - self._complete
        self._complete = complete
        for symbol in new:
            self._asked.pop(symbol, None)
        return new

    def _invalid(self, error: Error) -> frozenset[str]:
        """The symbol of ours that an error names."""
        named = _INVALID_PRODUCT.search(error.reason)
        return frozenset(self._symbols.names).intersection([named[1]] if named else [])

    def _others_again(self, errors: Sequence[Error]) -> list[bytes]:
        """A message with one invalid product is refused as a whole: ask again for the others in it."""
        messages = []
        for error in errors:
            for symbol in self._invalid(error):
                self._refused.add(symbol)
                number = self._asked.pop(symbol, None)
                others = [other for other, asked in self._asked.items() if asked == number]
                if others:
                    messages.append(self._message("subscribe", others))
        return messages

    def _lost_books(self, frames: Sequence[bytes], unreadable: Sequence[int]) -> list[tuple[int, int]]:
        """Positions of unreadable frames with the codes of the books they may have been for."""
        books = [(at, self._books_of(frames[at])) for at in unreadable]
        of_any = ends([at for at, codes in books if codes is None])
        return [
            *((at, code) for at, codes in books for code in codes or ()),
            *((at, code) for at in of_any for code in self._all_codes()),
        ]

    def _books_of(self, frame: bytes) -> Sequence[int] | None:
        """The codes of the books an unreadable frame may have been for; None for any of them."""
        if "book" not in self._channels:
            return ()
        try:
            fields = decode_fields(frame)
        except (ValueError, RecursionError):
            # No JSON, but its text may still tell.
            kind, product = _TYPE_TEXT.search(frame), _PRODUCT_TEXT.search(frame)
            if kind is not None and kind[1].decode() not in _BOOK_TYPES:
                return ()
            code = self._symbols.code(product[1].decode(errors="replace")) if product else UNKNOWN_SYMBOL
            return None if code == UNKNOWN_SYMBOL else (code,)
        if fields.get("type") not in _BOOK_TYPES:
            return ()
        product_id = fields.get("product_id")
        if not isinstance(product_id, str):
            return None
        code = self._symbols.code(product_id)
        return () if code == UNKNOWN_SYMBOL else (code,)

    def _all_codes(self) -> list[int]:
        return [self._symbols.code(symbol) for symbol in self._symbols.active]


def _trades(symbols: SymbolCodes, matches: Sequence[Match], at: Positions) -> list[TradeColumns]:
    if not matches:
        return []
    makers, makers_known = order_ids([match.maker_order_id for match in matches])
    takers, takers_known = order_ids([match.taker_order_id for match in matches])
    columns = TradeColumns(
        at=at,
        code=symbols.codes(match.product_id for match in matches),
        ts_event=iso_times([match.time for match in matches]),
        trade_id=np.array([match.trade_id for match in matches], np.int64),
        side=np.array([SELL if match.side == "buy" else BUY for match in matches], np.uint8),
        price=np.array([match.price for match in matches]),
        size=np.array([match.size for match in matches]),
        maker_order_id=makers,
        maker_known=makers_known,
        taker_order_id=takers,
        taker_known=takers_known,
    )
    return [columns]


def _quotes(symbols: SymbolCodes, tickers: Sequence[Ticker], at: Positions, ts_recv: Times) -> list[QuoteColumns]:
    if not tickers:
        return []
    # Without a trade there is no time, or one of the year 0001.
    timeless = [not ticker.time or ticker.time.startswith("0001-") for ticker in tickers]
    columns = QuoteColumns(
        at=at,
        code=symbols.codes(ticker.product_id for ticker in tickers),
        ts_event=np.where(timeless, ts_recv[at], iso_times([ticker.time for ticker in tickers])),
        sequence=np.array([ticker.sequence for ticker in tickers], np.int64),
        bid_price=np.array([ticker.best_bid for ticker in tickers]),
        bid_size=np.array([ticker.best_bid_size for ticker in tickers]),
        ask_price=np.array([ticker.best_ask for ticker in tickers]),
        ask_size=np.array([ticker.best_ask_size for ticker in tickers]),
        last_price=np.array([ticker.price for ticker in tickers]),
        last_size=np.array([ticker.last_size for ticker in tickers]),
        side=np.array([_TICKER_SIDES[ticker.side] for ticker in tickers], np.uint8),
    )
    return [columns]


def _books(
    symbols: SymbolCodes,
    changes: tuple[Sequence[BookChange], Positions],
    snapshots: tuple[Sequence[BookSnapshot], Positions],
) -> list[BookColumns]:
    """A time that cannot be read costs nothing but itself."""
    messages, times = [], []
    for change, at in zip(*changes, strict=True):
        levels = [Level(_SIDES[level.side], level.price, level.size) for level in change.changes]
        messages.append(BookMessage(int(at), symbols.code(change.product_id), CHANGE, levels))
        times.append(change.time)
    for snapshot, at in zip(*snapshots, strict=True):
        sides = ((1, snapshot.asks), (0, snapshot.bids))
        levels = [Level(side, level.price, level.size) for side, of_side in sides for level in of_side]
        messages.append(BookMessage(int(at), symbols.code(snapshot.product_id), SNAPSHOT, levels))
        times.append(snapshot.time)
    return [book_columns(messages, iso_times(times))] if messages else []
