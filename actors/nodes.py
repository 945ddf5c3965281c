"""The nodes of the cluster, and the disk that each of them has."""

import asyncio
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from config import Settings
from config.node_folder import disk_of, on_this_node

#: The first task of a node that has just joined waits for a process to start.
ANSWER_S: Final = 30.0


def this_node() -> str:
    """The node this process is on, as Ray names it."""
    node: str = ray.get_runtime_context().get_node_id()
    return node


@lru_cache(maxsize=1)
def address_here() -> str:
    """How other nodes reach this one."""
    mine = this_node()
    # The address a socket seems to have may be that of another network.
    found: str = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == mine)
    return found


def where_it_is() -> dict[str, str]:
    """The `node` this process is on, and its `host` by its address; nothing outside of Ray."""
    return {"node": this_node(), "host": address_here()} if ray.is_initialized() else {}


def stays_on(node: str) -> NodeAffinitySchedulingStrategy:
    """Nowhere else, also after a restart."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def rather_on(node: str) -> NodeAffinitySchedulingStrategy:
    """While there is such a node; otherwise on any, and there until it is moved."""
    return NodeAffinitySchedulingStrategy(node, soft=True)


def disk_here(settings: Settings) -> str:
    """The disk of the node this process is on. OSError."""
    return disk_of(on_this_node(settings).data)


class Nodes:
    """Which disks there are, by the node that has each; where several nodes have one, the first that was asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, str] = {this_node(): disk_of(settings.data)}
        self._addresses: dict[str, str] = {}

    @property
    def there(self) -> Collection[str]:
        """The nodes, as of the last look."""
        return self._known.keys()

    @property
    def own_disk(self) -> str:
        return self._known[this_node()]

    async def look(self) -> Mapping[str, str]:
        """The node of each disk that is there now, that of this process first. A node that does not answer has none."""
        there = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"]]
        self._addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in there}
        alive = self._addresses.keys()
        self._known = {node: disk for node, disk in self._known.items() if node in alive}
        for node in sorted(alive - self._known.keys()):
            try:
                task = ray.remote(num_cpus=0, max_retries=0)(_disk).options(scheduling_strategy=stays_on(node))
                asked: Any = task.remote(self._settings)
                self._known[node] = await asyncio.wait_for(asked, ANSWER_S)
            except (TimeoutError, ray.exceptions.RayError):
                continue
        found: dict[str, str] = {}
        for node, disk in self._known.items():
            found.setdefault(disk, node)
        return found

    def disks_of(self, host: str) -> set[str]:
        """The disks, as of the last look, of a host by its address, or of a node as Ray names it."""
        return {disk for node, disk in self._known.items() if host in (node, self._addresses.get(node))}


def _disk(settings: Settings) -> str:
    return disk_of(on_this_node(settings).data)
