"""Binance spot: aggTrade (or trade) streams are trades, bookTicker streams are quotes, depth streams are books.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams describes the streams and the limits.
There are no derivatives here. Times are in ms, which is what the exchange sends unless asked for microseconds.
"""

import re
from collections.abc import Callable, Sequence
from itertools import batched
from typing import ClassVar, Final
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa

from actors.feeds.binance.instruments import read_exchange_info
from actors.feeds.binance.messages import (
    Answer,
    Envelope,
    Snapshot,
    decode_depth,
    decode_envelope,
    decode_quote,
    decode_trade,
    look_for_answer,
    look_past_blanks,
    read_body,
)
from actors.feeds.binance.messages import Level as DepthLevel
from actors.feeds.book_rows import BookMessage, Level, book_columns, broken
from actors.feeds.columns import QuoteColumns, Times, TradeColumns
from actors.feeds.events import NOT_SUBSCRIBED, Events
from actors.feeds.feed import (
    ALL_CHANNELS,
    BookRules,
    Channel,
    Credentials,
    Decoded,
    Limits,
    Notice,
    Proof,
    Refusal,
    RestRequest,
    decoded,
)
from actors.feeds.frames import decode_each
from actors.feeds.layouts import BOOK, QUOTE, TRADE, KnownLayouts, Layout
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes
from actors.feeds.texts import times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

#: Books last: they have so much to read that one more comparison costs them least.
_LAYOUTS: Final[dict[Channel, Layout]] = {
    "trades": Layout(
        TRADE,
        '{"stream":"<symbol>@aggTrade","data":{"e":"aggTrade","E":<any>,"s":"<text>","a":<trade_id>,"p":"<price>",'
        '"q":"<size>","f":<any>,"l":<any>,"T":<milliseconds>,"m":<maker_side:true|false>,"M":<any>}}',
    ),
    "quotes": Layout(
        QUOTE,
        '{"stream":"<symbol>@bookTicker","data":{"u":<sequence>,"s":"<text>","b":"<bid_price>","B":"<bid_size>",'
        '"a":"<ask_price>","A":"<ask_size>"}}',
    ),
    "book": Layout(
        BOOK,
        '{"stream":"<symbol>@depth@100ms","data":{"e":"depthUpdate","E":<milliseconds>,"s":"<text>",'
        '"U":<first_sequence>,"u":<sequence>,"b":[((bid:["<level_price>","<level_size>"]))],'
        '"a":[((ask:["<level_price>","<level_size>"]))]}}',
    ),
}

#: What is subscribed for a channel, and which streams can hold it.
_STREAM: Final[dict[Channel, str]] = {"trades": "aggTrade", "quotes": "bookTicker", "book": "depth@100ms"}
_CHANNEL: Final[dict[str, Channel]] = {
    "aggTrade": "trades", "trade": "trades", "bookTicker": "quotes", "depth@100ms": "book", "depth": "book",
}  # fmt: skip
_SHUTDOWN: Final = "serverShutdown"

#: Names are in capitals; some are not Latin.
_SYMBOL: Final = re.compile(r"[\w.-]{1,50}")
_DEPTH_STREAM: Final = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"@]{1,200})@depth[@"]')

# Position of a frame and code of its symbol, then with its payload.
_Place = tuple[int, int]
_Found = tuple[int, int, msgspec.Raw]


class Binance:
    """See `Feed`. Subscribes by message, so that every symbol is confirmed; a book's snapshot comes over REST."""

    exchange: ClassVar[str] = "binance"
    hosts: ClassVar[frozenset[str]] = frozenset(
        {"stream.binance.com", "data-stream.binance.vision", "api.binance.com", "data-api.binance.vision"}
    )
    limits: ClassVar[Limits] = Limits(
        # 1,024 streams a connection, three of a symbol. A message of 50 symbols stays below 4 KB.
        symbols_per_connection=340,
        symbols_per_message=50,
        # 5 are allowed, the pongs included.
        messages_per_second=4.0,
        # 300 in five minutes.
        connects_per_minute=60.0,
        rest_weight_per_minute=6000,
        # Pings of the exchange prove the socket; rarely traded symbols send nothing else for minutes.
        silence_s=300.0,
        answer_s=10.0,
        lifetime_s=24 * 3600.0,
    )

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._channels = [channel for channel in _STREAM if channel in channels]
        self._symbols = SymbolCodes()
        #: Symbols of the requests without an answer, by the id of the request.
        self._asked: dict[int, tuple[str, ...]] = {}
        self._requests = 0
        layouts = [layout for channel, layout in _LAYOUTS.items() if channel in channels]
        self._layouts = KnownLayouts(layouts, {"symbol": {}})
        self._add(symbols)

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        for symbol in symbols:
            if not _SYMBOL.fullmatch(symbol) or symbol != symbol.upper():
                raise ValueError(f"{symbol!r} cannot be a symbol of binance: expected a name like BTCUSDT")
        return list(batched(dict.fromkeys(symbols), cls.limits.symbols_per_connection))

    @property
    def url(self) -> str:
        return f"{self._endpoint.rstrip('/')}/stream"

    @property
    def book_rules(self) -> BookRules:
        return BookRules("range", "none")

    @property
    def proof(self) -> Proof:
        return "ids"

    def greet(self) -> list[bytes]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._add(symbols)
        messages = []
        for part in batched(symbols, self.limits.symbols_per_message):
            if message := self._request("SUBSCRIBE", part):
                messages.append(message)
                self._asked[self._requests] = part
        return messages

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.retire(symbols)
        parts = batched(symbols, self.limits.symbols_per_message)
        return [message for part in parts if (message := self._request("UNSUBSCRIBE", part))]

    def renew_book(self, symbol: str) -> list[bytes]:
        return []

    def ping(self) -> bytes | None:
        return None

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        """1,000 levels a side for 50 of the weight, see
        https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints#order-book"""
        return RestRequest(f"/api/v3/depth?symbol={quote(symbol)}&limit=1000", weight=50)

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        snapshot = read_body(Snapshot, body)
        message = BookMessage(0, self._symbols.code(symbol), SNAPSHOT, _levels(snapshot.bids, snapshot.asks))
        events = Events(np.array([ts_recv], np.int64), self._symbols)
        events.books.append(book_columns([message], None, sequence=[snapshot.last_update_id]))
        batch = events.book_batch()
        if events.reasons or not batch.num_rows:
            raise ValueError(events.reasons.get(0, NOT_SUBSCRIBED))
        return batch

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        return [RestRequest("/api/v3/exchangeInfo", weight=20)]

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        return pa.concat_tables([read_exchange_info(body) for body in bodies])

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        events = Events(ts_recv, self._symbols)
        read = self._layouts.read(frames, events)
        others = read.others.tolist()
        envelopes, unreadable = decode_each(decode_envelope, look_for_answer, [frames[at] for at in others])
        events.reasons.update((others[number], reason) for number, reason in unreadable.items())
        lost = [(at, code) for at in events.reasons if (code := self._book_of(frames[at])) != UNKNOWN_SYMBOL]

        found: dict[Channel, list[_Found]] = {channel: [] for channel in self._channels}
        granted: list[str] = []
        refused: list[Refusal] = []
        notices: list[Notice] = []
        ignored = read.ignored
        for at, envelope in zip(others, envelopes, strict=True):
            if isinstance(envelope, Envelope):
                name, _, stream = envelope.stream.partition("@")
                channel = _CHANNEL.get(stream)
                if channel not in found:
                    ignored += 1
                    notices += self._notices(name.removeprefix("!"))
                elif (code := self._codes.get(name, UNKNOWN_SYMBOL)) == UNKNOWN_SYMBOL:
                    events.reasons[at] = NOT_SUBSCRIBED
                else:
                    found[channel].append((at, code, envelope.data))
            elif envelope is not None:
                if envelope.refusal:
                    refused.append(Refusal(frozenset(self._answered(envelope)), envelope.refusal))
                else:
                    ignored += 1
                    granted += self._answered(envelope)
                    notices += self._notices(envelope.e)
        _add_trades(events, found.get("trades", []))
        _add_quotes(events, found.get("quotes", []))
        _add_books(events, found.get("book", []), lost)
        return decoded(
            events,
            frames,
            subscribed=frozenset(granted).intersection(self._symbols.active),
            refused=refused,
            notices=notices,
            ignored=ignored,
        )

    def _add(self, symbols: Sequence[str]) -> None:
        self._symbols.add(symbols)
        self._codes = {name.lower(): code for code, name in enumerate(self._symbols.names)}
        self._layouts.rename({"symbol": self._codes})

    def _request(self, method: str, symbols: Sequence[str]) -> bytes:
        streams = [f"{symbol.lower()}@{_STREAM[channel]}" for symbol in symbols for channel in self._channels]
        if not streams:
            return b""
        self._requests += 1
        return msgspec.json.encode({"method": method, "params": streams, "id": self._requests})

    def _answered(self, answer: Answer) -> tuple[str, ...]:
        """The symbols a request asked for, the first time it is answered."""
        return self._asked.pop(answer.id, ()) if isinstance(answer.id, int) else ()

    @staticmethod
    def _notices(event: object) -> list[Notice]:
        return ["reconnect"] if event == _SHUTDOWN else []

    def _book_of(self, frame: bytes) -> int:
        """The code of the book a frame that is no JSON must have been for."""
        stream = _DEPTH_STREAM.match(frame)
        if stream is None or "book" not in self._channels:
            return UNKNOWN_SYMBOL
        return self._codes.get(stream[1].decode(errors="replace"), UNKNOWN_SYMBOL)


def _add_trades(events: Events, found: Sequence[_Found]) -> None:
    trades, _ = _payloads(events, decode_trade, decode_trade, found)
    if not trades:
        return
    events.trades.append(
        TradeColumns(
            at=np.array([at for at, _, _ in trades], np.intp),
            code=np.array([code for _, code, _ in trades], np.int32),
            ts_event=times(np.array([trade.T for _, _, trade in trades], np.int64), 1000),
            trade_id=np.array([trade.trade_id for _, _, trade in trades], np.int64),
            side=np.array([SELL if trade.m else BUY for _, _, trade in trades], np.uint8),
            price=np.array([trade.p for _, _, trade in trades]),
            size=np.array([trade.q for _, _, trade in trades]),
        )
    )


def _add_quotes(events: Events, found: Sequence[_Found]) -> None:
    quotes, _ = _payloads(events, decode_quote, look_past_blanks, found)
    if not quotes:
        return
    events.quotes.append(
        QuoteColumns(
            at=np.array([at for at, _, _ in quotes], np.intp),
            code=np.array([code for _, code, _ in quotes], np.int32),
            # A bookTicker has no time of its own.
            ts_event=None,
            sequence=np.array([quote.u for _, _, quote in quotes], np.int64),
            bid_price=np.array([quote.b for _, _, quote in quotes]),
            bid_size=np.array([quote.B for _, _, quote in quotes]),
            ask_price=np.array([quote.a for _, _, quote in quotes]),
            ask_size=np.array([quote.A for _, _, quote in quotes]),
        )
    )


def _add_books(events: Events, found: Sequence[_Found], lost: Sequence[_Place]) -> None:
    """Changes, and a `BROKEN` row for every book that lost one; `lost` are those known already."""
    depths, unreadable = _payloads(events, decode_depth, decode_depth, found)
    if lost or unreadable:
        events.books.append(broken([*lost, *unreadable]))
    if depths:
        messages = [BookMessage(at, code, CHANGE, _levels(depth.b, depth.a)) for at, code, depth in depths]
        ts_event = times(np.array([depth.E for _, _, depth in depths], np.int64), 1000)
        first, last = [depth.U for _, _, depth in depths], [depth.u for _, _, depth in depths]
        events.books.append(book_columns(messages, ts_event, first, last))


def _levels(bids: Sequence[DepthLevel], asks: Sequence[DepthLevel]) -> list[Level]:
    sides = ((0, bids), (1, asks))
    return [Level(side, level.price, level.size) for side, levels in sides for level in levels]


def _payloads[Payload](
    events: Events,
    decode: Callable[[msgspec.Raw], Payload],
    look_again: Callable[[msgspec.Raw], Payload],
    found: Sequence[_Found],
) -> tuple[list[tuple[int, int, Payload]], list[_Place]]:
    """The payloads with the places of their frames, and the places of those that do not decode."""
    payloads, unreadable = decode_each(decode, look_again, [raw for _, _, raw in found])
    events.reasons.update((found[number][0], reason) for number, reason in unreadable.items())
    kept = [(at, code, payload) for (at, code, _), payload in zip(found, payloads, strict=True) if payload is not None]
    return kept, [found[number][:2] for number in unreadable]
