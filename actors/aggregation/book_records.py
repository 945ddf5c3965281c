"""The memory of the books of one connection, as the compiled passes over it see it."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

#: Of a book, whether it can be trusted; what is shown also depends on whether it is crossed or silent.
SYNCING: Final = 0
SYNCED: Final = 1
GAPPED: Final = 2
STALE: Final = 3

#: Of `actors.feeds.feed.Chain`, as numbers.
NO_CHAIN: Final = 0
PREVIOUS: Final = 1
RANGE: Final = 2
NEXT: Final = 3

#: A sequence or checksum the message does not have.
NOTHING: Final = -1

#: Why a book changed its state.
NO_REASON: Final = 0
HOLE: Final = 1
WRONG_CHECKSUM: Final = 2
BROKEN_MESSAGE: Final = 3
NO_ROOM: Final = 4
CROSSED: Final = 5
STAYED_CROSSED: Final = 6
SILENT: Final = 7
LOST: Final = 8

#: How the pass ends.
DONE: Final = 0
NEEDS_REGION: Final = 1
NEEDS_BUFFER: Final = 2

#: What the caller refused, bits of `PROGRESS.refused`.
REGION_REFUSED: Final = 1
BUFFER_REFUSED: Final = 2

#: Whether a requested snapshot has its place in the stream.
FITS: Final = 0
NO_SEQUENCE: Final = 1
TOO_OLD: Final = 2

#: A book. `sequence` is that of its contents, `heard` that of the last message of its stream: a requested snapshot
#: may be `ahead` of the stream. It must not be older than `floor`, which also counts messages that could not be read.
#: `doubtful`: there was such a message, so the answer to a request made before may miss it.
#: `unheard`: nothing came of its stream since it was added or lost.
#: `shown` is the state last reported, plus `AWAITS` while a snapshot is awaited. `held*` is its part of the buffer.
BOOK: Final = np.dtype(
    [
        ("sequence", "<i8"),
        ("heard", "<i8"),
        ("floor", "<i8"),
        ("ts_event", "<i8"),
        ("ts_recv", "<i8"),
        ("crossed_since", "<i8"),
        ("heard_at", "<f8"),
        ("messages", "<i8"),
        ("older", "<i8"),
        ("gaps", "<i8"),
        ("checksums", "<i8"),
        ("checksum_failures", "<i8"),
        ("checksums_unknown", "<i8"),
        ("unknown_removals", "<i8"),
        ("not_held", "<i8"),
        ("resyncs", "<i8"),
        ("held_first", "<i8"),
        ("held_last", "<i8"),
        ("held", "<i8"),
        ("held_levels", "<i8"),
        ("hold", "<i8"),
        ("epoch", "<i4"),
        ("state", "u1"),
        ("shown", "u1"),
        ("silent", "?"),
        ("ahead", "?"),
        ("doubtful", "?"),
        ("unheard", "?"),
        ("changed", "?"),
        ("used", "?"),
    ],
    align=True,
)

#: One side of a book: its region of the pool, and the levels in it. Rows 2n (bids) and 2n + 1 (asks) are of book n.
SIDE: Final = np.dtype([("start", "<i8"), ("capacity", "<i8"), ("first", "<i8"), ("count", "<i8")], align=True)

#: A change of a book's state or epoch. `loaded`: by a snapshot. `awaits`: it needs a new one. `expected` and `found`
#: say more about the reason: the numbers of the hole, or the checksum that did not match.
EVENT: Final = np.dtype(
    [
        ("expected", "<i8"),
        ("found", "<i8"),
        ("ts_recv", "<i8"),
        ("book", "<i4"),
        ("epoch", "<i4"),
        ("state", "u1"),
        ("reason", "u1"),
        ("loaded", "?"),
        ("awaits", "?"),
    ],
    align=True,
)

#: Where the pass stands: the message and the level to go on with (-1: none of it was done), the events written, the
#: side or message that needs room and how much, and how far the buffer is filled.
PROGRESS: Final = np.dtype(
    [
        (name, "<i8")
        for name in (
            "message",
            "level",
            "events",
            "strangers",
            "side",
            "needed",
            "refused",
            "held_messages",
            "held_levels",
        )
    ]
)

AWAITS: Final = 8


class Messages(NamedTuple):
    """Book messages (n), `begin` and `end` saying which of the levels (m) are theirs. `book` is -1 for a stranger;
    sequences and checksum are `NOTHING` where the message does not say."""

    book: npt.NDArray[np.int32]
    kind: npt.NDArray[np.uint8]
    ts_event: npt.NDArray[np.int64]
    ts_recv: npt.NDArray[np.int64]
    first_sequence: npt.NDArray[np.int64]
    sequence: npt.NDArray[np.int64]
    previous_sequence: npt.NDArray[np.int64]
    checksum: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    side: npt.NDArray[np.uint8]
    price: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    price_decimals: npt.NDArray[np.int8]
    size_decimals: npt.NDArray[np.int8]


class Levels(NamedTuple):
    """The pool. `crc` and `length` are those of a level's text (see `book_checksums`), empty without checksums."""

    key: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    crc: npt.NDArray[np.uint32]
    length: npt.NDArray[np.uint8]


class Rules(NamedTuple):
    """`actors.feeds.feed.BookRules` as numbers (`depth` 0: never cut). `holds`: snapshots come on request."""

    chain: int
    checksum: int
    depth: int
    holds: bool


class Store(NamedTuple):
    """All books and their levels, and the buffer of messages held until a snapshot comes: `held_next` is the next
    message of the same book."""

    books: npt.NDArray[Any]
    sides: npt.NDArray[Any]
    levels: Levels
    held: Messages
    held_next: npt.NDArray[np.int64]
