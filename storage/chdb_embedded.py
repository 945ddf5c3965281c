"""ClickHouse inside this process (chDB), its files in one folder.

The engine allows one folder per process and one process per folder. Inserts and queries have a connection
each, so that a long query does not hold up writing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

import chdb
import pyarrow as pa

from storage.clickhouse import (
    DatabaseUnavailable,
    Migrated,
    Parameter,
    Scalar,
    error_of,
    insert_target,
)
from storage.clickhouse_migrations import migrate

DATABASE: Final = "rayfeed"

# Compressing results doubles the time of a read in this very process, and a backfill may span many months.
_SETTINGS: Final = "SET output_format_arrow_compression_method = 'none', max_partitions_per_insert_block = 0"

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_QUOTED_ESCAPES: Final = _ESCAPES | str.maketrans({"'": "\\'"})


class EmbeddedClickHouse:
    kind: Literal["embedded", "server"] = "embedded"
    cluster: str | None = None

    def __init__(self, folder: Path) -> None:
        if "?" in str(folder):
            raise ValueError("the data folder may not have a '?' in its name")  # chDB reads options after it
        self._folder = folder.absolute()
        self._writer = _Connection(self._folder)
        self._reader = _Connection(self._folder)

    def migrate(self) -> Migrated:
        return migrate(self)

    def insert(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        if rows.num_rows:
            self._writer.insert(insert_target(table, rows), rows)

    def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        return self._reader.query(sql, {name: _text(value) for name, value in (parameters or {}).items()})

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def __repr__(self) -> str:
        return f"EmbeddedClickHouse({self._folder})"


class _Connection:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._connection: Any = None
        self._closed = False

    def insert(self, target: str, rows: pa.Table | pa.RecordBatch) -> None:
        columns = ", ".join(rows.schema.names)
        with self._lock:
            # The engine finds `rows` by its name in this frame and reads its Arrow buffers in place.
            self._run(f"INSERT INTO {target} SELECT {columns} FROM Python(rows)", {})  # noqa: S608 (checked names)

    def query(self, sql: str, parameters: dict[str, str]) -> pa.Table:
        with self._lock:
            result = self._run(sql, parameters)
            if not len(result):
                return pa.table({})
            # A copy: what the engine gives is gone with `result`, and a view of it does not keep it.
            return pa.ipc.open_file(pa.py_buffer(result.bytes())).read_all()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, sql: str, parameters: dict[str, str]) -> Any:
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        if self._connection is None:
            self._connection = self._connect()
        try:
            return self._connection.query(sql, "Arrow", params=parameters)
        except RuntimeError as error:
            raise _error_of(error) from None

    def _connect(self) -> Any:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            connection = chdb.connect(str(self._folder))
        except (OSError, RuntimeError) as error:
            raise DatabaseUnavailable(
                f"the embedded ClickHouse cannot open its folder; is another rayfeed using it? ({error})"
            ) from None
        try:
            for statement in (_SETTINGS, f"CREATE DATABASE IF NOT EXISTS {DATABASE}", f"USE {DATABASE}"):
                connection.query(statement)
        except RuntimeError as error:
            connection.close()
            raise _error_of(error) from None
        return connection


def _error_of(error: Exception) -> Exception:
    text = str(error)
    code = re.search(r"Code: (\d+)", text)
    return error_of(int(code[1]) if code else 0, text)


def _text(value: Parameter) -> str:
    """A parameter as the engine parses it: tab-separated text, so a string must be escaped."""
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, bool):
        return str(int(value))
    if value is None:
        return "\\N"
    if isinstance(value, int | float):
        return repr(value)
    return "[" + ",".join(map(_element, value)) + "]"


def _element(value: Scalar) -> str:
    if value is None:
        return "NULL"
    return f"'{value.translate(_QUOTED_ESCAPES)}'" if isinstance(value, str) else _text(value)
