"""What Bybit trades in its two categories, spot and linear contracts (settled in USDT or USDC).

The same name means different things in different categories, so a symbol is named with its category here:
spot:BTCUSDT, linear:BTCUSDT, linear:BTC-25DEC26. Sizes and open interest are in the base currency.
https://bybit-exchange.github.io/docs/v5/market/instrument
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.feeds.feed import RestRequest
from actors.feeds.increments import increments
from actors.feeds.instruments import Kind, currency, instrument_name, instrument_table

CATEGORIES: Final = ("spot", "linear")
#: Short enough for the topics of all symbols of one connection to stay within the exchange's limit.
_SYMBOL: Final = re.compile(r"(?:spot|linear):[A-Z0-9][A-Z0-9-]{1,23}", re.ASCII)
_MILLISECONDS: Final = re.compile(r"\d{13}", re.ASCII)
_KINDS: Final[dict[str, Kind]] = {"LinearPerpetual": "perpetual", "LinearFutures": "future"}


def is_symbol(symbol: str) -> bool:
    return _SYMBOL.fullmatch(symbol) is not None


def requests(symbols: Iterable[str]) -> list[RestRequest]:
    """What lists these symbols. A thousand is the most the exchange lists at once; it trades fewer."""
    categories = {symbol.partition(":")[0] for symbol in symbols}
    path = "/v5/market/instruments-info?category={}&limit=1000"
    return [RestRequest(path.format(category)) for category in CATEGORIES if category in categories]


class _PriceFilter(msgspec.Struct, gc=False, rename="camel"):
    tick_size: str = ""


class _LotSizeFilter(msgspec.Struct, gc=False, rename="camel"):
    """Contracts have a step, pairs a precision."""

    qty_step: str = ""
    base_precision: str = ""


class _Instrument(msgspec.Struct, gc=False, rename="camel"):
    """
    {"symbol":"BTCUSDT","contractType":"LinearPerpetual","status":"Trading","baseCoin":"BTC","quoteCoin":"USDT",
    "launchTime":"1584230400000","deliveryTime":"0","deliveryFeeRate":"","priceScale":"2","leverageFilter":{...},
    "priceFilter":{"minPrice":"0.10","maxPrice":"1999999.80","tickSize":"0.10"},"lotSizeFilter":{
    "maxOrderQty":"1190.000","minOrderQty":"0.001","qtyStep":"0.001",...},"settleCoin":"USDT",...}

    {"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","innovation":"0","status":"Trading","marginTrading":
    "utaOnly","lotSizeFilter":{"basePrecision":"0.000001","quotePrecision":"0.0000001","minOrderQty":"0.000011",...},
    "priceFilter":{"tickSize":"0.01"},...}
    """

    symbol: str
    status: str
    base_coin: str
    quote_coin: str
    settle_coin: str = ""
    contract_type: str = ""
    delivery_time: str = ""
    price_filter: _PriceFilter = msgspec.field(default_factory=_PriceFilter)
    lot_size_filter: _LotSizeFilter = msgspec.field(default_factory=_LotSizeFilter)


class _Result(msgspec.Struct, gc=False):
    category: str = ""
    instruments: list[_Instrument] = msgspec.field(name="list", default_factory=list)


class _Answer(msgspec.Struct, gc=False, rename="camel"):
    """{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[...],"nextPageCursor":""},"time":1672712495660}"""

    ret_code: int
    ret_msg: str = ""
    result: _Result = msgspec.field(default_factory=_Result)


_decode = msgspec.json.Decoder(_Answer).decode


def read(bodies: Sequence[bytes]) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when a body is unreadable or an error."""
    rows: dict[str, dict[str, Any]] = {}
    for body in bodies:
        try:
            answer = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not a list of instruments: {error}") from None
        if answer.ret_code != 0:
            raise ValueError(f"{answer.ret_msg[:300]} (code {answer.ret_code})")
        if answer.result.category not in CATEGORIES:
            raise ValueError(f"not a category of ours: {answer.result.category[:20]!r}")
        for one in answer.result.instruments:
            row = _row(answer.result.category, one)
            rows[row["symbol"]] = row
    return instrument_table(list(rows.values()))


def _row(category: str, one: _Instrument) -> dict[str, Any]:
    base, quote = currency(one.base_coin), currency(one.quote_coin)
    kind: Kind = "spot" if category == "spot" else _KINDS.get(one.contract_type, "other")
    expiry = None
    if kind == "future" and _MILLISECONDS.fullmatch(one.delivery_time):
        expiry = int(one.delivery_time) * 1_000_000
    contract = {"contract_size": 1.0, "contract_currency": base, "settle": currency(one.settle_coin) or None}
    lot = one.lot_size_filter
    return {
        "symbol": f"{category}:{one.symbol}",
        "instrument": instrument_name(kind, base, quote, expiry=expiry),
        "kind": kind,
        "base": base,
        "quote": quote,
        "expiry": expiry,
        "active": one.status == "Trading",
        **(contract if category == "linear" else {}),
        **increments(one.price_filter.tick_size, lot.qty_step or lot.base_precision),
    }
