"""What things cost is counted by kind of process, by stage and for each one more."""

import math

import psutil
import pytest

from benchmarks.costs import percentile_ms, read_lags, slope, taken


def said(counts: dict[str, int]) -> str:
    lines = ["# HELP rayfeed_lag_seconds age", "# TYPE rayfeed_lag_seconds histogram"]
    for exchange in ("binance", "kraken"):
        labels = f'stage="shard_to_disk",exchange="{exchange}"'
        lines += [f'rayfeed_lag_seconds_bucket{{{labels},le="{end}"}} {count}' for end, count in counts.items()]
    return "\n".join(lines) + "\n"


def test_a_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([50, 200, 800], [150.0, 300.0, 900.0]) == pytest.approx((100.0, 1.0))


def test_percentiles_are_of_what_passed_in_between_of_all_exchanges() -> None:
    before = read_lags(said({"0.01": 5, "0.1": 5, "+Inf": 5}))
    after = read_lags(said({"0.01": 5, "0.1": 15, "+Inf": 15}))
    assert percentile_ms(before, after, "shard_to_disk", 0.5) == pytest.approx(55)
    assert percentile_ms(before, after, "shard_to_disk", 1.0) == pytest.approx(100)
    assert math.isnan(percentile_ms(after, after, "shard_to_disk", 0.5))
    assert math.isnan(percentile_ms(before, after, "socket_to_shard", 0.5))


def test_processes_are_counted_with_their_time_and_memory() -> None:
    before = taken([psutil.Process()], memory=True)
    assert sum(before.processes.values()) == 1 and sum(before.memory.values()) > 1_000_000
    sum(range(3_000_000))
    assert sum(taken([psutil.Process()]).since(before).values()) > 0
