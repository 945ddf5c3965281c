"""What moved is found, what did not is left in peace, and nothing breaks the report."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from research.drift import drift

RANDOM = np.random.default_rng(1)
anything = arrays(np.float64, st.integers(1, 60), elements=st.floats(width=64))


def one(reference: object, current: object) -> "pd.Series[float]":
    row: pd.Series[float] = drift(pd.DataFrame({"x": reference}), pd.DataFrame({"x": current})).loc["x"]
    return row


def test_numbers_are_those_computed_by_hand() -> None:
    before, after = np.arange(1000.0), np.concatenate([np.arange(500.0), np.arange(500.0)])
    found = one(before, after)
    # Five bins of ten have twice as much, five nothing, which counts as half a row.
    lower, upper = (100.5 / 1005, 200.5 / 1005), (100.5 / 1005, 0.5 / 1005)
    psi = sum(5 * (after - before) * math.log(after / before) for before, after in (lower, upper))
    assert found["psi"] == pytest.approx(psi, rel=1e-12)
    assert found["ks"] == 0.5
    assert found["mean_shift"] == pytest.approx((249.5 - 499.5) / before.std())
    assert found["verdict"] == "drifted"
    assert found["ks_p_value"] < 1e-100


@pytest.mark.parametrize(
    ("x", "chance"),
    [(0.0, 1.0), (0.15, 1.0), (0.25, 1.0), (0.4, 0.9972), (0.83, 0.4963), (1.36, 0.0495), (1.63, 0.0098)],
)
def test_the_chance_of_a_statistic_is_kolmogorovs(x: float, chance: float) -> None:
    """As in tables of his distribution, of the statistic times a hundred for two samples of 20,000."""
    before = np.arange(20_000.0)
    found = one(before, before + 200 * x)
    assert found["ks"] == pytest.approx(x / 100)
    assert found["ks_p_value"] == pytest.approx(chance, rel=0.02)


def test_equal_distributions_are_stable_and_seldom_anything_else() -> None:
    for rows in (20, 200, 5000):
        tables = [pd.DataFrame(RANDOM.normal(size=(rows, 500))) for _ in range(2)]
        found = drift(*tables)
        assert (found["verdict"] != "stable").mean() < 0.02, rows
        # Chance alone has any chance as often as any other.
        assert abs((found["ks_p_value"] < 0.5).mean() - 0.5) < 0.1, rows


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, "stable"), (0.2, "stable"), (0.4, "moderate"), (0.7, "drifted"), (5.0, "drifted")]
)
def test_the_verdict_grows_with_the_shift(shift: float, verdict: str) -> None:
    values = np.random.default_rng(2).normal(size=(2, 20_000))
    found = one(values[0], values[1] + shift)
    assert found["verdict"] == verdict
    assert found["mean_shift"] == pytest.approx(shift, abs=0.05)


def test_another_spread_is_found_though_the_mean_is_the_same() -> None:
    values = np.random.default_rng(3).normal(size=(2, 5000))
    assert one(values[0], values[1] * 3)["verdict"] == "drifted"


def test_nulls_that_come_or_go_are_drift() -> None:
    values = RANDOM.normal(size=1000)
    half = np.where(RANDOM.random(1000) < 0.5, np.nan, values)
    found = one(values, half)
    assert (found["verdict"], found["null_before"]) == ("drifted", 0.0)
    assert found["null_after"] == np.isnan(half).mean()
    assert one(half, values)["verdict"] == "drifted"
    assert found["ks_p_value"] > 0.01, "the others are as before"


def test_infinities_that_come_are_drift() -> None:
    values = RANDOM.normal(size=1000)
    for infinity in (np.inf, -np.inf):
        found = one(values, np.where(RANDOM.random(1000) < 0.3, infinity, values))
        assert found["verdict"] == "drifted"
        assert abs(found["mean_shift"]) < 0.2
    # Also where they were the largest and the smallest before.
    low, high = np.quantile(values, [0.05, 0.95])
    assert one(values, np.where(values < low, -np.inf, values))["psi"] > 0.1
    assert one(values, np.where(values > high, np.inf, values))["psi"] > 0.1
    full = np.full(1000, np.inf)
    assert (one(full, full)["verdict"], one(full, -full)["verdict"]) == ("stable", "drifted")


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e300, 1e-300])
def test_a_constant_column_is_stable_until_it_is_another(constant: float) -> None:
    same = one([constant] * 97, [constant] * 55)
    assert (same["verdict"], same["psi"], same["ks"], same["mean_shift"]) == ("stable", 0.0, 0.0, 0.0)
    for other in (np.nextafter(constant, np.inf), np.nextafter(constant, -np.inf)):
        moved = one([constant] * 97, [other] * 55)
        assert (moved["verdict"], moved["ks"]) == ("drifted", 1.0)
        assert math.isnan(moved["mean_shift"])


def test_what_is_always_null_is_stable_until_it_is_not() -> None:
    null = [np.nan] * 50
    found = one(null, null)
    assert (found["verdict"], found["psi"], found["null_before"], found["null_after"]) == ("stable", 0.0, 1.0, 1.0)
    assert found[["ks", "ks_p_value", "mean_shift"]].isna().all()
    assert one(null, [1.0] * 50)["verdict"] == one([1.0] * 50, null)["verdict"] == "drifted"


def test_a_column_of_two_values_drifts_when_their_shares_do() -> None:
    weekend = np.arange(7000) % 7 >= 5
    assert one(weekend, weekend[::-1])["verdict"] == "stable"
    assert one(weekend, ~weekend)["verdict"] == "drifted"
    assert one(weekend, np.full(7000, 0.5))["psi"] > 10


@settings(deadline=None, max_examples=200)
@given(anything, anything)
def test_whatever_is_in_a_column_the_report_is_bounded(reference: np.ndarray, current: np.ndarray) -> None:
    found = one(reference, current)
    assert 0.0 <= found["psi"] < 2 * math.log(2 * 61)
    assert found["verdict"] in ("stable", "moderate", "drifted")
    assert 0.0 <= found["null_before"] <= 1.0
    assert not math.isinf(found["mean_shift"])
    if not (np.isnan(reference).all() or np.isnan(current).all()):
        assert 0.0 <= found["ks"] <= 1.0
        assert 0.0 <= found["ks_p_value"] <= 1.0
    assert one(reference, reference)["verdict"] == "stable"


def test_the_worst_comes_first_and_other_columns_are_passed_over() -> None:
    values = np.random.default_rng(4).normal(size=(2, 4, 4000))
    columns = {"symbol": "BTCUSDT", "time": pd.Timestamp("2026-01-31", tz="UTC")}
    before, after = (
        pd.DataFrame(
            {**columns, "far": side[0] + far, "still": side[1], "flag": side[2] > 0, "near": side[3] + far / 7.5}
        )
        for side, far in zip(values, (0.0, 3.0), strict=True)
    )
    found = drift(before, after)
    assert list(found.index[:2]) == ["far", "near"]
    assert list(found["verdict"]) == ["drifted", "moderate", "stable", "stable"]
    assert set(found.index[2:]) == {"flag", "still"}


def test_columns_that_may_be_null_are_compared_as_others() -> None:
    label = pd.Series([1, 0, None] * 100, dtype="Int8")
    assert one(label, label)["null_after"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({"x": []}, {"x": [1.0]}, "the reference has no rows"),
        ({"x": [1.0]}, {"x": []}, "the current has no rows"),
        ({"x": [1.0], "y": [1.0]}, {"x": [1.0]}, "only one of the tables has numbers in 'y'"),
        ({"x": [1.0]}, {"x": ["a"]}, "only one of the tables has numbers in 'x'"),
        ({"x": ["a"]}, {"x": ["a"]}, "there is no column of numbers"),
    ],
)
def test_what_is_wrong_is_said(before: dict[str, list[object]], after: dict[str, list[object]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        drift(pd.DataFrame(before), pd.DataFrame(after))
    twice = pd.DataFrame([[1.0, 2.0]], columns=["x", "x"])
    with pytest.raises(ValueError, match="a table has two columns 'x'"):
        drift(twice, twice)
