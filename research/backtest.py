"""What positions would have earned on past bars, without a look ahead.

A position is decided at the close of a bar and filled at the open of the symbol's next one, with a fee and slippage
against us; what is decided at the last bar is never filled. Each symbol has an equal part of the capital for itself,
gains and losses stay in it. A position p (-1 to 1, short below 0) means that right after its fill, costs paid, p of
that part is in the symbol. Then its size stays until another position is decided, whatever becomes of the price. What
is held after the last bar is closed at its close, with costs.

A short that loses all its symbol's capital is closed at the price at which nothing is left, at the first bar that
reaches it; the symbol trades no more, and nothing beyond that is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.metrics import Metrics, drawdown_of, measure
from research.tables import Floats, Prices, Tables, by_symbol, check_bars, check_times, numbers

FEE: Final = 0.001
SLIPPAGE: Final = 0.0005
CAPITAL: Final = 10_000.0
#: More than this of the price is a mistake of the unit.
MOST_COSTS: Final = 0.1

#: Of one symbol, or of several by name.
type Positions = pd.Series[Any] | pd.DataFrame | Mapping[str, pd.Series[Any]]


@dataclass(frozen=True)
class Backtest:
    """Curves have a value for each time at which any symbol has a bar, as of the close of the bar that begins then."""

    #: All capital, and that of each symbol.
    equity: "pd.Series[float]"
    by_symbol: pd.DataFrame
    #: What is missing to the highest equity before, as a fraction of it: 0 or less.
    drawdown: "pd.Series[float]"
    #: One row for each time something was held, until it was closed or reversed, by exit and entry: `symbol`,
    #: `direction` (1 long, -1 short), `entry_time` and `exit_time` (starts of bars), `entry_price` and `exit_price`
    #: (of the first and the last fill, with slippage), `profit` (money, after costs), `return` (of the symbol's
    #: capital at the entry) and `fees` (money).
    trades: pd.DataFrame
    metrics: Metrics


class _Fills(NamedTuple):
    """One row for each change of what is held of a symbol; a reversal is two: closed, then opened."""

    bar: NDArray[np.int64]
    #: Without slippage.
    price: Floats
    #: The position from here on.
    target: Floats


class _Sleeve(NamedTuple):
    """What became of the capital of one symbol."""

    equity: Floats
    trades: pd.DataFrame
    #: Money that was bought and sold for.
    traded: float
    bars_held: int


def backtest(
    bars: Tables,
    positions: Positions,
    *,
    fee: float = FEE,
    slippage: float = SLIPPAGE,
    capital: float = CAPITAL,
) -> Backtest:
    """Trade `positions` (indexed as the bars) on the bars of one symbol or of several by name, whose times may differ;
    `fee` and `slippage` are fractions of the price of each fill. ValueError says what of it is wrong."""
    for name, costs in (("fee", fee), ("slippage", slippage)):
        if not 0.0 <= costs <= MOST_COSTS:
            raise ValueError(f"{name} must be a fraction of the price from 0 to {MOST_COSTS}, not {costs!r}")
    if not 0.0 < capital < np.inf:
        raise ValueError(f"capital must be more than 0, not {capital!r}")
    tables = by_symbol(bars)
    wanted = _by_symbol(positions, list(tables))
    share = capital / len(tables)
    sleeves = {
        symbol: _trade(symbol, table, _checked(symbol, table, wanted[symbol]), share, fee, slippage)
        for symbol, table in tables.items()
    }
    times = tables[next(iter(tables))].index
    for table in tables.values():
        times = times.union(table.index)
    curves = pd.DataFrame(
        {
            symbol: pd.Series(sleeve.equity, tables[symbol].index).reindex(times).ffill().fillna(share)
            for symbol, sleeve in sleeves.items()
        }
    )
    equity = curves.sum(axis=1).rename("equity")
    trades = pd.concat([sleeve.trades for sleeve in sleeves.values()], ignore_index=True)
    trades = trades.sort_values(["exit_time", "entry_time"], kind="stable", ignore_index=True)
    exposure = sum(sleeve.bars_held for sleeve in sleeves.values()) / sum(len(table) for table in tables.values())
    turnover = sum(sleeve.traded for sleeve in sleeves.values()) / float(equity.mean())
    return Backtest(equity, curves, drawdown_of(equity), trades, measure(equity, trades, exposure, turnover))


def _by_symbol(positions: Positions, symbols: list[str]) -> dict[str, "pd.Series[Any]"]:
    if isinstance(positions, pd.Series):
        if len(symbols) > 1:
            raise ValueError(f"positions of one symbol, but bars of {len(symbols)}: {', '.join(symbols)}")
        return {symbols[0]: positions}
    found = {str(symbol): position for symbol, position in positions.items()}
    if unmatched := sorted(found.keys() ^ set(symbols)):
        raise ValueError(f"{unmatched[0]}: there must be bars and positions of it")
    return found


def _checked(symbol: str, bars: pd.DataFrame, position: "pd.Series[Any]") -> Floats:
    times = check_times(bars, symbol)
    if len(position) != len(times) or not (position.index == times).all():
        raise ValueError(f"{symbol}: positions must have the times of the bars, one for each")
    found = numbers(position)
    wrong = ~(np.abs(found) <= 1.0)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(f"{symbol}: the position of {times[at]} must be from -1 to 1, not {found[at]}")
    return found


def _trade(symbol: str, bars: pd.DataFrame, position: Floats, capital: float, fee: float, slippage: float) -> _Sleeve:
    prices = check_bars(bars, symbol)
    buy_costs, sell_costs = (1.0 + slippage) * (1.0 + fee) - 1.0, 1.0 - (1.0 - slippage) * (1.0 - fee)
    #: In force from the open of each bar on.
    held = np.concatenate([[0.0], position[:-1]])
    fills, ruined = _until_ruin(_fills(prices, held), prices, buy_costs)
    if ruined is not None:
        held[ruined:] = 0.0
    elif held[-1]:
        fills = _closed(fills, len(held) - 1, prices.close[-1])

    # Everything as a fraction of the equity after the fill before.
    before, since = _previous(fills.target, 0.0), _previous(fills.price, 1.0)
    moved = fills.price / since
    worth = 1.0 + before * (moved - 1.0)
    holding = before * moved
    buys = fills.target * worth > holding
    costs, sign = np.where(buys, buy_costs, sell_costs), np.where(buys, 1.0, -1.0)
    # So much that the target is met by what is left after the costs of it.
    amount = np.abs(fills.target * worth - holding) / (1.0 + sign * costs * fills.target)
    kept = worth - costs * amount
    if ruined is not None:
        kept[-1] = 0.0
    after = capital * np.cumprod(kept)
    known = _previous(after, capital)
    paid = fills.price * (1.0 + sign * slippage)
    traded = known * amount * (1.0 + sign * slippage)

    at = _newest(fills, len(held))
    # Before the first fill: nothing is held of the capital.
    worths, targets, entries = (
        np.concatenate([[first], column])
        for first, column in ((capital, after), (0.0, fills.target), (1.0, fills.price))
    )
    equity = worths[at] * (1.0 + targets[at] * (prices.close / entries[at] - 1.0))
    entry, exit_ = (np.flatnonzero(one) for one in ((before == 0.0) & (fills.target != 0.0), fills.target == 0.0))
    at_entry = (known * worth)[entry]
    profit = after[exit_] - at_entry
    trades = pd.DataFrame(
        {
            "symbol": pd.Series([symbol] * len(entry), dtype=str),
            "direction": np.sign(fills.target[entry]).astype(np.int64),
            "entry_time": bars.index[fills.bar[entry]],
            "exit_time": bars.index[fills.bar[exit_]],
            "entry_price": paid[entry],
            "exit_price": paid[exit_],
            "profit": profit,
            "return": profit / at_entry,
            "fees": np.add.reduceat(fee * traded, entry) if len(entry) else np.empty(0),
        }
    )
    return _Sleeve(equity, trades, float(traded.sum()), np.count_nonzero(held))


def _fills(prices: Prices, held: Floats) -> _Fills:
    changed = np.flatnonzero(np.diff(held, prepend=0.0))
    reverses = held[changed] * held[changed - 1] < 0.0
    bar = np.repeat(changed, 1 + reverses)
    target = held[bar]
    # The first of the two.
    target[np.flatnonzero(np.repeat(reverses, 1 + reverses))[::2]] = 0.0
    return _Fills(bar, prices.open[bar], target)


def _until_ruin(fills: _Fills, prices: Prices, buy_costs: float) -> tuple[_Fills, int | None]:
    """The fills up to where a short is closed because nothing is left, and from which bar on nothing is held then."""
    short = fills.target < 0.0
    limits = np.full(len(short) + 1, np.inf)
    limits[1:][short] = fills.price[short] * (1.0 - fills.target[short]) / (-fills.target[short] * (1.0 + buy_costs))
    at = _newest(fills, len(prices.open))
    opens = prices.open >= limits[_previous(at, 0)]
    reached = opens | (prices.high >= limits[at])
    if not reached.any():
        return fills, None
    bar = int(np.argmax(reached))
    # At its open it comes before the fills of that bar.
    over = bar if opens[bar] else bar + 1
    count = int(np.searchsorted(fills.bar, over))
    return _closed(_Fills(fills.bar[:count], fills.price[:count], fills.target[:count]), bar, limits[count]), over


def _closed(fills: _Fills, bar: int, price: float) -> _Fills:
    return _Fills(np.append(fills.bar, bar), np.append(fills.price, price), np.append(fills.target, 0.0))


def _newest(fills: _Fills, bars: int) -> NDArray[np.int64]:
    """For each bar how many fills there are up to it."""
    return np.cumsum(np.bincount(fills.bar, minlength=bars))


def _previous[Number: (np.float64, np.int64)](column: NDArray[Number], first: float) -> NDArray[Number]:
    return np.concatenate([np.array([first], column.dtype), column])[:-1]
