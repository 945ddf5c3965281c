"""Bars of all timeframes from trades of many symbols, beside DuckDB that makes those of one minute alone."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.aggregation.bars import Bars
from benchmarks.peers import DUCKDB, Peer, duckdb
from benchmarks.table import Bound, Row
from storage.schema import ORDER_ID, TRADES
from storage.timeframes import TIMEFRAMES

TRADES_MADE: Final = 10_000_000
SYMBOLS: Final = 100
#: How long all of them take, and the bound on ours: the longer, the more bars, and the less there is to one.
SPANS_S: Final = {600: Bound(at_least=100e6, ratio_at_least=1.2), 3600: Bound()}
ROUNDS: Final = 7
#: So few that there are no indicators.
KEPT: Final = 200
START_NS: Final = 1_767_268_800_000_000_000


def rows() -> list[Row]:
    """Trades in a second; raises `UnavailableError` without the peer."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {str(span_s): Path(folder) / f"{span_s}.arrow" for span_s in SPANS_S}
        batches = {span_s: made(span_s) for span_s in SPANS_S}
        for span_s, batch in batches.items():
            with pa.ipc.new_file(str(paths[str(span_s)]), batch.schema) as file:
                file.write_batch(batch)
        with duckdb({name: str(path) for name, path in paths.items()}) as peer:
            return [_row(batches[span_s], span_s, bound, peer) for span_s, bound in SPANS_S.items()]


def made(span_s: int) -> pa.RecordBatch:
    """Trades of all symbols in the order of their times, as `storage.schema.TRADES`."""
    random = np.random.default_rng(7)
    times = START_NS + np.sort(random.integers(0, span_s * 1_000_000_000, TRADES_MADE))
    columns: dict[str, Any] = {
        "symbol": pa.DictionaryArray.from_arrays(
            random.integers(0, SYMBOLS, TRADES_MADE).astype(np.int32), [f"S{number}" for number in range(SYMBOLS)]
        ),
        "ts_event": times,
        "ts_recv": times,
        "trade_id": np.arange(TRADES_MADE),
        "price": np.round(100 + np.cumsum(random.normal(0, 0.01, TRADES_MADE)), 2),
        "size": np.round(random.exponential(1, TRADES_MADE) + 1e-4, 4),
        "side": random.integers(0, 2, TRADES_MADE).astype(np.uint8),
        "maker_order_id": pa.nulls(TRADES_MADE, ORDER_ID),
        "taker_order_id": pa.nulls(TRADES_MADE, ORDER_ID),
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in TRADES.names], schema=TRADES)


def _row(trades: pa.RecordBatch, span_s: int, bound: Bound, peer: Peer) -> Row:
    bars = Bars(KEPT, 0)
    ours, theirs, first_seen = [], [], []
    for turn in range(ROUNDS + 1):
        batch = _later(trades, turn * span_s)
        began = time.perf_counter()
        lost = bars.update(batch)
        seconds = time.perf_counter() - began
        assert not lost
        bars.close(np.iinfo(np.int64).max)
        told = bars.changed()
        minutes = told.filter(pa.array(np.asarray(told.column("timeframe")) == "1m"))
        assert np.sum(minutes.column("trade_count").to_numpy()) == TRADES_MADE
        answers = [peer.ask({"name": str(span_s), "first_seen": seen}) for seen in (False, True)]
        assert all((one["bars"], one["trades"]) == (minutes.num_rows, TRADES_MADE) for one in answers)
        if turn:  # the first makes the memory
            ours.append(TRADES_MADE / seconds)
            theirs.append(TRADES_MADE / answers[0]["seconds"])
            first_seen.append(TRADES_MADE / answers[1]["seconds"])
    return Row(
        f"bars: {len(TIMEFRAMES)} timeframes, 10 M trades of 100 symbols in {span_s // 60} minutes",
        median(ours),
        "trades/s",
        median(theirs),
        f"{DUCKDB}, 1m alone, 2 threads",
        bound,
        f"one core, exact sums; DuckDB with first() and last() in any order: {median(first_seen) / 1e6:.0f} M",
    )


def _later(trades: pa.RecordBatch, seconds: int) -> pa.RecordBatch:
    times = pa.array(np.asarray(trades.column("ts_event")) + seconds * 1_000_000_000)
    return trades.set_column(1, TRADES.field("ts_event"), times)
