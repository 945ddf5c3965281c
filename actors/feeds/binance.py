"""Binance spot: aggTrade (or trade) streams are trades, bookTicker streams are quotes.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams describes the streams. The combined
address wraps every payload as {"stream": NAME, "data": {...}}; the name says what the payload is, since a
bookTicker does not say so itself.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from actors.feeds.feed import Decoded
from actors.feeds.frames import decode_each, rejected_frames, without_blanks
from actors.feeds.layouts import KnownLayouts, Layout
from actors.feeds.rows import (
    ASK_PRICE,
    ASK_SIZE,
    BID_PRICE,
    BID_SIZE,
    HISTORY,
    NOT_SUBSCRIBED,
    NOTHING,
    PRICE,
    QUOTE,
    SIZE,
    TRADE,
    Rows,
    Times,
    times,
)
from storage.schema import BUY, SELL, UNKNOWN_SIDE

_LAYOUTS = [
    Layout(
        TRADE,
        '{"stream":"<symbol>@aggTrade","data":{"e":"aggTrade","E":<integer>,"s":"<text>","a":<number>,"p":"<price>",'
        '"q":"<size>","f":<integer>,"l":<integer>,"T":<milliseconds>,"m":<buyer_is_maker>,"M":<flag>}}',
    ),
    Layout(
        QUOTE,
        '{"stream":"<symbol>@bookTicker","data":{"u":<number>,"s":"<text>","b":"<bid_price>","B":"<bid_size>",'
        '"a":"<ask_price>","A":"<ask_size>"}}',
    ),
]

_Integer = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Envelope(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class _Trade(msgspec.Struct, gc=False, kw_only=True, tag_field="e"):
    """`m` says that the buyer is the maker, so the taker sold."""

    p: float
    q: float
    T: _Integer
    m: bool


class _AggregateTrade(_Trade, gc=False, kw_only=True, tag="aggTrade"):
    trade_id: _Integer = msgspec.field(name="a")


class _SingleTrade(_Trade, gc=False, kw_only=True, tag="trade"):
    trade_id: _Integer = msgspec.field(name="t")


class _Quote(msgspec.Struct, gc=False):
    u: _Integer
    b: float = math.nan
    B: float = math.nan
    a: float = math.nan
    A: float = math.nan


class _Refusal(msgspec.Struct, gc=False):
    code: int
    msg: str


class _Answer(msgspec.Struct, gc=False):
    """What comes without a stream: the answer to a request (`result` is null where granted), or a notice."""

    stream: ClassVar[str] = ""
    result: Any = msgspec.UNSET
    error: _Refusal | msgspec.UnsetType = msgspec.UNSET
    code: int | msgspec.UnsetType = msgspec.UNSET
    msg: str = ""
    e: str | msgspec.UnsetType = msgspec.UNSET

    def refusal(self) -> list[str]:
        """What the exchange refused, in its words; one text or none."""
        if self.error is not msgspec.UNSET:
            return [f"{self.error.msg} (code {self.error.code})"]
        return [] if self.code is msgspec.UNSET else [f"{self.msg} (code {self.code})"]


_decode_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_trade = msgspec.json.Decoder(_AggregateTrade | _SingleTrade, strict=False).decode
_decode_quote = msgspec.json.Decoder(_Quote, strict=False).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode

# Position of a frame, code of its symbol, its payload.
_Found = tuple[int, int, msgspec.Raw]

_QUOTE_CHANNEL = "bookTicker"
_CHANNELS = ("aggTrade", "trade", _QUOTE_CHANNEL)


def _look_for_answer(frame: bytes) -> _Answer:
    answer = _decode_answer(frame)
    if answer == _Answer(msg=answer.msg):
        raise msgspec.ValidationError("neither a stream nor an answer to a request")
    return answer


def _look_past_blanks(payload: msgspec.Raw) -> _Quote:
    return msgspec.convert(without_blanks(_decode_fields(payload)), _Quote, strict=False)


class Binance:
    """Trades from `aggTrade` (or `trade`), quotes from `bookTicker`, no history.

    Every frame has one outcome: a row, a text in `errors`, a place in `rejected`, or it counts as ignored.
    """

    exchange: ClassVar[str] = "binance"
    hosts: ClassVar[frozenset[str]] = frozenset(
        {"stream.binance.com", "data-stream.binance.vision", "api.binance.com", "data-api.binance.vision"}
    )

    def __init__(self, symbols: Sequence[str]) -> None:
        self._names = tuple(symbols)
        self._symbols = pa.array(symbols, pa.string())
        lower = [symbol.lower() for symbol in symbols]
        self._layouts = KnownLayouts(_LAYOUTS, lower)
        self._streams = {
            f"{name}@{channel}": (channel, code) for code, name in enumerate(lower) for channel in _CHANNELS
        }

    def url(self, endpoint: str) -> str:
        """The combined stream of all symbols; the exchange allows 1,024 streams, so 512 symbols."""
        streams = [f"{name.lower()}@aggTrade/{name.lower()}@{_QUOTE_CHANNEL}" for name in self._names]
        return f"{endpoint}/stream?streams={'/'.join(streams)}"

    def subscribe(self) -> list[str]:
        """Nothing: the address subscribes, and the exchange does not confirm it."""
        return []

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        """See `Feed.decode`. `subscribed` is all symbols when a request was granted, else empty."""
        rows = self._layouts.read(frames)
        others = np.flatnonzero(rows.kind == NOTHING).tolist()
        envelopes, refused = decode_each(_decode_envelope, _look_for_answer, [frames[at] for at in others])
        reasons = {others[number]: reason for number, reason in refused.items()}

        trades: list[_Found] = []
        quotes: list[_Found] = []
        refusals: list[str] = []
        granted = False
        ignored = 0
        for at, envelope in zip(others, envelopes, strict=True):
            if isinstance(envelope, _Envelope):
                channel, code = self._streams.get(envelope.stream) or (envelope.stream.partition("@")[2], None)
                if channel not in _CHANNELS:
                    ignored += 1
                elif code is None:
                    reasons[at] = NOT_SUBSCRIBED
                else:
                    (quotes if channel == _QUOTE_CHANNEL else trades).append((at, code, envelope.data))
            elif envelope is not None:
                granted |= envelope.result is None
                refusals += envelope.refusal()
                ignored += not envelope.refusal()
        _add_trades(rows, trades, reasons)
        _add_quotes(rows, quotes, reasons)
        # A bookTicker has no time of its own.
        np.copyto(rows.ts_event, ts_recv, where=rows.kind == QUOTE)

        return Decoded(
            trades=rows.trades(TRADE, ts_recv, self._symbols, reasons),
            quotes=rows.quotes(ts_recv, self._symbols, reasons),
            history=rows.trades(HISTORY, ts_recv, self._symbols, reasons),
            subscribed=frozenset(self._names if granted else ()),
            errors=tuple(refusals),
            rejected=rejected_frames(frames, reasons),
            ignored=ignored,
        )


def _add_trades(rows: Rows, found: list[_Found], reasons: dict[int, str]) -> None:
    at, codes, trades = _payloads(_decode_trade, _decode_trade, found, reasons)
    if not trades:
        return
    rows.kind[at] = TRADE
    rows.code[at] = codes
    rows.ts_event[at] = times(np.array([trade.T for trade in trades], np.int64), 1000)
    rows.number[at] = [trade.trade_id for trade in trades]
    rows.side[at] = [SELL if trade.m else BUY for trade in trades]
    rows.values[PRICE, at] = [trade.p for trade in trades]
    rows.values[SIZE, at] = [trade.q for trade in trades]


def _add_quotes(rows: Rows, found: list[_Found], reasons: dict[int, str]) -> None:
    at, codes, quotes = _payloads(_decode_quote, _look_past_blanks, found, reasons)
    if not quotes:
        return
    rows.kind[at] = QUOTE
    rows.code[at] = codes
    rows.number[at] = [quote.u for quote in quotes]
    rows.side[at] = UNKNOWN_SIDE
    rows.values[:, at] = np.nan
    rows.values[BID_PRICE, at] = [quote.b for quote in quotes]
    rows.values[BID_SIZE, at] = [quote.B for quote in quotes]
    rows.values[ASK_PRICE, at] = [quote.a for quote in quotes]
    rows.values[ASK_SIZE, at] = [quote.A for quote in quotes]


def _payloads[Payload](
    decode: Callable[[msgspec.Raw], Payload],
    look_again: Callable[[msgspec.Raw], Payload],
    found: list[_Found],
    reasons: dict[int, str],
) -> tuple[list[int], list[int], list[Payload]]:
    """Positions, symbol codes and payloads of those that decode; `reasons` gets those that do not."""
    payloads, refused = decode_each(decode, look_again, [raw for _, _, raw in found])
    reasons.update((found[number][0], reason) for number, reason in refused.items())
    kept = [(at, code, payload) for (at, code, _), payload in zip(found, payloads, strict=True) if payload is not None]
    return [at for at, _, _ in kept], [code for _, code, _ in kept], [payload for _, _, payload in kept]
