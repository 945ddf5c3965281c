"""Deribit v2 as it writes a made-up market: JSON-RPC notifications, and the public methods over HTTP.

https://docs.deribit.com. Amounts of inverse contracts are USD, of everything else coins. Numbers are written as the
exchange writes them, so that large round ones have exponents. There are perpetuals and spot. The quotes of a perpetual
come with its mark, in one ticker.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import msgspec

from actors.simulator.dialect import Book, Change, Dialect, Kind, Listing, Mark, Quotes, Reply, Trades, View
from actors.simulator.dialects.decimals import erlang, fixed, whole
from actors.simulator.market import usual
from actors.simulator.session import Stream

#: BTC-PERPETUAL (settled in its coin), SOL_USDC-PERPETUAL, BTC_USDC (spot).
_SYMBOL: Final = re.compile(r"([A-Z0-9]{2,16})(?:_([A-Z0-9]{2,16}))?(-PERPETUAL)?", re.ASCII)
#: What `get_instruments` can be asked for, apart from what is listed.
_CURRENCIES: Final = ("BTC", "ETH", "SOL", "USDC", "USDT", "EURR")
_KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo")
_METHODS: Final = "/api/v2/public/"
#: Perpetuals end in the year 3000.
_NEVER_MS: Final = 32_503_708_800_000
_USUAL_COUNT: Final = 10
_MOST_TRADES: Final = 1000
_DEPTHS: Final = (1, 5, 10, 20, 50, 100, 1000, 10000)
_LAST: Final = 2**63 - 1
#: Weight of a list of instruments: 10,000 credits, where other requests take 500.
_LIST_WEIGHT: Final = 20


class _Refused(Exception):
    """A JSON-RPC error: code, message and what it is about."""

    def __init__(self, code: int, message: str, param: str = "", reason: str = "") -> None:
        data = {"data": {"reason": reason, "param": param}} if param else {}
        self.error: dict[str, Any] = {"message": message, **data, "code": code}


@dataclass(slots=True)
class DeribitDialect(Dialect):
    """See `Dialect`."""

    exchange: ClassVar[str] = "deribit"
    depth: ClassVar[int] = 100
    cuts: ClassVar[bool] = False
    path: ClassVar[str] = "/ws/api/v2"
    weight_per_minute: ClassVar[int] = 1_200
    overrun: ClassVar[bytes] = b'{"jsonrpc":"2.0","error":{"message":"too_many_requests","code":10028}}'

    @classmethod
    def listing(cls, symbol: str) -> Listing:
        name = _SYMBOL.fullmatch(symbol)
        if name is None or not (name[2] or name[3]):
            raise ValueError(
                f"the simulated deribit cannot have the symbol {symbol[:100]!r}: its names are like BTC-PERPETUAL, "
                "SOL_USDC-PERPETUAL and BTC_USDC"
            )
        listed = usual(symbol, name[1], name[2] or "USD", "perpetual" if name[3] else "spot")
        # An amount of an inverse contract is in USD.
        return listed if name[2] else replace(listed, size=listed.size * listed.price, size_decimals=0)

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        match kind:
            case "trades" | "book":
                return Stream(kind, symbol)
            case _ if (kind == "derivatives") == _is_perpetual(self.listings[symbol]):
                return Stream("ticker", symbol)
            case _:
                return None

    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        head, written = _head("trades", symbol), self._trades(symbol, trades)
        return [f"{head}[{trade}]}}}}".encode() for trade in written]

    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        listed = self.listings[symbol]
        if _is_perpetual(listed):
            return []
        return [_notification("ticker", symbol, _spot_ticker(listed, quotes, row)) for row in range(len(quotes))]

    def change(self, symbol: str, change: Change) -> list[bytes]:
        before, after = change.before, change.after
        listed = self.listings[symbol]
        bids, asks = (
            _changed(listed, dict(old), levels)
            for old, levels in zip(before.levels(self.depth), change.levels, strict=True)
        )
        return [
            _notification(
                "book",
                symbol,
                f'{{"timestamp":{after.t_ns // 1_000_000},"type":"change","change_id":{after.update_id},'
                f'"instrument_name":"{symbol}","bids":[{bids}],"asks":[{asks}],'
                f'"prev_change_id":{before.update_id}}}',
            )
        ]

    def derivatives(self, symbol: str, mark: Mark, quotes: Quotes) -> list[bytes]:
        return [_notification("ticker", symbol, _ticker(self.listings[symbol], mark, quotes))]

    def opening(self, stream: Stream, view: View) -> list[bytes]:
        listed = view.listings.get(stream.symbol)
        if listed is None:
            return []
        match stream.channel:
            case "book":
                return [_notification("book", stream.symbol, self._snapshot(listed, view.book(stream.symbol)))]
            case "ticker":
                return [_notification("ticker", stream.symbol, _newest_ticker(listed, view))]
            case _:
                return []

    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        now = view.now_ns // 1000
        times = f'"usIn":{now},"usOut":{now},"usDiff":0,"testnet":false}}'.encode()
        method = _ANSWERS.get(path.removeprefix(_METHODS)) if path.startswith(_METHODS) else None
        try:
            if method is None:
                raise _Refused(-32601, "Method not found")
            return Reply(b'{"jsonrpc":"2.0","result":%b,%b' % (method(self, query, view), times))
        except _Refused as refused:
            return Reply(b'{"jsonrpc":"2.0","error":%b,%b' % (msgspec.json.encode(refused.error), times), 400)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return _LIST_WEIGHT if path.endswith("/get_instruments") else 1

    def notice(self, kind: Literal["reconnect", "maintenance", "resumed"]) -> bytes | None:
        if kind == "reconnect":
            return None
        state = "true" if kind == "maintenance" else "false"
        return (
            '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"platform_state",'
            f'"data":{{"maintenance":{state}}}}}}}'
        ).encode()

    def _trades(self, symbol: str, trades: Trades) -> list[str]:
        listed = self.listings[symbol]
        price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
        # Ids of trades count over all instruments of a currency; prices of index and mark are not made that often.
        number = zlib.crc32(symbol.encode()) % 100_000
        family = "" if symbol.startswith("BTC-") else f"{symbol.partition('-')[0]}-"
        columns = (trades.t_ns // 1_000_000, trades.ids, trades.prices, trades.sizes, trades.sides)
        return [
            f'{{"timestamp":{ms},"price":{(price := erlang(ticks, price_decimals))},'
            f'"amount":{erlang(units, size_decimals)},"direction":"{"sell" if side else "buy"}","index_price":{price},'
            f'"instrument_name":"{symbol}","trade_seq":{seq},"mark_price":{price},"tick_direction":{3 if side else 1},'
            f'"trade_id":"{family}{seq}{number:05d}","contracts":{erlang(units, 0)}}}'
            for ms, seq, ticks, units, side in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _snapshot(self, listed: Listing, book: Book) -> str:
        bids, asks = (_levels(listed, side, '"new",') for side in book.levels(self.depth))
        return (
            f'{{"timestamp":{book.t_ns // 1_000_000},"type":"snapshot","change_id":{book.update_id},'
            f'"instrument_name":"{listed.symbol}","bids":[{bids}],"asks":[{asks}]}}'
        )

    def _last_trades(self, query: Mapping[str, str], view: View) -> bytes:
        """By sequence, or by time where only that is given; what comes next goes on after or before the last."""
        symbol = _instrument(query, view).symbol
        count = _number(query, "count", _USUAL_COUNT, 1, _MOST_TRADES)
        sorting = query.get("sorting", "default")
        if sorting not in ("asc", "desc", "default"):
            raise _Refused(-32602, "Invalid params", "sorting", "value not valid")
        newest = sorting != "asc"
        if "start_seq" in query or "end_seq" in query:
            bounds = _number(query, "start_seq", 0), _number(query, "end_seq", _LAST)
            trades = view.by_id(symbol, *bounds, count + 1, newest)
        else:
            start, end = _number(query, "start_timestamp", 0), _number(query, "end_timestamp", view.now_ns // 1_000_000)
            times = start * 1_000_000, min(end * 1_000_000 + 999_999, _LAST)
            trades = view.by_time(symbol, min(times[0], _LAST), times[1], count + 1, newest)
        written = self._trades(symbol, trades)
        more = len(written) > count
        found = written[:-1] if more and not newest else written[1:] if more else written
        return (
            f'{{"trades":[{",".join(reversed(found) if newest else found)}],"has_more":{"true" if more else "false"}}}'
        ).encode()

    def _order_book(self, query: Mapping[str, str], view: View) -> bytes:
        listed = _instrument(query, view)
        depth = _number(query, "depth", 5)
        if depth not in _DEPTHS:
            raise _Refused(-32602, "Invalid params", "depth", "value not valid")
        book = view.book(listed.symbol)
        bids, asks = (_levels(listed, side) for side in book.levels(min(depth, self.depth)))
        ticker = _newest_ticker(listed, view).removesuffix("}")
        return f'{ticker},"change_id":{book.update_id},"bids":[{bids}],"asks":[{asks}]}}'.encode()

    def _instruments(self, query: Mapping[str, str], view: View) -> bytes:
        asked, kind = query.get("currency", "any"), query.get("kind", "any")
        known = {"any", *_CURRENCIES, *(name for one in view.listings.values() for name in _currencies(one))}
        if asked not in known:
            raise _Refused(-32602, "Invalid params", "currency", "wrong currency")
        if kind not in ("any", *_KINDS):
            raise _Refused(-32602, "Invalid params", "kind", "value not valid")
        rows = [_instrument_row(one) for one in view.listings.values() if asked in ("any", *_currencies(one))]
        wanted = [row for row in rows if kind in ("any", row["kind"])]
        return msgspec.json.encode(wanted if query.get("expired", "false") == "false" else [])

    def _currencies(self, query: Mapping[str, str], view: View) -> bytes:
        names = dict.fromkeys([*_CURRENCIES, *(name for one in view.listings.values() for name in _currencies(one))])
        fees = {"withdrawal_fee": 0.0001, "min_withdrawal_fee": 0.0001, "min_confirmations": 1, "fee_precision": 4}
        return msgspec.json.encode(
            [
                {"currency": name, "currency_long": name, "coin_type": name, "withdrawal_priorities": []} | fees
                for name in names
            ]
        )

    def _one_ticker(self, query: Mapping[str, str], view: View) -> bytes:
        return _newest_ticker(_instrument(query, view), view).encode()

    def _instrument_details(self, query: Mapping[str, str], view: View) -> bytes:
        return msgspec.json.encode(_instrument_row(_instrument(query, view)))

    def _time(self, query: Mapping[str, str], view: View) -> bytes:
        return b"%d" % (view.now_ns // 1_000_000)

    def _test(self, query: Mapping[str, str], view: View) -> bytes:
        return b'{"version":"1.2.26"}'


_ANSWERS: Final[dict[str, Callable[[DeribitDialect, Mapping[str, str], View], bytes]]] = {
    "get_currencies": DeribitDialect._currencies,
    "get_instrument": DeribitDialect._instrument_details,
    "get_instruments": DeribitDialect._instruments,
    "get_last_trades_by_instrument": DeribitDialect._last_trades,
    "get_last_trades_by_instrument_and_time": DeribitDialect._last_trades,
    "get_order_book": DeribitDialect._order_book,
    "get_time": DeribitDialect._time,
    "test": DeribitDialect._test,
    "ticker": DeribitDialect._one_ticker,
}


def _is_perpetual(listed: Listing) -> bool:
    return listed.kind == "perpetual"


def _head(kind: str, symbol: str) -> str:
    return f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{kind}.{symbol}.100ms","data":'


def _notification(kind: str, symbol: str, data: str) -> bytes:
    return f"{_head(kind, symbol)}{data}}}}}".encode()


def _levels(listed: Listing, side: Sequence[tuple[int, int]], action: str = "") -> str:
    return ",".join(
        f"[{action}{erlang(ticks, listed.price_decimals)},{erlang(units, listed.size_decimals)}]"
        for ticks, units in side
    )


def _changed(listed: Listing, before: Mapping[int, int], levels: Sequence[tuple[int, int]]) -> str:
    price_decimals, size_decimals = listed.price_decimals, listed.size_decimals
    return ",".join(
        f'["{"change" if ticks in before else "new"}",{erlang(ticks, price_decimals)},{erlang(units, size_decimals)}]'
        if units
        else f'["delete",{erlang(ticks, price_decimals)},0.0]'
        for ticks, units in levels
    )


def _newest_ticker(listed: Listing, view: View) -> str:
    quote = view.quote(listed.symbol)
    return _ticker(listed, view.mark(listed.symbol), quote) if _is_perpetual(listed) else _spot_ticker(listed, quote, 0)


def _ticker(listed: Listing, mark: Mark, quotes: Quotes) -> str:
    last, bid, bid_size, ask, ask_size = _quoted(listed, quotes, 0)
    least, most = (
        fixed(int(quotes.bids[0]) // 2, listed.price_decimals),
        fixed(int(quotes.asks[0]) * 2, listed.price_decimals),
    )
    return (
        f'{{"timestamp":{mark.t_ns // 1_000_000},"state":"open","stats":{_stats(last)},'
        f'"index_price":{mark.index_price},"instrument_name":"{listed.symbol}","last_price":{last},'
        f'"settlement_price":{mark.index_price},"min_price":{least},"max_price":{most},'
        f'"open_interest":{mark.open_interest},"mark_price":{mark.mark_price},'
        f'"interest_value":{mark.funding_rate},"current_funding":{mark.funding_rate},'
        f'"estimated_delivery_price":{mark.index_price},"funding_8h":{mark.funding_rate},"best_ask_price":{ask},'
        f'"best_bid_price":{bid},"best_ask_amount":{ask_size},"best_bid_amount":{bid_size}}}'
    )


def _spot_ticker(listed: Listing, quotes: Quotes, row: int) -> str:
    last, bid, bid_size, ask, ask_size = _quoted(listed, quotes, row)
    return (
        f'{{"timestamp":{int(quotes.t_ns[row]) // 1_000_000},"state":"open","stats":{_stats(last)},'
        f'"index_price":{last},"instrument_name":"{listed.symbol}","last_price":{last},"settlement_price":{last},'
        f'"min_price":{bid},"max_price":{ask},"mark_price":{last},"estimated_delivery_price":{last},'
        f'"best_ask_price":{ask},"best_bid_price":{bid},"best_ask_amount":{ask_size},"best_bid_amount":{bid_size}}}'
    )


def _stats(last: str) -> str:
    return f'{{"high":{last},"low":{last},"price_change":0.0,"volume":0.0,"volume_usd":0.0,"volume_notional":0.0}}'


def _quoted(listed: Listing, quotes: Quotes, row: int) -> tuple[str, str, str, str, str]:
    """Last price, bid and its size, ask and its size."""
    prices = (quotes.last_prices, quotes.bids, quotes.asks)
    last, bid, ask = (erlang(int(column[row]), listed.price_decimals) for column in prices)
    bid_size, ask_size = (
        erlang(int(column[row]), listed.size_decimals) for column in (quotes.bid_sizes, quotes.ask_sizes)
    )
    return last, bid, bid_size, ask, ask_size


def _pair(listed: Listing) -> tuple[str, str]:
    """Base and quote as the exchange calls them."""
    base, _, quote = listed.symbol.removesuffix("-PERPETUAL").partition("_")
    return base, quote


def _currencies(listed: Listing) -> tuple[str, ...]:
    """Under which an instrument is listed: what settles it, and spot under both."""
    base, quote = _pair(listed)
    return (quote or base,) if _is_perpetual(listed) else (base, quote)


def _instrument_row(listed: Listing) -> dict[str, Any]:
    base, quote = _pair(listed)
    step = float(fixed(1, listed.size_decimals))
    row = {
        "tick_size": float(fixed(1, listed.price_decimals)),
        "tick_size_steps": [],
        "taker_commission": 0.0005,
        "maker_commission": 0.0,
        "rfq": False,
        "quote_currency": quote or "USD",
        "counter_currency": quote or "USD",
        "price_index": f"{base}_{quote or 'USD'}".lower(),
        "min_trade_amount": step,
        "kind": "spot",
        "is_active": True,
        "state": "open",
        "instrument_name": listed.symbol,
        "instrument_id": zlib.crc32(listed.symbol.encode()),
        "expiration_timestamp": _NEVER_MS,
        "creation_timestamp": 1_534_167_754_000,
        "contract_size": step,
        "block_trade_commission": 0.0003,
        "base_currency": base,
    }
    if not _is_perpetual(listed):
        return row
    return row | {
        "kind": "future",
        "settlement_period": "perpetual",
        "settlement_currency": quote or base,
        "future_type": "linear" if quote else "reversed",
        "instrument_type": "linear" if quote else "reversed",
        "max_leverage": 50,
        "max_liquidation_commission": 0.0075,
    }


def _instrument(query: Mapping[str, str], view: View) -> Listing:
    name = query.get("instrument_name")
    if not name:
        raise _Refused(-32602, "Invalid params", "instrument_name", "instrument_name is required")
    listed = view.listings.get(name)
    if listed is None:
        raise _Refused(13020, "instrument_not_found")
    return listed


def _number(query: Mapping[str, str], name: str, usual_value: int, least: int = 0, most: int = _LAST) -> int:
    try:
        value = whole(query[name]) if name in query else usual_value
    except ValueError:
        raise _Refused(-32602, "Invalid params", name, "value must be an integer") from None
    if not least <= value <= most:
        raise _Refused(-32602, "Invalid params", name, f"value too {'small' if value < least else 'large'}")
    return value
