"""What a collector writes down of its backfills, kept by the supervisor on the disk of the instance: the collector may
be on another host the next time.
"""

import asyncio
from typing import Final

import ray
import structlog

from actors.directory import SUPERVISOR, Handles

#: One that could not be kept is tried again after this time, unless there is a newer one by then.
RETRY_S: Final = 1.0

log = structlog.get_logger(__name__)


class NotesBySupervisor:
    """See `actors.backfill.records.Notes`. While one is on its way, of those that come the newest waits."""

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._supervisor = Handles()
        self._newest: bytes | None = None
        self._task: asyncio.Task[None] | None = None

    async def read(self) -> bytes | None:
        """See `Notes`; waits for a supervisor that is away."""
        while True:
            try:
                found: bytes | None = await self._supervisor.ask(SUPERVISOR, "backfill_notes", self._exchange)
            except ray.exceptions.RayTaskError as error:
                # It is there, and cannot read them: nobody waits for that.
                raise OSError(str(error.cause)) from None
            except (ValueError, ray.exceptions.RayError) as error:
                log.warning("how far backfills are is not known yet", exchange=self._exchange, error=repr(error))
                await asyncio.sleep(RETRY_S)
            else:
                return found

    def write(self, content: bytes) -> None:
        """Never fails: it is kept as soon as it can be."""
        self._newest = content
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def written(self) -> None:
        """See `Notes`."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _write(self) -> None:
        while (content := self._newest) is not None:
            try:
                await self._supervisor.ask(SUPERVISOR, "write_backfill_notes", self._exchange, content)
            except (ValueError, OSError, ray.exceptions.RayError) as error:
                log.warning("how far backfills are cannot be kept", exchange=self._exchange, error=repr(error))
                await asyncio.sleep(RETRY_S)
                continue
            if self._newest is content:
                self._newest = None
