"""The best bid and ask of 500 instruments over seven exchanges, beside DuckDB that finds them in the same quotes."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.aggregation.arbitrage import Arbitrage, Rules
from actors.aggregation.consolidated import Consolidated, Reception
from actors.feeds.instruments import instrument_table
from benchmarks.peers import DUCKDB, Peer, duckdb
from benchmarks.table import Bound, Row
from storage.schema import QUOTES

EXCHANGES: Final = ("binance", "bitfinex", "bybit", "coinbase", "deribit", "kraken", "okx")
SYMBOLS: Final = tuple(f"S{number}" for number in range(500))
#: Quotes of all exchanges together, and the bound on ours: many, and one of each symbol.
QUOTES_MADE: Final = {1_000_000: Bound(ratio_at_least=3.0), len(EXCHANGES) * len(SYMBOLS): Bound(ratio_at_least=1.0)}
ROUNDS: Final = 9
START_NS: Final = 1_767_268_800_000_000_000
SPAN_NS: Final = 1_000_000_000


def rows() -> list[Row]:
    """Quotes in a second; raises `UnavailableError` without the peer."""
    with tempfile.TemporaryDirectory() as folder:
        made = {count: _made(count) for count in QUOTES_MADE}
        paths = {str(count): str(Path(folder) / f"{count}.arrow") for count in QUOTES_MADE}
        for count, batches in made.items():
            table = pa.concat_tables(
                pa.Table.from_batches([batch]).append_column("exchange", [[exchange] * batch.num_rows])
                for exchange, batch in batches.items()
            )
            with pa.ipc.new_file(paths[str(count)], table.schema) as file:
                file.write_table(table)
        with duckdb(paths, "duckdb_best_peer.py") as peer:
            return [_row(batches, count, QUOTES_MADE[count], peer) for count, batches in made.items()]


def _made(count: int) -> dict[str, pa.RecordBatch]:
    """By exchange, quotes of all symbols in the order of their times, as `storage.schema.QUOTES`."""
    random = np.random.default_rng(7)
    times = np.sort(random.choice(SPAN_NS, count, replace=False))
    batches = {}
    for number, exchange in enumerate(EXCHANGES):
        ts = START_NS + times[number :: len(EXCHANGES)]
        codes = np.concatenate([np.arange(len(SYMBOLS)), random.integers(0, len(SYMBOLS), len(ts) - len(SYMBOLS))])
        bid = np.round(100 + random.normal(0, 0.05, len(ts)), 3)
        columns: dict[str, Any] = {
            "symbol": pa.DictionaryArray.from_arrays(codes.astype(np.int32), list(SYMBOLS)),
            "ts_event": ts,
            "ts_recv": ts,
            "sequence": np.arange(len(ts)),
            "bid_price": bid,
            "bid_size": np.ones(len(ts)),
            "ask_price": bid + 0.01,
            "ask_size": np.ones(len(ts)),
        }
        arrays = [
            pa.array(columns[field.name]) if field.name in columns else pa.nulls(len(ts), field.type)
            for field in QUOTES
        ]
        batches[exchange] = pa.RecordBatch.from_arrays(arrays, schema=QUOTES)
    return batches


def _row(batches: dict[str, pa.RecordBatch], count: int, bound: Bound, peer: Peer) -> Row:
    book = Consolidated(SPAN_NS, SPAN_NS)
    watch = Arbitrage(Rules({exchange: {"spot": 0.001} for exchange in EXCHANGES}, 0.005, 10.0, {}), 1000)
    listed = [
        {"symbol": symbol, "instrument": f"{symbol}-USD", "kind": "spot", "base": symbol, "quote": "USD"}
        for symbol in SYMBOLS
    ]
    for exchange in EXCHANGES:
        book.received(exchange, [Reception("streaming", START_NS, dict.fromkeys(SYMBOLS, START_NS))])
        book.list_is(exchange, instrument_table(listed))
    ours, theirs, watched = [], [], []
    for turn in range(ROUNDS + 1):
        later = {exchange: _later(batch, turn * SPAN_NS) for exchange, batch in batches.items()}
        now_ns = START_NS + (turn + 1) * SPAN_NS
        for exchange in EXCHANGES:
            book.received(exchange, [Reception("streaming", now_ns, dict.fromkeys(SYMBOLS, START_NS))])
        began = time.perf_counter()
        for exchange, batch in later.items():
            book.take(exchange, batch)
        view = book.look(now_ns)
        seconds = time.perf_counter() - began
        watch.follow(book, view)
        followed = time.perf_counter() - began - seconds
        best = book.best(view)
        answer = peer.ask({"name": str(count)})
        assert (answer["instruments"], best.num_rows) == (len(SYMBOLS), len(SYMBOLS))
        for side in ("bid", "ask"):
            assert abs(answer[side] - np.sum(best.column(f"{side}_price").to_numpy())) < 1e-6, side
        if turn:  # the first compiles and makes the memory
            ours.append(count / seconds)
            theirs.append(count / answer["seconds"])
            watched.append(followed)
    return Row(
        f"best quotes: {count:,} quotes of 500 symbols of 7 exchanges",
        median(ours),
        "quotes/s",
        median(theirs),
        f"{DUCKDB}, 2 threads",
        bound,
        f"one core; arbitrage of all pairs {median(watched) * 1e6:.0f} us",
    )


def _later(quotes: pa.RecordBatch, nanoseconds: int) -> pa.RecordBatch:
    for name in ("ts_event", "ts_recv"):
        place = QUOTES.get_field_index(name)
        times = pa.array(np.asarray(quotes.column(place)) + nanoseconds)
        quotes = quotes.set_column(place, QUOTES.field(place), times)
    return quotes
