"""Coinbase Exchange: matches are trades, tickers are quotes.

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels describes the channels. Not to be confused with
Coinbase Advanced Trade, whose messages have another shape.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.feeds.feed import Decoded
from actors.feeds.frames import decode_each, positions_by_type, rejected_frames, without_blanks
from actors.feeds.layouts import KnownLayouts, Layout
from actors.feeds.rows import (
    ASK_PRICE,
    ASK_SIZE,
    BID_PRICE,
    BID_SIZE,
    HISTORY,
    LAST_PRICE,
    LAST_SIZE,
    MAKER,
    NOTHING,
    PRICE,
    QUOTE,
    SIZE,
    TAKER,
    TRADE,
    UNKNOWN_SYMBOL,
    Rows,
    Times,
    iso_times,
)
from storage.schema import BUY, SELL, UNKNOWN_SIDE

_LAYOUTS = [
    Layout(
        TRADE,
        '{"type":"match","trade_id":<number>,"maker_order_id":"<maker>","taker_order_id":"<taker>",'
        '"side":"<maker_side>","size":"<size>","price":"<price>","product_id":"<symbol>","sequence":<integer>,'
        '"time":"<iso_time>"}',
    ),
    # The sizes were added in 2022.
    Layout(
        QUOTE,
        '{"type":"ticker","sequence":<number>,"product_id":"<symbol>","price":"<last_price>","open_24h":"<text>",'
        '"volume_24h":"<text>","low_24h":"<text>","high_24h":"<text>","volume_30d":"<text>",'
        '"best_bid":"<bid_price>",[["best_bid_size":"<bid_size>",]]"best_ask":"<ask_price>",'
        '[["best_ask_size":"<ask_size>",]]"side":"<taker_side>","time":"<iso_time>","trade_id":<integer>,'
        '"last_size":"<last_size>"}',
    ),
]

_Integer = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

# A ticker names the taker's side. A match names the maker's: one trade has opposite sides in the two.
_TICKER_SIDES = {"buy": BUY, "sell": SELL, "": UNKNOWN_SIDE}


class _Event(msgspec.Struct, gc=False, tag_field="type"):
    pass


class _Match(_Event, gc=False, kw_only=True, tag="match"):
    trade_id: _Integer
    maker_order_id: str = ""
    taker_order_id: str = ""
    side: Literal["buy", "sell"]
    size: float
    price: float
    product_id: str
    time: str


class _LastMatch(_Match, gc=False, kw_only=True, tag="last_match"):
    """The newest trade from before the subscription."""


class _Ticker(_Event, gc=False, kw_only=True, tag="ticker"):
    sequence: _Integer
    product_id: str
    price: float = math.nan
    best_bid: float = math.nan
    best_bid_size: float = math.nan
    best_ask: float = math.nan
    best_ask_size: float = math.nan
    side: Literal["buy", "sell", ""] = ""
    time: str
    last_size: float = math.nan


class _Channel(msgspec.Struct, gc=False):
    name: str
    product_ids: list[str] = []


class _Subscriptions(_Event, gc=False, kw_only=True, tag="subscriptions"):
    channels: list[_Channel]


class _Error(_Event, gc=False, kw_only=True, tag="error"):
    message: str
    reason: str = ""


class _Heartbeat(_Event, gc=False, tag="heartbeat"):
    pass


class _BookChange(_Event, gc=False, tag="l2update"):
    pass


class _BookSnapshot(_Event, gc=False, tag="snapshot"):
    pass


class _Other(msgspec.Struct, gc=False):
    """A message of a type we do not know."""

    type: str


_Known = _Match | _LastMatch | _Ticker | _Subscriptions | _Error | _Heartbeat | _BookChange | _BookSnapshot
_decode = msgspec.json.Decoder(_Known, strict=False).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_IGNORED = (_Subscriptions, _Heartbeat, _BookChange, _BookSnapshot, _Other)
_TYPES = [kind.__struct_config__.tag for kind in get_args(_Known)]


def _look_again(frame: bytes) -> Any:
    fields = without_blanks(_decode_fields(frame))
    if fields.get("type") not in _TYPES:
        return msgspec.convert(fields, _Other)
    return msgspec.convert(fields, _Known, strict=False)


class Coinbase:
    """Trades from `match`, quotes from `ticker`, history from `last_match`.

    Every frame has one outcome: a row, a text in `errors`, a place in `rejected`, or it counts as ignored.
    """

    exchange: ClassVar[str] = "coinbase"
    hosts: ClassVar[frozenset[str]] = frozenset(
        {
            "ws-feed.exchange.coinbase.com",
            "ws-feed.pro.coinbase.com",
            "api.exchange.coinbase.com",
            "api.pro.coinbase.com",
        }
    )

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = pa.array(symbols, pa.string())
        self._codes = {symbol: code for code, symbol in enumerate(symbols)}
        self._layouts = KnownLayouts(_LAYOUTS, symbols)

    def url(self, endpoint: str) -> str:
        """The feed has one address for everything."""
        return endpoint

    def subscribe(self) -> list[str]:
        """One message for all symbols; the exchange closes connections that stay silent for 5 s."""
        message = {
            "type": "subscribe",
            "product_ids": list(self._codes),
            "channels": ["matches", "ticker", "heartbeat"],
        }
        return [msgspec.json.encode(message).decode()]

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        """See `Feed.decode`."""
        rows = self._layouts.read(frames)
        others = np.flatnonzero(rows.kind == NOTHING)
        decoded, refused = decode_each(_decode, _look_again, [frames[at] for at in others.tolist()])
        reasons = {int(others[number]): reason for number, reason in refused.items()}
        events: list[Any] = decoded
        numbers = positions_by_type(events)

        def of(kind: type) -> tuple[list[Any], npt.NDArray[np.intp]]:
            found = numbers.get(kind, [])
            return [events[number] for number in found], others[found]

        self._add_matches(rows, TRADE, *of(_Match))
        self._add_matches(rows, HISTORY, *of(_LastMatch))
        self._add_tickers(rows, *of(_Ticker))
        answers, _ = of(_Subscriptions)
        refusals, _ = of(_Error)
        return Decoded(
            trades=rows.trades(TRADE, ts_recv, self._symbols, reasons),
            quotes=rows.quotes(ts_recv, self._symbols, reasons),
            history=rows.trades(HISTORY, ts_recv, self._symbols, reasons),
            subscribed=frozenset().union(*map(self._confirmed, answers)),
            errors=tuple(": ".join(filter(None, (error.message, error.reason))) for error in refusals),
            rejected=rejected_frames(frames, reasons),
            ignored=sum(len(numbers.get(kind, ())) for kind in _IGNORED),
        )

    def _confirmed(self, answer: _Subscriptions) -> set[str]:
        """Our symbols that are on both channels we store; each answer repeats all that is subscribed so far."""
        channels = {channel.name: channel.product_ids for channel in answer.channels}
        return self._codes.keys() & channels.get("matches", []) & set(channels.get("ticker", []))

    def _add_matches(self, rows: Rows, kind: int, matches: list[_Match], at: npt.NDArray[np.intp]) -> None:
        if not matches:
            return
        rows.kind[at] = kind
        rows.code[at] = [self._codes.get(match.product_id, UNKNOWN_SYMBOL) for match in matches]
        rows.ts_event[at] = iso_times([match.time for match in matches])
        rows.number[at] = [match.trade_id for match in matches]
        rows.side[at] = [SELL if match.side == "buy" else BUY for match in matches]
        rows.values[PRICE, at] = [match.price for match in matches]
        rows.values[SIZE, at] = [match.size for match in matches]
        rows.add_order_ids(MAKER, at, [match.maker_order_id for match in matches])
        rows.add_order_ids(TAKER, at, [match.taker_order_id for match in matches])

    def _add_tickers(self, rows: Rows, tickers: list[_Ticker], at: npt.NDArray[np.intp]) -> None:
        if not tickers:
            return
        rows.kind[at] = QUOTE
        rows.code[at] = [self._codes.get(ticker.product_id, UNKNOWN_SYMBOL) for ticker in tickers]
        rows.ts_event[at] = iso_times([ticker.time for ticker in tickers])
        rows.number[at] = [ticker.sequence for ticker in tickers]
        rows.side[at] = [_TICKER_SIDES[ticker.side] for ticker in tickers]
        rows.values[BID_PRICE, at] = [ticker.best_bid for ticker in tickers]
        rows.values[BID_SIZE, at] = [ticker.best_bid_size for ticker in tickers]
        rows.values[ASK_PRICE, at] = [ticker.best_ask for ticker in tickers]
        rows.values[ASK_SIZE, at] = [ticker.best_ask_size for ticker in tickers]
        rows.values[LAST_PRICE, at] = [ticker.price for ticker in tickers]
        rows.values[LAST_SIZE, at] = [ticker.last_size for ticker in tickers]
