"""Which shard owns a symbol. Every part of the system asks here, so all agree without asking each other."""

import zlib


def shard_of(exchange: str, symbol: str, shards: int) -> int:
    """The shard (0..shards-1) of a symbol; stable over processes and restarts."""
    return zlib.crc32(f"{exchange}:{symbol}".encode()) % shards
