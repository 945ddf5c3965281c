CREATE TABLE IF NOT EXISTS users
(
    user_id String,
    name String,
    email Nullable(String),
    role LowCardinality(String),
    active UInt8,
    created_at Int64,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY user_id
