"""Where a shard's rows go besides its files: as one object, that every sink reads what it wants of."""

import asyncio
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

import pyarrow as pa

from actors.offers import Offers
from actors.parcels import Key, packed
from actors.publisher import PUBLISHED
from actors.reconciling import Counted
from storage.clickhouse_tables import TABLES

#: The other sinks wait this long for who is offered parcels, so that a shard that stops sees its last rows arrive.
PATIENCE_S: Final = 0.5


class Sinks:
    """Sends tables by kind and exchange to the actors that want some of them; returns when they took them. `share` puts
    a parcel where other actors can read it without a copy and gives what to send them; `stored` are the kinds that the
    database wants. Who watches the quotes and who looks for alerts are offered theirs, and not waited for when they
    are slow."""

    def __init__(
        self,
        share: Callable[[Any], Any],
        database: Any,
        publisher: Any,
        *offers: Offers,
        stored: Set[str] = TABLES.keys(),
    ) -> None:
        self._share = share
        self._takers = ((database, stored), (publisher, PUBLISHED))
        self._offers = offers

    async def __call__(self, tables: Mapping[Key, pa.Table]) -> None:
        kinds = {kind for kind, _ in tables}
        if unknown := kinds - self._takers[0][1] - self._takers[1][1]:
            raise ValueError(f"no sink for {min(unknown)!r}")
        shared = self._share(packed(tables))
        offered = [offers(tables.keys(), shared) for offers in self._offers]
        await asyncio.gather(*(actor.take.remote(shared) for actor, takes in self._takers if kinds & takes))
        if waiting := [task for task in offered if task is not None]:
            await asyncio.wait(waiting, timeout=PATIENCE_S)

    async def counted(self, exchange: str, symbols: list[str], from_ns: int, before_ns: int) -> Counted | None:
        """See `Database.count_trades`."""
        found: Counted | None = await self._takers[0][0].count_trades.remote(exchange, symbols, from_ns, before_ns)
        return found

    async def keep(self, tables: Mapping[Key, pa.Table]) -> None:
        """Let the database alone have them: the others have had their time."""
        await self._takers[0][0].take.remote(self._share(packed(tables)))
