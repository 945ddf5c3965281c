"""Backups of a running instance: made, listed, checked and restored by the commands, while trades come in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.backup_manifest import Manifest
from storage.backup_store import BackupStore, open_store
from storage.backup_tables import tables_of
from storage.clickhouse import open_clickhouse
from storage.column_reader import ColumnReader
from tests.cluster.running import Instance, command
from tests.polling import wait_until

EXCHANGE, SYMBOL = "binance", "BTCUSDT"
TRADES = "SELECT symbol, trade_id, price, size FROM trades FINAL WHERE exchange = 'binance'"


def said(*arguments: str) -> Any:
    """What a command that succeeds says."""
    ended = command(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def trades_of(rows: dict[str, list[Any]]) -> set[tuple[Any, ...]]:
    return set(zip(*(rows[name] for name in ("symbol", "trade_id", "price", "size")), strict=True))


def stored(instance: Instance) -> set[tuple[Any, ...]]:
    """Every trade that is in the ClickHouse of the instance by now."""
    return trades_of(instance.inside(f"answer = ray.get(find_actor('database').query.remote({TRADES!r})).to_pydict()"))


def check_files(store: BackupStore, manifest: Manifest, restored: Path) -> int:
    """Every byte of the restored files is what the manifest says; how many column files there are."""
    found = set()
    for section in manifest.files:
        for files in store.listing(section.listing).files:
            paths = [restored / files.folder / file.name for file in files.files]
            assert [path.stat().st_size for path in paths] == [file.size for file in files.files]
            content = b"".join(path.read_bytes() for path in paths)
            assert content == b"".join(store.get(packed).to_pybytes() for packed in files.objects), paths
            found.update(paths)
    there = {path for path in restored.rglob("*") if path.is_file() and "clickhouse" not in path.parts}
    assert there == found, "nothing else"
    return len([path for path in found if path.suffix == ".bin"])


@pytest.mark.timeout(120)
def test_a_running_instance_is_backed_up_checked_and_restored(simulated: Instance, tmp_path: Path) -> None:
    data, place, restored = str(simulated.data), str(tmp_path / "backups"), tmp_path / "restored"
    wait_until(lambda: stored(simulated))
    there_before = stored(simulated)
    made = said("backup", "--to", place, "--data", data)
    there_after = stored(simulated)
    assert [row["backup"] for row in said("backup", "list", "--to", place)] == [made["backup"]]

    live = said("verify", "--data", data)
    assert live["whole"] and live["days"] >= 4 and live["rows"] > 0
    assert said("verify", "latest", "--to", place) == {
        "whole": True,
        "backups": [{"backup": made["backup"], "whole": True, "wrong": []}],
    }

    again = said("restore", "latest", "--from", place, "--data", str(restored))
    assert (again["backup"], again["tables"], again["files"]) == (made["backup"], made["tables"], made["files"])
    store = open_store(place)
    manifest = store.manifest(made["backup"])
    assert check_files(store, manifest, restored) > 8 * 4
    ids = ColumnReader(restored / "columns").select(EXCHANGE, SYMBOL, "TRADES", 0, 2**62, ["id"]).column("id")
    assert ids.size > 0
    assert np.isin(ids, simulated.rows(EXCHANGE, SYMBOL, "TRADES", "id")["id"]).all()

    database = open_clickhouse(None, restored / "clickhouse")
    try:
        counts = {
            table.name: database.query(f"SELECT count() AS n FROM {table.source}")["n"][0].as_py()
            for table in tables_of(database.query)
        }
        trades = trades_of(database.query(TRADES).to_pydict())
    finally:
        database.close()
    assert counts.keys() >= {"trades", "bars", "gaps"}
    assert counts == made["tables"]
    assert there_before <= trades <= there_after

    before = {path: path.stat().st_mtime_ns for path in restored.rglob("*")}
    refused = command("restore", "latest", "--from", place, "--data", str(restored))
    assert refused.returncode != 0
    assert refused.stderr.strip().endswith("is not empty; name a new folder with --data, nothing was changed")
    assert {path: path.stat().st_mtime_ns for path in restored.rglob("*")} == before


def test_a_second_backup_by_the_instance_writes_little_and_says_where(simulated: Instance) -> None:
    first, second = (said("backup", "--data", str(simulated.data)) for _ in range(2))
    assert first["backup"] < second["backup"]
    assert first["to"] == second["to"] == str(simulated.data / "backups")
    status = simulated.actors()["backups"]
    assert status["failure"] == ""
    wait_until(lambda: simulated.actors()["backups"]["newest"] == second["backup"])
