"""Shards for tests: real column files, a sink that keeps what it is given, and batches numbered as a collector does."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from actors.feeds.feed import Proof
from actors.ledger.origin import Origin
from actors.parcels import Key, packed
from actors.placement import Placement
from actors.symbol_shard import SymbolShard
from config import Settings
from storage.column_reader import ColumnReader


class Taken:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.tables: list[tuple[str, str, pa.Table]] = []

    async def __call__(self, tables: Mapping[Key, pa.Table]) -> None:
        self.tables += [(*key, table) for key, table in tables.items()]

    def rows(self, kind: str) -> list[dict[str, Any]]:
        return [row for k, _, table in self.tables if k == kind for row in table.to_pylist()]


class Shard(SymbolShard):
    """A shard without Ray; `send` gives each batch the next sequence."""

    def __init__(
        self,
        settings: Settings,
        sink: Any = None,
        recorded: bool = True,
        index: int = 0,
        placed: Callable[[], Placement] | None = None,
    ) -> None:
        super().__init__(index, settings, lambda table: table, sink or Taken(), recorded, placed)
        #: The placement that who sends goes by.
        self.version = 0
        self._sent: Counter[tuple[str, int]] = Counter()

    async def send(
        self,
        exchange: str,
        batches: Mapping[str, pa.RecordBatch],
        clock_ns: int,
        proof: Proof = "ids",
        epoch: int = 1,
    ) -> int:
        sequence = self._sent[exchange, epoch]
        self._sent[exchange, epoch] += 1
        return await self.append(exchange, packed(batches), clock_ns, Origin(epoch, sequence, proof, self.version))

    def kill(self) -> None:
        """What SIGKILL leaves: nothing is written, flushed or closed any more."""
        for task in self._tasks:
            task.cancel()


def stored_ids(settings: Settings, exchange: str, symbol: str) -> list[int]:
    selection = ColumnReader(settings.columns).select(exchange, symbol, "TRADES", 0, 2**62, ["id"])
    return [int(i) for i in selection.column("id")]
