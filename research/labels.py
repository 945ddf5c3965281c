"""What a model is to predict at a bar: what the next `horizon` bars of the symbol did, seen from its close.

A label is null until its horizon is over, even where it is decided already: the newest rows would else have the labels
that are decided early and no others.
"""

import numpy as np
import pandas as pd

from research.tables import check_bars, check_horizon


def forward_return(bars: pd.DataFrame, horizon: int) -> "pd.Series[float]":
    """The close of the last bar of the horizon by that of this one, less 1. ValueError, as below, for bars that
    `research.tables.check_bars` refuses and for a horizon below 1."""
    check_horizon(horizon)
    close = check_bars(bars).close
    found = np.full(len(close), np.nan)
    found[:-horizon] = close[horizon:] / close[:-horizon] - 1.0
    return pd.Series(found, bars.index, name="forward_return")


def direction(bars: pd.DataFrame, horizon: int, threshold: float = 0.0) -> "pd.Series[int]":
    """1 for a forward return above the threshold (a fraction), -1 below its negative, else 0."""
    if not 0.0 <= threshold < np.inf:
        raise ValueError(f"threshold must be a fraction, 0 or more, not {threshold!r}")
    moved = forward_return(bars, horizon)
    found = np.where(moved > threshold, 1.0, np.where(moved < -threshold, -1.0, 0.0))
    return pd.Series(found, bars.index, name="direction").where(moved.notna()).astype("Int8")


def triple_barrier(bars: pd.DataFrame, horizon: int, take_profit: float, stop_loss: float) -> "pd.Series[int]":
    """Which barrier, fractions above and below the close, the bars of the horizon reach first: 1 `take_profit` (by a
    high), -1 `stop_loss` (by a low), 0 neither. A bar that reaches both counts as -1: which came first it does not
    say."""
    check_horizon(horizon)
    if not 0.0 < take_profit < np.inf:
        raise ValueError(f"take_profit must be a fraction above 0, not {take_profit!r}")
    if not 0.0 < stop_loss < 1.0:
        raise ValueError(f"stop_loss must be a fraction between 0 and 1, not {stop_loss!r}")
    prices = check_bars(bars)
    count = max(len(prices.close) - horizon, 0)
    upper, lower = prices.close[:count] * (1.0 + take_profit), prices.close[:count] * (1.0 - stop_loss)
    found = np.full(len(prices.close), np.nan)
    found[:count] = 0.0
    undecided = np.arange(count)
    for ahead in range(1, horizon + 1):
        if not len(undecided):
            break
        later = undecided + ahead
        gained, lost = prices.high[later] >= upper[undecided], prices.low[later] <= lower[undecided]
        found[undecided[gained]] = 1.0
        found[undecided[lost]] = -1.0
        undecided = undecided[~(gained | lost)]
    return pd.Series(found, bars.index, name="triple_barrier").astype("Int8")
