"""What must hold for everything a feed decodes.

- `decode(feed, *frames)` and `decode_checked(feed, frames, ts_recv)` decode and check all that can be said of any
  result, whatever the exchange; use them in place of `feed.decode`.
- `cut_at_random(feed, ...)` decodes the same frames in pieces; `all_rows` puts the rows together again.
- `survives(feed, frames, seed, count)` gives a feed mutated frames (see `mutations.py`).
- `same_outcomes(fast, slow, frames)` holds a feed and one without layouts together (`without_layouts`).

Recorded frames come from `recordings.py`, or from its fixtures in `conftest.py`.

The invariant of outcomes: every frame has at least one row (of any batch), or is rejected, or gives one refusal, or
is ignored. It has exactly one of these, except that a frame may have both rows and a place in `rejected`: when one of
several events in it cannot be used, or when it leaves a `BROKEN` row for a book. Replies, notices and granted
subscriptions come beside the outcome, which is then mostly "ignored". What is left out because its symbol was
unsubscribed has no outcome at all: tests of that say how many such frames there are.
"""

import math
import random
from collections.abc import Sequence
from itertools import batched, pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.feeds.feed import Decoded, Feed, Refusal, RejectedFrame
from actors.feeds.layouts import KnownLayouts
from storage.schema import (
    BOOK_MESSAGES,
    BROKEN,
    CHANGE,
    CHECKSUM,
    DERIVATIVES,
    LIQUIDATIONS,
    QUOTES,
    SNAPSHOT,
    TRADES,
)
from tests.actors.feeds.mutations import mutated

#: The batches of `Decoded` and their schemas.
BATCHES: Final = {
    "trades": TRADES,
    "quotes": QUOTES,
    "history": TRADES,
    "books": BOOK_MESSAGES,
    "derivatives": DERIVATIVES,
    "liquidations": LIQUIDATIONS,
}
_FIRST_TIME: Final = 946_684_800 * 10**9
_LAST_TIME: Final = 4_102_444_800 * 10**9


def decode(feed: Feed, *frames: bytes | str, left_out: int = 0) -> Decoded:
    """Frames received one nanosecond apart, from 1,000 on."""
    encoded = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    return decode_checked(feed, encoded, np.arange(1_000, 1_000 + len(encoded)), left_out)


def decode_checked(feed: Feed, frames: Sequence[bytes], ts_recv: Any, left_out: int = 0) -> Decoded:
    """Decode frames that were all received at different times, and check the result. `left_out` is the number of
    frames of symbols that were unsubscribed."""
    # Each an object of its own, by which a rejected one is found again.
    own = [bytes(bytearray(frame)) for frame in frames]
    position = {moment: at for at, moment in enumerate(np.asarray(ts_recv).tolist())}
    assert len(position) == len(own), "received at different times, so that a row tells its frame"
    decoded = feed.decode(own, ts_recv)
    with_rows: set[int] = set()
    for name, schema in BATCHES.items():
        batch = getattr(decoded, name)
        check_batch(batch, schema)
        at = [position[moment] for moment in batch.column("ts_recv").to_pylist()]
        assert at == sorted(at), f"{name} keep the order of the frames"
        with_rows.update(at)
    rejected = _positions_of([one.frame for one in decoded.rejected], own)
    answers: list[RejectedFrame | Refusal] = [*decoded.rejected, *decoded.refused]
    for one in answers:
        assert one.reason, "with a reason"
    outcomes = len(with_rows.union(rejected)) + decoded.ignored + len(decoded.refused)
    assert outcomes == len(frames) - left_out, "every frame has one outcome"
    return decoded


def check_batch(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    """Of this schema, without nulls where there must be none, and no value that makes no sense."""
    batch.validate(full=True)
    assert batch.schema == schema
    for field in schema:
        assert field.nullable or batch.column(field.name).null_count == 0, field.name
    columns: dict[str, list[Any]] = {
        name: batch.column(name).to_pylist() for name in schema.names if name not in ("symbol", "levels")
    }
    assert all(_FIRST_TIME <= moment < _LAST_TIME or 0 < moment < 10**6 for moment in columns["ts_event"])
    assert all(side in (0, 1, None) for name in ("side", "last_side") for side in columns.get(name, ()))
    for name, values in columns.items():
        if schema.field(name).type == pa.float64():
            signed = schema is DERIVATIVES
            assert all(value is None or (math.isfinite(value) and (signed or value > 0)) for value in values), name
    if schema is BOOK_MESSAGES:
        _check_books(batch, columns)


def _check_books(batch: pa.RecordBatch, columns: dict[str, list[Any]]) -> None:
    assert set(columns["kind"]) <= {SNAPSHOT, CHANGE, CHECKSUM, BROKEN}
    for name in ("first_sequence", "sequence", "previous_sequence", "checksum"):
        assert all(value is None or value >= 0 for value in columns[name]), name
    assert all(value is None or value < 2**32 for value in columns["checksum"])
    messages: Any = batch.column("levels")
    for kind, length in zip(columns["kind"], messages.value_lengths().to_pylist(), strict=True):
        assert not length or kind in (SNAPSHOT, CHANGE), "only snapshots and changes have levels"
    levels = messages.flatten()
    assert all(column.null_count == 0 for column in levels.flatten())
    side, price, size, price_decimals, size_decimals = (column.to_numpy() for column in levels.flatten())
    assert np.isin(side, (0, 1)).all()
    assert ((price > 0) & np.isfinite(price) & (size >= 0) & np.isfinite(size)).all()
    assert (price_decimals >= -1).all()
    assert (size_decimals >= -1).all()


def _positions_of(chosen: Sequence[bytes], frames: Sequence[bytes]) -> list[int]:
    positions: dict[int, list[int]] = {}
    for at, frame in enumerate(frames):
        positions.setdefault(id(frame), []).append(at)
    # The same object stands at several places only where Python keeps one of it: without a byte or with one.
    found = [positions[id(frame)].pop(0) for frame in chosen]
    assert found == sorted(found), "rejected frames keep their order and are named once"
    return found


def rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    return batch.to_pylist()


def all_rows(decodeds: Sequence[Decoded]) -> list[list[dict[str, Any]]]:
    """The rows of each batch (in the order of `BATCHES`) of several decodings, each one after the other."""
    return [[row for decoded in decodeds for row in getattr(decoded, name).to_pylist()] for name in BATCHES]


def cut_at_random(feed: Feed, frames: Sequence[bytes], ts_recv: Any, seed: int) -> list[Decoded]:
    """The frames decoded in pieces of random length, empty ones too."""
    randomness = random.Random(seed)
    cuts = [0, *sorted(randomness.choices(range(len(frames) + 1), k=20)), len(frames)]
    return [decode_checked(feed, frames[start:end], ts_recv[start:end]) for start, end in pairwise(cuts)]


def without_layouts[Own: Feed](feed: Own) -> Own:
    """The feed so that every frame goes through its JSON decoder; to be called after its symbols are subscribed."""
    layouts = vars(feed)["_layouts"]
    assert isinstance(layouts, KnownLayouts)
    vars(feed)["_layouts"] = KnownLayouts([], {key: {} for key in vars(layouts)["_lists"]})
    return feed


def same_outcomes(one: Feed, other: Feed, frames: Sequence[bytes], piece: int = 200) -> None:
    """Two feeds in the same state make the same of the same frames, a piece at a time."""
    for number, part in enumerate(batched(frames, piece)):
        ts_recv = np.arange(len(part)) + 1_000 + number * piece
        first, second = decode_checked(one, part, ts_recv), decode_checked(other, part, ts_recv)
        assert all_rows([first]) == all_rows([second])
        for name in ("subscribed", "refused", "replies", "notices", "rejected", "ignored", "holes"):
            assert getattr(first, name) == getattr(second, name), name
        assert first.merged.to_pylist() == second.merged.to_pylist()


def survives(feed: Feed, frames: Sequence[bytes], seed: int, count: int = 20_000, may_grow: int = 50) -> Decoded:
    """Give a feed that has subscribed its recorded frames and then `count` mutated ones: nothing raises, each has
    one outcome, and the feed then holds at most `may_grow` objects more than after the good ones. Returns what the
    good frames gave, decoded once more at the end."""
    decode(feed, *frames)
    before = _objects(feed)
    for number, part in enumerate(batched(mutated(frames, count, seed), 100)):
        decode_checked(feed, part, np.arange(len(part)) + 1_000 + number * 100)
    assert _objects(feed) <= before + may_grow, "what arrives does not make a feed grow"
    return decode(feed, *frames)


def _objects(root: object) -> int:
    """How many objects a feed holds; each 64 characters, bytes or numbers of an array count as one."""
    seen: set[int] = set()
    left = [root]
    count = 0
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        count += 1
        if isinstance(one, str | bytes | bytearray | np.ndarray | pa.Array):
            count += len(one) // 64
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset) or type(one).__name__ == "deque":
            left += one  # type: ignore[arg-type]
        else:
            left += list(getattr(one, "__dict__", {}).values())
            slots = (name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ()))
            left += [getattr(one, name) for name in slots if hasattr(one, name)]
    return count
