"""ClickHouse on your server, over its native protocol.

Works with servers from 18.16 on: parameters are rendered here, because old servers know none. Inserts and
queries have a connection each, opened when needed and again after every failure.
"""

import re
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_driver import Client, errors
from clickhouse_driver.util.escape import escape_param
from clickhouse_driver.util.helpers import parse_url

from storage.clickhouse import (
    DatabaseUnavailable,
    Migrated,
    Parameter,
    QueryFailed,
    error_of,
    insert_target,
)
from storage.clickhouse_migrations import migrate, on_cluster

# 18.16 wants to be told; later servers ignore a setting they do not know.
_SETTINGS: Final = {"allow_experimental_low_cardinality_type": 1, "use_numpy": True, "strings_as_bytes": True}
_TIMEOUTS: Final = {"connect_timeout": 5.0, "send_receive_timeout": 30.0, "sync_request_timeout": 5.0}
_UNKNOWN_DATABASE: Final = 81
_IS_IT_THE_PORT: Final = "; is that the port of its native protocol (9000, with TLS 9440)?"
_PLACEHOLDER: Final = re.compile(r"\{(\w+):[^{}]+\}")


class ServerClickHouse:
    kind: Literal["embedded", "server"] = "server"

    def __init__(self, url: str, cluster: str | None = None) -> None:
        self.cluster = cluster
        try:
            host, options = parse_url(url)
        except (ValueError, KeyError):
            host, options = None, {}
        self._database: str = options.get("database", "default")
        known_scheme = url.startswith(("clickhouse://", "clickhouses://"))
        if not host or not known_scheme or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self._database):
            # The url holds a password, so it is not repeated here.
            raise ValueError("CLICKHOUSE_URL must be clickhouse[s]://user:password@host:port/database")
        self._address = f"{host}:{options.get('port', '')}/{self._database}"
        options = {**_TIMEOUTS, **options, "settings": {**options.get("settings", {}), **_SETTINGS}}
        self._connect: Callable[..., Client] = lambda **other: Client(host, **{**options, **other})
        self._writer = _Connection(self._connect())
        self._reader = _Connection(self._connect())

    def migrate(self) -> Migrated:
        try:
            self.query("SELECT 1")
        except QueryFailed as error:
            if error.code != _UNKNOWN_DATABASE:
                raise
            self._create_database()
        return migrate(self)

    def insert(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        target = insert_target(table, rows)
        whole = pa.table(rows).unify_dictionaries()
        columns = [_to_numpy(column) for column in whole.columns]
        self._writer.run(lambda client: client.execute(f"INSERT INTO {target} VALUES", columns, columnar=True))

    def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        given = parameters or {}
        rendered = _PLACEHOLDER.sub(lambda found: _literal(found[1], given), sql)
        result: pa.Table = self._reader.run(lambda client: client.query_arrow(rendered))
        columns = [_from_wire(column, field) for column, field in zip(result.columns, result.schema, strict=True)]
        return pa.table(columns, names=result.schema.names)

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def _create_database(self) -> None:
        creator = _Connection(self._connect(database=""))
        try:
            statement = on_cluster(f"CREATE DATABASE IF NOT EXISTS {self._database}", self.cluster)
            creator.run(lambda client: client.execute(statement))
        finally:
            creator.close()

    def __repr__(self) -> str:
        return f"ServerClickHouse({self._address})"


class _Connection:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = Lock()
        self._closed = False

    def run[Result](self, work: Callable[[Any], Result]) -> Result:
        with self._lock:
            if self._closed:
                raise DatabaseUnavailable("the database is closed")
            try:
                return work(self._client)
            except errors.ServerException as error:
                raise error_of(error.code, error.message) from None
            except (errors.SocketTimeoutError, TimeoutError):
                raise DatabaseUnavailable(f"ClickHouse does not answer in time{_IS_IT_THE_PORT}") from None
            except (errors.NetworkError, OSError, EOFError) as error:
                # A port of TLS hangs up on who does not speak it.
                hint = _IS_IT_THE_PORT if "reset by peer" in str(error) else ""
                raise DatabaseUnavailable(f"ClickHouse cannot be reached: {_one_line(error)}{hint}") from None
            except errors.Error as error:
                # Something answers, but not in ClickHouse's native protocol.
                raise DatabaseUnavailable(
                    f"ClickHouse does not answer as expected: {_one_line(error)}{_IS_IT_THE_PORT}"
                ) from None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._client.disconnect()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _to_numpy(column: "pa.ChunkedArray[Any]") -> Any:
    """A column as the driver takes it: text as an object array of bytes, the rest as it is."""
    array: Any = column.combine_chunks()
    if pa.types.is_string(array.type):
        array = array.dictionary_encode()
    if pa.types.is_dictionary(array.type):
        # A null is one more name, at the end.
        names = np.array([*array.dictionary.cast(pa.binary()).to_pylist(), None], dtype=np.object_)
        return names[array.indices.fill_null(len(names) - 1).to_numpy()]
    if array.null_count:
        # As NaN a null would be a number.
        return np.array(array.to_pylist(), dtype=np.object_)
    return array.to_numpy(zero_copy_only=False)


def _literal(name: str, parameters: Mapping[str, Parameter]) -> str:
    if name not in parameters:
        raise QueryFailed(f"the query needs a parameter {name!r}")
    value = parameters[name]
    if isinstance(value, bool):
        value = int(value)
    # A bare minus after another would start a comment.
    literal = str(escape_param(value if isinstance(value, str | int | float | None) else list(value), None))
    return f"({literal})" if literal.startswith("-") else literal


def _from_wire(column: Any, field: "pa.Field[Any]") -> Any:
    if not pa.types.is_binary(field.type):
        return column
    fixed = re.search(r"FixedString\((\d+)\)", (field.metadata or {})[b"clickhouse_type"].decode())
    if fixed is None:
        return column.cast(pa.string())
    # The driver cuts zero bytes at the end; numpy's fixed-width bytes bring them back.
    width = int(fixed[1])
    values = column.combine_chunks()
    padded = np.array(values.fill_null(b"").to_pylist(), dtype=f"S{width}")
    whole = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(padded), [None, pa.py_buffer(padded)])
    return pc.if_else(values.is_valid(), whole, pa.scalar(None, pa.binary(width)))
