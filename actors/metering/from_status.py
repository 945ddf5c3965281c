"""What actors say of themselves (`status`), as samples. Reasons, errors and names of users are no labels: there may be
any number of them.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from actors.metering.meters import Samples
from config import Settings

INTEGRITY: Final = ("synced", "syncing", "gapped", "stale")
_RECEIVED: Final = ("trades", "quotes", "books", "derivatives", "liquidations")
#: What shards call it, and what people do.
_STORED: Final = {
    "TRADES": "trades", "MD": "quotes", "derivatives": "derivatives", "liquidations": "liquidations",
    "bars": "bars", "indicators": "indicators", "features": "features",
}  # fmt: skip
_BREAKER: Final = {"closed": 0.0, "half_open": 0.5, "open": 1.0}

Said = Mapping[str, Any]


def of_actor(name: str, said: Said, settings: Settings) -> Samples:
    """Of what an actor said last, as the supervisor tells it (`Supervisor.status`)."""
    samples = _Told()
    samples("actor_up", said["answers"] and not said.get("failure"), name)
    if not said["answers"]:
        return samples.found
    if "exchange" in said:
        _collector(samples, said, settings)
    elif "index" in said:
        _shard(samples, said, settings)
    elif "spooled_bytes" in said:
        _database(samples, said, settings)
    elif "stream_bytes" in said:
        _publisher(samples, said, settings)
    else:
        _other(samples, said)
    return samples.found


def of_symbols(integrity: Iterable[Said], quality: Iterable[Said], most: int) -> Samples:
    """Of `Supervisor.integrity` and `Supervisor.quality` (of an hour); the first `most` symbols have series of their
    own."""
    samples = _Told()
    states: dict[str, dict[str, int]] = {}
    for number, row in enumerate(integrity):
        exchange = row["exchange"]
        counted = states.setdefault(exchange, dict.fromkeys((*INTEGRITY, "open", "closed", "missing"), 0))
        counted[row["state"]] += 1
        for kind, count in (("open", "gaps_open"), ("closed", "gaps_closed"), ("missing", "missing")):
            counted[kind] += row[count] or 0
        if number < most:
            samples("symbol_synced", row["state"] == "synced", exchange, row["symbol"])
    for exchange, counted in states.items():
        for state in INTEGRITY:
            samples("symbols", counted[state], exchange, state)
        samples("gaps_open", counted["open"], exchange)
        samples("gaps_closed", counted["closed"], exchange)
        samples("missing_trades", counted["missing"], exchange)
    rows = list(quality)
    for row in rows:
        for check, failed in row["failed"].items():
            samples.add("quality_failed_trades", failed, row["exchange"], check)
    for row in islice(rows, most):
        if row["total_checks"]:
            samples("symbol_quality_score", row["score"], row["exchange"], row["symbol"])
        if row["last_trade"]:
            samples("symbol_last_trade_timestamp_seconds", row["last_trade"] / 1e9, row["exchange"], row["symbol"])
    return samples.found


class _Told:
    def __init__(self) -> None:
        self.found: Samples = {}

    def __call__(self, name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            self.found[f"rayfeed_{name}", labels] = float(value)

    def add(self, name: str, value: float, *labels: str) -> None:
        before = self.found.get((f"rayfeed_{name}", labels), 0.0)
        assert not isinstance(before, list)
        self(name, before + value, *labels)

    def queue(self, queue: str, owner: str, size: float, limit: float) -> None:
        self("queue_size", size, queue, owner)
        self("queue_limit", limit, queue, owner)


def _collector(samples: _Told, said: Said, settings: Settings) -> None:
    exchange, limits = said["exchange"], settings.collector
    samples("exchange_up", said["state"] == "streaming", exchange)
    samples("exchange_connections", said["connections"], exchange)
    samples("exchange_silence_seconds", said["data_s"], exchange)
    granted, refused = len(said["subscribed"]), len(said["refused"])
    samples("exchange_symbols", granted, exchange, "granted")
    samples("exchange_symbols", refused, exchange, "refused")
    samples("exchange_symbols", max(said["symbols"] - granted - refused, 0), exchange, "unanswered")
    for state in INTEGRITY:
        samples("exchange_books", said["book_states"].get(state, 0), exchange, state)
    samples("messages_total", said["frames"], exchange)
    for kind in _RECEIVED:
        samples("received_rows_total", said[kind], exchange, kind)
    samples("messages_ignored_total", said["ignored"], exchange)
    samples("decode_errors_total", sum(said["rejected"].values()), exchange)
    samples("breaks_total", said["breaks"], exchange)
    samples("backfilled_trades_total", said["backfilled"], exchange)
    samples("backfills", said["backfills"], exchange)
    samples("repairs", said["repairs"], exchange)
    samples("breaker_open", _BREAKER.get(said["breaker"]), f"rest:{exchange}")
    samples.queue("frames", exchange, said["frames_waiting"], limits.max_frames)
    samples.queue("frame_bytes", exchange, said["bytes_waiting"], limits.max_bytes)
    samples.queue(
        "batches_in_flight", exchange, said["batches_in_flight"], limits.max_batches_in_flight * settings.shards
    )


def _shard(samples: _Told, said: Said, settings: Settings) -> None:
    shard = str(said["index"])
    for kind, told in _STORED.items():
        samples("stored_rows_total", said[kind], shard, told)
    for name in ("duplicates", "batches_repeated"):
        samples(f"{name}_total", said[name], shard)
    samples("flagged_trades_total", said["flagged"], shard)
    samples("rows_unshared_total", said["unsunk"], shard)
    for state, count in said["days"].items():
        samples("day_files", count, shard, state)
    samples("unequal_parts", said["reconciling"], shard)
    samples.queue("tables_for_sinks", f"shard:{shard}", said["sinks_waiting"], settings.sinks.max_pending)


def _database(samples: _Told, said: Said, settings: Settings) -> None:
    samples("sink_up", said["available"], "clickhouse")
    samples("sink_rows_total", said["rows_written"], "clickhouse")
    samples("sink_dropped_total", said["tables_dropped"], "clickhouse")
    samples("sink_errors_total", said["tables_rejected"], "clickhouse")
    samples("spool_bytes", said["spooled_bytes"], "clickhouse")
    samples("spool_limit_bytes", settings.sinks.spool_bytes, "clickhouse")
    samples.queue("tables", "clickhouse", said["pending"], settings.sinks.max_pending)


def _publisher(samples: _Told, said: Said, settings: Settings) -> None:
    samples("sink_up", said["available"], "redis")
    samples("sink_rows_total", said["written"], "redis")
    samples("sink_batches_total", said["batches_written"], "redis")
    samples("sink_dropped_total", said["dropped"] + said["batches_dropped"], "redis")
    samples("sink_errors_total", said["rejected"], "redis")
    samples.queue("bytes", "redis", said["bytes_pending"], settings.redis.waiting_bytes)
    samples("redis_stream_bytes", said["stream_bytes"])


def _other(samples: _Told, said: Said) -> None:
    if "episodes_open" in said:
        samples("instruments", said["instruments"])
        samples("arbitrage_open", said["episodes_open"])
        samples("arbitrage_total", said["episodes"])
    elif "followed" in said:
        samples("live_log_bytes", said["bytes"])
    elif "fired" in said:
        samples("alerts", said["active"], "active")
        samples("alerts", said["alerts"] - said["active"], "inactive")
        samples("alerts_fired_total", said["fired"])
        for result in ("delivered", "failed", "retrying"):
            samples("notifications_total", said[result], result)
    elif "provider" in said:
        provider = said["provider"]
        samples("breaker_open", _BREAKER.get((said["breaker"] or {}).get("state", "")), f"poller:{provider}")
        for result in ("answered", "refused", "limited", "failed"):
            samples("poller_requests_total", said[result], provider, result)
    elif "copied" in said:
        samples("reports", said["reports"])
    elif "sessions" in said:
        samples("sign_in_failures_total", said["failures"])
