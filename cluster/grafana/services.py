"""The dashboards about who serves it and where it is kept."""

from typing import Final

from cluster.grafana.drawing import Dashboard, Panel, Row
from cluster.grafana.expressions import ALL, ASKED, GIVEN, UP, quantile, rate, total

SERVING: Final = Dashboard(
    "serving",
    "serving",
    "The front door, the applications behind it, their caches and the live feed.",
    (
        Row("The front door"),
        Panel(
            "Door",
            ((f"rayfeed_edge_up{{{ALL}}}", "{{instance}}"),),
            kind="stat",
            width=4,
            height=6,
            texts=UP,
        ),
        Panel(
            "Answers", ((rate("edge_responses_total", "code"), "{{code}}"),), "reqps", width=10, height=6, stacked=True
        ),
        Panel("Bytes", ((rate("edge_bytes_total", "direction"), "{{direction}}"),), "Bps", width=10, height=6),
        Panel(
            "Connections", ((total("edge_connections"), "open"), (total("edge_connections_limit"), "limit")), width=6
        ),
        Panel(
            "From its cache",
            ((f"{rate('edge_cache_hits_total')} / clamp_min({rate('edge_cache_lookups_total')}, 1e-9)", "found"),),
            "percentunit",
            width=6,
            most=1,
        ),
        Panel(
            "Refused",
            (
                (rate("edge_denied_total"), "by the door"),
                (rate("rate_limited_total"), "who asks too often"),
                (rate("edge_server_errors_total", "route"), "errors of {{route}}"),
            ),
            "reqps",
            width=6,
        ),
        Panel(
            "Servers up",
            ((total("edge_servers", "route"), "{{route}}"),),
            kind="bargauge",
            width=6,
            doubtful=1,
            bad=0.5,
        ),
        Row("Applications"),
        Panel(
            "Requests by route", ((f"topk(10, {rate('http_requests_total', 'route', ASKED)})", "{{route}}"),), "reqps"
        ),
        Panel(
            "Errors by route",
            ((rate("http_requests_total", "route, status", 'status=~"4xx|5xx"'), "{{status}} {{route}}"),),
            "reqps",
        ),
        Panel(
            "Duration, 99th percentile",
            ((f"topk(10, {quantile(0.99, 'http_request_duration_seconds', 'route', ASKED)})", "{{route}}"),),
            "s",
            doubtful=0.5,
            bad=1,
        ),
        Panel(
            "Replicas",
            ((total("replicas", "application"), "{{application}}"),),
            kind="bargauge",
            width=6,
            doubtful=1,
            bad=0.5,
        ),
        Panel("Being answered", ((total("http_requests_ongoing", "application"), "{{application}}"),), width=6),
        Panel(
            "Processors used",
            ((rate("process_cpu_seconds_total", "process", 'process=~"data|market|live|pages|edge"'), "{{process}}"),),
            width=6,
        ),
        Panel(
            "Bytes of answers",
            ((rate("http_response_bytes_total", "application"), "{{application}}"),),
            "Bps",
            width=6,
        ),
        Row("Caches"),
        Panel(
            "Answered from the cache",
            (
                (
                    f"{rate('cache_requests_total', 'application', GIVEN)} / clamp_min("
                    f"{rate('cache_requests_total', 'application')}, 1e-9)",
                    "{{application}}",
                ),
            ),
            "percentunit",
            most=1,
        ),
        Panel("How", ((rate("cache_requests_total", "result"), "{{result}}"),), "reqps", stacked=True),
        Panel(
            "Memory",
            (
                (total("cache_bytes", "application"), "{{application}}"),
                (total("cache_limit_bytes", "application"), "{{application}} limit"),
            ),
            "bytes",
        ),
        Row("Live feed"),
        Panel("Clients", ((total("live_clients"), "clients"), (total("live_subscriptions"), "topics")), width=6),
        Panel(
            "Messages",
            ((rate("live_messages_total"), "put"), (rate("live_messages_dropped_total"), "dropped")),
            "ops",
            width=6,
        ),
        Panel("Clients closed", ((rate("live_clients_closed_total", "reason"), "{{reason}}"),), "ops", width=6),
        Panel("Losses told", ((rate("live_gaps_total"), "gaps"),), "ops", width=6),
    ),
)

STORAGE: Final = Dashboard(
    "storage",
    "storage and sinks",
    "Disks, ClickHouse, Redis, what waits for them; alerts of users and pollers.",
    (
        Row("Disks"),
        Panel(
            "Used",
            ((f"1 - rayfeed_disk_free_bytes{{{ALL}}} / rayfeed_disk_size_bytes{{{ALL}}}", "{{node}}"),),
            "percentunit",
            "gauge",
            6,
            7,
            0.8,
            0.9,
            0,
            1,
        ),
        Panel("Free", ((f"rayfeed_disk_free_bytes{{{ALL}}}", "{{node}}"),), "bytes", width=6),
        Panel(
            "Syncs, 99th percentile",
            ((quantile(0.99, "sync_duration_seconds", ""), "99 %"),),
            "s",
            width=6,
            doubtful=0.5,
            bad=1,
        ),
        Panel("Days of column files", ((total("day_files", "state"), "{{state}}"),), width=6),
        Row("ClickHouse and Redis"),
        Panel(
            "Sinks",
            ((f"rayfeed_sink_up{{{ALL}}}", "{{sink}}"),),
            kind="state-timeline",
            width=12,
            height=5,
            texts=UP,
        ),
        Panel(
            "Spool",
            ((total("spool_bytes", "sink"), "{{sink}}"), (total("spool_limit_bytes", "sink"), "{{sink}} limit")),
            "bytes",
            width=12,
            height=5,
        ),
        Panel("Written", ((rate("sink_rows_total", "sink"), "{{sink}}"),), "ops", width=6),
        Panel("Batches", ((rate("sink_batches_total", "sink"), "{{sink}}"),), "ops", width=6),
        Panel(
            "Dropped and refused",
            (
                (rate("sink_dropped_total", "sink"), "{{sink}} dropped"),
                (rate("sink_errors_total", "sink"), "{{sink}} refused"),
                (rate("database_errors_total", "operation, reason"), "{{operation}} {{reason}}"),
            ),
            "ops",
            width=6,
            bad=0.001,
        ),
        Panel("Hours ClickHouse has less of", ((total("unequal_parts", "shard"), "shard {{shard}}"),), width=6, bad=1),
        Panel(
            "Age of rows when ClickHouse has them",
            ((quantile(0.99, "lag_seconds", "exchange", 'stage="socket_to_database"'), "{{exchange}}"),),
            "s",
            width=6,
            doubtful=5,
            bad=30,
        ),
        Panel(
            "Questions and inserts, 99th percentile",
            ((quantile(0.99, "database_duration_seconds", "operation"), "{{operation}}"),),
            "s",
            width=6,
            doubtful=0.5,
            bad=5,
        ),
        Panel("Kept in Redis", ((total("redis_stream_bytes"), "streams"),), "bytes", width=6),
        Panel("Told again later", ((rate("rows_unshared_total", "shard"), "shard {{shard}}"),), "ops", width=6),
        Row("Markets, alerts, pollers"),
        Panel(
            "Opportunities",
            ((total("arbitrage_open"), "open"), (rate("arbitrage_total") + " * 60", "new in a minute")),
            width=4,
        ),
        Panel(
            "Alerts of users",
            ((total("alerts", "state"), "{{state}}"), (rate("alerts_fired_total") + " * 60", "fired in a minute")),
            width=5,
        ),
        Panel("Messages about alerts", ((rate("notifications_total", "result"), "{{result}}"),), "ops", width=5),
        Panel(
            "Left alone",
            ((f"rayfeed_breaker_open{{{ALL}}}", "{{component}}"),),
            width=5,
            most=1,
            about="1: it failed too often and is not asked for a while. 0.5: it is tried.",
        ),
        Panel(
            "Changes of breakers in 10 minutes",
            (
                (
                    f"sum by (component, state) (increase(rayfeed_breaker_changes_total{{{ALL}}}[10m]))",
                    "{{component}} {{state}}",
                ),
            ),
            width=5,
        ),
    ),
)
