"""Version 2 of Kraken's protocol, which is spoken live.

https://docs.kraken.com/api/docs/websocket-v2/book and its neighbours describe it. Messages are objects, symbols have
the usual names of currencies (BTC/USD), numbers are JSON numbers in full precision, whose text checksums are made of.
"""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from actors.feeds.book_rows import BookMessage, Level, book_columns
from actors.feeds.columns import QuoteColumns, TradeColumns
from actors.feeds.events import Events
from actors.feeds.feed import Channel
from actors.feeds.frames import decode_each
from actors.feeds.kraken.answers import CHANNELS, DEPTH, Acknowledged, Answers, Checksum, unsigned
from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, HISTORY, IGNORED, QUOTE, TRADE, Layout
from actors.feeds.texts import iso_times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

PING: Final = b'{"method":"ping"}'

_LEVEL: Final = '{"price":<level_price>,"qty":<level_size>}'
_BOOK: Final = (
    f'"data":[{{"symbol":"<symbol>","bids":[((bid:{_LEVEL}))],"asks":[((ask:{_LEVEL}))],"checksum":<checksum>'
    '[[,"timestamp":"<iso_time>"]]}]}'
)
_TRADES: Final = (
    '"data":[(({"symbol":"<symbol>","side":"<taker_side>","price":<price>,"qty":<size>,"ord_type":"<text>",'
    '"trade_id":<trade_id>,"timestamp":"<iso_time>"}))]}'
)
_TICKER: Final = (
    '"data":[{"symbol":"<symbol>","bid":<bid_price>,"bid_qty":<bid_size>,"ask":<ask_price>,"ask_qty":<ask_size>,'
    '"last":<last_price>,"volume":<any>,"vwap":<any>,"low":<any>,"high":<any>,"change":<any>,"change_pct":<any>'
    '[[,"trades":<any>]][[,"timestamp":"<iso_time>"]]}]}'
)
LAYOUTS: Final[dict[Channel, tuple[Layout, ...]]] = {
    "book": (
        Layout(BOOK, f'{{"channel":"book","type":"update",{_BOOK}'),
        Layout(BOOK_SNAPSHOT, f'{{"channel":"book","type":"snapshot",{_BOOK}'),
    ),
    "trades": (
        Layout(TRADE, f'{{"channel":"trade","type":"update",{_TRADES}'),
        Layout(HISTORY, f'{{"channel":"trade","type":"snapshot",{_TRADES}'),
    ),
    "quotes": (
        Layout(QUOTE, f'{{"channel":"ticker","type":"update",{_TICKER}'),
        Layout(QUOTE, f'{{"channel":"ticker","type":"snapshot",{_TICKER}'),
    ),
}
HEARTBEAT: Final = Layout(IGNORED, '{"channel":"heartbeat"}')


class _Level(msgspec.Struct, gc=False):
    price: msgspec.Raw
    qty: msgspec.Raw


class _Book(msgspec.Struct, gc=False):
    """{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],
    "asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}

    A snapshot has no timestamp. (https://docs.kraken.com/api/docs/websocket-v2/book)
    """

    symbol: str
    bids: list[_Level] = []
    asks: list[_Level] = []
    checksum: Checksum | None = None
    timestamp: str = ""


class _Trade(msgspec.Struct, gc=False):
    """{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,
    "ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}
    (https://docs.kraken.com/api/docs/websocket-v2/trade)"""

    symbol: str
    side: Literal["buy", "sell"]
    price: float
    qty: float
    trade_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    timestamp: str


class _Ticker(msgspec.Struct, gc=False):
    """{"channel":"ticker","type":"snapshot","data":[{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,
    "ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,
    "change":-0.00017,"change_pct":-0.17}]} (https://docs.kraken.com/api/docs/websocket-v2/ticker)

    Newer ones end in "timestamp":"2023-09-25T09:04:31.742648Z".
    """

    symbol: str
    bid: float | None = None
    bid_qty: float | None = None
    ask: float | None = None
    ask_qty: float | None = None
    last: float | None = None
    timestamp: str = ""


class _Status(msgspec.Struct, gc=False):
    """{"channel":"status","data":[{"api_version":"v2","connection_id":13834774380200032777,"system":"online",
    "version":"2.0.0"}],"type":"update"} (https://docs.kraken.com/api/docs/websocket-v2/status)"""

    system: str = ""


class _Result(msgspec.Struct, frozen=True, gc=False):
    channel: str = ""
    symbol: str = ""


class _Message(msgspec.Struct, gc=False):
    """{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"ALGO/USD"},"success":true,
    "time_in":"2023-10-06T17:35:55.219022Z","time_out":"2023-10-06T17:35:55.219067Z"}
    (https://docs.kraken.com/api/docs/websocket-v2/book)

    {"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD",
    "time_in":"2023-10-06T17:35:55.219022Z","time_out":"2023-10-06T17:35:55.219067Z"}
    """

    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")
    method: str = ""
    success: bool = True
    error: str = ""
    symbol: str = ""
    result: _Result = _Result()


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_statuses = msgspec.json.Decoder(list[_Status]).decode
_DECODERS: Final[dict[Channel, Any]] = {
    "book": msgspec.json.Decoder(_Book).decode,
    "trades": msgspec.json.Decoder(_Trade).decode,
    "quotes": msgspec.json.Decoder(_Ticker).decode,
}

_SIDES: Final = {"buy": BUY, "sell": SELL}
_BOOK_TEXT: Final = re.compile(rb'"channel"\s*:\s*"(\w+)"(?:.{0,100}?"symbol"\s*:\s*"([^"]{1,50})")?', re.DOTALL)

#: Position of a frame, whether it is a snapshot, and one item of its data.
_Found = list[tuple[int, bool, Any]]


def request(method: Literal["subscribe", "unsubscribe"], channel: str, symbols: Sequence[str]) -> bytes:
    params: dict[str, Any] = {"channel": channel, "symbol": symbols}
    if channel == "book":
        params["depth"] = DEPTH
    if channel == "ticker":
        # Without it there is a quote for each trade only.
        params["event_trigger"] = "bbo"
    if channel == "trade" and method == "subscribe":
        params["snapshot"] = True
    return msgspec.json.encode({"method": method, "params": params})


def read(frames: Sequence[bytes], at: Sequence[int], events: Events, channels: Collection[Channel]) -> Answers:
    """Add what these frames, which stand at these positions, say to `events`."""
    answers = Answers()
    found: dict[Channel, _Found] = {"book": [], "trades": [], "quotes": []}
    messages, unreadable = decode_each(_decode_message, _decode_message, frames)
    events.reasons.update((at[number], reason) for number, reason in unreadable.items())
    for position, message in zip(at, messages, strict=True):
        if message is None:
            continue
        try:
            channel = CHANNELS.get(message.channel)
            if channel in channels and channel is not None:
                items = _items(message, channel, position, events)
                found[channel] += items
                answers.ignored += not items and position not in events.reasons
            else:
                _answer(message, answers)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            events.reasons[position] = str(error)
    _add_books(events, found["book"])
    _add_trades(events, found["trades"])
    _add_quotes(events, found["quotes"])
    return answers


def books_of(frame: bytes) -> Sequence[str] | None:
    """The symbols whose books an unreadable frame may have been for; None: any."""
    try:
        fields = _decode_fields(frame)
    except (ValueError, RecursionError):
        # Its text may still tell.
        named = _BOOK_TEXT.search(frame)
        if named and named[1] != b"book":
            return ()
        return (named[2].decode(errors="replace"),) if named and named[2] else None
    if fields.get("channel") != "book":
        return ()
    data = fields.get("data")
    items = data if isinstance(data, list) else []
    symbols = [item.get("symbol") if isinstance(item, dict) else None for item in items]
    known = [symbol for symbol in symbols if isinstance(symbol, str)]
    return known if known and len(known) == len(symbols) else None


def _items(message: _Message, channel: Channel, at: int, events: Events) -> _Found:
    if message.type not in ("snapshot", "update"):
        raise msgspec.ValidationError("neither a snapshot nor an update")
    decode = _DECODERS[channel]
    items, unreadable = decode_each(decode, decode, _decode_items(message.data))
    events.reasons.update((at, reason) for reason in unreadable.values())
    return [(at, message.type == "snapshot", item) for item in items if item is not None]


def _answer(message: _Message, answers: Answers) -> None:
    if message.channel:
        if message.channel == "status":
            answers.system += [status.system for status in _decode_statuses(message.data)]
        answers.ignored += 1
    elif message.method in ("subscribe", "unsubscribe") and message.success and not message.error:
        on = message.method == "subscribe"
        answers.acknowledged.append(Acknowledged(message.result.channel, message.result.symbol, on))
    elif message.method != "unsubscribe" and (message.error or not message.success):
        answers.refuse([message.symbol or message.result.symbol], message.error)
    elif message.method:
        answers.ignored += 1
    else:
        raise msgspec.ValidationError("neither data of a channel nor an answer")


def _add_books(events: Events, found: _Found) -> None:
    if not found:
        return
    messages = [
        BookMessage(
            at,
            events.symbols.code(book.symbol),
            SNAPSHOT if is_snapshot else CHANGE,
            [
                Level(side, bytes(level.price).decode("latin-1"), bytes(level.qty).decode("latin-1"))
                for side, levels in ((0, book.bids), (1, book.asks))
                for level in levels
            ],
        )
        for at, is_snapshot, book in found
    ]
    columns = book_columns(messages, iso_times([book.timestamp for _, _, book in found]))
    columns.checksum = np.array([unsigned(book.checksum) for _, _, book in found], np.int64)
    events.books.append(columns)


def _add_trades(events: Events, found: _Found) -> None:
    for parts, is_history in ((events.trades, False), (events.history, True)):
        kept = [(at, trade) for at, is_snapshot, trade in found if is_snapshot == is_history]
        if kept:
            trades = [trade for _, trade in kept]
            parts.append(
                TradeColumns(
                    at=np.array([at for at, _ in kept], np.intp),
                    code=events.symbols.codes(trade.symbol for trade in trades),
                    ts_event=iso_times([trade.timestamp for trade in trades]),
                    trade_id=np.array([trade.trade_id for trade in trades], np.int64),
                    side=np.array([_SIDES[trade.side] for trade in trades], np.uint8),
                    price=np.array([trade.price for trade in trades]),
                    size=np.array([trade.qty for trade in trades]),
                )
            )


def _add_quotes(events: Events, found: _Found) -> None:
    if not found:
        return
    at = np.array([at for at, _, _ in found], np.intp)
    tickers = [ticker for _, _, ticker in found]
    timeless = [not ticker.timestamp for ticker in tickers]
    events.quotes.append(
        QuoteColumns(
            at=at,
            code=events.symbols.codes(ticker.symbol for ticker in tickers),
            ts_event=np.where(timeless, events.ts_recv[at], iso_times([ticker.timestamp for ticker in tickers])),
            sequence=None,
            bid_price=np.array([ticker.bid for ticker in tickers], np.float64),
            bid_size=np.array([ticker.bid_qty for ticker in tickers], np.float64),
            ask_price=np.array([ticker.ask for ticker in tickers], np.float64),
            ask_size=np.array([ticker.ask_qty for ticker in tickers], np.float64),
            last_price=np.array([ticker.last for ticker in tickers], np.float64),
        )
    )
