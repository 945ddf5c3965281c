"""Nothing that happens to a backup goes unseen, and nothing that a backup says leads out of the folder it is restored
to."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.backup import objects_of as named
from storage.backup_manifest import (
    BackupError,
    File,
    Files,
    Listing,
    Manifest,
    Packed,
    Section,
    decoded_listing,
    decoded_manifest,
    encoded_listing,
    encoded_manifest,
)
from storage.backup_restore import Restoring
from storage.backup_store import BackupStore
from storage.backup_verify import Verifying
from storage.clickhouse import open_clickhouse
from tests.storage.stored import (
    HOUR_TWO,
    backup,
    content_of,
    embedded,
    fill_database,
    filled_folder,
    gaps,
    local,
    objects_of,
    restore,
)


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Whether bytes have reached the disk shows only after a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sync", lambda: None)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole backup, in `backups`; what changes it puts it back."""
    root = tmp_path_factory.mktemp("made")
    with embedded(filled_folder(root / "data")) as database:
        fill_database(database)
        backup(local(root / "backups"), root / "data", database.query)
    return root / "backups"


NAME = "20250828T020000Z"


def wrong(folder: Path) -> list[str]:
    return Verifying(local(folder)).run(NAME)


def change(folder: Path, work: Callable[[Manifest, BackupStore], Manifest]) -> bytes:
    """Let the manifest be another one, with a checksum that is right; gives what it was."""
    path = folder / "backups" / f"{NAME}.json"
    before = path.read_bytes()
    store = local(folder)
    store.find_objects()
    path.write_bytes(encoded_manifest(work(decoded_manifest(before), store)))
    return before


def test_a_whole_backup_has_nothing_wrong(made: Path) -> None:
    assert wrong(made) == []


def test_every_object_is_looked_at(made: Path) -> None:
    """The first, a middle and the last byte of each object, each object cut off, and each one gone."""
    assert len(objects_of(made)) > 20
    for path, size in objects_of(made).items():
        content = path.read_bytes()
        for at in {0, size // 2, size - 1}:
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert any(f"object {path.name} was changed" in line for line in wrong(made)), path
        path.write_bytes(content[:-1])
        assert any(f"object {path.name} is cut off" in line for line in wrong(made))
        path.write_bytes(content + b"\0")
        assert any(f"object {path.name} is longer than" in line for line in wrong(made))
        path.unlink()
        assert any(f"object {path.name} is missing" in line for line in wrong(made))
        path.write_bytes(content)
    assert wrong(made) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_manifest_with_another_byte_is_no_manifest(made: Path, data: st.DataObject) -> None:
    path = made / "backups" / f"{NAME}.json"
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    for damaged in (content[:at] + bytes([other]) + content[at + 1 :], content[:at]):
        try:
            path.write_bytes(damaged)
            assert [line for line in wrong(made) if NAME in line]
        finally:
            path.write_bytes(content)


@pytest.mark.parametrize("table", ["trades", "arbitrage"])
def test_a_missing_table_is_found_and_not_restored(made: Path, tmp_path: Path, table: str) -> None:
    """Whether it had rows or none."""
    before = change(
        made, lambda m, _: msgspec.structs.replace(m, tables=[one for one in m.tables if one.name != table])
    )
    try:
        assert wrong(made) == [f"backup {NAME}: table {table} is missing"]
        with pytest.raises(BackupError, match=f"table {table} is missing"):
            restore(local(made), NAME, tmp_path / "restored")
        assert list(tmp_path.iterdir()) == []
    finally:
        (made / "backups" / f"{NAME}.json").write_bytes(before)


def one_more(section: Section, store: BackupStore) -> Section:
    return msgspec.structs.replace(section, rows=None if section.rows is None else section.rows + 1, size=section.size)


def one_more_in_the_listing(section: Section, store: BackupStore) -> Section:
    listing = store.listing(section.listing)
    if not listing.rows:
        return section
    part = listing.rows[0]
    parts = [msgspec.structs.replace(part, rows=[part.rows[0] + 1, *part.rows[1:]]), *listing.rows[1:]]
    packed, _ = store.put(encoded_listing(Listing(rows=parts)))
    return msgspec.structs.replace(section, listing=packed, rows=(section.rows or 0) + 1)


def one_partition_less(section: Section, store: BackupStore) -> Section:
    listing = store.listing(section.listing)
    packed, _ = store.put(encoded_listing(Listing(rows=listing.rows[1:])))
    return msgspec.structs.replace(section, listing=packed) if listing.rows else section


@pytest.mark.parametrize("other", [one_more, one_more_in_the_listing, one_partition_less])
def test_rows_that_do_not_add_up_are_found_and_not_restored(
    made: Path, tmp_path: Path, other: Callable[[Section, BackupStore], Section]
) -> None:
    before = change(made, lambda m, store: msgspec.structs.replace(m, tables=[other(one, store) for one in m.tables]))
    try:
        lines = wrong(made)
        assert any("table trades: " in line and "rows" in line for line in lines), lines
        with pytest.raises(BackupError, match="rows"):
            restore(local(made), NAME, tmp_path / "restored")
        assert list(tmp_path.iterdir()) == []
    finally:
        (made / "backups" / f"{NAME}.json").write_bytes(before)


def test_a_file_left_out_of_a_listing_is_found(made: Path) -> None:
    def shorter(manifest: Manifest, store: BackupStore) -> Manifest:
        section = next(one for one in manifest.files if one.name == "columns/binance/BTCUSDT")
        packed, _ = store.put(encoded_listing(Listing(files=store.listing(section.listing).files[:-1])))
        others = [one for one in manifest.files if one is not section]
        return msgspec.structs.replace(manifest, files=[*others, msgspec.structs.replace(section, listing=packed)])

    before = change(made, shorter)
    try:
        (line,) = wrong(made)
        assert "columns/binance/BTCUSDT: has" in line
    finally:
        (made / "backups" / f"{NAME}.json").write_bytes(before)


def test_a_damaged_object_is_not_restored(made: Path, tmp_path: Path) -> None:
    store = local(made)
    for packed in list(named(store, [store.manifest(NAME)]))[::5]:
        path = made / "objects" / packed.checksum[:2] / packed.checksum
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BackupError, match=f"object {path.name} was changed"):
            restore(local(made), NAME, tmp_path / "restored")
        path.write_bytes(content)
        assert list(tmp_path.iterdir()) == []


def test_only_a_new_or_empty_folder_is_restored_to(made: Path, tmp_path: Path) -> None:
    empty, full, file = (tmp_path / name for name in ("empty", "full", "file"))
    empty.mkdir()
    full.mkdir()
    (full / "mine").write_text("precious")
    file.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(full)
    for target, why in ((full, "is not empty"), (file, "is no folder"), (link, "is no folder")):
        with pytest.raises(BackupError, match=why):
            restore(local(made), NAME, target)
    assert content_of(tmp_path) == {"full/mine": b"precious", "file": b"precious"} | {
        path: content for path, content in content_of(tmp_path).items() if path.startswith("link/")
    }
    restore(local(made), NAME, empty)
    assert (empty / "columns/kraken/BTC_USD/symbol").read_text() == "BTC/USD"
    restore(local(made), NAME, tmp_path / "not" / "there" / "yet")


def test_a_restore_that_was_cut_off_is_none(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed just before the folder gets its name."""
    killed = RuntimeError("killed")

    def die() -> None:
        raise killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "sync", die)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(RuntimeError):
            restore(local(made), NAME, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".restored.restoring-")
    restore(local(made), NAME, tmp_path / "restored")


def test_a_database_with_rows_is_left_alone(made: Path, tmp_path: Path) -> None:
    mine = open_clickhouse(None, tmp_path / "mine")
    mine.migrate()
    mine.insert("gaps", gaps([1]))
    with pytest.raises(BackupError, match="the database is not empty: table gaps has rows"):
        Restoring(local(made), NAME, tmp_path / "restored", lambda _: mine).run()
    assert not (tmp_path / "restored").exists()
    mine = open_clickhouse(None, tmp_path / "mine")
    assert mine.query("SELECT count() AS n FROM gaps").to_pylist() == [{"n": 1}]
    assert mine.query("SELECT count() AS n FROM trades").to_pylist() == [{"n": 0}]
    mine.close()


def test_what_a_failed_restore_loaded_is_taken_back(made: Path, tmp_path: Path) -> None:
    mine = open_clickhouse(None, tmp_path / "mine")
    before = change(made, lambda m, _: msgspec.structs.replace(m, tables=[one_more(one, _) for one in m.tables]))
    try:
        with pytest.raises(BackupError, match="after it was restored"):
            Restoring(local(made), NAME, tmp_path / "restored", lambda _: mine).run()
    finally:
        (made / "backups" / f"{NAME}.json").write_bytes(before)
    mine = open_clickhouse(None, tmp_path / "mine")
    assert mine.query("SELECT count() AS n FROM trades").to_pylist() == [{"n": 0}]
    mine.close()


def test_a_backup_of_a_newer_version_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    before = change(
        made,
        lambda m, _: msgspec.structs.replace(m, version="99.0", migrations=[*m.migrations, "9999_flux.sql"]),
    )
    try:
        with pytest.raises(BackupError, match=r"made by rayfeed 99\.0, .* \(9999_flux\.sql\)"):
            restore(local(made), NAME, tmp_path / "restored")
    finally:
        (made / "backups" / f"{NAME}.json").write_bytes(before)


@pytest.mark.parametrize("name", ["", "../secret", "20250828T020000Z/../x", "20990101T000000Z"])
def test_a_backup_that_is_none_is_named(made: Path, name: str) -> None:
    with pytest.raises(BackupError, match=r"is no backup|there is no backup"):
        local(made).manifest(name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("", "../evil"),
        ("..", "settings.yaml"),
        ("columns/..", "evil"),
        ("/etc", "passwd"),
        ("columns//etc", "passwd"),
        ("columns", ".."),
        ("columns", "a/../../evil"),
        ("columns", ""),
        ("columns", "a\0b"),
        ("clickhouse", "evil"),
        ("", "instance.json"),
        ("settings.yaml", "inside"),
        ("", "columns"),
        ("redis", "dump.rdb"),
    ],
)
def test_no_name_leads_anywhere_else(folder: str, name: str) -> None:
    listing = Listing(files=[Files(folder, [File(name, 0, 1, 1)], [])])
    with pytest.raises(BackupError, match="is not what a backup may hold"):
        decoded_listing(encoded_listing(listing))


@pytest.mark.parametrize(
    "other",
    [
        {"objects": [["../../../etc/passwd", 1, 0]]},
        {"objects": [["a" * 64, -1, 0]]},
        {"objects": [["a" * 64, 10, 1 << 60]]},
        {"objects": [["a" * 64, 10, 0]]},
        {"files": []},
        {"files": [["time.18.08.25.bin", -5, 1, 1]]},
    ],
)
def test_a_listing_that_does_not_add_up_is_refused(other: dict[str, Any]) -> None:
    listing = {"files": [{"folder": "columns", "files": [["a", 0, 1, 1]], "objects": [], **other}]}
    with pytest.raises(BackupError):
        decoded_listing(msgspec.json.encode(listing))


def test_a_table_may_not_be_called_like_sql(made: Path) -> None:
    section = Section("trades; DROP TABLE gaps", Packed("a" * 64, 1, 0), 0, 0, 0)
    before = change(made, lambda m, _: msgspec.structs.replace(m, tables=[*m.tables, section]))
    try:
        assert [line for line in wrong(made) if "is no name of a table" in line]
    finally:
        (made / "backups" / f"{NAME}.json").write_bytes(before)


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    store = local(tmp_path / "backups")
    store.find_objects()
    packed, _ = store.put(b"content")
    twice = Files("ledger", [File("shard-0.log", 7, 1, 1)], [packed])
    listing, _ = store.put(encoded_listing(Listing(files=[twice, twice])))
    section = Section("ledger", listing, 2, None, 14)
    manifest = Manifest(
        version="1", began=HOUR_TWO, ended=HOUR_TWO, files=[section], tables=[], migrations=[], written=0
    )
    store.write_manifest(NAME, manifest)
    with pytest.raises(BackupError, match=r"shard-0\.log of ledger twice"):
        restore(store, NAME, tmp_path / "restored")
