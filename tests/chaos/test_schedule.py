"""A campaign's plan is the same for the same seed and has something of everything."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from actors.simulator.fault_kinds import KINDS
from tests.chaos.exchanges import SYMBOLS
from tests.chaos.recovery import Recoveries
from tests.chaos.schedule import CHECKED, KILL_TREE, KILLS, OUTAGES, Kill, plan
from tests.chaos.system import SHARDS

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(0, 300))
def test_a_seed_gives_the_same_plan_again(seed: int, faults: int) -> None:
    first, second = (plan(seed, faults, 60.0, SYMBOLS, SHARDS) for _ in range(2))
    assert first == second
    assert list(map(str, first)) == list(map(str, second))
    assert len(first) == faults


@given(SEEDS)
def test_every_kind_of_fault_comes_at_its_time_to_somebody_who_can_have_it(seed: int) -> None:
    others = [*KILLS, KILL_TREE, *OUTAGES]
    planned = plan(seed, 200, 60.0, SYMBOLS, SHARDS, others, longest_s=3.0)
    counts = Counter(one.kind for one in planned)
    assert counts.keys() == {*KINDS, *others}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert {one.exchange for one in planned if one.exchange} == set(SYMBOLS)
    assert [one.at for one in planned] == sorted(one.at for one in planned)
    assert planned[0].at >= 0 and planned[-1].at <= 60
    for one in planned:
        if isinstance(one.what, Kill):
            assert (one.exchange in SYMBOLS) == (one.kind == "kill_collector")
            assert one.what.shard < SHARDS
        elif one.kind in OUTAGES:
            assert one.exchange == ""
        else:
            assert (one.what.seconds or 0.0) <= 3.0
            symbol = one.what.options.get("symbol")
            assert symbol is None or symbol in SYMBOLS[one.exchange]
            assert one.kind != "checksum" or one.exchange in CHECKED


def test_different_seeds_give_different_plans() -> None:
    assert plan(1, 50, 60.0, SYMBOLS, SHARDS) != plan(2, 50, 60.0, SYMBOLS, SHARDS)


def test_a_fault_has_recovered_when_all_it_harmed_is_well() -> None:
    recoveries = Recoveries()
    recoveries.over("silent", ["binance"], 10.0)
    recoveries.over("kill_everything", ["binance", "kraken"], 11.0)
    recoveries.well("binance", 9.9, 12.0)
    assert not recoveries.took, "that was before its end"
    recoveries.well("binance", 10.5, 12.5)
    assert recoveries.took == {"silent": [2.5]}
    recoveries.well("binance", 13.0, 13.0)
    assert [(kind, harmed) for kind, harmed, _ in recoveries.waiting] == [("kill_everything", {"kraken"})]
    assert "kill_everything    has not recovered: kraken" in recoveries.table()
    recoveries.well("kraken", 15.0, 15.0)
    assert recoveries.took["kill_everything"] == [4.0]
    assert [line.split() for line in recoveries.table().splitlines()[1:]] == [
        ["kill_everything", "1", "4.00", "4.00"],
        ["silent", "1", "2.50", "2.50"],
        ["all", "2", "3.25", "4.00"],
    ]
