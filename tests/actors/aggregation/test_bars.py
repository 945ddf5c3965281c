"""Bars: what a plain slow reference says, whatever the order and the cutting of batches."""

import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.bars import BUCKET_NS, Bars
from storage.schema import TRADES

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Trade:
    symbol: str
    ts_event: int
    trade_id: int
    price: float
    size: float
    side: int


# Sizes are multiples of 1/8, so that sums are exact and do not depend on their order.
trades_strategy = st.lists(
    st.builds(
        Trade,
        symbol=st.sampled_from(SYMBOLS),
        ts_event=st.integers(0, 5 * BUCKET_NS),
        trade_id=st.just(0),
        price=st.integers(1, 1000).map(lambda n: n / 8),
        size=st.integers(1, 1000).map(lambda n: n / 8),
        side=st.integers(0, 1),
    ),
    max_size=60,
).map(lambda trades: [Trade(**{**t.__dict__, "trade_id": i}) for i, t in enumerate(trades)])


def batch(trades: list[Trade]) -> pa.RecordBatch:
    n = len(trades)
    symbol = pa.DictionaryArray.from_arrays(
        pa.array([SYMBOLS.index(t.symbol) for t in trades], pa.int32()), pa.array(SYMBOLS)
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


def reference(trades: list[Trade]) -> dict[tuple[str, int], dict[str, float]]:
    buckets = defaultdict(list)
    for trade in trades:
        buckets[trade.symbol, trade.ts_event - trade.ts_event % BUCKET_NS].append(trade)
    bars = {}
    for key, members in buckets.items():
        members.sort(key=lambda t: (t.ts_event, t.trade_id))
        bars[key] = {
            "open": members[0].price,
            "high": max(t.price for t in members),
            "low": min(t.price for t in members),
            "close": members[-1].price,
            "volume": sum(t.size for t in members),
            "quote_volume": sum(t.size * t.price for t in members),
            "trade_count": len(members),
            "buy_volume": sum(t.size for t in members if t.side == 0),
        }
    return bars


def as_dict(bars: Bars) -> dict[tuple[str, int], dict[str, float]]:
    found = {}
    for symbol in bars.symbols:
        for row in bars.newest(symbol, 1000).to_pylist():
            found[symbol, row["time"]] = {
                k: row[k]
                for k in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume")
            }
    return found


@given(trades_strategy, st.lists(st.integers(0, 60), max_size=5), st.randoms())
def test_bars_equal_the_reference_however_batches_are_cut_and_ordered(trades, cuts, random) -> None:
    shuffled = list(trades)
    random.shuffle(shuffled)
    edges = sorted({0, len(trades), *(min(c, len(trades)) for c in cuts)})
    bars = Bars(keep=1000, grace_ns=0)
    for start, end in itertools.pairwise(edges):
        bars.update(batch(shuffled[start:end]))
        bars.close(int(random.random() * 6 * BUCKET_NS))
    assert as_dict(bars) == reference(trades)


def one(ts_event: int, trade_id: int, price: float) -> pa.RecordBatch:
    return batch([Trade("BTCUSDT", ts_event, trade_id, price, 1.0, 0)])


def test_a_late_trade_revises_its_bar_and_no_other() -> None:
    bars = Bars(keep=10, grace_ns=0)
    bars.update(one(10 * SECOND, 1, 100.0))
    bars.update(one(70 * SECOND, 3, 300.0))
    bars.close(BUCKET_NS)
    bars.changed()
    bars.update(one(20 * SECOND, 2, 200.0))
    [revised] = bars.changed().to_pylist()
    assert (revised["time"], revised["close"], revised["revision"], revised["closed"]) == (0, 200.0, 1, True)
    [first, second] = bars.newest("BTCUSDT", 10).to_pylist()
    assert (second["close"], second["revision"], second["closed"]) == (300.0, 0, False)
    assert first["trade_count"] == 2


def test_a_bar_closes_once_the_grace_is_over() -> None:
    bars = Bars(keep=10, grace_ns=50_000_000)
    bars.update(one(10 * SECOND, 1, 100.0))
    bars.changed()
    bars.close(BUCKET_NS + 49_000_000)
    assert bars.changed().num_rows == 0
    bars.close(BUCKET_NS + 50_000_000)
    assert bars.changed().to_pylist()[0]["closed"]
    bars.close(BUCKET_NS + 60_000_000)
    assert bars.changed().num_rows == 0


def test_minutes_without_trades_have_no_bar() -> None:
    bars = Bars(keep=10, grace_ns=0)
    bars.update(one(0, 1, 100.0))
    bars.update(one(3 * BUCKET_NS, 2, 100.0))
    assert bars.newest("BTCUSDT", 10).column("time").to_pylist() == [0, 3 * BUCKET_NS]


def test_a_trade_for_a_bar_let_go_is_handed_back_to_be_read_from_the_files() -> None:
    bars = Bars(keep=2, grace_ns=0)
    for minute in range(4):
        bars.update(one(minute * BUCKET_NS, minute, 100.0))
    bars.close(10 * BUCKET_NS)
    bars.changed()
    bars.close(10 * BUCKET_NS)
    assert bars.newest("BTCUSDT", 10).column("time").to_pylist() == [2 * BUCKET_NS, 3 * BUCKET_NS]
    assert bars.update(one(5 * SECOND, 9, 7.0)) == [("BTCUSDT", 0)]
    assert bars.changed().num_rows == 0
    rebuilt = bars.rebuild(batch([Trade("BTCUSDT", 0, 0, 100.0, 1.0, 0), Trade("BTCUSDT", 5 * SECOND, 9, 7.0, 1.0, 0)]))
    assert (
        rebuilt.to_pylist()[0] | {"low": 7.0, "open": 100.0, "trade_count": 2, "closed": True} == rebuilt.to_pylist()[0]
    )


def test_an_unknown_symbol_has_no_bars() -> None:
    assert Bars(keep=2, grace_ns=0).newest("NOPE", 10).num_rows == 0


def test_bars_let_go_are_only_those_already_reported() -> None:
    bars = Bars(keep=2, grace_ns=0)
    for minute in range(4):
        bars.update(one(minute * BUCKET_NS, minute, 100.0))
    bars.close(10 * BUCKET_NS)
    assert np.array_equal(bars.changed().column("time"), [m * BUCKET_NS for m in range(4)])
