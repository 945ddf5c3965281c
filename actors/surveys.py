"""What all collectors and shards say together: how far each symbol can be trusted, gaps, quality."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import ray

from actors.integrity import combined
from actors.placement import Placement

ANSWER_TIMEOUT_S: Final = 5.0


async def answer_or_none(answer: Any) -> Any:
    """What an actor answers; None when it does not."""
    try:
        return await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
    except (TimeoutError, ray.exceptions.RayError):
        return None


async def integrity(
    collectors: Mapping[str, Any],
    shards: Mapping[int, Any],
    placement: Placement,
    symbols: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """How far the data of every collected symbol can be trusted; see `actors.integrity.combined`. `collectors` and what
    they should collect by exchange: the latter is said of where a collector does not answer. `shards` by number."""
    collected, stored = await asyncio.gather(
        asyncio.gather(*(answer_or_none(collector.symbols.remote()) for collector in collectors.values())),
        asyncio.gather(*(answer_or_none(shard.integrity.remote(None)) for shard in shards.values())),
    )
    silent = {number for number, own in zip(shards, stored, strict=True) if own is None}
    kept = {(row["exchange"], row["symbol"]): row for own in stored for row in own or ()}
    rows = []
    for exchange, own in zip(collectors, collected, strict=True):
        by_symbol = {row["symbol"]: row for row in own or ()}
        for symbol in symbols[exchange] if own is None else by_symbol:
            shard = placement.shard_of(exchange, symbol)
            is_silent = shard in silent or shard not in shards
            trades = "its shard does not answer" if is_silent else kept.get((exchange, symbol))
            row = combined(exchange, symbol, by_symbol.get(symbol, "its collector does not answer"), trades)
            rows.append(row)
    return rows


async def gaps(
    shards: Iterable[Any], exchange: str | None, symbol: str | None, open_only: bool
) -> list[dict[str, Any]]:
    """The gaps of all symbols, or of these, as `storage.schema.GAPS` with `exchange`, by when they were opened. Raises
    what Ray raises when a shard does not answer: a list that leaves some out would say they are whole."""
    answers = await asyncio.gather(
        *(asyncio.wait_for(shard.gaps.remote(exchange, open_only), ANSWER_TIMEOUT_S) for shard in shards)
    )
    rows = [asdict(gap) for answer in answers for gap in answer if symbol in (None, gap.symbol)]
    return sorted(rows, key=lambda row: (row["opened"], row["exchange"], row["symbol"], row["gap_id"]))


async def quality(shards: Iterable[Any], exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
    """A row per symbol that has traded, by exchange and symbol; see `SymbolShard.quality`. Raises what Ray raises when
    a shard does not answer."""
    answers = await asyncio.gather(
        *(asyncio.wait_for(shard.quality.remote(exchange, symbol, hours), ANSWER_TIMEOUT_S) for shard in shards)
    )
    rows = [row for answer in answers for row in answer]
    return sorted(rows, key=lambda row: (row["exchange"], row["symbol"]))
