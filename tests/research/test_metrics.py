"""Figures are those computed by hand, and none where there is nothing to say."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest

from research.backtest import backtest
from research.metrics import Metrics, drawdown_of, measure
from tests.research.bars import BEGIN, decided, flat, made, positions

NO_TRADES = pd.DataFrame({"profit": [], "return": []}, dtype=float)


def curve(*equity: float, span: str = "1min") -> "pd.Series[float]":
    return pd.Series(equity, pd.date_range(BEGIN, periods=len(equity), freq=span))


def figures(equity: "pd.Series[float]", *trades: tuple[float, float]) -> Metrics:
    table = pd.DataFrame(trades, columns=["profit", "return"]) if trades else NO_TRADES
    return measure(equity, table, exposure=0.5, turnover=2.0)


@pytest.mark.parametrize(
    ("span", "bars_per_year"),
    [
        ("1s", 31_536_000),
        ("1min", 525_600),
        ("5min", 105_120),
        ("15min", 35_040),
        ("1h", 8760),
        ("4h", 2190),
        ("1D", 365),
    ],
)
def test_a_year_has_as_many_bars_as_markets_that_never_close_have(span: str, bars_per_year: int) -> None:
    found = figures(curve(100, 101, 99.99, 103, span=span))
    returns = [0.01, 99.99 / 101 - 1, 103 / 99.99 - 1]
    root = math.sqrt(bars_per_year)
    assert found.bars_per_year == pytest.approx(bars_per_year, rel=1e-14)
    assert found.sharpe == pytest.approx(statistics.mean(returns) / statistics.stdev(returns) * root)
    assert found.annual_volatility == pytest.approx(statistics.stdev(returns) * root)
    assert found.sortino == pytest.approx(statistics.mean(returns) / math.sqrt(returns[1] ** 2 / 3) * root)
    assert (found.exposure, found.turnover) == (0.5, 2.0)


def test_missing_bars_make_a_year_of_fewer() -> None:
    whole = curve(*np.linspace(100, 110, 101))
    assert figures(whole[::2]).bars_per_year == pytest.approx(525_600 / 2)


def test_a_return_is_compounded_over_a_year() -> None:
    assert figures(curve(100, 105, 110, span="73D")).annual_return == pytest.approx(1.1**2.5 - 1)
    assert figures(curve(100, 200, 400, span="1s")).annual_return is None, "beyond floats"


def test_a_drawdown_is_measured_from_the_highest_before() -> None:
    equity = curve(100, 80, 120, 90, 130)
    assert list(drawdown_of(equity)) == pytest.approx([0, -0.2, 0, -0.25, 0])
    assert figures(equity).max_drawdown == pytest.approx(-0.25)


def test_the_profit_factor_is_money_won_by_money_lost() -> None:
    found = figures(curve(100, 105), (10, 0.1), (2, 0.02), (-6, -0.05), (-2, -0.01), (0, 0))
    assert found.profit_factor == 1.5
    assert (found.trades, found.win_rate) == (5, 0.4)
    assert (found.average_win, found.average_loss) == pytest.approx((0.06, -0.03))


def test_what_there_is_none_of_has_no_mean_and_is_divided_by_nothing() -> None:
    won, lost = figures(curve(100, 105), (5, 0.05)), figures(curve(100, 95), (-5, -0.05))
    assert (won.win_rate, won.average_loss, won.profit_factor) == (1.0, None, None)
    assert (lost.win_rate, lost.average_win, lost.profit_factor) == (0.0, None, 0.0)


def test_returns_that_do_not_differ_have_no_sharpe_ratio() -> None:
    steady = figures(curve(*1.01 ** np.arange(50)))
    assert (steady.sharpe, steady.sortino) == (None, None)
    assert steady.annual_volatility == pytest.approx(0.0, abs=1e-9)


def test_one_return_has_no_volatility() -> None:
    found = figures(curve(100, 95))
    assert (found.annual_volatility, found.sharpe) == (None, None)
    assert found.sortino == pytest.approx(-math.sqrt(525_600))


def test_after_everything_is_lost_nothing_is_won_or_lost() -> None:
    found = figures(curve(100, 0, 0, 0))
    assert (found.total_return, found.annual_return, found.max_drawdown) == (-1.0, -1.0, -1.0)
    assert found.sharpe == pytest.approx(
        statistics.mean([-1, 0, 0]) / statistics.stdev([-1, 0, 0]) * math.sqrt(525_600)
    )


def test_profits_of_all_trades_are_what_the_capital_changed_by() -> None:
    random = np.random.default_rng(5)
    bars = {symbol: made(random, 400) for symbol in "ABC"}
    found = backtest(bars, {symbol: positions(random, table) for symbol, table in bars.items()}, capital=9000.0)
    assert found.trades["profit"].sum() == pytest.approx(found.equity.iloc[-1] - 9000)
    assert found.metrics.trades == len(found.trades) > 100
    assert found.trades["exit_time"].is_monotonic_increasing


def test_exposure_counts_bars_and_not_sizes() -> None:
    bars = flat(*[100.0] * 4)
    assert backtest(bars, decided(bars, 0.1, 0.1, 0, 0)).metrics.exposure == 0.5
