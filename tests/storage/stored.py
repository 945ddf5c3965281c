"""Data folders with something in every part of them, and what is in them, for the tests of backups."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.backup import Copying, Extras
from storage.backup_restore import Restoring
from storage.backup_store import BackupStore, open_store
from storage.backup_tables import Query, tables_of
from storage.clickhouse import ClickHouse, open_clickhouse
from storage.column_layout import Column, split_time
from storage.column_writer import ColumnWriter
from storage.ledger_log import Gap, LedgerLog
from storage.schema import COLUMNS, IDENTITY, TRADES, RowType

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
#: 2025-08-18.
MIDNIGHT = 20_318 * DAY
HOUR_TWO = MIDNIGHT + 10 * DAY + 2 * 3600 * SECOND


def columns_of(row_type: RowType, ids: Iterable[int], start_ns: int = MIDNIGHT) -> dict[str, Column]:
    """A row for each id, one a second from the start on; every column says the id."""
    known = np.array(list(ids), np.int64)
    columns = {name: np.zeros(known.size, kind) for name, kind in COLUMNS[row_type].items()}
    for values in columns.values():
        if values.dtype.kind == "V":
            values.view("<u8")[::2] = known
        else:
            values[:] = known
    columns["time"], columns["nanos"] = split_time(start_ns + known * SECOND)
    columns[IDENTITY[row_type]] = known.astype("<u8")
    return columns


def append(data: Path, exchange: str, symbol: str, ids: Iterable[int], start_ns: int = MIDNIGHT) -> None:
    writer = ColumnWriter(data / "columns", 64)
    for row_type in COLUMNS:
        writer.append(exchange, symbol, row_type, columns_of(row_type, ids, start_ns))
    writer.close()


def filled_folder(data: Path, days: int = 3) -> Path:
    """Rows of two symbols over some days, and a file of every other kind."""
    for day in range(days):
        append(data, "binance", "BTCUSDT", range(1, 500), MIDNIGHT + day * DAY)
    append(data, "kraken", "BTC/USD", range(1, 50))
    log = LedgerLog(data / "ledger" / "shard-0.log")
    log.append([Gap("binance", "BTCUSDT", 1, 40, 41, MIDNIGHT, MIDNIGHT + 3 * SECOND, 2, MIDNIGHT, "connection lost")])
    log.close()
    for name, content in {
        "settings.yaml": b"shards: 3\n",
        "symbols.json": b'{"binance":{"added":["XRPUSDT"],"removed":[]}}',
        "bars/binance/BTCUSDT.arrow": b"ARROW1",
        "quality/binance.0-of-2.states": bytes(5000),
        "alerts/alerts.log": b"00000000 {}\n",
        "backfill/binance.json": b"[]",
        "reports/reports.log": b"00000000 {}\n",
        "reports/pages/1.1": b"a page",
        "configuration/versions.log": b"00000000 {}\n",
        "spool/1.spool": b"rows that wait",
        "archive/binance/BTCUSDT/TRADES/2025-08-01.parquet": b"PAR1",
        "journal/20250818T000000.000000000Z-binance.journal": os.urandom(3000),
        "secrets/api_token": b"tell nobody",
        "tls/key.pem": b"nor this",
        "logs/redis.log": b"not worth keeping",
        "redis/dump.rdb": b"nor this",
    }.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    return data


def content_of(data: Path, *left_out: str) -> dict[str, bytes]:
    """Path and bytes of every file, without those folders, and without what is said of power cuts here."""
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.relative_to(data).parts[0] not in left_out and not path.name.startswith("commits.")
    }


def trades(ids: Iterable[int], exchange: str = "binance", symbol: str = "BTCUSDT", every_ns: int = SECOND) -> pa.Table:
    known = np.array(list(ids), np.int64)
    order_ids = pa.array([abs(number).to_bytes(16, "big") for number in known.tolist()], pa.binary(16))
    columns = {
        "symbol": pa.array([symbol] * known.size).dictionary_encode(),
        "ts_event": MIDNIGHT + known * every_ns,
        "ts_recv": MIDNIGHT + known * every_ns + 7,
        "trade_id": known,
        "price": known * 0.1,
        "size": np.full(known.size, 0.1),
        "side": (known % 2).astype(np.uint8),
        "maker_order_id": order_ids,
        "taker_order_id": pa.nulls(known.size, pa.binary(16)),
    }
    table = pa.table(columns).cast(TRADES)
    return table.append_column("exchange", pa.array([exchange] * known.size).dictionary_encode())


def gaps(ids: Iterable[int], revision: int = 0) -> pa.Table:
    rows = [
        {
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "gap_id": number,
            "first_id": None if number % 2 else number,
            "from_ns": MIDNIGHT,
            "to_ns": MIDNIGHT + number,
            "opened": -number,
            "reason": "it's \\ 'lost' ü",
            "attempts": revision,
            "backfilled": 0,
            "evidence": "",
            "revision": revision,
        }
        for number in ids
    ]
    kinds = {"attempts": pa.int32(), "revision": pa.int32()}
    table = pa.Table.from_pylist(rows)
    return table.cast(pa.schema([field.with_type(kinds.get(field.name, field.type)) for field in table.schema]))


def fill_database(database: ClickHouse) -> None:
    """Trades of four months, some inserted twice, gaps with an older revision, and tables that stay empty."""
    database.migrate()
    for _ in range(2):
        database.insert("trades", trades(range(1, 3000), every_ns=3600 * SECOND))
    database.insert("trades", trades(range(1, 40), "kraken", "BTC/USD"))
    for revision in (0, 1):
        database.insert("gaps", gaps(range(-3, 30), revision))


def rows_of(database: ClickHouse) -> dict[str, list[tuple[object, ...]]]:
    """Every row a query sees of every table."""
    found = {}
    for table in tables_of(database.query):
        rows = database.query(f"SELECT {', '.join(table.columns)} FROM {table.source} ORDER BY {', '.join(table.key)}")
        found[table.name] = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    return found


@contextmanager
def embedded(data: Path) -> Iterator[ClickHouse]:
    database = open_clickhouse(None, data / "clickhouse")
    try:
        yield database
    finally:
        database.close()


def backup(store: BackupStore, data: Path, query: Query | None = None, at_ns: int = HOUR_TWO, **extras: bool) -> str:
    return Copying(store, data, query, Extras(**extras)).run(lambda: at_ns)[0]


def restore(store: BackupStore, name: str, target: Path) -> Path:
    Restoring(store, name, target, lambda folder: open_clickhouse(None, folder / "clickhouse")).run()
    return target


def objects_of(folder: Path) -> Mapping[Path, int]:
    """Every object below a local store, with its size."""
    return {path: path.stat().st_size for path in (folder / "objects").rglob("*") if path.is_file()}


def local(folder: Path) -> BackupStore:
    return open_store(str(folder))
