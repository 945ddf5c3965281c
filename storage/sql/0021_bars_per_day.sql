CREATE VIEW IF NOT EXISTS bars_per_day AS
SELECT
    exchange,
    symbol,
    time,
    open,
    high,
    low,
    close,
    volume,
    if(volume > 0, quote_volume / volume, NULL) AS vwap,
    trade_count AS trades,
    closed
FROM bars FINAL
WHERE timeframe = '1d'
