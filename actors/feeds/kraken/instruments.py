"""The list of what Kraken trades."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from actors.feeds.increments import increments
from actors.feeds.instruments import instrument_name, instrument_table

#: What the first protocol and the list of pairs call these currencies; the second calls them as everybody does.
_USUAL: Final = {"XBT": "BTC", "XDG": "DOGE"}


class _Pair(msgspec.Struct, gc=False):
    """ "XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD","pair_decimals":1,
    "lot_decimals":8,...}; newer ones have "tick_size":"0.1" and "status":"online". Without `wsname` (dark pools) there
    is no stream. (https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs)"""

    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    tick_size: str = ""
    status: str = "online"


class _Answer(msgspec.Struct):
    result: dict[str, _Pair] = {}
    error: list[str] = []


_decode = msgspec.json.Decoder(_Answer).decode


def read_pairs(body: bytes) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when the body is something else. A pair the two
    protocols call differently is there under both names."""
    try:
        answer = _decode(body)
    except RecursionError as too_deep:
        raise ValueError(str(too_deep)) from None
    if answer.error:
        raise ValueError("; ".join(answer.error))
    return instrument_table([row for pair in answer.result.values() for row in _rows(pair)])


def _rows(pair: _Pair) -> Iterator[dict[str, Any]]:
    base, slash, quote = pair.wsname.partition("/")
    if not slash:
        return
    base, quote = _USUAL.get(base, base), _USUAL.get(quote, quote)
    for symbol in dict.fromkeys((f"{base}/{quote}", pair.wsname)):
        yield {
            "symbol": symbol,
            "instrument": instrument_name("spot", base, quote),
            "kind": "spot",
            "base": base,
            "quote": quote,
            "active": pair.status == "online",
            **increments(pair.tick_size or f"1e-{pair.pair_decimals}", f"1e-{pair.lot_decimals}"),
            # A tick may be wider than the last digit, which is what prices are written with.
            "price_decimals": pair.pair_decimals,
        }
