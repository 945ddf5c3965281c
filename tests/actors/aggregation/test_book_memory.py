"""The memory of books: what it holds, and that it ends."""

from random import Random

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from actors.aggregation.book_memory import Bounds, Memory
from actors.aggregation.book_sync import BookSync
from actors.feeds.feed import BookRules, Checksum
from storage.schema import BOOK_MESSAGES, LEVEL, SNAPSHOT

MEGABYTE = 1_000_000


def snapshots(names: list[str], per_side: int) -> pa.RecordBatch:
    """Books of so many levels on each side, as columns: too many for rows."""
    count, levels = len(names), 2 * per_side * len(names)
    bids = np.arange(1_000_000, 1_000_000 - per_side, -1) / 100
    asks = np.arange(1_000_001, 1_000_001 + per_side) / 100
    decimals: npt.NDArray[np.int8] = np.full(levels, 2, np.int8)
    columns = [
        pa.array(np.tile(np.repeat(np.array([0, 1], np.uint8), per_side), count)),
        pa.array(np.tile(np.concatenate([bids, asks]), count)),
        pa.array(np.ones(levels)),
        pa.array(decimals),
        pa.array(decimals),
    ]
    offsets = pa.array(np.arange(count + 1) * 2 * per_side, pa.int32())
    times = pa.array(np.ones(count, np.int64))
    return pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(pa.array(range(count), pa.int32()), pa.array(names, pa.string())),
            times,
            times,
            pa.array(np.full(count, SNAPSHOT, np.uint8)),
            *(pa.nulls(count, pa.int64()) for _ in range(4)),
            pa.ListArray.from_arrays(
                offsets,
                pa.StructArray.from_arrays(columns, fields=list(LEVEL)),
                type=BOOK_MESSAGES.field("levels").type,
            ),
        ],
        schema=BOOK_MESSAGES,
    )


@pytest.mark.parametrize(("checksum", "most"), [("none", 80 * MEGABYTE), ("kraken", 105 * MEGABYTE)])
def test_two_thousand_books_of_a_thousand_levels_a_side_take_about_a_hundred_megabytes(
    checksum: Checksum, most: int
) -> None:
    names = [f"S{n}" for n in range(2_000)]
    books = BookSync(BookRules("none", checksum, 1_000), by_request=False)
    books.add(names, 0.0)
    for start in range(0, 2_000, 100):
        books.apply(snapshots(names[start : start + 100], 1_000), 0.0)
    assert len(books.synced) == 2_000
    assert books.nbytes < most
    (row,) = books.depth(["S1999"], 1_000).to_pylist()
    assert [len(row["bids"]), len(row["asks"])] == [1_000, 1_000]


def test_snapshots_again_and_again_take_no_more_memory() -> None:
    names = [f"S{n}" for n in range(20)]
    books = BookSync(BookRules("none", "none"), by_request=False)
    books.add(names, 0.0)
    random = Random(1)
    sizes = []
    for _ in range(200):
        books.apply(snapshots(random.sample(names, 10), random.choice((10, 100, 400))), 0.0)
        sizes.append(books.nbytes)
    assert sizes[-1] == sizes[50]


def test_regions_keep_their_levels_and_never_overlap() -> None:
    random = Random(2)
    memory = Memory(Bounds(levels_per_side=500, levels=20_000), with_checksums=True)
    memory.add_books(8)
    counts = [0] * 16
    refused = 0
    for _ in range(600):
        row = random.randrange(16)
        if random.random() < 0.1:
            memory.release(row // 2)
            counts[row & ~1] = counts[row | 1] = 0
            continue
        needed = counts[row] + random.randrange(1, 60)
        if not memory.enlarge(row, needed):
            refused += 1
            assert needed > 500
            continue
        side = memory.store.sides[row]
        kept, start = int(side["first"]), int(side["start"])
        assert side["capacity"] >= needed
        # What was there is still there; now the whole region is written.
        for values in memory.store.levels:
            assert (values[kept : kept + counts[row]] == row).all()
            values[start : start + int(side["capacity"])] = row
        side["first"], side["count"] = start, needed
        counts[row] = needed
        for other in range(16):
            other_side = memory.store.sides[other]
            start = int(other_side["first"])
            assert (memory.store.levels.key[start : start + counts[other]] == other).all()
    assert refused > 0
    assert len(memory.store.levels.key) <= 20_000


def test_a_pool_that_is_full_refuses_and_serves_again_what_is_given_back() -> None:
    memory = Memory(Bounds(levels=1_000), with_checksums=False)
    memory.add_books(4)
    assert [memory.enlarge(row, 400) for row in (0, 2, 4)] == [True, True, False]
    memory.release(0)
    assert memory.enlarge(4, 400)
    memory.release(1)
    assert memory.enlarge(6, 300), "a part of a larger region does as well"


def test_small_regions_given_back_make_a_large_one() -> None:
    memory = Memory(Bounds(levels=1_000), with_checksums=False)
    memory.add_books(32)
    small = [row for row in range(62) if memory.enlarge(row, 16)]
    for number in range(31):
        memory.release(number)
    assert len(small) > 40
    assert memory.enlarge(62, 800)
    assert len(memory.store.levels.crc) == 0
