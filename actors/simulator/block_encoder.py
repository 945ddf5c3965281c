"""Turns a block of the market into frames, in the order in which they are due."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actors.simulator.dialect import Dialect, Kind
from actors.simulator.market import Events
from actors.simulator.session import Stream

_KINDS: Final[tuple[Kind, ...]] = ("trades", "quotes", "book", "derivatives")
#: What happens to a book stands before what comes at the same time: it tells of what was before.
_FIRST: Final = np.array([-1])


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """Frames in the order of `due` (int64 ns of the wall clock), with the exchange's own times and the positions of
    their streams."""

    due: NDArray[np.int64]
    times: NDArray[np.int64]
    streams: NDArray[np.int64]
    frames: list[bytes]


class BlockEncoder:
    """`streams` are all the exchange has or had."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.streams: list[Stream] = []
        self._places: dict[Stream, int] = {}

    def add(self, symbol: str) -> None:
        """The streams of a symbol."""
        for kind in _KINDS:
            stream = self._dialect.stream(symbol, kind)
            if stream is not None and stream not in self._places:
                self._places[stream] = len(self.streams)
                self.streams.append(stream)

    def encode(self, block: Sequence[Events]) -> EncodedBlock:
        """Quotes stand before the trades they belong to."""
        dialect, made = self._dialect, _Frames()
        for events in block:
            symbol, quotes, trades = events.symbol, events.quotes, events.trades
            places = {kind: self._places[stream] for kind in _KINDS if (stream := dialect.stream(symbol, kind))}
            if "quotes" in places:
                frames = dialect.quotes(symbol, quotes)
                made.add(frames, events.due, quotes.t_ns, 2 * events.order, places["quotes"])
            if "trades" in places:
                frames = dialect.trades(symbol, trades)
                made.add(frames, events.due, trades.t_ns, 2 * events.order + 1, places["trades"])
            if "book" in places:
                for due_ns, change in events.changes:
                    made.add_same(dialect.change(symbol, change), due_ns, change.after.t_ns, places["book"])
            if "derivatives" in places:
                for due_ns, mark, quote in events.marks:
                    made.add_same(dialect.derivatives(symbol, mark, quote), due_ns, mark.t_ns, places["derivatives"])
        return made.ordered()


class _Frames:
    """Frames of several streams, each stream's in order."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._due: list[NDArray[np.int64]] = []
        self._times: list[NDArray[np.int64]] = []
        self._order: list[NDArray[np.int64]] = []
        self._places: list[int] = []

    def add(
        self,
        frames: list[bytes],
        due: NDArray[np.int64],
        times: NDArray[np.int64],
        order: NDArray[np.int64],
        place: int,
    ) -> None:
        if frames:
            self._frames += frames
            self._due.append(due)
            self._times.append(times)
            self._order.append(order)
            self._places.append(place)

    def add_same(self, frames: list[bytes], due_ns: int, t_ns: int, place: int) -> None:
        """Frames of one moment."""
        count = len(frames)
        self.add(frames, np.full(count, due_ns), np.full(count, t_ns), np.repeat(_FIRST, count), place)

    def ordered(self) -> EncodedBlock:
        nothing = np.zeros(0, np.int64)
        due, times, order = (np.concatenate([nothing, *columns]) for columns in (self._due, self._times, self._order))
        places = np.repeat(np.array(self._places, np.int64), [len(one) for one in self._due])
        rows = np.lexsort((order, due))
        return EncodedBlock(due[rows], times[rows], places[rows], [self._frames[at] for at in rows.tolist()])
