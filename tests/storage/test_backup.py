"""Backups of real folders and databases: whole, cheap when little has changed, also while somebody writes."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from actors.configuration import Configuration
from actors.reports import Reports
from config import load
from storage import backup_store
from storage.backup import BackupCancelled, Copying, found_backup, prune
from storage.backup_manifest import OBJECT_BYTES, BackupError
from storage.backup_store import BackupStore, open_store
from storage.backup_verify import Verifying
from storage.clickhouse import ClickHouse
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS, IDENTITY
from tests.storage.stored import (
    DAY,
    HOUR_TWO,
    MIDNIGHT,
    append,
    backup,
    columns_of,
    content_of,
    embedded,
    fill_database,
    filled_folder,
    local,
    objects_of,
    restore,
    rows_of,
)

NOT_IN_IT = ("clickhouse", "logs", "redis", "journal", "secrets", "tls")


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Whether bytes have reached the disk shows only after a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sync", lambda: None)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None)
        yield


def views_of(database: ClickHouse) -> dict[str, list[dict[str, object]]]:
    """What those say that are made of the trades that were inserted."""
    views = {"latest_trades": "exchange, symbol", "coverage": "exchange, symbol, day"}
    return {view: database.query(f"SELECT * FROM {view} ORDER BY {key}").to_pylist() for view, key in views.items()}


def test_every_byte_and_every_row_comes_back(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    with embedded(data) as database:
        fill_database(database)
        rows, views = rows_of(database), views_of(database)
        name = backup(store, data, database.query)
    assert name == "20250828T020000Z"
    assert Verifying(store).run(name) == []
    restored = restore(store, name, tmp_path / "restored")
    assert content_of(restored, "clickhouse") == content_of(data, *NOT_IN_IT)
    with embedded(restored) as database:
        assert rows_of(database) == rows
        assert views_of(database) == views
    assert [len(views[view]) for view in ("latest_trades", "coverage")] == [2, 126]
    assert len(rows["trades"]) == 2999 + 39
    assert len(rows["gaps"]) == 33
    assert {"bars", "quality", "arbitrage"} <= rows.keys()
    assert ColumnReader(restored / "columns").symbols() == {"binance": ["BTCUSDT"], "kraken": ["BTC/USD"]}


def test_files_keep_the_times_that_say_whether_they_changed(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    restored = restore(store, backup(store, data), tmp_path / "restored")
    for path in data.glob("columns/*/*/*/*.bin"):
        assert (restored / path.relative_to(data)).stat().st_mtime_ns == path.stat().st_mtime_ns


def test_journal_and_secrets_are_in_it_only_when_asked_for(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    name = backup(store, data, journal=True, secrets=True)
    restored = restore(store, name, tmp_path / "restored")
    assert content_of(restored, "clickhouse") == content_of(data, "clickhouse", "logs", "redis")
    for private in ("secrets", "tls", "alerts"):
        assert (restored / private).stat().st_mode & 0o077 == 0
    assert (restored / "secrets/api_token").stat().st_mode & 0o077 == 0
    assert (tmp_path / "backups").stat().st_mode & 0o077 == 0


def test_a_second_backup_copies_only_what_changed(tmp_path: Path) -> None:
    data, folder = filled_folder(tmp_path / "data", days=20), tmp_path / "backups"
    with embedded(data) as database:
        fill_database(database)
        backup(local(folder), data, database.query)
        before = objects_of(folder)
        asked: list[str] = []

        def query(sql: str, parameters: object = None) -> pa.Table:
            asked.append(sql)
            return database.query(sql, parameters)  # type: ignore[arg-type]

        copying = Copying(local(folder), data, query)
        copying.run(lambda: HOUR_TWO + DAY)
        assert copying.progress.written == 0
        assert objects_of(folder) == before
        assert not any("ORDER BY trade_id" in sql or "FROM trades FINAL" in sql for sql in asked)
    append(data, "kraken", "BTC/USD", range(50, 60))
    copying = Copying(local(folder), data, None)
    copying.run(lambda: HOUR_TWO + 2 * DAY)
    # Two days of that symbol, and what lists them.
    assert len(objects_of(folder)) == len(before) + 3
    assert 0 < copying.progress.written < 10_000


def test_a_changed_file_of_the_same_size_is_copied_again(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    backup(store, data)
    for path in (data / "quality/binance.0-of-2.states", data / "columns/binance/BTCUSDT/MD/price.18.08.25.bin"):
        before = path.stat()
        path.write_bytes(b"\1" * before.st_size)
        if "quality" in path.parts:  # written as memory is
            os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    name = backup(store, data, at_ns=HOUR_TWO + DAY)
    assert content_of(restore(store, name, tmp_path / "restored"), "clickhouse") == content_of(data, *NOT_IN_IT)


def test_files_longer_than_an_object_are_cut_and_put_together(tmp_path: Path) -> None:
    data, store = tmp_path / "data", local(tmp_path / "backups")
    (data / "journal").mkdir(parents=True)
    for name, size in (("a", 2 * OBJECT_BYTES), ("b", OBJECT_BYTES + 1), ("c", 0)):
        (data / "journal" / name).write_bytes(os.urandom(size))
    restored = restore(store, backup(store, data, journal=True), tmp_path / "restored")
    assert content_of(restored, "clickhouse") == content_of(data)


def test_a_backup_that_was_cut_off_does_not_count_and_the_next_goes_on(tmp_path: Path) -> None:
    data, folder = filled_folder(tmp_path / "data", days=30), tmp_path / "backups"
    left = iter(range(10))
    copying = Copying(local(folder), data, None, cancelled=lambda: next(left, None) is None)
    with pytest.raises(BackupCancelled):
        copying.run(lambda: HOUR_TWO)
    store = local(folder)
    assert store.names() == []
    with pytest.raises(BackupError, match="there are no backups"):
        found_backup(store, "latest")
    there = objects_of(folder)
    assert there
    torn = next(iter(there))
    torn.write_bytes(torn.read_bytes()[:-1])
    times = {path: path.stat().st_mtime_ns for path in there if path != torn}
    name = backup(local(folder), data)
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what was there is not written again"
    assert Verifying(store).run(name) == []


def test_a_backup_taken_during_appends_and_merges_is_of_one_state_of_each_day(tmp_path: Path) -> None:
    data, store, done = tmp_path / "data", local(tmp_path / "backups"), threading.Event()
    append(data, "binance", "BTCUSDT", range(10, 2000))

    def write() -> None:
        """Rows after, and now and then before all others, so that the day is replaced by a merged one."""
        writer = ColumnWriter(data / "columns", 64)
        number = 2000
        while not done.is_set():
            for row_type in COLUMNS:
                ids = [number] if number % 5 else [number, number + 50_000_000]
                columns = columns_of(row_type, ids)
                if number % 5 == 0:
                    columns["time"][:] = MIDNIGHT // 1_000_000_000
                writer.append("binance", "BTCUSDT", row_type, columns)
            number += 1
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        names = [backup(store, data, at_ns=HOUR_TWO + number * DAY) for number in range(12)]
    finally:
        done.set()
        thread.join()
    counts = []
    for name in names:
        assert Verifying(store).run(name) == []
        restored = restore(store, name, tmp_path / name)
        for row_type, columns in COLUMNS.items():
            for path in (restored / "columns/binance/BTCUSDT" / row_type).iterdir():
                assert path.suffix == ".bin", "neither a marker nor what was about to be put in place"
            found = ColumnReader(restored / "columns").select("binance", "BTCUSDT", row_type, 0, 2**62, list(columns))
            ids = found.column(IDENTITY[row_type])
            assert np.unique(ids).size == ids.size >= 1990
            times = found.column("time").astype(np.int64)
            assert (np.diff(times) >= 0).all()
            for column in ("price64", "size64"):
                assert (found.column(column) == ids).all(), "columns of one state"
        counts.append(found.rows)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0], "somebody wrote"


def test_a_day_that_is_archived_during_a_backup_is_in_it(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data", days=1), local(tmp_path / "backups")
    day = data / "columns/kraken/BTC_USD"
    archived = data / "archive/kraken/BTC_USD/TRADES/2025-08-18.parquet"
    once = iter([True])

    def archive() -> bool:
        """When the first column files are copied."""
        if copying.progress.doing.startswith("columns") and next(once, False):
            archived.parent.mkdir(parents=True, exist_ok=True)
            archived.write_bytes(b"PAR1")
            archived.with_name("20318.part").write_bytes(b"PA")
            shutil.rmtree(day)
        return False

    copying = Copying(store, data, None, cancelled=archive)
    name, _ = copying.run(lambda: HOUR_TWO)
    restored = restore(store, name, tmp_path / "restored")
    assert (restored / archived.relative_to(data)).read_bytes() == b"PAR1"
    assert not list(restored.rglob("*.part"))


def test_a_merge_that_never_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.backup_sources._PATIENCE_S", 0.1)
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    (data / "columns/binance/BTCUSDT/MD/merging.19.08.25").touch()
    with pytest.raises(BackupError, match=r"BTCUSDT/MD: late rows of 19\.08\.25 have been merged"):
        backup(store, data)
    assert store.names() == []


def test_a_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_store, "LEAST_FREE", 1.0)
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    with pytest.raises(BackupError, match="make room, or back up to another place"):
        backup(store, data)
    assert store.names() == []


@pytest.mark.parametrize("kind", ["uri", "tree"])
def test_any_file_system_will_do(tmp_path: Path, kind: str) -> None:
    data, folder = filled_folder(tmp_path / "data"), tmp_path / "backups"
    folder.mkdir()

    def store() -> BackupStore:
        if kind == "uri":
            return open_store(folder.as_uri())
        return BackupStore(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), "", "a tree")

    first, second = (backup(store(), data, at_ns=HOUR_TWO + day * DAY) for day in (0, 1))
    assert store().names() == [first, second]
    assert Verifying(store()).run(second) == []
    prune(store(), 1, 1, 1)
    assert store().names() == [second]
    assert content_of(restore(store(), second, tmp_path / "restored"), "clickhouse") == content_of(data, *NOT_IN_IT)


@pytest.mark.parametrize("target", ["s4://key:hidden@bucket?token=hidden", "file://relative", "s3:///"])
def test_a_place_that_is_none_is_one_line_without_secrets(target: str) -> None:
    with pytest.raises(BackupError, match="no place for backups") as failure:
        open_store(target)
    assert "\n" not in str(failure.value)
    assert "hidden" not in str(failure.value)


def test_keys_in_the_address_of_a_place_are_not_shown() -> None:
    store = open_store("s3://key:hidden@bucket/folder?region=eu-west-1")
    assert store.shown == "s3://bucket/folder"


def test_backups_within_a_second_have_names_of_their_own(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    assert [backup(store, data) for _ in range(3)] == store.names()


def test_pruning_removes_what_nobody_names_and_nothing_else(tmp_path: Path) -> None:
    data, folder = filled_folder(tmp_path / "data"), tmp_path / "backups"
    for day in range(12):
        (data / "symbols.json").write_text(f'{{"day": {day}}}')
        backup(local(folder), data, at_ns=HOUR_TWO + day * DAY)
    before = objects_of(folder)
    gone = prune(local(folder), daily=2, weekly=1, monthly=2)
    store = local(folder)
    assert [name[:8] for name in store.names()] == ["20250831", "20250907", "20250908"]
    assert len(gone) == 9
    # Of each backup the changed file and the listing that names it.
    assert len(before) - len(objects_of(folder)) == 9 * 2
    for name in store.names():
        assert Verifying(store).run(name) == []


def test_pruning_removes_no_object_while_a_manifest_cannot_be_read(tmp_path: Path) -> None:
    data, folder = filled_folder(tmp_path / "data"), tmp_path / "backups"
    for day in range(3):
        backup(local(folder), data, at_ns=HOUR_TWO + day * DAY)
    (folder / "backups" / "20250829T020000Z.json").write_text("{}")
    before = objects_of(folder)
    with pytest.raises(BackupError, match="20250829T020000Z: the manifest is damaged"):
        prune(local(folder), 7, 4, 6)
    assert objects_of(folder) == before


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, 70), max_size=8), most=st.integers(1, 64))
def test_streams_of_files_are_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int
) -> None:
    root = tmp_path_factory.mktemp("cut")
    data, store = root / "data", local(root / "backups")
    folder = data / "columns" / "binance" / "BTCUSDT" / "OTHER"
    (data / "columns/binance/BTCUSDT/TRADES").mkdir(parents=True)
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        (folder / f"file{number}").write_bytes(os.urandom(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.backup_sources.OBJECT_BYTES", most)
        name = backup(store, data)
        assert content_of(restore(store, name, root / "restored"), "clickhouse") == content_of(data)


async def test_reports_and_changed_settings_come_back(tmp_path: Path) -> None:
    data, store = filled_folder(tmp_path / "data"), local(tmp_path / "backups")
    reports = Reports(load(data))
    said = await reports.publish({"title_vi": "Ngày", "html_vi": "<p>1</p>", "key": "daily"}, "me")
    await reports.stop()
    configuration = Configuration(load(data))
    configuration.change({"retention": {"quotes": 3650}}, "keep ten years", "me", 0)
    configuration.close()

    restored = restore(store, backup(store, data, journal=True, secrets=True), tmp_path / "restored")

    again = Configuration(load(restored))
    there = Reports(load(restored))
    assert again.settings.retention["quotes"] == 3650
    assert (await there.report(said["id"])).pages.html_vi == "<p>1</p>"
