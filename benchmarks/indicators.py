"""All indicators of 1,000 symbols at a bar close, beside pandas-ta, which computes its window of 200 bars again."""

import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from actors.aggregation.indicators import FIELDS, LOOK_BACK, STATE, advance_all
from benchmarks.table import Bound, Row

SYMBOLS: Final = 1_000
#: Bars before the one that closes, and symbols pandas-ta is asked about in a round: it takes long for each.
BARS: Final = 400
SAMPLE: Final = 20
ROUNDS: Final = 9


def rows() -> list[Row]:
    """Symbols in a second of processor time."""
    high, low, close, volume = made()
    states, values = np.zeros((SYMBOLS, BARS), STATE), np.empty((SYMBOLS, BARS, len(FIELDS)))
    before = np.zeros(SYMBOLS, STATE)
    advance_all(*(one[:, :-1] for one in (high, low, close, volume)), 0, before, states, values)
    newest = [np.ascontiguousarray(one[:, -LOOK_BACK - 1 :]) for one in (high, low, close, volume)]
    known, state, value = states[:, -1].copy(), np.zeros((SYMBOLS, 1), STATE), np.empty((SYMBOLS, 1, len(FIELDS)))
    recomputed = _pandas_ta()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        advance_all(*newest, LOOK_BACK, known, state, value)
        ours.append(SYMBOLS / (time.process_time() - began))
        began = time.process_time()
        for symbol in range(SAMPLE):
            recomputed(*(pd.Series(one[symbol, -200:]) for one in (high, low, close, volume)))
        theirs.append(SAMPLE / (time.process_time() - began))
    _check(value[:, 0], [pd.Series(one[0, -200:]) for one in (high, low, close, volume)])
    return [
        Row(
            f"indicators: {len(FIELDS)} of 1,000 symbols at a bar close",
            median(ours),
            "symbols/s",
            median(theirs),
            "pandas-ta 0.4.71b0, 200 bars again",
            Bound(ratio_at_least=100),
            f"{SYMBOLS / median(ours) * 1e3:.2f} ms for all of them, one core",
        )
    ]


def made() -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """High, low, close and volume of random walks, a row for each symbol."""
    random = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, (SYMBOLS, BARS + 1)), axis=1))
    high, low = (close * np.exp(sign * np.abs(random.normal(0, 1e-3, close.shape))) for sign in (1, -1))
    return [high, low, close, random.exponential(10, close.shape)]


def _pandas_ta() -> Callable[..., list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas_ta as ta

    def recomputed(high: Any, low: Any, close: Any, volume: Any) -> list[Any]:
        typical = (high + low + close) / 3
        return [
            ta.rsi(close),
            ta.macd(close),
            ta.bbands(close, length=20, ddof=0),
            *(ta.sma(close, length=length) for length in (20, 50, 100, 200)),
            *(ta.ema(close, length=length) for length in (12, 26, 50)),
            (typical * volume).cumsum() / volume.cumsum(),
            ta.stoch(high, low, close),
            ta.atr(high, low, close),
            ta.adx(high, low, close),
            ta.sma(volume, length=20),
            ta.obv(close, volume),
            ta.cci(high, low, close),
            ta.mfi(high, low, close, volume),
            ta.willr(high, low, close),
            ta.roc(close),
        ]

    return recomputed


def _check(values: np.ndarray[Any, np.dtype[np.float64]], series: list[Any]) -> None:
    """What looks back over the same bars must be the same."""
    high, low, close, _ = series
    lowest, highest = low[-14:].min(), high[-14:].max()
    expected = {"sma_200": close.mean(), "williams_r_14": 100 * ((close.iloc[-1] - lowest) / (highest - lowest) - 1)}
    for name, value in expected.items():
        assert abs(values[0, FIELDS.index(name)] - value) < 1e-9, name
