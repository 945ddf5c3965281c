"""What the live hub asks for, as nobody sends it: books, the bars that are open, the best quotes, integrity."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pyarrow as pa
import ray

from actors.directory import MARKET_WATCH, SUPERVISOR, Handles, collector_name, owner
from storage.redis import BOOK_LEVELS

#: Exchange, symbol and timeframe.
Series = tuple[str, str, str]


class Asked(Protocol):
    """Each gives nothing while those who know cannot be asked."""

    async def books(self, exchange: str, symbols: Sequence[str] | None) -> list[pa.RecordBatch]:
        """The best levels of an exchange's books (`storage.schema.DEPTH`), of all symbols for None."""
        ...

    async def newest_bars(self, series: Iterable[Series]) -> dict[Series, pa.RecordBatch]:
        """The newest bar of each, which may be open (`storage.schema.BARS`)."""
        ...

    async def best(self) -> list[dict[str, Any]]:
        """`storage.schema.CONSOLIDATED` without the quotes."""
        ...

    async def integrity(self) -> list[dict[str, Any]]:
        """See `actors.integrity.combined`."""
        ...


class AskedActors:
    """The actors of this instance."""

    def __init__(self) -> None:
        self._actors = Handles()

    async def books(self, exchange: str, symbols: Sequence[str] | None) -> list[pa.RecordBatch]:
        said: list[pa.RecordBatch] | None = await self._ask(collector_name(exchange), "book", symbols, BOOK_LEVELS)
        return said or []

    async def newest_bars(self, series: Iterable[Series]) -> dict[Series, pa.RecordBatch]:
        by_shard: dict[str, list[Series]] = {}
        for one in series:
            by_shard.setdefault(owner(one[0], one[1]), []).append(one)
        found: dict[Series, pa.RecordBatch] = {}
        for shard, mine in by_shard.items():
            found |= await self._ask(shard, "newest_bars", mine) or {}
        return found

    async def best(self) -> list[dict[str, Any]]:
        said: pa.RecordBatch | None = await self._ask(MARKET_WATCH, "best")
        return [] if said is None else said.drop_columns(["quotes"]).to_pylist()

    async def integrity(self) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] | None = await self._ask(SUPERVISOR, "integrity")
        return said or []

    async def _ask(self, name: str, method: str, *arguments: Any) -> Any:
        try:
            return await self._actors.ask(name, method, *arguments)
        except (ValueError, ray.exceptions.RayError):
            return None
