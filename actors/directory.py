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


def find_actor(name: str) -> Any:
    """The running actor of that name; ValueError when there is none."""
    return ray.get_actor(name, namespace=NAMESPACE)
