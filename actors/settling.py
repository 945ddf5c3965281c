"""Has collectors go to the hosts where they belong, one after another, as shards come to others or a host comes back.
Each is succeeded by one there (`actors.succession`), so that nothing is missed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

#: One that did not get everything where it belongs is tried again after this time.
RETRY_S: Final = 60.0

log = structlog.get_logger(__name__)


class Settling:
    """`misplaced` names those that are not where they belong, `go_home` has one go there."""

    def __init__(self, misplaced: Callable[[], Iterable[str]], go_home: Callable[[str], Awaitable[None]]) -> None:
        self._misplaced = misplaced
        self._go_home = go_home
        self._task: asyncio.Task[None] | None = None
        #: Why it could not go, by name.
        self._failed: dict[str, str] = {}

    @property
    def error(self) -> str:
        """Why those that are not where they belong could not go there."""
        return "; ".join(self._failed[name] for name in self._misplaced() if name in self._failed)

    @property
    def done(self) -> bool:
        """Whether all are where they belong, or cannot go there now."""
        return all(name in self._failed for name in self._misplaced())

    @property
    def left(self) -> int:
        """How many are not where they belong."""
        return len([*self._misplaced()])

    def look(self) -> None:
        """Begin with it if one is not where it belongs; does nothing while it is under way."""
        if not self._goes and self.left:
            self._task = asyncio.create_task(self._settle())

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def _goes(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _settle(self) -> None:
        for name in [*self._misplaced()]:
            try:
                await self._go_home(name)
                self._failed.pop(name, None)
                log.info("a collector is where it belongs", collector=name)
            except Exception as error:  # noqa: BLE001 - it goes on where it is, and is tried again
                self._failed[name] = f"{name}: {(str(error) or repr(error)).strip().rpartition(chr(10))[2]}"
                log.warning("a collector cannot go where it belongs", collector=name, error=repr(error))
                await asyncio.sleep(RETRY_S)
