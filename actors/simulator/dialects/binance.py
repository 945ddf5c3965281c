"""Binance spot's streams (in the combined form) and REST answers.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and .../rest-api/market-data-endpoints
give the forms, the weights of requests and the errors. There is one fill to each aggregate trade.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import msgspec

from actors.simulator.dialect import Change, Dialect, Kind, Listing, Quotes, Reply, Trades, View
from actors.simulator.market import usual
from actors.simulator.session import NOT_JSON, Stream, parsed

_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,20}")
_QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY")
_CHANNELS: Final[dict[Kind, str]] = {"trades": "aggTrade", "quotes": "bookTicker", "book": "depth"}

_MOST_TRADES: Final = 1000
_USUAL_TRADES: Final = 500
_MOST_LEVELS: Final = 5000
_USUAL_LEVELS: Final = 100
#: Levels of each side its books have in all.
_LEVELS: Final = 100
_MOST_TEXTS: Final = 100_000
_LAST_ID: Final = 2**63 - 1

_encode: Final = msgspec.json.encode


class _Texts(dict[int, str]):
    """Whole numbers of steps of 10**-`decimals`, as Binance writes prices and sizes."""

    def __init__(self, decimals: int) -> None:
        self._scale = 10**decimals

    def __missing__(self, steps: int) -> str:
        if len(self) > _MOST_TEXTS:
            self.clear()
        text = self[steps] = f"{steps / self._scale:.8f}"
        return text


@dataclass(slots=True)
class BinanceDialect(Dialect):
    """See `Dialect`."""

    #: Prices and sizes of each symbol that were written lately: their texts cost more than all the rest.
    _written: dict[str, tuple[_Texts, _Texts]] = field(default_factory=dict, init=False)

    exchange: ClassVar[str] = "binance"
    depth: ClassVar[int] = _LEVELS
    cuts: ClassVar[bool] = False
    weight_per_minute: ClassVar[int] = 6000
    weight_header: ClassVar[str] = "X-MBX-USED-WEIGHT-1M"
    overrun: ClassVar[bytes] = _encode(
        {"code": -1003, "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."}
    )

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        if not _SYMBOL.fullmatch(symbol):
            raise ValueError(f"{symbol!r}: expected letters A-Z and digits")
        quote = next((name for name in _QUOTES if symbol.endswith(name) and symbol != name), "USDT")
        return usual(symbol, symbol.removesuffix(quote), quote)

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        channel = _CHANNELS.get(kind)
        return None if channel is None else Stream(channel, symbol)

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        prices, sizes = self._texts(symbol)
        head = f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":'
        name = f',"s":"{symbol}","a":'
        columns = (trades.t_ns // 1_000_000, trades.ids, trades.prices, trades.sizes, trades.sides)
        return [
            f'{head}{ms}{name}{number},"p":"{prices[price]}","q":"{sizes[size]}","f":{number},"l":{number},'
            f'"T":{ms},"m":{"true" if sell else "false"},"M":true}}}}'.encode()
            for ms, number, price, size, sell in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        prices, sizes = self._texts(symbol)
        head = f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":'
        name = f',"s":"{symbol}","b":"'
        columns = (quotes.update_ids, quotes.bids, quotes.bid_sizes, quotes.asks, quotes.ask_sizes)
        return [
            f'{head}{update}{name}{prices[bid]}","B":"{sizes[bid_size]}","a":"{prices[ask]}",'
            f'"A":"{sizes[ask_size]}"}}}}'.encode()
            for update, bid, bid_size, ask, ask_size in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        bids, asks = (self._levels(symbol, side) for side in change.levels)
        return [
            (
                f'{{"stream":"{symbol.lower()}@depth@100ms","data":{{"e":"depthUpdate",'
                f'"E":{change.after.t_ns // 1_000_000},"s":"{symbol}","U":{change.before.update_id + 1},'
                f'"u":{change.after.update_id},"b":[{bids}],"a":[{asks}]}}}}'
            ).encode()
        ]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        return []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        match path:
            case "/api/v3/ping":
                return Reply(b"{}")
            case "/api/v3/time":
                return Reply(_encode({"serverTime": view.now_ns // 1_000_000}))
            case "/api/v3/exchangeInfo":
                return _exchange_info(query, view)
            case "/api/v3/depth" | "/api/v3/aggTrades":
                symbol = query.get("symbol")
                if not symbol:
                    return _error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
                if symbol not in view.listings:
                    return _error(-1121, "Invalid symbol.")
                try:
                    if path == "/api/v3/depth":
                        return self._depth(symbol, query, view)
                    return self._aggregate_trades(symbol, query, view)
                except _Invalid as error:
                    return _error(-1130, f"Data sent for parameter '{error}' is not valid.")
        return Reply(b"<html><body><h2>404 Not found</h2></body></html>", 404)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        match path:
            case "/api/v3/exchangeInfo":
                return 20
            case "/api/v3/aggTrades":
                return 4
            case "/api/v3/depth":
                limit = query.get("limit", "")
                levels = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 9 else _USUAL_LEVELS
                return next((weight for most, weight in ((100, 5), (500, 25), (1000, 50)) if levels <= most), 250)
        return 1

    def notice(self, kind: Literal["reconnect", "maintenance", "resumed"]) -> bytes | None:
        return b'{"e":"serverShutdown","E":0}' if kind == "reconnect" else None

    def _texts(self, symbol: str) -> tuple[_Texts, _Texts]:
        texts = self._written.get(symbol)
        if texts is None:
            listed = self.listings[symbol]
            texts = self._written[symbol] = _Texts(listed.price_decimals), _Texts(listed.size_decimals)
        return texts

    def _levels(self, symbol: str, levels: Any) -> str:
        prices, sizes = self._texts(symbol)
        return ",".join([f'["{prices[price]}","{sizes[size]}"]' for price, size in levels])

    def _depth(self, symbol: str, query: Mapping[str, str], view: View) -> Reply:
        limit = min(_number(query, "limit", _USUAL_LEVELS), _MOST_LEVELS, _LEVELS)
        book = view.book(symbol)
        bids, asks = (self._levels(symbol, side) for side in book.levels(limit))
        return Reply(f'{{"lastUpdateId":{book.update_id},"bids":[{bids}],"asks":[{asks}]}}'.encode())

    def _aggregate_trades(self, symbol: str, query: Mapping[str, str], view: View) -> Reply:
        """By id, by time, or the newest."""
        limit = min(_number(query, "limit", _USUAL_TRADES), _MOST_TRADES)
        by_time = "startTime" in query or "endTime" in query
        if "fromId" in query:
            if by_time:
                return _error(-1128, "Combination of optional parameters invalid.")
            trades = view.by_id(symbol, _number(query, "fromId"), _LAST_ID, limit)
        elif by_time:
            start_ns = _number(query, "startTime", 0) * 1_000_000
            end_ns = (_number(query, "endTime", view.now_ns // 1_000_000) + 1) * 1_000_000 - 1
            trades = view.by_time(symbol, start_ns, end_ns, limit, newest="startTime" not in query)
        else:
            trades = view.newest(symbol, limit)
        # A frame's fields from `a` on.
        written = [b"{" + frame[frame.index(b'"a":') : -1] for frame in self.trades(symbol, trades)]
        return Reply(b"[%s]" % b",".join(written))


class _Invalid(ValueError):
    """The parameter of that name is no whole number."""


def _number(query: Mapping[str, str], name: str, usual: int | None = None) -> int:
    text = query.get(name)
    if text is None and usual is not None:
        return usual
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _Invalid(name)
    return int(text)


def _exchange_info(query: Mapping[str, str], view: View) -> Reply:
    asked = parsed(query["symbols"]) if "symbols" in query else None
    if asked is NOT_JSON:
        return _error(-1100, "Illegal characters found in parameter 'symbols'.")
    names = asked if isinstance(asked, list) else [query["symbol"]] if "symbol" in query else None
    if names is not None and not all(isinstance(name, str) and name in view.listings for name in names):
        return _error(-1121, "Invalid symbol.")
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    information = {
        "timezone": "UTC",
        "serverTime": view.now_ns // 1_000_000,
        "rateLimits": [weight | {"limit": BinanceDialect.weight_per_minute}],
        "exchangeFilters": [],
        "symbols": [_listed(view.listings[name]) for name in (view.listings if names is None else names)],
    }
    return Reply(_encode(information))


def _listed(listed: Listing) -> dict[str, Any]:
    tick, step = f"{10**-listed.price_decimals:.8f}", f"{10**-listed.size_decimals:.8f}"
    return {
        "symbol": listed.symbol,
        "status": "TRADING",
        "baseAsset": listed.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listed.quote,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000.00000000", "stepSize": step},
        ],
    }


def _error(code: int, text: str) -> Reply:
    return Reply(_encode({"code": code, "msg": text}), 400)
