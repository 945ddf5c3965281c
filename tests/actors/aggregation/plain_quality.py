"""The four checks as one would write them down: a trade at a time, with lists."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from actors.aggregation.quality_kernels import Rules
from storage.schema import TRADES

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
RULES = Rules(
    late_ns=60 * SECOND,
    early_ns=5 * SECOND,
    deviations=3.0,
    change=0.1,
    ratio=100.0,
    level_shift_trades=10,
    silence_ns=300 * SECOND,
)


@dataclass(frozen=True)
class Trade:
    symbol: str
    ts_event: int
    ts_recv: int
    trade_id: int
    price: float
    size: float


def batch(trades: Iterable[Trade]) -> pa.RecordBatch:
    """`storage.schema.TRADES`."""
    rows = list(trades)
    names = sorted({trade.symbol for trade in rows})
    columns: list[Any] = [
        pa.DictionaryArray.from_arrays(
            pa.array([names.index(trade.symbol) for trade in rows], pa.int32()), pa.array(names, pa.string())
        )
    ]
    columns += [
        pa.array([getattr(trade, name) for trade in rows], TRADES.field(name).type)
        for name in ("ts_event", "ts_recv", "trade_id", "price", "size")
    ]
    columns += [pa.array([0] * len(rows), pa.uint8()), *[pa.nulls(len(rows), pa.binary(16))] * 2]
    return pa.RecordBatch.from_arrays(columns, schema=TRADES)


@dataclass
class _Symbol:
    score: float = 1.0
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    late: Counter[int] = field(default_factory=Counter)
    prices: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    candidates: list[tuple[int, float]] = field(default_factory=list)
    newest: int = 0


class PlainQuality:
    """By symbol: its score, and counts by hour (ns since the epoch) and name."""

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules = rules
        self.symbols: dict[str, _Symbol] = {}

    def judge(self, trade: Trade) -> tuple[str, list[tuple[str, int, int, float, float]]]:
        """The check it fails ("" where it passes), and the events it shows."""
        one = self.symbols.setdefault(trade.symbol, _Symbol())
        hour = trade.ts_recv // HOUR * HOUR
        for old in [key for key in one.counts if key[0] != hour and (key[0] - hour) % (168 * HOUR) == 0]:
            del one.counts[old]
            one.late.pop(old[0], None)
        events = self._silence(one, trade)
        failed = self._failed(one, trade, hour, events)
        one.score = 0.1 * (not failed) + (1 - 0.1) * one.score
        one.counts[hour, failed or "passed"] += 1
        one.counts[hour, "zero_sizes"] += trade.size == 0
        for kind, *_ in events:
            one.counts[hour, kind] += 1
        return failed, events

    def _silence(self, one: _Symbol, trade: Trade) -> list[tuple[str, int, int, float, float]]:
        if not 0 < trade.ts_event <= trade.ts_recv + self._rules.early_ns or trade.ts_event <= one.newest:
            return []
        before, one.newest = one.newest, trade.ts_event
        if not before or trade.ts_event - before <= self._rules.silence_ns:
            return []
        last = one.prices[-1] if one.prices else 0.0
        return [("silences", before, trade.ts_event, last, trade.price)]

    def _failed(self, one: _Symbol, trade: Trade, hour: int, events: list[Any]) -> str:
        rules, price, size = self._rules, trade.price, trade.size
        if not (math.isfinite(price) and price > 0 and math.isfinite(size) and size >= 0):
            return "valid_values"
        late = trade.ts_recv - trade.ts_event
        if trade.ts_event <= 0 or not -rules.early_ns <= late <= rules.late_ns:
            return "data_freshness"
        one.late[hour] += late
        known = one.prices[-100:]
        if len(known) >= 10 and abs(price - known[-1]) > rules.change * known[-1] and self._is_far(price, known):
            agreeing = [*one.candidates, (trade.ts_event, price)]
            low, high = min(p for _, p in agreeing), max(p for _, p in agreeing)
            one.candidates = agreeing if high - low <= rules.change * low else agreeing[-1:]
            if len(one.candidates) == rules.level_shift_trades:
                events.append(("level_shifts", one.candidates[0][0], trade.ts_event, known[-1], price))
                one.prices, one.candidates = [p for _, p in one.candidates], []
            return "price_anomaly"
        one.prices.append(price)
        one.candidates = []
        sizes = one.sizes[-100:]
        total = math.fsum(sizes)
        if len(sizes) >= 10 and total > 0 and size * len(sizes) > rules.ratio * total:
            one.sizes.append(rules.ratio * total / len(sizes))
            return "volume_sanity"
        one.sizes.append(size)
        return ""

    def _is_far(self, price: float, known: list[float]) -> bool:
        exact = [Fraction(one) for one in known]
        mean = sum(exact) / len(exact)
        variance = sum((one - mean) ** 2 for one in exact) / len(exact)
        return (Fraction(price) - mean) ** 2 > Fraction(self._rules.deviations) ** 2 * variance


def many(symbol: str, prices: Iterable[float], start_ns: int, step_ns: int = SECOND, first_id: int = 1) -> list[Trade]:
    """A trade every step, of size 1 and received 20 ms after it was made."""
    return [
        Trade(symbol, start_ns + n * step_ns, start_ns + n * step_ns + 20_000_000, first_id + n, float(price), 1.0)
        for n, price in enumerate(prices)
    ]


def walk(count: int, seed: int, start: float = 100.0) -> list[float]:
    """Prices that go on as prices do."""
    steps = np.random.default_rng(seed).normal(0, 2e-4, count)
    prices: list[float] = (start * np.exp(np.cumsum(steps))).tolist()
    return prices
