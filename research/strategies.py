"""Examples of strategies: what to hold, decided at the close of each bar from it, those before, and their indicators.

Each takes bars (`feed.bars`) and indicators (`feed.indicators`) of a symbol and gives positions for
`research.backtest`: 1 for everything, 0 for nothing, one for each bar. Nothing is held until the indicators have their
history, and where one is null, or a bar has none, the position stays.
"""

from typing import Any

import numpy as np
import pandas as pd

from research.tables import check_times, numbers


def rsi(bars: pd.DataFrame, indicators: pd.DataFrame, low: float = 30.0, high: float = 70.0) -> "pd.Series[float]":
    """Buy what is oversold (RSI below `low`), sell it when it is overbought (above `high`)."""
    if not 0.0 <= low <= high <= 100.0:
        raise ValueError(f"low and high must ascend from 0 to 100, not {low!r} and {high!r}")
    strength = _beside(bars, indicators, "rsi_14")
    return _held(buy=strength < low, sell=strength > high)


def macd_cross(bars: pd.DataFrame, indicators: pd.DataFrame) -> "pd.Series[float]":
    """Buy when MACD crosses above its signal, sell when it crosses below."""
    return _crossed(_beside(bars, indicators, "macd") - _beside(bars, indicators, "macd_signal"))


def sma_cross(bars: pd.DataFrame, indicators: pd.DataFrame) -> "pd.Series[float]":
    """Buy when the mean of 20 closes crosses above that of 50, sell when it crosses below."""
    return _crossed(_beside(bars, indicators, "sma_20") - _beside(bars, indicators, "sma_50"))


def bollinger(bars: pd.DataFrame, indicators: pd.DataFrame) -> "pd.Series[float]":
    """Buy below the lower Bollinger band, sell above the upper one."""
    close = _beside(bars, bars, "close")
    return _held(buy=close < _beside(bars, indicators, "bb_lower"), sell=close > _beside(bars, indicators, "bb_upper"))


def _beside(bars: pd.DataFrame, table: pd.DataFrame, name: str) -> "pd.Series[float]":
    """A column with a number, or null, for each bar."""
    if name not in table:
        raise ValueError(f"there is no column {name!r}")
    times = check_times(table, name) if len(table) else table.index
    return pd.Series(numbers(table[name]), times).reindex(check_times(bars, "bars"))


def _held(buy: "pd.Series[Any]", sell: "pd.Series[Any]") -> "pd.Series[float]":
    signal = pd.Series(np.select([buy, sell], [1.0, 0.0], np.nan), buy.index)
    return signal.ffill().fillna(0.0).rename("position")


def _crossed(difference: "pd.Series[float]") -> "pd.Series[float]":
    """Of the side of nothing that a difference is on, only changes count; there is none where it is null or 0."""
    side = difference.where(difference != 0.0).ffill()
    before = side.shift()
    return _held(buy=(side > 0.0) & (before < 0.0), sell=(side < 0.0) & (before > 0.0))
