"""Bars of random walks as notebooks have them, and their indicators."""

from typing import Any

import numpy as np
import pandas as pd

from actors.aggregation.indicators import FIELDS, STATE, advance

BEGIN = pd.Timestamp("2026-01-31T12:00", tz="UTC")


def times(count: int, span: str = "1min") -> pd.DatetimeIndex:
    return pd.date_range(BEGIN, periods=count, freq=span)


def made(random: np.random.Generator, count: int, step: float = 0.01, gaps: float = 0.0) -> pd.DataFrame:
    """Steps are standard deviations of the logarithm; a gap is where no trade, and so no bar, is."""
    moves = random.normal(0, step, (2, count))
    close = 100.0 * np.exp(np.cumsum(moves.sum(axis=0)))
    opened = close * np.exp(-moves[1])
    high = np.maximum(opened, close) * np.exp(np.abs(random.normal(0, step / 2, count)))
    low = np.minimum(opened, close) / np.exp(np.abs(random.normal(0, step / 2, count)))
    table = pd.DataFrame({"open": opened, "high": high, "low": low, "close": close}, times(count))
    table["volume"] = random.exponential(10, count)
    keep = random.random(count) >= gaps
    keep[0] = True
    return table[keep]


def of(*bars: tuple[float, float, float, float]) -> pd.DataFrame:
    """Bars of one minute by their open, high, low and close."""
    return pd.DataFrame(list(bars), times(len(bars)), columns=["open", "high", "low", "close"])


def flat(*prices: float) -> pd.DataFrame:
    """Bars with one price each."""
    return of(*((price, price, price, price) for price in prices))


def positions(random: np.random.Generator, bars: pd.DataFrame, changes: float = 0.3) -> "pd.Series[float]":
    """Held for some bars each."""
    found = random.choice([-1.0, -0.4, 0.0, 0.25, 1.0], len(bars))
    stays = random.random(len(bars)) >= changes
    return pd.Series(found, bars.index).mask(stays).ffill().fillna(0.0)


def decided(bars: pd.DataFrame, *wanted: float) -> "pd.Series[float]":
    return pd.Series(wanted, bars.index)


def indicators(bars: pd.DataFrame) -> pd.DataFrame:
    columns = [bars[name].to_numpy() for name in ("high", "low", "close", "volume")]
    states, values = np.zeros(len(bars), STATE), np.empty((len(bars), len(FIELDS)))
    advance(*columns, 0, np.zeros(1, STATE)[0], states, values)
    return pd.DataFrame(values, bars.index, columns=list(FIELDS))


def other_from(bars: pd.DataFrame, place: int, random: np.random.Generator) -> pd.DataFrame:
    """The same up to a place, and from there on others, more or fewer of them."""
    count = len(bars) - place + int(random.integers(-5, 50))
    if count <= 0:
        return bars[:place]
    later = made(random, count, 0.05)
    later.index = pd.date_range(bars.index[place], periods=count, freq="1min")
    return pd.concat([bars[:place], later])


def same(one: Any, other: Any) -> bool:
    """To the last bit."""
    return len(one) == len(other) and bool(
        (one.isna() == other.isna()).all() and (one.dropna() == other.dropna()).all()
    )
