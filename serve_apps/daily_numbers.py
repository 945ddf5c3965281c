"""What a day of bars says of each symbol: change, range, volume, volatility, RSI; and what gaps there were. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

MINUTE: Final = 60_000_000_000
DAY: Final = 1440 * MINUTE
_RSI: Final = 14
#: RSI is that of the longest of these bars (minutes) of which the day has enough.
_RSI_OF: Final = ((60, "1h"), (15, "15m"), (5, "5m"), (1, "1m"))
#: By exchange and symbol, see `units_of`.
type Units = Mapping[tuple[str, str], tuple[float, bool]]
#: A volume of 1 is one of the base currency.
_PLAIN: Final = (1.0, False)
#: Points of a line.
_POINTS: Final = 96


@dataclass(frozen=True, slots=True)
class SymbolDay:
    """A day of one symbol. `change` and `volatility` (of a day, from returns of minutes) are fractions, `turnover` is
    in the quote currency; NaN where the day does not say, as providers of stock prices do not say the trades."""

    exchange: str
    symbol: str
    first: float
    last: float
    high: float
    low: float
    change: float
    turnover: float
    trades: float
    minutes: int
    volatility: float
    rsi: float
    rsi_of: str
    #: (part of the day, change since its first price)
    course: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ExchangeGaps:
    """Gaps that were open some time of the day, and those in its trades that were found later: they are counted as they
    are now, the others as they were at the end of the day."""

    exchange: str
    opened: int
    closed: int
    still_open: int
    missing: int
    backfilled: int


def symbol_days(bars: pa.Table, start: int, units: Units | None = None) -> list[SymbolDay]:
    """Of bars of a minute: exchange, symbol, time, open, high, low, close, volume, quote_volume and trade_count, from
    the ns `start` on for a day; by exchange and symbol. `units`: see `units_of`."""
    if not bars.num_rows:
        return []
    bars = bars.sort_by([("exchange", "ascending"), ("symbol", "ascending"), ("time", "ascending")])
    exchanges, symbols = (list(map(str, bars[name].to_pylist())) for name in ("exchange", "symbol"))
    names = list(zip(exchanges, symbols, strict=True))
    firsts = [0, *(at for at in range(1, len(names)) if names[at] != names[at - 1]), len(names)]
    columns = {
        name: bars[name].to_numpy(zero_copy_only=False).astype(float)
        for name in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count")
    }
    time = bars["time"].to_numpy()
    return [
        _symbol_day(
            *names[begin],
            time[begin:end],
            {name: one[begin:end] for name, one in columns.items()},
            start,
            (units or {}).get(names[begin], _PLAIN),
        )
        for begin, end in pairwise(firsts)
    ]


def units_of(instruments: pa.Table) -> Units:
    """What a volume of 1 is, of instruments (exchange, symbol, quote, contract_size, contract_currency) that are traded
    in contracts: so much of the base, or of the quote currency (True)."""
    return {
        (row["exchange"], row["symbol"]): (row["contract_size"], row["contract_currency"] == row["quote"])
        for row in instruments.to_pylist()
        if row["contract_size"]
    }


def exchange_gaps(gaps: pa.Table, start: int, end: int) -> list[ExchangeGaps]:
    """Of gaps (exchange, from_ns, to_ns, opened, closed, missing, backfilled) that were open between these times (ns),
    or lie there."""
    counted: dict[str, list[int]] = {}
    for row in gaps.to_pylist():
        closed = row["closed"]
        was_open = row["opened"] < end and (closed is None or closed >= start)
        if not was_open and not (row["from_ns"] < end and row["to_ns"] >= start):
            continue
        is_open = closed is None or row["opened"] < end <= closed
        one = counted.setdefault(row["exchange"], [0, 0, 0, 0, 0])
        one[0] += start <= row["opened"] < end
        one[1] += not is_open
        one[2] += is_open
        one[3] += (row["missing"] or 0) if is_open else 0
        one[4] += row["backfilled"] or 0
    return [ExchangeGaps(exchange, *counts) for exchange, counts in sorted(counted.items())]


def rsi(closes: Any) -> float:
    """Of the last of these prices, as `actors.aggregation.indicators` has it; NaN before it has its history."""
    changes = np.diff(np.asarray(closes, float))
    if len(changes) < _RSI:
        return math.nan
    weights = (1 - 1 / _RSI) ** np.arange(len(changes))[::-1]
    gained, moved = weights @ np.maximum(changes, 0), weights @ np.abs(changes)
    return float(100 * gained / moved) if moved > 0 else math.nan


def _symbol_day(
    exchange: str, symbol: str, time: Any, of: dict[str, Any], start: int, unit: tuple[float, bool]
) -> SymbolDay:
    close, first = of["close"], float(of["open"][0])
    returns = np.diff(np.log(close)) if len(close) > 1 and np.all(close > 0) else np.array([])
    volatility = float(np.std(returns)) * math.sqrt(1440) if len(returns) > 1 else math.nan
    reading, rsi_of = _rsi(time, close)
    positions = (time - start + MINUTE) / DAY
    thinned = np.unique(np.linspace(0, len(close) - 1, min(len(close), _POINTS)).round().astype(int))
    course = [(float(positions[at]), float(close[at] / first - 1)) for at in thinned] if first else []
    return SymbolDay(
        exchange=exchange,
        symbol=symbol,
        first=first,
        last=float(close[-1]),
        high=float(of["high"].max()),
        low=float(of["low"].min()),
        change=float(close[-1] / first - 1) if first else math.nan,
        turnover=_turnover(of, *unit),
        trades=_sum(of["trade_count"]),
        minutes=len(close),
        volatility=volatility,
        rsi=reading,
        rsi_of=rsi_of,
        course=tuple(course),
    )


def _turnover(of: dict[str, Any], size: float, in_quote: bool) -> float:
    if in_quote:
        return _sum(of["volume"]) * size
    return _sum(np.where(np.isnan(of["quote_volume"]), of["volume"] * of["close"], of["quote_volume"])) * size


def _sum(values: Any) -> float:
    """Of those that are known; NaN where none is."""
    return math.nan if np.isnan(values).all() else float(np.nansum(values))


def _rsi(time: Any, close: Any) -> tuple[float, str]:
    for minutes, called in _RSI_OF:
        bucket = time // (minutes * MINUTE)
        # The last price of each bar.
        closes = close[np.append(bucket[1:] != bucket[:-1], True)]
        if not math.isnan(reading := rsi(closes)):
            return reading, called
    return math.nan, ""
