"""What an actor does for those it shares a machine with, as it has a process to itself.

Who goes first when there is more work than processors: shards and whoever answers requests, as the others wait for
them; then collectors, which take more at once when their turn comes later; then who is told what shards have. A step
of priority is about a quarter more or less of a processor's time, and nobody gets none.
"""

import contextlib
import gc
import os
from pathlib import Path
from typing import Any, Final

COLLECTOR: Final = 5
TOLD: Final = 10

_THREADS: Final = Path("/proc/self/task")


def in_own_process[Actor: type[Any]](actor: Actor, gives_way: int) -> Actor:
    """The same actor, whose process gives way to others by so many steps from its beginning, and is not held up by the
    garbage collector once it is made."""

    class InOwnProcess(actor):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            give_way(gives_way)
            super().__init__(*arguments)
            keep_what_there_is()

    # What it is called in Ray's dashboard and in the list of processes.
    InOwnProcess.__name__ = InOwnProcess.__qualname__ = actor.__name__
    return InOwnProcess  # type: ignore[return-value]


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


def keep_what_there_is() -> None:
    """Let the garbage collector look at what comes from now on alone. To look at the modules, which stay anyway, holds
    everything up for a quarter of a second each time."""
    gc.collect()
    gc.freeze()
