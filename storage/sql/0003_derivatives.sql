CREATE TABLE IF NOT EXISTS derivatives
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    ts_event Int64,
    ts_recv Int64,
    mark_price Nullable(Float64),
    index_price Nullable(Float64),
    open_interest Nullable(Float64),
    funding_rate Nullable(Float64),
    predicted_funding_rate Nullable(Float64),
    next_funding_time Nullable(Int64)
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMM(toDateTime(intDiv(ts_event, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, ts_event, ts_recv)
