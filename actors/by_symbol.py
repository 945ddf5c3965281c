"""Batches of rows of many symbols, put in order so that each symbol's rows can be written at once."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.ledger.keeper import Trades
from actors.ledger.series import runs
from storage.schema import symbols_of


def sorted_by_symbol(batches: Iterable[pa.RecordBatch | None]) -> tuple[pa.RecordBatch, list[str], list[int]] | None:
    """The rows of each symbol together, in the order they came, with the name of each symbol and where its rows end;
    None where there are none."""
    given = [batch for batch in batches if batch is not None and batch.num_rows]
    if not given:
        return None
    table = pa.Table.from_batches(given).unify_dictionaries()
    names, codes = symbols_of(table)
    order: Any = np.argsort(codes, kind="stable")
    rows = table.take(pa.array(order)).combine_chunks().to_batches()[0]
    codes = codes[order]
    ends = [*(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
    return rows, [names[codes[end - 1]] for end in ends], ends


def by_symbol(batches: Iterable[pa.RecordBatch | None]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each symbol, in the order they came."""
    if (found := sorted_by_symbol(batches)) is not None:
        rows, names, ends = found
        for name, (begin, end) in zip(names, pairwise([0, *ends]), strict=True):
            yield name, rows.slice(begin, end - begin)


def trades_by_symbol(rows: pa.RecordBatch, names: list[str], ends: list[int]) -> Iterator[tuple[str, Trades]]:
    """What `sorted_by_symbol` gave, symbol by symbol."""
    # Once for all symbols: to read a batch costs as much for a few rows as for many.
    ids, ts = (rows.column(name).to_numpy() for name in ("trade_id", "ts_event"))
    for name, (begin, end), run in zip(names, pairwise([0, *ends]), runs(ids, ts, ends), strict=True):
        yield name, Trades(rows.slice(begin, end - begin), ids[begin:end], ts[begin:end], run)
