CREATE TABLE IF NOT EXISTS alerts
(
    alert_id String,
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    timeframe Nullable(String),
    condition LowCardinality(String),
    threshold Nullable(Float64),
    value Float64,
    price Nullable(Float64),
    ts_event Int64,
    fired_at Int64,
    message String,
    note String
)
ENGINE = ReplacingMergeTree()
ORDER BY (alert_id, ts_event)
