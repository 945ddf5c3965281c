CREATE TABLE IF NOT EXISTS published_reports
(
    id Int64,
    created_at Int64,
    html_content String,
    css_content Nullable(String),
    js_content Nullable(String),
    html_content_en Nullable(String),
    js_content_en Nullable(String),
    title String,
    title_en String,
    summary String,
    summary_en String,
    author LowCardinality(String),
    revision Int64,
    active UInt8,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
