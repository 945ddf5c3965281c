"""Rows into the embedded ClickHouse: through the Database actor, with its spool on the disk, and beside it.

The peer is the engine's own INSERT of the same rows from the same Arrow buffers, into a table without codecs, views and
versions. All take turns in one process; the numbers are rows in a second of the clock, until the engine has them.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.database import Database
from actors.parcels import Parcel, packed
from benchmarks.table import Bound, Row
from config import load
from storage.clickhouse import ClickHouse
from storage.clickhouse_tables import TABLES
from storage.schema import BARS, QUOTES, SYMBOL, TRADES

ROUNDS: Final = 3
SYMBOLS: Final = 100
#: Rows of a parcel, and parcels of a round.
ROWS: Final = 50_000
PARCELS: Final = 20
BEGIN: Final = 1_800_000_000_000_000_000
MINUTE: Final = 60_000_000_000
BARS_PER_S: Final = 1_000_000
PEER: Final = "INSERT ... SELECT FROM Python(rows), chDB"


def rows() -> list[Row]:
    """Of bars, trades and quotes."""
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-", dir=Path.home()) as folder:
        found = asyncio.run(_measured(Path(folder)))
    note = f"{PARCELS} parcels of {ROWS:,}, {SYMBOLS} symbols"
    measured = []
    for table, (whole, beside, plain) in found.items():
        bound = Bound(at_least=BARS_PER_S) if table == "bars" else Bound()
        name = f"clickhouse: {table}"
        measured += [
            Row(f"{name} through the actor, spooled", whole, "rows/s", plain, PEER, bound, note),
            Row(f"{name} inserted, no spool", beside, "rows/s", plain, PEER, note="the tables as they are"),
        ]
    return measured


async def _measured(folder: Path) -> dict[str, tuple[float, float, float]]:
    """Rows a second by table: through the actor, of its engine alone, and the peer's; medians."""
    settings = load(folder, {"sinks": {"quotes": True, "max_pending": 2 * PARCELS}})
    settings = settings.model_copy(update={"clickhouse_url": None, "retention": dict.fromkeys(settings.retention)})
    database = Database(settings)
    found = {}
    try:
        await database.query("SELECT 1 AS one")
        engine: ClickHouse = database._database
        for table, made in (("bars", _bars), ("trades", _trades), ("quotes", _quotes)):
            found[table] = await _of_table(database, engine, table, made)
    finally:
        await database.stop()
    return found


async def _of_table(
    database: Database, engine: ClickHouse, table: str, made: Callable[[int], pa.Table]
) -> tuple[float, float, float]:
    columns = ", ".join(f"{name} {kind}" for name, kind in TABLES[table].columns.items())
    key = ", ".join(TABLES[table].key)
    engine.query(f"CREATE TABLE plain_{table} ({columns}) ENGINE = MergeTree ORDER BY ({key})")
    found: list[list[float]] = [[], [], []]
    for number in range(ROUNDS + 1):
        tables = [made(number * PARCELS + parcel) for parcel in range(PARCELS)]
        parcels = [packed({(table, "okx"): one}) for one in tables]
        # As many rows as the actor puts into one insert.
        whole = [_whole(table, tables[at : at + 10]) for at in range(0, PARCELS, 10)]
        speeds = [await _through(database, parcels)]
        for name in (table, f"plain_{table}"):
            # Nothing of what was written before is merged beside what is measured.
            engine.query(f"TRUNCATE TABLE {table}")
            speeds.append(await asyncio.to_thread(_inserted, engine, name, whole))
        if number:  # the first one warms up
            for speed, of in zip(speeds, found, strict=True):
                of.append(speed)
        for name in (table, f"plain_{table}"):
            engine.query(f"TRUNCATE TABLE {name}")
    engine.query(f"DROP TABLE plain_{table}")
    return median(found[0]), median(found[1]), median(found[2])


async def _through(database: Database, parcels: list[Parcel]) -> float:
    before, begin = (await database.status())["rows_written"], time.perf_counter()
    for parcel in parcels:
        await database.take(parcel)
    if not await database.flush(120):
        raise RuntimeError("the database did not take everything in time")
    seconds, said = time.perf_counter() - begin, await database.status()
    if said["rows_written"] - before != PARCELS * ROWS or said["tables_dropped"]:
        raise RuntimeError(f"rows were lost: {said}")
    return PARCELS * ROWS / seconds


def _inserted(engine: ClickHouse, table: str, tables: list[pa.Table]) -> float:
    begin = time.perf_counter()
    for one in tables:
        engine.insert(table, one)
    return PARCELS * ROWS / (time.perf_counter() - begin)


def _whole(table: str, tables: list[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(tables).unify_dictionaries()
    names = [name for name in rows.column_names if name in TABLES[table].columns]
    exchange = pa.DictionaryArray.from_arrays(np.zeros(rows.num_rows, np.int32), pa.array(["okx"]))
    rows = rows.select(names).append_column("exchange", exchange)
    if TABLES[table].versioned:
        rows = rows.append_column("version", pa.array(np.arange(rows.num_rows, dtype=np.uint64)))
    return rows


def _table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Columns that are not given are null."""
    given = [columns.get(field.name) for field in schema]
    arrays = [pa.nulls(ROWS, field.type) if one is None else one for one, field in zip(given, schema, strict=True)]
    return pa.table([pa.array(one) if isinstance(one, np.ndarray) else one for one in arrays], schema.names).cast(
        schema
    )


def _names(codes: Any, names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names)).cast(SYMBOL)


def _symbols() -> pa.Array:
    return _names(np.arange(ROWS) % SYMBOLS, [f"SYMBOL{number}-USDT" for number in range(SYMBOLS)])


def _walk(random: np.random.Generator) -> Any:
    return np.round(60_000 + np.cumsum(random.normal(size=ROWS)), 2)


def _bars(parcel: int) -> pa.Table:
    random = np.random.default_rng(parcel)
    close, volume = _walk(random), np.round(random.exponential(size=ROWS), 4)
    return _table(
        BARS,
        {
            "symbol": _symbols(),
            "timeframe": _names(np.zeros(ROWS), ["1m"]),
            "time": BEGIN + (parcel * ROWS + np.arange(ROWS)) // SYMBOLS * MINUTE,
            "open": close - 0.5,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": volume,
            "quote_volume": volume * close,
            "trade_count": random.integers(1, 1000, ROWS),
            "buy_volume": volume / 2,
            "vwap": close,
            "revision": np.zeros(ROWS, np.int32),
            "closed": pa.array(np.ones(ROWS, bool)),
        },
    )


def _trades(parcel: int) -> pa.Table:
    random = np.random.default_rng(parcel)
    number = parcel * ROWS + np.arange(ROWS)
    return _table(
        TRADES,
        {
            "symbol": _symbols(),
            "ts_event": BEGIN + number * 1_000_000,
            "ts_recv": BEGIN + number * 1_000_000 + random.integers(1_000_000, 50_000_000, ROWS),
            "trade_id": number // SYMBOLS,
            "price": _walk(random),
            "size": np.round(random.exponential(size=ROWS), 4),
            "side": random.integers(0, 2, ROWS).astype(np.uint8),
        },
    )


def _quotes(parcel: int) -> pa.Table:
    random = np.random.default_rng(parcel)
    number, bid = parcel * ROWS + np.arange(ROWS), _walk(random)
    return _table(
        QUOTES,
        {
            "symbol": _symbols(),
            "ts_event": BEGIN + number * 1_000_000,
            "ts_recv": BEGIN + number * 1_000_000 + random.integers(1_000_000, 50_000_000, ROWS),
            "sequence": number // SYMBOLS,
            "bid_price": bid,
            "bid_size": np.round(random.exponential(size=ROWS), 4),
            "ask_price": bid + 0.1,
            "ask_size": np.round(random.exponential(size=ROWS), 4),
        },
    )
