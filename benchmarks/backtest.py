"""A backtest over a million bars, beside going from bar to bar with money and units, which has to give the same."""

import time
from statistics import median
from typing import Final

import numpy as np

from benchmarks.table import Bound, Row
from research.backtest import CAPITAL, FEE, SLIPPAGE, backtest
from tests.research.bars import made, positions
from tests.research.plain_backtest import plain

BARS: Final = 1_000_000
#: Of these, what the peer is given in a round.
PART: Final = 50_000
ROUNDS: Final = 7


def rows() -> list[Row]:
    """Bars in a second of processor time."""
    random = np.random.default_rng(7)
    bars = made(random, BARS, step=0.0005)
    wanted = positions(random, bars, changes=0.02)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        backtest(bars, wanted)
        ours.append(BARS / (time.process_time() - began))
        began = time.process_time()
        _, curve = plain(bars[:PART], wanted[:PART], CAPITAL, FEE, SLIPPAGE)
        theirs.append(PART / (time.process_time() - began))
    found = backtest(bars[:PART], wanted[:PART])
    assert (np.abs(found.equity - curve) <= 1e-12 * curve.cummax()).all()
    return [
        Row(
            "backtest: a symbol's bars, positions and trades",
            median(ours),
            "bars/s",
            median(theirs),
            "bar by bar",
            Bound(ratio_at_least=10),
            f"{found.metrics.trades:,} trades in {PART:,} bars, the same within 1e-12",
        )
    ]
