"""How good a backtest was: figures of its equity curve and of its trades.

What cannot be said is None: a rate without what it is a rate of, a ratio to nothing, a yearly figure beyond floats.
Returns are those from close to close, the risk-free rate is 0. A year is one of 365 days, as markets that never close
have them, with as many bars as the curve has in that time: 525,600 for 1m, fewer where bars are missing.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

YEAR: Final = pd.Timedelta(days=365)
#: Returns that differ by no more than this part of them are equal; what is left of them is rounding.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True)
class Metrics:
    """All are fractions (0.1 is 10 %) but the counts and ratios."""

    total_return: float
    #: Compounded; None for a single bar.
    annual_return: float | None
    annual_volatility: float | None
    #: Mean return by its sample standard deviation, by the year; None where returns do not differ.
    sharpe: float | None
    #: Mean return by the root of the mean of squared losses (0 for a gain), by the year; None without a loss.
    sortino: float | None
    #: 0 or less.
    max_drawdown: float
    trades: int
    #: Trades with a profit, of all; None without trades.
    win_rate: float | None
    #: Mean return of the trades with a profit, and (below 0) of those with a loss; None without one.
    average_win: float | None
    average_loss: float | None
    #: Money won by money lost; None where none was lost.
    profit_factor: float | None
    #: Bars of all symbols during which something was held, of all.
    exposure: float
    #: Money that was bought and sold for, by the mean equity.
    turnover: float
    bars_per_year: float | None


def drawdown_of(equity: "pd.Series[float]") -> "pd.Series[float]":
    """What is missing to the highest equity so far, as a fraction of it: 0 or less."""
    return (equity / equity.cummax() - 1.0).rename("drawdown")


def measure(equity: "pd.Series[float]", trades: pd.DataFrame, exposure: float, turnover: float) -> Metrics:
    """The figures of an equity curve that begins with the capital, and of the trades (`research.backtest`) on it."""
    curve = equity.to_numpy()
    # Nothing comes of nothing.
    returns = np.divide(curve[1:], curve[:-1], out=np.ones(len(curve) - 1), where=curve[:-1] > 0.0) - 1.0
    years = (equity.index[-1] - equity.index[0]) / YEAR
    bars_per_year = len(returns) / years if years else None
    mean = float(returns.mean()) if len(returns) else 0.0
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    downside = math.sqrt(np.square(np.minimum(returns, 0.0)).mean()) if len(returns) else 0.0
    root = math.sqrt(bars_per_year) if bars_per_year else 0.0
    total = float(curve[-1] / curve[0])
    profit, fraction = trades["profit"].to_numpy(), trades["return"].to_numpy()
    won, lost = profit > 0.0, profit < 0.0
    return Metrics(
        total_return=total - 1.0,
        annual_return=_compounded(total, 1.0 / years) if years else None,
        annual_volatility=deviation * root if len(returns) > 1 else None,
        sharpe=mean / deviation * root if deviation > _ROUNDING * abs(mean) else None,
        sortino=mean / downside * root if downside > 0.0 else None,
        max_drawdown=float(drawdown_of(equity).min()),
        trades=len(trades),
        win_rate=float(won.mean()) if len(trades) else None,
        average_win=float(fraction[won].mean()) if won.any() else None,
        average_loss=float(fraction[lost].mean()) if lost.any() else None,
        profit_factor=float(profit[won].sum() / -profit[lost].sum()) if lost.any() else None,
        exposure=exposure,
        turnover=turnover,
        bars_per_year=bars_per_year,
    )


def _compounded(growth: float, times: float) -> float | None:
    try:
        return math.pow(growth, times) - 1.0
    except OverflowError:
        return None
