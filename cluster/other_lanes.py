"""Has the front door lead to the hosts that have replicas too: those that come are added to its configuration. One that
goes stays there, as it finds out by itself who answers, and a new configuration ends WebSockets after a while.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import ray
import structlog

from actors.nodes import this_node
from cluster.edge import reload
from cluster.front_door import front_door
from cluster.instance import InstanceError
from config import Settings, load

LOOK_S: Final = 2.0
#: In the folder of the front door.
_HOSTS: Final = "hosts.json"

log = structlog.get_logger(__name__)


def go_on(settings: Settings, ports: Mapping[str, int], folder: Path, more: Collection[str] = ()) -> None:
    """Have the front door of `folder` go on with the settings as they are in their file now, and with the hosts it has
    and these. What listens where stays: only a start can change it. EdgeError, CertificateError, SettingsError."""
    where = {name: getattr(settings, name) for name in ("host", "port", "tls_port")}
    with _alone(folder):
        hosts = sorted({*known_hosts(folder), *more})
        reload(front_door(load(settings.data, where), ports, hosts), folder)
        if more:
            (folder / _HOSTS).write_text(json.dumps(hosts), encoding="utf-8")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Whoever comes second, as `rayfeed edge reload` beside the instance, goes on from what the first has made."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def known_hosts(folder: Path) -> list[str]:
    """The addresses of those that the front door of `folder` leads to."""
    try:
        found: list[str] = json.loads((folder / _HOSTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return found


@contextlib.asynccontextmanager
async def following(settings: Settings, ports: Mapping[str, int], folder: Path) -> AsyncIterator[None]:
    """Inside, hosts that come are found."""
    task = asyncio.create_task(follow(_others, lambda more: go_on(settings, ports, folder, more), folder))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def follow(look: Callable[[], Iterable[str]], go_on_with: Callable[[set[str]], None], folder: Path) -> None:
    """`look` gives the hosts there are now, `go_on_with` is told which of them are new."""
    while True:
        try:
            if more := {*await asyncio.to_thread(look)} - {*known_hosts(folder)}:
                await asyncio.to_thread(go_on_with, more)
        except (OSError, ValueError, InstanceError, ray.exceptions.RayError) as error:
            log.warning("the front door does not know a new host yet", error=str(error))
        await asyncio.sleep(LOOK_S)


def _others() -> list[str]:
    mine = this_node()
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != mine]
