CREATE TABLE IF NOT EXISTS quotes
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    ts_event Int64,
    ts_recv Int64,
    sequence Int64,
    bid_price Nullable(Float64),
    bid_size Nullable(Float64),
    ask_price Nullable(Float64),
    ask_size Nullable(Float64),
    last_price Nullable(Float64),
    last_size Nullable(Float64),
    last_side Nullable(UInt8)
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMMDD(toDateTime(intDiv(ts_event, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, ts_event, sequence)
