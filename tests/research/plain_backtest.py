"""A slow backtester that goes from bar to bar with money and units in its hands, to hold the fast one against."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass
class Account:
    """What one symbol's capital becomes."""

    money: float
    fee: float
    slippage: float
    units: float = 0.0
    target: float = 0.0
    ruined: bool = False
    traded: float = 0.0
    bars_held: int = 0
    trades: list[dict[str, Any]] = field(default_factory=list)

    def worth(self, price: float) -> float:
        return self.money + self.units * price

    def reach(self, target: float, price: float, time: pd.Timestamp) -> None:
        """Buy or sell so much that `target` of what is left is held."""
        before = self.worth(price)
        wanted = target * before - self.units * price
        buys = wanted > 0.0
        paid = price * (1.0 + self.slippage if buys else 1.0 - self.slippage)
        # Of the amount, at the price without slippage.
        costs = paid * (1.0 + self.fee) / price - 1.0 if buys else 1.0 - paid * (1.0 - self.fee) / price
        amount = wanted / (1.0 + costs * target) if buys else wanted / (1.0 - costs * target)
        units = amount / price if target else -self.units
        fee = abs(units) * paid * self.fee
        if not self.target:
            self.trades.append(
                {
                    "direction": 1 if target > 0.0 else -1,
                    "entry_time": time,
                    "entry_price": paid,
                    "fees": 0.0,
                    "before": before,
                }
            )
        self.money -= units * paid + fee
        self.units = self.units + units if target else 0.0
        assert abs(self.units * price - target * self.worth(price)) <= 1e-9 * max(before, abs(amount))
        self.traded += abs(units) * paid
        self.trades[-1]["fees"] += fee
        if not target:
            profit = self.money - self.trades[-1]["before"]
            self.trades[-1] |= {"exit_time": time, "exit_price": paid, "profit": profit}
            self.trades[-1]["return"] = profit / self.trades[-1].pop("before")
        self.target = target

    def end_of_money(self) -> float:
        """The price at which buying back takes all there is; a short has one."""
        return (
            self.money / (-self.units * (1.0 + self.slippage) * (1.0 + self.fee)) if self.units < 0.0 else float("inf")
        )

    def ruin(self, price: float, time: pd.Timestamp) -> None:
        self.reach(0.0, price, time)
        self.money, self.ruined = 0.0, True


def plain(bars: pd.DataFrame, positions: "pd.Series[float]", capital: float, fee: float, slippage: float) -> Any:
    """The account at the end, and what it was worth at the close of each bar."""
    account = Account(capital, fee, slippage)
    curve, wanted, decided = [], 0.0, positions.tolist()
    for at, (time, bar) in enumerate(zip(bars.index, bars.itertuples(), strict=True)):
        if not account.ruined and bar.open >= account.end_of_money():
            account.ruin(account.end_of_money(), time)
        if not account.ruined and wanted != account.target:
            if wanted * account.target < 0.0:
                account.reach(0.0, bar.open, time)
            account.reach(wanted, bar.open, time)
        account.bars_held += account.units != 0.0
        if not account.ruined and bar.high >= account.end_of_money():
            account.ruin(account.end_of_money(), time)
        if at == len(bars) - 1 and account.units:
            account.reach(0.0, bar.close, time)
        curve.append(account.worth(bar.close))
        wanted = decided[at]
    return account, pd.Series(curve, bars.index)
