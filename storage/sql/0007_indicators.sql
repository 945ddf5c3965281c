CREATE TABLE IF NOT EXISTS indicators
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    timeframe LowCardinality(String),
    time Int64,
    rsi_14 Nullable(Float64),
    macd Nullable(Float64),
    macd_signal Nullable(Float64),
    macd_hist Nullable(Float64),
    bb_upper Nullable(Float64),
    bb_middle Nullable(Float64),
    bb_lower Nullable(Float64),
    sma_20 Nullable(Float64),
    sma_50 Nullable(Float64),
    sma_100 Nullable(Float64),
    sma_200 Nullable(Float64),
    ema_12 Nullable(Float64),
    ema_26 Nullable(Float64),
    ema_50 Nullable(Float64),
    vwap Nullable(Float64),
    stoch_k Nullable(Float64),
    stoch_d Nullable(Float64),
    atr_14 Nullable(Float64),
    adx_14 Nullable(Float64),
    volume_sma Nullable(Float64),
    obv Nullable(Float64),
    cci_14 Nullable(Float64),
    mfi_14 Nullable(Float64),
    williams_r_14 Nullable(Float64),
    roc_10 Nullable(Float64),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(toDateTime(intDiv(time, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, timeframe, time)
