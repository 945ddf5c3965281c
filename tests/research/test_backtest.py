"""A backtest gives what trading bar by bar gives, and never knows what comes later."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.backtest import Backtest, backtest
from tests.research.bars import BEGIN, decided, flat, made, of, other_from, positions, same, times
from tests.research.plain_backtest import plain

seeds = st.integers(0, 2**32)
#: From a market that hardly moves to one in which shorts lose all they have.
steps = st.sampled_from([1e-5, 0.01, 0.2])
costs = st.sampled_from([0.0, 0.001, 0.05])


@settings(deadline=None, max_examples=150)
@given(seeds, st.integers(1, 3), st.integers(1, 300), steps, st.sampled_from([0.0, 0.3]), costs, costs)
def test_it_agrees_with_trading_bar_by_bar(
    seed: int, symbols: int, count: int, step: float, gaps: float, fee: float, slippage: float
) -> None:
    random = np.random.default_rng(seed)
    bars = {f"S{number}": made(random, count, step, gaps) for number in range(symbols)}
    wanted = {symbol: positions(random, table) for symbol, table in bars.items()}
    found = backtest(bars, wanted, fee=fee, slippage=slippage, capital=3000.0)

    index = sorted({time for table in bars.values() for time in table.index})
    total, accounts = pd.Series(0.0, index), {}
    for symbol, table in bars.items():
        share = 3000.0 / symbols
        accounts[symbol], curve = plain(table, wanted[symbol], share, fee, slippage)
        total += curve.reindex(index).ffill().fillna(share)
    assert list(found.equity.index) == index
    # As exact as the most that was there.
    assert (np.abs(found.equity - total) <= 1e-12 * total.cummax()).all()
    assert found.metrics.exposure == sum(one.bars_held for one in accounts.values()) / sum(map(len, bars.values()))
    assert found.metrics.turnover == pytest.approx(
        sum(one.traded for one in accounts.values()) / total.mean(), rel=1e-9
    )
    for symbol, account in accounts.items():
        trades = found.trades[found.trades["symbol"] == symbol]
        assert len(trades) == len(account.trades)
        for name in ("direction", "entry_time", "exit_time"):
            assert list(trades[name]) == [trade[name] for trade in account.trades], name
        for name in ("entry_price", "exit_price", "fees", "profit", "return"):
            expected = [trade[name] for trade in account.trades]
            scale = 1e-9 if name == "return" else 1e-12 * total.max()
            assert trades[name].to_numpy() == pytest.approx(expected, rel=1e-9, abs=scale), name


@settings(deadline=None, max_examples=100)
@given(seeds, st.integers(2, 120), steps, st.data())
def test_what_was_before_a_bar_does_not_depend_on_bars_from_it_on(
    seed: int, count: int, step: float, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    bars = {"A": made(random, count, step), "B": made(random, count, step)}
    wanted = {symbol: positions(random, table) for symbol, table in bars.items()}
    place = data.draw(st.integers(1, count - 1))
    others = {symbol: other_from(table, place, random) for symbol, table in bars.items()}
    decisions = {
        symbol: pd.concat([wanted[symbol][:place], positions(random, table)[place:]])
        for symbol, table in others.items()
    }
    one, other = backtest(bars, wanted), backtest(others, decisions)
    # Where one ends, what is held is closed.
    place = min(place, *(len(table) - 1 for table in others.values()))
    assert same(one.equity[:place], other.equity[:place])
    assert same(one.drawdown[:place], other.drawdown[:place])
    begun, begun_too = (run.trades[run.trades["entry_time"] < one.equity.index[place]] for run in (one, other))
    for name in ("symbol", "direction", "entry_time", "entry_price"):
        assert sorted(begun[name]) == sorted(begun_too[name])
    over, over_too = (run.trades[run.trades["exit_time"] < one.equity.index[place]] for run in (one, other))
    assert over.equals(over_too)


def test_a_decision_is_filled_at_the_next_open_and_not_at_its_close() -> None:
    bars = of((10, 20, 10, 20), (25, 40, 25, 40), (40, 40, 40, 40))
    found = backtest(bars, decided(bars, 1, 1, 1), fee=0.0, slippage=0.0, capital=100.0)
    assert list(found.equity) == [100.0, 160.0, 160.0]
    assert found.trades["entry_price"].tolist() == [25.0]


def test_costs_are_those_computed_by_hand() -> None:
    bars = of((99, 99, 99, 99), (100, 112, 100, 110), (120, 120, 120, 120), (7, 7, 7, 7))
    found = backtest(bars, decided(bars, 1, 0, 0, 0), fee=0.001, slippage=0.0005, capital=10_000.0)
    bought_at, sold_at = 100 * 1.0005, 120 * 0.9995
    units = 10_000 / (bought_at * 1.001)
    left = units * sold_at * 0.999
    # Between the fills it is worth what it could be sold for without costs.
    assert list(found.equity) == pytest.approx([10_000, units * 110, left, left], rel=1e-14)
    [trade] = found.trades.to_dict("records")
    assert (trade["entry_time"], trade["exit_time"]) == (bars.index[1], bars.index[2])
    assert (trade["entry_price"], trade["exit_price"]) == pytest.approx((bought_at, sold_at), rel=1e-14)
    assert trade["fees"] == pytest.approx(0.001 * units * (bought_at + sold_at), rel=1e-14)
    assert (trade["profit"], trade["return"]) == pytest.approx((left - 10_000, left / 10_000 - 1), rel=1e-13)
    assert found.metrics.turnover == pytest.approx(units * (bought_at + sold_at) / found.equity.mean(), rel=1e-14)


def test_a_short_earns_when_the_price_falls_and_pays_its_costs() -> None:
    bars = flat(100, 100, 50, 50)
    found = backtest(bars, decided(bars, -1, 0, 0, 0), fee=0.001, slippage=0.0005, capital=1000.0)
    sold_at, bought_at = 100 * 0.9995, 50 * 1.0005
    # After the sale as much is owed as is owned: units x 100 = 1000 + units x (received - 100).
    units = 1000 / (200 - sold_at * 0.999)
    left = 1000 + units * sold_at * 0.999 - units * bought_at * 1.001
    assert found.equity.iloc[-1] == pytest.approx(left, rel=1e-14)
    assert found.trades["direction"].tolist() == [-1]


def test_a_reversal_is_the_end_of_one_trade_and_the_begin_of_another() -> None:
    bars = flat(100, 100, 110, 99, 99)
    found = backtest(bars, decided(bars, 1, -1, 0, 0, 0), fee=0.0, slippage=0.0, capital=100.0)
    assert found.trades["direction"].tolist() == [1, -1]
    assert found.trades["return"].tolist() == pytest.approx([0.1, 0.1])
    assert found.trades["exit_time"][0] == found.trades["entry_time"][1] == bars.index[2]
    assert found.trades["profit"].sum() == pytest.approx(found.equity.iloc[-1] - 100)


def test_a_change_of_size_is_part_of_a_trade_and_costs_what_the_difference_costs() -> None:
    bars = flat(100, 100, 100, 100, 100)
    found = backtest(bars, decided(bars, 0.5, 1, 0.5, 0, 0), fee=0.01, slippage=0.0, capital=1000.0)
    [trade] = found.trades.to_dict("records")
    at_once = backtest(bars, decided(bars, 1, 1, 1, 0, 0), fee=0.01, slippage=0.0, capital=1000.0)
    assert (trade["entry_time"], trade["exit_time"]) == (bars.index[1], bars.index[4])
    assert trade["fees"] == pytest.approx(at_once.trades["fees"][0], rel=0.01)


def test_the_size_stays_until_something_else_is_decided() -> None:
    bars = flat(100, 100, 200, 400)
    found = backtest(bars, decided(bars, 0.5, 0.5, 0.5, 0.5), fee=0.0, slippage=0.0, capital=100.0)
    assert list(found.equity) == [100.0, 100.0, 150.0, 250.0]


def test_what_is_held_at_the_end_is_closed_at_the_last_close_with_costs() -> None:
    bars = of((100, 100, 100, 100), (100, 130, 100, 130))
    found = backtest(bars, decided(bars, 1, 0), fee=0.01, slippage=0.0, capital=101.0)
    assert list(found.equity) == pytest.approx([101.0, 130 * 0.99])
    assert found.trades["exit_price"].tolist() == [130.0]
    assert found.trades["profit"].tolist() == pytest.approx([130 * 0.99 - 101.0])


def test_what_is_decided_at_the_last_bar_is_never_filled() -> None:
    bars = flat(100, 200)
    found = backtest(bars, decided(bars, 0, 1))
    assert found.trades.empty
    assert found.metrics.total_return == 0.0


def test_a_short_that_loses_all_is_closed_where_nothing_is_left_and_stays_out() -> None:
    jump = [(100, 100, 100, 100), (100, 100, 100, 100), (100, 10_100, 100, 150), (150, 150, 150, 150), (75, 75, 75, 75)]
    bars = of(*jump)
    found = backtest(bars, decided(bars, -1, -1, -1, 1, 1), fee=0.0, slippage=0.0, capital=100.0)
    assert list(found.equity) == [100.0, 100.0, 0.0, 0.0, 0.0]
    assert found.trades["exit_price"].tolist() == [200.0]
    assert found.trades["return"].tolist() == [-1.0]
    metrics = found.metrics
    assert (metrics.total_return, metrics.max_drawdown, metrics.annual_return) == (-1.0, -1.0, -1.0)
    # Two bars: in the second it ended.
    assert metrics.exposure == 2 / 5


def test_a_short_that_wakes_up_beyond_its_capital_owes_nothing() -> None:
    bars = flat(100, 100, 10_100, 1)
    found = backtest(bars, decided(bars, -0.5, -0.5, 1, 1), fee=0.001, slippage=0.0, capital=100.0)
    assert list(found.equity[2:]) == [0.0, 0.0]
    assert found.metrics.exposure == 1 / 4


def test_a_jump_of_10_000_percent_is_what_a_long_position_wins() -> None:
    bars = flat(1e-9, 1e-9, 1.01e-7)
    found = backtest(bars, decided(bars, 1, 1, 1), fee=0.0, slippage=0.0)
    assert found.metrics.total_return == pytest.approx(100.0)
    huge = flat(1e9, 1e9, 1.01e11)
    assert backtest(huge, decided(huge, 1, 1, 1), fee=0.0, slippage=0.0).metrics.total_return == pytest.approx(100.0)


def test_each_symbol_has_its_own_part_of_the_capital_and_its_own_times() -> None:
    a, b = flat(100, 100, 200, 200), flat(10, 10, 5, 5, 5)
    b = b.drop(b.index[[0, 3]])
    found = backtest({"A": a, "B": b}, {"A": decided(a, 1, 1, 1, 1), "B": decided(b, 1, 1, 1)}, fee=0.0, slippage=0.0)
    assert list(found.by_symbol["A"]) == [5000.0, 5000.0, 10_000.0, 10_000.0, 10_000.0]
    # Bought at its next bar, which is not the next minute.
    assert list(found.by_symbol["B"]) == [5000.0] * 5
    assert found.trades["entry_time"].tolist() == [a.index[1], b.index[1]]
    assert list(found.equity) == [10_000.0, 10_000.0, 15_000.0, 15_000.0, 15_000.0]


def test_positions_of_several_symbols_may_be_one_table() -> None:
    random = np.random.default_rng(1)
    bars = {"A": made(random, 50), "B": made(random, 50)}
    wanted = {symbol: positions(random, table) for symbol, table in bars.items()}
    assert same(backtest(bars, pd.DataFrame(wanted)).equity, backtest(bars, wanted).equity)


def test_one_table_of_bars_is_called_as_it_says() -> None:
    bars = flat(1, 1, 2)
    assert backtest(bars.assign(symbol="BTCUSDT"), decided(bars, 1, 1, 1)).trades["symbol"].tolist() == ["BTCUSDT"]


@pytest.mark.parametrize("count", [1, 5])
def test_without_a_trade_nothing_is_won_and_what_cannot_be_said_is_none(count: int) -> None:
    bars = flat(*[100.0] * count)
    found = backtest(bars, decided(bars, *[0.0] * count))
    assert list(found.equity) == [10_000.0] * count
    assert list(found.drawdown) == [0.0] * count
    metrics = found.metrics
    assert (metrics.total_return, metrics.max_drawdown, metrics.exposure, metrics.turnover) == (0.0, 0.0, 0.0, 0.0)
    assert metrics.trades == 0
    nothing = (metrics.win_rate, metrics.average_win, metrics.average_loss, metrics.profit_factor)
    assert (*nothing, metrics.sharpe, metrics.sortino) == (None,) * 6
    assert (metrics.bars_per_year, metrics.annual_return) == ((None, None) if count == 1 else (525_600.0, 0.0))


def test_a_constant_price_costs_what_fills_cost() -> None:
    bars = flat(*[100.0] * 4)
    found = backtest(bars, decided(bars, 1, 1, 1, 1), fee=0.01, slippage=0.0, capital=101.0)
    assert list(found.equity) == pytest.approx([101.0, 100.0, 100.0, 99.0])
    assert (found.metrics.win_rate, found.metrics.profit_factor) == (0.0, 0.0)


BARS = made(np.random.default_rng(3), 6)
ONES = pd.Series(1.0, BARS.index)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: backtest(BARS[:0], ONES[:0]), "bars: there are no rows"),
        (lambda: backtest({}, {}), "there is no symbol"),
        (lambda: backtest(BARS, ONES[:-1]), "bars: positions must have the times of the bars"),
        (lambda: backtest(BARS, ONES.shift(freq="1min")), "bars: positions must have the times of the bars"),
        (
            lambda: backtest(BARS[::-1], ONES[::-1]),
            f"times must ascend, but {BARS.index[4]} comes after {BARS.index[5]}",
        ),
        (lambda: backtest(BARS.iloc[[0, 1, 1]], ONES.iloc[[0, 1, 1]]), "times must ascend"),
        (lambda: backtest(BARS.reset_index(drop=True), ONES), "expected an index of times in UTC, not of int64"),
        (lambda: backtest(BARS.tz_localize(None), ONES), "expected an index of times in UTC, not of datetime64"),
        (lambda: backtest(BARS.drop(columns="open"), ONES), "bars: there is no column 'open'"),
        (lambda: backtest(BARS.assign(low=0.0), ONES), f"the bar of {BEGIN} has no possible prices: .* low 0"),
        (lambda: backtest(BARS.assign(close=np.nan), ONES), "no possible prices: .* close nan"),
        (lambda: backtest(BARS.assign(high=BARS.low), ONES), "no possible prices"),
        (lambda: backtest(BARS.assign(open="x"), ONES), "column 'open' is not of numbers"),
        (lambda: backtest(BARS.assign(closed=BARS.index < BARS.index[5]), ONES), r"is open; use bars\[bars.closed\]"),
        (lambda: backtest(BARS, ONES.replace(1.0, np.nan)), f"the position of {BEGIN} must be from -1 to 1, not nan"),
        (lambda: backtest(BARS, ONES * 1.1), "must be from -1 to 1, not 1.1"),
        (lambda: backtest(BARS, ONES, fee=-0.001), "fee must be a fraction of the price from 0 to 0.1, not -0.001"),
        (lambda: backtest(BARS, ONES, fee=np.nan), "fee must be"),
        (lambda: backtest(BARS, ONES, slippage=5), "slippage must be a fraction of the price from 0 to 0.1, not 5"),
        (lambda: backtest(BARS, ONES, capital=0), "capital must be more than 0, not 0"),
        (lambda: backtest({"A": BARS, "B": BARS}, ONES), "positions of one symbol, but bars of 2: A, B"),
        (lambda: backtest({"A": BARS, "B": BARS}, {"A": ONES}), "B: there must be bars and positions of it"),
        (lambda: backtest({"A": BARS}, {"A": ONES, "C": ONES}), "C: there must be bars and positions of it"),
        (lambda: backtest({"A": BARS, "B": BARS}, {"A": ONES, "B": ONES * 2}), "B: the position of"),
    ],
)
def test_what_is_wrong_is_said(wrong: Callable[[], Backtest], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("+00:00", r"\+00:00")):
        wrong()


def test_nothing_that_is_given_is_changed() -> None:
    bars, wanted = BARS.copy(), ONES.copy()
    backtest(bars, wanted)
    assert bars.equals(BARS)
    assert wanted.equals(ONES)
    assert times(6).equals(BARS.index)
