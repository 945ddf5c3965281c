"""Trades are judged as a plain reference does, however batches are cut; what is normal passes, and what is not is
flagged for as long as it is not normal."""

import itertools
import math
from collections import defaultdict
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.quality import CHECKS, Quality, explain, thresholds
from actors.aggregation.quality_kernels import HOUR_NS, LEVEL_SHIFT, STATE
from tests.actors.aggregation.plain_quality import RULES, SECOND, PlainQuality, Trade, batch, many, walk
from tests.actors.batches import NOON

DAY = 24 * HOUR_NS
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
NAMES = {0: "", **CHECKS}
EVENTS = ("level_shifts", "silences")

# Numbers whose sums are exact in any order, so that what is just on a threshold is so for both.
sums = st.integers(0, 64).map(lambda n: n / 16) | st.integers(0, 6400).map(float)
prices = st.integers(1, 64).map(lambda n: n * 25 / 16) | st.sampled_from((100.0, 101.0, 110.0, 1e-9, 1e9, 1e4))
odd = st.sampled_from((0.0, -1.0, math.nan, math.inf, 1e300, 5e-324))
#: How long after the one before, and how late; around the thresholds too.
steps = st.integers(0, 3 * SECOND) | st.sampled_from((300 * SECOND, 300 * SECOND + 1, DAY, -SECOND, -400 * SECOND))
lateness = st.integers(0, SECOND) | st.sampled_from(
    (60 * SECOND, 60 * SECOND + 1, -5 * SECOND, -5 * SECOND - 1, 10**18, NOON + DAY)
)
streaks = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from(SYMBOLS), prices | odd, sums | odd, steps, lateness), max_size=14
)


def made(streaks: list[Any]) -> list[Trade]:
    """Trades of each streak, their price going up and down a little."""
    trades, now = [], NOON
    for count, symbol, price, size, step, late in streaks:
        for n in range(count):
            now += step
            trades.append(Trade(symbol, now - late, now, len(trades), price * (1 + n % 2 / 64), size))
    return trades


def judged(quality: Quality, trades: list[Trade]) -> tuple[list[str], list[Any]]:
    """What each trade fails, and the events."""
    found = quality.judge(batch(trades))
    shown = found.events
    return [NAMES[verdict] for verdict in found.verdicts.tolist()], [
        (int(row), "level_shifts" if kind == LEVEL_SHIFT else "silences", *rest) for row, kind, *rest in shown.tolist()
    ]


def failures(trades: list[Trade]) -> list[str]:
    return judged(Quality(RULES), trades)[0]


@given(streaks)
def test_verdicts_events_score_and_counts_are_those_of_the_reference(streaks: list[Any]) -> None:
    trades = made(streaks)
    plain, quality = PlainQuality(), Quality(RULES)
    said = [plain.judge(trade) for trade in trades]
    verdicts, events = judged(quality, trades)
    assert verdicts == [failed for failed, _ in said]
    expected = [(row, *event) for row, (_, shown) in enumerate(said) for event in shown]
    assert [event[:4] for event in events] == [event[:4] for event in expected]
    np.testing.assert_equal([event[4:] for event in events], [event[4:] for event in expected])
    rows = {(row["symbol"], row["time"]): row for row in quality.changed().to_pylist()}
    assert set(rows) == {(name, hour) for name, one in plain.symbols.items() for hour, _ in one.counts}
    for (name, hour), row in rows.items():
        counts = plain.symbols[name].counts
        counted = {check: row[check] for check in ("passed", *CHECKS.values(), "zero_sizes", *EVENTS)}
        assert counted == {check: counts[hour, check] for check in counted}
        assert row["total"] == row["passed"] + sum(row[check] for check in CHECKS.values())
        fresh = row["total"] - row["valid_values"] - row["data_freshness"]
        assert (row["lateness_ms"] is None) == (fresh == 0)
        assert (row["lateness_ms"] or 0) * fresh == pytest.approx(plain.symbols[name].late[hour] / 1e6, rel=1e-12)
    for row in quality.reports(SYMBOLS, 168, NOON):
        assert row["score"] == plain.symbols[row["symbol"]].score
        assert 0 <= row["score"] <= 1


@given(streaks, st.integers(0, 2**32))
def test_verdicts_do_not_depend_on_how_batches_are_cut_or_symbols_lie_between_each_other(
    streaks: list[Any], seed: int
) -> None:
    trades = made(streaks)
    whole, cut = Quality(RULES), Quality(RULES)
    expected = defaultdict(list)
    for trade, failed in zip(trades, judged(whole, trades)[0], strict=True):
        expected[trade.symbol].append(failed)
    cuts = sorted(Random(seed).choices(range(len(trades) + 1), k=5))
    found = defaultdict(list)
    for begin, end in itertools.pairwise([0, *cuts, len(trades)]):
        by_symbol = sorted(trades[begin:end], key=lambda trade: trade.symbol)
        for trade, failed in zip(by_symbol, judged(cut, by_symbol)[0], strict=True):
            found[trade.symbol].append(failed)
    assert found == expected
    assert sorted(whole.changed().to_pylist(), key=str) == sorted(cut.changed().to_pylist(), key=str)


@given(st.lists(st.floats(1e-9, 1e9), min_size=200, max_size=400))
def test_sums_do_not_drift_whatever_sizes_came_before(sizes: list[float]) -> None:
    quality = Quality(RULES)
    trades = [Trade("A", NOON, NOON, n, 100.0, size) for n, size in enumerate([1e300, *sizes])]
    quality.judge(batch(trades))
    one = quality._states[0]
    kept = PlainQuality()
    for trade in trades:
        kept.judge(trade)
    held = one["one"]["size_sum"] + one["sizes"][one["one"]["next_size"]]
    assert held == pytest.approx(math.fsum(kept.symbols["A"].sizes[-100:]), rel=1e-12)


def test_a_normal_move_in_a_quiet_market_passes() -> None:
    quiet = many("A", [100, 101] * 5 + [102.1], NOON)
    assert failures(quiet) == [""] * 11
    assert failures(many("A", [100.0] * 50 + [109.9], NOON)) == [""] * 51, "also where nothing moved before"


def test_large_moves_pass_where_they_are_usual() -> None:
    assert failures(many("OPTION", [100, 120] * 50, NOON)) == [""] * 100


def test_a_single_spike_is_flagged_and_changes_nothing_for_those_after_it() -> None:
    prices = walk(300, 1)
    prices[150] *= 3
    found = failures(many("A", prices, NOON))
    assert [place for place, failed in enumerate(found) if failed] == [150]
    assert found[150] == "price_anomaly"


@pytest.mark.parametrize("factor", [101.0, 1 / 101, 1.5])
def test_prices_that_jump_and_stay_are_normal_again_after_ten_trades(factor: float) -> None:
    before, after = walk(200, 2), walk(200, 3, 100.0 * factor)
    quality = Quality(RULES)
    trades = many("A", before + after, NOON)
    found, events = judged(quality, trades)
    assert found == [""] * 200 + ["price_anomaly"] * 10 + [""] * 190
    first, last = trades[200], trades[209]
    assert events == [(209, "level_shifts", first.ts_event, last.ts_event, trades[199].price, last.price)]
    (row,) = quality.reports(["A"], 24, NOON)
    assert (row["level_shifts"], row["failed"]["price_anomaly"]) == (1, 10)
    assert row["score"] == pytest.approx(1, abs=1e-6), "it has come back"


def test_the_score_falls_with_a_level_shift_and_comes_back() -> None:
    quality = Quality(RULES)
    trades = many("A", [100.0] * 100 + [200.0] * 50, NOON)
    quality.judge(batch(trades[:110]))
    assert quality.reports(["A"], 1, NOON)[0]["score"] == pytest.approx(0.9**10)
    quality.judge(batch(trades[110:]))
    assert quality.reports(["A"], 1, NOON)[0]["score"] == pytest.approx(1 - (1 - 0.9**10) * 0.9**40)


def test_anomalous_prices_that_do_not_agree_or_are_not_in_a_row_are_no_new_level() -> None:
    scattered = [100.0] * 20 + [200.0 * 1.2**n for n in range(40)]
    assert failures(many("A", scattered, NOON))[20:] == ["price_anomaly"] * 40
    interrupted = [100.0] * 20 + ([200.0] * 9 + [100.0]) * 5
    found, events = judged(Quality(RULES), many("A", interrupted, NOON))
    assert found[20:] == (["price_anomaly"] * 9 + [""]) * 5
    assert events == []


@pytest.mark.parametrize("price", [1e-9, 1e9, 1e-300, 1e300])
def test_prices_very_small_and_very_large_are_judged_alike(price: float) -> None:
    prices = [price * (1 + n % 3 / 1000) for n in range(100)] + [price * 2] + [price] * 10
    assert failures(many("A", prices, NOON)) == [""] * 100 + ["price_anomaly"] + [""] * 10


def test_values_that_cannot_be_are_flagged_first_and_remembered_nowhere() -> None:
    good = many("A", [100.0] * 20, NOON)
    for price, size in ((0, 1), (-5, 1), (math.nan, 1), (math.inf, 1), (5, -1), (5, math.nan), (5, math.inf)):
        bad = Trade("A", 0, NOON, 0, price, size)
        found = failures([*good, *[bad] * 50, *many("A", [100.0], NOON)])
        assert found == [""] * 20 + ["valid_values"] * 50 + [""]


def test_a_size_of_zero_is_valid_and_counted() -> None:
    quality = Quality(RULES)
    trades = [Trade("A", NOON, NOON, n, 100.0, 0.0) for n in range(50)]
    assert judged(quality, [*trades, Trade("A", NOON, NOON, 50, 100.0, 3.0)])[0] == [""] * 51
    (row,) = quality.reports(["A"], 1, NOON)
    assert (row["zero_sizes"], row["quality_score"]) == (50, 1.0)


def test_a_trade_is_fresh_by_its_own_two_times() -> None:
    late = [60 * SECOND, 60 * SECOND + 1, -5 * SECOND, -5 * SECOND - 1]
    trades = [Trade("A", NOON - by, NOON, n, 100.0, 1.0) for n, by in enumerate(late)]
    trades += [Trade("A", when, NOON, 9, 100.0, 1.0) for when in (0, -1, -(2**63), 2**63 - 1)]
    stale = "data_freshness"
    assert failures(trades) == ["", stale, "", stale, stale, stale, stale, stale]


def test_an_outsized_trade_is_flagged_and_sizes_that_stay_large_become_normal() -> None:
    sizes = [1.0] * 100 + [100.0, 250.0] + [1.0] * 200 + [1e9] * 60
    trades = [Trade("A", NOON, NOON, n, 100.0, size) for n, size in enumerate(sizes)]
    found = failures(trades)
    assert found[:302] == [""] * 101 + ["volume_sanity"] + [""] * 200
    wrong = found[302:].index("")
    assert found[302:] == ["volume_sanity"] * wrong + [""] * (60 - wrong)
    assert 0 < wrong <= 30


def test_nothing_is_held_against_fewer_than_ten_trades() -> None:
    assert failures(many("A", [100.0] * 9 + [5000.0], NOON)) == [""] * 10
    trades = [Trade("A", NOON, NOON, n, 100.0, size) for n, size in enumerate([1.0] * 9 + [1e6])]
    assert failures(trades) == [""] * 10


def test_a_silence_is_told_with_its_span_and_fails_nothing() -> None:
    trades = many("A", [100.0] * 20, NOON) + many("A", [103.0] * 20, NOON + DAY)
    quality = Quality(RULES)
    found, events = judged(quality, trades)
    assert found == [""] * 40
    assert events == [(20, "silences", trades[19].ts_event, trades[20].ts_event, 100.0, 103.0)]
    day_after = quality.reports(["A"], 1, NOON + DAY)[0]
    assert (day_after["silences"], day_after["total_checks"]) == (1, 20)
    both = quality.reports(["A"], 25, NOON + DAY)[0]
    assert (both["silences"], both["total_checks"], both["last_trade"]) == (1, 40, trades[-1].ts_event)


def test_late_trades_and_those_from_the_future_make_no_silence() -> None:
    quality = Quality(RULES)
    good = many("A", [100.0] * 2, NOON, 200 * SECOND)
    late = Trade("A", NOON - DAY, NOON, 5, 100.0, 1.0)
    future = Trade("A", NOON + DAY, NOON, 6, 100.0, 1.0)
    found, events = judged(quality, [good[0], late, future, good[1]])
    assert (found, events) == (["", "data_freshness", "data_freshness", ""], [])


def test_hours_older_than_a_week_make_room() -> None:
    quality = Quality(RULES)
    for day in range(10):
        quality.judge(batch(many("A", [100.0] * (day + 1), NOON + day * DAY)))
        quality.changed()
    (row,) = quality.reports(["A"], 168, NOON + 9 * DAY)
    assert row["total_checks"] == sum(range(4, 11))
    assert quality.reports(["A"], 24, NOON + 11 * DAY)[0]["quality_score"] is None
    assert quality.reports(["B"], 24, NOON) == []


def rows_of(told: pa.RecordBatch) -> list[tuple[str, int, int]]:
    return sorted((row["symbol"], row["time"], row["total"]) for row in told.to_pylist())


def test_only_hours_that_changed_are_told_and_again_when_they_did_not_arrive() -> None:
    quality = Quality(RULES)
    quality.judge(batch(many("A", [100.0] * 5, NOON) + many("B", [7.0] * 5, NOON + HOUR_NS)))
    told = quality.changed()
    assert rows_of(told) == [("A", NOON, 5), ("B", NOON + HOUR_NS, 5)]
    assert quality.changed().num_rows == 0
    quality.untold(told)
    quality.judge(batch(many("A", [100.0], NOON + HOUR_NS)))
    assert rows_of(quality.changed()) == [("A", NOON, 5), ("A", NOON + HOUR_NS, 1), ("B", NOON + HOUR_NS, 5)]


def test_duplicates_are_counted_beside_the_checks() -> None:
    quality = Quality(RULES)
    quality.count_duplicates("A", NOON, 3)
    (row,) = quality.reports(["A"], 1, NOON)
    assert (row["duplicates"], row["total_checks"], row["quality_score"], row["score"]) == (3, 0, None, 1.0)


def test_more_symbols_than_there_was_room_for() -> None:
    quality = Quality(RULES)
    names = [f"S{n}" for n in range(100)]
    for turn in range(3):
        quality.judge(batch(trade for name in names for trade in many(name, walk(20, turn), NOON)))
    assert [row["total_checks"] for row in quality.reports(names, 1, NOON)] == [60] * 100
    assert sorted(quality.symbols) == sorted(names)


def test_a_symbol_may_have_any_letters() -> None:
    quality = Quality(RULES)
    quality.judge(batch(many("币安人生USDT", [1.0] * 3, NOON)))
    assert rows_of(quality.changed()) == [("币安人生USDT", NOON, 3)]
    again = Quality(RULES, quality._states)
    assert rows_of(again.changed()) == [("币安人生USDT", NOON, 3)], "told again, as nobody knows whether it arrived"


def test_damaged_states_are_begun_anew_and_the_others_kept() -> None:
    quality = Quality(RULES)
    quality.judge(batch(trade for name in SYMBOLS for trade in many(name, [100.0] * 20, NOON)))
    states = quality._states.copy()
    states["one"]["next_price"][quality._codes["ETHUSDT"]] = 10**15
    states["symbol"][quality._codes["SOLUSDT"]] = b"\xff\xfe"
    again = Quality(RULES, states, lambda count: np.concatenate([states, np.zeros(count, STATE)])[:count])
    assert "ETHUSDT" not in again.symbols
    again.judge(batch(trade for name in SYMBOLS for trade in many(name, [100.0] * 20, NOON)))
    rows = again.reports(SYMBOLS, 1, NOON)
    assert [row["total_checks"] for row in rows] == [40, 20, 20]


def test_what_was_wrong_is_said_in_words() -> None:
    quality = Quality(RULES)
    trades = many("A", [100.0] * 20 + [150.0], NOON)
    trades += [Trade("A", NOON, NOON, 50, 100.0, 500.0), Trade("A", NOON - 61 * SECOND, NOON, 51, 100.0, 1.0)]
    trades += [Trade("A", NOON + 6 * SECOND, NOON, 52, 100.0, 1.0), Trade("A", 0, NOON, 53, 100.0, 1.0)]
    trades += [Trade("A", NOON, NOON, 54, -2.0, 1.0)]
    found = quality.judge(batch(trades))
    failed = found.verdicts > 0
    limits = thresholds(found.verdicts, found.values, RULES)
    said = [
        explain(*one) for one in zip(found.verdicts[failed].tolist(), found.values[failed], limits[failed], strict=True)
    ]
    assert said == [
        "its price is 50.000% from the last good one, more than 10.000%, and far from the others",
        "its size is 500 times the mean, more than 100 times",
        "received 61 s after it was made, more than 60 s",
        "received 6 s before it was made, more than 5 s",
        "it has no time",
        "-2 is no price above 0 or size of 0 or more",
    ]
