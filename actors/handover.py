"""How symbols pass from one shard to another: what is known of them besides their files, and who may have which."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from actors.placement import Placement, Series
from actors.stored_quality import Handed
from storage.claim import FolderInUse, Outdated, SymbolClaims
from storage.ledger_log import Checkpoint, Record
from storage.schema import symbols_of
from storage.symbol_files import PIECE, Arrivals


class NotMine(RuntimeError):
    """A shard was given rows of a symbol that another one has; one line that names both."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a shard knew of symbols when it let go of them."""

    symbols: list[Series]
    records: list[Record] = field(default_factory=list)
    quality: dict[Series, Handed] = field(default_factory=dict)


async def fetched(node: Any, arrivals: Arrivals, one: Series, last: bool) -> int:
    """Let the files of a symbol arrive from a `DataNode`; how many bytes that took. See `SymbolShard.fetch`."""
    took = 0
    arrivals.begin(*one)
    files = await node.files.remote(*one)
    for file, offset in await asyncio.to_thread(lambda: list(arrivals.wanted(*one, files))):
        try:
            while offset < file.size:
                piece = await node.read.remote(file.path, offset, min(PIECE, file.size - offset))
                await asyncio.to_thread(arrivals.put, *one, file, offset, piece)
                offset += len(piece[1])
                took += len(piece[1])
            await asyncio.to_thread(arrivals.finished, *one, file)
        except (OSError, EOFError):
            # It was replaced meanwhile; the next time all of it comes.
            if last:
                raise
    if last:
        await asyncio.to_thread(arrivals.complete, *one)
    return took


def merged(left: Sequence[Record], known: Sequence[Record]) -> list[Record]:
    """What is known of a symbol when rows that another disk had of it go in among those that are here. The longer
    promise counts, and all files are read to see how far it is kept."""
    checkpoints = [record for record in (*left, *known) if isinstance(record, Checkpoint)]
    others: list[Record] = [record for record in (*left, *known) if not isinstance(record, Checkpoint)]
    if not checkpoints:
        return others
    newest = max(checkpoints, key=lambda one: one.at_ns)
    begun = [one for one in checkpoints if one.first_id is not None and one.proof == newest.proof]
    oldest = min(begun, key=lambda one: one.first_id or 0, default=newest)
    whole = replace(
        oldest,
        at_ns=newest.at_ns + 1,
        changed_ns=0,
        last_gap_id=newest.last_gap_id,
        gaps_closed=sum(one.gaps_closed for one in checkpoints) if oldest is not newest else newest.gaps_closed,
    )
    return [*others, whole]


class Ownership:
    """Which symbols shard `index` has, by the newest placement that `placed` gives. It asks for that again when
    somebody knows a newer one, or sends it what is not its own."""

    def __init__(self, index: int, placed: Callable[[], Placement], claims: SymbolClaims) -> None:
        self._index = index
        self._placed = placed
        self._claims = claims
        self.placement = placed()
        #: Symbols that are claimed; and those that were let go of, whatever the placement says yet.
        self.claimed: dict[str, set[str]] = {}
        self._released: set[Series] = set()

    def is_mine(self, exchange: str, symbol: str) -> bool:
        """Whether it is, claimed or not."""
        return self.placement.shard_of(exchange, symbol) == self._index and (exchange, symbol) not in self._released

    def claim(self, exchange: str, symbol: str, patience_s: float) -> None:
        """`NotMine` when another process has it, or had it later."""
        try:
            self._claims.take(exchange, symbol, self.placement.version, patience_s)
        except (FolderInUse, Outdated) as error:
            raise NotMine(str(error)) from None
        self.claimed.setdefault(exchange, set()).add(symbol)

    def release(self, symbols: Iterable[Series]) -> None:
        """They are not mine any more, until `take`; others can claim them once they are `left`."""
        for exchange, symbol in symbols:
            self._released.add((exchange, symbol))
            self.claimed.get(exchange, set()).discard(symbol)

    def left(self, symbols: Iterable[Series]) -> None:
        """Nothing of them is open any more."""
        for one in symbols:
            self._claims.leave(*one)

    def take(self, symbols: Iterable[Series], placement: Placement) -> None:
        """They are mine, as this placement says, and were handed over by it. `NotMine`; OSError."""
        symbols = list(symbols)
        self.learn(placement)
        self._released.difference_update(symbols)
        for one in symbols:
            if not self.is_mine(*one):
                raise NotMine(f"{' '.join(one)} is not for shard {self._index} by placement {self.placement.version}")
            self.claim(*one, patience_s=0)
            self._claims.hand_over(*one, placement.version)

    def learn(self, placement: Placement | None = None) -> list[Series]:
        """Go by the newest placement; the symbols that were claimed and are not mine any more."""
        newest = placement or self._placed()
        if newest.version > self.placement.version:
            self.placement = newest
        self._released = {one for one in self._released if self.placement.shard_of(*one) == self._index}
        return [
            (exchange, symbol)
            for exchange, own in self.claimed.items()
            for symbol in own
            if self.placement.shard_of(exchange, symbol) != self._index
        ]

    def unknown(self, exchange: str, batches: Mapping[str, pa.RecordBatch]) -> list[str]:
        """The symbols of these rows that are not claimed."""
        claimed = self.claimed.get(exchange, set())
        found: dict[str, None] = {}
        for batch in batches.values():
            names, codes = symbols_of(batch)
            if claimed.issuperset(names):
                continue
            # Not every name need be of a symbol that has rows here.
            present: Sequence[int] = np.unique(codes).tolist()
            found.update(dict.fromkeys(names[code] for code in present if names[code] not in claimed))
        return list(found)

    def close(self) -> None:
        self._claims.close()
