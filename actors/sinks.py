"""Where a shard's rows go besides its files. Tables travel as one shared object that every sink reads."""

import asyncio
from typing import Any, Final

#: Tables that wait for the alerter; above it they are left out and counted.
MOST_WAITING: Final = 100
#: The other sinks wait this long for the alerter, so that one who stops sees the last rows arrive.
PATIENCE_S: Final = 0.5
#: An alerter that cannot be asked is asked again after this.
ASK_AGAIN_S: Final = 0.5


class Sinks:
    """Sends each kind of rows to the actors that want it; returns when they took it. An `alerter` says what it looks
    at, and gets that in order; one that is dead or slow keeps nobody waiting, and is told how much it missed."""

    def __init__(self, database: Any, publisher: Any, alerter: Any = None) -> None:
        self._database = database
        self._publisher = publisher
        self._alerter = alerter
        #: Kind and exchange of the tables that the alerter looks at; unknown at first, and then all may be.
        self._looked_at: frozenset[tuple[str, str]] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._in_order = asyncio.Lock()
        self._alerting: set[asyncio.Task[None]] = set()
        self._missed = 0

    async def __call__(self, kind: str, exchange: str, shared: Any) -> None:
        alerting = None if self._alerter is None else self._alert(kind, exchange, shared)
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
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_ever())
        if self._looked_at is not None and (kind, exchange) not in self._looked_at:
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

    async def _ask_for_ever(self) -> None:
        """The alerter answers when it looks at something else."""
        while True:
            try:
                self._looked_at = await self._alerter.wants.remote(self._looked_at)
            except Exception:  # noqa: BLE001 - it may come back
                await asyncio.sleep(ASK_AGAIN_S)
