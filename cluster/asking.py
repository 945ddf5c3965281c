"""How a command asks the supervisor of a running instance."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cluster.instance import Instance, InstanceError
from config import SettingsError

ANSWER_TIMEOUT_S: Final = 15.0

#: Calls a method of the supervisor, by name, with these arguments.
Ask = Callable[..., Any]


@contextmanager
def supervisor(data: Path) -> Iterator[Ask]:
    """Calls to the supervisor of the instance on `data`; InstanceError when there is none, or none any more, and
    SettingsError where it says so."""
    running = Instance.read(data.absolute())
    if running is None:
        raise InstanceError(f"nothing runs on {data}; start it with: rayfeed up --data {data}")
    if running.details is None:
        raise InstanceError(f"{running}; ask again in a moment")
    # Importing Ray takes a second, which only a running instance is worth.
    import ray

    from actors.directory import SUPERVISOR, find_actor
    from cluster import ray_head

    def ask(method: str, *arguments: Any) -> Any:
        # Without its instance Ray keeps a caller waiting.
        if Instance.read(data.absolute()) is None:
            raise InstanceError(f"the instance on {data} has stopped")
        try:
            return ray.get(getattr(actor, method).remote(*arguments), timeout=ANSWER_TIMEOUT_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SettingsError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise InstanceError(f"the instance on {data} does not answer: {str(error).splitlines()[0]}") from None

    ray_head.connect(running.details)
    try:
        actor = find_actor(SUPERVISOR)
        yield ask
    finally:
        ray.shutdown()
