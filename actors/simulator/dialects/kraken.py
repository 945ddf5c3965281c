"""Kraken spot as it writes the market: version 2 of its WebSocket protocol and its public REST market data.

https://docs.kraken.com/api/docs/websocket-v2/book and its neighbours, https://docs.kraken.com/api/docs/rest-api/.
Numbers are JSON numbers with all decimals, of which checksums are made; times have microseconds.
"""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec
import numpy as np

from actors.simulator.dialect import Book, Change, Dialect, Kind, Listing, Quotes, Reply, Trades, View
from actors.simulator.dialects.decimals import fixed, whole
from actors.simulator.dialects.times import iso_microseconds, iso_second
from actors.simulator.market import usual
from actors.simulator.session import Stream

_SYMBOL: Final = re.compile(r"([A-Za-z0-9.]{1,20})/([A-Za-z0-9.]{1,20})", re.ASCII)
_STREAMS: Final[dict[str, str]] = {"trades": "v2 trade", "quotes": "v2 ticker", "book": "v2 book"}
_SIDES: Final = ("buy", "sell")
#: Of each side, in a checksum: https://docs.kraken.com/api/docs/guides/spot-ws-book-v2
_CHECKED: Final = 10
#: Trades in a snapshot: https://docs.kraken.com/api/docs/websocket-v2/trade
_RECENT: Final = 50
_MOST_TRADES: Final = 1000
_MOST_LEVELS: Final = 500
_FOREVER: Final = 2**63 - 1
_TIME: Final = re.compile(r"(\d{1,19})(?:\.(\d{1,9}))?", re.ASCII)
#: A `since` below this is in seconds.
_SECONDS: Final = 10**11

#: What REST and version 1 call these currencies.
_OWN_NAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}
#: Currencies that have had a letter before their name since the beginning, in the names of pairs too.
_OLD: Final = dict.fromkeys(("XBT", "ETH", "LTC", "XRP", "XDG", "XMR", "XLM", "ETC", "ZEC", "REP", "MLN"), "X")
_OLD_MONEY: Final = dict.fromkeys(("USD", "EUR", "GBP", "CAD", "JPY"), "Z")

_encode: Final = msgspec.json.encode


class _Refused(Exception):
    """What is wrong with a request, in the exchange's words."""


class KrakenDialect(Dialect):
    """See `Dialect`. A symbol may have version 1's name (XBT/USD) where its clients speak that."""

    exchange: ClassVar[str] = "kraken"
    depth: ClassVar[int] = 1000
    path: ClassVar[str] = "/v2"
    resolution_ns: ClassVar[int] = 1_000
    #: One request a second: https://docs.kraken.com/api/docs/guides/spot-rest-ratelimits
    weight_per_minute: ClassVar[int] = 60
    overrun: ClassVar[bytes] = b'{"error":["EGeneral:Too many requests"]}'

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        names = _SYMBOL.fullmatch(symbol)
        if not names:
            raise ValueError(f"{symbol[:50]!r} cannot be a pair of kraken: expected a name like BTC/USD")
        return usual(symbol, names[1], names[2])

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        return Stream(_STREAMS[kind], symbol) if kind in _STREAMS else None

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        return [
            f'{{"channel":"trade","type":"update","data":[{trade}]}}'.encode() for trade in self._trades(symbol, trades)
        ]

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        return [self._ticker("update", ticker) for ticker in self._tickers(symbol, quotes)]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        return [self._book("update", symbol, change.levels, change.after)]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        channel, symbol = stream.channel.removeprefix("v2 "), stream.symbol
        is_first = not stream.channel.startswith("v2 ")
        if channel == "instrument":
            return [self._instruments(view)]
        if symbol not in view.listings:
            return []
        if channel.partition("-")[0] == "book":
            book = view.book(symbol)
            return [self._book("snapshot", symbol, book.levels(self.depth), book)]
        if channel == "ticker":
            return [self._ticker("snapshot", ticker) for ticker in self._tickers(symbol, view.quote(symbol))]
        # Version 1 tells nothing of the trades before.
        if channel != "trade" or is_first:
            return []
        recent = ",".join(self._trades(symbol, view.newest(symbol, _RECENT)))
        return [f'{{"channel":"trade","type":"snapshot","data":[{recent}]}}'.encode()] if recent else []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        answer = _ANSWERS.get(path)
        if answer is None:
            return Reply(b'{"error":["EGeneral:Unknown method"]}', 200 if path.startswith("/0/public/") else 404)
        try:
            return Reply(b'{"error":[],"result":%s}' % answer(self, query, view))
        except _Refused as refused:
            return Reply(_encode({"error": [str(refused)]}))

    def notice(self, kind: Literal["reconnect", "maintenance", "resumed"]) -> bytes | None:
        return None if kind == "reconnect" else status("maintenance" if kind == "maintenance" else "online")

    def _texts(self, symbol: str) -> tuple[Callable[[int], str], Callable[[int], str]]:
        listing = self.listings[symbol]
        return partial(fixed, decimals=listing.price_decimals), partial(fixed, decimals=listing.size_decimals)

    def _trades(self, symbol: str, trades: Trades) -> list[str]:
        price, size = self._texts(symbol)
        return [
            f'{{"symbol":"{symbol}","side":"{_SIDES[side]}","price":{price(ticks)},"qty":{size(units)},'
            f'"ord_type":"market","trade_id":{trade_id},"timestamp":"{iso_microseconds(t_ns)}"}}'
            for t_ns, trade_id, ticks, units, side in _rows(trades)
        ]

    def _ticker(self, kind: str, ticker: str) -> bytes:
        return f'{{"channel":"ticker","type":"{kind}","data":[{ticker}]}}'.encode()

    def _tickers(self, symbol: str, quotes: Quotes) -> list[str]:
        """A day's prices and volume are the usual ones: nobody made that day."""
        listing = self.listings[symbol]
        price, size = self._texts(symbol)
        usual_price = price(round(listing.price * 10**listing.price_decimals))
        day = size(round(listing.size * 10**listing.size_decimals) * 50_000)
        prices = f'"vwap":{usual_price},"low":{usual_price},"high":{usual_price}'
        statistics = f'"volume":{day},{prices},"change":0.0,"change_pct":0.0'
        columns = (quotes.t_ns, quotes.bids, quotes.bid_sizes, quotes.asks, quotes.ask_sizes, quotes.last_prices)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            f'{{"symbol":"{symbol}","bid":{price(bid)},"bid_qty":{size(bid_size)},"ask":{price(ask)},'
            f'"ask_qty":{size(ask_size)},"last":{price(last)},{statistics},"timestamp":"{iso_microseconds(t_ns)}"}}'
            for t_ns, bid, bid_size, ask, ask_size, last in rows
        ]

    def _book(self, kind: str, symbol: str, levels: Sequence[Sequence[tuple[int, int]]], after: Book) -> bytes:
        price, size = self._texts(symbol)
        bids, asks = (
            ",".join(f'{{"price":{price(ticks)},"qty":{size(units)}}}' for ticks, units in side) for side in levels
        )
        # A snapshot has no time.
        time = f',"timestamp":"{iso_microseconds(after.t_ns)}"' if kind == "update" else ""
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
            f'"checksum":{checksum(after)}{time}}}]}}'
        ).encode()

    def _instruments(self, view: View) -> bytes:
        """https://docs.kraken.com/api/docs/websocket-v2/instrument"""
        pairs = [_instrument(listing) for listing in view.listings.values()]
        names = {name for listing in view.listings.values() for name in (listing.base, listing.quote)}
        assets = [
            {"id": name, "status": "enabled", "precision": 10, "precision_display": 5, "borrowable": False}
            for name in sorted(names)
        ]
        return _encode({"channel": "instrument", "type": "snapshot", "data": {"assets": assets, "pairs": pairs}})

    def _time(self, _query: Mapping[str, str], view: View) -> bytes:
        seconds = view.now_ns // 1_000_000_000
        return _encode({"unixtime": seconds, "rfc1123": formatdate(seconds, usegmt=True)})

    def _system_status(self, _query: Mapping[str, str], view: View) -> bytes:
        return _encode({"status": "online", "timestamp": f"{iso_second(view.now_ns // 1_000_000_000)}Z"})

    def _assets(self, _query: Mapping[str, str], view: View) -> bytes:
        named = {
            old: own for one in view.listings.values() for old, own in zip(_old_names(one), _own(one), strict=True)
        }
        terms = {"aclass": "currency", "decimals": 10, "display_decimals": 5, "status": "enabled"}
        return _encode({name: terms | {"altname": own} for name, own in sorted(named.items())})

    def _asset_pairs(self, query: Mapping[str, str], view: View) -> bytes:
        if "pair" in query:
            wanted = [view.listings[_find(name, view)] for name in query["pair"].split(",")]
        else:
            wanted = list(view.listings.values())
        return _encode({_key(listing): _pair(listing) for listing in wanted})

    def _depth(self, query: Mapping[str, str], view: View) -> bytes:
        symbol = _asked(query, view)
        book, (price, size) = view.book(symbol), self._texts(symbol)
        seconds = book.t_ns // 1_000_000_000
        bids, asks = (
            [[price(ticks), size(units), seconds] for ticks, units in side]
            for side in book.levels(_count(query, 100, _MOST_LEVELS))
        )
        return _encode({_said(query, view.listings[symbol]): {"asks": asks, "bids": bids}})

    def _past_trades(self, query: Mapping[str, str], view: View) -> bytes:
        """Trades after `since` (nanoseconds, or seconds), oldest first; the newest without. `last` is the `since` of
        the next page. https://docs.kraken.com/api/docs/rest-api/get-recent-trades"""
        symbol, limit = _asked(query, view), _count(query, _MOST_TRADES, _MOST_TRADES)
        if "since" in query:
            since = _since(query["since"])
            trades = _page(symbol, since, limit, view)
        else:
            since, trades = view.now_ns, view.newest(symbol, limit)
        price, size = self._texts(symbol)
        rows = [
            f'["{price(ticks)}","{size(units)}",{t_ns // 10**9}.{t_ns // 1000 % 10**6:06},"{_SIDES[side][0]}","m","",'
            f"{trade_id}]"
            for t_ns, trade_id, ticks, units, side in _rows(trades)
        ]
        last = int(trades.t_ns[-1]) if len(trades) else since
        name = _said(query, view.listings[symbol])
        return f'{{"{name}":[{",".join(rows)}],"last":"{last}"}}'.encode()


_ANSWERS: Final[dict[str, Callable[[KrakenDialect, Mapping[str, str], View], bytes]]] = {
    "/0/public/Time": KrakenDialect._time,
    "/0/public/SystemStatus": KrakenDialect._system_status,
    "/0/public/Assets": KrakenDialect._assets,
    "/0/public/AssetPairs": KrakenDialect._asset_pairs,
    "/0/public/Depth": KrakenDialect._depth,
    "/0/public/Trades": KrakenDialect._past_trades,
}


def checksum(book: Book) -> int:
    """CRC-32 of the best asks, then the best bids: price and size each without point and leading zeros, which is how
    many steps they are. https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    bids, asks = book.levels(_CHECKED)
    return zlib.crc32("".join(f"{ticks}{units}" for side in (asks, bids) for ticks, units in side).encode())


def status(system: str) -> bytes:
    """What says how the trading engine is: https://docs.kraken.com/api/docs/websocket-v2/status"""
    data = {"version": "2.0.10", "system": system, "api_version": "v2", "connection_id": 1}
    return _encode({"channel": "status", "type": "update", "data": [data]})


def _rows(trades: Trades) -> Iterator[tuple[int, int, int, int, int]]:
    columns = (trades.t_ns, trades.ids, trades.prices, trades.sizes, trades.sides)
    return zip(*(column.tolist() for column in columns), strict=True)


def _page(symbol: str, since: int, limit: int, view: View) -> Trades:
    """Whoever goes on from the last time must not miss another trade of that time: they stay together."""
    trades = view.by_time(symbol, since + 1, _FOREVER, limit + 1)
    if len(trades) <= limit:
        return trades
    times = trades.t_ns
    end = int(np.searchsorted(times, times[limit]))
    if end == 0:
        return view.by_time(symbol, int(times[0]), int(times[0]), _FOREVER)
    return Trades(times[:end], trades.ids[:end], trades.prices[:end], trades.sizes[:end], trades.sides[:end])


def _since(text: str) -> int:
    found = _TIME.fullmatch(text)
    if not found:
        raise _Refused("EGeneral:Invalid arguments:since")
    number = int(found[1])
    return number if number >= _SECONDS else number * 10**9 + int((found[2] or "").ljust(9, "0"))


def _count(query: Mapping[str, str], default: int, most: int) -> int:
    try:
        count = whole(query["count"]) if "count" in query else default
    except ValueError:
        count = 0
    if not 1 <= count <= most:
        raise _Refused("EGeneral:Invalid arguments:count")
    return count


def _asked(query: Mapping[str, str], view: View) -> str:
    if not query.get("pair"):
        raise _Refused("EGeneral:Invalid arguments")
    return _find(query["pair"], view)


def _find(name: str, view: View) -> str:
    """The symbol a name of a pair means: XXBTZUSD, XBTUSD, XBT/USD, BTC/USD or BTCUSD."""
    for symbol, one in view.listings.items():
        own = _own(one)
        if name in (symbol, _key(one), "".join(own), "/".join(own), f"{one.base}/{one.quote}", one.base + one.quote):
            return symbol
    raise _Refused("EQuery:Unknown asset pair")


def _said(query: Mapping[str, str], listing: Listing) -> str:
    """An answer has the pair's own name, or the name with a slash that was asked for."""
    return query["pair"] if "/" in query["pair"] else _key(listing)


def _own(listing: Listing) -> tuple[str, str]:
    """What Kraken calls base and quote."""
    return _OWN_NAMES.get(listing.base, listing.base), _OWN_NAMES.get(listing.quote, listing.quote)


def _old_names(listing: Listing) -> tuple[str, str]:
    base, quote = ((_OLD | _OLD_MONEY).get(name, "") + name for name in _own(listing))
    return base, quote


def _key(listing: Listing) -> str:
    base, quote = _own(listing)
    return "".join(_old_names(listing)) if base in _OLD and quote in _OLD | _OLD_MONEY else base + quote


def _pair(listing: Listing) -> dict[str, Any]:
    (base, quote), own = _old_names(listing), _own(listing)
    return {
        "altname": "".join(own),
        "wsname": "/".join(own),
        "aclass_base": "currency",
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": listing.price_decimals,
        "lot_decimals": listing.size_decimals,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4], [10000, 0.35]],
        "fees_maker": [[0, 0.25], [10000, 0.2]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": fixed(1, listing.size_decimals),
        "costmin": "0.5",
        "tick_size": fixed(1, listing.price_decimals),
        "status": "online",
    }


def _instrument(listing: Listing) -> dict[str, Any]:
    price_step, size_step = fixed(1, listing.price_decimals), fixed(1, listing.size_decimals)
    return {
        "symbol": listing.symbol,
        "base": listing.base,
        "quote": listing.quote,
        "status": "online",
        "qty_precision": listing.size_decimals,
        "qty_increment": msgspec.Raw(size_step.encode()),
        "price_precision": listing.price_decimals,
        "price_increment": msgspec.Raw(price_step.encode()),
        "cost_precision": 5,
        "marginable": False,
        "has_index": True,
        "cost_min": 0.5,
        "qty_min": msgspec.Raw(size_step.encode()),
    }
