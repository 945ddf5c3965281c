"""Parcels for an actor that may be slow or dead: whoever offers one need not wait for it. They are taken in order; what
there is no room for is left out and counted, and the next parcel that is taken says how many that were.
"""

import asyncio
from collections.abc import Iterable, Set
from typing import Any, Final

import structlog

from actors.parcels import Key

#: Parcels that wait to be taken.
MOST: Final = 100
#: An actor that cannot be asked what it looks at is asked again after this.
ASK_AGAIN_S: Final = 0.5

log = structlog.get_logger(__name__)


class Offers:
    """Offers to an actor with `take.remote(parcel, missed)`, of those parcels that hold a kind it wants (None: any);
    `missed`: how many could not be given to it since the last one. No more than `most` wait to be taken."""

    def __init__(self, actor: Any, most: int = MOST, kinds: Set[str] | None = None) -> None:
        self._actor = actor
        self._most = most
        self._kinds = kinds
        self._in_order = asyncio.Lock()
        self._waiting: set[asyncio.Task[None]] = set()
        self._refused = False
        self.missed = 0

    def __call__(self, keys: Iterable[Key], shared: Any) -> asyncio.Task[None] | None:
        """Offer a parcel of these tables, or what stands for it in the object store; what is returned is done once it
        was taken."""
        if not any(self._wants(key) for key in keys):
            return None
        if len(self._waiting) >= self._most:
            self.missed += 1
            return None
        task = asyncio.create_task(self._hand_over(shared))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    def _wants(self, key: Key) -> bool:
        return self._kinds is None or key[0] in self._kinds

    async def _hand_over(self, shared: Any) -> None:
        async with self._in_order:
            missed, self.missed = self.missed, 0
            try:
                await self._actor.take.remote(shared, missed)
                self._refused = False
            except Exception as error:  # noqa: BLE001 - whatever became of it, the others go on
                self.missed += missed + 1
                if not self._refused:
                    log.warning("tables were not taken", error=repr(error))
                self._refused = True


class WantedOffers(Offers):
    """Offers to an actor with `wants.remote(known)` too, which answers with the kinds and exchanges it looks at as soon
    as these are not the known ones; parcels without any of them are not offered."""

    def __init__(self, actor: Any) -> None:
        super().__init__(actor)
        #: Unknown at first, and then all may be.
        self._wanted: frozenset[Key] | None = None
        self._asking: asyncio.Task[None] | None = None

    def __call__(self, keys: Iterable[Key], shared: Any) -> asyncio.Task[None] | None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_ever())
        return super().__call__(keys, shared)

    def _wants(self, key: Key) -> bool:
        return self._wanted is None or key in self._wanted

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
