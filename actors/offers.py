"""Tables for an actor that may be slow or dead: whoever offers one never waits for it. What is not taken while too many
are on their way is dropped and counted, and the next table that is taken says how many that were.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import structlog

#: Tables on their way at a time.
MOST: Final = 16

log = structlog.get_logger(__name__)


class Offers:
    """Offers of one `source` to an actor with `take.remote(exchange, table, source, dropped)`; `dropped` is how many
    tables of this source it has missed so far."""

    def __init__(self, actor: Any, source: str) -> None:
        self._actor = actor
        self._source = source
        self._waiting: set[asyncio.Future[object]] = set()
        self._refused = False
        self.dropped = 0

    def __call__(self, exchange: str, shared: Any) -> None:
        """Offer a table, or what stands for it in the object store."""
        if len(self._waiting) >= MOST:
            self.dropped += 1
            return
        answer: Awaitable[object] = self._actor.take.remote(exchange, shared, self._source, self.dropped)
        taken = asyncio.ensure_future(answer)
        self._waiting.add(taken)
        taken.add_done_callback(self._answered)

    def _answered(self, taken: "asyncio.Future[object]") -> None:
        self._waiting.discard(taken)
        error = asyncio.CancelledError() if taken.cancelled() else taken.exception()
        self.dropped += error is not None
        if error is not None and not self._refused:
            log.warning("a table was not taken", source=self._source, error=repr(error))
        self._refused = error is not None
