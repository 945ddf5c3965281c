"""Bars by activity: what a plain slow reference says, whatever the order of the trades."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.activity import KINDS, Activity, activity
from actors.aggregation.activity_bars import activity_bars
from storage.timeframes import TIMEFRAMES
from tests.actors.batches import NOON, SECOND, trades

amounts = st.integers(1, 10**6).map(lambda n: n / 1000)
rows = st.lists(st.tuples(st.integers(0, 20), amounts, amounts, st.integers(0, 1)), max_size=60).map(
    lambda made: [("BTCUSDT", NOON + one[0] * SECOND, number, *one[1:]) for number, one in enumerate(made)]
)


def reference(given: list[tuple[Any, ...]], wanted: Activity) -> list[dict[str, Any]]:
    bars: list[list[tuple[Any, ...]]] = [[]]
    sofar: list[float] = []
    for row in sorted(given, key=lambda row: (row[1], row[2])):
        bars[-1].append(row)
        sofar.append({"tick": 1.0, "volume": row[4], "dollar": row[3] * row[4]}[wanted.kind])
        if math.fsum(sofar) >= wanted.amount:
            bars.append([])
            sofar = []
    return [
        {
            "time": mine[0][1],
            "open": mine[0][3],
            "high": max(row[3] for row in mine),
            "low": min(row[3] for row in mine),
            "close": mine[-1][3],
            "volume": math.fsum(row[4] for row in mine),
            "quote_volume": math.fsum(row[3] * row[4] for row in mine),
            "trade_count": len(mine),
            "buy_volume": math.fsum(row[4] for row in mine if row[5] == 0),
            "closed": mine is not bars[-1],
        }
        for mine in bars
        if mine
    ]


@given(rows, st.sampled_from(KINDS), st.integers(1, 10**6), st.integers(1, 70), st.randoms())
def test_the_newest_bars_equal_the_reference_in_whatever_order_trades_are(made, kind, amount, limit, random) -> None:
    wanted = Activity(kind, float(amount if kind != "tick" else 1 + amount % 10))
    expected = reference(made, wanted)[-limit:]
    random.shuffle(made)
    found = activity_bars(trades(made), wanted, "BTCUSDT", limit).to_pylist()
    assert {row["symbol"] for row in found} <= {"BTCUSDT"}
    assert {row["timeframe"] for row in found} <= {wanted.name}
    assert [{name: row[name] for name in expected[0]} for row in found] == expected


@pytest.mark.parametrize("name", ["tick:1000", "volume:12.5", "volume:0.1", "dollar:1000000"])
def test_names_say_what_ends_a_bar(name: str) -> None:
    wanted = activity(name)
    assert wanted is not None
    assert wanted.name == name


def test_timeframes_are_none_of_these() -> None:
    assert [activity(name) for name in TIMEFRAMES] == [None] * len(TIMEFRAMES)


@pytest.mark.parametrize(
    "name",
    ["", "2m", "tick", "tick:", "tick:0", "tick:1.5", "tick:-1", "volume:nan", "dollar:inf", "dollar:1_0", "a:1"],
)
def test_what_is_no_timeframe_is_said_with_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=r"above 0|must be one of: 1s, 1m, .*tick:N"):
        activity(name)


def test_ten_trades_of_a_tenth_are_one() -> None:
    rows = [("BTCUSDT", NOON + number, number, 100.0, 0.1, 0) for number in range(1, 31)]
    made = activity_bars(trades(rows), Activity("volume", 1.0), "BTCUSDT", 100)
    found = [(row["trade_count"], row["volume"], row["closed"]) for row in made.to_pylist()]
    assert found == [(10, 1.0, True)] * 3
