"""What must hold for everything a feed decodes."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.feeds.feed import Decoded, Feed
from storage.schema import QUOTES, TRADES


def decode(feed: Feed, *frames: bytes | str) -> Decoded:
    """Frames received one nanosecond apart, from 1,000 on."""
    encoded = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    return decode_checked(feed, encoded, np.arange(1_000, 1_000 + len(encoded)))


def decode_checked(feed: Feed, frames: Sequence[bytes], ts_recv: Any) -> Decoded:
    decoded = feed.decode(frames, ts_recv)
    for batch, schema in ((decoded.trades, TRADES), (decoded.quotes, QUOTES), (decoded.history, TRADES)):
        batch.validate(full=True)
        assert batch.schema == schema
        for field in schema:
            assert field.nullable or batch.column(field.name).null_count == 0, field.name
    rows = len(decoded.trades) + len(decoded.quotes) + len(decoded.history)
    outcomes = rows + len(decoded.errors) + len(decoded.rejected) + decoded.ignored
    assert outcomes == len(frames), "every frame has exactly one outcome"
    return decoded


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return batch.to_pylist()


def all_rows(decodeds: Sequence[Decoded]) -> list[list[dict[str, Any]]]:
    """Trades, quotes and history of several decodings, each one after the other."""
    return [
        [row for decoded in decodeds for row in getattr(decoded, name).to_pylist()]
        for name in ("trades", "quotes", "history")
    ]


def cut_at_random(feed: Feed, frames: list[bytes], ts_recv: Any, seed: int) -> list[Decoded]:
    """The frames decoded in pieces of random length, empty ones too."""
    randomness = random.Random(seed)
    cuts = [0, *sorted(randomness.choices(range(len(frames) + 1), k=20)), len(frames)]
    return [decode_checked(feed, frames[start:end], ts_recv[start:end]) for start, end in pairwise(cuts)]
