CREATE TABLE IF NOT EXISTS latest_trades_state
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    last AggregateFunction(argMax, Tuple(Int64, Int64, Int64, Float64, Float64, UInt8), Tuple(Int64, Int64))
)
ENGINE = AggregatingMergeTree()
ORDER BY (exchange, symbol);

CREATE MATERIALIZED VIEW IF NOT EXISTS latest_trades_feed TO latest_trades_state AS
SELECT
    exchange,
    symbol,
    argMaxState((ts_event, ts_recv, trade_id, price, size, side), (ts_event, trade_id)) AS last
FROM trades
GROUP BY exchange, symbol;

INSERT INTO latest_trades_state (exchange, symbol, last)
SELECT
    exchange,
    symbol,
    argMaxState((ts_event, ts_recv, trade_id, price, size, side), (ts_event, trade_id)) AS last
FROM trades
GROUP BY exchange, symbol;

CREATE VIEW IF NOT EXISTS latest_trades AS
SELECT
    exchange,
    symbol,
    tupleElement(trade, 1) AS ts_event,
    tupleElement(trade, 2) AS ts_recv,
    tupleElement(trade, 3) AS trade_id,
    tupleElement(trade, 4) AS price,
    tupleElement(trade, 5) AS size,
    tupleElement(trade, 6) AS side
FROM
(
    SELECT exchange, symbol, argMaxMerge(last) AS trade FROM latest_trades_state GROUP BY exchange, symbol
)
