CREATE TABLE IF NOT EXISTS reports
(
    id Int64,
    created_at Int64,
    html_content String,
    css_content Nullable(String),
    js_content Nullable(String),
    html_content_en Nullable(String),
    js_content_en Nullable(String),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
