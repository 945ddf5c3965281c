"""Who goes first when there is more work than processors: shards and whoever answers requests, as the others wait for
them; then collectors, which take more at once when their turn comes later; then who is told what shards have. A step
of priority is about a quarter more or less of a processor's time, and nobody gets none.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Final

COLLECTOR: Final = 5
TOLD: Final = 10

_THREADS: Final = Path("/proc/self/task")


def giving_way[Actor: type[Any]](actor: Actor, steps: int) -> Actor:
    """The same actor, whose process gives way to others by so many steps from its beginning."""

    class GivingWay(actor):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            give_way(steps)
            super().__init__(*arguments)

    # What it is called in Ray's dashboard and in the list of processes.
    GivingWay.__name__ = GivingWay.__qualname__ = actor.__name__
    return GivingWay  # type: ignore[return-value]


def give_way(steps: int) -> None:
    """Lower the priority of all threads of this process, and of those they start."""
    if not _THREADS.exists():
        # Where there is no /proc, a process has one priority.
        os.nice(steps)
        return
    for thread in _THREADS.iterdir():
        with contextlib.suppress(ProcessLookupError):
            now = os.getpriority(os.PRIO_PROCESS, int(thread.name))
            os.setpriority(os.PRIO_PROCESS, int(thread.name), now + steps)
