"""Batches of events for tests, made from plain rows."""

from collections.abc import Sequence

import pyarrow as pa

from storage.schema import BREAKS, MERGED, QUOTES, TRADES

#: 2024-03-01 12:00:00 UTC in nanoseconds.
NOON = 1_709_294_400_000_000_000
SECOND = 1_000_000_000


def trades(rows: Sequence[tuple[str, int, int, float, float, int]]) -> pa.RecordBatch:
    """(symbol, ts_event, trade_id, price, size, side) as `storage.schema.TRADES`."""
    names = sorted({row[0] for row in rows})
    times = pa.array([row[1] for row in rows], pa.int64())
    return pa.RecordBatch.from_arrays(
        [
            _symbols([row[0] for row in rows], names),
            times,
            times,
            pa.array([row[2] for row in rows], pa.int64()),
            pa.array([row[3] for row in rows], pa.float64()),
            pa.array([row[4] for row in rows], pa.float64()),
            pa.array([row[5] for row in rows], pa.uint8()),
            pa.nulls(len(rows), pa.binary(16)),
            pa.nulls(len(rows), pa.binary(16)),
        ],
        schema=TRADES,
    )


def quotes(rows: Sequence[tuple[str, int, int, float, float]]) -> pa.RecordBatch:
    """(symbol, ts_event, sequence, bid_price, ask_price) as `storage.schema.QUOTES`."""
    names = sorted({row[0] for row in rows})
    times = pa.array([row[1] for row in rows], pa.int64())
    unknown = pa.nulls(len(rows), pa.float64())
    return pa.RecordBatch.from_arrays(
        [
            _symbols([row[0] for row in rows], names),
            times,
            times,
            pa.array([row[2] for row in rows], pa.int64()),
            pa.array([row[3] for row in rows], pa.float64()),
            unknown,
            pa.array([row[4] for row in rows], pa.float64()),
            unknown,
            unknown,
            unknown,
            pa.nulls(len(rows), pa.uint8()),
        ],
        schema=QUOTES,
    )


def _symbols(of_rows: list[str], names: list[str]) -> pa.Array:
    codes = pa.array([names.index(name) for name in of_rows], pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))


def merged(rows: Sequence[tuple[str, int, int]]) -> pa.RecordBatch:
    """(symbol, trade_id, fills) as `storage.schema.MERGED`."""
    names = sorted({row[0] for row in rows})
    columns = [pa.array([row[1] for row in rows], pa.int64()), pa.array([row[2] for row in rows], pa.int32())]
    return pa.RecordBatch.from_arrays([_symbols([row[0] for row in rows], names), *columns], schema=MERGED)


def breaks(rows: Sequence[tuple[str, int, int, str]]) -> pa.RecordBatch:
    """(symbol, from_ns, to_ns, reason) as `storage.schema.BREAKS`."""
    names = sorted({row[0] for row in rows})
    times = [pa.array([row[at] for row in rows], pa.int64()) for at in (1, 2)]
    reasons = pa.array([row[3] for row in rows], pa.string())
    return pa.RecordBatch.from_arrays([_symbols([row[0] for row in rows], names), *times, reasons], schema=BREAKS)
