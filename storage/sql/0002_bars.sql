CREATE TABLE IF NOT EXISTS bars
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    timeframe LowCardinality(String),
    time Int64,
    open Float64,
    high Float64,
    low Float64,
    close Float64,
    volume Float64,
    quote_volume Float64,
    trade_count Int64,
    buy_volume Float64,
    revision Int32,
    closed UInt8,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(toDateTime(intDiv(time, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, timeframe, time)
