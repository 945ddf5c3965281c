CREATE VIEW IF NOT EXISTS trades_per_hour AS
SELECT
    exchange,
    symbol,
    time,
    trade_count AS trades,
    volume,
    buy_volume,
    quote_volume
FROM bars FINAL
WHERE timeframe = '1h'
