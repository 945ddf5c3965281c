"""What an alert can be about. Each condition is a statement that holds or does not at every event of a series: trades
of a symbol, or closed bars of one timeframe with their indicators. All comparisons are strict.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
#: By name, one value per event, NaN where it is not known.
Columns = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Condition:
    """`judge` says of each event whether the condition holds and what was compared with the threshold; it needs
    `columns`: `price` of trades, or indicators and `close` and `volume` of bars. Thresholds are 0 to `most`, None
    where it takes none. `crossing`: it is about a change, so that the first event alone says nothing."""

    columns: tuple[str, ...]
    judge: Callable[[Columns, float], tuple[Bools, Floats]]
    says: str
    most: float | None = float("inf")
    crossing: bool = False

    @property
    def of_trades(self) -> bool:
        return self.columns == ("price",)

    def message(self, threshold: float | None, value: float, timeframe: str | None) -> str:
        direction = "above" if threshold else "below"
        return self.says.format(threshold=threshold, value=value, timeframe=timeframe, direction=direction)


def _above(name: str) -> Callable[[Columns, float], tuple[Bools, Floats]]:
    return lambda columns, threshold: (columns[name] > threshold, columns[name])


def _below(name: str) -> Callable[[Columns, float], tuple[Bools, Floats]]:
    return lambda columns, threshold: (columns[name] < threshold, columns[name])


def _macd(columns: Columns, threshold: float) -> tuple[Bools, Floats]:
    macd, signal = columns["macd"], columns["macd_signal"]
    return (macd > signal if threshold else macd < signal), macd - signal


def _volume(columns: Columns, threshold: float) -> tuple[Bools, Floats]:
    volume, average = columns["volume"], columns["volume_sma"]
    return volume > threshold * average, np.divide(volume, average, out=np.zeros(len(volume)), where=average > 0)


CONDITIONS: Final[dict[str, Condition]] = {
    "price_above": Condition(("price",), _above("price"), "price {value:.12g} is above {threshold:.12g}"),
    "price_below": Condition(("price",), _below("price"), "price {value:.12g} is below {threshold:.12g}"),
    "rsi_above": Condition(
        ("rsi_14",), _above("rsi_14"), "RSI of {timeframe} bars is {value:.2f}, above {threshold:g}", most=100.0
    ),
    "rsi_below": Condition(
        ("rsi_14",), _below("rsi_14"), "RSI of {timeframe} bars is {value:.2f}, below {threshold:g}", most=100.0
    ),
    # Upwards (bullish) for a threshold above 0, downwards (bearish) for 0.
    "macd_crossover": Condition(
        ("macd", "macd_signal"),
        _macd,
        "MACD of {timeframe} bars has crossed its signal and is {direction} it",
        crossing=True,
    ),
    "bollinger_above": Condition(
        ("close", "bb_upper"),
        lambda columns, _: (columns["close"] > columns["bb_upper"], columns["close"]),
        "a {timeframe} bar closed at {value:.12g}, above the upper Bollinger band",
        most=None,
    ),
    "bollinger_below": Condition(
        ("close", "bb_lower"),
        lambda columns, _: (columns["close"] < columns["bb_lower"], columns["close"]),
        "a {timeframe} bar closed at {value:.12g}, below the lower Bollinger band",
        most=None,
    ),
    "volume_spike": Condition(
        ("volume", "volume_sma"),
        _volume,
        "volume of a {timeframe} bar is {value:.2f} times its average, above {threshold:g}",
    ),
}
