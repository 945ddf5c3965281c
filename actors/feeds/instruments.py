"""Normalised names of instruments: the same thing is called the same on every exchange.

Spot is BASE-QUOTE (BTC-USDT); an inverse perpetual BASE-PERPETUAL (BTC-PERPETUAL), a linear one
BASE-QUOTE-PERPETUAL; futures end in their expiry (BTC-USD-20261225), options in expiry, strike and C or P
(BTC-USD-20261225-60000-C).
"""

from datetime import UTC, datetime
from typing import Any, Final, Literal

import pyarrow as pa

from storage.schema import INSTRUMENTS

Kind = Literal["spot", "perpetual", "future", "option", "other"]

#: Names that mean the same currency wherever they are used.
_CURRENCIES: Final = {"XBT": "BTC", "XDG": "DOGE"}


def currency(name: str) -> str:
    """The usual name of a currency an exchange may call by one of its own."""
    return _CURRENCIES.get(name.upper(), name.upper())


def instrument_name(
    kind: Kind,
    base: str,
    quote: str,
    *,
    inverse: bool = False,
    expiry: int | None = None,
    strike: float | None = None,
    option_type: str | None = None,
) -> str:
    """The normalised name; `expiry` in ns UTC. Names of kind `other` are BASE-QUOTE too."""
    if kind == "perpetual":
        return f"{base}-PERPETUAL" if inverse else f"{base}-{quote}-PERPETUAL"
    if kind in ("future", "option") and expiry is not None:
        day = datetime.fromtimestamp(expiry // 1_000_000_000, UTC).strftime("%Y%m%d")
        dated = f"{base}-{quote}-{day}"
        return dated if kind == "future" else f"{dated}-{strike:.12g}-{(option_type or '?')[0].upper()}"
    return f"{base}-{quote}"


def decimals(increment: str) -> int:
    """How many digits after the point a step written as text asks for: "0.0100" two, "1e-8" eight, "10" none."""
    mantissa, _, exponent = increment.lower().partition("e")
    fraction = mantissa.partition(".")[2].rstrip("0")
    return max(len(fraction) - int(exponent or 0), 0)


def instrument_table(rows: list[dict[str, Any]]) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; a row may leave out what is null, `inverse` (false) and `active` (true)."""
    complete = [{"inverse": False, "active": True, **row} for row in rows]
    return pa.Table.from_pylist(complete, schema=INSTRUMENTS)
