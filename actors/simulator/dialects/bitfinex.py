"""Bitfinex v2 as it writes a made-up market: arrays of channels, and its public endpoints over HTTP.

https://docs.bitfinex.com. There are pairs (tBTCUSD) and perpetual contracts (tBTCF0:USTF0). Numbers are JavaScript's.
Arrays have the channel 0 and neither number nor time here: those are of a connection, and so is the second time that a
trade comes (`BitfinexSession`). The levels of a book come one by one, then a checksum.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any, ClassVar, Final, Literal

import msgspec

from actors.simulator.dialect import Book, Change, Dialect, Kind, Listing, Mark, Quotes, Reply, Trades, View
from actors.simulator.dialects.decimals import javascript, whole
from actors.simulator.market import usual
from actors.simulator.session import Stream

#: tBTCUSD, tAVAX:USD, tBTCF0:USTF0; both sides of a contract end in F0.
_SYMBOL: Final = re.compile(r"t(?:([A-Z0-9]{3})([A-Z0-9]{3})|([A-Z0-9]{2,20}):([A-Z0-9]{2,20}))", re.ASCII)
_CONTRACT: Final = "F0"
#: Levels of each side that a checksum is made of.
_CHECKED: Final = 25
#: Trades a new subscriber gets first.
_HISTORY: Final = 30
_USUAL_TRADES: Final = 125
_MOST_TRADES: Final = 10_000
#: Past trades may be asked for 15 times a minute, most other things 90 times.
_TRADES_WEIGHT: Final = 6
_LENGTHS: Final = (1, 25, 100)
_LAST_NS: Final = 2**63 - 1
_FUNDING_MS: Final = 8 * 3_600_000

_TRADES: Final = re.compile(r"/v2/trades/([^/]+)/hist")
_BOOK: Final = re.compile(r"/v2/book/([^/]+)/P0")
_TICKER: Final = re.compile(r"/v2/ticker/([^/]+)")
_CONF: Final = re.compile(r"/v2/conf/([a-z0-9:,]+)")

_NOTICES: Final = {
    "reconnect": (20051, "Stopping. Please try to reconnect."),
    "maintenance": (20060, "Entering in Maintenance mode. Please pause any activity until the info message 20061."),
    "resumed": (20061, "Maintenance ended. You can resume normal activity. Subscribe again to all channels."),
}


class _Refused(Exception):
    """What is wrong with a request, in the exchange's words."""


@dataclass(slots=True)
class BitfinexDialect(Dialect):
    """See `Dialect`."""

    exchange: ClassVar[str] = "bitfinex"
    depth: ClassVar[int] = 100
    cuts: ClassVar[bool] = False
    path: ClassVar[str] = "/ws/2"
    ids: ClassVar[Literal["symbol", "exchange"]] = "exchange"
    weight_per_minute: ClassVar[int] = 90
    overrun: ClassVar[bytes] = b'["error",11010,"ratelimit: error"]'

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        name = _SYMBOL.fullmatch(symbol)
        if name is None:
            raise ValueError(
                f"the simulated bitfinex cannot have the symbol {symbol[:100]!r}: its names are like tBTCUSD, "
                "tAVAX:USD and tBTCF0:USTF0"
            )
        base, quote = name[1] or name[3], name[2] or name[4]
        contract = base.endswith(_CONTRACT) and quote.endswith(_CONTRACT)
        if contract:
            base, quote = base.removesuffix(_CONTRACT), quote.removesuffix(_CONTRACT)
        listed = usual(symbol, base, quote, "perpetual" if contract else "spot")
        # Prices have five digits that count.
        return replace(listed, price_decimals=max(4 - math.floor(math.log10(listed.price)), 0))

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        if kind == "derivatives" and self.listings[symbol].kind == "spot":
            return None
        return Stream(_CHANNELS[kind], symbol)

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        return [f'[0,"te",{trade}]'.encode() for trade in _trades(self.listings[symbol], trades)]

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        listed = self.listings[symbol]
        return [f"[0,{_ticker(listed, quotes, row)}]".encode() for row in range(len(quotes))]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        listed = self.listings[symbol]
        levels = [(*level, sign) for side, sign in zip(change.levels, ("", "-"), strict=True) for level in side]
        # What is gone first: the book is never crossed on the way.
        gone = [
            f"[0,[{javascript(ticks, listed.price_decimals)},0,{sign}1]]".encode()
            for ticks, units, sign in levels
            if not units
        ]
        standing = [f"[0,{_level(listed, (ticks, units), sign)}]".encode() for ticks, units, sign in levels if units]
        return [*gone, *standing, _checksum(listed, change.after)]

    def derivatives(self, symbol: str, mark: Mark, quotes: Quotes) -> list[bytes]:
        return [_status(mark)]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        symbol = stream.symbol
        listed = view.listings.get(symbol)
        if listed is None:
            return []
        match stream.channel:
            case "trades":
                trades = _trades(listed, view.newest(symbol, _HISTORY))
                return [f"[0,[{','.join(reversed(trades))}]]".encode()]
            case "ticker":
                return self.quotes(symbol, view.quote(symbol))
            case "book P0":
                book = view.book(symbol)
                return [f"[0,[{_snapshot(listed, book, self.depth)}]]".encode(), _checksum(listed, book)]
            case "status deriv" if listed.kind == "perpetual":
                return [_status(view.mark(symbol))]
            case _:
                return []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        try:
            for pattern, answer in _ANSWERS.items():
                if found := pattern.fullmatch(path):
                    return Reply(answer(found[1], query, view))
        except _Refused as refused:
            return Reply(f'["error",10020,"{refused}"]'.encode(), 500)
        if path == "/v2/platform/status":
            return Reply(b"[1]")
        return Reply(b'["error",10020,"path: invalid"]', 404)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return _TRADES_WEIGHT if _TRADES.fullmatch(path) else 1

    def notice(self, kind: Literal["reconnect", "maintenance", "resumed"]) -> bytes | None:
        code, text = _NOTICES[kind]
        return msgspec.json.encode({"event": "info", "code": code, "msg": text})


_CHANNELS: Final[dict[Kind, str]] = {
    "trades": "trades",
    "quotes": "ticker",
    "book": "book P0",
    "derivatives": "status deriv",
}


def _past_trades(symbol: str, query: Mapping[str, str], view: View) -> bytes:
    """[[ID, MTS, AMOUNT, PRICE], ...]; start and end (ms) belong to it. The newest first, with sort=1 the oldest."""
    listed = _listed(symbol, view)
    limit = _number(query, "limit", _USUAL_TRADES)
    if limit > _MOST_TRADES:
        raise _Refused("limit: invalid")
    if query.get("sort", "-1") not in ("1", "-1"):
        raise _Refused("sort: invalid")
    start = _number(query, "start", 0) * 1_000_000
    end = _number(query, "end", view.now_ns // 1_000_000) * 1_000_000 + 999_999
    newest = query.get("sort") != "1"
    trades = view.by_time(symbol, min(start, _LAST_NS), min(end, _LAST_NS), limit, newest)
    written = _trades(listed, trades)
    return f"[{','.join(reversed(written) if newest else written)}]".encode()


def _book(symbol: str, query: Mapping[str, str], view: View) -> bytes:
    listed = _listed(symbol, view)
    length = _number(query, "len", 25)
    if length not in _LENGTHS:
        raise _Refused("len: invalid")
    return f"[{_snapshot(listed, view.book(symbol), length)}]".encode()


def _last_ticker(symbol: str, query: Mapping[str, str], view: View) -> bytes:
    return _ticker(_listed(symbol, view), view.quote(symbol), 0).encode()


def _lists(keys: str, query: Mapping[str, str], view: View) -> bytes:
    """A list for each key asked for, empty for what there is nothing of."""
    listed = view.listings.values()
    names = {
        kind: [one.symbol.removeprefix("t") for one in listed if one.kind == kind] for kind in ("spot", "perpetual")
    }
    smallest = {one.symbol.removeprefix("t"): javascript(1, one.size_decimals) for one in listed}
    sizes: dict[str, list[Any]] = {
        kind: [
            [name, [None, None, None, smallest[name], "100000", None, None, None, 0.2, 0.1, None, None]] for name in own
        ]
        for kind, own in names.items()
    }
    lists: dict[str, list[Any]] = {
        "pub:list:pair:exchange": names["spot"],
        "pub:list:pair:futures": names["perpetual"],
        "pub:info:pair": sizes["spot"],
        "pub:info:pair:futures": sizes["perpetual"],
        "pub:list:currency": sorted({currency for one in listed for currency in (one.base, one.quote)}),
    }
    return msgspec.json.encode([lists.get(key, []) for key in keys.split(",")])


_ANSWERS: Final[dict[re.Pattern[str], Callable[[str, Mapping[str, str], View], bytes]]] = {
    _TRADES: _past_trades,
    _BOOK: _book,
    _TICKER: _last_ticker,
    _CONF: _lists,
}


def _trades(listed: Listing, trades: Trades) -> list[str]:
    price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
    columns = (trades.ids, trades.t_ns // 1_000_000, trades.sides, trades.sizes, trades.prices)
    return [
        f"[{number},{ms},{'-' if side else ''}{javascript(units, size_decimals)},{javascript(ticks, price_decimals)}]"
        for number, ms, side, units, ticks in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _ticker(listed: Listing, quotes: Quotes, row: int) -> str:
    """Bid, its size, ask, its size, the day's change, relative, last price, the day's volume, highest, lowest."""
    bid, ask, last = (
        javascript(int(column[row]), listed.price_decimals) for column in (quotes.bids, quotes.asks, quotes.last_prices)
    )
    bid_size, ask_size = (
        javascript(int(column[row]), listed.size_decimals) for column in (quotes.bid_sizes, quotes.ask_sizes)
    )
    return f"[{bid},{bid_size},{ask},{ask_size},0,0,{last},0,{last},{last}]"


def _level(listed: Listing, level: tuple[int, int], sign: str) -> str:
    ticks, units = level
    # How many orders there are is nobody's business but the exchange's.
    price, amount = javascript(ticks, listed.price_decimals), javascript(units, listed.size_decimals)
    return f"[{price},{1 + units % 5},{sign}{amount}]"


def _snapshot(listed: Listing, book: Book, length: int) -> str:
    bids, asks = book.levels(length)
    return ",".join([*(_level(listed, one, "") for one in bids), *(_level(listed, one, "-") for one in asks)])


def _checksum(listed: Listing, book: Book) -> bytes:
    """https://docs.bitfinex.com/docs/ws-websocket-checksum: both sides in turns, signed."""
    bids, asks = book.levels(_CHECKED)
    both = chain.from_iterable(zip_longest(_summed(listed, bids, ""), _summed(listed, asks, "-")))
    checksum = zlib.crc32(":".join(filter(None, both)).encode())
    return b'[0,"cs",%d]' % (checksum - 2**32 if checksum >= 2**31 else checksum)


def _summed(listed: Listing, side: Iterable[tuple[int, int]], sign: str) -> list[str]:
    price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
    return [f"{javascript(ticks, price_decimals)}:{sign}{javascript(units, size_decimals)}" for ticks, units in side]


def _status(mark: Mark) -> bytes:
    """See `actors.feeds.bitfinex.messages.DerivativeStatus` for the places."""
    values = [
        *(mark.t_ns // 1_000_000, None, mark.mark_price, mark.index_price, None, 1_396_531.67, None),
        *(mark.next_funding_ns // 1_000_000, mark.funding_rate, mark.next_funding_ns // 1_000_000 // _FUNDING_MS, None),
        *(mark.funding_rate, None, None, mark.mark_price, None, None, mark.open_interest),
        *(None, None, None, 0.0005, 0.0025),
    ]
    return b"[0,%b]" % msgspec.json.encode(values)


def _listed(symbol: str, view: View) -> Listing:
    if symbol not in view.listings:
        raise _Refused("symbol: invalid")
    return view.listings[symbol]


def _number(query: Mapping[str, str], name: str, usual_value: int) -> int:
    try:
        return whole(query[name]) if name in query else usual_value
    except ValueError:
        raise _Refused(f"{name}: invalid") from None
