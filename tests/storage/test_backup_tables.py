"""Tables as pieces and back, on both engines: each row once, whatever the key is and whatever is merged meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from storage.backup_manifest import BackupError
from storage.backup_restore import Restoring
from storage.backup_tables import (
    Table,
    from_parquet,
    migrations_of,
    partitions,
    pieces,
    rows_in,
    tables_made_by,
    tables_of,
    to_parquet,
)
from storage.backup_verify import Verifying
from storage.clickhouse import ClickHouse, open_clickhouse
from storage.clickhouse_migrations import MIGRATIONS
from tests.servers import ClickHouseServer, needs_clickhouse_server
from tests.storage.clickhouses import server
from tests.storage.stored import (
    SECOND,
    backup,
    content_of,
    embedded,
    fill_database,
    filled_folder,
    local,
    restore,
    rows_of,
    trades,
)

__all__ = ["server"]


ALL = sorted(file.name for file in MIGRATIONS.glob("*.sql"))
#: What the old server of the tests does not know.
CODECS = {"0022_codecs.sql"}


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Whether bytes have reached the disk shows only after a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sync", lambda: None)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None)
        yield


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
def database(request: pytest.FixtureRequest, server: ClickHouseServer | None, tmp_path: Path) -> Iterator[ClickHouse]:
    url = server.url if server is not None and request.param == "server" else None
    opened = open_clickhouse(url, tmp_path / "clickhouse")
    opened.migrate()
    for table in tables_of(opened.query):
        opened.query(f"TRUNCATE TABLE {table.name}")
    fill_database(opened)
    yield opened
    opened.close()


def table(database: ClickHouse, name: str) -> Table:
    return next(one for one in tables_of(database.query) if one.name == name)


def test_there_is_a_table_for_each_that_the_migrations_make(database: ClickHouse) -> None:
    assert {one.name for one in tables_of(database.query)} == tables_made_by(ALL) - {"migrations"}
    waits_for_a_newer_server = CODECS if database.kind == "server" else set()
    assert migrations_of(database.query) == [name for name in ALL if name not in waits_for_a_newer_server]


@pytest.mark.parametrize("most", [50, 700, 10**6])
def test_each_row_a_query_sees_is_in_one_piece(database: ClickHouse, most: int) -> None:
    trades_table = table(database, "trades")
    ids: list[int] = []
    for partition, _ in partitions(database.query, trades_table):
        for piece in pieces(database.query, trades_table, partition, most):
            # Counted without looking which rows replace which: half of them are there twice.
            assert piece.num_rows <= most
            ids += piece["trade_id"].to_pylist()
    assert sorted(ids) == sorted([*range(1, 3000), *range(1, 40)])


def test_a_stamp_changes_with_the_rows_of_its_partition_alone(database: ClickHouse) -> None:
    before = dict(partitions(database.query, table(database, "trades")))
    assert len(before) == 5
    assert dict(partitions(database.query, table(database, "trades"))) == before
    database.insert("trades", trades([7_000], every_ns=SECOND))
    after = dict(partitions(database.query, table(database, "trades")))
    assert [partition for partition in before if before[partition] != after[partition]] == [min(before)]


def test_what_is_inserted_meanwhile_hurts_no_row_that_was_there(database: ClickHouse) -> None:
    trades_table = table(database, "trades")
    (first, *_), seen = partitions(database.query, trades_table), []
    for number, piece in enumerate(pieces(database.query, trades_table, first[0], 60)):
        seen += piece["trade_id"].to_pylist()
        database.insert("trades", trades([100_000 + number, -5 - number], every_ns=1))
        if number % 4 == 0:
            database.query("OPTIMIZE TABLE trades FINAL")
    wanted = database.query(
        "SELECT trade_id FROM trades FINAL WHERE _partition_id = {p:String} AND trade_id BETWEEN 1 AND 2999"
        " AND exchange = 'binance'",
        {"p": first[0]},
    )["trade_id"].to_pylist()
    assert set(wanted) <= set(seen)
    assert len(seen) - len(set(seen)) <= 39, "ids of the other symbol"


@needs_clickhouse_server
def test_a_server_and_the_embedded_database_restore_each_other(server: ClickHouseServer | None, tmp_path: Path) -> None:
    assert server is not None
    url = server.url.replace("/rayfeed", "/other")
    theirs = open_clickhouse(url, tmp_path)
    fill_database(theirs)
    rows = rows_of(theirs)
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    first = backup(store, data, theirs.query)
    theirs.query("DROP DATABASE other")
    theirs.close()
    restored = restore(store, first, tmp_path / "restored")
    with embedded(restored) as ours:
        assert rows_of(ours) == rows
        second = backup(store, restored, ours.query)

    Restoring(store, second, tmp_path / "again", lambda _: open_clickhouse(url, tmp_path)).run()
    theirs = open_clickhouse(url, tmp_path)
    assert rows_of(theirs) == rows
    assert content_of(tmp_path / "again") == content_of(restored, "clickhouse")
    with pytest.raises(BackupError, match="the database is not empty: table gaps has rows"):
        Restoring(store, second, tmp_path / "third", lambda _: open_clickhouse(url, tmp_path)).run()
    assert rows_of(theirs) == rows
    theirs.query("DROP DATABASE other")
    theirs.close()


ODD = """CREATE TABLE IF NOT EXISTS odd (name String, at DateTime64(6, 'UTC'), seen DateTime('UTC'), day Date,
 good Bool, tags Array(LowCardinality(String)), words Map(String, UInt8), kind Enum8('x' = 1, 'y' = 2), id UUID,
 money Decimal(18, 4), note Nullable(String), made String MATERIALIZED upper(name), other String ALIAS lower(name))
 ENGINE = MergeTree PARTITION BY day ORDER BY (name, at)"""
TOTALS = """CREATE TABLE IF NOT EXISTS totals (exchange LowCardinality(String), trades UInt64)
 ENGINE = SummingMergeTree ORDER BY exchange"""
TOTALS_VIEW = """CREATE MATERIALIZED VIEW IF NOT EXISTS totals_view TO totals AS
 SELECT exchange, toUInt64(count()) AS trades FROM trades GROUP BY exchange"""
STATES = """CREATE TABLE IF NOT EXISTS states (exchange LowCardinality(String), ids AggregateFunction(uniq, Int64))
 ENGINE = AggregatingMergeTree ORDER BY exchange"""
STATES_VIEW = """CREATE MATERIALIZED VIEW IF NOT EXISTS states_view TO states AS
 SELECT exchange, uniqState(trade_id) AS ids FROM trades GROUP BY exchange"""


def test_tables_of_other_kinds_and_what_views_made_of_them_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    for number, sql in enumerate((ODD, TOTALS, TOTALS_VIEW, STATES, STATES_VIEW)):
        (folder / f"9{number:03}_more.sql").write_text(sql)
    for file in MIGRATIONS.glob("*.sql"):
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("storage.backup_restore.MIGRATIONS", folder)
    monkeypatch.setattr("storage.clickhouse_migrations.apply_migrations.__defaults__", (folder,))
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    with embedded(data) as database:
        fill_database(database)
        database.query(
            "INSERT INTO odd (name, at, seen, day, good, tags, words, kind, id, money, note) SELECT"
            " concat('n', toString(number)), now64(6), now(), today() - number % 3, number % 2 = 0, ['a', 'b'],"
            " map('k', 1), 'y', generateUUIDv4(), number / 7, if(number % 2 = 0, NULL, 'x') FROM numbers(1000)"
        )
        # What it counted is gone since: only its own rows still say so.
        database.query("ALTER TABLE trades DELETE WHERE exchange = 'kraken' SETTINGS mutations_sync = 2")
        odd = database.query("SELECT *, made, other FROM odd ORDER BY name").to_pylist()
        totals = database.query("SELECT * FROM totals FINAL ORDER BY exchange").to_pylist()
        assert totals == [{"exchange": "binance", "trades": 2 * 2999}, {"exchange": "kraken", "trades": 39}]
        name = backup(store, data, database.query)
    assert Verifying(store).run(name) == []
    with embedded(restore(store, name, tmp_path / "restored")) as database:
        assert database.query("SELECT *, made, other FROM odd ORDER BY name").to_pylist() == odd
        assert database.query("SELECT * FROM totals FINAL ORDER BY exchange").to_pylist() == totals
        states = "SELECT exchange, uniqMerge(ids) AS n FROM states GROUP BY exchange ORDER BY exchange"
        assert database.query(states).to_pylist() == [{"exchange": "binance", "n": 2999}]
        database.insert("trades", trades([1], "okx"))
        assert database.query("SELECT count() AS n FROM totals WHERE exchange = 'okx'").to_pylist() == [{"n": 1}]


def test_parquet_gives_back_what_it_was_given_and_damage_is_told() -> None:
    rows = trades(range(100))
    content = to_parquet(rows)
    assert from_parquet(content).equals(rows)
    assert rows_in(content) == 100
    for damaged in (b"", content.to_pybytes()[:-10], b"PAR1" * 10):
        with pytest.raises(BackupError, match="no Parquet file"):
            rows_in(damaged)
        with pytest.raises(BackupError, match="no Parquet file"):
            from_parquet(pa.py_buffer(damaged))


def test_tables_that_a_migration_took_away_are_not_expected(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE IF NOT EXISTS one (a Int64) ENGINE = Memory")
    (tmp_path / "0002_b.sql").write_text("create table two (a Int64) ENGINE = Memory")
    (tmp_path / "0003_c.sql").write_text("DROP TABLE IF EXISTS one")
    assert tables_made_by(["0001_a.sql", "0002_b.sql"], tmp_path) == {"one", "two"}
    assert tables_made_by(["0001_a.sql", "0002_b.sql", "0003_c.sql"], tmp_path) == {"two"}
    assert tables_made_by(["0001_a.sql", "9999_unknown.sql", "../0002_b.sql"], tmp_path) == {"one", "two"}
