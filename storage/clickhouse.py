"""ClickHouse: embedded in this process, or your server; the same SQL and the same tables on both.

A database is opened lazily, so a server that is down at start is no error until something is asked of it.
One thread may insert while another queries; calls of one kind wait for each other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import pyarrow as pa

#: What may be bound to `{name:Type}` in a query.
Scalar = str | int | float | bool | None
Parameter = Scalar | Sequence[Scalar]

# Errors that pass (load, disk, network) or that the operator can mend (credentials) while rows wait.
# Names are in ClickHouse's src/Common/ErrorCodes.cpp.
_PASSING: Final = frozenset(
    {32, 74, 75, 76, 159, 160, 192, 193, 194, 198, 202, 203, 209, 210, 241, 242, 243, 252, 279, 319, 394, 425}
    | {497, 516, 999}
)
# The same code as "too many parts", which passes; this one comes back for the same rows.
_TOO_MANY_PARTITIONS: Final = "Too many partitions for single INSERT block"
_MAX_MESSAGE: Final = 300


class DatabaseUnavailable(RuntimeError):
    """The database cannot be reached or cannot work now; the same call may succeed later. One line."""


class QueryFailed(RuntimeError):
    """The database understood and refused: the SQL or the rows are wrong, and will be again. One line."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class WrongDatabase(DatabaseUnavailable):
    """Something else than this program expects is there; rows wait until somebody has mended it. One line."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """The version of the engine, and what it is too old for."""

    version: str
    lacks: tuple[str, ...]


class ClickHouse(Protocol):
    """Every method raises `DatabaseUnavailable` or `QueryFailed`, nothing else of the engine's."""

    kind: Literal["embedded", "server"]
    #: The cluster on whose nodes the tables are, of the same rows; None for one server.
    cluster: str | None

    def migrate(self) -> Migrated:
        """Bring the tables up to date; see `storage.clickhouse_migrations.migrate`."""

    def insert(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        """Append rows, matched by column name, as columns. Dictionary-encoded columns are fine."""

    def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        """Run one statement; `{name:Type}` in it stands for `parameters[name]`.

        Strings come back as string, FixedString(n) as binary(n), Bool and UInt8 as the engine has them.
        """

    def close(self) -> None: ...


def open_clickhouse(url: str | None, folder: Path, cluster: str | None = None) -> ClickHouse:
    """The server at `url` (`clickhouse://user:password@host:port/database`, `clickhouses://` for TLS), one of `cluster`
    if that is named, or, without a url, the database embedded in this process with its files in `folder`.

    Raises `ValueError` for a url or folder that cannot work.
    """
    # Either engine takes a second to import, so only the one that is used is.
    if url is None:
        from storage.chdb_embedded import EmbeddedClickHouse

        return EmbeddedClickHouse(folder)
    from storage.clickhouse_server import ServerClickHouse

    return ServerClickHouse(url, cluster)


def insert_target(table: str, rows: pa.Table | pa.RecordBatch) -> str:
    """`table (column, ...)`; raises `ValueError` where a name is none."""
    for name in (table, *rows.schema.names):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is no table or column name")
    return f"{table} ({', '.join(rows.schema.names)})"


def error_of(code: int, text: str) -> DatabaseUnavailable | QueryFailed:
    """The engine's error as ours: its first line, without the code and the stack trace."""
    message = re.sub(r"^.*?DB::Exception: ", "", text.partition("Stack trace:")[0], count=1, flags=re.DOTALL)
    message = " ".join(message.split())[:_MAX_MESSAGE].rstrip(". ")
    if code in _PASSING and _TOO_MANY_PARTITIONS not in message:
        return DatabaseUnavailable(message)
    return QueryFailed(message, code)
