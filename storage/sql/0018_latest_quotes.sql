CREATE TABLE IF NOT EXISTS latest_quotes_state
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    last AggregateFunction(
        argMax,
        Tuple(Int64, Int64, Float64, Float64, Float64, Float64),
        Tuple(Int64, Int64))
)
ENGINE = AggregatingMergeTree()
ORDER BY (exchange, symbol);

CREATE MATERIALIZED VIEW IF NOT EXISTS latest_quotes_feed TO latest_quotes_state AS
SELECT
    exchange,
    symbol,
    argMaxState(
        (
            ts_event,
            ts_recv,
            ifNull(bid_price, nan),
            ifNull(bid_size, nan),
            ifNull(ask_price, nan),
            ifNull(ask_size, nan)
        ),
        (ts_event, sequence)
    ) AS last
FROM quotes
GROUP BY exchange, symbol;

INSERT INTO latest_quotes_state (exchange, symbol, last)
SELECT
    exchange,
    symbol,
    argMaxState(
        (
            ts_event,
            ts_recv,
            ifNull(bid_price, nan),
            ifNull(bid_size, nan),
            ifNull(ask_price, nan),
            ifNull(ask_size, nan)
        ),
        (ts_event, sequence)
    ) AS last
FROM quotes
GROUP BY exchange, symbol;

CREATE VIEW IF NOT EXISTS latest_quotes AS
SELECT
    exchange,
    symbol,
    tupleElement(quote, 1) AS ts_event,
    tupleElement(quote, 2) AS ts_recv,
    if(isNaN(tupleElement(quote, 3)), NULL, tupleElement(quote, 3)) AS bid_price,
    if(isNaN(tupleElement(quote, 4)), NULL, tupleElement(quote, 4)) AS bid_size,
    if(isNaN(tupleElement(quote, 5)), NULL, tupleElement(quote, 5)) AS ask_price,
    if(isNaN(tupleElement(quote, 6)), NULL, tupleElement(quote, 6)) AS ask_size
FROM
(
    SELECT exchange, symbol, argMaxMerge(last) AS quote FROM latest_quotes_state GROUP BY exchange, symbol
)
