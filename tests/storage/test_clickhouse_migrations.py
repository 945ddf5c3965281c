"""How tables come to be and stay ours, on both engines: killed half-way, beside somebody else's, too old, too new."""

import socketserver
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage import clickhouse_migrations as module
from storage.chdb_embedded import EmbeddedClickHouse
from storage.clickhouse import ClickHouse, DatabaseUnavailable, Migrated, Parameter, WrongDatabase, open_clickhouse
from storage.clickhouse_migrations import apply_migrations, apply_retention, migrate, on_cluster
from storage.clickhouse_tables import TABLES
from tests.polling import wait_until
from tests.servers import PASSWORD, RedisServer
from tests.storage.clickhouses import empty, server

__all__ = ["empty", "server"]

DAY = 86_400_000_000_000


class Killed(Exception):
    pass


class Mortal:
    """A database whose user is killed right after each statement, and before each migration is noted, the first time
    that happens."""

    def __init__(self, database: ClickHouse) -> None:
        self.kind, self.cluster = database.kind, database.cluster
        self._database = database
        self.done: set[str] = set()

    def migrate(self) -> Migrated:
        return migrate(self)

    def insert(self, table: str, rows: pa.Table | pa.RecordBatch) -> None:
        self._die_once(str(rows.to_pylist()))
        self._database.insert(table, rows)

    def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        found = self._database.query(sql, parameters)
        if not sql.startswith("SELECT"):
            self._die_once(sql)
        return found

    def close(self) -> None:
        self._database.close()

    def _die_once(self, what: str) -> None:
        if what not in self.done:
            self.done.add(what)
            raise Killed


def tables_of(database: ClickHouse) -> dict[str, Any]:
    rows = database.query(
        "SELECT name, engine, sorting_key FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    columns = database.query(
        "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() ORDER BY table, name"
    )
    own = [row for row in rows.to_pylist() if not row["name"].startswith(".")]
    return {"tables": own, "columns": [row for row in columns.to_pylist() if not row["table"].startswith(".")]}


def names_of(database: ClickHouse) -> list[str]:
    return [row["name"] for row in tables_of(database)["tables"]]


def test_every_table_is_made_as_it_is_described(empty: ClickHouse) -> None:
    migrated = empty.migrate()
    made = {row["name"]: row["engine"] for row in tables_of(empty)["tables"]}
    assert {made[name] for name in TABLES} == {"ReplacingMergeTree"}
    assert migrated.version == empty.query("SELECT version() AS v")["v"][0].as_py()
    old = migrated.version.startswith("18.")
    assert ("retention" in migrated.lacks, "column codecs" in "".join(migrated.lacks)) == (old, old)
    assert empty.migrate() == migrated


def test_who_is_killed_after_any_statement_finishes_the_next_time(empty: ClickHouse) -> None:
    mortal, kills = Mortal(empty), 0
    while True:
        try:
            mortal.migrate()
            break
        except Killed:
            kills += 1
    files = len(empty.query("SELECT name FROM migrations")["name"])
    assert kills == len(mortal.done) > 2 * files
    names = empty.query("SELECT name FROM migrations")["name"].to_pylist()
    assert len(set(names)) == len(names)
    made = tables_of(empty)
    for name in names_of(empty):
        empty.query(f"DROP TABLE {name}")
    empty.migrate()
    assert tables_of(empty) == made


def test_migrations_are_applied_once_and_in_order(empty: ClickHouse, tmp_path: Path) -> None:
    (tmp_path / "0001_make.sql").write_text("CREATE TABLE steps (step Int64) ENGINE = Memory;\n\nSELECT 1")
    (tmp_path / "0002_fill.sql").write_text("INSERT INTO steps SELECT 1 AS step")
    (tmp_path / "0003_later.sql").write_text("-- since 999.1: things to come\nINSERT INTO steps SELECT 2 AS step")
    for _ in range(2):
        assert apply_migrations(empty, tmp_path).lacks[0] == "things to come"
    assert empty.query("SELECT step FROM steps")["step"].to_pylist() == [1]
    names = empty.query("SELECT name FROM migrations ORDER BY name")["name"].to_pylist()
    assert names == ["0001_make.sql", "0002_fill.sql"]
    # The server was made newer.
    (tmp_path / "0003_later.sql").write_text("-- since 1.1: things to come\nINSERT INTO steps SELECT 2 AS step")
    for _ in range(2):
        apply_migrations(empty, tmp_path)
    assert empty.query("SELECT step FROM steps ORDER BY step")["step"].to_pylist() == [1, 2]


def test_a_column_is_added_once_also_by_who_was_killed_before(empty: ClickHouse, tmp_path: Path) -> None:
    (tmp_path / "0001_make.sql").write_text(
        "CREATE TABLE IF NOT EXISTS steps (step Int64) ENGINE = MergeTree() ORDER BY step"
    )
    (tmp_path / "0002_add.sql").write_text(
        "ALTER TABLE steps ADD COLUMN IF NOT EXISTS foot Nullable(Float64) AFTER step"
    )
    mortal = Mortal(empty)
    while True:
        try:
            apply_migrations(mortal, tmp_path)
            break
        except Killed:
            pass
    assert sum("ADD COLUMN" in what for what in mortal.done) == 1, "on old servers it cannot be said twice"
    empty.query("INSERT INTO steps (step) SELECT toInt64(1) AS step")
    assert empty.query("SELECT step, foot FROM steps").to_pylist() == [{"step": 1, "foot": None}]


def test_a_failing_migration_is_named_and_tried_again(empty: ClickHouse, tmp_path: Path) -> None:
    broken = tmp_path / "0009_wrong.sql"
    broken.write_text("CREATE TABLE wrong (")
    with pytest.raises(WrongDatabase, match=r"0009_wrong\.sql"):
        apply_migrations(empty, tmp_path)
    broken.write_text("CREATE TABLE wrong (a Int64) ENGINE = Memory")
    apply_migrations(empty, tmp_path)
    assert empty.query("SELECT * FROM wrong").num_rows == 0


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE TABLE users (name String, karma Int64) ENGINE = MergeTree() ORDER BY name", "table users.*karma"),
        ("CREATE TABLE symbols (symbol String) ENGINE = Log", "table symbols.*engine is Log"),
        (
            "CREATE TABLE quality (time Int64) ENGINE = ReplacingMergeTree() ORDER BY time",
            "table quality.*ordered by time",
        ),
        ("CREATE TABLE migrations (name String, id Int64) ENGINE = MergeTree() ORDER BY id", "table migrations"),
    ],
)
def test_somebody_elses_table_is_named_and_nothing_is_done_to_the_database(
    empty: ClickHouse, sql: str, said: str
) -> None:
    empty.query(sql)
    before = tables_of(empty)
    with pytest.raises(WrongDatabase, match=said):
        empty.migrate()
    assert tables_of(empty) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("ALTER TABLE trades DROP COLUMN maker_order_id", "trades has no column maker_order_id"),
        ("ALTER TABLE quotes MODIFY COLUMN bid_size Nullable(Float32)", r"quotes\.bid_size is Nullable\(Float32\)"),
        ("ALTER TABLE gaps ADD COLUMN colour String", "table gaps.*colour"),
        ("DROP TABLE arbitrage", "table arbitrage is gone"),
        ("INSERT INTO migrations SELECT '9999_of_tomorrow.sql' AS name", "newer rayfeed.*9999_of_tomorrow"),
    ],
)
def test_what_was_changed_about_our_tables_is_named(empty: ClickHouse, sql: str, said: str) -> None:
    empty.migrate()
    empty.query(sql)
    before = tables_of(empty)
    with pytest.raises(WrongDatabase, match=said):
        empty.migrate()
    assert tables_of(empty) == before


def test_columns_that_follow_from_ours_are_welcome(empty: ClickHouse) -> None:
    empty.migrate()
    empty.query("ALTER TABLE trades ADD COLUMN notional Float64 MATERIALIZED price * size")
    empty.migrate()


def test_dropping_the_list_of_migrations_makes_what_is_gone_anew(empty: ClickHouse) -> None:
    empty.migrate()
    made = tables_of(empty)
    for name in ("arbitrage", "migrations"):
        empty.query(f"DROP TABLE {name}")
    empty.migrate()
    assert tables_of(empty) == made


def test_a_server_that_is_too_old_is_told_so(empty: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OLDEST", (99, 3))
    with pytest.raises(WrongDatabase, match=r"too old: rayfeed needs 99\.3 or newer"):
        empty.migrate()
    assert names_of(empty) == []


class WebServer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_something_else_that_answers_is_unavailable(tmp_path: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), WebServer) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        other = open_clickhouse(f"clickhouse://default:{PASSWORD}@127.0.0.1:{web.server_address[1]}/rayfeed", tmp_path)
        with pytest.raises(DatabaseUnavailable, match=r"does not answer as expected.* native protocol") as failure:
            other.migrate()
        assert PASSWORD not in str(failure.value)
        other.close()
        web.shutdown()
        thread.join()


def test_something_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        url = f"clickhouse://default:{PASSWORD}@127.0.0.1:{redis.port}/rayfeed?send_receive_timeout=1"
        other = open_clickhouse(url, tmp_path)
        with pytest.raises(DatabaseUnavailable, match=r"not answer in time.* native protocol"):
            other.migrate()
        other.close()


# ---- retention


KEPT = {"quotes": 30, "trades": 365, "bars": None}


def ttl_of(database: ClickHouse, table: str) -> str:
    sql = (
        "SELECT create_table_query AS made FROM system.tables WHERE database = currentDatabase() AND name = {t:String}"
    )
    return str(database.query(sql, {"t": table})["made"][0].as_py()).partition(" TTL ")[2].partition(" SETTINGS")[0]


def test_rows_are_kept_as_long_as_the_settings_say(tmp_path: Path) -> None:
    database = open_clickhouse(None, tmp_path)
    database.migrate()
    apply_retention(database, KEPT)
    assert ttl_of(database, "quotes") == "toDateTime(intDiv(ts_event, 1000000000), 'UTC') + toIntervalDay(30)"
    assert ttl_of(database, "trades").endswith("toIntervalDay(365)")
    assert ttl_of(database, "bars") == ""
    apply_retention(database, KEPT | {"trades": None, "quotes": 7})
    assert (ttl_of(database, "trades"), ttl_of(database, "quotes")[-16:]) == ("", "toIntervalDay(7)")
    # A migration that comes later, or again, does not lose it.
    database.query("DROP TABLE migrations")
    database.migrate()
    assert ttl_of(database, "quotes").endswith("toIntervalDay(7)")
    database.close()


def test_what_is_kept_already_is_not_touched_again(tmp_path: Path) -> None:
    database = Counted(tmp_path)
    database.migrate()
    apply_retention(database, KEPT)
    database.altered.clear()
    apply_retention(database, KEPT)
    assert database.altered == []
    apply_retention(database, KEPT | {"bars": 5})
    assert len(database.altered) == 1
    database.close()


def test_rows_that_are_too_old_go_and_others_stay(tmp_path: Path) -> None:
    database = open_clickhouse(None, tmp_path)
    database.migrate()
    now = time.time_ns()
    columns = "exchange, symbol, ts_event, ts_recv, sequence"
    for days in (1, 29, 31, 400):
        database.query(f"INSERT INTO quotes ({columns}) SELECT 'okx', 'A', {now - days * DAY}, {now}, {days} AS n")
    apply_retention(database, KEPT)
    wait_until(lambda: rows_of(database, "quotes") == [1, 29])
    # Also what comes afterwards.
    database.query(f"INSERT INTO quotes ({columns}) SELECT 'okx', 'A', {now - 31 * DAY}, {now}, 31 AS n")
    database.query("OPTIMIZE TABLE quotes FINAL")
    assert rows_of(database, "quotes") == [1, 29]
    database.close()


def rows_of(database: ClickHouse, table: str) -> list[int]:
    return list(map(int, database.query(f"SELECT sequence FROM {table} ORDER BY sequence")["sequence"].to_pylist()))


class Counted(EmbeddedClickHouse):
    """Notes what it altered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.altered: list[str] = []

    def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        if sql.startswith("ALTER"):
            self.altered.append(sql)
        return super().query(sql, parameters)


# ---- a cluster


class OnCluster(EmbeddedClickHouse):
    """Notes the statements for a cluster, lets the engine's own parser read them, and runs them without it."""

    cluster = "nodes"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.said: list[str] = []

    def query(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
        if sql.startswith(("CREATE", "ALTER")):
            self.said.append(sql)
            super().query(f"EXPLAIN AST {sql}")
            sql = sql.replace(" ON CLUSTER 'nodes'", "").replace("Replicated", "")
            sql = sql.replace(f"{REPLICA}, ", "").replace(REPLICA, "")
        return super().query(sql, parameters)


REPLICA = "'/clickhouse/tables/{database}/{table}', '{shard}-{replica}'"


def test_on_a_cluster_every_statement_is_for_all_nodes_and_every_table_replicates(tmp_path: Path) -> None:
    database = OnCluster(tmp_path)
    database.migrate()
    apply_retention(database, KEPT)
    apply_retention(database, KEPT | {"quotes": None})
    assert all(" ON CLUSTER 'nodes'" in sql.partition("(")[0] for sql in database.said)
    made = [sql for sql in database.said if sql.startswith("CREATE TABLE")]
    assert len(made) == len(TABLES) + len(
        ("migrations", "latest trades", "latest quotes", "coverage", "reports of before")
    )
    assert all(f"MergeTree({REPLICA}" in sql and sql.count("ENGINE = Replicated") == 1 for sql in made)
    assert made[0] == (
        "CREATE TABLE IF NOT EXISTS migrations ON CLUSTER 'nodes' (name String)"
        f" ENGINE = ReplicatedMergeTree({REPLICA}) ORDER BY name"
    )
    bars = next(sql for sql in made if "EXISTS bars " in sql)
    assert f"ENGINE = ReplicatedReplacingMergeTree({REPLICA}, version)\nPARTITION BY" in bars
    alters = [sql for sql in database.said if " TTL" in sql]
    assert alters[0].startswith("ALTER TABLE quotes ON CLUSTER 'nodes' MODIFY TTL toDateTime(")
    assert alters[-1] == "ALTER TABLE quotes ON CLUSTER 'nodes' REMOVE TTL"
    views = [sql.partition(" AS\n")[0] for sql in database.said if " VIEW " in sql]
    assert "CREATE MATERIALIZED VIEW IF NOT EXISTS coverage_feed ON CLUSTER 'nodes' TO coverage_state" in views
    assert tables_of(database)["tables"], "they are also what the engine takes"
    database.close()


def test_without_a_cluster_a_statement_stays_as_it_is() -> None:
    sql = "CREATE TABLE IF NOT EXISTS bars (time Int64) ENGINE = ReplacingMergeTree(version) ORDER BY time"
    assert on_cluster(sql, None) == sql
    assert on_cluster("CREATE DATABASE IF NOT EXISTS rayfeed", "a") == (
        "CREATE DATABASE IF NOT EXISTS rayfeed ON CLUSTER 'a'"
    )
    assert on_cluster("INSERT INTO a SELECT 1 AS b", "a") == "INSERT INTO a SELECT 1 AS b"
