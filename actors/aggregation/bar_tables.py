"""Bars as the kernels keep them (BAR), as tables for everybody else, and as they are kept for the next start."""

from typing import Any

import numpy as np
import pyarrow as pa

from actors.aggregation.bar_kernels import BAR, Array, read_sums
from actors.aggregation.exact_sums import WORDS
from actors.aggregation.indicators import STATE
from storage.bar_history import HISTORY
from storage.schema import BARS
from storage.timeframes import NAMES


def to_bars(rows: Array, timeframes: Any, codes: Array, symbols: list[str]) -> pa.RecordBatch:
    """`storage.schema.BARS`; of each row its timeframe (an Arrow array) and the place of its symbol."""
    volume, quote_volume, buy_volume = read_sums(np.ascontiguousarray(rows).view(np.uint64))
    numbers: Any = pa.array(codes.astype(np.int32))
    columns: dict[str, Any] = {
        "symbol": pa.DictionaryArray.from_arrays(numbers, pa.array(symbols, pa.string())),
        "timeframe": timeframes,
        "volume": pa.array(volume),
        "quote_volume": pa.array(quote_volume),
        "buy_volume": pa.array(buy_volume),
        "vwap": pa.array(quote_volume / np.where(volume > 0, volume, 1.0), mask=volume <= 0),
    }
    columns |= {name: pa.array(np.ascontiguousarray(rows[name])) for name in BARS.names if name not in columns}
    return pa.RecordBatch.from_arrays([columns[name] for name in BARS.names], schema=BARS)


def to_history(rows: Array, levels: Array, states: Array) -> pa.RecordBatch:
    """`storage.bar_history.HISTORY`."""
    columns: list[Any] = [timeframes_of(levels)]
    for name in HISTORY.names[1:-1]:
        values = np.ascontiguousarray(rows[name])
        if values.ndim > 1:
            kind = HISTORY.field(name).type
            columns.append(pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, pa.py_buffer(values)]))
        else:
            columns.append(pa.array(values))
    kind, remembered = HISTORY.field("state").type, np.ascontiguousarray(states)
    columns.append(
        pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, pa.py_buffer(remembered.view(np.uint8))])
    )
    return pa.RecordBatch.from_arrays(columns, schema=HISTORY)


def from_history(history: pa.RecordBatch) -> tuple[Array, Array, Array]:
    """The rows (BAR), closed and told; of each the place of its timeframe, and its STATE."""
    rows = np.zeros(history.num_rows, BAR)
    for name in HISTORY.names[1:-1]:
        column: Any = history.column(name)
        if rows[name].ndim > 1:
            words = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, WORDS)
            rows[name] = words[column.offset : column.offset + len(rows)]
        else:
            rows[name] = np.asarray(column)
    rows["closed"] = True
    levels = np.array([NAMES.index(name) for name in history.column("timeframe").to_pylist()], np.int64)
    column = history.column("state")
    states = np.frombuffer(column.buffers()[1], STATE)[column.offset : column.offset + len(rows)]
    return rows, levels, states


def timeframes_of(levels: Array) -> Any:
    """The names of these places, as an Arrow array."""
    places: Any = pa.array(levels)
    return pa.array(NAMES, pa.string()).take(places)
