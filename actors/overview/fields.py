"""The numbers of the overview, one by one: their names, what they can be, and how far they go in one step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Group = Literal["prices", "market", "fear_greed", "rsi", "indices"]

COINS: Final = ("btc", "eth", "bnb", "sol", "xrp", "ada", "link")
INDICES: Final = ("DIA", "SPY", "QQQM")
MARKET: Final = (
    "market_cap_usd",
    "volume_24h_usd",
    "market_cap_change_percentage_24h_usd",
    "btc_market_cap_percentage",
    "eth_market_cap_percentage",
)
FEAR_GREED: Final = "fng_value"
RSI: Final = "btc_rsi_14"
_SECOND_NS: Final = 1_000_000_000
#: Clocks differ; what is further ahead is no time of ours.
_AHEAD_NS: Final = 300 * _SECOND_NS


class Quote(NamedTuple):
    """A fund that follows an index: its last price, and how far that is from the last close (USD, percent)."""

    price: float
    change: float
    change_percent: float


Value = float | Quote


@dataclass(frozen=True, slots=True)
class Field:
    """Values lie between `low` and `high`, both included. A step of more than `jump` (a part of the value before, or
    points where it is not `relative`) is believed when a second reading says the same. What is of longer ago than
    `oldest_s` is not news."""

    group: Group
    low: float
    high: float
    jump: float
    relative: bool
    oldest_s: float


#: Ten times what each was once thought to stay below.
_HIGHEST: Final = {"btc": 1e7, "eth": 1e6, "bnb": 1e5, "sol": 1e5, "xrp": 1e3, "ada": 1e3, "link": 1e4}


def price_of(coin: str) -> str:
    return f"{coin}_price_usd"


def change_of(coin: str) -> str:
    return f"{coin}_change_24h"


def index_of(symbol: str) -> str:
    return f"us_stock_indices.{symbol}"


FIELDS: Final[Mapping[str, Field]] = {
    **{price_of(coin): Field("prices", 1e-9, _HIGHEST[coin], 0.15, True, 180) for coin in COINS},
    **{change_of(coin): Field("prices", -99.999, 10_000, 50, False, 180) for coin in COINS},
    "market_cap_usd": Field("market", 1e10, 1e15, 0.2, True, 6 * 3600),
    "volume_24h_usd": Field("market", 1e8, 1e14, 0.8, True, 6 * 3600),
    "market_cap_change_percentage_24h_usd": Field("market", -99.999, 1000, 25, False, 6 * 3600),
    "btc_market_cap_percentage": Field("market", 0.1, 100, 8, False, 6 * 3600),
    "eth_market_cap_percentage": Field("market", 0.1, 100, 8, False, 6 * 3600),
    # A value is that of a day.
    FEAR_GREED: Field("fear_greed", 0, 100, 35, False, 50 * 3600),
    RSI: Field("rsi", 0, 100, 35, False, 50 * 3600),
    # Markets close for up to four days.
    **{index_of(symbol): Field("indices", 1, 1e5, 0.1, True, 8 * 86400) for symbol in INDICES},
}


def level(value: Value) -> float:
    """The number that bounds and jumps are about."""
    return value.price if isinstance(value, Quote) else value


def flaw(name: str, value: Value, as_of_ns: int, clock_ns: int) -> str:
    """Why a value cannot be; empty when it can."""
    field = FIELDS[name]
    if not field.low <= level(value) <= field.high:
        return "out of bounds"
    if isinstance(value, Quote) and not (math.isfinite(value.change) and -100 <= value.change_percent <= 100):
        return "out of bounds"
    if clock_ns - as_of_ns > field.oldest_s * _SECOND_NS:
        return "too old"
    if as_of_ns - clock_ns > _AHEAD_NS:
        return "of the future"
    return ""


def jumps(name: str, before: Value, after: Value) -> bool:
    """Whether a step is too long to be believed at once."""
    field = FIELDS[name]
    limit = field.jump * level(before) if field.relative else field.jump
    return abs(level(after) - level(before)) > limit
