"""What OKX trades: the names of its instruments and the lists it has of them.

BTC-USDT is a pair, BTC-USDT-SWAP a perpetual contract, BTC-USD-260327 a future and BTC-USD-260327-60000-C an option.
What stands before the second hyphen is the family; families of contracts settled in USD are called BTC-USD_UM.
Prices are in the quote currency and sizes in the base currency, of contracts in contracts: each is worth `ctVal` times
`ctMult` of `ctValCcy`. https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.feeds.feed import RestRequest
from actors.feeds.increments import increments
from actors.feeds.instruments import Kind, currency, instrument_name, instrument_table
from actors.feeds.texts import numbers

_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9_]{1,20}(-SWAP|-\d{6}(-\d{1,12}(\.\d{1,12})?-[CP])?)?", re.ASCII)
_KINDS: Final[dict[str, Kind]] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}
_OPTION_TYPES: Final = {"C": "call", "P": "put"}
_MILLISECONDS: Final = re.compile(r"\d{13}", re.ASCII)


def is_symbol(symbol: str) -> bool:
    return _SYMBOL.fullmatch(symbol) is not None


def kind_of(symbol: str) -> str:
    """OKX's word for the kind of an instrument: SPOT, SWAP, FUTURES or OPTION."""
    parts = symbol.split("-")
    if len(parts) == 2:
        return "SPOT"
    return "SWAP" if parts[2] == "SWAP" else ("FUTURES" if len(parts) == 3 else "OPTION")


def index_of(symbol: str) -> str:
    """The index an instrument follows: BTC-USD of BTC-USD-SWAP and of BTC-USD_UM-260327."""
    base, quote = symbol.split("-")[:2]
    return f"{base}-{quote.partition('_')[0]}"


def requests(symbols: Iterable[str]) -> list[RestRequest]:
    """What lists these symbols; options only come by their underlying."""
    lists = {f"{kind}&uly={index_of(symbol)}" if (kind := kind_of(symbol)) == "OPTION" else kind for symbol in symbols}
    return [RestRequest(f"/api/v5/public/instruments?instType={one}") for one in sorted(lists)]


class _Instrument(msgspec.Struct, gc=False, rename="camel"):
    """
    {"alias":"","baseCcy":"","category":"1","ctMult":"1","ctType":"inverse","ctVal":"100","ctValCcy":"USD",
    "expTime":"","instId":"BTC-USD-SWAP","instType":"SWAP","lever":"125","listTime":"1611916828000","lotSz":"1",
    "minSz":"1","optType":"","quoteCcy":"","settleCcy":"BTC","state":"live","stk":"","tickSz":"0.1","uly":"BTC-USD"}
    """

    inst_id: str
    inst_type: str
    base_ccy: str = ""
    quote_ccy: str = ""
    settle_ccy: str = ""
    ct_val: str = ""
    ct_mult: str = ""
    ct_val_ccy: str = ""
    ct_type: str = ""
    exp_time: str = ""
    opt_type: str = ""
    stk: str = ""
    lot_sz: str = ""
    tick_sz: str = ""
    uly: str = ""
    state: str = ""


class _Answer(msgspec.Struct, gc=False):
    """{"code":"0","data":[...],"msg":""}"""

    code: str
    msg: str = ""
    data: list[_Instrument] = []


_decode = msgspec.json.Decoder(_Answer).decode


def read(bodies: Sequence[bytes]) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when a body is unreadable or an error."""
    rows: dict[str, dict[str, Any]] = {}
    for body in bodies:
        try:
            answer = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not a list of instruments: {error}") from None
        if answer.code != "0":
            raise ValueError(f"{answer.msg[:300]} (code {answer.code[:20]})")
        rows |= {one.inst_id: _row(one) for one in answer.data if one.inst_type in _KINDS}
    return instrument_table(list(rows.values()))


def _row(one: _Instrument) -> dict[str, Any]:
    kind = _KINDS[one.inst_type]
    underlying = (one.uly or one.inst_id).split("-")
    pair = (one.base_ccy, one.quote_ccy) if kind == "spot" else (underlying[0], underlying[-1])
    base, quote = currency(pair[0]), currency(pair[1])
    (value, multiplier, strike), _ = numbers([one.ct_val, one.ct_mult or "1", one.stk])
    terms: dict[str, Any] = {}
    # Where a perpetual contract or a pair has a time, it is when it will be delisted.
    if kind in ("future", "option") and _MILLISECONDS.fullmatch(one.exp_time):
        terms["expiry"] = int(one.exp_time) * 1_000_000
    if kind == "option" and strike > 0 and one.opt_type in _OPTION_TYPES:
        terms |= {"strike": strike, "option_type": _OPTION_TYPES[one.opt_type]}
    elif kind == "option":
        kind = "other"
    # Options settled in the coin they are on have no `ctType`.
    inverse = one.ct_type == "inverse" or (kind == "option" and currency(one.settle_ccy) == base)
    return {
        "symbol": one.inst_id,
        "instrument": instrument_name(kind, base, quote, inverse=inverse, **terms),
        "kind": kind,
        "base": base,
        "quote": quote,
        "settle": currency(one.settle_ccy) or None,
        "contract_size": value * multiplier if value * multiplier > 0 else None,
        "contract_currency": currency(one.ct_val_ccy) or None,
        "inverse": inverse,
        "active": one.state == "live",
        **terms,
        **increments(one.tick_sz, one.lot_sz),
    }
