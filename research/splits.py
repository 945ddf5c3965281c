"""Parts of the time to train, validate and test on, such that no label of one part looks into the next.

Tables have a row for each bar, so that the label of a row (`research.labels`) is over `horizon` rows later. A row is in
a part if it is not before the part's begin and its label is over before the part's end; rows whose labels reach over a
cut, or are not over at all, are in none. An embargo after each cut leaves out rows whose features look much like those
before it. Cuts are times, the same for all symbols; with given cuts, later rows change nothing before the last one.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import pandas as pd

from research.tables import Tables, by_symbol, check_horizon, check_times

type Several = dict[str, pd.DataFrame]


def cut_times(tables: Tables, shares: Sequence[float]) -> list[pd.Timestamp]:
    """Times with such shares of all times of the tables before them: (0.7, 0.85) makes parts of 70, 15 and 15 %."""
    if not shares or any(not low < high for low, high in pairwise((0.0, *shares, 1.0))):
        raise ValueError(f"shares must ascend between 0 and 1, not {tuple(shares)}")
    indexes = [check_times(table, name) for name, table in by_symbol(tables).items()]
    times = indexes[0]
    for other in indexes[1:]:
        times = times.union(other)
    return [times[int(share * len(times))] for share in shares]


@overload
def split(
    tables: pd.DataFrame, cuts: Sequence[pd.Timestamp], *, horizon: int, embargo: pd.Timedelta | str = ...
) -> list[pd.DataFrame]: ...
@overload
def split(
    tables: Mapping[str, pd.DataFrame], cuts: Sequence[pd.Timestamp], *, horizon: int, embargo: pd.Timedelta | str = ...
) -> list[Several]: ...
def split(tables: Any, cuts: Any, *, horizon: int, embargo: pd.Timedelta | str = "0s") -> Any:
    """The parts between the cuts, one more than these, each one table or several by symbol as `tables` are. ValueError
    for a part that no row is left of."""
    times = _checked(cuts)
    return [_part(tables, begin, end, horizon, embargo) for begin, end in pairwise([None, *times, None])]


@overload
def walk_forward(
    tables: pd.DataFrame, *, folds: int, horizon: int, embargo: pd.Timedelta | str = ...
) -> list[tuple[pd.DataFrame, pd.DataFrame]]: ...
@overload
def walk_forward(
    tables: Mapping[str, pd.DataFrame], *, folds: int, horizon: int, embargo: pd.Timedelta | str = ...
) -> list[tuple[Several, Several]]: ...
def walk_forward(tables: Any, *, folds: int, horizon: int, embargo: pd.Timedelta | str = "0s") -> Any:
    """The time in `folds` + 1 equal parts: for each but the first a pair of what to train on, which is everything
    before it, and the part itself to test on."""
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 1:
        raise ValueError(f"folds must be a number of 1 or more, not {folds!r}")
    cuts = _checked(cut_times(tables, [(fold + 1) / (folds + 1) for fold in range(folds)]))
    return [
        (_part(tables, None, begin, horizon, embargo), _part(tables, begin, end, horizon, embargo))
        for begin, end in pairwise([*cuts, None])
    ]


def _part(
    tables: Any, begin: pd.Timestamp | None, end: pd.Timestamp | None, horizon: int, embargo: pd.Timedelta | str
) -> Any:
    check_horizon(horizon)
    pause = pd.Timedelta(embargo)
    if not pause >= pd.Timedelta(0):
        raise ValueError(f"embargo must be a time of 0 or more, not {embargo!r}")
    part = {}
    for name, table in by_symbol(tables).items():
        times = check_times(table, name)
        inside = np.arange(len(times)) < len(times) - horizon
        if begin is not None:
            inside &= times >= begin + pause
        if end is not None:
            # Where no later row is left it is outside already.
            inside &= times[np.minimum(np.arange(len(times)) + horizon, len(times) - 1)] < end
        part[name] = table[inside]
    if not any(len(table) for table in part.values()):
        where = " ".join(f"{word} {time}" for word, time in (("from", begin), ("to", end)) if time is not None)
        raise ValueError(f"no row is left {where}: a horizon of {horizon} and an embargo of {pause} take them all")
    return next(iter(part.values())) if isinstance(tables, pd.DataFrame) else part


def _checked(cuts: Sequence[pd.Timestamp]) -> list[pd.Timestamp]:
    times = [pd.Timestamp(cut) for cut in cuts]
    if not times or any(time.tz is None for time in times):
        raise ValueError(f"cuts must be times with a zone, not {list(cuts)}")
    if any(not low < high for low, high in pairwise(times)):
        raise ValueError(f"cuts must ascend: {', '.join(map(str, times))}")
    return times
