"""The order books of one connection: price levels in arrays, changed by one compiled pass over each batch.

Which messages a book needs and whether it can be trusted is decided in the pass (`book_kernels`), message by message;
what to do about it is decided in `book_sync`. How exchanges make checksums is in `book_checksums`.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.aggregation import book_checksums, book_levels, book_records
from actors.aggregation.book_checksums import BITFINEX, KRAKEN, NO_CHECKSUM_RULE, OKX, TABLES
from actors.aggregation.book_kernels import apply_messages, copy_levels, expire, place_of, report_all
from actors.aggregation.book_memory import Bounds, Memory, read_only
from actors.aggregation.book_records import (
    AWAITS,
    BOOK,
    BUFFER_REFUSED,
    DONE,
    EVENT,
    FITS,
    LOST,
    NEEDS_REGION,
    NEXT,
    NO_CHAIN,
    NOTHING,
    PREVIOUS,
    PROGRESS,
    RANGE,
    REGION_REFUSED,
    STALE,
    SYNCED,
    SYNCING,
    Messages,
    Rules,
)
from actors.aggregation.kernel_cache import compile_anew_with
from actors.feeds.feed import BookRules, Chain, Checksum
from storage.schema import DEPTH, DEPTH_LEVEL

Events = npt.NDArray[Any]

State = Literal["syncing", "synced", "gapped", "stale"]

#: The names of the states, by their number in `book_records`.
STATES: Final[tuple[State, ...]] = ("syncing", "synced", "gapped", "stale")

_CHAINS: Final[dict[Chain, int]] = {"none": NO_CHAIN, "previous": PREVIOUS, "range": RANGE, "next": NEXT}
_CHECKSUMS: Final[dict[Checksum, int]] = {
    "none": NO_CHECKSUM_RULE,
    "kraken": KRAKEN,
    "okx": OKX,
    "bitfinex": BITFINEX,
}
_STATE_NAMES: Final = pa.array(STATES)
_SIDE: Final[Any] = DEPTH.field("bids").type

compile_anew_with([apply_messages], [book_checksums, book_levels, book_records])
compile_anew_with([copy_levels, expire, place_of, report_all], [book_records])


class Books:
    """Books by number. A number is used again after its symbol was removed."""

    def __init__(self, rules: BookRules, holds: bool, bounds: Bounds) -> None:
        """`holds`: messages are kept until a snapshot that was asked for comes."""
        self._rules = Rules(_CHAINS[rules.chain], _CHECKSUMS[rules.checksum], rules.depth or 0, holds)
        self._bounds = bounds
        self._memory = Memory(bounds, rules.checksum != "none")
        self._numbers: dict[str, int] = {}
        self.names: list[str] = []
        self._free: list[int] = []
        self._progress = np.zeros(1, PROGRESS)
        #: The dictionary of the last batch, and the number of the book for each of its symbols.
        self._dictionary: pa.StringArray | None = None
        self._number_of_code: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        #: Messages of symbols that have no book here.
        self.strangers = 0
        #: The newest time a message was received (ns).
        self.newest = 0

    @property
    def records(self) -> npt.NDArray[Any]:
        """The books (`book_records.BOOK`) by number, to be read and set, not kept."""
        return self._memory.store.books

    @property
    def numbers(self) -> dict[str, int]:
        """The symbols and the numbers of their books, not to be changed."""
        return self._numbers

    @property
    def nbytes(self) -> int:
        """The bytes all books take."""
        return self._memory.nbytes

    def add(self, symbol: str) -> int:
        """A new book, which awaits its snapshot; gives its number."""
        if not self._free:
            known = len(self.names)
            self._memory.add_books(max(known // 2, 16))
            self.names.extend("" for _ in range(len(self.records) - known))
            self._free.extend(range(len(self.records) - 1, known - 1, -1))
        number = self._numbers[symbol] = self._free.pop()
        self.names[number] = symbol
        self._dictionary = None
        self.records[number] = np.zeros((), BOOK)
        book = self.records[number]
        book["used"], book["unheard"], book["state"], book["shown"] = True, True, SYNCING, SYNCING + AWAITS
        book["sequence"] = book["heard"] = book["floor"] = NOTHING
        book["hold"] = self._bounds.held_waiting
        return number

    def remove(self, symbol: str) -> int:
        """Forget a book; gives the number it had."""
        number = self._numbers.pop(symbol)
        self._memory.release(number)
        self.records[number] = np.zeros((), BOOK)
        self._free.append(number)
        self._dictionary = None
        return number

    def begin(self, number: int) -> None:
        """A book that was lost awaits its snapshot."""
        book = self.records[number]
        book["state"], book["shown"], book["changed"] = SYNCING, SYNCING + AWAITS, True

    def take_changed(self) -> list[int]:
        """The books that changed since the last call."""
        books = self.records
        numbers = np.flatnonzero(books["changed"])
        books["changed"] = False
        return [int(number) for number in numbers]

    def hold(self, number: int, asked: bool) -> None:
        """Hold as many messages of a book as it may take until the answer is here, or only the newest."""
        self.records["hold"][number] = self._bounds.held if asked else self._bounds.held_waiting
        if asked:
            self.records["doubtful"][number] = False

    def lose_all(self) -> Events:
        """The stream has ended: no book is good, nothing held has a continuation."""
        books = self.records
        books["state"] = STALE
        books["crossed_since"] = books["held"] = books["held_levels"] = 0
        books["heard"] = books["floor"] = NOTHING
        books["unheard"] = True
        books["hold"] = self._bounds.held_waiting
        self._memory.store.sides["count"] = 0
        self._start()
        events = np.empty(len(books), EVENT)
        report_all(self._memory.store, LOST, self._progress, events)
        return events[: self._progress[0]["events"]]

    def expire(self, silent_before: float, crossed_before: int) -> Events:
        """Take trust from books without a message since `silent_before` (s) or crossed since `crossed_before` (ns)."""
        self._start()
        events = np.empty(len(self.records), EVENT)
        expire(self._memory.store, float(silent_before), crossed_before, self._progress, events)
        return events[: self._progress[0]["events"]]

    def read(self, batch: pa.RecordBatch) -> Messages:
        """A batch (`storage.schema.BOOK_MESSAGES`) as columns for the pass."""
        symbol: Any = batch.column(0)
        if self._dictionary is None or not symbol.dictionary.equals(self._dictionary):
            self._dictionary = symbol.dictionary
            names = symbol.dictionary.to_pylist()
            self._number_of_code = np.array([self._numbers.get(name, NOTHING) for name in names], np.int32)
        levels: Any = batch.column(8)
        offsets = levels.offsets.to_numpy()
        return read_only(
            Messages._make(
                (
                    self._number_of_code[symbol.indices.to_numpy()],
                    *(batch.column(n).to_numpy() for n in (3, 1, 2)),
                    *(_numbers(batch.column(n)) for n in (4, 5, 6, 7)),
                    offsets[:-1],
                    offsets[1:],
                    *(column.to_numpy() for column in levels.values.flatten()),
                )
            )
        )

    def run(self, messages: Messages, now: float, requested: bool = False) -> Events:
        """Apply messages in order; gives what changed (`book_records.EVENT`), in order, at most one each."""
        if len(messages.kind) == 0:
            return np.empty(0, EVENT)
        self.newest = max(self.newest, int(messages.ts_recv.max()))
        self._start()
        progress = self._progress[0]
        events = np.empty(len(messages.kind), EVENT)
        memory = self._memory
        # An integer would be compiled for anew.
        now = float(now)
        while True:
            ended = apply_messages(messages, memory.store, self._rules, TABLES, requested, now, self._progress, events)
            if ended == DONE:
                self.strangers += int(progress["strangers"])
                return events[: progress["events"]]
            if ended == NEEDS_REGION:
                if not memory.enlarge(int(progress["side"]), int(progress["needed"])):
                    memory.release(int(progress["side"]) // 2)
                    progress["refused"] |= REGION_REFUSED
            elif not memory.extend_buffer(int(progress["needed"]), self._progress):
                progress["refused"] |= BUFFER_REFUSED

    def place(self, number: int, messages: Messages, now: float) -> tuple[int, Events]:
        """Load the snapshot that was asked for (one message) and go on with what was held meanwhile, where the two
        join without a hole (`book_records.FITS`)."""
        memory = self._memory
        outcome = place_of(messages.sequence[0], self._rules.chain, self.records[number], memory.store)
        if outcome != FITS:
            return outcome, np.empty(0, EVENT)
        held = memory.take_held(number)
        if len(held.kind):
            self.records["heard"][number] = NOTHING
        loaded = self.run(messages, now, requested=True)
        return outcome, np.concatenate([loaded, self.run(held, now)])

    def depth(self, numbers: Sequence[int], levels: int | None) -> pa.RecordBatch:
        """`storage.schema.DEPTH` of these books."""
        book_rows = np.array(numbers, np.int64)
        books = self.records[book_rows]
        state = books["shown"] % AWAITS
        sides = [self._side_column(2 * book_rows + side, state == SYNCED, levels) for side in range(2)]
        sequence = books["sequence"]
        columns = [
            pa.DictionaryArray.from_arrays(
                np.arange(len(numbers), dtype=np.int32), pa.array([self.names[n] for n in numbers], pa.string())
            ),
            *(pa.array(np.ascontiguousarray(books[name])) for name in ("ts_event", "ts_recv")),
            _STATE_NAMES.take(pa.array(state)),
            pa.array(np.ascontiguousarray(books["epoch"])),
            pa.array(sequence, mask=sequence == NOTHING),
            *sides,
        ]
        return pa.RecordBatch.from_arrays(columns, schema=DEPTH)

    def _side_column(
        self, rows: npt.NDArray[np.int64], good: npt.NDArray[np.bool_], levels: int | None
    ) -> "pa.Array[Any]":
        store = self._memory.store
        counts = np.where(good, store.sides["count"][rows], 0)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts if levels is None else np.minimum(counts, levels), out=offsets[1:])
        price, size = np.empty(offsets[-1]), np.empty(offsets[-1])
        copy_levels(store, rows, offsets, price, size)
        items = pa.StructArray.from_arrays([pa.array(price), pa.array(size)], fields=list(DEPTH_LEVEL))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=_SIDE)

    def _start(self) -> None:
        held = self._progress[0]["held_messages"], self._progress[0]["held_levels"]
        self._progress[0] = (0, -1, 0, 0, 0, 0, 0, *held)


def _numbers(column: "pa.Array[Any]") -> npt.NDArray[np.int64]:
    return (column.fill_null(NOTHING) if column.null_count else column).to_numpy()
