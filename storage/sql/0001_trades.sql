CREATE TABLE IF NOT EXISTS trades
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    ts_event Int64,
    ts_recv Int64,
    trade_id Int64,
    price Float64,
    size Float64,
    side UInt8,
    maker_order_id Nullable(FixedString(16)),
    taker_order_id Nullable(FixedString(16))
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMM(toDateTime(intDiv(ts_event, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, trade_id)
