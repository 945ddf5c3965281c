"""Rows whose files are on other nodes: which symbols these are, and their rows from whoever reads the disk there,
through the object store. What is on this node is none of this module's business.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from typing import Any, Final, Protocol

import pyarrow as pa
import ray
import structlog

from actors import directory
from actors.data_node import Asked, Found
from actors.nodes import disk_here
from actors.placement import Placement, Series
from config import Settings
from serve_apps.data_query import DataQuery
from storage.column_layout import Column
from storage.column_reader import DayState
from storage.thinned_rows import Rows, Values
from storage.trade_pages import Page

#: Other nodes are asked for their symbols this often: a new one is found within 5 s.
LOOK_S: Final = 2.0
_ANSWER_S: Final = 10.0
#: Values of a column of an answer, from a row on; so many.
Fetch = Callable[[int, str, int, int], Column]

_AWAY: Final = (TimeoutError, ValueError, ray.exceptions.RayActorError, ray.exceptions.ActorUnschedulableError)

log = structlog.get_logger(__name__)


class NodeAway(Exception):
    """Who has the rows does not answer now."""


class Elsewhere(Protocol):
    """What is on other nodes."""

    @property
    def known(self) -> bool:
        """Whether it was looked; otherwise wait for `first_look`."""
        ...

    async def first_look(self) -> None: ...

    def has(self, exchange: str, symbol: str) -> bool:
        """Whether the rows of a symbol are there; it may be named as its folder is."""
        ...

    async def rows(self, query: DataQuery) -> tuple[Rows, Sequence[DayState]]:
        """The rows that answer, and the days they are of. `NodeAway`, and what `ColumnReader.select` raises."""
        ...

    async def page(self, exchange: str, symbol: str, asked: Page) -> tuple[pa.RecordBatch, bool]:
        """As `storage.trade_pages.page`. `NodeAway`."""
        ...

    def symbols(self) -> Mapping[str, Sequence[str]]:
        """By exchange, those that are there."""
        ...

    async def last_changes(self) -> Mapping[Series, tuple[int, int]]:
        """See `DataNode.last_changes`."""
        ...


class OtherNodes:
    """See `Elsewhere`. From the first look on it is looked again every `LOOK_S`."""

    def __init__(
        self,
        settings: Settings,
        placed: Callable[[], Placement] = directory.placement_now,
        node: Callable[[str], Any] = lambda disk: directory.find_actor(directory.node_name(disk)),
        get: Callable[[Any], Column] = ray.get,
    ) -> None:
        self._own = disk_here(settings)
        self._placed = placed
        self._node = node
        self._get = get
        #: By disk who reads it, and its symbols.
        self._nodes: dict[str, Any] = {}
        self._symbols: dict[str, dict[str, list[str]]] = {}
        self._places: dict[Series, str] = {}
        self._looking: asyncio.Task[None] | None = None
        self._first = asyncio.Event()

    @property
    def known(self) -> bool:
        return self._first.is_set()

    async def first_look(self) -> None:
        self._begin()
        await self._first.wait()

    def _begin(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_forever())

    def has(self, exchange: str, symbol: str) -> bool:
        return bool(self._places) and (exchange, symbol) in self._places

    async def look(self) -> None:
        """Ask who has what now. A node that does not answer has what it had."""
        placement = await asyncio.to_thread(self._placed)
        disks = set(placement.disks.values()) - {self._own}
        found: dict[str, dict[str, list[str]]] = {}
        for disk in disks:
            try:
                if disk not in self._nodes:
                    self._nodes[disk] = await asyncio.to_thread(self._node, disk)
                stored = await _answered(self._nodes[disk].symbols.remote())
            except _AWAY:
                self._nodes.pop(disk, None)
                found[disk] = self._symbols.get(disk, {})
                continue
            mine = {
                exchange: [symbol for symbol in symbols if placement.disk_of(exchange, symbol) == disk]
                for exchange, symbols in stored.items()
            }
            found[disk] = {exchange: symbols for exchange, symbols in mine.items() if symbols}
        self._symbols = found
        self._places = {
            (exchange, name): disk
            for disk, stored in found.items()
            for exchange, symbols in stored.items()
            for symbol in symbols
            for name in (symbol.replace("/", "_"), symbol)
        }

    def symbols(self) -> dict[str, list[str]]:
        with suppress(RuntimeError):  # a thread without a loop: whoever has one begins
            asyncio.get_running_loop()
            self._begin()
        together: dict[str, set[str]] = {}
        for stored in self._symbols.values():
            for exchange, symbols in stored.items():
                together.setdefault(exchange, set()).update(symbols)
        return {exchange: sorted(symbols) for exchange, symbols in sorted(together.items())}

    async def last_changes(self) -> dict[Series, tuple[int, int]]:
        found: dict[Series, tuple[int, int]] = {}
        for disk, node in list(self._nodes.items()):
            try:
                said: dict[Series, tuple[int, int]] = await _answered(node.last_changes.remote())
            except _AWAY:
                continue
            found |= {one: changes for one, changes in said.items() if self._places.get(one) == disk}
        return found

    async def rows(self, query: DataQuery) -> tuple[Rows, Sequence[DayState]]:
        asked = Asked(
            query.exchange,
            query.symbol,
            query.row_type,
            query.start_ns,
            query.end_ns,
            query.columns,
            query.max_points,
            query.decimate,
        )
        node = self._owner(query.exchange, query.symbol)
        found: Found = await _owned(node.rows.remote(asked))
        sizes = dict(zip(query.columns, query.record_sizes, strict=True))
        return _rows(found, lambda *piece: self._get(node.piece.remote(*piece)), sizes), found.states

    async def page(self, exchange: str, symbol: str, asked: Page) -> tuple[pa.RecordBatch, bool]:
        found: tuple[pa.RecordBatch, bool] = await _owned(
            self._owner(exchange, symbol).page.remote(exchange, symbol, asked)
        )
        return found

    def _owner(self, exchange: str, symbol: str) -> Any:
        node = self._nodes.get(self._places.get((exchange, symbol), ""))
        if node is None:
            raise NodeAway
        return node

    async def _look_forever(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - there is a next look; requests wait for the first
                log.error("other nodes cannot be asked now", error=repr(error))
            # Who has nothing to say about others can still tell what is here.
            self._first.set()
            await asyncio.sleep(LOOK_S)


class RemoteValues:
    """Values of a column of an answer, which come when their bytes are asked for, on a thread that may wait."""

    def __init__(self, fetch: Fetch, answer: int, column: str, itemsize: int, first: int, count: int) -> None:
        self._fetch = fetch
        self._answer = answer
        self._column = column
        self._first = first
        self._count = count
        self.itemsize = itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.itemsize,)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> "RemoteValues":
        first, end, step = rows.indices(self._count)
        if step != 1:
            raise IndexError("only consecutive values can be had")
        count = max(end - first, 0)
        return RemoteValues(self._fetch, self._answer, self._column, self.itemsize, self._first + first, count)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Column:
        return self._fetch(self._answer, self._column, self._first, self._count)


def _rows(found: Found, fetch: Fetch, sizes: Mapping[str, int]) -> Rows:
    bounds = list(pairwise(accumulate(found.lengths, initial=0)))

    def parts(name: str) -> list[Values]:
        whole: Values = (
            RemoteValues(fetch, found.answer, name, sizes[name], 0, found.count)
            if found.columns is None
            else found.columns[name]
        )
        return [whole[first:end] for first, end in bounds]

    return Rows(found.count, parts, found.sparse_by)


async def _owned(answer: Awaitable[Any]) -> Any:
    """What the owner of rows says, or raises; `NodeAway` when it does not answer."""
    try:
        return await _answered(answer)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except _AWAY as error:
        raise NodeAway from error


async def _answered(answer: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(answer, _ANSWER_S)


def both(own: dict[str, list[str]], others: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Symbols of both, by exchange, sorted."""
    if not others:
        return own
    names = sorted({*own, *others})
    return {name: sorted({*own.get(name, ()), *others.get(name, ())}) for name in names}
