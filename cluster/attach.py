"""For notebooks: attach this process to a running instance and look at its live actors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import ray

from actors.directory import SUPERVISOR, collector_name, find_actor, shard_name, shard_of
from cluster import ray_head
from cluster.instance import Instance, InstanceError
from config import SettingsError


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
        said: dict[str, str] = self._change("add_symbols", exchange, symbols)
        return said

    def remove_symbols(self, exchange: str, *symbols: str) -> list[str]:
        """Stop collecting symbols; returns those that were collected. What is stored of them stays."""
        removed: list[str] = self._change("remove_symbols", exchange, symbols)
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

    def shard(self, exchange: str, symbol: str) -> Any:
        """The handle of the actor that owns a symbol."""
        return find_actor(shard_name(shard_of(exchange, symbol, self._shards())))

    def last_trades(self, exchange: str, symbol: str, rows: int = 1000) -> pa.Table:
        """The newest trades (`storage.schema.TRADES`), read where they lie in the object store."""
        (reference,) = ray.get(self.shard(exchange, symbol).last_trades.remote(exchange, symbol, rows))
        table: pa.Table = ray.get(reference)
        return table

    def bars(self, exchange: str, symbol: str, limit: int = 500) -> pd.DataFrame:
        """The newest one-minute bars, indexed by the start of their minute (UTC)."""
        batch: pa.RecordBatch = ray.get(self.shard(exchange, symbol).bars.remote(exchange, symbol, limit))
        frame: pd.DataFrame = batch.to_pandas()
        return frame.set_index(pd.to_datetime(frame.pop("time"), unit="ns", utc=True))

    def _change(self, method: str, exchange: str, symbols: Sequence[str]) -> Any:
        try:
            return ray.get(getattr(self._supervisor, method).remote(exchange, symbols))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SettingsError):
                raise error.cause from None
            raise

    def _shards(self) -> int:
        said: dict[str, Any] = ray.get(self._supervisor.status.remote())
        return sum(name.startswith("shard:") for name in said)


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
