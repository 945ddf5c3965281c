"""Indicators are those of pandas-ta, and the same however a series is cut."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandas_ta as ta
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.aggregation.indicators import FIELDS, LOOK_BACK, STATE, advance

Floats = NDArray[np.float64]


#: In the unit of prices.
_PRICES = tuple(name for name in FIELDS if name.startswith(("macd", "bb_", "sma_", "ema_", "vwap", "atr_")))


@dataclass(frozen=True)
class Series:
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.close)

    def part(self, begin: int, end: int) -> "Series":
        return Series(self.high[begin:end], self.low[begin:end], self.close[begin:end], self.volume[begin:end])


def values(series: Series) -> Floats:
    """From the first bar on."""
    return go_on(series, 0, np.zeros(1, STATE))[1]


def go_on(series: Series, known: int, before: NDArray[np.void]) -> tuple[NDArray[np.void], Floats]:
    count = len(series) - known
    states, found = np.zeros(count, STATE), np.empty((count, len(FIELDS)))
    advance(series.high, series.low, series.close, series.volume, known, before[0], states, found)
    return states, found


def oracle(series: Series) -> pd.DataFrame:
    # It adds its smallest number to ranges of nothing, which is much where prices are small. A power of two is exact.
    factor = 2.0 ** -np.floor(np.log2(series.close[0]))
    high, low, close = (pd.Series(one * factor) for one in (series.high, series.low, series.close))
    volume = pd.Series(series.volume)
    macd, bands = ta.macd(close), ta.bbands(close, length=20, ddof=0)
    stochastic = ta.stoch(high, low, close).reindex(close.index)
    typical = (high + low + close) / 3
    money, traded = ((one).rolling(200, min_periods=1).sum() for one in (typical * volume, volume))
    deviation = typical.rolling(14).apply(lambda window: np.abs(window - window.mean()).mean(), raw=True)
    expected = {
        "rsi_14": ta.rsi(close).where(close.index >= 14),
        "macd": macd.iloc[:, 0],
        "macd_hist": macd.iloc[:, 1],
        "macd_signal": macd.iloc[:, 2],
        "bb_lower": bands.iloc[:, 0],
        "bb_middle": bands.iloc[:, 1],
        "bb_upper": bands.iloc[:, 2],
        **{f"sma_{length}": ta.sma(close, length=length) for length in (20, 50, 100, 200)},
        **{f"ema_{length}": ta.ema(close, length=length) for length in (12, 26, 50)},
        "vwap": (money / traded).where(traded > 0),
        "stoch_k": stochastic.iloc[:, 0],
        "stoch_d": stochastic.iloc[:, 1],
        "atr_14": ta.atr(high, low, close),
        "adx_14": ta.adx(high, low, close).iloc[:, 0].where(close.index >= 27),
        "volume_sma": ta.sma(volume, length=20),
        # With pandas 3 it leaves out the first bar.
        "obv": ta.obv(close, volume).fillna(0.0) + series.volume[0],
        # pandas-ta lacks parentheses around the difference.
        "cci_14": (typical - typical.rolling(14).apply(np.mean, raw=True)) / (0.015 * deviation),
        "mfi_14": ta.mfi(high, low, close, volume),
        "williams_r_14": ta.willr(high, low, close),
        "roc_10": ta.roc(close),
    }
    table = pd.DataFrame(expected)[list(FIELDS)]
    table[list(_PRICES)] /= factor
    # What rounding of the prices makes of a difference that is divided by a small one.
    table["cci_noise"] = 16 * np.finfo(float).eps * typical / (0.015 * deviation)
    return table


def made(seed: int, count: int, price: float, step: float, zero_volume: float, still: float) -> Series:
    """A random walk, some of whose bars have no volume or no change."""
    random = np.random.default_rng(seed)
    moves = random.normal(0, step, count) * (random.random(count) >= still)
    close = price * np.exp(np.cumsum(moves))
    before = np.concatenate([[price], close[:-1]])
    reach = np.exp(np.abs(random.normal(0, step, (2, count))) * (random.random(count) >= still))
    high, low = np.maximum(before, close) * reach[0], np.minimum(before, close) / reach[1]
    volume = random.exponential(1000 / price, count) * (random.random(count) >= zero_volume)
    return Series(high, low, close, volume)


series_strategy = st.builds(
    made,
    seed=st.integers(0, 2**32),
    count=st.integers(200, 320),
    price=st.sampled_from([1e-9, 1e-4, 1.0, 60_000.0, 1e9]),
    step=st.sampled_from([1e-5, 1e-3, 0.05]),
    zero_volume=st.sampled_from([0.0, 0.3, 1.0]),
    still=st.sampled_from([0.0, 0.5]),
)

#: Differences of numbers of this column's size: what is left of them is only as exact as they are.
_SCALE = {
    **dict.fromkeys(("macd", "macd_signal", "macd_hist", "atr_14"), "close"),
    **dict.fromkeys(("obv", "volume_sma"), "volume"),
    **dict.fromkeys(("rsi_14", "stoch_k", "stoch_d", "adx_14", "mfi_14", "williams_r_14", "roc_10"), "percent"),
}


def same(found: Floats, series: Series, fields: tuple[str, ...] = FIELDS) -> None:
    expected = oracle(series)
    scales = {"close": float(series.close.max()), "volume": float(series.volume.sum()), "percent": 100.0}
    for name in fields:
        ours, theirs = found[:, FIELDS.index(name)], expected[name].to_numpy(float)
        noise = expected["cci_noise"].to_numpy() if name == "cci_14" else scales.get(_SCALE.get(name, ""), 0.0) * 1e-12
        assert (np.isnan(ours) == np.isnan(theirs)).all(), name
        off = np.abs(ours - theirs) > 1e-9 * np.abs(theirs) + noise
        assert not off.any(), (name, np.flatnonzero(off), ours[off], theirs[off])


@settings(deadline=None, max_examples=60)
@given(series_strategy)
def test_values_are_those_of_pandas_ta(series: Series) -> None:
    same(values(series), series)


def test_every_field_is_null_until_it_has_its_bars_and_never_after() -> None:
    found = values(made(3, 400, 100.0, 0.01, 0.0, 0.0))
    needs = dict.fromkeys(FIELDS, 1) | {
        "rsi_14": 15, "macd": 26, "macd_signal": 34, "macd_hist": 34, "ema_12": 12, "ema_26": 26, "ema_50": 50,
        "stoch_k": 16, "stoch_d": 18, "atr_14": 14, "adx_14": 28, "cci_14": 14, "mfi_14": 15, "williams_r_14": 14,
        "roc_10": 11, "sma_50": 50, "sma_100": 100, "sma_200": 200,
        **dict.fromkeys(("bb_upper", "bb_middle", "bb_lower", "sma_20", "volume_sma"), 20),
    }  # fmt: skip
    for place, name in enumerate(FIELDS):
        defined = ~np.isnan(found[:, place])
        assert defined.tolist() == [count >= needs[name] for count in range(1, 401)], name


@settings(deadline=None, max_examples=60)
@given(series_strategy, st.integers(0, 320), st.integers(0, 5))
def test_a_series_goes_on_from_any_bar_to_the_last_bit(series: Series, cut: int, more: int) -> None:
    cut = min(cut, len(series))
    states, whole = go_on(series, 0, np.zeros(1, STATE))
    begin = max(cut - LOOK_BACK - more, 0)
    before = states[cut - 1 : cut] if cut else np.zeros(1, STATE)
    states_again, rest = go_on(series.part(begin, len(series)), cut - begin, before)
    assert rest.tobytes() == whole[cut:].tobytes()
    assert states_again.tobytes() == states[cut:].tobytes()


@settings(deadline=None, max_examples=40)
@given(series_strategy, st.integers(0, 319), st.floats(0.5, 2.0))
def test_a_revised_bar_changes_what_comes_after_as_if_everything_was_computed_anew(series, place, factor) -> None:
    place = min(place, len(series) - 1)
    states, before = go_on(series, 0, np.zeros(1, STATE))
    revised = Series(series.high.copy(), series.low.copy(), series.close.copy(), series.volume.copy())
    revised.high[place] *= max(factor, 1.0)
    revised.volume[place] *= factor
    anew = values(revised)
    assert anew[:place].tobytes() == before[:place].tobytes(), "nothing looks ahead"
    begin = max(place - LOOK_BACK, 0)
    known = states[place - 1 : place] if place else np.zeros(1, STATE)
    _, rest = go_on(revised.part(begin, len(revised)), place - begin, known)
    assert rest.tobytes() == anew[place:].tobytes()


@pytest.mark.parametrize("price", [1e-9, 1.0, 1e9])
def test_a_constant_price_without_volume(price: float) -> None:
    flat = np.full(300, price)
    series = Series(flat, flat, flat, np.zeros(300))
    found = values(series)
    # A change of nothing, or a range of nothing, says nothing: pandas-ta divides by its smallest number there.
    same(found, series, tuple(set(FIELDS) - {"atr_14", "adx_14", "cci_14"}))
    last = dict(zip(FIELDS, found[-1], strict=True))
    for name in ("rsi_14", "adx_14", "vwap", "cci_14", "williams_r_14"):
        assert np.isnan(last[name]), name
    assert (last["atr_14"], last["macd_hist"], last["mfi_14"], last["obv"]) == (
        0.0,
        pytest.approx(0, abs=price * 1e-12),
        0.0,
        0.0,
    )
    for name in ("sma_200", "ema_50", "bb_upper", "bb_lower"):
        assert last[name] == pytest.approx(price, rel=1e-12)


def test_a_jump_of_ten_thousand_percent() -> None:
    series = made(5, 300, 1.0, 1e-3, 0.0, 0.0)
    high, low, close = (np.concatenate([one[:150], one[150:] * 101]) for one in (series.high, series.low, series.close))
    jumped = Series(high, low, close, series.volume)
    # pandas' rolling variance still remembers the jump when it has left the window.
    same(values(jumped), jumped, tuple(name for name in FIELDS if not name.startswith("bb_")))
    expected = oracle(jumped)
    for name in ("bb_upper", "bb_lower"):
        np.testing.assert_allclose(values(jumped)[:, FIELDS.index(name)], expected[name], rtol=1e-6, equal_nan=True)


def test_a_price_that_only_rises_and_one_that_only_falls() -> None:
    for factor, rsi in ((1.01, 100.0), (1 / 1.01, 0.0)):
        close = 100 * factor ** np.arange(250)
        series = Series(close * 1.001, close / 1.001, close, np.ones(250))
        found = values(series)
        same(found, series)
        assert found[-1, FIELDS.index("rsi_14")] == rsi
