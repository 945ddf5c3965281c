"""Version 1 of Kraken's protocol, frozen: recordings speak it.

https://docs.kraken.com/api/docs/websocket-v1/book and its neighbours describe it. Data comes as arrays that end in the
channel's name and the symbol (XBT/USD), all numbers as text. Trades have no ids, books no numbers but a checksum
after each change.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
import numpy as np

from actors.feeds.book_rows import BookMessage, Level, book_columns
from actors.feeds.columns import NO_TIME, QuoteColumns, TradeColumns
from actors.feeds.events import Events
from actors.feeds.feed import Channel
from actors.feeds.frames import decode_each
from actors.feeds.kraken.answers import CHANNELS, DEPTH, Acknowledged, Answers, Checksum, unsigned
from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, IGNORED, QUOTE, Layout
from actors.feeds.texts import numbers, second_times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

PING: Final = b'{"event":"ping"}'

_LEVEL: Final = '["<level_price>","<level_size>","<seconds_time>"[[,"r"]]]'
_END: Final = f'"book-{DEPTH}","<symbol>"]'
LAYOUTS: Final[dict[Channel, tuple[Layout, ...]]] = {
    "book": (
        Layout(BOOK, f'[<any>,{{"b":[((bid:{_LEVEL}))],"c":"<checksum>"}},{_END}'),
        Layout(BOOK, f'[<any>,{{"a":[((ask:{_LEVEL}))],"c":"<checksum>"}},{_END}'),
        Layout(BOOK, f'[<any>,{{"a":[((ask:{_LEVEL}))]}},{{"b":[((bid:{_LEVEL}))],"c":"<checksum>"}},{_END}'),
        Layout(BOOK_SNAPSHOT, f'[<any>,{{"as":[((ask:{_LEVEL}))],"bs":[((bid:{_LEVEL}))]}},{_END}'),
    ),
    "quotes": (
        Layout(
            QUOTE,
            '[<any>,{"a":["<ask_price>",<any>,"<ask_size>"],"b":["<bid_price>",<any>,"<bid_size>"],'
            '"c":["<last_price>","<last_size>"],"v":[<any>,<any>],"p":[<any>,<any>],"t":[<any>,<any>],'
            '"l":[<any>,<any>],"h":[<any>,<any>],"o":[<any>,<any>]},"ticker","<symbol>"]',
        ),
    ),
}
HEARTBEAT: Final = Layout(IGNORED, '{"event":"heartbeat"}')


class _Level(msgspec.Struct, array_like=True, gc=False):
    """["354.15000000","5.00000000","1618678133.365913"], and "r" at the end where it is sent once more because it has
    come into the depth subscribed."""

    price: str
    volume: str
    time: str


_Levels = list[_Level]


class _Book(msgspec.Struct, gc=False, rename={"asks": "as", "bids": "bs"}):
    """[992,{"b":[["354.15000000","5.00000000","1618678133.365913"]],"c":"2583817756"},"book-1000","XMR/USD"]

    [1920,{"a":[["0.042990","364630.28272081","1618678145.920470"]]},
    {"b":[["0.042990","0.00000000","1618678145.920708"]],"c":"4105471083"},"book-1000","SC/EUR"]

    [992,{"as":[["354.55000000","0.27490000","1618678133.184190"]],"bs":[]},"book-1000","XMR/USD"] is a snapshot.
    """

    asks: _Levels | None = None
    bids: _Levels | None = None
    a: _Levels = []
    b: _Levels = []
    c: Checksum | None = None


class _Trade(msgspec.Struct, array_like=True, gc=False):
    """[993,[["354.11000000","0.89594024","1618678142.557535","s","l",""]],"trade","XMR/USD"]"""

    price: str
    volume: str
    time: str
    side: Literal["b", "s"]
    order_type: str = ""
    misc: str = ""


class _Best(msgspec.Struct, array_like=True, gc=False):
    price: str | None
    whole_lots: Any
    size: str | None


class _Last(msgspec.Struct, frozen=True, array_like=True, gc=False):
    price: str | None = None
    size: str | None = None


class _Ticker(msgspec.Struct, gc=False):
    """[1668,{"a":["13.253900",35,"35.72892241"],"b":["13.232900",185,"185.18432037"],"c":["13.253900","3.71672000"],
    "v":["26560.85364463","72035.05488104"],"p":["13.529003","13.734728"],"t":[640,1353],
    "l":["13.021800","13.021800"],"h":["13.942000","14.211200"],"o":["13.804000","13.428300"]},"ticker","WAVES/EUR"]"""

    a: _Best
    b: _Best
    c: _Last = _Last()


class _Subscription(msgspec.Struct, frozen=True, gc=False):
    name: str = ""


class _Event(msgspec.Struct, gc=False):
    """{"channelID":1664,"channelName":"book-1000","event":"subscriptionStatus","pair":"WAVES/EUR","status":"subscribed",
    "subscription":{"depth":1000,"name":"book"}}

    {"errorMessage":"Subscription depth not supported","event":"subscriptionStatus","pair":"XBT/USD","status":"error",
    "subscription":{"depth":42,"name":"book"}} (https://docs.kraken.com/api/docs/websocket-v1/subscriptionstatus)

    {"connectionID":17843232920108168701,"event":"systemStatus","status":"online","version":"1.8.3"}
    """

    event: str
    status: str = ""
    pair: str = ""
    subscription: _Subscription = _Subscription()
    error: str = msgspec.field(name="errorMessage", default="")


_decode_frame = msgspec.json.Decoder(list[msgspec.Raw] | _Event).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_book = msgspec.json.Decoder(_Book, strict=False).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode

#: How frames of a channel end, the symbol last.
_TEXTS: Final = {name: re.compile(rb'"%b(?:-\d+)?"\s*,\s*"([^"]{1,50})"' % name.encode()) for name in CHANNELS}
_SIDES: Final = {"b": BUY, "s": SELL}


def request(method: Literal["subscribe", "unsubscribe"], channel: str, symbols: Sequence[str]) -> bytes:
    subscription = {"name": channel, "depth": DEPTH} if channel == "book" else {"name": channel}
    return msgspec.json.encode({"event": method, "pair": symbols, "subscription": subscription})


def read(frames: Sequence[bytes], at: Sequence[int], events: Events, channels: Collection[Channel]) -> Answers:
    """Add what these frames, which stand at these positions, say to `events`."""
    answers = Answers()
    books: list[tuple[BookMessage, list[str], int]] = []
    tickers: list[tuple[int, int, _Ticker]] = []
    trades: list[tuple[int, int, list[_Trade]]] = []
    messages, unreadable = decode_each(_decode_frame, _decode_frame, frames)
    events.reasons.update((at[number], reason) for number, reason in unreadable.items())
    for position, message in zip(at, messages, strict=True):
        if isinstance(message, _Event):
            _answer(message, answers)
        elif message is not None:
            try:
                name, symbol = _whose(message)
                channel = CHANNELS.get(name)
                code = events.symbols.code(symbol)
                if channel not in channels:
                    answers.ignored += 1
                elif channel == "book":
                    books.append(_book(position, code, [_decode_book(part) for part in message[1:-2]]))
                elif channel == "quotes":
                    tickers.append((position, code, _decode_ticker(message[1])))
                else:
                    trades.append((position, code, _decode_trades(message[1])))
                    answers.ignored += not trades[-1][2]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                events.reasons[position] = str(error)
    _add_books(events, books)
    _add_quotes(events, tickers)
    _add_trades(events, trades)
    return answers


def books_of(frame: bytes) -> Sequence[str] | None:
    """The symbols whose books an unreadable frame may have been for; None: any."""
    return _symbols_of(frame, "book")


def trades_of(frame: bytes) -> Sequence[str] | None:
    """As `books_of`, of trades."""
    return _symbols_of(frame, "trade")


def _symbols_of(frame: bytes, channel: str) -> Sequence[str] | None:
    try:
        message = _decode_frame(frame)
        if isinstance(message, _Event):
            return ()
        name, symbol = _whose(message)
    except (ValueError, RecursionError):
        # Its text may still tell.
        named = _TEXTS[channel].search(frame)
        if named:
            return (named[1].decode(errors="replace"),)
        others = any(text.search(frame) for text in _TEXTS.values())
        return () if others or frame.startswith(b'{"') else None
    return (symbol,) if name == channel else ()


def _whose(message: list[msgspec.Raw]) -> tuple[str, str]:
    """The channel, without what it was subscribed with, and the symbol."""
    if len(message) < 4:
        raise msgspec.ValidationError("neither an event nor data of a channel")
    return _decode_text(message[-2]).partition("-")[0], _decode_text(message[-1])


def _answer(event: _Event, answers: Answers) -> None:
    if event.event == "subscriptionStatus" and event.status in ("subscribed", "unsubscribed"):
        on = event.status == "subscribed"
        answers.acknowledged.append(Acknowledged(event.subscription.name, event.pair, on))
    elif event.event == "error" or event.status == "error":
        answers.refuse([event.pair], event.error)
    else:
        if event.event == "systemStatus":
            answers.system.append(event.status)
        answers.ignored += 1


def _book(at: int, code: int, parts: Sequence[_Book]) -> tuple[BookMessage, list[str], int]:
    """The message, the times of its levels, and its checksum, which the last part has."""
    levels: list[Level] = []
    times: list[str] = []
    for part in parts:
        for side, rows in ((1, part.asks), (0, part.bids), (1, part.a), (0, part.b)):
            for row in rows or ():
                levels.append(Level(side, row.price, row.volume))
                times.append(row.time)
    kind = SNAPSHOT if any(part.asks is not None or part.bids is not None for part in parts) else CHANGE
    return BookMessage(at, code, kind, levels), times, unsigned(parts[-1].c)


def _add_books(events: Events, books: Sequence[tuple[BookMessage, list[str], int]]) -> None:
    if books:
        # A message has no time but those of its levels.
        latest = [max(second_times(times).tolist(), default=NO_TIME) for _, times, _ in books]
        columns = book_columns([message for message, _, _ in books], np.array(latest, np.int64))
        columns.checksum = np.array([checksum for _, _, checksum in books], np.int64)
        events.books.append(columns)


def _add_quotes(events: Events, found: Sequence[tuple[int, int, _Ticker]]) -> None:
    if not found:
        return
    tickers = [ticker for _, _, ticker in found]
    events.quotes.append(
        QuoteColumns(
            at=np.array([at for at, _, _ in found], np.intp),
            code=np.array([code for _, code, _ in found], np.int32),
            ts_event=None,
            sequence=None,
            bid_price=numbers([ticker.b.price or "" for ticker in tickers])[0],
            bid_size=numbers([ticker.b.size or "" for ticker in tickers])[0],
            ask_price=numbers([ticker.a.price or "" for ticker in tickers])[0],
            ask_size=numbers([ticker.a.size or "" for ticker in tickers])[0],
            last_price=numbers([ticker.c.price or "" for ticker in tickers])[0],
            last_size=numbers([ticker.c.size or "" for ticker in tickers])[0],
        )
    )


def _add_trades(events: Events, found: Sequence[tuple[int, int, list[_Trade]]]) -> None:
    trades = [trade for _, _, of_frame in found for trade in of_frame]
    if not trades:
        return
    counts = [len(of_frame) for _, _, of_frame in found]
    events.trades.append(
        TradeColumns(
            at=np.repeat(np.array([at for at, _, _ in found], np.intp), counts),
            code=np.repeat(np.array([code for _, code, _ in found], np.int32), counts),
            ts_event=second_times([trade.time for trade in trades]),
            trade_id=np.array([number for _, _, of_frame in found for number in _trade_ids(of_frame)], np.int64),
            side=np.array([_SIDES[trade.side] for trade in trades], np.uint8),
            price=numbers([trade.price for trade in trades])[0],
            size=numbers([trade.volume for trade in trades])[0],
        )
    )


def _trade_ids(trades: Sequence[_Trade]) -> list[int]:
    """63 bits of the trade's text and of how many equal ones stand before it in its message: the same trade has the
    same id whenever it comes."""
    ids = []
    before: Counter[str] = Counter()
    for trade in trades:
        text = "\n".join((trade.price, trade.volume, trade.time, trade.side, trade.order_type, trade.misc))
        digest = blake2b(f"{text}\n{before[text]}".encode(), digest_size=8).digest()
        ids.append(int.from_bytes(digest) >> 1)
        before[text] += 1
    return ids
