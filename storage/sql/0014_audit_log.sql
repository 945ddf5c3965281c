CREATE TABLE IF NOT EXISTS audit_log
(
    time Int64,
    id String,
    event LowCardinality(String),
    severity LowCardinality(String),
    component LowCardinality(String),
    exchange LowCardinality(String),
    symbol String,
    user String,
    message String,
    details String
)
ENGINE = ReplacingMergeTree()
PARTITION BY toYYYYMM(toDateTime(intDiv(time, 1000000000), 'UTC'))
ORDER BY (time, id)
