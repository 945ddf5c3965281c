"""The state machine of all order books of one connection: messages and time in, questions and events out.

A book is `syncing` until its first snapshot, `synced` while every message joined the one before it, every checksum
matched and it is not crossed, `gapped` from the first evidence against it, and `stale` when its connection is lost or
it heard nothing for long. Evidence against one book is never evidence against another. A book that is not synced is
never served: its state is, without levels.

Where snapshots come by request, messages are held meanwhile and the two are joined by their sequences; otherwise the
exchange sends a snapshot again when the subscription is renewed. Nothing here reads a clock: `now` is in seconds, of
whatever clock the caller has.
"""

import random as system_random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from actors.aggregation.book_memory import Bounds
from actors.aggregation.book_records import (
    AWAITS,
    BOOK,
    BROKEN_MESSAGE,
    CROSSED,
    GAPPED,
    HOLE,
    LOST,
    NO_REASON,
    NO_ROOM,
    NO_SEQUENCE,
    NOTHING,
    SILENT,
    STALE,
    STAYED_CROSSED,
    SYNCED,
    SYNCING,
    TOO_OLD,
    WRONG_CHECKSUM,
)
from actors.aggregation.book_resync import Pace, Resyncs
from actors.aggregation.books import STATES, Books, Events, State
from actors.feeds.feed import BookRules
from storage.schema import SNAPSHOT

#: Of a book that should have been heard of.
SILENCE: Final = "no message for too long"
_REASONS: Final = {
    HOLE: "a hole: {expected} expected, {found} came",
    WRONG_CHECKSUM: "the checksum is not {expected}",
    BROKEN_MESSAGE: "a message could not be read",
    NO_ROOM: "more levels than a book may have",
    CROSSED: "crossed",
    STAYED_CROSSED: "crossed for too long",
    SILENT: SILENCE,
    LOST: "connection lost",
}
_REFUSALS: Final = {
    NO_SEQUENCE: "the snapshot has no sequence",
    TOO_OLD: "the snapshot is older than the first message held",
}
#: The fields of a book that are told as they are.
_COUNTERS: Final = (
    "epoch", "messages", "older", "gaps", "checksums", "checksum_failures", "checksums_unknown", "resyncs",
    "unknown_removals", "not_held",
)  # fmt: skip
_NO_SNAPSHOT: Final = "no snapshot yet"
_LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """Ask the exchange for a snapshot of this book; `question` goes back with the answer."""

    symbol: str
    question: int = 0


@dataclass(frozen=True, slots=True)
class RenewSubscription:
    """Subscribe to this book anew, so that the exchange sends a snapshot."""

    symbol: str


@dataclass(frozen=True, slots=True)
class BookEvent:
    """A book is in this state now, or was built anew; `ts_recv` (ns) is of its last message, None before the first."""

    symbol: str
    state: State
    reason: str
    epoch: int
    ts_recv: int | None


Effect = RequestSnapshot | RenewSubscription | BookEvent


@dataclass(frozen=True, slots=True)
class BookState:
    """What is known of a book. Times (ns) and sequence are of its last message; None where there was none."""

    state: State
    #: Why it is not synced.
    reason: str
    #: How often it was built from a snapshot.
    epoch: int
    sequence: int | None
    ts_event: int | None
    ts_recv: int | None
    #: Messages that changed the book, and those a snapshot already held.
    messages: int
    older: int
    #: How often it was found wrong, how many checksums were verified, did not match, or could not be told because the
    #: text of a number is not known for certain.
    gaps: int
    checksums: int
    checksum_failures: int
    checksums_unknown: int
    #: How often a snapshot was asked for, and levels to be removed that were not there.
    resyncs: int
    unknown_removals: int
    #: Messages that gave way to newer ones while a snapshot was awaited.
    not_held: int


class BookSync:
    """The books of one connection. Effects are to be taken after every call."""

    def __init__(
        self,
        rules: BookRules,
        by_request: bool,
        *,
        stale_s: float | None = None,
        crossed_s: float | None = 5.0,
        pace: Pace | None = None,
        bounds: Bounds | None = None,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        """`by_request`: snapshots come on `RequestSnapshot`, which takes sequences to join them to the stream, so
        ValueError where the rules have none. `stale_s`: a book that hears nothing for this long is stale. `crossed_s`:
        a book that is crossed for this long is built anew. None for never."""
        if by_request and rules.chain == "none":
            raise ValueError("a snapshot by request can only be joined to messages with sequences")
        self._by_request = by_request
        self._stale_s = stale_s
        self._crossed_s = crossed_s
        self._pace = pace or Pace()
        self._books = Books(rules, by_request, bounds or Bounds())
        self._resyncs = Resyncs(self._pace, random)
        self._effects: list[Effect] = []
        self._reasons: dict[int, str] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._books.numbers)

    @property
    def strangers(self) -> int:
        """Messages left out because their symbol was not added."""
        return self._books.strangers

    @property
    def nbytes(self) -> int:
        """The memory of all books."""
        return self._books.nbytes

    def add(self, symbols: Iterable[str], now: float) -> None:
        """Follow further books. Nothing is asked for before their first message, or `subscribed`."""
        for symbol in symbols:
            if symbol not in self._books.numbers:
                number = self._books.add(symbol)
                self._resyncs.make_room(len(self._books.records))
                self._resyncs.forget(number)
                self._tell(number, _NO_SNAPSHOT)

    def subscribed(self, symbols: Iterable[str], now: float) -> None:
        """The exchange sends these books from now on, so a snapshot taken from now on has its place in the stream.

        Asks for one where they come by request, and otherwise when none came within the time of an answer.
        """
        for symbol in symbols:
            number = self._books.numbers.get(symbol)
            if number is None or self._books.records["state"][number] not in (SYNCING, STALE):
                continue
            if self._books.records["state"][number] == STALE:
                self._books.begin(number)
                self._tell(number, _NO_SNAPSHOT)
            self._resyncs.need(number, now, 0.0 if self._by_request else self._pace.answer_s)
        self._ask(now)

    def remove(self, symbols: Iterable[str]) -> None:
        """Follow these books no more; what still comes of them is left out."""
        for symbol in symbols:
            if symbol in self._books.numbers:
                number = self._books.remove(symbol)
                self._resyncs.forget(number)
                self._reasons.pop(number, None)

    def apply(self, messages: pa.RecordBatch, now: float) -> None:
        """Messages of the stream (`storage.schema.BOOK_MESSAGES`), in order of arrival."""
        self._follow(self._books.run(self._books.read(messages), now), now)

    def snapshot(self, messages: pa.RecordBatch, now: float, question: int | None = None) -> None:
        """The answer to a `RequestSnapshot` (`storage.schema.BOOK_MESSAGES`, one row for each book).

        An answer nobody waits for any more is left out: it may be of the time before the connection was lost, or
        older than what the book holds. `question` tells the answers to two questions about a book apart.
        """
        if not self._by_request:
            self.apply(messages, now)
            return
        for row in range(messages.num_rows):
            snapshot = self._books.read(messages.slice(row, 1))
            number = int(snapshot.book[0])
            if number == NOTHING or not self._resyncs.is_open(number, question):
                continue
            if snapshot.kind[0] != SNAPSHOT:
                self._failed(number, "the answer is no snapshot", now)
                continue
            outcome, events = self._books.place(number, snapshot, now)
            self._follow(events, now)
            if self._resyncs.is_open(number):
                self._failed(number, _REFUSALS.get(outcome, "the snapshot makes no sense"), now)
        self._ask(now)

    def snapshot_failed(self, symbol: str, reason: str, now: float, question: int | None = None) -> None:
        """There is no answer to a `RequestSnapshot`; it will be asked again."""
        number = self._books.numbers.get(symbol)
        if number is not None and self._resyncs.is_open(number, question):
            self._failed(number, reason, now)

    def lost(self, now: float) -> None:
        """The connection is gone: every book is stale until a snapshot of the next one."""
        self._resyncs.forget_all()
        self._effects = [effect for effect in self._effects if isinstance(effect, BookEvent)]
        self._follow(self._books.lose_all(), now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        silent_before = -np.inf if self._stale_s is None else now - self._stale_s
        crossed_before = 0 if self._crossed_s is None else self._books.newest - int(self._crossed_s * 1e9)
        self._follow(self._books.expire(silent_before, crossed_before), now)
        for number in self._resyncs.overdue(now):
            self._failed(number, "no snapshot came in time", now)
        self._ask(now)

    def take_effects(self) -> list[Effect]:
        """What to do and what happened since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    @property
    def synced(self) -> frozenset[str]:
        """The symbols whose books can be trusted now."""
        numbers = np.flatnonzero(self._books.records["used"] & (self._books.records["shown"] == SYNCED))
        return frozenset(self._books.names[number] for number in numbers)

    def counts(self) -> tuple[Counter[State], int]:
        """How many books are in each state, and how often any was found wrong."""
        records = self._books.records[self._books.records["used"]]
        found = np.bincount(records["shown"].astype(np.intp) % AWAITS, minlength=len(STATES)).tolist()
        states = {state: count for state, count in zip(STATES, found, strict=True) if count}
        return Counter(states), int(records["gaps"].sum())

    def states(self) -> dict[str, BookState]:
        """What is known of each book, by symbol."""
        return {symbol: self._state(number) for symbol, number in self._books.numbers.items()}

    def depth(self, symbols: Iterable[str] | None = None, levels: int | None = None) -> pa.RecordBatch:
        """The best `levels` (all when None) of these books, or of all, as `storage.schema.DEPTH`.

        A book that is not synced has its true state and no levels; one that never had a message has times 0. A symbol
        that is not followed has no row.
        """
        numbers = self._books.numbers
        wanted = numbers if symbols is None else [symbol for symbol in symbols if symbol in numbers]
        return self._books.depth([numbers[symbol] for symbol in wanted], levels)

    def changed(self, levels: int | None = None) -> pa.RecordBatch:
        """As `depth`, of the books that changed since the last call."""
        return self._books.depth(self._books.take_changed(), levels)

    def _state(self, number: int) -> BookState:
        book = dict(zip(BOOK.names or (), self._books.records[number].item(), strict=True))
        return BookState(
            state=self._shown(number),
            reason=self._reasons.get(number, ""),
            sequence=None if book["sequence"] == NOTHING else book["sequence"],
            ts_event=book["ts_event"] or None,
            ts_recv=book["ts_recv"] or None,
            **{name: book[name] for name in _COUNTERS},
        )

    def _shown(self, number: int) -> State:
        return STATES[int(self._books.records["shown"][number]) % AWAITS]

    def _follow(self, events: Events, now: float) -> None:
        """Tell what happened and ask for the snapshots it takes."""
        if not len(events):
            return
        for expected, found, ts_recv, number, epoch, state, reason, loaded, awaits in events.tolist():
            if reason != NO_REASON:
                text = _REASONS[reason].format(expected=expected, found=found)
            else:
                text = _NO_SNAPSHOT if state == SYNCING else ""
            self._reasons[number] = text
            self._effects.append(BookEvent(self._books.names[number], STATES[state], text, epoch, ts_recv or None))
            if loaded:
                self._resyncs.answered(number, now)
                self._books.hold(number, asked=False)
            if state == GAPPED and awaits and self._resyncs.is_open(number):
                # The snapshot came and was of no use.
                self._resyncs.failed(number, now)
            elif awaits and state != STALE:
                self._resyncs.need(number, now)
        self._ask(now)

    def _failed(self, number: int, reason: str, now: float) -> None:
        self._resyncs.failed(number, now)
        self._books.hold(number, asked=False)
        self._tell(number, reason[:_LONGEST_REASON])

    def _tell(self, number: int, reason: str) -> None:
        """An event that is none of the stream's."""
        book = self._books.records[number]
        self._reasons[number] = reason
        event = BookEvent(
            self._books.names[number], self._shown(number), reason, int(book["epoch"]), int(book["ts_recv"]) or None
        )
        self._effects.append(event)

    def _ask(self, now: float) -> None:
        for number, question in self._resyncs.ask(now):
            self._books.hold(number, asked=True)
            self._books.records["resyncs"][number] += 1
            symbol = self._books.names[number]
            self._effects.append(RequestSnapshot(symbol, question) if self._by_request else RenewSubscription(symbol))
