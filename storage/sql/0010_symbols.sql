CREATE TABLE IF NOT EXISTS symbols
(
    exchange LowCardinality(String),
    symbol String,
    instrument String,
    kind LowCardinality(String),
    base LowCardinality(String),
    quote LowCardinality(String),
    settle Nullable(String),
    price_increment Nullable(Float64),
    size_increment Nullable(Float64),
    price_decimals Nullable(Int8),
    size_decimals Nullable(Int8),
    contract_size Nullable(Float64),
    contract_currency Nullable(String),
    inverse UInt8,
    expiry Nullable(Int64),
    strike Nullable(Float64),
    option_type Nullable(String),
    active UInt8,
    collected UInt8,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (exchange, symbol)
