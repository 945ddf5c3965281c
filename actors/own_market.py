"""What the shards of this instance know of a few symbols: the overview's own source. Whoever cannot be asked in time
says nothing.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa
import ray

from actors.directory import Handles, owner
from actors.overview.own_feed import Market

#: Of one question.
ANSWER_S: Final = 2.0


class OwnMarket(Protocol):
    """Each gives nothing while those who know cannot be asked."""

    async def newest_seconds(self, markets: Iterable[Market]) -> dict[Market, pa.RecordBatch]:
        """By market its newest bar of a second (`storage.schema.BARS`), which may be open."""
        ...

    async def bars(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        """The newest bars, ascending (`storage.schema.BARS`)."""
        ...

    async def indicators(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        """Those of the newest closed bars, ascending (`storage.schema.INDICATORS`)."""
        ...


class OwnShards:
    """The shards, over which symbols are spread."""

    def __init__(self) -> None:
        self._shards = Handles()

    async def newest_seconds(self, markets: Iterable[Market]) -> dict[Market, pa.RecordBatch]:
        by_shard: dict[str, list[Market]] = {}
        for market in markets:
            by_shard.setdefault(owner(market.exchange, market.symbol), []).append(market)

        async def one(shard: str, mine: Sequence[Market]) -> dict[Market, pa.RecordBatch]:
            found = await self._ask(shard, "newest_bars", [(own.exchange, own.symbol, "1s") for own in mine])
            return {Market(exchange, symbol): bars for (exchange, symbol, _), bars in (found or {}).items()}

        said = await asyncio.gather(*(one(shard, mine) for shard, mine in by_shard.items()))
        return {market: bars for part in said for market, bars in part.items()}

    async def bars(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        said: pa.RecordBatch | None = await self._of(market, "bars", timeframe, limit)
        return said

    async def indicators(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        said: pa.RecordBatch | None = await self._of(market, "indicators", timeframe, limit)
        return said

    async def _of(self, market: Market, method: str, *arguments: Any) -> Any:
        return await self._ask(
            owner(market.exchange, market.symbol), method, market.exchange, market.symbol, *arguments
        )

    async def _ask(self, name: str, method: str, *arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(self._shards.ask(name, method, *arguments), ANSWER_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            return None
