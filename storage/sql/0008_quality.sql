CREATE TABLE IF NOT EXISTS quality
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    time Int64,
    total Int64,
    passed Int64,
    valid_values Int64,
    data_freshness Int64,
    price_anomaly Int64,
    volume_sanity Int64,
    zero_sizes Int64,
    duplicates Int64,
    level_shifts Int64,
    silences Int64,
    score Float64,
    lateness_ms Nullable(Float64),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(toDateTime(intDiv(time, 1000000000), 'UTC'))
ORDER BY (exchange, symbol, time)
