"""Stored bars for charts from the cache: the older part of a chart, which is read from ClickHouse and is the same for
everybody who looks at that symbol.

Asked for in whole blocks of time, so that a chart that moves on by a bar finds the same answer again. The newest bars
come from the shards and are never from here; a bar that is revised so late that it is here is seen within the ten
seconds of `REAL_TIME`.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_apps.bodies import arrow_stream
from serve_apps.cache import REAL_TIME, Cache
from storage.schema import BARS
from storage.timeframes import TIMEFRAMES

#: Bars to a block.
BLOCK: Final = 500

#: (exchange, symbol, timeframe, limit, before_ns) -> bars, ascending.
Stored = Callable[[str, str, str, int, int | None], Awaitable[pa.Table]]


def cached_history(stored: Stored, cache: Cache) -> Stored:
    """As `stored`. Without `before_ns` nobody knows where the newest bars begin, and it is asked itself."""

    async def bars(exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int | None) -> pa.Table:
        if before_ns is None:
            return await stored(exchange, symbol, timeframe, limit, before_ns)
        span = BLOCK * TIMEFRAMES[timeframe]
        end = -(-before_ns // span) * span
        # So many more that enough are left when those from `before_ns` on are taken away.
        wanted = -(-(limit + BLOCK) // BLOCK) * BLOCK

        async def make() -> bytes | None:
            table = await stored(exchange, symbol, timeframe, wanted, end)
            return arrow_stream(table.combine_chunks().to_batches()[0]) if table.num_rows else None

        key = f"bars:{exchange}:{symbol}:{timeframe}:{end}:{wanted}"
        body = await cache.get(key, make, REAL_TIME)
        if body is None:
            return BARS.empty_table()
        table = pa.ipc.open_stream(body).read_all()
        older = table.filter(pc.field("time") < pc.scalar(before_ns))
        return older.slice(max(0, older.num_rows - limit))

    return bars
