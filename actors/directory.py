"""Where actors are found: their names, the namespace they share, and which shard owns a symbol. Every part of the
system asks here, so all agree without asking each other.
"""

import time
from typing import Any, Final

import ray
from ray.experimental import internal_kv

from actors.placement import Placement, decoded, encoded

NAMESPACE: Final = "rayfeed"
SUPERVISOR: Final = "supervisor"
SIMULATOR: Final = "simulator"
DATABASE: Final = "database"
PUBLISHER: Final = "publisher"
MARKET_WATCH: Final = "market_watch"
ALERTER: Final = "alerter"
BACKUPS: Final = "backups"
ACCOUNTS: Final = "accounts"
LIVE_HUB: Final = "live_hub"
MARKET_OVERVIEW: Final = "market_overview"
REPORTS: Final = "reports"
METRICS: Final = "metrics"

#: What is known of the placement is asked for again after this time.
_FRESH_S: Final = 1.0
_PLACEMENT: Final = "placement"
_SUCCESSOR: Final = "successor of {}"

_known: tuple[float, Placement] | None = None


def shard_name(index: int) -> str:
    return f"shard:{index}"


def node_name(disk: str) -> str:
    """Who reads a disk."""
    return f"node:{disk}"


def collector_name(exchange: str) -> str:
    return f"collector:{exchange}"


def publish(placement: Placement) -> None:
    """Let everybody go by this placement; those who asked a moment ago find it a second later."""
    internal_kv._internal_kv_put(_PLACEMENT, encoded(placement), namespace=NAMESPACE)


def placement_now() -> Placement:
    """The placement that was published last; of a system whose supervisor has none yet, that of one shard."""
    content = internal_kv._internal_kv_get(_PLACEMENT, namespace=NAMESPACE)
    return Placement.first(1) if content is None else decoded(content)


def placement() -> Placement:
    """The same, as it was a second ago."""
    global _known
    now = time.monotonic()
    if _known is None or now - _known[0] > _FRESH_S:
        _known = now, placement_now()
    return _known[1]


def owner(exchange: str, symbol: str) -> str:
    """The name of the shard that has a symbol."""
    return shard_name(placement().shard_of(exchange, symbol))


def succeed(name: str, successor: str) -> None:
    """Whoever looks for the actor of that name finds its successor from now on, which Ray knows by another one."""
    internal_kv._internal_kv_put(_SUCCESSOR.format(name), successor.encode(), namespace=NAMESPACE)


def name_in_ray(name: str) -> str:
    """The name that Ray knows the actor by."""
    successor: bytes | None = internal_kv._internal_kv_get(_SUCCESSOR.format(name), namespace=NAMESPACE)
    return name if successor is None else successor.decode()


def find_actor(name: str) -> Any:
    """The running actor of that name; ValueError when there is none."""
    return ray.get_actor(name_in_ray(name), namespace=NAMESPACE)


class Succeeded(Exception):
    """Another actor has the name of this one by now, which is about to end."""


class Handles:
    """Actors that are asked again and again, by name. To look for one waits for Ray each time."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The handle of an actor; ValueError when there is none of that name."""
        if name not in self._found:
            self._found[name] = find_actor(name)
        return self._found[name]

    async def ask(self, name: str, method: str, *arguments: Any) -> Any:
        """What it says, or whoever has its name now if it has ended. ValueError, and what Ray raises."""
        try:
            return await getattr(self[name], method).remote(*arguments)
        except (ray.exceptions.ActorDiedError, ray.exceptions.RayTaskError) as error:
            if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error.cause, Succeeded):
                raise
        self._found.pop(name, None)
        return await getattr(self[name], method).remote(*arguments)
