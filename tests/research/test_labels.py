"""Labels say what the next bars did, and nothing of what came after their horizon."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.labels import direction, forward_return, triple_barrier
from tests.research.bars import flat, made, of, other_from, same

Label = Callable[[pd.DataFrame, int], "pd.Series[float]"]


def barrier(bars: pd.DataFrame, horizon: int) -> "pd.Series[float]":
    return triple_barrier(bars, horizon, take_profit=0.02, stop_loss=0.01)


ALL: tuple[Label, ...] = (forward_return, direction, barrier)


def plain_barrier(bars: pd.DataFrame, at: int, horizon: int, take_profit: float, stop_loss: float) -> int | None:
    if at + horizon >= len(bars):
        return None
    close = bars["close"].iloc[at]
    for _, later in bars[at + 1 : at + 1 + horizon].iterrows():
        if later.low <= close * (1 - stop_loss):
            return -1
        if later.high >= close * (1 + take_profit):
            return 1
    return 0


def test_a_forward_return_is_from_close_to_close() -> None:
    found = forward_return(flat(100, 110, 99, 99), 2)
    assert found[:2].tolist() == pytest.approx([-0.01, -0.1])
    assert found[2:].isna().all()


def test_a_direction_has_a_threshold() -> None:
    bars = flat(100, 125, 125, 90, 100)
    assert direction(bars, 1).tolist()[:4] == [1, 0, -1, 1]
    assert direction(bars, 1, threshold=0.25).tolist()[:4] == [0, 0, -1, 0]
    assert direction(bars, 1).isna().tolist() == [False] * 4 + [True]


def test_the_first_barrier_that_is_reached_counts_by_high_and_low() -> None:
    still = (100.0, 100.0, 100.0, 100.0)
    up, down, both = (100, 102, 100, 100), (100, 100, 99, 100), (100, 102, 99, 100)
    assert barrier(of(still, still, up, down), 3).iloc[0] == 1
    assert barrier(of(still, still, down, up), 3).iloc[0] == -1
    assert barrier(of(still, still, both, up), 3).iloc[0] == -1
    assert barrier(of(still, still, still, still, up), 3).iloc[0] == 0
    # Its own high and low were before its close.
    assert barrier(of(both, still, still, still), 3).iloc[0] == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 80), st.integers(1, 20), st.sampled_from([0.001, 0.01, 5.0]))
def test_barriers_are_those_of_looking_bar_by_bar(seed: int, count: int, horizon: int, step: float) -> None:
    bars = made(np.random.default_rng(seed), count, step, gaps=0.2)
    found = triple_barrier(bars, horizon, take_profit=0.02, stop_loss=0.01)
    expected = [plain_barrier(bars, at, horizon, 0.02, 0.01) for at in range(len(bars))]
    assert [None if pd.isna(one) else int(one) for one in found] == expected


@pytest.mark.parametrize("label", ALL)
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 120), st.integers(1, 30), st.data())
def test_a_label_depends_on_the_bars_of_its_horizon_and_on_none_after(
    label: Label, seed: int, count: int, horizon: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    bars = made(random, count, 0.05)
    place = data.draw(st.integers(1, count - 1))
    other = other_from(bars, place, random)
    assert same(label(bars, horizon)[: max(place - horizon, 0)], label(other, horizon)[: max(place - horizon, 0)])
    assert label(bars[:place], horizon)[max(place - horizon, 0) :].isna().all()
    assert label(bars, horizon)[: max(count - horizon, 0)].notna().all()


@pytest.mark.parametrize("label", ALL)
def test_the_last_bar_of_a_horizon_counts(label: Label) -> None:
    bars = flat(*[100.0] * 5)
    assert label(bars, 4).iloc[0] == 0
    bars.iloc[4] = 150.0
    assert label(bars, 4).iloc[0] > 0
    assert label(bars, 3).iloc[0] == 0


@pytest.mark.parametrize("label", ALL)
def test_a_horizon_longer_than_the_bars_is_not_over(label: Label) -> None:
    assert label(flat(100, 200), 1_000_000_000).isna().all()
    assert label(flat(100), 1).isna().all()


def test_a_jump_of_10_000_percent_is_a_label_like_others() -> None:
    bars = flat(1e-9, 1.01e-7, 1e-9)
    assert forward_return(bars, 1)[:2].tolist() == pytest.approx([100.0, -100 / 101])
    assert barrier(bars, 1)[:2].tolist() == [1, -1]


BARS = made(np.random.default_rng(1), 20)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: forward_return(BARS, 0), "horizon must be a number of bars, 1 or more, not 0"),
        (lambda: direction(BARS, 1.5), "horizon must be a number of bars, 1 or more, not 1.5"),
        (lambda: forward_return(BARS, True), "horizon must be"),
        (lambda: direction(BARS, 5, threshold=-0.1), "threshold must be a fraction, 0 or more, not -0.1"),
        (lambda: triple_barrier(BARS, 5, 0.0, 0.1), "take_profit must be a fraction above 0, not 0.0"),
        (lambda: triple_barrier(BARS, 5, 0.1, 1.0), "stop_loss must be a fraction between 0 and 1, not 1.0"),
        (lambda: triple_barrier(BARS, 5, 0.1, np.nan), "stop_loss must be"),
        (lambda: forward_return(pd.concat([BARS, BARS]), 1), "bars: times must ascend"),
        (lambda: forward_return(BARS.assign(closed=False), 1), "is open; use"),
    ],
)
def test_what_is_wrong_is_said(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()
