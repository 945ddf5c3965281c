"""A million mutated frames for each exchange: nothing raises, every rejected frame has a reason, memory stays.

The frames are those of the recordings and of the exchanges' documentation, mutated as in the tests. It takes minutes,
so it runs only when it is asked for: `python -m benchmarks fuzz`.
"""

import gc
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import batched
from typing import Final

import numpy as np
import psutil
import pyarrow as pa

from actors.feeds.feed import Feed
from benchmarks.recorded import read_recordings
from benchmarks.table import Bound, Row
from tests.actors.feeds import test_bitfinex_layouts, test_bybit, test_deribit_layouts, test_kraken_v2
from tests.actors.feeds.mutations import mutated

FRAMES: Final = 1_000_000
FRAMES_AT_ONCE: Final = 1_000
#: Memory is compared with that after this part of them: until then code is compiled and pools get their size.
WARM_UP: Final = 0.05
MEMORY_MB: Final = 32

#: 2020-09-13, in ns.
FIRST_TIME: Final = 1_600_000_000_000_000_000

#: What differs between two times the same reason is given.
_DETAILS: Final = re.compile(r"""[0-9]+|`[^`]*`|'[^']*'|"[^"]*"|:.*""", re.DOTALL)


#: One that has subscribed, and what it is sent before the mutations.
Subject = tuple[Feed, Sequence[bytes]]


@dataclass
class Outcome:
    """What became of the frames of one exchange."""

    frames: int = 0
    rejected: int = 0
    reasons: set[str] = field(default_factory=set)
    raised: list[str] = field(default_factory=list)
    seconds: float = 0.0
    grown_mb: float = 0.0


def rows() -> list[Row]:
    """Speed and growth for each exchange; raises `UnavailableError` where recordings are missing."""
    found = []
    for name, own in subjects().items():
        outcome = Outcome()
        for seed, (feed, frames) in enumerate(own):
            fuzz(feed, frames, FRAMES // len(own), seed, outcome)
        reasons = f"{outcome.rejected:,} rejected for {len(outcome.reasons)} reasons"
        first = f"the first: {outcome.raised[0]}" if outcome.raised else ""
        found += [
            Row(f"fuzz: {name}", outcome.frames / outcome.seconds, "frames/s", note=reasons),
            Row(f"fuzz: {name}, exceptions", len(outcome.raised), bound=Bound(at_most=0), note=first),
            Row(f"fuzz: {name}, memory growth", outcome.grown_mb, "MB", bound=Bound(at_most=MEMORY_MB)),
        ]
    return found


def fuzz(feed: Feed, frames: Sequence[bytes], count: int, seed: int, outcome: Outcome) -> None:
    """Give a feed that has subscribed these frames and then `count` mutations of them; note what became of those."""
    feed.decode(frames, np.arange(len(frames)) + FIRST_TIME)
    warm, before = int(count * WARM_UP), None
    for number, part in enumerate(batched(mutated(frames, count, seed), FRAMES_AT_ONCE)):
        if before is None and number * FRAMES_AT_ONCE >= warm:
            before = _memory_mb()
        _decode(feed, part, number, outcome)
    outcome.grown_mb = max(outcome.grown_mb, _memory_mb() - (before or 0.0))


def _decode(feed: Feed, frames: Sequence[bytes], number: int, outcome: Outcome) -> None:
    ts_recv = np.arange(len(frames)) + FIRST_TIME + (1 + number) * len(frames)
    outcome.frames += len(frames)
    started = time.process_time()
    try:
        decoded = feed.decode(frames, ts_recv)
    except Exception as error:  # noqa: BLE001
        outcome.raised.append(f"{type(error).__name__}: {str(error)[:80]} in frames {number * len(frames):,} and on")
        return
    finally:
        outcome.seconds += time.process_time() - started
    outcome.rejected += len(decoded.rejected)
    outcome.reasons.update(_DETAILS.sub("", one.reason) for one in decoded.rejected)
    assert all(one.reason for one in decoded.rejected)


def _memory_mb() -> float:
    """Resident memory, without what pools only keep for later."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    return float(psutil.Process().memory_info().rss) / 1e6


def subjects() -> dict[str, list[Subject]]:
    """Feeds and frames by exchange. What was not recorded, or is spoken otherwise today, comes from documentation."""
    recorded = read_recordings()
    perpetual = replace(recorded["deribit"], symbols=(*recorded["deribit"].symbols, "BTC-PERPETUAL"))
    found = {name: [(one.feed(), one.frames)] for name, one in recorded.items()}
    found["deribit"] = [(perpetual.feed(), [*perpetual.frames, *test_deribit_layouts.samples()])]
    found["kraken"].append((test_kraken_v2.new_feed(), [frame.encode() for frame in test_kraken_v2.ALL]))
    connection, frames = test_bitfinex_layouts.samples()
    found["bitfinex"].append((connection.feed, frames))
    found["bybit"] = [
        (test_bybit.subscribed(*symbols), test_bybit.all_frames(category))
        for category, symbols in test_bybit.SYMBOLS.items()
    ]
    return found
