"""What was received played into a shard, cut and ordered in different ways, and all that the shard then says."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.feeds.feed import Feed
from storage.timeframes import TIMEFRAMES
from tests.actors.shards import Shard

DAY = 86_400_000_000_000
#: Into how many batches the frames are cut, whether these come in the order they were made, and whether each is stored
#: before the next one comes, as in a replay at the recorded speed.
Way = tuple[int, bool, bool]
WAYS: tuple[Way, ...] = ((1, True, False), (30, True, True), (10, False, True), (15, False, False))

Said = dict[tuple[str, str, str], list[pa.RecordBatch]]


async def play(
    shard: Shard, exchange: str, feed: Feed, frames: Sequence[bytes], ts_recv: Any, way: Way, seed: int = 1
) -> None:
    """Decode and store everything; bars are closed on the way by the recorded clock, at the end all are."""
    pieces, in_order, one_by_one = way
    source, batches = random.Random(seed), list[tuple[dict[str, pa.RecordBatch], int]]()
    cuts = sorted(source.sample(range(1, len(frames)), min(pieces, len(frames)) - 1))
    for begin, end in pairwise([0, *cuts, len(frames)]):
        decoded = feed.decode(frames[begin:end], ts_recv[begin:end])
        batches.append(({"trades": decoded.trades, "quotes": decoded.quotes}, int(ts_recv[end - 1])))
    if not in_order:
        source.shuffle(batches)
    for kinds, clock_ns in batches:
        await shard.send(exchange, kinds, clock_ns, proof="none")
        if one_by_one:
            await shard._close_bars()
            await shard._share_new()
    await shard.send(exchange, {}, int(np.max(ts_recv)) + 2 * DAY)
    await shard._close_bars()


async def said(shard: Shard, exchange: str, symbols: Sequence[str], ts_recv: Any) -> Said:
    """Bars (`revision` aside), indicators and features of all timeframes."""
    from_ns, before_ns = int(np.min(ts_recv)) // DAY * DAY, int(np.max(ts_recv)) + 1
    found: Said = {}
    for symbol in symbols:
        for timeframe, span in TIMEFRAMES.items():
            one = (exchange, symbol, timeframe)
            since = max(from_ns, before_ns - 90_000 * span)
            kinds = [
                await shard.bars(*one, 500),
                await shard.indicators(*one, 500),
                await shard.features_between(*one, since, before_ns),
            ]
            # Which symbols share a dictionary depends on which came first.
            found[one] = [kind.drop_columns(["symbol", *{"revision"} & {*kind.schema.names}]) for kind in kinds]
    return found
