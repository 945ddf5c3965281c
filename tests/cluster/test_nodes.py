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
from tests.cluster.running import Instance, command, rayfeed_up
from tests.polling import wait_until

SYMBOLS = [f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "BNB", "LINK", "DOGE")]
WITHIN_S = 90.0
FIRST = "type=TRADES&start=0&end=1&columns=id"


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    quick = {
        "RAYFEED_SIMULATOR__TRADES_PER_SECOND": "1000",
        "RAYFEED_EXCHANGES__BINANCE__SYMBOLS": json.dumps(SYMBOLS),
        "RAYFEED_SHARDS": "1",
        "RAYFEED_PLACEMENT__LOST_AFTER_S": "3",
    }
    data = tmp_path_factory.mktemp("nodes") / "data"
    with rayfeed_up(data, environment=quick) as instance:
        wait_until(lambda: len(instance.json("/api/symbols")["symbols"]) == len(SYMBOLS))
        yield instance


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


def scaled(instance: Instance, shards: str, *more: str) -> int:
    """How many symbols have moved."""
    done = command("scale", "--shards", shards, *more, "--data", str(instance.data), "--json")
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["moved"])


def test_a_node_joins_takes_symbols_is_lost_and_comes_back(lively: Instance, tmp_path: Path) -> None:
    firsts = {symbol: int(ids(lively, symbol)[0]) for symbol in SYMBOLS}
    other = tmp_path / "other"
    with joined(lively, other) as node:
        wait_until(lambda: nodes(lively) == 2, WITHIN_S)
        moved = scaled(lively, "2")
        assert 0 < moved < len(SYMBOLS)
        wait_until(lambda: len(folders(other)) == moved, WITHIN_S)
        wait_until(lambda: len(folders(lively.data)) == len(SYMBOLS) - moved, WITHIN_S)
        assert folders(lively.data) | folders(other) == set(SYMBOLS)
        assert sorted(lively.json("/api/symbols")["exchanges"]["binance"]) == sorted(SYMBOLS)
        wait_until(lambda: is_whole(lively, firsts), WITHIN_S)
        grows(lively)
        gone = folders(other)
        cut(node)

    def others_have_them() -> bool:
        return gone <= folders(lively.data)

    wait_until(others_have_them, WITHIN_S)
    grows(lively)
    with joined(lively, other):
        wait_until(lambda: is_whole(lively, firsts), WITHIN_S)
        wait_until(lambda: folders(other) == set(), WITHIN_S)
        grows(lively)
        assert is_whole(lively, firsts)
        scaled(lively, "2")
        wait_until(lambda: folders(other), WITHIN_S)
        # Before it is taken away for good.
        scaled(lively, "2", "--without", joiner(lively))
        wait_until(lambda: folders(other) == set(), WITHIN_S)
        wait_until(lambda: is_whole(lively, firsts), WITHIN_S)
    grows(lively)
    refused = command("scale", "--shards", "1", "--without", "192.0.2.1", "--data", str(lively.data))
    assert (refused.returncode, "no host 192.0.2.1" in refused.stderr) == (1, True)
