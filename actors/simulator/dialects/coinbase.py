"""Coinbase Exchange as it writes the market: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels and
https://docs.cdp.coinbase.com/exchange/rest-api (prices and sizes as text, times to the microsecond).

A match names the maker's side, a ticker the taker's. A book comes whole and is never cut; its changes have no number.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec

from actors.simulator.dialect import Book, Change, Dialect, Kind, Listing, Quotes, Reply, Trades, View
from actors.simulator.dialects.decimals import fixed, whole
from actors.simulator.dialects.times import iso_microseconds
from actors.simulator.market import usual
from actors.simulator.session import Stream

_SYMBOL: Final = re.compile(r"([A-Z0-9]{1,20})-([A-Z0-9]{1,20})", re.ASCII)
_PRODUCT: Final = re.compile(r"/products/([^/]{1,50})(?:/(trades|book|ticker))?", re.ASCII)
_STREAMS: Final[dict[str, str]] = {"trades": "match", "quotes": "ticker", "book": "level2"}
_BOOKS: Final = ("level2", "level2_batch", "level2_50")
_TAKERS: Final = ("buy", "sell")
_MAKERS: Final = ("sell", "buy")
_MOST_TRADES: Final = 1000
_LAST_ID: Final = 2**63 - 1
_NOT_FOUND: Final = Reply(b'{"message":"NotFound"}', 404)
#: Multiplied by this, ids become what looks like random numbers.
_MIXER: Final = 0x9E3779B97F4A7C15
#: How orders of makers and of takers end.
_MAKER: Final = "-a000-000000000001"
_TAKER: Final = "-a000-000000000002"

_encode: Final = msgspec.json.encode


class CoinbaseDialect(Dialect):
    """See `Dialect`. Matches are numbered by the trade, tickers by the update of the book."""

    exchange: ClassVar[str] = "coinbase"
    depth: ClassVar[int] = 1000
    cuts: ClassVar[bool] = False
    resolution_ns: ClassVar[int] = 1_000
    #: 10 requests a second: https://docs.cdp.coinbase.com/exchange/rest-api/rate-limits
    weight_per_minute: ClassVar[int] = 600
    overrun: ClassVar[bytes] = b'{"message":"Public rate limit exceeded"}'

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        names = _SYMBOL.fullmatch(symbol)
        if not names:
            raise ValueError(f"{symbol[:50]!r} cannot be a product of coinbase: expected a name like BTC-USD")
        return usual(symbol, names[1], names[2])

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        return Stream(_STREAMS[kind], symbol) if kind in _STREAMS else None

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        return self._matches("match", symbol, trades)

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        """A day's prices and volumes are the usual ones: nobody made that day."""
        listing = self.listings[symbol]
        price, size = self._texts(symbol)
        usual_price = price(round(listing.price * 10**listing.price_decimals))
        day = size(round(listing.size * 10**listing.size_decimals) * 50_000)
        month = size(round(listing.size * 10**listing.size_decimals) * 1_500_000)
        statistics = (
            f'"open_24h":"{usual_price}","volume_24h":"{day}","low_24h":"{usual_price}","high_24h":"{usual_price}",'
            f'"volume_30d":"{month}"'
        )
        return [
            (
                f'{{"type":"ticker","sequence":{update_id},"product_id":"{symbol}","price":"{price(last)}",'
                f'{statistics},"best_bid":"{price(bid)}","best_bid_size":"{size(bid_size)}","best_ask":"{price(ask)}",'
                f'"best_ask_size":"{size(ask_size)}","side":"{_TAKERS[side]}","time":"{iso_microseconds(t_ns)}",'
                f'"trade_id":{last_id},"last_size":"{size(last_size)}"}}'
            ).encode()
            for t_ns, update_id, bid, bid_size, ask, ask_size, last_id, last, last_size, side in zip(
                quotes.t_ns.tolist(),
                quotes.update_ids.tolist(),
                quotes.bids.tolist(),
                quotes.bid_sizes.tolist(),
                quotes.asks.tolist(),
                quotes.ask_sizes.tolist(),
                quotes.last_ids.tolist(),
                quotes.last_prices.tolist(),
                quotes.last_sizes.tolist(),
                quotes.last_sides.tolist(),
                strict=True,
            )
        ]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        price, size = self._texts(symbol)
        changes = ",".join(
            f'["{side}","{price(ticks)}","{size(units)}"]'
            for side, levels in zip(_TAKERS, change.levels, strict=True)
            for ticks, units in levels
        )
        time = iso_microseconds(change.after.t_ns)
        return [f'{{"type":"l2update","product_id":"{symbol}","changes":[{changes}],"time":"{time}"}}'.encode()]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        channel, symbol = stream
        if symbol not in view.listings:
            return []
        if channel in _BOOKS:
            return [self._snapshot(symbol, view.book(symbol))]
        if channel in ("match", "matches"):
            return self._matches("last_match", symbol, view.newest(symbol, 1))
        if channel == "ticker":
            return self.quotes(symbol, view.quote(symbol))
        return [self._heartbeat(symbol, view)] if channel == "heartbeat" else []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        if path == "/time":
            text = iso_microseconds(view.now_ns)
            return Reply(_encode({"iso": f"{text[:-4]}Z", "epoch": view.now_ns // 1_000_000 / 1000}))
        if path == "/products":
            return Reply(_encode([_product(listing) for listing in view.listings.values()]))
        if path == "/currencies":
            names = {name for one in view.listings.values() for name in (one.base, one.quote)}
            return Reply(_encode([_currency(name) for name in sorted(names)]))
        named = _PRODUCT.fullmatch(path)
        if not named or named[1] not in view.listings:
            return _NOT_FOUND
        symbol = named[1]
        try:
            if named[2] == "trades":
                return self._past_trades(symbol, query, view)
            if named[2] == "book":
                return self._book(symbol, query, view)
        except ValueError as invalid:
            return Reply(_encode({"message": str(invalid)}), 400)
        if named[2] == "ticker":
            return self._ticker(symbol, view)
        return Reply(_encode(_product(view.listings[symbol])))

    def _texts(self, symbol: str) -> tuple[Callable[[int], str], Callable[[int], str]]:
        listing = self.listings[symbol]
        return partial(fixed, decimals=listing.price_decimals), partial(fixed, decimals=listing.size_decimals)

    def _matches(self, kind: Literal["match", "last_match"], symbol: str, trades: Trades) -> list[bytes]:
        price, size = self._texts(symbol)
        return [
            (
                f'{{"type":"{kind}","trade_id":{trade_id},"maker_order_id":"{(order := _order(trade_id))}{_MAKER}",'
                f'"taker_order_id":"{order}{_TAKER}","side":"{_MAKERS[side]}","size":"{size(units)}",'
                f'"price":"{price(ticks)}","product_id":"{symbol}","sequence":{trade_id},'
                f'"time":"{iso_microseconds(t_ns)}"}}'
            ).encode()
            for t_ns, trade_id, ticks, units, side in _rows(trades)
        ]

    def _snapshot(self, symbol: str, book: Book) -> bytes:
        price, size = self._texts(symbol)
        bids, asks = (
            ",".join(f'["{price(ticks)}","{size(units)}"]' for ticks, units in side) for side in book.levels(self.depth)
        )
        return f'{{"type":"snapshot","product_id":"{symbol}","asks":[{asks}],"bids":[{bids}]}}'.encode()

    def _heartbeat(self, symbol: str, view: View) -> bytes:
        newest = view.newest(symbol, 1)
        last = int(newest.ids[-1]) if len(newest) else 0
        return heartbeat(symbol, last, view.now_ns)

    def _past_trades(self, symbol: str, query: Mapping[str, str], view: View) -> Reply:
        """A page, newest first: those `after` (older than) an id, or the newest of those `before` (newer than) one.
        https://docs.cdp.coinbase.com/exchange/rest-api/pagination; texts of errors as clients report them."""
        limit = _parameter(query, "limit", _MOST_TRADES, "Invalid limit")
        if not 1 <= limit <= _MOST_TRADES:
            raise ValueError("Invalid limit")
        older = _parameter(query, "after", _LAST_ID, "Invalid value for pagination after")
        newer = _parameter(query, "before", -1, "Invalid value for pagination before")
        trades = view.by_id(symbol, newer + 1, min(older, _LAST_ID) - 1, limit, newest=True)
        price, size = self._texts(symbol)
        rows = [
            f'{{"time":"{iso_microseconds(t_ns)}","trade_id":{trade_id},"price":"{price(ticks)}",'
            f'"size":"{size(units)}","side":"{_MAKERS[side]}"}}'
            for t_ns, trade_id, ticks, units, side in _rows(trades)
        ]
        body = f"[{','.join(reversed(rows))}]".encode()
        if not rows:
            return Reply(body)
        return Reply(body, headers={"CB-BEFORE": str(trades.ids[-1]), "CB-AFTER": str(trades.ids[0])})

    def _book(self, symbol: str, query: Mapping[str, str], view: View) -> Reply:
        level = _parameter(query, "level", 1, "Invalid level")
        if level not in (1, 2, 3):
            raise ValueError("Invalid level")
        book = view.book(symbol)
        price, size = self._texts(symbol)
        bids, asks = (
            [[price(ticks), size(units), 1] for ticks, units in side]
            for side in book.levels(1 if level == 1 else self.depth)
        )
        answer = {"bids": bids, "asks": asks, "sequence": book.update_id, "auction_mode": False, "auction": None}
        return Reply(_encode(answer | {"time": iso_microseconds(book.t_ns)}))

    def _ticker(self, symbol: str, view: View) -> Reply:
        (ticker,) = (msgspec.json.decode(frame) for frame in self.quotes(symbol, view.quote(symbol)))
        names = {
            "ask": "best_ask", "bid": "best_bid", "volume": "volume_24h", "trade_id": "trade_id", "price": "price",
            "size": "last_size", "time": "time",
        }  # fmt: skip
        return Reply(_encode({name: ticker[own] for name, own in names.items()}))


def heartbeat(symbol: str, last_trade_id: int, t_ns: int) -> bytes:
    """What comes every second for each product; by the id a client sees whether it missed a match."""
    return (
        f'{{"type":"heartbeat","last_trade_id":{last_trade_id},"product_id":"{symbol}","sequence":{last_trade_id},'
        f'"time":"{iso_microseconds(t_ns)}"}}'
    ).encode()


def _rows(trades: Trades) -> Iterator[tuple[int, int, int, int, int]]:
    columns = (trades.t_ns, trades.ids, trades.prices, trades.sizes, trades.sides)
    return zip(*(column.tolist() for column in columns), strict=True)


def _order(trade_id: int) -> str:
    """The beginning of a UUID."""
    text = f"{(trade_id + 1) * _MIXER % 2**64:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:]}"


def _parameter(query: Mapping[str, str], name: str, default: int, invalid: str) -> int:
    try:
        return whole(query[name]) if name in query else default
    except ValueError:
        raise ValueError(invalid) from None


def _product(listing: Listing) -> dict[str, Any]:
    price_step, size_step = fixed(1, listing.price_decimals), fixed(1, listing.size_decimals)
    return {
        "id": listing.symbol,
        "base_currency": listing.base,
        "quote_currency": listing.quote,
        "quote_increment": price_step,
        "base_increment": size_step,
        "display_name": f"{listing.base}-{listing.quote}",
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000",
        "auction_mode": False,
        "high_bid_limit_percentage": "",
    }


def _currency(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "min_size": "0.00000001",
        "status": "online",
        "message": "",
        "max_precision": "0.00000001",
        "convertible_to": [],
        "details": {"type": "crypto"},
        "default_network": "",
        "supported_networks": [],
        "display_name": name,
    }
