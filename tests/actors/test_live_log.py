"""What the live feed remembers: bounded, in order, and honest about what is gone."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from actors.live_log import LiveLog, NewTrades
from tests.actors.batches import NOON, trades

KEYS = frozenset({("trades", "binance"), ("bars", "kraken")})


def log_with(sizes: list[int], most_bytes: int = 1000, every_ns: int = 1) -> LiveLog:
    log = LiveLog(100, most_bytes, 10**9)
    for key in KEYS:
        log.begin(key)
    for number, size in enumerate(sizes):
        topic, exchange = sorted(KEYS)[number % 2]
        log.put(topic, exchange, b"x" * size, number * every_ns)
    return log


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(90, 170))
def test_who_resumes_gets_everything_since_or_hears_that_it_is_gone(sizes: list[int], since: int) -> None:
    log = log_with(sizes)
    assert log.nbytes <= 1000
    numbers = [entry.seq for entry in log.after(since, KEYS)]
    if log.reaches(since, KEYS):
        assert numbers == list(range(since + 1, 100 + len(sizes) + 1))
    else:
        assert since < 100 or since > 100 + len(sizes) or since < log.oldest


def test_other_keys_are_left_out_and_losses_are_told_to_all() -> None:
    log = log_with([1, 1, 1])
    log.put("", "", b"", 5)
    assert [entry.topic for entry in log.after(100, frozenset({("bars", "kraken")}))] == ["bars", "bars", ""]


def test_what_was_not_recorded_all_the_time_cannot_be_resumed() -> None:
    log = log_with([1, 1])
    log.end(("bars", "kraken"))
    assert not log.reaches(101, KEYS)
    log.begin(("bars", "kraken"))
    assert not log.reaches(101, KEYS)
    assert log.reaches(102, KEYS)


def test_what_is_older_than_allowed_is_forgotten() -> None:
    log = log_with([1] * 10, every_ns=10**9 // 4)
    assert len(log) == 5
    assert not log.reaches(100, KEYS)


def rows(*ids: int) -> pa.Table:
    return pa.Table.from_batches([trades([("BTCUSDT", NOON, number, 1.0, 1.0, 0) for number in ids])])


def test_a_trade_that_comes_twice_is_told_once() -> None:
    new = NewTrades(most=4)
    first = rows(1, 2)
    assert new("binance", first) is first
    assert new("binance", rows(2, 3, 3))["trade_id"].to_pylist() == [3]
    assert new("kraken", rows(2))["trade_id"].to_pylist() == [2]
    for number in range(10, 20):
        new("binance", rows(number))
    # It remembers some, not all.
    assert new("binance", rows(19)).num_rows == 0
    assert new("binance", rows(1)).num_rows == 1
