"""Where a shard's rows go besides its files. Tables travel as one shared object that every sink reads."""

import asyncio
from typing import Any, Final

from actors.offers import Offers

#: The other sinks wait this long for who is offered tables, so that a shard that stops sees its last rows arrive.
PATIENCE_S: Final = 0.5


class Sinks:
    """Sends each kind of rows to the actors that want it; returns when they took it. Who watches the quotes and who
    looks for alerts are offered theirs, and not waited for when they are slow."""

    def __init__(
        self, database: Any, publisher: Any, watch: Offers | None = None, alerter: Offers | None = None
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._watch = watch
        self._alerter = alerter

    async def __call__(self, kind: str, exchange: str, shared: Any) -> None:
        offered = [offers(kind, exchange, shared) for offers in self._offers(kind)]
        match kind:
            case "trades":
                await asyncio.gather(
                    self._database.insert.remote("trades", exchange, shared),
                    self._publisher.publish_trades.remote(exchange, shared),
                )
            case "quotes":
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
        if waiting := [task for task in offered if task is not None]:
            await asyncio.wait(waiting, timeout=PATIENCE_S)

    def _offers(self, kind: str) -> list[Offers]:
        interested = (self._watch if kind == "quotes" else None, self._alerter)
        return [offers for offers in interested if offers is not None]
