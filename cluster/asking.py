"""How a command asks the actors of a running instance."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cluster.instance import Details, Instance, InstanceError
from config import SettingsError

ANSWER_TIMEOUT_S: Final = 15.0

#: Calls a method of an actor, by name, with these arguments.
Ask = Callable[..., Any]


@contextmanager
def supervisor(data: Path) -> Iterator[Ask]:
    """Calls to the supervisor of the instance on `data`; InstanceError when there is none, or none any more, and
    SettingsError where it says so."""
    with _calls(data, _details(data)) as ask:
        yield ask


@contextmanager
def simulator(data: Path) -> Iterator[Ask]:
    """The same for its simulated exchanges; SettingsError when it has none, and for what they refuse."""
    details = _details(data)
    if details.source == "live":
        raise SettingsError(f"the instance on {data} runs on real exchanges: only simulated ones can be told to fail")
    with _calls(data, details, simulated=True) as ask:
        yield ask


def _details(data: Path) -> Details:
    running = Instance.read(data.absolute())
    if running is None:
        raise InstanceError(f"nothing runs on {data}; start it with: rayfeed up --data {data}")
    if running.details is None:
        raise InstanceError(f"{running}; ask again in a moment")
    return running.details


@contextmanager
def _calls(data: Path, details: Details, simulated: bool = False) -> Iterator[Ask]:
    # Importing Ray takes a second, which only a running instance is worth.
    import ray

    from actors.directory import SIMULATOR, SUPERVISOR, find_actor
    from cluster import ray_head

    def ask(method: str, *arguments: Any, **options: Any) -> Any:
        # Without its instance Ray keeps a caller waiting.
        if Instance.read(data.absolute()) is None:
            raise InstanceError(f"the instance on {data} has stopped")
        try:
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
            raise InstanceError(f"the instance on {data} does not answer: {str(error).splitlines()[0]}") from None

    ray_head.connect(details)
    try:
        actor = find_actor(SIMULATOR if simulated else SUPERVISOR)
        yield ask
    finally:
        ray.shutdown()
