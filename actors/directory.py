"""Where actors are found: their names, the namespace they share, and which shard owns a symbol. Every part of the
system asks here, so all agree without asking each other.
"""

import zlib
from typing import Any, Final

import ray

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


def shard_name(index: int) -> str:
    return f"shard:{index}"


def collector_name(exchange: str) -> str:
    return f"collector:{exchange}"


def shard_of(exchange: str, symbol: str, shards: int) -> int:
    """The shard (0..shards-1) of a symbol; stable over processes and restarts."""
    return zlib.crc32(f"{exchange}:{symbol}".encode()) % shards


def find_actor(name: str) -> Any:
    """The running actor of that name; ValueError when there is none."""
    return ray.get_actor(name, namespace=NAMESPACE)
