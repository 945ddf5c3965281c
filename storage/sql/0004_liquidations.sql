CREATE TABLE IF NOT EXISTS liquidations
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    ts_event Int64,
    ts_recv Int64,
    price Float64,
    size Float64,
    side UInt8
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMM(toDateTime(intDiv(ts_event, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, ts_event, ts_recv, price, size, side)
