"""Tables for an actor that may be slow or dead: whoever offers one need not wait for it. They are taken in order; what
there is no room for is left out and counted, and the next table that is taken says how many that were.
"""

import asyncio
from typing import Any, Final

import structlog

#: Tables that wait to be taken.
MOST: Final = 100
#: An actor that cannot be asked what it looks at is asked again after this.
ASK_AGAIN_S: Final = 0.5

log = structlog.get_logger(__name__)


class Offers:
    """Offers of rows of a kind and an exchange to an actor with `take.remote(kind, exchange, table, missed)`; `missed`:
    how many could not be given to it since the last one. No more than `most` wait to be taken."""

    def __init__(self, actor: Any, most: int = MOST) -> None:
        self._actor = actor
        self._most = most
        self._in_order = asyncio.Lock()
        self._waiting: set[asyncio.Task[None]] = set()
        self._refused = False
        self.missed = 0

    def __call__(self, kind: str, exchange: str, shared: Any) -> asyncio.Task[None] | None:
        """Offer a table, or what stands for it in the object store; what is returned is done once it was taken."""
        if len(self._waiting) >= self._most:
            self.missed += 1
            return None
        task = asyncio.create_task(self._hand_over(kind, exchange, shared))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    async def _hand_over(self, kind: str, exchange: str, shared: Any) -> None:
        async with self._in_order:
            missed, self.missed = self.missed, 0
            try:
                await self._actor.take.remote(kind, exchange, shared, missed)
                self._refused = False
            except Exception as error:  # noqa: BLE001 - whatever became of it, the others go on
                self.missed += missed + 1
                if not self._refused:
                    log.warning("a table was not taken", kind=kind, exchange=exchange, error=repr(error))
                self._refused = True


class WantedOffers(Offers):
    """Offers to an actor with `wants.remote(known)` too, which answers with the kinds and exchanges it looks at as soon
    as these are not the known ones; others are not offered."""

    def __init__(self, actor: Any) -> None:
        super().__init__(actor)
        #: Unknown at first, and then all may be.
        self._wanted: frozenset[tuple[str, str]] | None = None
        self._asking: asyncio.Task[None] | None = None

    def __call__(self, kind: str, exchange: str, shared: Any) -> asyncio.Task[None] | None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_ever())
        if self._wanted is not None and (kind, exchange) not in self._wanted:
            return None
        return super().__call__(kind, exchange, shared)

    async def _ask_for_ever(self) -> None:
        while True:
            try:
                self._wanted = await self._actor.wants.remote(self._wanted)
            except Exception as error:  # noqa: BLE001 - it may come back
                if self._wanted is not None:
                    log.warning("nobody says what is looked at: everything is offered", error=repr(error))
                # Another process of it may look at something else.
                self._wanted = None
                await asyncio.sleep(ASK_AGAIN_S)
