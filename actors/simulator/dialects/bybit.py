"""Bybit v5 as it writes a made-up market: topics of two categories, and its market data over HTTP.

https://bybit-exchange.github.io/docs/v5. A symbol has its category before its name (spot:BTCUSDT, linear:BTCUSDT).
Trades of spot are numbered, those of contracts have UUIDs, whose first 63 bits count here. Everything is a text but
times and numbers of messages. What is asked for wrongly has the HTTP status 200 and a `retCode`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.dialect import Book, Change, Dialect, Kind, Listing, Mark, Quotes, Reply, Trades, View
from actors.simulator.dialects.decimals import fixed, whole
from actors.simulator.market import usual
from actors.simulator.session import Stream

_CATEGORIES: Final = ("spot", "linear", "inverse", "option")
#: Base and what it trades in; contracts named ...PERP are settled in USDC.
_SYMBOL: Final = re.compile(
    r"(spot|linear):(?=.{2,24}$)(?:([A-Z0-9]+?)(USDT|USDC|USDE|USD1|DAI|EUR|BRL|TRY|BTC|ETH|MNT)|([A-Z0-9]+)(PERP))",
    re.ASCII,
)
_MARKET: Final = "/v5/market/"
#: Number of a new book's snapshot, which is that of a service that has just started.
_FIRST: Final = 1
_UUID_REST: Final = 0x9E3779B97F4A7C15

#: Most and usual numbers of trades, levels and instruments that are given at once.
_TRADES: Final = {"spot": (60, 60), "linear": (1000, 500)}
_LEVELS: Final = {"spot": (200, 1), "linear": (500, 25)}
_INSTRUMENTS: Final = (1000, 500)

_EMPTY: Final = b'{"category":"","list":[]}'


class _Refused(Exception):
    """What is wrong with a request, in the exchange's words."""


@dataclass(slots=True)
class BybitDialect(Dialect):
    """See `Dialect`."""

    exchange: ClassVar[str] = "bybit"
    depth: ClassVar[int] = 200
    #: Its clients apply what they are told and nothing else:
    #: https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
    cuts: ClassVar[bool] = False
    weight_per_minute: ClassVar[int] = 7_200
    overrun: ClassVar[bytes] = (
        b'{"retCode":10006,"retMsg":"Too many visits. Exceeded the API Rate Limit.","result":{},"retExtInfo":{}}'
    )

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        return usual(symbol, *_pair(symbol), "spot" if symbol.startswith("spot:") else "perpetual")

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        category = symbol.partition(":")[0]
        if kind == "derivatives" and category == "spot":
            return None
        return Stream(f"{category} {_TOPICS[kind]}", symbol)

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        listed, (category, _, name) = self.listings[symbol], symbol.partition(":")
        price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
        head = f'{{"topic":"publicTrade.{name}","type":"snapshot","ts":'
        columns = (trades.t_ns // 1_000_000, trades.ids, trades.prices, trades.sizes, trades.sides)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        if category == "spot":
            return [
                f'{head}{ms},"data":[{{"i":"{number}","T":{ms},"p":"{fixed(ticks, price_decimals)}",'
                f'"v":"{fixed(units, size_decimals)}","S":"{"Sell" if side else "Buy"}","seq":{number},"s":"{name}",'
                '"BT":false,"RPI":false}]}'.encode()
                for ms, number, ticks, units, side in rows
            ]
        return [
            f'{head}{ms},"data":[{{"T":{ms},"s":"{name}","S":"{"Sell" if side else "Buy"}",'
            f'"v":"{fixed(units, size_decimals)}","p":"{fixed(ticks, price_decimals)}",'
            f'"L":"{"ZeroMinusTick" if side else "ZeroPlusTick"}","i":"{_uuid(number)}","BT":false,"RPI":false,'
            f'"seq":{number}}}]}}'.encode()
            for ms, number, ticks, units, side in rows
        ]

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        listed, name = self.listings[symbol], symbol.partition(":")[2]
        price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
        columns = (
            quotes.t_ns // 1_000_000,
            *(quotes.update_ids, quotes.bids, quotes.bid_sizes, quotes.asks, quotes.ask_sizes),
        )
        return [
            f'{{"topic":"orderbook.1.{name}","type":"snapshot","ts":{ms},"data":{{"s":"{name}",'
            f'"b":[["{fixed(bid, price_decimals)}","{fixed(bid_size, size_decimals)}"]],'
            f'"a":[["{fixed(ask, price_decimals)}","{fixed(ask_size, size_decimals)}"]],"u":{number},"seq":{number}}},'
            f'"cts":{ms}}}'.encode()
            for ms, number, bid, bid_size, ask, ask_size in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        bids, asks = change.levels
        return [self._book(symbol, "delta", change.after, reversed(bids), asks)]

    def derivatives(self, symbol: str, mark: Mark, quotes: Quotes) -> list[bytes]:
        return [_topic_ticker("delta", symbol, mark.t_ns, _contract_ticker(self.listings[symbol], mark, quotes))]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        symbol = stream.symbol
        listed = view.listings.get(symbol)
        if listed is None:
            return []
        match stream.channel.partition(" ")[2]:
            case "orderbook.200":
                book = view.book(symbol)
                return [self._book(symbol, "snapshot", book, *book.levels(self.depth))]
            case "orderbook.1":
                return self.quotes(symbol, view.quote(symbol))
            case "tickers":
                return [_topic_ticker("snapshot", symbol, view.now_ns, _ticker(listed, view))]
            case _:
                return []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        method = _ANSWERS.get(path.removeprefix(_MARKET)) if path.startswith(_MARKET) else None
        code, text, result = 0, "OK", _EMPTY
        try:
            if method is None:
                return Reply(b'{"retCode":404,"retMsg":"Not Found","result":{},"retExtInfo":{}}', 404)
            result = method(self, query, view)
        except _Refused as refused:
            code, text = 10001, str(refused)
        said = f'{{"retCode":{code},"retMsg":"{text}","result":'.encode()
        return Reply(b'%b%b,"retExtInfo":{},"time":%d}' % (said, result, view.now_ns // 1_000_000))

    def _book(
        self, symbol: str, kind: str, book: Book, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]
    ) -> bytes:
        listed, name = self.listings[symbol], symbol.partition(":")[2]
        ms = book.t_ns // 1_000_000
        return (
            f'{{"topic":"orderbook.200.{name}","type":"{kind}","ts":{ms},"data":{{"s":"{name}",'
            f'"b":[{_levels(listed, bids)}],"a":[{_levels(listed, asks)}],"u":{book.number + _FIRST},'
            f'"seq":{book.update_id}}},"cts":{ms}}}'
        ).encode()

    def _recent_trades(self, query: Mapping[str, str], view: View) -> bytes:
        """Newest first."""
        category, listed = _asked(query, view)
        trades = view.newest(listed.symbol, _limit(query, *_TRADES[category]))
        name = listed.symbol.partition(":")[2]
        columns = (trades.t_ns // 1_000_000, trades.ids, trades.prices, trades.sizes, trades.sides)
        written = [
            f'{{"execId":"{number if category == "spot" else _uuid(number)}","symbol":"{name}",'
            f'"price":"{fixed(ticks, listed.price_decimals)}","size":"{fixed(units, listed.size_decimals)}",'
            f'"side":"{"Sell" if side else "Buy"}","time":"{ms}","isBlockTrade":false,"isRPITrade":false,'
            f'"seq":"{number}"}}'
            for ms, number, ticks, units, side in zip(*(column.tolist() for column in columns), strict=True)
        ]
        return f'{{"category":"{category}","list":[{",".join(reversed(written))}]}}'.encode()

    def _order_book(self, query: Mapping[str, str], view: View) -> bytes:
        category, listed = _asked(query, view)
        book = view.book(listed.symbol)
        bids, asks = book.levels(_limit(query, *_LEVELS[category]))
        ms = book.t_ns // 1_000_000
        return (
            f'{{"s":"{listed.symbol.partition(":")[2]}","b":[{_levels(listed, bids)}],"a":[{_levels(listed, asks)}],'
            f'"ts":{view.now_ns // 1_000_000},"u":{book.number + _FIRST},"seq":{book.update_id},"cts":{ms}}}'
        ).encode()

    def _instruments(self, query: Mapping[str, str], view: View) -> bytes:
        """All of spot at once, contracts in pages; the cursor is the number of those before."""
        category = _category(query)
        name = query.get("symbol")
        listed = [
            one
            for one in view.listings.values()
            if one.symbol.startswith(f"{category}:") and name in (None, one.symbol.partition(":")[2])
        ]
        if name is not None and not listed:
            raise _Refused("params error: symbol invalid")
        base = query.get("baseCoin")
        rows = [row for row in map(_instrument_row, listed) if base in (None, row["baseCoin"])]
        if category == "spot":
            return msgspec.json.encode({"category": category, "list": rows})
        try:
            start = whole(query.get("cursor") or "0")
        except ValueError:
            raise _Refused("params error: cursor invalid") from None
        end = start + _limit(query, *_INSTRUMENTS)
        cursor = str(end) if end < len(rows) else ""
        return msgspec.json.encode({"category": category, "list": rows[start:end], "nextPageCursor": cursor})

    def _tickers(self, query: Mapping[str, str], view: View) -> bytes:
        category = _category(query)
        own = [one for one in view.listings.values() if one.symbol.startswith(f"{category}:")]
        listed = [_asked(query, view)[1]] if "symbol" in query else own
        return msgspec.json.encode({"category": category, "list": [_ticker(one, view) for one in listed]})

    def _time(self, query: Mapping[str, str], view: View) -> bytes:
        return f'{{"timeSecond":"{view.now_ns // 1_000_000_000}","timeNano":"{view.now_ns}"}}'.encode()


_TOPICS: Final[dict[Kind, str]] = {
    "trades": "publicTrade",
    "quotes": "orderbook.1",
    "book": f"orderbook.{BybitDialect.depth}",
    "derivatives": "tickers",
}

_ANSWERS: Final[dict[str, Callable[[BybitDialect, Mapping[str, str], View], bytes]]] = {
    "instruments-info": BybitDialect._instruments,
    "orderbook": BybitDialect._order_book,
    "recent-trade": BybitDialect._recent_trades,
    "tickers": BybitDialect._tickers,
    "time": BybitDialect._time,
}


def _pair(symbol: str) -> tuple[str, str]:
    name = _SYMBOL.fullmatch(symbol)
    if name is None or (name[1] == "spot" and name[5]):
        raise ValueError(
            f"the simulated bybit cannot have the symbol {symbol[:100]!r}: a symbol is named with its category, "
            "spot:BTCUSDT or linear:BTCUSDT"
        )
    return name[2] or name[4], name[3] or "USDC"


def _uuid(number: int) -> str:
    """The UUID of a trade whose id is the first 63 bits of it."""
    first, rest = f"{number << 1:016x}", f"{number * _UUID_REST % 2**64:016x}"
    return f"{first[:8]}-{first[8:12]}-{first[12:]}-{rest[:4]}-{rest[4:]}"


def _levels(listed: Listing, side: Iterable[tuple[int, int]]) -> str:
    price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
    return ",".join(
        f'["{fixed(ticks, price_decimals)}","{fixed(units, size_decimals) if units else 0}"]' for ticks, units in side
    )


def _topic_ticker(kind: str, symbol: str, t_ns: int, data: dict[str, str]) -> bytes:
    topic = f"tickers.{symbol.partition(':')[2]}"
    ms = t_ns // 1_000_000
    return msgspec.json.encode({"topic": topic, "type": kind, "data": data, "cs": ms, "ts": ms})


def _ticker(listed: Listing, view: View) -> dict[str, str]:
    quote = view.quote(listed.symbol)
    if listed.kind == "perpetual":
        return _contract_ticker(listed, view.mark(listed.symbol), quote)
    return _traded(listed, quote) | {"usdIndexPrice": ""}


def _contract_ticker(listed: Listing, mark: Mark, quotes: Quotes) -> dict[str, str]:
    return _traded(listed, quotes) | {
        "tickDirection": "ZeroPlusTick",
        "markPrice": _text(mark.mark_price),
        "indexPrice": _text(mark.index_price),
        "openInterest": _text(mark.open_interest),
        "openInterestValue": _text(mark.open_interest * mark.mark_price),
        "nextFundingTime": str(mark.next_funding_ns // 1_000_000),
        "fundingRate": _text(mark.funding_rate),
        "bid1Price": fixed(int(quotes.bids[0]), listed.price_decimals),
        "bid1Size": fixed(int(quotes.bid_sizes[0]), listed.size_decimals),
        "ask1Price": fixed(int(quotes.asks[0]), listed.price_decimals),
        "ask1Size": fixed(int(quotes.ask_sizes[0]), listed.size_decimals),
    }


def _traded(listed: Listing, quotes: Quotes) -> dict[str, str]:
    """There is no day before."""
    last = fixed(int(quotes.last_prices[0]), listed.price_decimals)
    name = listed.symbol.partition(":")[2]
    return {
        "symbol": name,
        "lastPrice": last,
        "highPrice24h": last,
        "lowPrice24h": last,
        "prevPrice24h": last,
        "volume24h": "0",
        "turnover24h": "0",
        "price24hPcnt": "0",
    }


def _text(value: float) -> str:
    return f"{Decimal(repr(value)):f}"


def _instrument_row(listed: Listing) -> dict[str, Any]:
    name = listed.symbol.partition(":")[2]
    perpetual = listed.kind == "perpetual"
    base, quote = _pair(listed.symbol)
    tick, step = fixed(1, listed.price_decimals), fixed(1, listed.size_decimals)
    row = {
        "symbol": name,
        "status": "Trading",
        "baseCoin": base,
        "quoteCoin": quote,
        "marginTrading": "none",
        "innovation": "0",
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
    }
    if not perpetual:
        lot = {"basePrecision": step, "quotePrecision": "0.00000001", "minOrderQty": step, "maxOrderQty": "1000000"}
        return row | {"lotSizeFilter": lot | {"minOrderAmt": "1", "maxOrderAmt": "4000000"}}
    lot = {"qtyStep": step, "minOrderQty": step, "maxOrderQty": "1000000", "postOnlyMaxOrderQty": "1000000"}
    return row | {
        "contractType": "LinearPerpetual",
        "launchTime": "1584230400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(listed.price_decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "lotSizeFilter": lot | {"minNotionalValue": "5"},
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": quote,
    }


def _category(query: Mapping[str, str]) -> str:
    category = query.get("category")
    if category not in _CATEGORIES:
        raise _Refused("params error: Category is invalid")
    return category


def _asked(query: Mapping[str, str], view: View) -> tuple[str, Listing]:
    category = _category(query)
    listed = view.listings.get(f"{category}:{query.get('symbol')}")
    if listed is None:
        raise _Refused("params error: symbol invalid")
    return category, listed


def _limit(query: Mapping[str, str], most: int, usual_limit: int) -> int:
    """More than the most is taken for it."""
    try:
        limit = whole(query["limit"]) if "limit" in query else usual_limit
    except ValueError:
        limit = 0
    if limit < 1:
        raise _Refused("params error: limit invalid")
    return min(limit, most)
