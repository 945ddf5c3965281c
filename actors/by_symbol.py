"""Batches of rows of many symbols, put in order so that each symbol's rows can be written at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.ledger.keeper import Trades
from actors.ledger.series import runs
from storage.column_layout import Column, to_columns
from storage.schema import RowType, symbols_of


@dataclass(frozen=True, slots=True)
class BySymbol:
    """Rows with those of each symbol together, in the order they came: the name of each symbol and where its rows
    end."""

    rows: pa.RecordBatch
    names: list[str]
    ends: list[int]

    def written(self, row_type: RowType) -> Iterator[tuple[str, pa.RecordBatch, dict[str, Column]]]:
        """Symbol, its rows, and these as they are in its files."""
        # Once for all symbols: to read a batch costs as much for a few rows as for many.
        columns = to_columns(row_type, self.rows)
        for name, (begin, end) in zip(self.names, pairwise([0, *self.ends]), strict=True):
            own = {column: values[begin:end] for column, values in columns.items()}
            yield name, self.rows.slice(begin, end - begin), own

    def trades(self) -> Iterator[tuple[str, Trades, dict[str, Column]]]:
        """The same of trades."""
        ids, ts = (self.rows.column(name).to_numpy() for name in ("trade_id", "ts_event"))
        found = zip(self.written("TRADES"), pairwise([0, *self.ends]), runs(ids, ts, self.ends), strict=True)
        for (name, rows, own), (begin, end), run in found:
            yield name, Trades(rows, ids[begin:end], ts[begin:end], run), own


def by_symbol(batches: Iterable[pa.RecordBatch | None]) -> BySymbol | None:
    """None where there are no rows."""
    given = [batch for batch in batches if batch is not None and batch.num_rows]
    if not given:
        return None
    table = pa.Table.from_batches(given).unify_dictionaries()
    names, codes = symbols_of(table)
    order: Any = np.argsort(codes, kind="stable")
    rows = table.take(pa.array(order)).combine_chunks().to_batches()[0]
    codes = codes[order]
    ends = [*(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
    return BySymbol(rows, [names[codes[end - 1]] for end in ends], ends)
