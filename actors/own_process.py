"""What an actor does for those it shares a machine with, as it has a process to itself.

Who goes first when there is more work than processors: shards and whoever answers requests, as the others wait for
them; then collectors, which take more at once when their turn comes later; then who is told what shards have. A step
of priority is about a quarter more or less of a processor's time, and nobody gets none.
"""

import contextlib
import gc
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

COLLECTOR: Final = 5
TOLD: Final = 10

_THREADS: Final = Path("/proc/self/task")


def in_own_process(actor: type[Any], gives_way: int) -> type[Any]:
    """An actor with the public coroutines of `actor`, whose process gives way to others by so many steps from its
    beginning, and is not held up by the garbage collector once it is made.

    Ray loads the class of an actor wherever there is a handle to it: this one needs nothing but what its own methods
    take, while `actor` with all that it imports is for its process alone.
    """
    module, name = actor.__module__, actor.__name__

    class InOwnProcess:
        def __init__(self, *arguments: Any) -> None:
            give_way(gives_way)
            _begin_logs(name, arguments)
            self._actor = getattr(import_module(module), name)(*arguments)
            keep_what_there_is()

        def __repr__(self) -> str:
            return repr(self._actor)

    for method, _ in inspect.getmembers(actor, inspect.iscoroutinefunction):
        if not method.startswith("_"):
            setattr(InOwnProcess, method, _passed_on(method))
    InOwnProcess.metrics = _metrics  # type: ignore[attr-defined]
    # What it is called in Ray's dashboard and in the list of processes.
    InOwnProcess.__name__ = InOwnProcess.__qualname__ = name
    return InOwnProcess


def _begin_logs(name: str, arguments: Sequence[Any]) -> None:
    """As the settings among the arguments say. Outside of Ray logs are for others to decide."""
    import ray

    if ray.is_initialized():
        from actors import logs, tracing
        from config import Settings
        from config.log_settings import LogSettings
        from config.tracing_settings import TracingSettings

        process = ray.get_runtime_context().get_actor_name() or name
        settings = next((one for one in arguments if isinstance(one, Settings)), None)
        logs.begin(process, settings.logs if settings else LogSettings())
        tracing.begin(process, settings.tracing if settings else TracingSettings())


async def _metrics(_: Any, process: str) -> Any:
    """See `actors.metering.meters.snapshot`."""
    from actors.metering.meters import snapshot

    return snapshot(process)


def _passed_on(name: str) -> Callable[..., Awaitable[Any]]:
    async def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return await getattr(self._actor, name)(*arguments, **options)

    method.__name__ = method.__qualname__ = name
    return method


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


def is_made_again() -> bool:
    """Whether this process was restarted: it is made with what held when its actor was started at first."""
    import ray

    return bool(ray.is_initialized() and ray.get_runtime_context().was_current_actor_reconstructed)


def keep_what_there_is() -> None:
    """Let the garbage collector look at what comes from now on alone. To look at the modules, which stay anyway, holds
    everything up for a quarter of a second each time."""
    gc.collect()
    gc.freeze()
