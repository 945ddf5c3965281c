"""A ClickHouse as a dict: of rows with the same key the one with the highest version stays, as the tables' engines
have it."""

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from storage.clickhouse import DatabaseUnavailable, Migrated
from storage.clickhouse_migrations import RETENTION

#: The ORDER BY of each table, and the column that says which row is newer.
_KEYS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "trades": (("symbol", "trade_id"), ""),
    "bars": (("symbol", "timeframe", "time"), "version"),
    "gaps": (("symbol", "gap_id"), "revision"),
}

Row = dict[str, Any]


class ClickHouseModel:
    """Lives on while the actor before it is killed."""

    kind: Final = "server"
    cluster: Final = None

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in _KEYS}
        self.away = False
        #: Takes rows, and does not say so.
        self.mumbles = False
        self.refused = 0

    def migrate(self) -> Migrated:
        self._answer()
        return Migrated("model", (RETENTION,))

    def insert(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        self._answer()
        if table in _KEYS:
            names, version = _KEYS[table]
            kept = self.tables[table]
            for row in rows.to_pylist():
                key = tuple(row[name] for name in names)
                if not version or key not in kept or kept[key][version] <= row[version]:
                    kept[key] = row
        if self.mumbles:
            self.refused += 1
            raise DatabaseUnavailable("the connection broke")

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        raise AssertionError("nobody asks here")

    def close(self) -> None:
        pass

    def _answer(self) -> None:
        if self.away:
            self.refused += 1
            raise DatabaseUnavailable("away")
