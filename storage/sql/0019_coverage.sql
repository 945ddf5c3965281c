CREATE TABLE IF NOT EXISTS coverage_state
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    day Int64,
    minutes AggregateFunction(uniqExact, Int64),
    first AggregateFunction(min, Int64),
    last AggregateFunction(max, Int64),
    first_id AggregateFunction(min, Int64),
    last_id AggregateFunction(max, Int64),
    low AggregateFunction(min, Float64),
    high AggregateFunction(max, Float64)
)
ENGINE = AggregatingMergeTree()
ORDER BY (exchange, symbol, day);

CREATE MATERIALIZED VIEW IF NOT EXISTS coverage_feed TO coverage_state AS
SELECT
    exchange,
    symbol,
    intDiv(ts_event, 86400000000000) * 86400000000000 AS day,
    uniqExactState(intDiv(ts_event, 60000000000)) AS minutes,
    minState(ts_event) AS first,
    maxState(ts_event) AS last,
    minState(trade_id) AS first_id,
    maxState(trade_id) AS last_id,
    minState(price) AS low,
    maxState(price) AS high
FROM trades
GROUP BY exchange, symbol, day;

INSERT INTO coverage_state (exchange, symbol, day, minutes, first, last, first_id, last_id, low, high)
SELECT
    exchange,
    symbol,
    intDiv(ts_event, 86400000000000) * 86400000000000 AS day,
    uniqExactState(intDiv(ts_event, 60000000000)) AS minutes,
    minState(ts_event) AS first,
    maxState(ts_event) AS last,
    minState(trade_id) AS first_id,
    maxState(trade_id) AS last_id,
    minState(price) AS low,
    maxState(price) AS high
FROM trades
GROUP BY exchange, symbol, day;

CREATE VIEW IF NOT EXISTS coverage AS
SELECT
    exchange,
    symbol,
    day,
    uniqExactMerge(minutes) AS minutes_traded,
    minMerge(first) AS first_trade,
    maxMerge(last) AS last_trade,
    minMerge(first_id) AS first_trade_id,
    maxMerge(last_id) AS last_trade_id,
    minMerge(low) AS lowest,
    maxMerge(high) AS highest
FROM coverage_state
GROUP BY exchange, symbol, day
