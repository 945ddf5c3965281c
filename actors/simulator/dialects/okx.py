"""OKX v5 as it writes the market: pairs and perpetual contracts, over WebSocket and REST.

https://www.okx.com/docs-v5/en/. Nearly all numbers are texts without zeros at their end, times have milliseconds.
Since June 2026 the checksum of a book is always 0; each change names the one before it. A message of trades stands for
one fill (`count` 1), because the market's ids leave no room for more.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar, Final, Literal

import msgspec

from actors.simulator.dialect import Book, Change, Dialect, Kind, Listing, Mark, Quotes, Reply, Trades, View
from actors.simulator.dialects.decimals import fixed, whole
from actors.simulator.dialects.okx_instruments import (
    DERIVATIVES,
    contract_value,
    index_of,
    instrument,
    is_inverse,
    kind_of,
    stripped,
)
from actors.simulator.market import usual
from actors.simulator.session import Stream

_SYMBOL: Final = re.compile(r"([A-Z0-9]{1,20})-([A-Z0-9]{1,20})(-SWAP)?", re.ASCII)
_STREAMS: Final[dict[Kind, str]] = {
    "trades": "trades", "quotes": "tickers", "book": "books", "derivatives": "derivatives",
}  # fmt: skip
_SIDES: Final = ("buy", "sell")
_KINDS: Final = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
_LAST_ID: Final = 2**63 - 1
_NOT_FOUND: Final = Reply(b'{"code":"404","data":{},"detailMsg":"","error_code":"404","msg":"Not Found"}', 404)

_encode: Final = msgspec.json.encode
_Numbers = Callable[[int], str]


class _Refused(Exception):
    """What is wrong with a request, in the exchange's words: https://www.okx.com/docs-v5/en/#error-code-rest-api"""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.reply = Reply(_encode({"code": code, "data": [], "msg": text}), status)


class OkxDialect(Dialect):
    """See `Dialect`. What it says of a contract belongs to four channels: the session knows which by the frame."""

    exchange: ClassVar[str] = "okx"
    depth: ClassVar[int] = 400
    #: Recorded books have 400 levels for good when only what is told is applied.
    cuts: ClassVar[bool] = False
    path: ClassVar[str] = "/ws/v5/public"
    #: 20 requests in 2 seconds for most of it.
    weight_per_minute: ClassVar[int] = 600
    overrun: ClassVar[bytes] = b'{"code":"50011","data":[],"msg":"Too Many Requests"}'

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        """Sizes of contracts count contracts."""
        names = _SYMBOL.fullmatch(symbol)
        if not names:
            raise ValueError(
                f"{symbol[:50]!r} cannot be simulated for okx: expected a name like BTC-USDT or BTC-USDT-SWAP"
            )
        if not names[3]:
            return usual(symbol, names[1], names[2])
        listing = usual(symbol, names[1], names[2], "perpetual")
        value = contract_value(listing)
        if is_inverse(listing):
            return replace(listing, size=max(listing.size * listing.price / value, 1.0), size_decimals=0)
        return replace(listing, size=max(listing.size / value, 0.1), size_decimals=2)

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        """Of derivatives: `OkxSession` tells the four channels apart."""
        if kind == "derivatives" and self.listings[symbol].kind == "spot":
            return None
        return Stream(_STREAMS[kind], symbol)

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        head = f'{{"arg":{{"channel":"trades","instId":"{symbol}"}},"data":['
        return [f"{head}{trade}]}}".encode() for trade in self._trades(symbol, trades, '"count":"1",')]

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        return [_frame("tickers", symbol, ticker) for ticker in self._tickers(symbol, quotes)]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        bids, asks = change.levels
        numbers = f'"checksum":0,"seqId":{change.after.update_id},"prevSeqId":{change.before.update_id}'
        return [self._book("update", symbol, bids[::-1], asks, change.after.t_ns, numbers)]

    def derivatives(self, symbol: str, mark: Mark, quotes: Quotes) -> list[bytes]:
        return [self._derivative(channel, symbol, mark) for channel in DERIVATIVES]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        channel, symbol = stream
        if channel.startswith("index-tickers "):
            index = channel.partition(" ")[2]
            symbol = next((one for one in _contracts(view) if index_of(view.listings[one]) == index), "")
            channel = "index-tickers"
        if symbol not in view.listings:
            return []
        if channel == "books":
            book = view.book(symbol)
            numbers = f'"checksum":0,"seqId":{book.update_id},"prevSeqId":-1'
            return [self._book("snapshot", symbol, *book.levels(self.depth), book.t_ns, numbers)]
        if channel == "trades":
            # Its last trade, however old.
            return self.trades(symbol, view.newest(symbol, 1))
        if channel == "tickers":
            return self.quotes(symbol, view.quote(symbol))
        if channel in DERIVATIVES and view.listings[symbol].kind == "perpetual":
            return [self._derivative(channel, symbol, view.mark(symbol))]
        return []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        answer = _ANSWERS.get(path.removeprefix("/api/v5/"))
        if answer is None or not path.startswith("/api/v5/"):
            return _NOT_FOUND
        try:
            data = ",".join(answer(self, query, view))
        except _Refused as refused:
            return refused.reply
        return Reply(f'{{"code":"0","msg":"","data":[{data}]}}'.encode())

    def notice(self, kind: Literal["reconnect", "maintenance", "resumed"]) -> bytes | None:
        """https://www.okx.com/docs-v5/en/#overview-websocket-notification; maintenance is told nowhere but on a channel
        of its own."""
        if kind != "reconnect":
            return None
        text = "The connection will soon be closed for a service upgrade. Please reconnect."
        return _encode({"event": "notice", "code": "64008", "msg": text, "connId": "a4d3ae55"})

    def _texts(self, symbol: str) -> tuple[_Numbers, _Numbers]:
        listing = self.listings[symbol]
        price_decimals, size_decimals = listing.price_decimals, listing.size_decimals
        return lambda ticks: _number(ticks, price_decimals), lambda units: _number(units, size_decimals)

    def _trades(self, symbol: str, trades: Trades, count: str = "") -> list[str]:
        price, size = self._texts(symbol)
        columns = (trades.t_ns // 1_000_000, trades.ids, trades.prices, trades.sizes, trades.sides)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            f'{{"instId":"{symbol}","tradeId":"{trade_id}","px":"{price(ticks)}","sz":"{size(units)}",'
            f'"side":"{_SIDES[side]}","ts":"{ms}",{count}"source":"0","seqId":{trade_id}}}'
            for ms, trade_id, ticks, units, side in rows
        ]

    def _tickers(self, symbol: str, quotes: Quotes) -> list[str]:
        """A day's prices and volumes are the usual ones: nobody made that day."""
        listing = self.listings[symbol]
        price, size = self._texts(symbol)
        usual_price = price(round(listing.price * 10**listing.price_decimals))
        day = size(round(listing.size * 10**listing.size_decimals) * 50_000)
        statistics = (
            f'"open24h":"{usual_price}","high24h":"{usual_price}","low24h":"{usual_price}","sodUtc0":"{usual_price}",'
            f'"sodUtc8":"{usual_price}","volCcy24h":"{day}","vol24h":"{day}"'
        )
        columns = (
            quotes.t_ns // 1_000_000, quotes.bids, quotes.bid_sizes, quotes.asks, quotes.ask_sizes, quotes.last_prices,
            quotes.last_sizes,
        )  # fmt: skip
        return [
            f'{{"instType":"{kind_of(listing)}","instId":"{symbol}","last":"{price(last)}","lastSz":"{size(last_size)}",'
            f'"askPx":"{price(ask)}","askSz":"{size(ask_size)}","bidPx":"{price(bid)}","bidSz":"{size(bid_size)}",'
            f'{statistics},"ts":"{ms}"}}'
            for ms, bid, bid_size, ask, ask_size, last, last_size in zip(
                *(column.tolist() for column in columns), strict=True
            )
        ]

    def _book(
        self,
        action: str,
        symbol: str,
        bids: Sequence[tuple[int, int]],
        asks: Sequence[tuple[int, int]],
        t_ns: int,
        numbers: str,
    ) -> bytes:
        return (
            f'{{"arg":{{"channel":"books","instId":"{symbol}"}},"action":"{action}","data":[{{'
            f'{self._sides(symbol, bids, asks)},"ts":"{t_ns // 1_000_000}",{numbers}}}]}}'
        ).encode()

    def _sides(self, symbol: str, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> str:
        """Each level with a number without meaning and how many orders stand there."""
        price, size = self._texts(symbol)
        texts = (
            ",".join(
                f'["{price(ticks)}","{size(units)}","0","{1 + units % 7 if units else 0}"]' for ticks, units in side
            )
            for side in (asks, bids)
        )
        return '"asks":[{}],"bids":[{}]'.format(*texts)

    def _derivative(self, channel: str, symbol: str, mark: Mark) -> bytes:
        listing = self.listings[symbol]
        name = index_of(listing) if channel == "index-tickers" else symbol
        return _frame(channel, name, DERIVATIVES[channel](listing, mark))

    def _time(self, _query: Mapping[str, str], view: View) -> list[str]:
        return [f'{{"ts":"{view.now_ns // 1_000_000}"}}']

    def _status(self, _query: Mapping[str, str], _view: View) -> list[str]:
        return []

    def _instruments(self, query: Mapping[str, str], view: View) -> list[str]:
        return [instrument(listing) for listing in _of_kind(query, view)]

    def _market_ticker(self, query: Mapping[str, str], view: View) -> list[str]:
        symbol = _asked(query, view)
        return self._tickers(symbol, view.quote(symbol))

    def _market_tickers(self, query: Mapping[str, str], view: View) -> list[str]:
        return [text for one in _of_kind(query, view) for text in self._tickers(one.symbol, view.quote(one.symbol))]

    def _market_books(self, query: Mapping[str, str], view: View) -> list[str]:
        symbol = _asked(query, view)
        book: Book = view.book(symbol)
        sides = self._sides(symbol, *book.levels(_limit(query, "sz", 1, 400)))
        return [f'{{{sides},"ts":"{book.t_ns // 1_000_000}","seqId":{book.update_id}}}']

    def _market_trades(self, query: Mapping[str, str], view: View) -> list[str]:
        symbol = _asked(query, view)
        return self._trades(symbol, view.newest(symbol, _limit(query, "limit", 100, 500)))[::-1]

    def _history_trades(self, query: Mapping[str, str], view: View) -> list[str]:
        """Single fills, newest first; `type` 1 pages by id, 2 by time and only backwards. Both cursors are exclusive,
        with `before` alone come the newest.
        https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history"""
        symbol, limit = _asked(query, view), _limit(query, "limit", 100, 100)
        by_time = _choice(query, "type", {"1": False, "2": True})
        after, before = (_cursor(query, name) for name in ("after", "before"))
        if not by_time:
            first, last = -1 if before is None else before, _LAST_ID if after is None else after
            return self._trades(symbol, view.by_id(symbol, first + 1, last - 1, limit, newest=True))[::-1]
        if before is not None:
            raise _Refused("51000", "Parameter before error")
        to_ns = _LAST_ID if after is None else min(after * 1_000_000, _LAST_ID)
        return self._trades(symbol, view.by_time(symbol, 0, to_ns - 1, limit, newest=True))[::-1]

    def _public(self, channel: str, query: Mapping[str, str], view: View) -> list[str]:
        """What a channel of contracts says, over REST."""
        if channel == "index-tickers":
            wanted = [view.listings[one] for one in _contracts(view)]
            name = query.get("instId")
            wanted = [one for one in wanted if name in (None, index_of(one))]
            if not wanted:
                raise _no_instrument()
        elif channel == "funding-rate":
            wanted = [view.listings[_asked(query, view)]]
        else:
            wanted = _of_kind(query, view)
        contracts = [one for one in wanted if one.kind == "perpetual"]
        return [DERIVATIVES[channel](one, view.mark(one.symbol)) for one in contracts]


_ANSWERS: Final[dict[str, Callable[[OkxDialect, Mapping[str, str], View], Iterable[str]]]] = {
    "public/time": OkxDialect._time,
    "system/status": OkxDialect._status,
    "public/instruments": OkxDialect._instruments,
    "public/mark-price": lambda own, query, view: own._public("mark-price", query, view),
    "public/open-interest": lambda own, query, view: own._public("open-interest", query, view),
    "public/funding-rate": lambda own, query, view: own._public("funding-rate", query, view),
    "market/index-tickers": lambda own, query, view: own._public("index-tickers", query, view),
    "market/ticker": OkxDialect._market_ticker,
    "market/tickers": OkxDialect._market_tickers,
    "market/books": OkxDialect._market_books,
    "market/trades": OkxDialect._market_trades,
    "market/history-trades": OkxDialect._history_trades,
}


@lru_cache(1 << 16)
def _number(steps: int, decimals: int) -> str:
    return stripped(fixed(steps, decimals))


def _frame(channel: str, name: str, item: str) -> bytes:
    return f'{{"arg":{{"channel":"{channel}","instId":"{name}"}},"data":[{item}]}}'.encode()


def _contracts(view: View) -> list[str]:
    return [symbol for symbol, one in view.listings.items() if one.kind == "perpetual"]


def _of_kind(query: Mapping[str, str], view: View) -> list[Listing]:
    kind = query.get("instType", "")
    if not kind:
        raise _Refused("50014", "Parameter instType can not be empty.")
    if kind not in _KINDS:
        raise _Refused("51000", "Parameter instType error")
    wanted = [one for one in view.listings.values() if kind_of(one) == kind]
    if "instId" in query:
        wanted = [one for one in wanted if one.symbol == query["instId"]]
        if not wanted:
            raise _no_instrument()
    families = {query[name] for name in ("uly", "instFamily") if name in query}
    return [one for one in wanted if families <= {index_of(one)}]


def _asked(query: Mapping[str, str], view: View) -> str:
    symbol = query.get("instId", "")
    if not symbol:
        raise _Refused("50014", "Parameter instId can not be empty.")
    if symbol not in view.listings:
        raise _no_instrument()
    return symbol


def _no_instrument() -> _Refused:
    return _Refused("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.", 200)


def _limit(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    number = _cursor(query, name)
    if number is None:
        return default
    if not 1 <= number <= most:
        raise _Refused("51000", f"Parameter {name} error")
    return number


def _cursor(query: Mapping[str, str], name: str) -> int | None:
    try:
        return whole(query[name]) if query.get(name) else None
    except ValueError:
        raise _Refused("51000", f"Parameter {name} error") from None


def _choice[Value](query: Mapping[str, str], name: str, values: Mapping[str, Value]) -> Value:
    """The first is usual."""
    text = query.get(name) or next(iter(values))
    if text not in values:
        raise _Refused("51000", f"Parameter {name} error")
    return values[text]
