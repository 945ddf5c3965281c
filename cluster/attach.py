"""For notebooks: attach this process to a running instance and look at its live actors."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import ray

from actors.aggregation.activity import activity
from actors.aggregation.quality_kernels import HOURS
from actors.directory import MARKET_WATCH, SIMULATOR, SUPERVISOR, collector_name, find_actor, owner
from cluster import ray_head
from cluster.backfilling import span
from cluster.frames import (
    alert_frame,
    best_frame,
    delivery_frame,
    episode_frame,
    gap_frame,
    integrity_frame,
    quality_frame,
)
from cluster.instance import Instance, InstanceError
from storage.feature_names import NEWEST, VERSIONS
from storage.timeframes import TIMEFRAMES


class Attached:
    """A running instance, its actors at hand. Everything returned is as of now."""

    def __init__(self, details: Any) -> None:
        self.details = details
        self._supervisor = find_actor(SUPERVISOR)

    def actors(self) -> pd.DataFrame:
        """One row per actor: what it says of itself, and its state."""
        said: dict[str, dict[str, Any]] = ray.get(self._supervisor.status.remote())
        rows = [
            {
                "name": name,
                "actor": status.get("actor", ""),
                "state": status.get("state", "running") if status["answers"] else "not answering",
                "lag_ms": status.get("lag_ms"),
            }
            for name, status in sorted(said.items())
        ]
        return pd.DataFrame(rows).set_index("name")

    def symbols(self) -> dict[str, list[str]]:
        """Exchange -> the symbols that have traded."""
        said: dict[str, dict[str, Any]] = ray.get(self._supervisor.status.remote())
        found: dict[str, list[str]] = {}
        for name, status in said.items():
            if name.startswith("shard:"):
                for exchange, symbols in status["symbols"].items():
                    found.setdefault(exchange, []).extend(symbols)
        return {exchange: sorted(symbols) for exchange, symbols in sorted(found.items())}

    def collected(self) -> pd.DataFrame:
        """One row per symbol that is collected: whether the exchange granted it, and the state of its book."""
        rows: list[dict[str, Any]] = ray.get(self._supervisor.symbols.remote())
        return pd.DataFrame(rows).set_index(["exchange", "symbol"]).sort_index()

    def add_symbols(self, exchange: str, *symbols: str) -> dict[str, str]:
        """Collect further symbols, after a restart too; for each "" or why it is not collected. SettingsError for an
        exchange that does not run, here and below."""
        said: dict[str, str] = self._ask("add_symbols", exchange, symbols)
        return said

    def remove_symbols(self, exchange: str, *symbols: str) -> list[str]:
        """Stop collecting symbols; returns those that were collected. What is stored of them stays."""
        removed: list[str] = self._ask("remove_symbols", exchange, symbols)
        return removed

    def book(self, exchange: str, symbol: str, levels: int | None = 25) -> pa.RecordBatch:
        """The best levels of a book, all for None (`storage.schema.DEPTH`, one row): only when its `state` is
        `synced` does it hold any. KeyError for a symbol that is not collected."""
        try:
            collector = find_actor(collector_name(exchange))
        except ValueError:
            raise KeyError(f"{exchange} is not collected") from None
        batches = ray.get(collector.book.remote([symbol], levels))
        if not batches:
            raise KeyError(f"{exchange} {symbol} is not collected")
        found: pa.RecordBatch = batches[0]
        return found

    def integrity(self) -> pd.DataFrame:
        """One row per symbol: whether what is collected of it can be trusted now (`state`: synced, syncing, gapped or
        stale), since when (UTC) and why; what proves that no trade is missing; and how many gaps there are."""
        rows: list[dict[str, Any]] = ray.get(self._supervisor.integrity.remote())
        return integrity_frame(rows)

    def gaps(self, exchange: str | None = None, symbol: str | None = None, open_only: bool = False) -> pd.DataFrame:
        """One row per gap (`storage.schema.GAPS`), oldest first; times in UTC, `closed` NaT while it is open."""
        found: list[dict[str, Any]] = ray.get(self._supervisor.gaps.remote(exchange, symbol, open_only))
        return gap_frame(found)

    def backfill(self, exchange: str, symbol: str, since: str, until: str = "now") -> int:
        """Fetch past trades of a range of time (`2026-01-31`, `2026-01-31T12:00`, `2h ago`; UTC); the number of the
        job, which goes on by itself. ValueError for what is no such range."""
        job: int = self._ask("backfill", exchange, symbol, *span(since, until, time.time_ns()))
        return job

    def backfills(self) -> pd.DataFrame:
        """One row per job: its range, how far it is, the trades it found and how many of them were new."""
        return pd.DataFrame(ray.get(self._supervisor.backfills.remote()))

    def add_alert(
        self, exchange: str, symbol: str, condition: str, threshold: float | None = None, **more: Any
    ) -> dict[str, Any]:
        """Be told when something begins to hold (docs/alerts.md has the conditions and what `more` may be: timeframe,
        channels, metadata, cooldown_seconds, one_time, note); on the live feed where no channels are named. ValueError
        says what does not fit."""
        given = {"exchange": exchange, "symbol": symbol, "condition": condition, "threshold": threshold}
        alert: dict[str, Any] = self._ask("add_alert", {"channels": ["websocket"], **given, **more})
        return alert

    def remove_alert(self, alert_id: str) -> None:
        """What fired and is not told yet is not told either. ValueError where there is no such alert."""
        self._ask("remove_alert", alert_id)

    def alerts(self) -> pd.DataFrame:
        """One row per alert, the newest first; times in UTC. Whom it tells is left out, as that may be secret."""
        return alert_frame(ray.get(self._supervisor.alerts.remote()))

    def deliveries(self, alert_id: str | None = None, limit: int = 100) -> pd.DataFrame:
        """The newest attempts to tell somebody, those first; of one alert or of all."""
        rows: list[dict[str, Any]] = self._ask("deliveries", alert_id, limit)
        return delivery_frame(rows)

    def fault(self, exchange: str, kind: str, **options: Any) -> Any:
        """Let something go wrong at a simulated exchange, see docs/integrity.md. ValueError names the kinds there are;
        InstanceError where nothing is simulated."""
        return self._simulated("fault", exchange, kind, **options)

    def faults(self) -> pd.DataFrame:
        """What goes wrong at simulated exchanges now."""
        return pd.DataFrame(self._simulated("faults"))

    def shard(self, exchange: str, symbol: str) -> Any:
        """The handle of the actor that owns a symbol."""
        return find_actor(owner(exchange, symbol))

    def last_trades(self, exchange: str, symbol: str, rows: int = 1000) -> pa.Table:
        """The newest trades (`storage.schema.TRADES`), read where they lie in the object store."""
        (reference,) = ray.get(self.shard(exchange, symbol).last_trades.remote(exchange, symbol, rows))
        table: pa.Table = ray.get(reference)
        return table

    def bars(self, exchange: str, symbol: str, timeframe: str = "1m", limit: int = 500) -> pd.DataFrame:
        """The newest bars of a timeframe (1s 1m 5m 15m 1h 4h 1d, or tick:1000, volume:12.5, dollar:1e6), indexed by
        their start (UTC)."""
        try:
            activity(timeframe)
        except ValueError as error:
            raise InstanceError(str(error)) from None
        batch: pa.RecordBatch = ray.get(self.shard(exchange, symbol).bars.remote(exchange, symbol, timeframe, limit))
        frame: pd.DataFrame = batch.to_pandas()
        return frame.set_index(pd.to_datetime(frame.pop("time"), unit="ns", utc=True))

    def indicators(self, exchange: str, symbol: str, timeframe: str = "1m", limit: int = 500) -> pd.DataFrame:
        """Those of the newest closed bars (docs/bars.md), indexed by the start of the bar (UTC)."""
        if timeframe not in TIMEFRAMES:
            raise InstanceError(f"there are indicators of {', '.join(TIMEFRAMES)}, not of {timeframe!r}")
        batch = ray.get(self.shard(exchange, symbol).indicators.remote(exchange, symbol, timeframe, limit))
        frame: pd.DataFrame = batch.to_pandas()
        return frame.set_index(pd.to_datetime(frame.pop("time"), unit="ns", utc=True))

    def features(
        self,
        exchange: str,
        symbol: str,
        timeframe: str = "1m",
        since: str | None = None,
        until: str = "now",
        limit: int = 500,
        version: str = NEWEST,
    ) -> pd.DataFrame:
        """Features of closed bars (docs/features.md), indexed by the start of the bar (UTC): of the newest `limit`, or
        of all since a moment (`2026-01-31`, `2026-01-31T12:00`, `2h ago`; UTC). InstanceError for an unknown timeframe
        or version, ValueError for what is no such range or too long."""
        if timeframe not in TIMEFRAMES:
            raise InstanceError(f"there are features of {', '.join(TIMEFRAMES)}, not of {timeframe!r}")
        if version not in VERSIONS:
            raise InstanceError(f"features have versions {', '.join(VERSIONS)}, not {version!r}")
        shard, series = self.shard(exchange, symbol), (exchange, symbol, timeframe)
        if since is None:
            batch = _answer(shard.features.remote(*series, limit))
        else:
            from_ns, to_ns = span(since, until, time.time_ns())
            batch = _answer(shard.features_between.remote(*series, from_ns, to_ns + 1))
        frame: pd.DataFrame = batch.to_pandas()
        index = pd.to_datetime(frame["time"], unit="ns", utc=True)
        return frame[["symbol", "timeframe", *VERSIONS[version]]].set_index(index)

    def quality(self, hours: int = 24) -> pd.DataFrame:
        """One row per symbol: how many of its trades passed and failed which check in the newest hours (1 to 168), and
        what else was found (docs/quality.md)."""
        if not 1 <= hours <= HOURS:
            raise InstanceError(f"quality is counted over 1 to {HOURS} hours, not {hours}")
        return quality_frame(ray.get(self._supervisor.quality.remote(None, None, hours)))

    def quarantine(self, exchange: str, symbol: str) -> pd.DataFrame:
        """The newest trades of a symbol that failed a check (`storage.schema.QUARANTINE`), oldest first, indexed by
        when they were received (UTC). They are stored like every other."""
        batch = ray.get(self.shard(exchange, symbol).quarantine.remote(exchange, symbol))
        frame: pd.DataFrame = batch.to_pandas()
        return frame.set_index(pd.to_datetime(frame.pop("ts_recv"), unit="ns", utc=True))

    def clear_quarantine(self, exchange: str, symbol: str) -> int:
        """Let go of these copies; how many there were."""
        cleared: int = ray.get(self.shard(exchange, symbol).clear_quarantine.remote(exchange, symbol))
        return cleared

    def best(self, instrument: str | None = None) -> pd.DataFrame:
        """One row per instrument: its best bid and ask over all exchanges (docs/consolidated.md). With an instrument,
        one row per exchange and symbol that has it: its quote, and why it does not count. InstanceError for one that
        is not collected."""
        batch: pa.RecordBatch = ray.get(find_actor(MARKET_WATCH).best.remote())
        return best_frame(batch, instrument)

    def arbitrage(self) -> pd.DataFrame:
        """One row per episode of arbitrage; times in UTC, `closed` NaT while it is open. Open ones come first."""
        batch: pa.RecordBatch = ray.get(find_actor(MARKET_WATCH).episodes.remote())
        return episode_frame(batch)

    def _simulated(self, method: str, *arguments: Any, **options: Any) -> Any:
        if self.details.source == "live":
            raise InstanceError("this instance runs on real exchanges: only simulated ones can be told to fail")
        return _answer(getattr(find_actor(SIMULATOR), method).remote(*arguments, **options))

    def _ask(self, method: str, *arguments: Any) -> Any:
        return _answer(getattr(self._supervisor, method).remote(*arguments))


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # What is wrong with the question, without the trace of whoever was asked.
        if isinstance(error.cause, ValueError):
            raise error.cause from None
        raise


def attach(data: Path | str = "data") -> Attached:
    """Attach to the instance on that data folder; InstanceError when nothing runs there. A process is attached to one
    instance at a time: what was attached before to another one, or to this one before a restart, is of no use then."""
    running = Instance.read(Path(data).absolute())
    if running is None or running.details is None:
        raise InstanceError(f"nothing runs on {data}; start it with: rayfeed up --data {data}")
    if ray.is_initialized() and ray.get_runtime_context().gcs_address != running.details.ray_address:
        ray.shutdown()
    if not ray.is_initialized():
        ray_head.connect(running.details)
    return Attached(running.details)
