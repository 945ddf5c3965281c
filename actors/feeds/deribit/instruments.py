"""The instruments Deribit lists: https://docs.deribit.com/api-reference/market-data/public-get_instruments.

Units. Trades and books have amounts as the exchange says them, so one unit of size is 1 USD for inverse perpetuals
and futures, and one coin for options, linear contracts and spot; `contract_size` is 1 of `contract_currency`. What
Deribit calls the contract size is the step of the amounts of futures, which is `size_increment` here. An option that
is settled in its coin is quoted in it too; its name has the currency of its strike (BTC-USD-20260925-60000-C).
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa

from actors.feeds.deribit.messages import RpcError
from actors.feeds.feed import RestRequest
from actors.feeds.increments import increments
from actors.feeds.instruments import Kind, instrument_name, instrument_table

#: BTC-PERPETUAL, BTC-27MAR26, BTC-27MAR26-60000-C, SOL_USDC-PERPETUAL, XRP_USDC-27MAR26-0d5-C, BTC_USDC (spot).
_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,16}(_[A-Z0-9]{2,16})?(-[A-Za-z0-9_]{1,40}){0,5}", re.ASCII)

#: Spot is listed under its quote, and under its base where that settles contracts too.
_SETTLING: Final = frozenset({"BTC", "ETH", "USDC", "USDT"})

#: Each list costs 10,000 credits of a pool that refills 10,000 a second; other requests cost 500.
_LIST_WEIGHT: Final = 20

#: What Deribit answers for a currency it does not know, https://docs.deribit.com/articles/errors.
_INVALID_PARAMS: Final = -32602

#: Perpetuals "expire" in the year 3000, which nanoseconds in 64 bits cannot say.
_LAST_EXPIRY_MS: Final = 9_000_000_000_000


class Instrument(msgspec.Struct, gc=False, kw_only=True):
    """
    {"tick_size":0.0005,"taker_commission":0.0003,"strike":40000.0,"settlement_period":"month","quote_currency":"BTC",
     "option_type":"put","min_trade_amount":0.1,"maker_commission":0.0003,"kind":"option","is_active":true,
     "instrument_name":"BTC-24SEP21-40000-P","expiration_timestamp":1632470400000,"creation_timestamp":1606129458000,
     "contract_size":1.0,"block_trade_commission":0.00015,"base_currency":"BTC"}

    Since 2022 with the settlement currency, and the counter currency an option's strike is in:

    {"tick_size":0.01,"taker_commission":0.0005,"settlement_period":"perpetual","settlement_currency":"SOL",
     "rfq":false,"quote_currency":"USD","price_index":"sol_usd","min_trade_amount":10.0,
     "max_liquidation_commission":0.009,"max_leverage":25,"maker_commission":-0.0002,"kind":"future","is_active":true,
     "instrument_name":"SOL-PERPETUAL","instrument_id":215830,"future_type":"reversed",
     "expiration_timestamp":32503708800000,"creation_timestamp":1651219567000,"counter_currency":"USD",
     "contract_size":10.0,"block_trade_commission":0.0001,"base_currency":"SOL"}
    """

    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    settlement_currency: str = ""
    counter_currency: str = ""
    settlement_period: str = ""
    tick_size: msgspec.Raw
    min_trade_amount: msgspec.Raw
    expiration_timestamp: int | None = None
    strike: float | None = None
    option_type: Literal["call", "put"] | None = None
    is_active: bool = True


class _Answer(msgspec.Struct, gc=False):
    result: list[Instrument] | None = None
    error: RpcError | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def is_symbol(symbol: str) -> bool:
    """Whether Deribit can have an instrument of this name."""
    return _SYMBOL.fullmatch(symbol) is not None and ("-" in symbol or "_" in symbol)


def is_spot(symbol: str) -> bool:
    return "-" not in symbol


def requests(symbols: Sequence[str]) -> list[RestRequest]:
    """The lists these symbols can be in: one for each currency contracts are settled in."""
    currencies: dict[str, None] = {}
    for symbol in symbols:
        base, _, quote = symbol.partition("-")[0].partition("_")
        currencies[quote or base] = None
        if is_spot(symbol) and base in _SETTLING:
            currencies[base] = None
    return [
        RestRequest(f"/api/v2/public/get_instruments?currency={currency}&expired=false", _LIST_WEIGHT)
        for currency in currencies
    ]


def read(bodies: Sequence[bytes]) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when a body is no list of instruments. A currency
    Deribit does not have has none, which says nothing against the lists of the others."""
    rows: dict[str, dict[str, Any]] = {}
    unknown = 0
    for body in bodies:
        try:
            answer = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"deribit's list of instruments is unreadable: {error}") from None
        if answer.error is not None and answer.error.code == _INVALID_PARAMS and unknown + 1 < len(bodies):
            unknown += 1
            continue
        if answer.error is not None:
            raise ValueError(f"deribit refuses its list of instruments: {answer.error.reason}")
        if answer.result is None:
            raise ValueError("deribit's list of instruments is missing")
        rows |= {one.instrument_name: _row(one) for one in answer.result}
    return instrument_table(list(rows.values()))


def _row(one: Instrument) -> dict[str, Any]:
    kind = _kind(one)
    base, quote = one.base_currency, one.quote_currency
    # In 2021 everything was settled in its coin.
    settle = None if kind == "spot" else one.settlement_currency or base
    inverse = settle == base
    expires = one.expiration_timestamp
    expiry = expires * 1_000_000 if expires is not None and 0 < expires < _LAST_EXPIRY_MS else None
    counter = one.counter_currency or ("USD" if quote == base else quote)
    contracts = {"contract_size": 1.0, "contract_currency": quote if inverse and kind != "option" else base}
    return {
        "symbol": one.instrument_name,
        # Combinations of contracts have no name but the exchange's.
        "instrument": one.instrument_name
        if kind == "other"
        else instrument_name(
            kind,
            base,
            counter if kind == "option" else quote,
            inverse=inverse,
            expiry=expiry,
            strike=one.strike,
            option_type=one.option_type,
        ),
        "kind": kind,
        "base": base,
        "quote": quote,
        "settle": settle,
        **increments(
            bytes(one.tick_size).decode(errors="replace"), bytes(one.min_trade_amount).decode(errors="replace")
        ),
        **({} if kind == "spot" else contracts),
        "inverse": inverse,
        "expiry": expiry,
        "strike": one.strike,
        "option_type": one.option_type,
        "active": one.is_active,
    }


def _kind(one: Instrument) -> Kind:
    if one.kind == "future":
        return "perpetual" if one.settlement_period == "perpetual" else "future"
    if one.kind == "option" and one.strike is not None:
        return "option"
    return "spot" if one.kind == "spot" else "other"


def _text(number: msgspec.Raw) -> str:
    return bytes(number).decode(errors="replace")
