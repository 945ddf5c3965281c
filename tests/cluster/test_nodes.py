"""A second node joins a running system, takes symbols with their files, is lost with its power and comes back: nothing
is lost or doubled, and every row can be read at the front door of the first while its node is there."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cluster.instance import Instance as Running
from config.node_folder import VARIABLE
from storage.column_reader import ColumnReader
from tests.cluster.running import RAYFEED, Instance, command, rayfeed_up
from tests.polling import wait_until

SYMBOLS = [f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "BNB", "LINK", "DOGE")]
WITHIN_S = 90.0
FIRST = "type=TRADES&start=0&end=1&columns=id"


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    quick = {
        "RAYFEED_SIMULATOR__TRADES_PER_SECOND": "1000",
        "RAYFEED_EXCHANGES__BINANCE__SYMBOLS": json.dumps(SYMBOLS),
        "RAYFEED_EXCHANGES__COINBASE__SYMBOLS": '["BTC-USD"]',
        "RAYFEED_SHARDS": "1",
        "RAYFEED_PLACEMENT__LOST_AFTER_S": "3",
    }
    data = tmp_path_factory.mktemp("nodes") / "data"
    with rayfeed_up(data, "--exchanges", "binance,coinbase", environment=quick) as instance:
        wait_until(lambda: len(instance.json("/api/symbols")["symbols"]) == len(SYMBOLS) + 1)
        yield instance


@pytest.fixture(scope="module")
def two(lively: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Another node with its data folder, until a test cuts it off; it has some of the symbols, and each is whole."""
    firsts = {symbol: int(ids(lively, symbol)[0]) for symbol in SYMBOLS}
    other = tmp_path_factory.mktemp("two") / "other"
    with joined(lively, other) as node:
        wait_until(lambda: nodes(lively) == 2, WITHIN_S)
        assert 0 < scaled(lively, "2") <= len(SYMBOLS)
        wait_until(lambda: sorted([*folders(lively.data), *folders(other)]) == sorted(SYMBOLS), WITHIN_S)
        assert folders(lively.data)
        assert folders(other)
        wait_until(lambda: is_whole(lively, firsts), WITHIN_S)
        yield node, other


@contextmanager
def joined(instance: Instance, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another node of the instance's Ray, on this machine, with a data folder of its own. Its end is that of a machine
    whose power is cut."""
    running = Running.read(instance.data)
    assert running is not None and running.details is not None
    details = running.details
    environment = {**os.environ, VARIABLE: str(data), "RAY_AUTH_TOKEN_PATH": str(details.ray_token_file)}
    arguments = ["start", "--address", str(details.ray_address), "--block", "--num-cpus", "2"]
    arguments += ["--object-store-memory", str(100 << 20), "--disable-usage-stats"]
    with (data.parent / f"{data.name}.log").open("ab") as log:
        node = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), *arguments],
            env={**environment, "RAY_AUTH_MODE": "token"},
            stdout=log,
            stderr=log,
        )
    try:
        yield node
    finally:
        cut(node)


def cut(node: subprocess.Popen[bytes]) -> None:
    """Everything of a node at once."""
    if node.poll() is None:
        family = psutil.Process(node.pid).children(recursive=True)
        node.send_signal(signal.SIGKILL)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()


def ids(instance: Instance, symbol: str) -> np.ndarray[Any, Any]:
    """For a moment after a node is lost it is said to ask again."""
    wait_until(lambda: instance.get(f"/api/data?exchange=binance&symbol={symbol}&{FIRST}")[0] == 200, WITHIN_S)
    return instance.rows("binance", symbol, "TRADES", "id")["id"].astype(np.int64)


def grows(instance: Instance) -> None:
    before = {symbol: int(ids(instance, symbol)[-1]) for symbol in SYMBOLS}

    def later() -> bool:
        now = {symbol: ids(instance, symbol) for symbol in SYMBOLS}
        return all(len(found) and found[-1] > before[symbol] for symbol, found in now.items())

    wait_until(later, WITHIN_S)


def is_whole(instance: Instance, firsts: dict[str, int]) -> bool:
    """Every trade since the first, once; while some are fetched again it is not yet."""
    for symbol, first in firsts.items():
        found = ids(instance, symbol)
        assert len(np.unique(found)) == len(found), f"{symbol}: a trade is there twice"
        if not np.array_equal(found, np.arange(first, first + len(found))):
            return False
    return True


def folders(data: Path) -> set[str]:
    found = data / "columns" / "binance"
    return {path.name for path in found.iterdir() if not path.name.startswith(".")} if found.is_dir() else set()


def nodes(instance: Instance) -> int:
    return int(instance.inside("answer = sum(node['Alive'] for node in ray.nodes())"))


def joiner(instance: Instance) -> str:
    """As Ray names the node that is not the first; both have the address of this machine."""
    alive = "node['Alive'] and 'node:__internal_head__' not in node['Resources']"
    (found,) = instance.inside(f"answer = [node['NodeID'] for node in ray.nodes() if {alive}]")
    return str(found)


def first_node(instance: Instance) -> str:
    return str(instance.inside("answer = ray.get_runtime_context().get_node_id()"))


def collectors(instance: Instance) -> list[dict[str, Any]]:
    """What each said last."""
    return [one for name, one in instance.actors().items() if name.startswith("collector:")]


def collected_on(instance: Instance) -> set[str]:
    """The nodes that have collectors, all of which work."""
    return {
        one["node"] if one["answers"] and one["state"] == "streaming" else "nowhere" for one in collectors(instance)
    }


def scaled(instance: Instance, shards: str, *more: str) -> int:
    """How many symbols have moved."""
    done = command("scale", "--shards", shards, *more, "--data", str(instance.data), "--json")
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["moved"])


def audited(instance: Instance) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of an audit that holds every trade against the one that was made."""
    done = command("audit", "--against", "sim", "--data", str(instance.data), "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def is_restored(instance: Instance, place: Path, restored: Path, later: dict[str, int]) -> None:
    """A backup has what both disks have, whole, and comes back in one folder."""
    made = command("backup", "--to", str(place), "--data", str(instance.data), "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["lacks"] == []
    again = command("restore", "latest", "--from", str(place), "--data", str(restored))
    assert again.returncode == 0, again.stderr
    reader = ColumnReader(restored / "columns")
    for symbol, last in later.items():
        found = reader.select("binance", symbol, "TRADES", 0, 2**62, ["id"]).column("id")
        assert np.array_equal(found, np.arange(found[0], found[0] + len(found), dtype="u8")), symbol
        assert found[-1] >= last, f"{symbol}: what was stored before the backup is not in it"


def is_recorded_on_the_first(instance: Instance) -> None:
    """Wherever a collector is, its journal is where the instance was started."""
    arguments = ["record", "--exchanges", "coinbase", "--data", str(instance.data), "--json"]
    recording = subprocess.Popen([RAYFEED, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        journal = instance.data / "journal"
        # More than a connection's beginning.
        wait_until(lambda: sum(file.stat().st_size for file in journal.glob("*-coinbase.journal")) > 20_000, WITHIN_S)
        recording.send_signal(signal.SIGINT)
        said, _ = recording.communicate(timeout=WITHIN_S)
    finally:
        recording.kill()
    assert recording.returncode == 0
    taken = json.loads(said)["exchanges"]["coinbase"]
    assert (taken["frames"] > 0, taken["failure"]) == (True, ""), taken


def test_the_node_that_joined_has_symbols_with_all_their_rows_and_collectors(
    two: tuple[subprocess.Popen[bytes], Path], lively: Instance, tmp_path: Path
) -> None:
    _, other = two
    nodes_now = {first_node(lively), joiner(lively)}
    # Collectors go where shards are.
    wait_until(lambda: collected_on(lively) == nodes_now, WITHIN_S)
    is_recorded_on_the_first(lively)
    wait_until(lambda: collected_on(lively) == nodes_now, WITHIN_S)
    assert sorted(lively.json("/api/symbols")["exchanges"]["binance"]) == sorted(SYMBOLS)
    grows(lively)
    status, said = audited(lively)
    assert (status, said["whole"], said["not_audited"]) == (0, True, []), said
    hosts = {row["symbol"]: row["host"] for row in said["symbols"]}
    assert hosts.keys() == {*SYMBOLS, "BTC-USD"}, "those of both disks"
    assert len({hosts[symbol] for symbol in folders(other)}) == 1 and len(set(hosts.values())) == 2
    assert all(row["against"]["made"] > 0 for row in said["symbols"])
    verified = command("verify", "--data", str(lively.data), "--json")
    assert json.loads(verified.stdout)["days"] >= 2 * len(SYMBOLS), verified.stdout
    is_restored(lively, tmp_path / "place", tmp_path / "restored", {one: int(ids(lively, one)[-1]) for one in SYMBOLS})


def test_the_node_is_lost_with_its_power_comes_back_and_is_taken_away(
    two: tuple[subprocess.Popen[bytes], Path], lively: Instance, tmp_path: Path
) -> None:
    node, other = two
    firsts = {symbol: int(ids(lively, symbol)[0]) for symbol in SYMBOLS}
    first, gone = first_node(lively), folders(other)
    cut(node)
    status, said = audited(lively)
    assert (status, said["whole"], len(said["not_audited"])) == (1, False, 1), said
    assert command("verify", "--data", str(lively.data)).returncode == 1
    lacking = command("backup", "--to", str(tmp_path / "place"), "--data", str(lively.data))
    assert (lacking.returncode, "NOT in it: the host with disk" in lacking.stderr) == (1, True), lacking.stderr
    wait_until(lambda: gone <= folders(lively.data), WITHIN_S)
    wait_until(lambda: collected_on(lively) == {first}, WITHIN_S)
    grows(lively)
    with joined(lively, other):
        wait_until(lambda: is_whole(lively, firsts), WITHIN_S)
        wait_until(lambda: folders(other) == set(), WITHIN_S)
        grows(lively)
        assert is_whole(lively, firsts)
        wait_until(lambda: audited(lively)[0] == 0, WITHIN_S)
        scaled(lively, "2")
        wait_until(lambda: folders(other), WITHIN_S)
        # Before it is taken away for good.
        scaled(lively, "2", "--without", joiner(lively))
        wait_until(lambda: folders(other) == set(), WITHIN_S)
        wait_until(lambda: collected_on(lively) == {first}, WITHIN_S)
        wait_until(lambda: is_whole(lively, firsts), WITHIN_S)
    grows(lively)
    refused = command("scale", "--shards", "1", "--without", "192.0.2.1", "--data", str(lively.data))
    assert (refused.returncode, "no host 192.0.2.1" in refused.stderr) == (1, True)
