"""Features are what pandas says of the same window, and know nothing of what comes later."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.aggregation.features import LOOK_BACK, features
from actors.aggregation.quote_features import LOOK_BACK_S, SECOND, Quotes, last_of_seconds
from benchmarks.pandas_features import Exact, pandas_features
from storage.feature_names import NEWEST, VERSIONS
from storage.schema import BARS

MINUTE = 60 * SECOND
MONDAY = 1_704_067_200 * SECOND  # 2024-01-01
NAMES = VERSIONS[NEWEST]


def bars(closes: Any, volumes: Any, bought: Any = 0.5, spread: Any = 0.0, begin: int = MONDAY) -> pd.DataFrame:
    """One-minute bars; highs and lows are `spread` of the price away."""
    close, volume = np.asarray(closes, float), np.broadcast_to(volumes, len(closes)).astype(float)
    opens = np.r_[close[:1], close[:-1]]
    frame = pd.DataFrame(
        {
            "symbol": "BTCUSDT",
            "timeframe": "1m",
            "time": begin + np.arange(len(close)) * MINUTE,
            "open": opens,
            "high": np.maximum(opens, close) * (1 + np.asarray(spread)),
            "low": np.minimum(opens, close) * (1 - np.asarray(spread)),
            "close": close,
            "volume": volume,
            "quote_volume": volume * close,
            "trade_count": np.maximum(volume.astype(int), 1),
            "buy_volume": volume * np.asarray(bought),
            "vwap": close,
            "revision": np.int32(0),
            "closed": True,
        }
    )
    return frame.set_index(pd.to_datetime(frame["time"], unit="ns", utc=True))


def quotes_of(rows: Any) -> Quotes:
    """Of (ns, bid, bid size, ask, ask size)."""
    columns = np.array(rows, float).reshape(-1, 5).T if len(rows) else np.empty((5, 0))
    times = np.array([row[0] for row in rows], np.int64)
    return last_of_seconds(times, *columns[1:])


def computed(frame: pd.DataFrame, quotes: Quotes, begin: int = 0) -> pd.DataFrame:
    batch = pa.RecordBatch.from_pylist(frame.to_dict("records"), schema=BARS)
    made = features(batch, "1m", quotes, begin)
    assert not any(np.isinf(np.asarray(made.column(name))).any() for name in NAMES)
    found: pd.DataFrame = made.to_pandas()[list(NAMES)].astype(float)
    return found


def by_pandas(frame: pd.DataFrame, quotes: Quotes, at: int) -> "pd.Series[float]":
    end = int(frame["time"].iloc[at]) + MINUTE
    seen = (quotes.ts_event >= end - LOOK_BACK_S * SECOND) & (quotes.ts_event < end)
    minute = pd.DataFrame({name: getattr(quotes, name)[seen] for name in Quotes._fields})
    minute["age"] = (end - minute["ts_event"]) / SECOND
    return pandas_features(frame.iloc[max(at - LOOK_BACK, 0) : at + 1], minute, Exact())


def assert_equal(ours: "pd.Series[float]", theirs: "pd.Series[float]", scale: float) -> None:
    for name in NAMES:
        assert np.isnan(ours[name]) == np.isnan(theirs[name]), (name, ours[name], theirs[name])
        if not np.isnan(ours[name]):
            # What is left of numbers that cancel is as exact as those numbers were.
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9, abs=1e-12 * scale), name


some_bars = st.builds(
    lambda seed, n, step, quiet, still: _made(seed, n, step, quiet, still),
    st.integers(0, 2**32),
    st.integers(1, 260),
    st.sampled_from([1e-5, 1e-3, 0.1]),
    st.floats(0, 0.5),
    st.floats(0, 0.9),
)
some_quotes = st.lists(
    st.tuples(
        st.integers(-90 * SECOND, 90 * SECOND),
        st.floats(99, 101),
        st.floats(0, 10) | st.just(np.nan),
        st.floats(99, 102) | st.just(np.nan),
        st.floats(0, 10),
    ),
    max_size=40,
)


def _made(seed: int, n: int, step: float, quiet: float, still: float) -> pd.DataFrame:
    """A random walk that stands still now and then, with bars without volume."""
    random = np.random.default_rng(seed)
    moves = random.normal(0, step, n) * (random.random(n) > still)
    volume = np.round(random.exponential(10, n), 3) * (random.random(n) > quiet)
    spread = random.exponential(step, n) * (random.random(n) > still)
    return bars(100 * np.exp(np.cumsum(moves)), volume, random.random(n), np.minimum(spread, 0.5))


def around(frame: pd.DataFrame, rows: list[tuple[int, float, float, float, float]]) -> Quotes:
    """Quotes around the end of the newest bar, in the order of their time."""
    end = int(frame["time"].iloc[-1]) + MINUTE
    return quotes_of(sorted((end + at, *rest) for at, *rest in rows))


@settings(max_examples=60, deadline=None)
@given(some_bars, some_quotes, st.data())
def test_they_are_what_pandas_says_of_the_same_window(frame, rows, data) -> None:
    quotes = around(frame, rows)
    ours = computed(frame, quotes)
    for at in {len(frame) - 1, data.draw(st.integers(0, len(frame) - 1))}:
        scale = max(float(frame["volume"].max()), 1.0) * 100
        assert_equal(ours.iloc[at], by_pandas(frame, quotes, at), scale)


@settings(max_examples=100, deadline=None)
@given(some_bars, some_quotes, st.data())
def test_what_comes_later_changes_nothing(frame, rows, data) -> None:
    quotes, known = around(frame, rows), data.draw(st.integers(1, len(frame)))
    end = int(frame["time"].iloc[known - 1]) + MINUTE
    until_then = Quotes(*(column[quotes.ts_event < end] for column in quotes))
    pd.testing.assert_frame_equal(
        computed(frame.iloc[:known], until_then), computed(frame, quotes).iloc[:known], check_exact=True
    )


@settings(max_examples=60, deadline=None)
@given(some_bars, some_quotes, st.data())
def test_what_came_before_the_window_changes_nothing(frame, rows, data) -> None:
    quotes, at = around(frame, rows), len(frame) - 1
    first = data.draw(st.integers(0, max(at - LOOK_BACK, 0)))
    later = computed(frame.iloc[first:], quotes, at - first)
    pd.testing.assert_frame_equal(later, computed(frame, quotes).iloc[[at]].reset_index(drop=True), check_exact=True)


def test_versions_keep_their_columns() -> None:
    assert len(VERSIONS["v1.0"]) == 52
    assert VERSIONS["v1.0"][:3] == ("return_1", "return_5", "return_10")
    assert VERSIONS["v1.0"][-1] == "trend_strength"
    assert VERSIONS["v2.0"][:52] == VERSIONS["v1.0"]
    assert len(set(VERSIONS["v2.0"])) == 98


def test_nothing_is_said_before_there_is_the_history_for_it() -> None:
    made = computed(_made(3, 201, 1e-3, 0, 0), quotes_of([]))
    first = {name: int(made[name].first_valid_index() or 0) + 1 for name in NAMES if made[name].notna().any()}
    expected = {"return_1": 2, "price_acceleration": 3, "volatility_20": 21, "rsi": 15, "macd": 26, "macd_signal": 34}
    expected |= {"macd_crossover": 35, "bb_upper": 20, "bb_squeeze": 39, "sma_200": 200, "trend_strength": 50}
    expected |= {"volume_price_trend_norm": 21, "rsi_divergence": 29, "roll_spread_20": 22, "hour": 1}
    assert {name: first[name] for name in expected} == expected
    assert [name for name in NAMES if name not in first] == [*NAMES[-14:-1]], "without quotes"


def test_a_price_that_never_moves() -> None:
    last = computed(bars([0.1 + 0.2] * 201, 3.0), quotes_of([])).iloc[-1]
    for name in (
        "return_1",
        "volatility_20",
        "price_std_20",
        "bb_width",
        "realised_volatility_20",
        "macd",
        "true_range",
    ):
        assert last[name] == 0.0, name
    for name in ("rsi", "rsi_zone", "bb_position", "volatility_trend", "efficiency_ratio_10", "realised_kurtosis_20"):
        assert np.isnan(last[name]), name
    assert last["sma_200"] == 0.1 + 0.2


def test_no_volume_at_all() -> None:
    last = computed(_made(1, 60, 1e-3, 1.0, 0), quotes_of([])).iloc[-1]
    for name in ("volume_change", "volume_ratio_20", "buy_ratio", "vwap_distance", "amihud_illiquidity_20", "vpin_20"):
        assert np.isnan(last[name]), name
    assert last["volume_price_trend"] == 0.0
    assert np.isfinite(last["volatility_20"])


def test_a_jump_of_ten_thousand_per_cent_and_back() -> None:
    closes = [100.0] * 60 + [10_100.0] + [100.0] * 10
    made = computed(bars(closes, 1.0), quotes_of([]))
    assert made["return_1"].iloc[60] == pytest.approx(100.0)
    assert made["rsi_overbought"].iloc[60] == 1.0
    assert made["log_return"].iloc[61] == pytest.approx(-np.log(101))
    assert made["price_above_sma_50"].iloc[61] == 0.0


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_relative_features_do_not_depend_on_the_size_of_prices(scale: float) -> None:
    frame = _made(5, 201, 1e-3, 0, 0)
    scaled = bars(frame["close"] * scale, frame["volume"], frame["buy_volume"] / frame["volume"])
    plain = bars(frame["close"], frame["volume"], frame["buy_volume"] / frame["volume"])
    names = ["return_10", "volatility_20", "rsi", "bb_position", "trend_strength", "parkinson_volatility_20"]
    names += ["sma_200_distance", "realised_skewness_20", "return_autocorrelation_20", "vwap_distance"]
    ours = computed(scaled, quotes_of([])).iloc[-1][names]
    np.testing.assert_allclose(ours, computed(plain, quotes_of([])).iloc[-1][names], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("moment", "hour", "day", "weekend"),
    [("2024-02-29T23:59", 23, 3, 0), ("2023-12-31T23:59", 23, 6, 1), ("2024-01-01T00:00", 0, 0, 0)],
)
def test_the_calendar_at_a_leap_day_and_at_the_end_of_a_year(moment: str, hour: int, day: int, weekend: int) -> None:
    begin = int(datetime.datetime.fromisoformat(f"{moment}+00:00").timestamp()) * SECOND
    row = computed(bars([1.0], 1.0, begin=begin), quotes_of([])).iloc[0]
    assert (row["hour"], row["day_of_week"], row["is_weekend"]) == (hour, day, weekend)


def test_the_quote_at_the_end_of_a_bar_by_hand() -> None:
    frame = bars([100.0], 1.0)
    end = MONDAY + MINUTE
    rows = [
        (end - 61 * SECOND, 1.0, 1.0, 2.0, 1.0),  # a minute and more before
        (end - 3 * SECOND, 99.0, 2.0, 101.0, 4.0),
        (end - 2 * SECOND, 99.0, 3.0, 100.0, 4.0),
        (end - 2 * SECOND + 5, 99.5, 3.0, 100.5, 1.0),  # the last of its second
        (end - 2 * SECOND + 6, 101.0, 3.0, 100.5, 1.0),  # nobody can trade on that
        (end, 1.0, 1.0, 2.0, 1.0),  # belongs to the next bar
    ]
    row = computed(frame, quotes_of(rows)).iloc[0]
    assert (row["spread"], row["microprice"], row["book_imbalance"]) == (1.0, (99.5 + 100.5 * 3) / 4, 0.5)
    assert row["quote_age"] == pytest.approx(2.0)
    assert row["close_to_mid"] == 0.0
    assert row["quoted_seconds_60s"] == 2
    # The bid rose to 3, the ask fell to 1 in size: both sides press upwards or downwards in full.
    assert row["order_flow_imbalance_60s"] == 3.0 - 1.0
    assert row["mid_return_60s"] == 0.0


def test_a_symbol_silent_for_a_day_has_no_quotes_to_speak_of() -> None:
    frame = bars([100.0], 1.0)
    row = computed(frame, quotes_of([(MONDAY - 86_400 * SECOND, 99.0, 1.0, 101.0, 1.0)])).iloc[0]
    assert row["quoted_seconds_60s"] == 0
    assert np.isnan(row["spread"])
