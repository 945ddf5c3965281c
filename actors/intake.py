"""What becomes of rows that a shard is given: new ones go into the files, the ledger says which those are, bars and
quality are made of them, and they are told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from actors.by_symbol import BySymbol, by_symbol
from actors.holdings import Holdings
from actors.ledger.account import Kind
from actors.ledger.keeper import Delivered
from actors.stored_bars import whole
from actors.telling import Telling
from storage.column_layout import Column, to_columns

#: Kinds of trades, in the order they are stored: what fills a hole comes after what shows it.
_TRADES: tuple[Kind, ...] = ("trades", "history", "backfill")
#: Kinds that go to the sinks as they come.
_PASSED_ON = ("derivatives", "liquidations")


class Intake:
    """Of the symbols that are `held`. `counts` counts rows by kind (TRADES, MD, derivatives, liquidations) and the
    duplicates among them."""

    def __init__(self, held: Holdings, telling: Telling, counts: "Counter[str]") -> None:
        self._writer, self._bars, self._keeper, self._quality = held.writer, held.bars, held.keeper, held.quality
        self._telling = telling
        self._counts = counts

    def store(self, exchange: str, delivered: Sequence[Delivered], now_ns: int) -> None:
        """Append everything that came together, one append per symbol and kind. OSError when the disk takes no more:
        the files are whole, and rows that did get into one count as known when they come again."""
        for past in (False, True):
            if mine := [one for one in delivered if ("backfill" in one[1]) == past]:
                self._store(exchange, mine, now_ns)

    def pass_on(self, exchange: str, batches: Mapping[str, pa.RecordBatch]) -> None:
        """Tell what has no files, once what came with it is stored."""
        for kind in batches.keys() & _PASSED_ON:
            self._telling.add(kind, exchange, batches[kind])
            self._counts[kind] += batches[kind].num_rows

    def _store(self, exchange: str, mine: Sequence[Delivered], now_ns: int) -> None:
        proof = mine[-1][0].proof
        self._keeper.begin(exchange, mine, now_ns)
        for kind in _TRADES:
            if (found := by_symbol(batches.get(kind) for _, batches in mine)) is None:
                continue
            stored: list[pa.RecordBatch] = []
            unjudged: list[pa.RecordBatch] = []
            try:
                for symbol, trades, columns in found.trades():
                    write = partial(self._write, exchange, symbol, trades.rows, columns)
                    new = self._keeper.store(exchange, symbol, proof, kind, trades, now_ns, write)
                    if kind == "trades":
                        known = trades.rows.num_rows - new.num_rows
                        self._counts["duplicates"] += known
                        unjudged.append(self._quality.unjudged(exchange, symbol, trades.rows, new) if known else new)
                    if new.num_rows:
                        self._counts["TRADES"] += new.num_rows
                        self._telling.add("trades", exchange, new)
                        stored.append(new)
            finally:
                # Also when the disk was full on the way: what is in the files counts as known when it comes again.
                self._take_stored(exchange, found.rows, stored, unjudged)
        if (quotes := by_symbol(batches.get("quotes") for _, batches in mine)) is not None:
            self._store_quotes(exchange, quotes)
        self._keeper.finish()

    def _store_quotes(self, exchange: str, quotes: BySymbol) -> None:
        for symbol, rows, columns in quotes.written("MD"):
            is_new = self._writer.append(exchange, symbol, "MD", columns)
            kept = rows if is_new.all() else rows.filter(pa.array(is_new))
            self._counts["MD"] += kept.num_rows
            self._counts["duplicates"] += rows.num_rows - kept.num_rows
            if kept.num_rows:
                self._telling.add("quotes", exchange, kept)

    def _take_stored(
        self, exchange: str, given: pa.RecordBatch, stored: list[pa.RecordBatch], unjudged: list[pa.RecordBatch]
    ) -> None:
        """Let bars have what was stored of the given trades, and judge them."""
        # Nearly always all of them are new, and need not be put together again.
        everything = sum(new.num_rows for new in stored) == given.num_rows
        if stored:
            told = given if everything else whole(pa.Table.from_batches(stored))
            for revised in self._bars.update(exchange, told):
                self._telling.add("bars", exchange, revised)
        if unjudged:
            self._quality.judge(exchange, given if everything else whole(pa.Table.from_batches(unjudged)))

    def _write(
        self, exchange: str, symbol: str, every: pa.RecordBatch, columns: Mapping[str, Column], rows: pa.RecordBatch
    ) -> Any:
        """Store trades of a symbol: all of those that came, which these are the columns of, or some."""
        own = columns if rows is every else to_columns("TRADES", rows)
        return self._writer.append(exchange, symbol, "TRADES", own)
