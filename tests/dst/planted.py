"""Defects, one in each core, that the simulation has to find."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from actors import stored_bars
from actors.aggregation import book_sync
from actors.collector import Collector
from actors.connection import Connection
from actors.durability import Durability
from actors.intake import Intake
from actors.ledger import keeper
from actors.ledger.account import Account
from actors.ledger.keeper import Keeper
from actors.ledger.sequences import Sequences
from actors.waiting_rows import WaitingRows
from storage import column_writer, day_commits, day_files
from storage.file_operations import write_at
from storage.spool import Spool


def _nothing(*_: Any) -> None:
    pass


def _sequence_off_by_one() -> AbstractContextManager[Any]:
    real = book_sync.BookSync.apply

    def apply(self: Any, messages: pa.RecordBatch, now: float) -> None:
        place = messages.schema.get_field_index("first_sequence")
        shifted = pa.array(np.asarray(messages.column(place).fill_null(0)) - 1, messages.schema.field(place).type)
        real(self, messages.set_column(place, messages.schema.field(place), shifted), now)

    return patch.object(book_sync.BookSync, "apply", apply)


def _late_trades_ignored() -> AbstractContextManager[Any]:
    real, newest = stored_bars.StoredBars.update, dict[str, int]()

    def update(self: Any, exchange: str, trades: pa.RecordBatch) -> Any:
        times = np.asarray(trades.column("ts_event"))
        known, newest[exchange] = newest.get(exchange, 0), max(newest.get(exchange, 0), int(times.max()))
        return real(self, exchange, trades.filter(pa.array(times >= known)))

    return patch.object(stored_bars.StoredBars, "update", update)


def _acknowledged_though_not_written() -> AbstractContextManager[Any]:
    real = Intake.store

    def store(self: Any, *arguments: Any) -> None:
        try:
            real(self, *arguments)
        except OSError:
            return

    return patch.object(Intake, "store", store)


def _number_used_twice() -> AbstractContextManager[Any]:
    """Every third call says that it is the one before."""
    real = Sequences.take

    def take(self: Any, epoch: int, sequence: int) -> bool:
        return real(self, epoch, sequence - (sequence % 3 == 2))

    return patch.object(Sequences, "take", take)


def _emptied(self: Spool, number: int) -> list[Any]:
    self._bytes[number] = self._left[number] = 0
    self._remove(number)
    return []


def _failed_rows_forgotten() -> AbstractContextManager[Any]:
    return patch.object(WaitingRows, "put_back", WaitingRows.done)


@contextmanager
def _marker_left_out() -> Iterator[None]:
    real = day_files.write_new_file

    def write(path: Any, *parts: Any) -> None:
        if parts:
            real(path, *parts)

    def finish(day: Any) -> None:
        day.merged_commits.replace(day.commits)
        for column in day_files.WRITE_ORDER[day.row_type]:
            day.merge_path(column).replace(day.path(column))
        day_files.sync_folder(day.folder)

    with patch.object(day_files, "write_new_file", write), patch.object(day_files, "finish_merge", finish):
        yield


def _written_and_not_synced(path: Any, *parts: Any) -> None:
    descriptor, offset = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 0
    for part in parts:
        write_at(descriptor, part, offset)
        offset += part.nbytes
    os.close(descriptor)


def _batches_not_looked_at() -> AbstractContextManager[Any]:
    """Rows count although their bytes are not those that were written."""
    real = day_commits.trusted

    def trusted(content: bytes, rows: int, checksum: Any) -> Any:
        kept, commits, current = real(content, rows, checksum)
        return (rows, commits, current) if any(content[:24]) else (kept, commits, current)

    return patch.object(day_files, "trusted", trusted)


@contextmanager
def _hasty_checkpoint() -> Iterator[None]:
    with (
        patch.object(Keeper, "_prepare", lambda self, records: self._log.prepare(records)),
        # Most histories are shorter than what a checkpoint allows for clocks that differ.
        patch.object(keeper, "_SLACK_NS", 100_000_000),
    ):
        yield


#: By name; each as a context manager.
PLANTED: Final[Mapping[str, Callable[[], AbstractContextManager[Any]]]] = {
    "files are not synced": lambda: patch.object(Durability, "_sync", _nothing),
    "merged files are not synced": lambda: patch.object(day_files, "write_new_file", _written_and_not_synced),
    "batches are not looked at": _batches_not_looked_at,
    "merges have no marker": _marker_left_out,
    "rows are stored twice": lambda: patch.object(column_writer, "_fresh_rows", lambda _, ids: np.arange(len(ids))),
    "a checkpoint does not wait for the disk": _hasty_checkpoint,
    "gaps are ignored": lambda: patch.object(Account, "_open_rows", _nothing),
    "gaps are closed unseen": lambda: patch.object(Account, "_missing", lambda *_: 0),
    "a batch counts as another": _number_used_twice,
    "acknowledged without being written": _acknowledged_though_not_written,
    "late trades are no part of bars": _late_trades_ignored,
    "books accept a hole of one": _sequence_off_by_one,
    "nothing is asked for twice": lambda: patch.object(Connection, "_unanswered", lambda *_: []),
    "nothing is backfilled": lambda: patch.object(Collector, "_history", lambda self: None),
    "a spool forgets what it holds": lambda: patch.object(Spool, "_open", _emptied),
    "rows the database did not take are forgotten": _failed_rows_forgotten,
}
