"""What more costs is told as slopes and ratios, from a market that can be told how often it trades."""

from collections import Counter
from typing import Any

import psutil
import pytest

from benchmarks import scale
from benchmarks.scale import Cost, Spread, Watch
from benchmarks.scale_systems import System, market
from config import load


def spread(cpu: float, missing: int = 0) -> Spread:
    stages = dict.fromkeys(("exchange_to_socket", "socket_to_shard", "shard_to_disk"), (1.0, 2.0))
    return Spread(Cost({"shard": 0.5}), cpu, {"shard": cpu}, 90.0, stages, (5.0, 9.0), 1e5, 2 * cpu, missing)


def test_one_more_costs_what_the_line_through_the_points_says() -> None:
    costs = [
        Cost({"shard": 0.1 + 2e-5 * count, "redis": 1.0}, Counter(shard=10**8 + 5000 * count)) for count in (1, 2, 4)
    ]
    cpu, memory = scale._slope_rows("symbol", (1, 2, 4), costs, ["shard"])
    assert cpu.ours == pytest.approx(20) and memory.ours == pytest.approx(5)
    assert "0.1 of a core without any" in cpu.note and "100 MB without any" in memory.note


def test_more_shards_and_hosts_stand_beside_one_and_a_missing_trade_is_too_much() -> None:
    rows = scale._spread_rows({1: spread(10.0), 2: spread(15.0, missing=1)}, "hosts with 3 shards")
    ratios = {row.name: row.ratio for row in rows if "a million trades" in row.name}
    assert list(ratios.values()) == [1.0, 1.5]
    assert [row.ours for row in rows if "between hosts" in row.name] == [90.0, 90.0]
    assert [row.held for row in rows if "missing" in row.name] == [False]


def test_a_part_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["planets"]) == 2
    assert "shards, hosts, symbols, clients" in capsys.readouterr().err


def test_a_market_says_what_an_instance_is_to_collect_and_trades_as_it_is_told(tmp_path: Any) -> None:
    with market(2) as of:
        settings = load(tmp_path, of.settings(("trades",), shards=3))
        assert [name for name, one in settings.exchanges.items() if one.enabled] == ["binance"]
        assert settings.exchanges["binance"].symbols == list(of.names) and settings.shards == 3
        of.trade(1000)
        # Nobody listens, so nothing is sent.
        assert of.counts() == {"trades": 0, "quotes": 0, "bytes": 0, "subscribed": 0}
        carried = iter((0, 100))
        system = System(of, "", lambda: [psutil.Process()], lambda *_: "", lambda: next(carried))
        with Watch(system, memory=True) as watch:
            sum(range(3_000_000))
    assert watch.cost.all_cores > 0 and sum(watch.cost.memory.values()) > 1_000_000 and watch.cost.wires > 0
