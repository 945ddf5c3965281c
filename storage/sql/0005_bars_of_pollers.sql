ALTER TABLE bars
    MODIFY COLUMN volume Nullable(Float64),
    MODIFY COLUMN quote_volume Nullable(Float64),
    MODIFY COLUMN trade_count Nullable(Int64),
    MODIFY COLUMN buy_volume Nullable(Float64)
