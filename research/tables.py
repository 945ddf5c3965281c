"""Tables as notebooks have them, checked once at the border: bars, and others that have a row for each bar.

They are indexed by the start of the bar (UTC), ascending, as `feed.bars` and `feed.indicators` give them.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Tables of one symbol or of several by name.
type Tables = pd.DataFrame | Mapping[str, pd.DataFrame]


class Prices(NamedTuple):
    """A number for each bar."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats


_OHLC: Final = list(Prices._fields)


def by_symbol(tables: Tables) -> dict[str, pd.DataFrame]:
    """Tables by symbol; one alone is called as its column `symbol` says, else "bars"."""
    if not isinstance(tables, pd.DataFrame):
        if not tables:
            raise ValueError("there is no symbol")
        return dict(tables)
    named = "symbol" in tables and len(tables) > 0
    return {str(tables["symbol"].iloc[0]) if named else "bars": tables}


def check_times(table: "pd.DataFrame | pd.Series[Any]", name: str) -> pd.DatetimeIndex:
    """The index of a table; ValueError where it has no rows, or is not of ascending times in UTC."""
    times = table.index
    if not isinstance(times, pd.DatetimeIndex) or str(times.tz) != "UTC":
        raise ValueError(f"{name}: expected an index of times in UTC, not of {times.dtype}")
    if not len(times):
        raise ValueError(f"{name}: there are no rows")
    late = np.flatnonzero(np.asarray(times[1:] <= times[:-1]))
    if len(late):
        raise ValueError(f"{name}: times must ascend, but {times[late[0] + 1]} comes after {times[late[0]]}")
    return times


def check_bars(bars: pd.DataFrame, name: str = "bars") -> Prices:
    """The prices of bars; ValueError for what cannot be one, and for a bar that is still open: what is made of it now
    is something else a moment later."""
    times = check_times(bars, name)
    if missing := [column for column in _OHLC if column not in bars]:
        raise ValueError(f"{name}: there is no column {missing[0]!r}")
    if "closed" in bars and not bars["closed"].all():
        raise ValueError(
            f"{name}: the bar of {times[~bars['closed'].to_numpy(bool)][0]} is open; use bars[bars.closed]"
        )
    prices = Prices(*(numbers(bars[column]) for column in _OHLC))
    wrong = ~np.logical_and.reduce([np.isfinite(one) & (one > 0.0) for one in prices])
    wrong |= (prices.high < np.maximum(prices.open, prices.close)) | (
        prices.low > np.minimum(prices.open, prices.close)
    )
    if wrong.any():
        at = int(np.argmax(wrong))
        values = ", ".join(f"{column} {one[at]:g}" for column, one in zip(_OHLC, prices, strict=True))
        raise ValueError(f"{name}: the bar of {times[at]} has no possible prices: {values}")
    return prices


def check_horizon(horizon: int) -> None:
    """ValueError for what is no number of bars to look ahead."""
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise ValueError(f"horizon must be a number of bars, 1 or more, not {horizon!r}")


def numbers(column: "pd.Series[Any]") -> Floats:
    """A column as floats, NaN for what is null; ValueError for one that is not of numbers."""
    try:
        return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise ValueError(f"column {column.name!r} is not of numbers but of {column.dtype}") from None
