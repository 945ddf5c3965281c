"""Examples decide as they say, hold on where nothing is known, and never know what comes later."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.backtest import backtest
from research.strategies import bollinger, macd_cross, rsi, sma_cross
from tests.research.bars import flat, indicators, made, other_from, same, times

Strategy = Callable[[pd.DataFrame, pd.DataFrame], "pd.Series[float]"]
ALL: tuple[Strategy, ...] = (rsi, macd_cross, sma_cross, bollinger)
NULL = np.nan


def with_columns(count: int, **columns: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return flat(*[100.0] * count), pd.DataFrame(columns, times(count))


def test_rsi_buys_below_30_and_sells_above_70() -> None:
    values = [NULL, 71, 30, 29, 50, NULL, 70, 71, 50, 20]
    bars, table = with_columns(10, rsi_14=values)
    assert list(rsi(bars, table)) == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1]
    assert list(rsi(bars, table, low=50, high=50)) == [0, 0, 1, 1, 1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("strategy", "fast", "slow"), [(macd_cross, "macd", "macd_signal"), (sma_cross, "sma_20", "sma_50")]
)
def test_a_cross_is_a_change_of_sides_also_over_nulls_and_equal_values(
    strategy: Strategy, fast: str, slow: str
) -> None:
    difference = [NULL, 1, 0, 1, NULL, -1, 0, -1, NULL, NULL, 2, 0, 0, -1]
    bars, table = with_columns(14, **{fast: [one + 5 for one in difference], slow: [5.0] * 14})
    # The first side is none to cross from.
    assert list(strategy(bars, table)) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0]


def test_bollinger_buys_below_the_bands_and_sells_above_them() -> None:
    bars = flat(100, 89, 100, 111, 100, 89)
    table = pd.DataFrame({"bb_lower": 90.0, "bb_upper": 110.0}, bars.index)
    table.iloc[5] = NULL
    assert list(bollinger(bars, table)) == [0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("strategy", ALL)
def test_nothing_is_held_without_history(strategy: Strategy) -> None:
    bars = made(np.random.default_rng(1), 14, 0.05)
    assert list(strategy(bars, indicators(bars))) == [0.0] * 14
    assert list(strategy(bars, indicators(bars)[:0])) == [0.0] * 14


@pytest.mark.parametrize("strategy", ALL)
def test_bars_without_indicators_change_nothing(strategy: Strategy) -> None:
    bars = made(np.random.default_rng(2), 300, 0.05)
    table = indicators(bars)
    missing = pd.Series(np.random.default_rng(3).random(300) < 0.2, bars.index)
    assert same(strategy(bars, table[~missing]), strategy(bars, table.mask(missing)))
    assert 0.0 < strategy(bars, table).mean() < 1.0


@pytest.mark.parametrize("strategy", ALL)
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(60, 250), st.data())
def test_what_is_held_up_to_a_bar_does_not_depend_on_later_ones(
    strategy: Strategy, seed: int, count: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    bars = made(random, count, 0.05, gaps=0.1)
    place = data.draw(st.integers(1, len(bars) - 1))
    other = other_from(bars, place, random)
    one, two = strategy(bars, indicators(bars)), strategy(other, indicators(other))
    assert same(one[:place], two[:place])
    assert one.index.equals(bars.index)
    assert set(one) <= {0.0, 1.0}


def test_positions_are_what_a_backtest_takes() -> None:
    random = np.random.default_rng(4)
    bars = {symbol: made(random, 500, 0.01, gaps=0.1) for symbol in ("A", "B")}
    for strategy in ALL:
        wanted = {symbol: strategy(table, indicators(table)) for symbol, table in bars.items()}
        assert set(backtest(bars, wanted).trades["symbol"]) == {"A", "B"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda bars, table: rsi(bars, table.drop(columns="rsi_14")), "there is no column 'rsi_14'"),
        (lambda bars, table: sma_cross(bars, table[::-1]), "sma_20: times must ascend"),
        (lambda bars, table: macd_cross(bars[::-1], table), "bars: times must ascend"),
        (lambda bars, table: bollinger(bars[:0], table), "bars: there are no rows"),
        (
            lambda bars, table: rsi(bars, table, low=70, high=30),
            "low and high must ascend from 0 to 100, not 70 and 30",
        ),
    ],
)
def test_what_is_wrong_is_said(wrong: Callable[[pd.DataFrame, pd.DataFrame], object], says: str) -> None:
    bars = made(np.random.default_rng(5), 60)
    with pytest.raises(ValueError, match=says):
        wrong(bars, indicators(bars))
