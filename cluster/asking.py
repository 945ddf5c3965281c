"""How a command asks the actors of a running instance. When that stops meanwhile, the command ends too: Ray would look
for it for minutes, in calls that no exception and no Ctrl-C reaches.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cluster.instance import Details, Instance, InstanceError, RunningInstance
from config import Settings, SettingsError, load

ANSWER_TIMEOUT_S: Final = 15.0
#: What waits for an instance that has gone may fail by itself for this long: then others go on without it.
GRACE_S: Final = 2.0
#: The same for leaving its Ray, which takes five seconds then.
LEAVE_GRACE_S: Final = 10.0
_LOOK_S: Final = 0.25

#: Calls a method of an actor, by name, with these arguments.
Ask = Callable[..., Any]


@contextmanager
def supervisor(data: Path) -> Iterator[Ask]:
    """Calls to the supervisor of the instance on `data`; InstanceError when there is none, or none any more, and
    SettingsError where it says so."""
    with _calls(data, *_running(data)) as ask:
        yield ask


@contextmanager
def running_actor(data: Path, name: str) -> Iterator[Ask]:
    """The same for the actor of that name (`actors.directory`)."""
    with _calls(data, *_running(data), name) as ask:
        yield ask


@contextmanager
def wherever(data: Path, name: str, made: Callable[[Settings], Any]) -> Iterator[Ask]:
    """Calls to an actor while the instance on `data` runs; otherwise to what `made` makes of its settings, while nobody
    can start the instance. SettingsError when there is no such folder."""
    if Instance.read(data.absolute()) is not None:
        with running_actor(data, name) as ask:
            yield ask
        return
    if not data.is_dir():
        raise SettingsError(f"there is no data folder {data}; name it with --data, or start once: rayfeed up")
    settings = load(data)
    instance = Instance.claim(settings.data)
    try:
        with asyncio.Runner() as runner:
            here = made(settings)
            try:
                yield lambda method, *arguments: runner.run(getattr(here, method)(*arguments))
            finally:
                runner.run(here.stop())
    finally:
        instance.release()


@contextmanager
def simulator(data: Path) -> Iterator[Ask]:
    """The same for its simulated exchanges; SettingsError when it has none, and for what they refuse."""
    running, details = _running(data)
    if details.source == "live":
        raise SettingsError(f"the instance on {data} runs on real exchanges: only simulated ones can be told to fail")
    from actors.directory import SIMULATOR

    with _calls(data, running, details, SIMULATOR) as ask:
        yield ask


@contextmanager
def ends_with(data: Path, running: RunningInstance, grace_s: float = GRACE_S) -> Iterator[None]:
    """Ends this process, with one line and exit status 1, when it is still inside `grace_s` seconds after that instance
    has stopped."""
    left = threading.Event()

    def watch() -> None:
        while _runs(data, running):
            if left.wait(_LOOK_S):
                return
        if not left.wait(grace_s):
            # A progress display hides it.
            Console(stderr=True).show_cursor()
            print(f"rayfeed: {_stopped(data)}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _running(data: Path) -> tuple[RunningInstance, Details]:
    running = Instance.read(data.absolute())
    if running is None:
        raise InstanceError(f"nothing runs on {data}; start it with: rayfeed up --data {data}")
    if running.details is None:
        raise InstanceError(f"{running}; ask again in a moment")
    return running, running.details


def _runs(data: Path, running: RunningInstance) -> bool:
    """Whether that one does: not another that was started since."""
    try:
        return Instance.read(data.absolute()) == running
    except InstanceError:
        return True


def _stopped(data: Path) -> InstanceError:
    return InstanceError(f"the instance on {data} has stopped")


@contextmanager
def _calls(data: Path, running: RunningInstance, details: Details, name: str | None = None) -> Iterator[Ask]:
    """Calls to the actor of that name, the supervisor if none is said."""
    # Importing Ray takes a second, which only a running instance is worth.
    import ray

    from actors.directory import SUPERVISOR, find_actor
    from cluster import ray_head

    def ask(method: str, *arguments: Any, **options: Any) -> Any:
        if not _runs(data, running):
            raise _stopped(data)
        try:
            with ends_with(data, running):
                return ray.get(getattr(actor, method).remote(*arguments, **options), timeout=ANSWER_TIMEOUT_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SettingsError):
                raise error.cause from None
            if isinstance(error.cause, TimeoutError | ray.exceptions.RayError):
                raise InstanceError(
                    f"an actor of the instance on {data} does not answer; ask again in a moment"
                ) from None
            raise
        except ray.exceptions.RayError as error:
            raise no_answer(error) from None

    def no_answer(error: Exception) -> InstanceError:
        # Not found, or dead for good: that is how actors are once their instance stops.
        if isinstance(error, ValueError | ray.exceptions.ActorDiedError):
            return _stopped(data)
        return InstanceError(f"the instance on {data} does not answer: {(str(error) or repr(error)).splitlines()[0]}")

    try:
        try:
            with ends_with(data, running):
                ray_head.connect(details)
                actor = find_actor(name or SUPERVISOR)
        except Exception as error:  # noqa: BLE001 - of an instance that stops Ray says in many ways that nobody is there
            raise no_answer(error) from None
        yield ask
    finally:
        with ends_with(data, running, LEAVE_GRACE_S):
            ray.shutdown()
