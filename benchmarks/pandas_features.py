"""The features of the newest bar of a window of at most 200, written as one would in pandas: what ours are held to.

pandas keeps rolling sums under way, which leave something behind: of equal numbers its deviation need not be 0. `Exact`
computes each window for itself, much slower; `Rolling` is what one would use.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandas_ta as ta

from storage.feature_names import NEWEST, VERSIONS


class Rolling:
    """Windows of pandas."""

    def mean(self, x: "pd.Series[float]", n: int) -> "pd.Series[float]":
        return x.rolling(n).mean()

    def sum(self, x: "pd.Series[float]", n: int) -> "pd.Series[float]":
        return x.rolling(n).sum()

    def std(self, x: "pd.Series[float]", n: int, ddof: int = 1) -> "pd.Series[float]":
        return x.rolling(n).std(ddof=ddof)


class Exact(Rolling):
    """Each window for itself, in distances from its last number."""

    def mean(self, x: "pd.Series[float]", n: int) -> "pd.Series[float]":
        return x.rolling(n).apply(lambda window: window.iloc[-1] + (window - window.iloc[-1]).mean())

    def sum(self, x: "pd.Series[float]", n: int) -> "pd.Series[float]":
        return x.rolling(n).apply(np.sum)

    def std(self, x: "pd.Series[float]", n: int, ddof: int = 1) -> "pd.Series[float]":
        return x.rolling(n).apply(lambda window: (window - window.iloc[-1]).std(ddof=ddof))


def pandas_features(bars: pd.DataFrame, quotes: pd.DataFrame, of: Rolling) -> "pd.Series[float]":
    """`bars`: the columns of `storage.schema.BARS`, indexed by their start; `quotes`: the last quote of each second of
    the minute before the end of the newest bar, with `age` (s) at that end. Null where a value is not defined."""
    frame = pd.DataFrame(index=bars.index)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _v1(frame, bars, of)
        _more(frame, bars, of)
        _traded(frame, bars, of)
    newest = frame.iloc[-1].astype(float)
    newest = pd.concat([newest, _quoted(quotes, bars["close"].iloc[-1])])
    assert set(newest.index) == set(VERSIONS[NEWEST])
    return newest[list(VERSIONS[NEWEST])].replace([np.inf, -np.inf], np.nan)


def _v1(f: pd.DataFrame, bars: pd.DataFrame, of: Rolling) -> None:
    c, h, l, v = bars["close"], bars["high"], bars["low"], bars["volume"]  # noqa: E741 (as the definitions say)
    f["return_1"], f["return_5"], f["return_10"] = c / c.shift(1) - 1, c / c.shift(5) - 1, c / c.shift(10) - 1
    f["log_return"] = np.log(c / c.shift(1))
    f["price_momentum_5"], f["price_momentum_10"] = (c - c.shift(5)) / c.shift(5), (c - c.shift(10)) / c.shift(10)
    f["price_acceleration"] = f["return_1"].diff()
    for n in (5, 10, 20):
        f[f"volatility_{n}"] = of.std(f["return_1"], n)
    f["high_low_ratio"] = (h - l) / c
    true_range = pd.concat([h - l, (h - c.shift()).abs(), (l - c.shift()).abs()], axis=1).max(axis=1)
    f["true_range"] = true_range.where(c.shift().notna())
    f["volatility_trend"] = f["volatility_10"] / f["volatility_20"]
    f["volume_change"] = v / v.shift(1) - 1
    f["volume_momentum_5"], f["volume_momentum_10"] = v / v.shift(5) - 1, v / v.shift(10) - 1
    f["volume_ratio_5"], f["volume_ratio_20"] = v / of.mean(v, 5), v / of.mean(v, 20)
    f["volume_price_trend"] = (v * np.sign(c.diff())).cumsum()
    f["volume_price_trend_norm"] = f["volume_price_trend"] / of.std(f["volume_price_trend"], 20)
    f["rsi"] = _or_null(ta.rsi(c), c)
    # It says 100 when there was no change at all, and begins before there are 15 bars.
    f["rsi"] = f["rsi"].where((c.diff().abs().cumsum() > 0) & (np.arange(len(c)) >= 14))
    known = f["rsi"].notna()
    f["rsi_oversold"] = (f["rsi"] < 30).astype(float).where(known)
    f["rsi_overbought"] = (f["rsi"] > 70).astype(float).where(known)
    f["rsi_neutral"] = f["rsi"].between(30, 70).astype(float).where(known)
    f["macd"] = _or_null(ta.ema(c, 12), c) - _or_null(ta.ema(c, 26), c)
    macd: Any = ta.macd(c) if len(c) >= 34 else None
    for name, column in (("macd_signal", "MACDs_12_26_9"), ("macd_diff", "MACDh_12_26_9")):
        f[name] = np.nan if macd is None else macd[column]
    d, before = f["macd_diff"], f["macd_diff"].shift()
    f["macd_crossover"] = ((d > 0) & (before <= 0)).astype(float).where(before.notna())
    f["macd_crossunder"] = ((d < 0) & (before >= 0)).astype(float).where(before.notna())
    middle, reach = of.mean(c, 20), 2 * of.std(c, 20, ddof=0)
    f["bb_upper"], f["bb_middle"], f["bb_lower"] = middle + reach, middle, middle - reach
    f["bb_position"] = (c - f["bb_lower"]) / (2 * reach)
    f["bb_width"] = 2 * reach / middle
    mean_width = of.mean(f["bb_width"], 20)
    f["bb_squeeze"] = (f["bb_width"] < mean_width).astype(float).where(mean_width.notna())
    index: Any = bars.index
    f["hour"], f["day_of_week"] = index.hour, index.dayofweek
    f["is_weekend"], f["is_market_open"] = f["day_of_week"] >= 5, 1
    for n in (20, 50, 100, 200):
        f[f"sma_{n}"] = of.mean(c, n)
        f[f"sma_{n}_distance"] = (c - f[f"sma_{n}"]) / f[f"sma_{n}"]
        f[f"price_above_sma_{n}"] = (c > f[f"sma_{n}"]).astype(float).where(f[f"sma_{n}"].notna())
    f["trend_strength"] = (f["sma_20"] - f["sma_50"]) / f["sma_50"]


def _more(f: pd.DataFrame, bars: pd.DataFrame, of: Rolling) -> None:
    c, h, l, v = bars["close"], bars["high"], bars["low"], bars["volume"]  # noqa: E741
    f["price_momentum"] = c - c.shift(10)
    for n in (5, 10, 20):
        f[f"price_std_{n}"] = of.std(c, n)
    f["high_low_range"] = h - l
    f["hl_ratio_ma"] = of.mean(((h - l) / c), 5)
    f["volume_momentum"] = v - of.mean(v, 10)
    f["volume_ratio"] = v / of.mean(v, 10)
    f["rsi_zone"] = 1 + f["rsi_overbought"] - f["rsi_oversold"]
    # Where prices only rise it says 100, and now and then a little less or more.
    moved, turned = np.sign(c.diff(14)), np.sign(f["rsi"].diff(14).round(9))
    f["rsi_divergence"] = turned.where(moved * turned < 0, 0.0).where(turned.notna())
    f["macd_histogram_change"] = f["macd_diff"].diff()
    f["volatility_ratio"] = f["volatility_5"] / f["volatility_20"]
    f["vw_momentum"] = (c - c.shift(10)) * v


def _traded(f: pd.DataFrame, bars: pd.DataFrame, of: Rolling) -> None:
    o, c, h, l, v = (bars[name] for name in ("open", "close", "high", "low", "volume"))  # noqa: E741
    signed = 2 * bars["buy_volume"] - v
    f["trade_count"] = bars["trade_count"]
    f["average_trade_size"] = v / bars["trade_count"]
    f["buy_ratio"] = bars["buy_volume"] / v
    f["trade_imbalance"] = signed / v
    for n in (5, 20):
        f[f"trade_imbalance_{n}"] = of.sum(signed, n) / of.sum(v, n)
    f["trade_sign_autocorrelation_20"] = _autocorrelation(np.sign(signed), 19)
    vwap = bars["quote_volume"] / v
    f["vwap_distance"] = (c - vwap) / vwap
    ranges, inner = np.log(h / l) ** 2, np.log(c / o) ** 2
    f["parkinson_volatility_20"] = np.sqrt(of.mean(ranges, 20) / (4 * np.log(2)))
    garman_klass = of.mean((ranges / 2 - (2 * np.log(2) - 1) * inner), 20)
    f["garman_klass_volatility_20"] = np.sqrt(garman_klass.clip(lower=0))
    moves = np.log(c / c.shift())
    squares = of.sum((moves**2), 20)
    f["realised_volatility_20"] = np.sqrt(squares)
    f["realised_skewness_20"] = np.sqrt(20) * of.sum((moves**3), 20) / squares**1.5
    f["realised_kurtosis_20"] = 20 * of.sum((moves**4), 20) / squares**2
    f["return_autocorrelation_20"] = _autocorrelation(f["return_1"], 20)
    f["efficiency_ratio_10"] = (c - c.shift(10)).abs() / of.sum(c.diff().abs(), 10)
    illiquid = (f["return_1"].abs() / bars["quote_volume"]).where(bars["quote_volume"] > 0)
    f["amihud_illiquidity_20"] = illiquid.tail(20).mean() if len(c) >= 21 else np.nan
    f["kyle_lambda_20"] = f["roll_spread_20"] = np.nan
    change = c.diff()
    if len(c) >= 21:
        f["kyle_lambda_20"] = change.tail(20).cov(signed.tail(20)) / _variance(signed.tail(20))
    if len(c) >= 22:
        f["roll_spread_20"] = 2 * np.sqrt(max(-change.tail(20).cov(change.shift().tail(20)), 0))
    f["vpin_20"] = of.sum(signed.abs(), 20) / of.sum(v, 20)


def _quoted(q: pd.DataFrame, close: float) -> "pd.Series[float]":
    names = VERSIONS[NEWEST][-14:]
    found = pd.Series(np.nan, index=list(names))
    found["quoted_seconds_60s"] = len(q)
    if q.empty:
        return found
    middle, size = (q["bid_price"] + q["ask_price"]) / 2, q["bid_size"] + q["ask_size"]
    with np.errstate(all="ignore"):
        spread, imbalance = q["ask_price"] - q["bid_price"], (q["bid_size"] - q["ask_size"]) / size
        micro = (q["bid_price"] * q["ask_size"] + q["ask_price"] * q["bid_size"]) / size
        found["spread"], found["spread_bps"] = spread.iloc[-1], (spread / middle * 1e4).iloc[-1]
        found["microprice"], found["microprice_distance"] = micro.iloc[-1], ((micro - middle) / middle).iloc[-1]
        found["book_imbalance"], found["quote_age"] = imbalance.iloc[-1], q["age"].iloc[-1]
        found["close_to_mid"] = (close - middle.iloc[-1]) / middle.iloc[-1]
        found["spread_bps_mean_60s"] = (spread / middle * 1e4).mean()
        found["book_imbalance_mean_60s"] = imbalance.mean(skipna=False)
        if len(q) > 1:
            b, a, bs, az = q["bid_price"], q["ask_price"], q["bid_size"], q["ask_size"]
            flow = (
                bs.where(b >= b.shift(), 0)
                - bs.shift().where(b <= b.shift(), 0)
                - az.where(a <= a.shift(), 0)
                + az.shift().where(a >= a.shift(), 0)
            )
            total = flow.iloc[1:].sum(skipna=False)
            found["order_flow_imbalance_60s"] = total
            found["order_flow_imbalance_ratio_60s"] = total / (size / 2).mean(skipna=False)
            found["mid_return_60s"] = middle.iloc[-1] / middle.iloc[0] - 1
            found["mid_realised_volatility_60s"] = np.sqrt((np.log(middle / middle.shift()) ** 2).sum())
    return found


def _variance(x: "pd.Series[float]") -> float:
    variance = float(x.var())
    return variance if variance > 1e-24 * x.mean() ** 2 else 0.0


def _autocorrelation(x: "pd.Series[float]", n: int) -> float:
    here, before = x.tail(n), x.shift().tail(n)
    if len(here) < n or before.isna().any():
        return float("nan")
    return float(here.cov(before)) / np.sqrt(_variance(here) * _variance(before))


def _or_null(found: Any, like: "pd.Series[float]") -> Any:
    return pd.Series(np.nan, index=like.index) if found is None else found
