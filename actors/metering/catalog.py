"""Every metric of an instance: its name, kind, labels and what it means. Names end in their unit (seconds, bytes),
those of counters in `_total`. docs/metrics.md says the same for people; a test compares the two.
"""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

#: Upper ends of what passes between processes: from a tenth of a millisecond to a minute.
LAGS: Final = (
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
#: Of answers to requests.
ANSWERS: Final = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """`ends` are the upper ends of a histogram's buckets, without the last, +Inf. Of a gauge that several processes
    tell under the same labels their sum is shown, or with `shared` the newest: all of them look at one thing."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    ends: tuple[float, ...] = ()
    shared: bool = False


def _counter(name: str, labels: str, meaning: str) -> Metric:
    return Metric(f"rayfeed_{name}_total", "counter", tuple(labels.split()), meaning)


def _gauge(name: str, labels: str, meaning: str, shared: bool = False) -> Metric:
    return Metric(f"rayfeed_{name}", "gauge", tuple(labels.split()), meaning, shared=shared)


def _histogram(name: str, labels: str, meaning: str, ends: tuple[float, ...] = LAGS) -> Metric:
    return Metric(f"rayfeed_{name}_seconds", "histogram", tuple(labels.split()), meaning, ends)


METRICS: Final = (
    # Exchanges and their collectors.
    _gauge("exchange_up", "exchange", "1 while data streams from the exchange on all its connections."),
    _gauge("exchange_connections", "exchange", "Connections to the exchange."),
    _gauge("exchange_silence_seconds", "exchange", "Since the last data of the connection that is worst off."),
    _gauge(
        "exchange_symbols", "exchange state", "Symbols by whether the exchange grants, refuses or has not answered."
    ),
    _gauge("exchange_books", "exchange state", "Order books by state: synced, syncing, gapped, stale."),
    _counter("messages", "exchange", "Frames received."),
    _counter("received_bytes", "exchange", "Bytes of the frames received."),
    _counter("received_rows", "exchange kind", "Rows decoded: trades, quotes, books, derivatives, liquidations."),
    _counter("messages_ignored", "exchange", "Frames that say nothing that is collected."),
    _counter("decode_errors", "exchange", "Frames that could not be used; the newest are in the quarantine."),
    _counter("connects", "exchange", "Connections that were opened, the first ones too."),
    _counter("reconnects", "exchange", "Connections that were opened again after they were lost."),
    _counter("book_gaps", "exchange", "Order books that were found wrong or incomplete and were fetched anew."),
    _counter("breaks", "exchange", "Times a symbol was not received and its trades had to be looked for."),
    _counter("backfilled_trades", "exchange", "Past trades that were fetched, stored before or not."),
    _gauge("backfills", "exchange", "Backfills of users that run."),
    _gauge("repairs", "exchange", "Gaps that are being filled now."),
    # How long it takes, and how far to trust it.
    _histogram("lag", "stage exchange", "Age of what passes a stage; see the stages in docs/metrics.md."),
    _histogram("sync_duration", "", "Syncing the disk so that what was written survives a power cut."),
    _gauge("symbols", "exchange state", "Symbols by integrity: synced, syncing, gapped, stale.", shared=True),
    _gauge("gaps_open", "exchange", "Gaps in trades that are not filled.", shared=True),
    _gauge("gaps_closed", "exchange", "Gaps in trades that were filled, or shown to be none.", shared=True),
    _gauge("missing_trades", "exchange", "Trades the exchange counted that are not stored.", shared=True),
    _gauge("symbol_synced", "exchange symbol", "1 while everything of the symbol can be trusted.", shared=True),
    _gauge(
        "symbol_quality_score", "exchange symbol", "0 to 1: the part of its newest trades that is good.", shared=True
    ),
    _gauge("symbol_last_trade_timestamp_seconds", "exchange symbol", "When its newest trade was made.", shared=True),
    _gauge(
        "quality_failed_trades", "exchange check", "Trades of the running hour (UTC) that failed a check.", shared=True
    ),
    # Shards.
    _counter("stored_rows", "shard kind", "Rows stored: trades, quotes, bars, indicators, features and so on."),
    _counter("duplicates", "shard", "Rows that were stored already and were dropped."),
    _counter("flagged_trades", "shard", "Trades stored that failed a check of quality."),
    _histogram("step_duration", "step", "Steps of shards: commit, close_bars, make_features, share_new and so on."),
    _counter("batches_repeated", "shard", "Batches that came a second time and were dropped."),
    _counter("rows_unshared", "shard", "Rows that no sink took when they were new; told again later where it matters."),
    _counter("bars_closed", "timeframe", "Bars that closed, those made of past trades too; revisions are not counted."),
    _histogram(
        "bar_close_delay", "timeframe", "From a bar's end until it is told as closed; not of bars made of past trades."
    ),
    _gauge("day_files", "shard state", "Days of column files: open, sealed, archived, removed, failed."),
    _gauge("unequal_parts", "shard", "Hours of trades that ClickHouse has less of than the files."),
    # What waits, and how much of it may.
    _gauge("queue_size", "queue owner", "What waits between two parts."),
    _gauge("queue_limit", "queue owner", "How much of it may wait; above it the part before it is held or drops."),
    _gauge("spool_bytes", "sink", "Rows on the disk that wait for a sink."),
    _gauge("spool_limit_bytes", "sink", "Above it the oldest of these rows are dropped."),
    # Sinks: clickhouse and redis.
    _gauge("sink_up", "sink", "1 while the sink takes what it is told."),
    _counter("sink_rows", "sink", "Rows (clickhouse) and values (redis) that were written."),
    _counter("sink_batches", "sink", "Inserts (clickhouse) and batches of streams (redis) that were written."),
    _counter("sink_dropped", "sink", "Tables, values and batches there was no room for."),
    _counter("sink_errors", "sink", "Tables and commands the sink refused."),
    _histogram("database_duration", "operation", "Questions (query) and inserts (insert) of ClickHouse."),
    _counter("database_errors", "operation reason", "Those that failed: unavailable, refused."),
    _gauge("redis_stream_bytes", "", "Batches that streams in Redis keep; the oldest go above redis.stream_bytes."),
    # Market watch, alerts, pollers.
    _gauge("instruments", "", "Instruments with a consolidated best bid and ask."),
    _gauge("arbitrage_open", "", "Opportunities that are open now."),
    _counter("arbitrage", "", "Opportunities that were found."),
    _gauge("alerts", "state", "Alerts of users: active, inactive."),
    _counter("alerts_fired", "", "Alerts whose condition was met."),
    _counter("notifications", "result", "Messages about alerts: delivered, failed, retrying."),
    _gauge(
        "breaker_open", "component", "1 while the component is left alone because it failed too often, 0.5 on trial."
    ),
    _counter("breaker_changes", "component state", "Times a breaker went to a state: open, half_open (tries), closed."),
    _counter("poller_requests", "provider result", "Requests to a provider: answered, refused, limited, failed."),
    _gauge("reports", "", "Reports that are published."),
    _counter("sign_in_failures", "", "Sign-ins that were refused."),
    # Who answers users.
    _gauge("replicas", "application", "Replicas that answer."),
    _counter("http_requests", "application method route status", "Requests answered, by template of their path."),
    _histogram(
        "http_request_duration", "application route", "From a request's head to its answer's last byte.", ANSWERS
    ),
    _counter("http_response_bytes", "application", "Bytes of bodies."),
    _counter("rate_limited", "", "Requests refused because somebody asked too often."),
    _gauge("http_requests_ongoing", "application", "Requests that are being answered."),
    _counter("cache_requests", "application result", "hit, stale, miss (made anew), failed."),
    _gauge("cache_bytes", "application", "What caches hold in memory."),
    _gauge("cache_limit_bytes", "application", "How much they may."),
    _counter("cache_evicted", "application", "Answers that went to make room."),
    _gauge("live_clients", "", "Clients of the live feed."),
    _gauge("live_subscriptions", "", "Topics they look at, each client's counted."),
    _counter("live_messages", "", "Messages put for them."),
    _counter("live_messages_dropped", "", "Messages that waited for a client that was closed."),
    _counter(
        "live_clients_closed", "reason", "Clients closed: slow, too fast, too large, expired, refused, stopped, failed."
    ),
    _counter("live_gaps", "", "Times clients were told that something was lost."),
    _gauge("live_log_bytes", "", "What is remembered for clients that come back."),
    # The front door.
    _gauge("edge_up", "", "1 while the front door's own metrics can be read."),
    _counter("edge_requests", "", "Requests of users, those answered from its cache too."),
    _counter("edge_responses", "code", "Answers by class: 1xx to 5xx, other."),
    _counter("edge_bytes", "direction", "Bytes from and to users: in, out."),
    _counter("edge_denied", "", "Requests refused by a limit or rule."),
    _gauge("edge_connections", "", "Connections of users."),
    _gauge("edge_connections_limit", "", "How many there may be."),
    _counter("edge_cache_lookups", "", "Requests looked for in its cache."),
    _counter("edge_cache_hits", "", "Those found there."),
    _gauge("edge_servers", "route", "Servers behind it that are up, by the part of the site they answer."),
    _gauge("edge_response_time_seconds", "route", "Mean of the last 1024 answers of these servers."),
    _counter("edge_server_errors", "route", "Connections and answers of these servers that failed."),
    # Processes and machines.
    _gauge("actor_up", "actor", "1 while the actor answers and has no failure."),
    _counter("actor_restarts", "actor", "Times its process was another one than before."),
    _gauge("process_resident_memory_bytes", "process", "Memory; of replicas all of an application together."),
    _counter("process_cpu_seconds", "process", "Processor time used."),
    _gauge("process_open_files", "process", "Open files and sockets."),
    _gauge("process_start_time_seconds", "process", "When it began; of replicas the newest.", shared=True),
    _gauge("disk_size_bytes", "node", "The disk of the data folder.", shared=True),
    _gauge("disk_free_bytes", "node", "What is free on it for us.", shared=True),
    _counter("child_restarts", "child", "Times the front door or the embedded Redis had to be started again."),
    _counter("log_lines_repeated", "process", "Lines that were not written because they said the same again."),
    # About this itself.
    _gauge("build_info", "version python ray", "1.", shared=True),
    _gauge("settings_info", "source", "1; where the data comes from.", shared=True),
    _gauge("metrics_sources", "", "Processes that tell their metrics."),
    _counter("metrics_series_merged", "metric", "Samples whose labels were too many and went to the label `other`."),
)

BY_NAME: Final = {metric.name: metric for metric in METRICS}
