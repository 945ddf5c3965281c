"""Rows on their way from a shard to the sinks: they gather here by kind and exchange, and go on together. Sinks that
are slow or away keep nobody waiting: beyond a bound rows are not told, and who gave them hears of it.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from actors.parcels import Sink


class Telling:
    """To `sink`, which has at most `max_pending` tables at a time that it has not taken. `untold` hears how many rows
    did not arrive."""

    def __init__(self, sink: Sink, max_pending: int, untold: Callable[[int], None]) -> None:
        self._sink = sink
        self._max_pending = max_pending
        self._untold = untold
        self._rows: dict[tuple[str, str], list[pa.RecordBatch]] = {}
        #: How many tables the sinks have not taken yet.
        self._pending: dict[asyncio.Future[Any], int] = {}

    @property
    def pending(self) -> int:
        """Tables that the sinks have not taken yet."""
        return sum(self._pending.values())

    def add(self, kind: str, exchange: str, *batches: pa.RecordBatch) -> None:
        """They go on with the next `send`."""
        self._rows.setdefault((kind, exchange), []).extend(batches)

    def send(self, again: Sequence[Callable[[], None]]) -> None:
        """Hand on what was added; `again` is called where it does not arrive."""
        rows, self._rows = self._rows, {}
        if not rows:
            return
        if self.pending >= self._max_pending:
            self._lost(sum(batch.num_rows for batches in rows.values() for batch in batches), again)
            return
        tables = {
            key: pa.Table.from_batches(batches).unify_dictionaries().combine_chunks() for key, batches in rows.items()
        }
        task = asyncio.ensure_future(self._sink(tables))
        self._pending[task] = len(tables)
        task.add_done_callback(partial(self._taken, sum(table.num_rows for table in tables.values()), again))

    async def finish(self) -> None:
        """Wait until the sinks have taken or refused everything."""
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _taken(self, rows: int, again: Sequence[Callable[[], None]], task: "asyncio.Future[Any]") -> None:
        del self._pending[task]
        if not task.cancelled() and task.exception() is not None:
            self._lost(rows, again)

    def _lost(self, rows: int, again: Sequence[Callable[[], None]]) -> None:
        self._untold(rows)
        for tell in again:
            tell()
