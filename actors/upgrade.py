"""Lets every actor of a running instance go on with the code that is installed now, one after another, whoever is told
before who tells it. A process that is restarted recovers as after any death, and whoever asks it waits meanwhile; a
collector is succeeded by another one (`actors.succession`), as what is not received can never be had again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import ray

from actors.directory import (
    ACCOUNTS,
    ALERTER,
    BACKUPS,
    DATABASE,
    LIVE_HUB,
    MARKET_OVERVIEW,
    MARKET_WATCH,
    METRICS,
    PUBLISHER,
    REPORTS,
)

#: Simulated exchanges are the world outside: they are no part of it.
ORDER: Final = (
    (DATABASE,),
    (PUBLISHER,),
    (ACCOUNTS, REPORTS, BACKUPS, METRICS),
    (ALERTER, MARKET_WATCH, MARKET_OVERVIEW, "poller:"),
    (LIVE_HUB,),
    ("node:", "shard:"),
    ("collector:",),
)
#: A process has this long to be back with all it had.
BACK_S: Final = 120.0
_LOOK_S: Final = 0.1


@dataclass(slots=True)
class Progress:
    """`actors` have to go on with other code and `renewed` have; `now` one does. `error` says why it ended before the
    end. `longest_s` is the most seconds that one did not answer, without collectors, which always do."""

    actors: int = 0
    renewed: int = 0
    now: str = ""
    longest_s: float = 0.0
    error: str = ""
    done: bool = False


class Upgrade:
    """Of the `actors` by name; `succeed` lets another collector take the place of the one of that name, `look` has one
    at work again once its process is back, and gives what it says."""

    def __init__(
        self,
        actors: Mapping[str, Any],
        succeed: Callable[[str], Awaitable[None]],
        look: Callable[[str], Awaitable[Mapping[str, Any]]],
    ) -> None:
        self._actors = actors
        self._succeed = succeed
        self._look = look
        self._progress = Progress()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> dict[str, Any]:
        """Does nothing while it is under way; says how far it is."""
        if not self.is_under_way:
            names = in_order(self._actors)
            self._progress = Progress(len(names))
            self._task = asyncio.create_task(self._run(names))
        return self.progress()

    def progress(self) -> dict[str, Any]:
        """See `Progress`."""
        return asdict(self._progress)

    @property
    def is_under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    def is_renewing(self, name: str) -> bool:
        """Whether that one has another process because we want it."""
        return self._progress.now == name

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, names: list[str]) -> None:
        said = self._progress
        try:
            for said.now in names:
                if said.now.startswith("collector:"):
                    await self._succeed(said.now)
                    await self._look(said.now)
                elif said.now in self._actors:
                    said.longest_s = max(said.longest_s, round(await self._restart(said.now), 3))
                said.renewed += 1
            said.done = True
        except Exception as error:  # noqa: BLE001 - who waits for it is told why
            said.error = f"{said.now}: {(str(error) or repr(error)).strip().rpartition(chr(10))[2]}"
        finally:
            said.now = ""

    async def _restart(self, name: str) -> float:
        """Seconds until it answered again, at work with all it had."""
        before = (await self._look(name)).get("pid")
        began = time.monotonic()
        ray.kill(self._actors[name], no_restart=False)
        while time.monotonic() - began < BACK_S:
            said = await self._look(name)
            works = said.get("running") is not False and not said.get("failure")
            if said.get("answers") and said["pid"] != before and works:
                return time.monotonic() - began
            await asyncio.sleep(_LOOK_S)
        raise TimeoutError(f"is not back after {BACK_S:g} s")


def in_order(names: Mapping[str, Any]) -> list[str]:
    """Whoever is told comes before who tells it."""
    return [name for kinds in ORDER for name in sorted(names) if name.startswith(kinds)]
