"""How far the columns of one table of features have moved from those of another: is a model still fed what it learned?

Three looks at each column. PSI, the population stability index, compares the shares of values in ten bins with equally
many values of the reference; what is null, infinite, or a value that fills a bin alone counts as a bin of its own. The
Kolmogorov-Smirnov statistic is the largest difference of the two cumulative distributions of what is not null. The
shift of the mean, of finite values, is in standard deviations of the reference.

The verdict is by PSI: from 0.1 on `moderate`, from 0.25 on `drifted`, else `stable`, which are the bounds in common use
(Siddiqi, Credit Risk Scorecards, 2006). But few rows differ by chance: a PSI no larger than equal distributions stay
under in 999 of 1,000 cases is `stable`. Without drift PSI is distributed as (1/n + 1/m) times a chi-square with one
degree less than there are bins (Yurdakul, Statistical Properties of the Population Stability Index, 2018), whose rows
are independent; features that look back overlap and differ by chance somewhat more.
"""

import math
from typing import Any, Final

import numpy as np
import pandas as pd

from research.tables import Floats, numbers

BINS: Final = 10
MODERATE: Final = 0.1
DRIFTED: Final = 0.25
VERDICTS: Final = ("stable", "moderate", "drifted")
_LARGEST: Final = np.finfo(np.float64).max


def drift(reference: pd.DataFrame, current: pd.DataFrame) -> pd.DataFrame:
    """One row for each column of numbers, worst first: `verdict`, `psi` and `psi_by_chance`, `ks` and `ks_p_value`
    (null where a table has only nulls), `mean_shift` (null without finite values in both, and where the reference is
    constant and the mean another), `null_before` and `null_after` (shares). Other columns are passed over; ValueError
    for a column of numbers that only one table has, and for a table without rows."""
    for name, table in (("reference", reference), ("current", current)):
        if not len(table):
            raise ValueError(f"the {name} has no rows")
    columns, others = (_of_numbers(table) for table in (reference, current))
    if different := [name for name in [*columns, *others] if (name in columns) != (name in others)]:
        raise ValueError(f"only one of the tables has numbers in {', '.join(map(repr, different))}")
    if not columns:
        raise ValueError("there is no column of numbers")
    rows = [_compared(numbers(reference[name]), numbers(current[name])) for name in columns]
    report = pd.DataFrame(rows, index=pd.Index(columns, name="column"))
    worst = report["verdict"].map(VERDICTS.index)
    return report.assign(rank=worst).sort_values(["rank", "psi"], ascending=False, kind="stable").drop(columns="rank")


def _of_numbers(table: pd.DataFrame) -> list[Any]:
    if not table.columns.is_unique:
        raise ValueError(f"a table has two columns {table.columns[table.columns.duplicated()][0]!r}")
    return [name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]


def _compared(reference: Floats, current: Floats) -> dict[str, Any]:
    psi, by_chance = _psi(reference, current)
    before, after = (column[~np.isnan(column)] for column in (reference, current))
    ks, p_value = _kolmogorov_smirnov(before, after) if len(before) and len(after) else (np.nan, np.nan)
    verdict = VERDICTS[0 if psi <= by_chance else (psi >= MODERATE) + (psi >= DRIFTED)]
    return {
        "verdict": verdict,
        "psi": psi,
        "psi_by_chance": by_chance,
        "ks": ks,
        "ks_p_value": p_value,
        "mean_shift": _mean_shift(before[np.isfinite(before)], after[np.isfinite(after)]),
        "null_before": 1.0 - len(before) / len(reference),
        "null_after": 1.0 - len(after) / len(current),
    }


def _psi(reference: Floats, current: Floats) -> tuple[float, float]:
    """The index, and what it would stay under by chance."""
    bounds = _bounds(reference[np.isfinite(reference)])
    counts = [np.bincount(_bins(column, bounds), minlength=len(bounds) + 2) for column in (reference, current)]
    used = counts[0] + counts[1] > 0
    # An empty bin counts as half a row, others as so much more.
    before, after = ((count[used] + 0.5) / (count[used] + 0.5).sum() for count in counts)
    psi = float(((after - before) * np.log(after / before)).sum())
    return psi, (1.0 / len(reference) + 1.0 / len(current)) * _chi_square(np.count_nonzero(used) - 1)


def _bounds(finite: Floats) -> Floats:
    """Where the next bin begins: at quantiles, behind a value that fills a bin alone, and where infinity does."""
    inner = np.sort(finite)[len(finite) * np.arange(1, BINS) // BINS] if len(finite) else finite
    values, repeated = np.unique(inner, return_counts=True)
    with np.errstate(over="ignore"):
        behind = np.nextafter(values[repeated > 1], np.inf)
    bounds: Floats = np.unique(np.concatenate([[-_LARGEST], values, behind, [np.inf]]))
    return bounds


def _bins(column: Floats, bounds: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Of each value; the last is that of nulls."""
    return np.where(np.isnan(column), len(bounds) + 1, np.searchsorted(bounds, column, side="right"))


def _chi_square(freedom: int) -> float:
    """What 999 of 1,000 values of a chi-square distribution are below (Wilson and Hilferty, 1931); 0 for 0 degrees."""
    if freedom == 0:
        return 0.0
    spread = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - spread + 3.0902 * math.sqrt(spread)) ** 3)


def _kolmogorov_smirnov(before: Floats, after: Floats) -> tuple[float, float]:
    """The statistic of two samples, and how often chance alone makes one as large, by the distribution for many values
    with Stephens' correction for few (1970)."""
    before, after = np.sort(before), np.sort(after)
    values = np.concatenate([before, after])
    shares = [np.searchsorted(sample, values, side="right") / len(sample) for sample in (before, after)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    size = math.sqrt(len(before) * len(after) / (len(before) + len(after)))
    return distance, _kolmogorov((size + 0.12 + 0.11 / size) * distance)


def _kolmogorov(x: float) -> float:
    """The chance of more than x; what is less than 0.2 away from nothing is exceeded always, to twelve digits."""
    if x < 0.2:
        return 1.0
    steps = np.arange(1, 40)
    return float(2.0 * (np.where(steps % 2, 1.0, -1.0) * np.exp(-2.0 * np.square(steps * x))).sum())


def _mean_shift(before: Floats, after: Floats) -> float:
    if not len(before) or not len(after):
        return np.nan
    lowest, highest = before.min(), before.max()
    if lowest == highest == after.min() == after.max():
        return 0.0
    # The sum of large floats may be none.
    scale = max(np.abs(before).max(), np.abs(after).max())
    before, after = before / scale, after / scale
    deviation = before.std() if lowest < highest else 0.0
    return float((after.mean() - before.mean()) / deviation) if deviation else np.nan
