"""The instruments Bitfinex lists: https://docs.bitfinex.com/reference/rest-public-conf.

It lists names (and how large an order may be), no steps: prices have five significant digits whatever their size, so
neither prices nor sizes have a fixed number of decimals, and those columns are null. Contracts are perpetual, count
coins of their base and are settled in their quote.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.feeds.feed import RestRequest
from actors.feeds.instruments import currency, instrument_name, instrument_table

#: tBTCUSD, tAVAX:USD, tBTCF0:USTF0. What begins with f is lending, which is not collected.
_SYMBOL: Final = re.compile(r"t(?:[A-Z0-9]{6}|[A-Z0-9]{2,20}:[A-Z0-9]{2,20})", re.ASCII)
_PAIR: Final = re.compile(_SYMBOL.pattern.removeprefix("t"), re.ASCII)
#: Both sides of a contract end in it.
_CONTRACT: Final = "F0"

#: What the exchange has names of its own for: its list pub:map:currency:sym, and BCHN.
_CURRENCIES: Final = {
    "ALG": "ALGO", "AMP": "AMPL", "ATO": "ATOM", "BCHN": "BCH", "CTX": "CTXC", "DAT": "DATA", "DOG": "MDOGE",
    "DSH": "DASH", "EDO": "PNT", "EUS": "EURS", "EUT": "EURT", "GSD": "GUSD", "IOS": "IOST", "IOT": "IOTA",
    "LBT": "LBTC", "MNA": "MANA", "NCA": "NCASH", "OMN": "OMNI", "POY": "POLY", "QSH": "QASH", "QTM": "QTUM",
    "RBT": "RBTC", "SNG": "SNGLS", "SPK": "SPANK", "STJ": "STORJ", "TSD": "TUSD", "UDC": "USDC", "UST": "USDT",
    "VSY": "VSYS", "WBT": "WBTC", "YYW": "YOYOW",
}  # fmt: skip

_decode: Final = msgspec.json.Decoder(list[list[str]]).decode


def is_symbol(symbol: str) -> bool:
    """Whether Bitfinex can have an instrument of this name."""
    return _SYMBOL.fullmatch(symbol) is not None


def is_contract(symbol: str) -> bool:
    base, _, quote = symbol.partition(":")
    return base.endswith(_CONTRACT) and quote.endswith(_CONTRACT)


def requests(symbols: Sequence[str]) -> list[RestRequest]:
    """The list of pairs, and that of contracts where some are wanted."""
    pairs = RestRequest("/v2/conf/pub:list:pair:exchange")
    return [pairs, RestRequest("/v2/conf/pub:list:pair:futures")] if any(map(is_contract, symbols)) else [pairs]


def read(bodies: Sequence[bytes]) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when a body is no list of pairs.

    [["AAABBB","AAVE:USD","AAVE:UST","ADABTC","ADAUSD",...,"ZRXUSD"]], [["ADAF0:USTF0","ALGF0:USTF0",...,"XRPF0:USTF0"]]
    """
    names: dict[str, None] = {}
    for body in bodies:
        try:
            lists = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # ["error",10020,"..."]
            raise ValueError(f"bitfinex's list of pairs is unreadable: {error}: {body[:100]!r}") from None
        names |= dict.fromkeys(name for some in lists for name in some)
    for name in names:
        if _PAIR.fullmatch(name) is None:
            raise ValueError(f"bitfinex lists {name[:100]!r}, which is no pair")
    return instrument_table([_row(name) for name in names])


def _row(name: str) -> dict[str, Any]:
    base, colon, quote = name.partition(":")
    if not colon:
        base, quote = name[:3], name[3:]
    contract = is_contract(name)
    base, quote = _usual(base, contract), _usual(quote, contract)
    kind = "perpetual" if contract else "spot"
    contract_columns = {"settle": quote, "contract_size": 1.0, "contract_currency": base}
    return {
        "symbol": f"t{name}",
        "instrument": instrument_name("perpetual" if contract else "spot", base, quote),
        "kind": kind,
        "base": base,
        "quote": quote,
        **(contract_columns if contract else {}),
    }


def _usual(name: str, contract: bool) -> str:
    own = name.removesuffix(_CONTRACT) if contract else name
    return currency(_CURRENCIES.get(own, own))
