"""`rayfeed upgrade`: a running instance goes on with the code that is installed now, and nothing is lost meanwhile."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.asking import Ask, supervisor
from cluster.instance import Details, Instance, InstanceError
from cluster.options import AsJson, Data
from cluster.terminal import terminal
from config import Settings

#: A supervisor whose process is new has this long to know everything again.
_KNOWS_S: Final = 120.0
#: An actor that is renewed for so long stays as it is.
_STUCK_S: Final = 300.0
_LOOK_S: Final = 0.2


def upgrade(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Let a running instance go on with the code that is installed now: actors one after another, collectors and
    replicas beside their successors. Nothing is lost; what has begun goes on when this ends."""
    running = Instance.read(data.absolute())
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with supervisor(data) as ask, Progress(*columns, console=terminal(stderr=True), disable=as_json) as bar:
        assert running is not None and running.details is not None
        task = bar.add_task("the supervisor", total=None)
        installed = _fitting(ask)
        _renew_supervisor(ask, installed)

        def show(now: dict[str, Any]) -> None:
            bar.update(task, completed=now["renewed"], total=now["actors"], description=now["now"] or "actors")

        said = _renew_actors(ask, show)
        settings: Settings = ask("settings")
        if settings.ray.serve:
            bar.update(task, description="replicas")
            _renew_replicas(settings, running.details)
    if as_json:
        typer.echo(json.dumps({"code": installed, **said}))
        return
    typer.echo(
        f"{said['renewed']} actors and all replicas run the code {installed}; "
        f"none was away for more than {said['longest_s']:.1f} s"
    )


def _fitting(ask: Ask) -> str:
    """The code that is installed. InstanceError where it cannot work together with the code that runs."""
    import ray

    from actors.contract import code, contract, difference
    from actors.nodes import stays_on
    from actors.supervisor import IN_THEIR_PLACE, Supervisor

    installed = code()
    try:
        _, running = ask("agreed")
    except AttributeError:
        raise InstanceError(
            "what runs is older than this command and cannot be upgraded while it runs; "
            "stop and start it: rayfeed down, rayfeed up"
        ) from None
    if other := difference(running, contract((Supervisor, *IN_THEIR_PLACE))):
        raise InstanceError(
            f"what is installed does not work together with what runs ({other}); "
            "stop and start it: rayfeed down, rayfeed up"
        )
    for node in ray.nodes():
        if node["Alive"]:
            asked: Any = ray.remote(num_cpus=0)(code).options(scheduling_strategy=stays_on(node["NodeID"])).remote()
            if ray.get(asked, timeout=_KNOWS_S) != installed:
                host = node["NodeManagerAddress"]
                raise InstanceError(f"host {host} has other code than this one: install the same there first")
    return installed


def _renew_supervisor(ask: Ask, installed: str) -> None:
    import ray

    from actors.directory import SUPERVISOR, find_actor

    ray.kill(find_actor(SUPERVISOR), no_restart=False)
    deadline = time.monotonic() + _KNOWS_S
    while time.monotonic() < deadline:
        try:
            if ask("agreed")[0] == installed and ask("readiness")[0]:
                return
        except InstanceError:
            # Of another instance, or of none, the next question says so too.
            pass
        time.sleep(_LOOK_S)
    raise InstanceError(
        f"the supervisor does not know everything again after {_KNOWS_S:g} s; look with: rayfeed status"
    )


def _renew_actors(ask: Ask, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    said: dict[str, Any] = ask("upgrade")
    renewed, since = -1, time.monotonic()
    while not said["done"]:
        if said["error"]:
            raise InstanceError(f"{said['error']}; what is left goes on as it was, try again: rayfeed upgrade")
        if said["renewed"] != renewed:
            renewed, since = said["renewed"], time.monotonic()
        if time.monotonic() - since > _STUCK_S:
            raise InstanceError(f"{said['now']} is not renewed; look with: rayfeed status")
        time.sleep(_LOOK_S)
        said = ask("upgrading")
        show(said)
    return said


def _renew_replicas(settings: Settings, details: Details) -> None:
    """On this host successors first; and the edge goes on with a configuration of this code."""
    from cluster.deploying import deploy, replicas_run
    from cluster.other_lanes import go_on
    from cluster.ray_head import runtime_folder

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    assert details.redis_url is not None, "an instance that runs has one"
    deploy(settings, details.ports, details.redis_url)
    asyncio.run(replicas_run())
    go_on(settings, details.ports, runtime_folder(settings.data) / "edge")
