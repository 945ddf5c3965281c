CREATE TABLE IF NOT EXISTS gaps
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    gap_id Int64,
    first_id Nullable(Int64),
    last_id Nullable(Int64),
    from_ns Int64,
    to_ns Int64,
    missing Nullable(Int64),
    opened Int64,
    reason String,
    attempts Int32,
    backfilled Int64,
    closed Nullable(Int64),
    evidence String,
    revision Int32
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (exchange, symbol, gap_id)
