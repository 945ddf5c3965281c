"""Where a shard's rows go besides its files. Tables travel as one shared object that every sink reads."""

import asyncio
from typing import Any

from actors.offers import Offers


class Sinks:
    """Sends each kind of rows to the actors that want it; returns when they took it. Who watches the quotes is offered
    them and not waited for."""

    def __init__(self, database: Any, publisher: Any, watch: Offers | None = None) -> None:
        self._database = database
        self._publisher = publisher
        self._watch = watch

    async def __call__(self, kind: str, exchange: str, shared: Any) -> None:
        match kind:
            case "trades":
                await asyncio.gather(
                    self._database.insert.remote("trades", exchange, shared),
                    self._publisher.publish_trades.remote(exchange, shared),
                )
            case "quotes":
                if self._watch is not None:
                    self._watch(exchange, shared)
                await self._publisher.publish_quotes.remote(exchange, shared)
            case "bars":
                await asyncio.gather(
                    self._database.insert.remote("bars", exchange, shared),
                    self._publisher.publish_bars.remote(exchange, shared),
                )
            case "indicators":
                await asyncio.gather(
                    self._database.insert.remote("indicators", exchange, shared),
                    self._publisher.publish_of_bars.remote("indicators", exchange, shared),
                )
            case "features":
                await self._publisher.publish_of_bars.remote("features", exchange, shared)
            case "derivatives" | "liquidations" | "gaps" | "quality":
                await self._database.insert.remote(kind, exchange, shared)
            case _:
                raise ValueError(f"no sink for {kind!r}")
