"""Bars of all timeframes: what a plain slow reference says, whatever the order and the cutting of batches."""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.aggregation.bars import Bars, rebuilt
from storage.schema import TRADES
from storage.timeframes import TIMEFRAMES

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
SECOND = 1_000_000_000
MINUTE = TIMEFRAMES["1m"]
HOUR = TIMEFRAMES["1h"]
DAY = TIMEFRAMES["1d"]
#: The last second of 2023, and of the day before a leap day.
NEW_YEAR = 1_704_067_200 * SECOND
LEAP_DAY = 1_709_164_800 * SECOND
#: Later than everything.
END = 2**62

Bar = dict[str, Any]


@dataclass(frozen=True)
class Trade:
    symbol: str
    ts_event: int
    trade_id: int
    price: float
    size: float
    side: int


amounts = st.floats(1e-9, 1e9) | st.integers(1, 10**12).map(lambda n: n / 1e8)
times = (
    st.integers(0, 90 * MINUTE)
    | st.integers(NEW_YEAR - 2 * SECOND, NEW_YEAR + 2 * SECOND)
    | st.integers(LEAP_DAY - 3 * DAY, LEAP_DAY + 3 * DAY)
    | st.integers(-DAY, 0)
)
trades_strategy = st.lists(
    st.builds(
        Trade,
        symbol=st.sampled_from(SYMBOLS),
        ts_event=times,
        trade_id=st.just(0),
        price=amounts,
        size=amounts | st.just(0.0),
        side=st.integers(0, 1),
    ),
    max_size=60,
).map(lambda trades: [replace(trade, trade_id=place) for place, trade in enumerate(trades)])


def batch(trades: list[Trade], names: list[str] = SYMBOLS) -> pa.RecordBatch:
    n = len(trades)
    symbol = pa.DictionaryArray.from_arrays(
        pa.array([names.index(t.symbol) for t in trades], pa.int32()), pa.array(names)
    )
    times = pa.array([t.ts_event for t in trades], pa.int64())
    columns = [
        symbol,
        times,
        times,
        pa.array([t.trade_id for t in trades], pa.int64()),
        pa.array([t.price for t in trades], pa.float64()),
        pa.array([t.size for t in trades], pa.float64()),
        pa.array([t.side for t in trades], pa.uint8()),
        pa.nulls(n, pa.binary(16)),
        pa.nulls(n, pa.binary(16)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TRADES)


def reference(trades: list[Trade]) -> dict[tuple[str, str, int], Bar]:
    """All bars by symbol, timeframe and time."""
    buckets = defaultdict(list)
    for trade in trades:
        for timeframe, span in TIMEFRAMES.items():
            buckets[trade.symbol, timeframe, trade.ts_event // span * span].append(trade)
    bars = {}
    for key, members in buckets.items():
        members.sort(key=lambda trade: (trade.ts_event, trade.trade_id))
        volume, quote = math.fsum(t.size for t in members), math.fsum(t.size * t.price for t in members)
        bars[key] = {
            "open": members[0].price,
            "high": max(t.price for t in members),
            "low": min(t.price for t in members),
            "close": members[-1].price,
            "volume": volume,
            "quote_volume": quote,
            "trade_count": len(members),
            "buy_volume": math.fsum(t.size for t in members if t.side == 0),
            "vwap": quote / volume if volume else None,
        }
    return bars


def told(bars: pa.RecordBatch) -> dict[tuple[str, str, int], Bar]:
    """By symbol, timeframe and time; without what happened on the way."""
    rows = {(row["symbol"], row["timeframe"], row["time"]): row for row in bars.to_pylist()}
    assert len(rows) == bars.num_rows
    names = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume", "vwap")
    return {key: {name: row[name] for name in names} for key, row in rows.items()}


def everything(bars: Bars) -> dict[tuple[str, str, int], Bar]:
    found = [told(bars.newest(symbol, timeframe, 1000)) for symbol in bars.symbols for timeframe in TIMEFRAMES]
    return {key: bar for one in found for key, bar in one.items()}


def cut(trades: list[Trade], cuts: list[int]) -> list[list[Trade]]:
    edges = sorted({0, len(trades), *(min(cut, len(trades)) for cut in cuts)})
    return [trades[begin:end] for begin, end in itertools.pairwise(edges)]


@given(trades_strategy, st.lists(st.integers(0, 60), max_size=5), st.randoms())
def test_bars_equal_the_reference_however_batches_are_cut_and_ordered(trades, cuts, random) -> None:
    shuffled = list(trades)
    random.shuffle(shuffled)
    bars = Bars(keep=1000, grace_ns=0)
    seen: dict[tuple[str, str, int], Bar] = {}
    for part in cut(shuffled, cuts):
        assert bars.update(batch(part)) == []
        bars.close(random.choice([0, NEW_YEAR, LEAP_DAY]))
        seen |= told(bars.changed())
    assert everything(bars) == reference(trades)
    bars.close(END)
    assert seen | told(bars.changed()) == reference(trades), "who hears of every change knows every bar"


@given(trades_strategy, st.lists(st.integers(0, 60), max_size=8), st.integers(1, 3), st.randoms())
@example([Trade("BTCUSDT", n * SECOND, n, 1.0, 1.0, 0) for n in range(20)], [3, 4, 9], 1, Random(1))
def test_what_is_not_kept_is_told_before_and_rebuilt_from_the_trades_afterwards(trades, cuts, keep, random) -> None:
    shuffled = list(trades)
    random.shuffle(shuffled)
    bars = Bars(keep, grace_ns=0)
    seen: dict[tuple[str, str, int], Bar] = {}
    had: list[Trade] = []
    for part in cut(shuffled, cuts):
        lost = bars.update(batch(part))
        had += part
        seen |= told(bars.changed())
        for symbol, timeframe, time in lost:
            mine = [t for t in had if t.symbol == symbol and 0 <= t.ts_event - time < TIMEFRAMES[timeframe]]
            again = told(rebuilt(batch(mine), timeframe))
            assert list(again) == [(symbol, timeframe, time)]
            seen |= again
    bars.close(END)
    assert seen | told(bars.changed()) == reference(trades)
    for symbol in bars.symbols:
        assert bars.newest(symbol, "1s", 1000).num_rows <= keep


def test_batches_of_more_trades_than_one_pass_takes() -> None:
    trades = [Trade(SYMBOLS[n % 3], n * 13 * SECOND // 10, n, 1.0 + n % 7, 0.1, n % 2) for n in range(150_000)]
    bars = Bars(keep=60, grace_ns=0)
    assert bars.update(batch(trades)) == []
    bars.close(END)
    assert told(bars.changed()) == reference(trades)


def test_more_symbols_than_there_was_room_for_at_first() -> None:
    names = [f"S{n}" for n in range(100)]
    bars = Bars(keep=5, grace_ns=0)
    for name in names:
        bars.update(batch([Trade(name, SECOND, 1, 2.0, 3.0, 1)], names))
    bars.close(END)
    assert bars.changed().num_rows == 100 * len(TIMEFRAMES)
    assert bars.symbols == names


def one(ts_event: int, trade_id: int, price: float, size: float = 1.0) -> pa.RecordBatch:
    return batch([Trade("BTCUSDT", ts_event, trade_id, price, size, 0)])


def of(timeframe: str, bars: pa.RecordBatch) -> list[Bar]:
    return [row for row in bars.to_pylist() if row["timeframe"] == timeframe]


def test_a_late_trade_revises_its_bar_of_each_timeframe_and_no_other() -> None:
    bars = Bars(keep=10, grace_ns=0)
    bars.update(one(10 * SECOND, 1, 100.0))
    bars.update(one(70 * SECOND, 3, 300.0))
    bars.close(MINUTE)
    bars.changed()
    bars.update(one(20 * SECOND, 2, 200.0))
    bars.close(MINUTE)
    revised = bars.changed()
    [minute] = of("1m", revised)
    assert (minute["time"], minute["close"], minute["revision"], minute["closed"]) == (0, 200.0, 1, True)
    [second] = of("1s", revised)
    assert (second["time"], second["revision"]) == (20 * SECOND, 0), "it had no bar before"
    assert {row["timeframe"] for row in revised.to_pylist()} == {"1s", "1m"}, "the others are open"
    [first, second] = bars.newest("BTCUSDT", "1m", 10).to_pylist()
    assert (second["close"], second["revision"], second["closed"]) == (300.0, 0, False)
    assert first["trade_count"] == 2
    [day] = bars.newest("BTCUSDT", "1d", 10).to_pylist()
    assert (day["open"], day["close"], day["trade_count"], day["revision"]) == (100.0, 300.0, 3, 0)


def test_a_bar_closes_once_the_grace_is_over() -> None:
    bars = Bars(keep=10, grace_ns=50_000_000)
    bars.update(one(10 * SECOND, 1, 100.0))
    bars.close(11 * SECOND + 49_000_000)
    assert bars.changed().num_rows == 0
    bars.close(11 * SECOND + 50_000_000)
    assert [row["timeframe"] for row in bars.changed().to_pylist()] == ["1s"]
    bars.close(MINUTE + 50_000_000)
    assert [row["timeframe"] for row in bars.changed().to_pylist()] == ["1m"]
    bars.close(DAY + 50_000_000)
    assert [row["timeframe"] for row in bars.changed().to_pylist()] == ["5m", "15m", "1h", "4h", "1d"]
    bars.close(END)
    assert bars.changed().num_rows == 0


def test_open_bars_are_told_when_they_are_wanted_and_again_when_they_close() -> None:
    bars = Bars(keep=1, grace_ns=0)
    bars.update(one(0, 1, 100.0))
    assert bars.changed().num_rows == 0
    assert {(row["timeframe"], row["closed"]) for row in bars.changed(open_too=True).to_pylist()} == {
        (timeframe, False) for timeframe in TIMEFRAMES
    }
    assert bars.changed(open_too=True).num_rows == 0
    bars.update(one(SECOND, 2, 100.0))
    [second] = of("1s", bars.changed())
    assert (second["time"], second["closed"]) == (0, True), "also what had to make room before it closed"
    bars.close(END)
    assert len(TIMEFRAMES) == sum(row["closed"] for row in bars.changed().to_pylist())


def test_buckets_without_trades_have_no_bar_even_when_a_symbol_was_silent_for_a_day() -> None:
    bars = Bars(keep=10, grace_ns=0)
    bars.update(one(0, 1, 100.0))
    bars.update(one(DAY + HOUR, 2, 100.0))
    assert bars.newest("BTCUSDT", "1m", 10).column("time").to_pylist() == [0, DAY + HOUR]
    assert bars.newest("BTCUSDT", "1d", 10).column("time").to_pylist() == [0, DAY]


def test_the_end_of_a_year_and_a_leap_day_are_buckets_like_others() -> None:
    bars = Bars(keep=10, grace_ns=0)
    for number, ts in enumerate((NEW_YEAR - 1, NEW_YEAR, LEAP_DAY - 1, LEAP_DAY, LEAP_DAY + DAY - 1, LEAP_DAY + DAY)):
        bars.update(one(ts, number, 1.0))
    days = bars.newest("BTCUSDT", "1d", 10)
    assert days.column("time").to_pylist() == [NEW_YEAR - DAY, NEW_YEAR, LEAP_DAY - DAY, LEAP_DAY, LEAP_DAY + DAY]
    assert days.column("trade_count").to_pylist() == [1, 1, 1, 2, 1]


@pytest.mark.parametrize("price", [1e-9, 1e9, 100.0])
def test_a_constant_price_is_every_price_of_the_bar(price: float) -> None:
    bars = Bars(keep=10, grace_ns=0)
    for number in range(1000):
        bars.update(one(number * SECOND // 20, number, price, 0.1))
    [bar] = bars.newest("BTCUSDT", "1m", 10).to_pylist()
    assert {bar[name] for name in ("open", "high", "low", "close")} == {price}
    assert bar["volume"] == math.fsum([0.1] * 1000)
    assert bar["vwap"] == pytest.approx(price, rel=1e-15)


def test_without_volume_there_is_no_volume_weighted_price() -> None:
    bars = Bars(keep=10, grace_ns=0)
    bars.update(one(0, 1, 5.0, 0.0))
    [bar] = bars.newest("BTCUSDT", "1m", 10).to_pylist()
    assert (bar["close"], bar["volume"], bar["trade_count"], bar["vwap"]) == (5.0, 0.0, 1, None)


def test_a_jump_of_ten_thousand_percent_is_in_the_bar_as_it_was() -> None:
    bars = Bars(keep=10, grace_ns=0)
    bars.update(one(0, 1, 1.0))
    bars.update(one(1, 2, 101.0))
    [bar] = bars.newest("BTCUSDT", "1s", 10).to_pylist()
    assert (bar["open"], bar["high"], bar["low"], bar["close"], bar["vwap"]) == (1.0, 101.0, 1.0, 101.0, 51.0)


def test_an_unknown_symbol_has_no_bars_and_an_unknown_timeframe_is_an_error() -> None:
    assert Bars(keep=2, grace_ns=0).newest("NOPE", "1m", 10).num_rows == 0
    with pytest.raises(ValueError):
        Bars(keep=2, grace_ns=0).newest("NOPE", "2m", 10)


def test_trades_of_a_time_that_is_not_here_are_handed_back() -> None:
    bars = Bars(keep=2, grace_ns=0)
    bars.begin({"BTCUSDT": (HOUR, 0)})
    lost = bars.update(one(HOUR - 1, 1, 1.0))
    assert lost == [("BTCUSDT", name, (HOUR - 1) // span * span) for name, span in TIMEFRAMES.items()]
    assert bars.update(one(HOUR, 2, 1.0)) == [("BTCUSDT", "4h", 0), ("BTCUSDT", "1d", 0)]


@given(trades_strategy, st.integers(1, 30), st.randoms())
def test_a_start_with_the_bars_of_days_that_are_over_goes_on_as_if_there_had_been_none(trades, keep, random) -> None:
    mine = [trade for trade in trades if trade.symbol == "BTCUSDT"]
    late = [trade for trade in mine if random.random() < 0.2]
    before = [trade for trade in mine if trade not in late]
    if not before:
        return
    today = max(trade.ts_event for trade in before) // DAY * DAY
    first, second = Bars(keep, grace_ns=0), Bars(keep, grace_ns=0)
    first.update(batch(before))
    first.close(END)
    first.changed()
    second.restore("BTCUSDT", first.history("BTCUSDT", today))
    second.update(batch([trade for trade in before if trade.ts_event >= today]))
    second.begin({"BTCUSDT": (today, END)})
    assert second.changed().num_rows == 0, "all of them were told"
    for name in list(TIMEFRAMES)[1:]:
        assert second.newest("BTCUSDT", name, keep).equals(first.newest("BTCUSDT", name, keep))
    of_first, of_second = set(first.update(batch(late))), set(second.update(batch(late)))
    assert of_first <= of_second, "what is not here is read back from the trades"
    again = {key for key in of_second if key[1] != "1s"}
    for row in first.newest("BTCUSDT", "1d", keep).to_pylist():
        if ("BTCUSDT", "1d", row["time"]) not in again:
            assert row in second.newest("BTCUSDT", "1d", keep).to_pylist()


def test_only_bars_that_may_not_have_been_told_are_told_after_a_start() -> None:
    bars = Bars(keep=10, grace_ns=0)
    for minute in range(5):
        bars.update(one(minute * MINUTE, minute, 1.0))
    bars.begin({"BTCUSDT": (0, 3 * MINUTE)})
    bars.close(5 * MINUTE)
    told = bars.changed()
    assert [row["time"] for row in of("1m", told)] == [2 * MINUTE, 3 * MINUTE, 4 * MINUTE]
    assert [row["time"] for row in of("5m", told)] == [0]
    assert of("1h", told) == []


def test_late_trades_for_a_bar_that_had_to_make_room_are_in_the_last_word_about_it() -> None:
    bars = Bars(keep=2, grace_ns=0)
    bars.update(batch([Trade("BTCUSDT", minute * MINUTE, minute, 1.0, 1.0, 0) for minute in range(5)]))
    assert ("BTCUSDT", "1m", 0) in bars.update(one(1, 9, 1.0)), "the caller rebuilds it, and says so before"
    assert [row["time"] for row in of("1m", bars.changed())] == [MINUTE, 2 * MINUTE]


def test_bars_that_had_to_make_room_keep_their_names_when_symbols_come() -> None:
    names = [f"S{n}" for n in range(9)]
    bars = Bars(keep=1, grace_ns=0)
    bars.update(batch([Trade(names[7], minute * MINUTE, minute, 1.0, 1.0, 0) for minute in range(2)], names))
    bars.update(batch([Trade(names[n], 0, n, 1.0, 1.0, 0) for n in (*range(7), 8)], names))
    assert [(row["symbol"], row["timeframe"]) for row in bars.changed().to_pylist()] == [("S7", "1s"), ("S7", "1m")]
