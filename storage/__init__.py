"""Where events live: schemas, column files, ClickHouse, Redis."""
