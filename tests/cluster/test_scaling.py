"""Symbols move between shards of a running system, also while who moves them is killed: nothing is lost or doubled."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.cluster.running import Instance, command, rayfeed_up
from tests.polling import wait_until

SYMBOLS = [f"{base}USDT" for base in ("BTC", "ETH", "SOL", "XRP", "ADA", "BNB", "LINK", "DOGE", "DOT", "LTC")]


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    quick = {
        "RAYFEED_SIMULATOR__TRADES_PER_SECOND": "2000",
        "RAYFEED_EXCHANGES__BINANCE__SYMBOLS": json.dumps(SYMBOLS),
        "RAYFEED_SHARDS": "1",
    }
    data = tmp_path_factory.mktemp("scaling") / "data"
    with rayfeed_up(data, environment=quick) as instance:
        wait_until(lambda: len(instance.json("/api/symbols")["symbols"]) == len(SYMBOLS))
        yield instance


def ids(instance: Instance, symbol: str) -> np.ndarray[Any, Any]:
    return instance.rows("binance", symbol, "TRADES", "id")["id"].astype(np.int64)


def nothing_is_lost_or_doubled(instance: Instance, firsts: dict[str, int]) -> None:
    """And everything goes on."""
    before = {symbol: len(ids(instance, symbol)) for symbol in SYMBOLS}
    wait_until(lambda: all(len(ids(instance, symbol)) > rows for symbol, rows in before.items()))

    def whole() -> bool:
        # What a killed collector missed is fetched.
        found = {symbol: ids(instance, symbol) for symbol in SYMBOLS}
        assert all(len(np.unique(own)) == len(own) for own in found.values()), "a trade is there twice"
        return all(np.array_equal(own, np.arange(firsts[name], firsts[name] + len(own))) for name, own in found.items())

    wait_until(whole, 60)

    def synced() -> bool:
        rows = instance.json("/api/v1/integrity")
        return {row["state"] for row in rows} == {"synced"} and len(rows) == len(SYMBOLS)

    wait_until(synced)


def scale(instance: Instance, shards: int) -> dict[str, Any]:
    done = command("scale", "--shards", str(shards), "--data", str(instance.data), "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def shards(instance: Instance) -> dict[str, dict[str, Any]]:
    return {name: said for name, said in instance.actors().items() if name.startswith("shard:")}


def test_symbols_move_when_shards_come_and_go_and_no_trade_is_lost_or_doubled(lively: Instance) -> None:
    firsts = {symbol: int(ids(lively, symbol)[0]) for symbol in SYMBOLS}
    for count in (2, 3, 1):
        said = scale(lively, count)
        assert said["done"]
        assert said["moved"] == said["symbols"] > 0
        assert said["error"] == ""
        nothing_is_lost_or_doubled(lively, firsts)
        wait_until(lambda count=count: len(shards(lively)) == count)
        owned = [symbol for own in shards(lively).values() for symbol in own["symbols"].get("binance", [])]
        assert sorted(owned) == sorted(SYMBOLS), "each has one shard"
        bars = lively.json("/api/v1/charts/BTCUSDT?limit=5000")["bars"]
        assert sum(bar["trade_count"] for bar in bars) > 0
    assert lively.collector("binance")["connects"] == 1, "the exchange noticed nothing"


@pytest.mark.parametrize("victim", ["supervisor", "shard:0", "collector:binance"])
def test_a_change_that_is_cut_short_is_gone_on_with(lively: Instance, victim: str) -> None:
    firsts = {symbol: int(ids(lively, symbol)[0]) for symbol in SYMBOLS}
    count = 3 if len(shards(lively)) < 3 else 1
    pid = lively.actors()[victim]["pid"] if victim != "supervisor" else None
    kill = "import os, signal\n"
    kill += f"ray.get(find_actor('supervisor').scale.remote({count}))\n"
    if pid is None:
        kill += "ray.kill(find_actor('supervisor'), no_restart=False)\nanswer = None"
    else:
        kill += f"os.kill({pid}, signal.SIGKILL)\nanswer = None"
    lively.inside(kill)

    def done() -> bool:
        found: bool = lively.inside("answer = ray.get(find_actor('supervisor').scaling.remote())")["done"]
        return found and len(shards(lively)) == count

    wait_until(done)
    nothing_is_lost_or_doubled(lively, firsts)
