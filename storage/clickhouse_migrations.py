"""Brings the tables up to date: the numbered files of `storage/sql`, and how long rows are kept.

Every statement may run again: who is killed between two of them begins with the same file the next time. A file that
begins with `-- since 21.1: what it gives` waits until the server is that new. What is in the database and is not ours
stays as it is: tables of these names that others made, and those of a newer rayfeed, are an error that says so.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from storage.clickhouse import ClickHouse, Migrated, QueryFailed, WrongDatabase
from storage.clickhouse_tables import TABLES

MIGRATIONS: Final = Path(__file__).with_name("sql")

#: Server versions: nothing works before the first, what `retention` needs came with the second.
OLDEST: Final = (18, 16)
RETENTION_SINCE: Final = (21, 1)
#: What a server lacks that is older.
RETENTION: Final = "retention"

_SINCE: Final = re.compile(r"-- since (\d+)\.(\d+): (.+)\n")
_NAMED: Final = re.compile(r"^(CREATE (?:DATABASE|TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS \w+|ALTER TABLE \w+)")
_ENGINE: Final = re.compile(r"ENGINE = (\w*MergeTree)\((\w*)\)")
#: All nodes of a cluster hold all rows, whatever its shards are.
_REPLICA: Final = "'/clickhouse/tables/{database}/{table}', '{shard}-{replica}'"
#: Old servers know no IF NOT EXISTS of columns.
_ADDED: Final = re.compile(r"(ALTER TABLE (\w+) ADD COLUMN )IF NOT EXISTS ((\w+) .+)", re.DOTALL)
_KNOWN: Final = (
    "SELECT name FROM system.columns"
    " WHERE database = currentDatabase() AND table = {table:String} AND name = {column:String}"
)
_TTL: Final = re.compile(r" TTL (.+?)(?: SETTINGS |$)")


def migrate(database: ClickHouse) -> Migrated:
    """Raises `WrongDatabase` where that cannot be, having changed nothing that is not ours."""
    try:
        check_tables(database, finished=False)
        migrated = apply_migrations(database)
        check_tables(database, finished=True)
    except QueryFailed as error:
        raise WrongDatabase(f"the tables cannot be brought up to date: {error}") from None
    return migrated


def apply_migrations(database: ClickHouse, folder: Path = MIGRATIONS) -> Migrated:
    """Apply the files of `folder` (`0001_name.sql`) that the table `migrations` does not list, in order."""
    version = str(database.query("SELECT version() AS version")["version"][0].as_py())
    number = _numbers(version)
    if number < OLDEST:
        raise WrongDatabase(f"ClickHouse {version} is too old: rayfeed needs {_text(OLDEST)} or newer")
    files = sorted(folder.glob("*.sql"))
    _run(database, "CREATE TABLE IF NOT EXISTS migrations (name String) ENGINE = MergeTree() ORDER BY name")
    applied = {str(name) for name in database.query("SELECT name FROM migrations")["name"].to_pylist()}
    if unknown := sorted(applied - {file.name for file in files}):
        raise WrongDatabase(
            f"the database was made by a newer rayfeed (it has {unknown[-1]}): use that, or another database"
        )
    lacks: list[str] = []
    for file in files:
        sql = file.read_text(encoding="utf-8")
        since = _SINCE.match(sql)
        if since is not None and number < (int(since[1]), int(since[2])):
            lacks.append(since[3])
        elif file.name not in applied:
            _apply(database, file.name, sql)
    if number < RETENTION_SINCE:
        lacks.append(RETENTION)
    return Migrated(version, tuple(lacks))


def check_tables(database: ClickHouse, finished: bool) -> None:
    """Raises `WrongDatabase` for a table that is not what `storage.clickhouse_tables` says; before migrations are
    `finished` those may be missing, and columns of them."""
    engines: dict[str, tuple[str, str]] = {
        row["name"]: (row["engine"], row["sorting_key"])
        for row in database.query(
            "SELECT name, engine, sorting_key FROM system.tables WHERE database = currentDatabase()"
        ).to_pylist()
    }
    columns: dict[str, dict[str, str]] = {}
    for row in database.query(
        "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() AND default_kind = ''"
    ).to_pylist():
        kind = re.sub(r"LowCardinality\((\w+)\)", r"\1", row["type"])
        columns.setdefault(row["table"], {})[row["name"]] = kind
    if "migrations" in engines and columns["migrations"] != {"name": "String"}:
        raise _foreign("migrations", "it has other columns")
    for name, table in TABLES.items():
        if name not in engines:
            if finished:
                raise WrongDatabase(
                    f"the table {name} is gone: restore it, or drop the table migrations to have it made anew, empty"
                )
            continue
        engine, key = engines[name]
        found = columns.get(name, {})
        if foreign := sorted(found.keys() - table.columns.keys()):
            raise _foreign(name, f"it has a column {foreign[0]}")
        if not engine.endswith("ReplacingMergeTree"):
            raise _foreign(name, f"its engine is {engine}")
        if key != ", ".join(table.key):
            raise _foreign(name, f"it is ordered by {key}")
        if finished:
            _check_columns(name, found, table.columns)


def apply_retention(database: ClickHouse, days: Mapping[str, int | None]) -> None:
    """Keep rows of each of these tables for so many days (None: for ever). Raises `WrongDatabase` where that cannot
    be."""
    rows = database.query(
        "SELECT name, create_table_query AS made FROM system.tables WHERE database = currentDatabase()"
    ).to_pylist()
    made = {row["name"]: row["made"] for row in rows}
    for name, kept in days.items():
        column = TABLES[name].time
        wanted = kept and f"toDateTime(intDiv({column}, 1000000000), 'UTC') + toIntervalDay({kept})"
        found = _TTL.search(made[name])
        if wanted == (found and found[1]):
            continue
        try:
            _run(database, f"ALTER TABLE {name} MODIFY TTL {wanted}" if wanted else f"ALTER TABLE {name} REMOVE TTL")
        except QueryFailed as error:
            raise WrongDatabase(f"how long {name} is kept cannot be set: {error}") from None


def on_cluster(statement: str, cluster: str | None) -> str:
    """The statement for all nodes of a cluster, with tables that replicate; as it is where there is none."""
    if cluster is None:
        return statement
    named = _NAMED.sub(rf"\1 ON CLUSTER '{cluster}'", statement)
    return _ENGINE.sub(lambda of: f"ENGINE = Replicated{of[1]}({_REPLICA}{of[2] and ', '}{of[2]})", named)


def _apply(database: ClickHouse, name: str, sql: str) -> None:
    try:
        for statement in _SINCE.sub("", sql, count=1).split(";\n"):
            _run(database, statement.strip())
    except QueryFailed as error:
        raise WrongDatabase(f"migration {name}: {error}") from None
    database.insert("migrations", pa.table({"name": [name]}))


def _run(database: ClickHouse, statement: str) -> None:
    if added := _ADDED.fullmatch(statement):
        if database.query(_KNOWN, {"table": added[2], "column": added[4]}).num_rows:
            return
        statement = f"{added[1]}{added[3]}"
    database.query(on_cluster(statement, database.cluster))


def _check_columns(name: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise WrongDatabase(f"the table {name} has no column {missing[0]}: it is not as rayfeed made it")
    for column, kind in expected.items():
        if found[column] != kind:
            raise WrongDatabase(
                f"the column {name}.{column} is {found[column]}, not {kind}: rayfeed did not make it so"
            )


def _foreign(table: str, why: str) -> WrongDatabase:
    return WrongDatabase(
        f"a table {table} is there that rayfeed did not make ({why}): rename it, or give rayfeed its own database"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
