CREATE TABLE IF NOT EXISTS arbitrage
(
    instrument LowCardinality(String),
    kind LowCardinality(String),
    buy_exchange LowCardinality(String),
    buy_symbol LowCardinality(String),
    sell_exchange LowCardinality(String),
    sell_symbol LowCardinality(String),
    opened Int64,
    closed Nullable(Int64),
    peak Int64,
    buy_price Float64,
    sell_price Float64,
    size Float64,
    spread Float64,
    profit Float64,
    last_profit Float64,
    ended LowCardinality(String),
    revision Int32
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(toDateTime(intDiv(opened, 1000000000), 'UTC'))
ORDER BY (buy_exchange, buy_symbol, sell_exchange, sell_symbol, opened)
