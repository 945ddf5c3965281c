"""What our own feed says of the coins: the price of the newest trade, how far that is from the price a day before, and
the RSI of bitcoin's days, of bars that shards hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.overview.fields import RSI, change_of, price_of
from actors.overview.question import Heard
from storage.timeframes import TIMEFRAMES

NAME: Final = "own"
#: A market in which nobody trades for longer has no price of now.
FRESH_NS: Final = 60_000_000_000
#: Bars that a day back is looked up in, and how many of them.
DAY_BARS: Final = "5m"
DAY_BARS_LIMIT: Final = 300
#: Days that an RSI needs, one after the other.
RSI_DAYS: Final = 15
_DAY_NS: Final = TIMEFRAMES["1d"]
_BAR_NS: Final = TIMEFRAMES[DAY_BARS]
#: The last price before that moment is of no longer before.
_GAP_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Market:
    """An exchange and one of its symbols."""

    exchange: str
    symbol: str

    @classmethod
    def of(cls, text: str) -> "Market":
        """`binance:BTCUSDT`."""
        exchange, _, symbol = text.partition(":")
        return cls(exchange, symbol)


@dataclass(frozen=True, slots=True)
class Trade:
    """The newest trade of a market: its price, and the second it was made in (ns UTC)."""

    market: Market
    price: float
    time: int


def newest_trade(market: Market, second: pa.RecordBatch | None) -> Trade | None:
    """Of the newest bar of a second (`storage.schema.BARS`)."""
    if second is None or not second.num_rows:
        return None
    last = second.num_rows - 1
    return Trade(market, second.column("close")[last].as_py(), second.column("time")[last].as_py())


def is_fresh(trade: Trade, clock_ns: int) -> bool:
    return clock_ns - trade.time <= FRESH_NS


def price_a_day_before(bars: pa.RecordBatch, time_ns: int) -> float | None:
    """The price a day before `time_ns`, of bars of DAY_BARS, ascending; None where nothing is known of that time."""
    moment = time_ns - _DAY_NS
    times = bars.column("time").to_numpy()
    # The last bar that had ended; a bar's own beginning serves where it is the first.
    at = int(np.searchsorted(times, moment - _BAR_NS, side="right")) - 1
    if at >= 0 and moment - (times[at] + _BAR_NS) <= _GAP_NS:
        found: Any = bars.column("close")[at].as_py()
    elif at < 0 and len(times) and times[0] <= moment:
        found = bars.column("open")[0].as_py()
    else:
        return None
    return float(found)


def readings(coins: Mapping[str, Trade], day_before: Mapping[str, float | None]) -> dict[str, Heard]:
    """Prices and, where the price a day before is known, changes in percent."""
    found: dict[str, Heard] = {}
    for coin, trade in coins.items():
        by = f"{NAME}:{trade.market.exchange}"
        found[price_of(coin)] = Heard(trade.price, trade.time, by)
        if before := day_before.get(coin):
            found[change_of(coin)] = Heard(100 * (trade.price / before - 1), trade.time, by)
    return found


def daily_rsi(market: Market, bars: pa.RecordBatch, indicators: pa.RecordBatch) -> dict[str, Heard]:
    """RSI(14) of the last day that is over, from its indicators (`storage.schema.INDICATORS`); nothing where one of the
    days before is missing: what is made over a hole is not what it is called."""
    closed = bars.filter(bars.column("closed"))
    days = closed.column("time").to_numpy()[-RSI_DAYS:]
    if len(days) < RSI_DAYS or days[-1] - days[0] != (RSI_DAYS - 1) * _DAY_NS or not indicators.num_rows:
        return {}
    last = indicators.num_rows - 1
    value = indicators.column("rsi_14")[last].as_py()
    if value is None or not np.isfinite(value) or indicators.column("time")[last].as_py() != days[-1]:
        return {}
    return {RSI: Heard(value, int(days[-1]) + _DAY_NS, f"{NAME}:{market.exchange}")}
