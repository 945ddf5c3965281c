"""Where a shard's rows go besides its files. Tables travel as one shared object that every sink reads."""

import asyncio
from typing import Any, Final

#: What alerts can be about.
_LOOKED_AT: Final = ("trades", "bars", "indicators")
#: Tables that wait for the alerter; above it they are left out and counted.
MOST_WAITING: Final = 100
#: The other sinks wait this long for the alerter, so that one who stops sees the last rows arrive.
PATIENCE_S: Final = 0.5


class Sinks:
    """Sends each kind of rows to the actors that want it; returns when they took it. An `alerter` that is dead or slow
    keeps nobody waiting: it gets what it can take, in order, and is told how much it missed."""

    def __init__(self, database: Any, publisher: Any, alerter: Any = None) -> None:
        self._database = database
        self._publisher = publisher
        self._alerter = alerter
        self._in_order = asyncio.Lock()
        self._alerting: set[asyncio.Task[None]] = set()
        self._missed = 0

    async def __call__(self, kind: str, exchange: str, shared: Any) -> None:
        alerting = self._alert(kind, exchange, shared)
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
        if alerting is not None:
            await asyncio.wait([alerting], timeout=PATIENCE_S)

    def _alert(self, kind: str, exchange: str, shared: Any) -> asyncio.Task[None] | None:
        if self._alerter is None or kind not in _LOOKED_AT:
            return None
        if len(self._alerting) >= MOST_WAITING:
            self._missed += 1
            return None
        task = asyncio.create_task(self._hand_over(kind, exchange, shared))
        self._alerting.add(task)
        task.add_done_callback(self._alerting.discard)
        return task

    async def _hand_over(self, kind: str, exchange: str, shared: Any) -> None:
        async with self._in_order:
            missed, self._missed = self._missed, 0
            try:
                await self._alerter.take.remote(kind, exchange, shared, missed)
            except Exception:  # noqa: BLE001 - whatever became of it, the others go on
                self._missed += missed + 1
