"""Trades of many symbols judged by four checks, beside the same checks over rolling windows in pandas."""

import time
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from actors.aggregation.quality import Quality
from actors.aggregation.quality_kernels import (
    ALPHA,
    DATA_FRESHNESS,
    HISTORY,
    HOUR_NS,
    LEAST,
    PRICE_ANOMALY,
    VALID_VALUES,
    VOLUME_SANITY,
    Rules,
)
from benchmarks.table import Bound, Row
from storage.schema import ORDER_ID, TRADES

TRADES_MADE: Final = 1_000_000
SYMBOLS: Final = 100
ROUNDS: Final = 5
START_NS: Final = 1_767_268_800_000_000_000
#: One of so many trades fails a check.
ODD_ONE: Final = 10_000
RULES: Final = Rules(
    late_ns=60_000_000_000,
    early_ns=5_000_000_000,
    deviations=3.0,
    change=0.1,
    ratio=100.0,
    level_shift_trades=10,
    silence_ns=300_000_000_000,
)


def rows() -> list[Row]:
    """Trades in a second of processor time."""
    trades = made()
    frame = trades.select(["ts_event", "ts_recv", "price", "size"]).to_pandas()
    frame["symbol"] = np.asarray(trades.column("symbol").indices)  # type: ignore[attr-defined]
    Quality(RULES).judge(trades)  # makes the memory
    ours, theirs = [], []
    for _ in range(ROUNDS):
        quality = Quality(RULES)
        began = time.process_time()
        verdicts = quality.judge(trades).verdicts
        ours.append(TRADES_MADE / (time.process_time() - began))
        began = time.process_time()
        expected = _pandas(frame)
        theirs.append(TRADES_MADE / (time.process_time() - began))
        assert (verdicts == expected).all()
    return [
        Row(
            f"quality: {TRADES_MADE / 1e6:g} M trades of {SYMBOLS} symbols in turns",
            median(ours),
            "trades/s",
            median(theirs),
            "pandas, rolling windows",
            Bound(ratio_at_least=20),
            f"verdicts, score and counts by hour, one core; {np.count_nonzero(verdicts):,} flagged by both",
        )
    ]


def made() -> pa.RecordBatch:
    """Trades as `storage.schema.TRADES`, a few of which fail one check or another."""
    random = np.random.default_rng(7)
    codes = random.integers(0, SYMBOLS, TRADES_MADE).astype(np.int32)
    ts_event = START_NS + np.sort(random.integers(0, 2 * HOUR_NS, TRADES_MADE))
    ts_recv = ts_event + random.integers(0, 200_000_000, TRADES_MADE)
    price = np.round(100 * np.exp(np.cumsum(random.normal(0, 1e-5, TRADES_MADE))), 2)
    size = np.round(random.exponential(1, TRADES_MADE) + 1e-4, 4)
    # Once every symbol has a history.
    odd = random.choice(np.arange(100 * SYMBOLS, TRADES_MADE), TRADES_MADE // ODD_ONE, replace=False)
    negative, stale, spike, outsized = np.array_split(odd, 4)
    price[negative] *= -1
    ts_recv[stale] += 100_000_000_000
    price[spike] *= 3
    size[outsized] *= 1e6
    columns: dict[str, Any] = {
        "symbol": pa.DictionaryArray.from_arrays(codes, [f"S{number}" for number in range(SYMBOLS)]),
        "ts_event": ts_event,
        "ts_recv": ts_recv,
        "trade_id": np.arange(TRADES_MADE),
        "price": price,
        "size": size,
        "side": random.integers(0, 2, TRADES_MADE).astype(np.uint8),
        "maker_order_id": pa.nulls(TRADES_MADE, ORDER_ID),
        "taker_order_id": pa.nulls(TRADES_MADE, ORDER_ID),
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in TRADES.names], schema=TRADES)


def _pandas(frame: pd.DataFrame) -> Any:
    """The verdicts, after the score and the counts were made as well. What fails the first two checks is left out of
    the windows; what fails the others is not, which makes no difference where so few do."""
    valid = (frame["price"] > 0) & np.isfinite(frame["price"]) & (frame["size"] >= 0) & np.isfinite(frame["size"])
    fresh = (frame["ts_recv"] - frame["ts_event"]).between(-RULES.early_ns, RULES.late_ns)
    good = frame[valid & fresh]
    symbol = good["symbol"]
    before = good.groupby(symbol, sort=False)[["price", "size"]].shift()
    windows = before.groupby(symbol, sort=False).rolling(HISTORY, min_periods=LEAST)
    mean, deviation = (one.droplevel(0).sort_index() for one in (windows.mean(), windows["price"].std(ddof=0)))
    change = (good["price"] - before["price"]).abs() > RULES.change * before["price"]
    far = (good["price"] - mean["price"]).abs() > RULES.deviations * deviation
    outsized = good["size"] > RULES.ratio * mean["size"]
    verdicts = np.zeros(len(frame), np.uint8)
    verdicts[good.index[outsized]] = VOLUME_SANITY
    verdicts[good.index[change & far]] = PRICE_ANOMALY
    verdicts[~fresh] = DATA_FRESHNESS
    verdicts[~valid] = VALID_VALUES
    passed = pd.Series(verdicts == 0, dtype=float)
    passed.groupby(frame["symbol"], sort=False).ewm(alpha=ALPHA, adjust=False).mean()
    frame.groupby(["symbol", frame["ts_recv"] // HOUR_NS, verdicts]).size()
    return verdicts
