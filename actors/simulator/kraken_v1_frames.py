"""What a live market says in version 2 of Kraken's protocol, as version 1 says it.

https://docs.kraken.com/api/docs/websocket-v1/book and its neighbours. Trades lose their ids, numbers become texts.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from actors.simulator.kraken_books import CutBook, Level, Sides
from actors.simulator.session import Stream

_NO_SIZE: Final = "0.00000000"


class _Book(msgspec.Struct, gc=False):
    bids: list[Level]
    asks: list[Level]
    checksum: int


class _Trade(msgspec.Struct, gc=False):
    side: str
    price: msgspec.Raw
    qty: msgspec.Raw


class _Ticker(msgspec.Struct, gc=False):
    bid: msgspec.Raw
    bid_qty: msgspec.Raw
    ask: msgspec.Raw
    ask_qty: msgspec.Raw
    last: msgspec.Raw
    volume: msgspec.Raw
    vwap: msgspec.Raw
    low: msgspec.Raw
    high: msgspec.Raw


class _Status(msgspec.Struct, gc=False):
    system: str


class _Frame(msgspec.Struct, gc=False):
    channel: str
    type: str
    data: msgspec.Raw


_frames: Final = msgspec.json.Decoder(_Frame)
_books: Final = msgspec.json.Decoder(list[_Book])
_trades: Final = msgspec.json.Decoder(list[_Trade])
_tickers: Final = msgspec.json.Decoder(list[_Ticker])
_statuses: Final = msgspec.json.Decoder(list[_Status])
_encode: Final = msgspec.json.encode


class FirstFrames:
    """Of one connection."""

    def __init__(self) -> None:
        self._books: dict[Stream, CutBook] = {}
        self._last_sizes: dict[str, str] = {}

    def of(self, frame: bytes, stream: Stream, number: int, t_ns: int) -> bytes:
        """The frame of a stream (as version 1 calls it, book-100) whose channel has this number."""
        content = _frames.decode(frame)
        time = f"{t_ns // 10**9}.{t_ns // 1000 % 10**6:06}"
        parts: list[Any]
        if content.channel == "book":
            parts = self._book(content, stream, time)
        elif content.channel == "trade":
            trades = _trades.decode(content.data)
            self._last_sizes[stream.symbol] = _text(trades[-1].qty)
            parts = [[[_text(one.price), _text(one.qty), time, one.side[0], "m", ""] for one in trades]]
        else:
            (ticker,) = _tickers.decode(content.data)
            parts = [self._ticker(ticker, stream.symbol)]
        return _encode([number, *parts, stream.channel, stream.symbol])

    def _book(self, content: _Frame, stream: Stream, time: str) -> list[Any]:
        (book,) = _books.decode(content.data)
        sides = Sides(book.bids, book.asks)
        if content.type == "snapshot":
            self._books[stream] = CutBook(int(stream.channel.partition("-")[2]), sides)
            bids, asks = self._books[stream].seen()
            return [{"as": _levels(asks, time), "bs": _levels(bids, time)}]
        bids, asks = self._books[stream].change(sides)
        checksum = {"c": str(book.checksum)}
        if not asks:
            return [{"b": _levels(bids, time)} | checksum]
        if not bids:
            return [{"a": _levels(asks, time)} | checksum]
        return [{"a": _levels(asks, time)}, {"b": _levels(bids, time)} | checksum]

    def _ticker(self, one: _Ticker, symbol: str) -> dict[str, Any]:
        def twice(number: msgspec.Raw) -> list[str]:
            return [_text(number)] * 2

        return {
            "a": [_text(one.ask), int(float(_text(one.ask_qty))), _text(one.ask_qty)],
            "b": [_text(one.bid), int(float(_text(one.bid_qty))), _text(one.bid_qty)],
            "c": [_text(one.last), self._last_sizes.get(symbol, _NO_SIZE)],
            "v": twice(one.volume),
            "p": twice(one.vwap),
            "t": [1, 1],
            "l": twice(one.low),
            "h": twice(one.high),
            "o": twice(one.vwap),
        }


def status_of(frame: bytes) -> bytes:
    """How the trading engine is; what says nothing of that stays as it is."""
    try:
        (one,) = _statuses.decode(_frames.decode(frame).data)
    except (msgspec.DecodeError, ValueError):
        return frame
    return _encode({"connectionID": 1, "event": "systemStatus", "status": one.system, "version": "1.8.3"})


def _levels(levels: Sequence[Level], time: str) -> list[list[str]]:
    return [[_text(level.price), _text(level.qty), time] for level in levels]


def _text(number: msgspec.Raw) -> str:
    return bytes(number).decode()
