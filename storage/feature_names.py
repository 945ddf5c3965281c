"""The names of features, in the order of their columns, by version. A version never changes: a model that was trained
on one finds the same columns for ever."""

from typing import Final

_V1_0: Final = (
    # Prices.
    *("return_1", "return_5", "return_10", "log_return", "price_momentum_5", "price_momentum_10"),
    "price_acceleration",
    # Volatility.
    *("volatility_5", "volatility_10", "volatility_20", "high_low_ratio", "true_range", "volatility_trend"),
    # Volume.
    *("volume_change", "volume_momentum_5", "volume_momentum_10", "volume_ratio_5", "volume_ratio_20"),
    *("volume_price_trend", "volume_price_trend_norm"),
    # Technical.
    *("rsi", "rsi_oversold", "rsi_overbought", "rsi_neutral"),
    *("macd", "macd_signal", "macd_diff", "macd_crossover", "macd_crossunder"),
    *("bb_upper", "bb_middle", "bb_lower", "bb_position", "bb_width", "bb_squeeze"),
    # Time.
    *("hour", "day_of_week", "is_weekend", "is_market_open"),
    # Trend.
    *("sma_20", "sma_50", "sma_100", "sma_200"),
    *("sma_20_distance", "sma_50_distance", "sma_100_distance", "sma_200_distance"),
    *("price_above_sma_20", "price_above_sma_50", "price_above_sma_100", "price_above_sma_200"),
    "trend_strength",
)
_V2_0: Final = (
    *_V1_0,
    # More of prices, volume and indicators.
    *("price_momentum", "price_std_5", "price_std_10", "price_std_20", "high_low_range", "hl_ratio_ma"),
    *("volume_momentum", "volume_ratio", "rsi_zone", "rsi_divergence", "macd_histogram_change"),
    *("volatility_ratio", "vw_momentum"),
    # What the trades of bars say.
    *("trade_count", "average_trade_size", "buy_ratio", "trade_imbalance", "trade_imbalance_5", "trade_imbalance_20"),
    *("trade_sign_autocorrelation_20", "vwap_distance", "parkinson_volatility_20", "garman_klass_volatility_20"),
    *("realised_volatility_20", "realised_skewness_20", "realised_kurtosis_20", "return_autocorrelation_20"),
    *("efficiency_ratio_10", "amihud_illiquidity_20", "kyle_lambda_20", "roll_spread_20", "vpin_20"),
    # The quote at the end of the bar, and those of the minute before.
    *("spread", "spread_bps", "microprice", "microprice_distance", "book_imbalance", "quote_age", "close_to_mid"),
    *("spread_bps_mean_60s", "book_imbalance_mean_60s", "order_flow_imbalance_60s"),
    *("order_flow_imbalance_ratio_60s", "mid_return_60s", "mid_realised_volatility_60s", "quoted_seconds_60s"),
)
#: Columns of features by version, newest last.
VERSIONS: Final = {"v1.0": _V1_0, "v2.0": _V2_0}
NEWEST: Final = "v2.0"
