"""DataNode: I read what is in the data folder of one node, for those on other nodes: which symbols it has, ranges of
rows, files that move or go into a backup; and I audit and verify it. I write nothing but that I take away files that
another disk has. I own no data; when I die I am started again, and who was given part of an answer asks again.
"""

import asyncio
import itertools
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray

from actors.nodes import this_node
from actors.placement import Series
from config import Settings
from config.node_folder import disk_of, on_this_node
from storage.audit import Trades
from storage.audit_files import OnDisk, Place, stored_rows
from storage.audit_symbol import Known, Row, count
from storage.backup_disks import Copies, Foreign
from storage.backup_manifest import Files
from storage.backup_sources import Begun
from storage.column_layout import Column
from storage.column_reader import ColumnReader, DayState
from storage.column_verify import Summary, summary
from storage.column_writer import ColumnWriter
from storage.ledger_log import Record
from storage.ledger_reading import read_ledgers, records_of
from storage.schema import COLUMNS
from storage.symbol_files import Stored, files_of, read_piece, remove_symbol
from storage.thinned_rows import Rows, Thinning, columns_read, thinned
from storage.trade_pages import Page, page

#: An answer has no more bytes of rows; the others are asked for piece by piece. More than what is answered at once
#: (`serve_apps.data_answers`), where nobody may wait for a piece.
PIECE_BYTES: Final = 8 << 20
#: Answers that may be asked for further pieces, and for how long.
MOST_OPEN: Final = 64
_FILES: Final = 64
OPEN_S: Final = 120.0


class AnswerGone(LookupError):
    """The rows were let go of, as nobody asked for them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A range of rows as `serve_apps.data_query.DataQuery` has it."""

    exchange: str
    symbol: str
    row_type: str
    start_ns: int
    end_ns: int
    columns: tuple[str, ...]
    most: int | None
    how: Thinning


@dataclass(frozen=True, slots=True)
class Found:
    """`count` rows, one of `sparse_by` that are stored, in parts (of a day each) of these `lengths`. `columns` has all
    their values where these are few; otherwise pieces of them are asked for by `answer`."""

    count: int
    sparse_by: int
    lengths: Sequence[int]
    states: Sequence[DayState]
    columns: dict[str, Column] | None
    answer: int = 0


class DataNode:
    """Of the node it runs on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings = on_this_node(settings)
        self._reader = ColumnReader(settings.columns)
        self._copies = Copies(settings.data, disk_of(settings.data))
        self._answers: OrderedDict[int, tuple[float, Rows]] = OrderedDict()
        self._numbers = itertools.count(time.time_ns())

    def __repr__(self) -> str:
        return f"DataNode({self._settings.data})"

    async def status(self) -> dict[str, Any]:
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "disk": disk_of(self._settings.data),
            "node": this_node() if ray.is_initialized() else "",
            "failure": "",
            "answers_open": len(self._answers),
        }

    async def symbols(self) -> dict[str, list[str]]:
        """See `ColumnReader.symbols`."""
        return await asyncio.to_thread(self._reader.symbols)

    async def last_changes(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By exchange and symbol, when a row of TRADES and of MD was written last (ns; 0: never)."""
        return await asyncio.to_thread(self._last_changes)

    async def rows(self, asked: Asked) -> Found:
        """Rows of a range, those that stay. Raises as `ColumnReader.select` does."""
        return await asyncio.to_thread(self._rows, asked)

    async def page(self, exchange: str, symbol: str, asked: Page) -> tuple[pa.RecordBatch, bool]:
        """See `storage.trade_pages.page`."""
        return await asyncio.to_thread(page, self._reader, exchange, symbol, asked)

    async def piece(self, answer: int, column: str, first: int, count: int) -> Column:
        """Some values of a column of an answer, a copy. `AnswerGone`."""
        if answer not in self._answers:
            raise AnswerGone("the rows were let go of; ask again")
        self._answers.move_to_end(answer)
        _, rows = self._answers[answer]
        self._answers[answer] = time.monotonic(), rows
        return await asyncio.to_thread(_cut, rows, column, first, count)

    async def recover(self, exchange: str, symbol: str) -> None:
        """Finish what a crash left half done in the files of a symbol that no shard here has. OSError; `DamagedDay`."""
        await asyncio.to_thread(ColumnWriter(self._settings.columns, _FILES).recover, exchange, symbol)

    async def files(self, exchange: str, symbol: str) -> list[Stored]:
        """See `storage.symbol_files`, here and below."""
        return await asyncio.to_thread(files_of, self._settings.data, exchange, symbol)

    async def read(self, path: str, offset: int, size: int) -> tuple[int, bytes]:
        return await asyncio.to_thread(read_piece, self._settings.data, path, offset, size)

    async def ledger(self, symbols: Sequence[Series]) -> list[Record]:
        """What the logs of this node's shards knew of symbols."""
        logged = await asyncio.to_thread(read_ledgers, self._settings.data / "ledger")
        return [record for one in symbols if one in logged for record in records_of(*one, logged[one])]

    async def remove(self, exchange: str, symbol: str) -> None:
        """Another disk has all of it."""
        await asyncio.to_thread(remove_symbol, self._settings.data, exchange, symbol)

    async def trade_counts(self) -> dict[Series, int]:
        """How many trades of each symbol are stored. Raises as `ColumnReader.select` does, here and below."""
        return await asyncio.to_thread(self._trade_counts)

    async def audit(self, exchange: str, symbol: str, known: Known) -> Row:
        """See `storage.audit_symbol.count`."""
        return await asyncio.to_thread(count, self._reader, exchange, symbol, known)

    async def trade_begins(self, exchange: str, symbol: str) -> set[int]:
        """See `storage.audit_files.Side`, here and below."""
        return await asyncio.to_thread(OnDisk(self._reader).begins, exchange, symbol)

    async def trades(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> Trades:
        return await asyncio.to_thread(OnDisk(self._reader).trades, exchange, symbol, from_ns, to_ns)

    async def trade_ends(self, exchange: str, symbol: str) -> tuple[Place | None, Place | None]:
        """The oldest and the newest."""
        side = OnDisk(self._reader)
        return (
            await asyncio.to_thread(side.oldest, exchange, symbol),
            await asyncio.to_thread(side.newest, exchange, symbol),
        )

    async def verify(self) -> Summary:
        """Read all column files; see `storage.column_verify`."""
        return await asyncio.to_thread(summary, self._settings.columns)

    async def sections_to_copy(self) -> list[str]:
        """What is copied to a backup; see `storage.backup_disks`, here and below."""
        return await asyncio.to_thread(self._copies.sections)

    async def begin_copy(self, section: str, foreign: Foreign, before: Sequence[Files]) -> int:
        return await asyncio.to_thread(self._copies.begin, section, foreign, before)

    async def go_on_copying(self, number: int, turn: int) -> list[Begun | bytes]:
        return await asyncio.to_thread(self._copies.more, number, turn)

    def _trade_counts(self) -> dict[Series, int]:
        return {
            (exchange, symbol): stored_rows(self._reader, exchange, symbol)
            for exchange, symbols in self._reader.symbols().items()
            for symbol in symbols
        }

    def _last_changes(self) -> dict[tuple[str, str], tuple[int, int]]:
        return {
            (exchange, symbol): (
                self._reader.last_change(exchange, symbol, "TRADES") or 0,
                self._reader.last_change(exchange, symbol, "MD") or 0,
            )
            for exchange, symbols in self._reader.symbols().items()
            for symbol in symbols
        }

    def _rows(self, asked: Asked) -> Found:
        read = columns_read(asked.row_type, asked.columns, asked.how)
        selection = self._reader.select(
            asked.exchange, asked.symbol, asked.row_type, asked.start_ns, asked.end_ns, read
        )
        rows = thinned(asked.row_type, asked.most, asked.how, selection)
        sizes = {name: _size(asked.row_type, name) for name in asked.columns}
        lengths = [len(part) for part in rows.parts(asked.columns[0])]
        if rows.count * sum(sizes.values()) <= PIECE_BYTES:
            columns = {name: _cut(rows, name, 0, rows.count) for name in sizes}
            return Found(rows.count, rows.sparse_by, lengths, selection.states, columns)
        number = next(self._numbers)
        self._answers[number] = time.monotonic(), rows
        while len(self._answers) > MOST_OPEN or time.monotonic() - next(iter(self._answers.values()))[0] > OPEN_S:
            self._answers.popitem(last=False)
        return Found(rows.count, rows.sparse_by, lengths, selection.states, None, number)


def _cut(rows: Rows, column: str, first: int, count: int) -> Column:
    """A copy of some values, which are counted across all parts."""
    found, place = [], 0
    for part in rows.parts(column):
        low, high = max(first - place, 0), min(first + count - place, len(part))
        if low < high:
            found.append(np.ascontiguousarray(part[low:high]))
        place += len(part)
    # Not a view of a map: its file may be gone when it is sent.
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _size(row_type: str, column: str) -> int:
    known = {str(name): columns for name, columns in COLUMNS.items()}.get(row_type, {})
    return known[column].itemsize if column in known else 8
