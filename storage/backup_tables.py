"""Tables of ClickHouse as Parquet and back, a partition after another and each in bounded pieces.

What is copied is what a query sees: rows that a newer one with the same key replaces are left out. A partition whose
parts are those of the last backup is not read again.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from storage.backup_manifest import BackupError
from storage.clickhouse import ClickHouse, Parameter
from storage.clickhouse_migrations import MIGRATIONS

#: Of one piece: what is in memory at once, and what one answer of a gateway holds.
PIECE_ROWS: Final = 250_000

#: Asks the database, wherever it is; raises as `ClickHouse.query`.
Query = Callable[[str, Mapping[str, Parameter] | None], pa.Table]

_TABLES: Final = (
    "SELECT name, engine, create_table_query AS sql FROM system.tables"
    " WHERE database = currentDatabase() AND (engine LIKE '%MergeTree' OR engine = 'MaterializedView') ORDER BY name"
)
_COLUMNS: Final = (
    "SELECT table, name, type, default_kind AS kind, is_in_sorting_key AS key FROM system.columns"
    " WHERE database = currentDatabase()"
)
_PARTS: Final = (
    "SELECT partition_id AS partition, name, rows, bytes_on_disk AS size, toUInt64(modification_time) AS changed"
    " FROM system.parts WHERE database = currentDatabase() AND active AND table = {table:String}"
    " ORDER BY partition, name"
)
_STATES: Final = re.compile(r"(?<!Simple)AggregateFunction\(")
_TARGET: Final = re.compile(r" TO (?:`?\w+`?\.)?`?(\w+)`?")
_CREATED: Final = re.compile(r"\b(CREATE|DROP)\s+TABLE\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(\w+)([^;]*)", re.IGNORECASE)
_INTEGER: Final = re.compile(r"U?Int(8|16|32|64)")


@dataclass(slots=True)
class Table:
    """A table that is copied: the columns that are written to it, those of its key, and whether rows of one key replace
    each other."""

    name: str
    replaces: bool
    columns: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)
    #: A whole number of the key, with its type: what a large partition is cut by.
    number: tuple[str, str] | None = None

    @property
    def source(self) -> str:
        return f"{self.name} FINAL" if self.replaces else self.name


def tables_of(query: Query) -> list[Table]:
    """Every table with rows of its own. One with states of aggregates is made again from what it aggregates."""
    states, columns = set(), query(_COLUMNS, None).to_pylist()
    found = {
        row["name"]: Table(row["name"], row["engine"].removeprefix("Replicated") != "MergeTree")
        for row in query(_TABLES, None).to_pylist()
        if row["engine"].endswith("MergeTree") and re.fullmatch(r"[A-Za-z_]\w*", row["name"], re.ASCII)
    }
    for column in columns:
        table = found.get(column["table"])
        if table is None or column["kind"] in ("MATERIALIZED", "ALIAS", "EPHEMERAL"):
            continue
        table.columns.append(column["name"])
        if _STATES.search(column["type"]):
            states.add(table.name)
        if column["key"]:
            table.key.append(column["name"])
            if table.number is None and _INTEGER.fullmatch(column["type"]):
                table.number = (column["name"], column["type"])
    return [table for name, table in found.items() if name not in states and name != "migrations"]


def migrations_of(query: Query) -> list[str]:
    """Those that were applied; none where the database is empty."""
    there = {row["name"] for row in query(_TABLES, None).to_pylist()}
    if "migrations" not in there:
        return []
    return sorted(row["name"] for row in query("SELECT name FROM migrations", None).to_pylist())


def tables_made_by(migrations: Sequence[str], folder: Path = MIGRATIONS) -> set[str]:
    """The tables of `tables_of` there must be once those were applied, as far as this version knows them."""
    made: set[str] = set()
    for name in sorted(migrations):
        file = folder / Path(name).name
        if not file.is_file():
            continue
        for verb, table, columns in _CREATED.findall(file.read_text(encoding="utf-8")):
            copied = verb.upper() == "CREATE" and not _STATES.search(columns)
            (made.add if copied else made.discard)(table)
    return made


def partitions(query: Query, table: Table) -> Iterator[tuple[str, str]]:
    """Every partition of a table, and a stamp that is another one once its parts are."""
    parts: dict[str, list[tuple[Any, ...]]] = {}
    for row in query(_PARTS, {"table": table.name}).to_pylist():
        parts.setdefault(row.pop("partition"), []).append(tuple(row.values()))
    for partition, known in sorted(parts.items()):
        yield partition, hashlib.sha256(repr((table.columns, known)).encode()).hexdigest()[:32]


def pieces(query: Query, table: Table, partition: str, most: int = PIECE_ROWS) -> Iterator[pa.Table]:
    """The rows of a partition, in pieces of about `most`. Each row is in one piece, whatever is merged or inserted
    meanwhile: which one, its own values say."""
    wanted, order = ", ".join(table.columns), ", ".join(table.key or table.columns)
    for where, bound in _cuts(query, table, {"partition": partition}, most):
        rows = query(f"SELECT {wanted} FROM {table.source} WHERE {where} ORDER BY {order}", bound)  # noqa: S608
        if rows.num_rows:
            yield rows


def _cuts(
    query: Query, table: Table, bound: dict[str, Parameter], most: int
) -> Iterator[tuple[str, dict[str, Parameter]]]:
    """Conditions, with their parameters, that share a partition out."""
    where = "_partition_id = {partition:String}"
    if table.number is None:
        (found,) = query(f"SELECT count() AS n FROM {table.name} WHERE {where}", bound).to_pylist()  # noqa: S608
        shares = max(1, -(-found["n"] // most))
        hashed = f"cityHash64({', '.join(table.key or table.columns)})"
        for share in range(shares):
            yield f"{where} AND {hashed} % {shares} = {share}", bound
        return
    name, kind = table.number
    # An end is open until a count has said where it is: rows may be inserted beyond it meanwhile.
    spans: list[tuple[int | None, int | None]] = [(None, None)]
    while spans:
        low, high = spans.pop()
        inside, ends = where, dict(bound)
        if low is not None:
            inside, ends["low"] = f"{inside} AND {name} >= {{low:{kind}}}", low
        if high is not None:
            inside, ends["high"] = f"{inside} AND {name} <= {{high:{kind}}}", high
        (found,) = query(
            f"SELECT count() AS n, min({name}) AS low, max({name}) AS high FROM {table.name} WHERE {inside}",  # noqa: S608
            ends,
        ).to_pylist()
        if found["n"] <= most or found["low"] == found["high"]:
            yield inside, ends
        else:
            middle = (found["low"] + found["high"]) // 2
            spans += [(middle + 1, high), (low, middle)]


def to_parquet(rows: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", compression_level=1)
    return sink.getvalue()


def from_parquet(content: pa.Buffer) -> pa.Table:
    """BackupError for what is none."""
    try:
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise BackupError(f"an object is no Parquet file: {error}") from None


def rows_in(content: pa.Buffer | bytes) -> int:
    """How many rows a Parquet file says it has; BackupError as above."""
    try:
        return int(pq.read_metadata(pa.BufferReader(content)).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise BackupError(f"an object is no Parquet file: {error}") from None


def filled(database: ClickHouse) -> str | None:
    """A table that has rows, if any has; the tables need not be there."""
    for table in tables_of(database.query):
        if count(database, table.name):
            return table.name
    return None


def count(database: ClickHouse, table: str) -> int:
    """Rows of a table as they are stored."""
    (found,) = database.query(f"SELECT count() AS n FROM {table}").to_pylist()  # noqa: S608 (a checked name)
    return int(found["n"])


def views_that_fill(database: ClickHouse) -> list[str]:
    """Materialised views whose target is loaded by itself: with them, rows would be in it twice."""
    loaded = {table.name for table in tables_of(database.query)}
    found = []
    for row in database.query(_TABLES).to_pylist():
        target = _TARGET.search(row["sql"]) if row["engine"] == "MaterializedView" else None
        if target is not None and target[1] in loaded and re.fullmatch(r"[A-Za-z_]\w*", row["name"], re.ASCII):
            found.append(row["name"])
    return found
