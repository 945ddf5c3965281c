"""Indicators of bars as they close are those of the whole series of bars, however its trades came."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.aggregation.bars import LEAST_FOR_INDICATORS, Bars
from storage.schema import INDICATOR_FIELDS
from storage.timeframes import TIMEFRAMES
from tests.actors.aggregation.test_bars import DAY, END, SECOND, SYMBOLS, Trade, batch, cut
from tests.actors.aggregation.test_indicators import Series, values

Said = dict[tuple[str, str, int], tuple[float | None, ...]]


def told(batch: pa.RecordBatch) -> Said:
    rows = {(row["symbol"], row["timeframe"], row["time"]): row for row in batch.to_pylist()}
    return {key: tuple(row[name] for name in INDICATOR_FIELDS) for key, row in rows.items()}


def expected(bars: list[dict[str, Any]]) -> Said:
    """Of every bar, from whole series."""
    found: Said = {}
    ordered = sorted(bars, key=lambda bar: (bar["symbol"], bar["timeframe"], bar["time"]))
    for (symbol, timeframe), group in itertools.groupby(ordered, lambda bar: (bar["symbol"], bar["timeframe"])):
        mine = list(group)
        series = Series(*(np.array([bar[name] for bar in mine]) for name in ("high", "low", "close", "volume")))
        for bar, row in zip(mine, values(series).tolist(), strict=True):
            found[symbol, timeframe, bar["time"]] = tuple(None if value != value else value for value in row)
    return found


def walk(count: int, every_s: int, seed: int = 1) -> list[Trade]:
    """A trade every so many seconds."""
    random = np.random.default_rng(seed)
    prices = 100 * np.exp(np.cumsum(random.normal(0, 0.01, count)))
    return [
        Trade(SYMBOLS[0], n * every_s * SECOND, n, float(price), float(size), n % 2)
        for n, (price, size) in enumerate(zip(prices, random.exponential(1, count), strict=True))
    ]


def all_bars(trades: list[Trade]) -> list[dict[str, Any]]:
    bars = Bars(keep=10_000, grace_ns=0)
    bars.update(batch(trades))
    bars.close(END)
    return bars.changed().to_pylist()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 400), max_size=6), st.randoms())
def test_what_was_told_last_is_what_the_whole_series_says_in_whatever_order_trades_came(seed, cuts, random) -> None:
    trades = walk(240, 37, seed)
    shuffled = sorted(trades, key=lambda trade: trade.trade_id + random.choice([0, 0, 0, random.random() * 100]))
    bars = Bars(LEAST_FOR_INDICATORS, grace_ns=0)
    said: Said = {}
    for part in cut(shuffled, cuts):
        assert bars.update(batch(part)) == []
        bars.close(max(trade.ts_event for trade in part) if part else 0)
        said |= told(bars.indicators())
    bars.close(END)
    said |= told(bars.indicators())
    assert said == expected(all_bars(trades))
    for timeframe in TIMEFRAMES:
        newest = told(bars.newest_indicators(SYMBOLS[0], timeframe, 1000))
        assert newest == {key: row for key, row in said.items() if key[1] == timeframe}


def test_a_burst_of_more_bars_than_are_kept_tells_the_indicators_of_each() -> None:
    trades = walk(5_000, 3)
    bars = Bars(LEAST_FOR_INDICATORS, grace_ns=0)
    assert bars.update(batch(trades)) == []
    bars.close(END)
    whole = expected(all_bars(trades))
    assert told(bars.indicators()) == whole
    newest = told(bars.newest_indicators(SYMBOLS[0], "1s", 1000))
    assert newest == {key: whole[key] for key in sorted(key for key in whole if key[1] == "1s")[-len(newest) :]}
    assert len(newest) == LEAST_FOR_INDICATORS - 199


def test_bars_kept_over_a_start_go_on_to_the_last_bit() -> None:
    trades = walk(3_000, 600)
    today = trades[2_900].ts_event // DAY * DAY
    first, second = Bars(LEAST_FOR_INDICATORS, grace_ns=0), Bars(LEAST_FOR_INDICATORS, grace_ns=0)
    first.update(batch(trades[:2_900]))
    first.close(END)
    first.indicators()
    second.restore(SYMBOLS[0], first.history(SYMBOLS[0], today))
    second.update(batch([trade for trade in trades[:2_900] if trade.ts_event >= today]))
    second.begin({SYMBOLS[0]: (today, END)})
    assert second.indicators().num_rows == 0, "they were told before"
    for bars in (first, second):
        bars.update(batch(trades[2_900:]))
        bars.close(END)
    # The lowest timeframe is not kept.
    one, other = (
        {key: row for key, row in told(bars.indicators()).items() if key[1] != "1s"} for bars in (first, second)
    )
    whole = expected(all_bars(trades))
    assert one == other == {key: whole[key] for key in one}
    assert len(one) > 100


def test_an_open_bar_has_no_indicators_and_few_bars_no_others_to_look_back_at() -> None:
    bars = Bars(LEAST_FOR_INDICATORS, grace_ns=0)
    bars.update(batch(walk(3, 1)))
    bars.close(2 * SECOND)
    assert sorted(told(bars.indicators())) == [(SYMBOLS[0], "1s", 0), (SYMBOLS[0], "1s", SECOND)]
    small = Bars(2, grace_ns=0)
    small.update(batch(walk(3, 1)))
    small.close(END)
    assert small.indicators().num_rows == 0
    assert small.newest_indicators(SYMBOLS[0], "1s", 10).num_rows == 0
    assert small.newest_indicators("NOPE", "1s", 10).num_rows == 0
