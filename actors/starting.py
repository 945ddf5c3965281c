"""How an actor is started: by name, in a process of its own that outlives who started it."""

from typing import Any

import ray

from actors.directory import NAMESPACE
from actors.nodes import rather_on, stays_on, this_node
from actors.own_process import in_own_process


def start_actor(
    name: str, actor: type, *arguments: Any, gives_way: int = 0, on: str | None = None, stays: bool = True
) -> Any:
    """The actor of that name, made now if it does not run yet. Restarted for ever; calls to it wait meanwhile.
    `gives_way`: by so many steps of priority, see `actors.own_process`. `on`: the node it is on, this one if none is
    said; unless it `stays` there it is restarted on any other when that has gone."""
    return (
        ray.remote(in_own_process(actor, gives_way))
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=(stays_on if stays else rather_on)(on or this_node()),
        )
        .remote(*arguments)
    )
