"""The symbols that a shard has, with all that is known of them: their claims, files, ledger, bars and quality. They are
read back from the files when they come, and let go of with everything open when they go; what a shard does with rows of
them is not decided here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from actors.archived_days import ArchivedDays
from actors.handover import Bundle, NotMine, Ownership, fetched
from actors.ledger.keeper import Keeper
from actors.placement import Placement, Series
from actors.stored_bars import StoredBars
from actors.stored_quality import StoredQuality
from config import Settings
from storage.claim import PATIENCE_S, SymbolClaims
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.symbol_files import Arrivals


class Holdings:
    """Of shard `index`, which calls itself `name`, with the symbols that the placement gives it that `placed` gives;
    without that, as one of `settings.shards` that are all there are. `settings` are those of this node, `now_ns` the
    time the ledger goes by. `gone` is told what was let go of."""

    def __init__(
        self,
        index: int,
        name: str,
        settings: Settings,
        archived: ArchivedDays,
        placed: Callable[[], Placement] | None,
        now_ns: Callable[[], int],
        gone: Callable[[Sequence[Series]], None],
    ) -> None:
        self._index = index
        self._gone = gone
        placed = placed or partial(Placement.first, settings.shards)
        self._own = Ownership(index, placed, SymbolClaims(settings.data / "claims"))
        self.writer = ColumnWriter(settings.columns, settings.shard.max_open_files, archived.bring_back)
        # Asked rarely, and for what was written a moment ago.
        self.reader = ColumnReader(settings.columns, rescan_s=0)
        self._arrivals = Arrivals(settings.data)
        for exchange, symbol in self._arrivals.symbols():
            if self.is_mine(exchange, symbol):
                self._own.claim(exchange, symbol, PATIENCE_S)
                self._arrivals.take_in(exchange, symbol, self.writer)
        mine = self.stored()
        for exchange, symbol in mine:
            self._own.claim(exchange, symbol, PATIENCE_S)
            self.writer.recover(exchange, symbol)
        self.keeper = Keeper(settings.data / "ledger", name, self.reader, settings.columns, self.is_mine, now_ns)
        self.bars = StoredBars(settings, self.reader, mine)
        self.quality = StoredQuality(settings, name, self.is_mine)

    def is_mine(self, exchange: str, symbol: str) -> bool:
        """Whether the symbol is, by the placement that is known here; it need not have been seen yet."""
        return self._own.is_mine(exchange, symbol)

    def stored(self) -> list[Series]:
        """The symbols that have files."""
        found = self.reader.symbols().items()
        return [(exchange, symbol) for exchange, names in found for symbol in names if self.is_mine(exchange, symbol)]

    def check(self, exchange: str, batches: Mapping[str, pa.RecordBatch], version: int) -> None:
        """Have the symbols of these rows, whose sender goes by the placement of this version. `NotMine` when another
        shard has one of them."""
        if version > self._own.placement.version:
            self.learn()
        if not (unknown := self._own.unknown(exchange, batches)):
            return
        if not all(self.is_mine(exchange, symbol) for symbol in unknown):
            self.learn()
        for symbol in unknown:
            if not self.is_mine(exchange, symbol):
                by = f"placement {self._own.placement.version}, the sender goes by {version}"
                raise NotMine(f"{exchange} {symbol} is not for shard {self._index} ({by})")
        for symbol in unknown:
            self._own.claim(exchange, symbol, patience_s=0)
        self._recover([(exchange, symbol) for symbol in unknown])

    def learn(self, placement: Placement | None = None) -> None:
        """Go by this placement, or the newest; let go of what others have, while nobody said so here."""
        lost = self._own.learn(placement)
        self._own.release(lost)
        for exchange, symbol in lost:
            self.keeper.forget(exchange, symbol)
        self._let_go(lost)

    def release(self, symbols: Sequence[Series]) -> None:
        """They are not mine any more; nothing of them is let go of until they are `handed_over`."""
        self._own.release(symbols)

    def handed_over(self, symbols: Sequence[Series]) -> Bundle:
        """What is known of released symbols, which are let go of: everything of them is in the files. OSError."""
        records = self.keeper.release(symbols)
        quality = {one: self.quality.handed(*one) for one in symbols}
        self._let_go(symbols)
        return Bundle(list(symbols), records, quality)

    async def fetch(self, symbols: Sequence[Series], node: Any, last: bool) -> int:
        """See `SymbolShard.fetch`."""
        took = 0
        for one in symbols:
            took += await fetched(node, self._arrivals, one, last)
        return took

    def adopt(self, bundle: Bundle, placement: Placement) -> None:
        """See `SymbolShard.adopt`."""
        self.learn(placement)
        self._own.take(bundle.symbols, placement)
        for exchange, symbol in bundle.symbols:
            self._arrivals.take_in(exchange, symbol, self.writer)
        self._recover(bundle.symbols)
        for (exchange, symbol), handed in bundle.quality.items():
            self.quality.adopt(exchange, symbol, handed)

    def forget(self, symbols: Sequence[Series], placement: Placement) -> None:
        """See `SymbolShard.forget`."""
        self.learn(placement)
        for exchange, symbol in symbols:
            if not self.is_mine(exchange, symbol):
                self.keeper.forget(exchange, symbol)
                self.quality.forget(exchange, symbol)

    def close(self) -> None:
        """Let others claim everything."""
        self._own.close()

    def _recover(self, symbols: Sequence[Series]) -> None:
        """Have symbols from their files that are new here."""
        stored = self.reader.symbols()
        known = self.bars.symbols
        mine = [
            (exchange, symbol)
            for exchange, symbol in symbols
            if symbol in stored.get(exchange, ()) and symbol not in known.get(exchange, ())
        ]
        for exchange, symbol in mine:
            self.writer.recover(exchange, symbol)
        for exchange, symbol in symbols:
            self.keeper.adopt(exchange, symbol)
        self.bars.adopt(mine)

    def _let_go(self, symbols: Sequence[Series]) -> None:
        for exchange, symbol in symbols:
            self.bars.forget(exchange, symbol)
            self.writer.leave(exchange, symbol)
        self._gone(symbols)
        self._own.left(symbols)
