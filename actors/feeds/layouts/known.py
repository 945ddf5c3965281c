"""Frames whose layout is known to the byte, read by one compiled pass straight into columns.

Exchanges write the same keys in the same order for years. A `Layout` states such a frame with a placeholder for
each value; a frame that follows it exactly, with values that raise no question, is read here. Every other frame
is left to the feed's JSON decoder, which decides what to make of it, so nothing depends on a layout but speed.

Layouts are tried in the order given: put the most frequent first. A layout begins and ends with literal text.

    <any>                         a number, null, true, false or a plain text in its quotes, of no interest
    <text>                        characters up to the next of the layout, of no interest
    <symbol>, or any key of `names`  a text that stands for the code of a symbol; a second one must be the same text
    <milliseconds> <microseconds> <iso_time> <seconds_time>   the row's time; of several <seconds_time> the latest
    <trade_id> <trade_uuid>       an integer; a UUID, of which the first 63 bits become the id
    <first_sequence> <sequence> <previous_sequence> <checksum>   integers; a negative checksum becomes unsigned,
                                  other negative numbers are left to the JSON decoder
    <price> <size>                of a trade
    <signed_size>                 of a trade, its sign the taker's side
    <bid_price> <bid_size> <ask_price> <ask_size> <last_price> <last_size>     of a quote
    <mark_price> <index_price> <open_interest> <funding_rate> <predicted_funding_rate> <next_funding_milliseconds>
    <taker_side> <maker_side>     `buy` or `sell`; other words as in <taker_side:Buy|Sell>
    <maker> <taker>               order ids, UUIDs
    <level_price> <level_size>    of a book's level, which the size completes: it comes last of what is kept
    <level_amount>                as <level_size>, its sign the side
    <level_side>                  `buy` (bid) or `sell` (ask); other words as in <level_side:b|s>
    <level_action>                `new`, `change`, or `delete`, whose size is 0
    <level_count>                 0 makes the size 0

Numbers may be in quotes or not: the quotes belong to the layout. Prices of quotes and values of derivatives may be
missing: nothing between the quotes, or `null` without quotes.

A part in `[[` and `]]` may be missing; it begins with literal text. (A `]]` that closes no such part is text.) A part
in `((` and `))` comes any number of times, separated by commas; it begins with literal text. `((bid:` and `((ask:` say
the side of the levels in it; in a layout of trades each repetition is a trade, and there must be one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
from numba.core.dispatcher import Dispatcher

from actors.aggregation.kernel_cache import compile_anew_with
from actors.feeds.columns import (
    NO_SEQUENCE,
    NO_TIME,
    BookColumns,
    DerivativeColumns,
    Integers,
    Positions,
    QuoteColumns,
    Times,
    TradeColumns,
)
from actors.feeds.events import Events
from actors.feeds.layouts import readers, steps, words
from actors.feeds.layouts import rows as row_tables
from actors.feeds.layouts.program import Layout, Program
from actors.feeds.layouts.rows import (
    BOOK,
    BOOK_SNAPSHOT,
    DERIVATIVE,
    HISTORY,
    IGNORED,
    LEVEL_ROW,
    QUOTE,
    TABLES,
    TRADE,
)
from storage import schema

__all__ = [
    "BOOK",
    "BOOK_SNAPSHOT",
    "DERIVATIVE",
    "HISTORY",
    "IGNORED",
    "QUOTE",
    "TRADE",
    "KnownLayouts",
    "Layout",
    "Read",
]


def _compiled(module: ModuleType) -> list[Any]:
    own = [one for one in vars(module).values() if isinstance(one, Dispatcher)]
    return [one for one in own if one.py_func.__module__ == module.__name__]


compile_anew_with(_compiled(readers), [words])
compile_anew_with(_compiled(steps), [words, readers, row_tables, schema])

#: Any other looks different in JSON, or ends a frame.
_PLAIN_NAME: Final = re.compile(r"[ !#-\[\]-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Read:
    """What is left to do after the layouts."""

    #: Positions of the frames that follow no layout.
    others: Positions
    #: How many frames follow a layout of kind `IGNORED`.
    ignored: int
    #: What each frame that follows a layout has for `<sequence>` (of any kind), else `NO_SEQUENCE`.
    sequences: Integers


class KnownLayouts:
    """The layouts of one feed, and the texts its frames use for symbols, each with the symbol's code; several
    lists where frames of different kinds use the same text for different symbols."""

    def __init__(self, layouts: Sequence[Layout], names: Mapping[str, Mapping[str, int]]) -> None:
        self._lists = {name: number for number, name in enumerate(names)}
        program = Program(self._lists)
        for layout in layouts:
            program.add(layout)
        self._program = program.done()
        self._tables = [
            (row, repeated, min((_bytes_of_row(layout.text) for layout in layouts if layout.kind & kinds), default=0))
            for kinds, row, repeated in TABLES
        ]
        #: For each kind, the placeholders some layout of it has.
        self._placeholders = {
            kind: {name for layout in layouts if layout.kind & kind for name in re.findall(r"<(\w+)", layout.text)}
            for kind in (QUOTE, DERIVATIVE, BOOK, BOOK_SNAPSHOT)
        }
        #: The table of the names, unless they have changed since it was made.
        self._names: tuple[Any, Any, Integers] | None = None
        self.rename(names)
        # Compiles, or loads what was compiled, before frames have to wait for it.
        self._run([b""])

    def rename(self, names: Mapping[str, Mapping[str, int]]) -> None:
        """Use these names from now on; keys the constructor did not have are of no use and left out. Costs nothing:
        several changes in a row become one table, before frames are read."""
        self._wanted, self._names = names, None

    def _table(self) -> tuple[Any, Any, Integers]:
        """The names as `steps` has them."""
        entries = [
            (self._lists[key], text.encode(), code)
            for key, texts in self._wanted.items()
            if key in self._lists
            for text, code in texts.items()
            if _PLAIN_NAME.fullmatch(text)
        ]
        starts = np.cumsum([0, *(len(text) for _, text, _ in entries)])
        table = np.array(
            [(which, start, len(text), code) for (which, text, code), start in zip(entries, starts, strict=False)],
            steps.NAME_ROW,
        )
        text = np.frombuffer(b"".join([*(text for _, text, _ in entries), bytes(steps.PADDING)]), np.uint8)
        slots = np.empty(4 << len(entries).bit_length(), np.int64)
        steps.fill_slots(table, text, slots)
        return table, text, slots

    def read(self, frames: Sequence[bytes], events: Events) -> Read:
        """Add the columns of all frames that follow a layout to `events`."""
        tables, counts, sequences, others = self._run(frames)
        trades, history, quotes, derivatives, books, levels = (
            table[:count] for table, count in zip(tables, counts, strict=False)
        )
        if len(trades):
            events.trades.append(self._trades(trades))
        if len(history):
            events.history.append(self._trades(history))
        if len(quotes):
            events.quotes.append(self._quotes(quotes, events.ts_recv))
        if len(derivatives):
            events.derivatives.append(self._derivatives(derivatives))
        if len(books):
            events.books.append(self._books(books, levels))
        return Read(others[: counts[6]], counts[7], sequences)

    def _run(self, frames: Sequence[bytes]) -> tuple[tuple[Any, ...], tuple[int, ...], Integers, Positions]:
        """The tables of rows, how much of each is filled, the sequences and the positions of the others."""
        if self._names is None:
            self._names = self._table()
        # A zero byte ends each frame, because no layout has one.
        text = np.frombuffer(b"\0".join((*frames, bytes(steps.PADDING))), np.uint8)
        number = len(frames)
        tables = tuple(
            np.empty(0 if not shortest else len(text) // shortest if repeated else number, row)
            for row, repeated, shortest in self._tables
        )
        sequences = np.empty(number, np.int64)
        others = np.empty(number, np.intp)
        length, counts = steps.read_frames(text, number, *self._program, *self._names, *tables, sequences, others)
        if length != len(text) - steps.PADDING:
            # Some frames have zero bytes within: nobody's JSON.
            return self._run([b"" if b"\0" in frame else frame for frame in frames])
        return tables, counts, sequences, others

    def _trades(self, rows: Any) -> TradeColumns:
        columns = _columns(rows, ["at", "code", "ts_event", "trade_id", "side", "price", "size"])
        for whose in ("maker", "taker"):
            if rows[f"{whose}_known"].any():
                columns |= _columns(rows, [f"{whose}_order_id", f"{whose}_known"])
                columns[f"{whose}_order_id"] = columns[f"{whose}_order_id"].view(np.uint8)
        return TradeColumns(**columns)

    def _quotes(self, rows: Any, ts_recv: Times) -> QuoteColumns:
        has = self._placeholders[QUOTE]
        columns = _columns(rows, ["at", "code", "bid_price", "bid_size", "ask_price", "ask_size"])
        columns |= _columns(rows, [name for name in ("last_price", "last_size") if name in has])
        columns |= _columns(rows, ["side"] if has & {"taker_side", "maker_side"} else [])
        received = ts_recv[columns["at"]]
        return QuoteColumns(
            ts_event=np.where(rows["ts_event"] == NO_TIME, received, rows["ts_event"]),
            sequence=np.where(rows["sequence"] == NO_SEQUENCE, received, rows["sequence"]),
            **columns,
        )

    def _derivatives(self, rows: Any) -> DerivativeColumns:
        has = self._placeholders[DERIVATIVE]
        names = [name for name in _DERIVATIVE_VALUES if name in has]
        if "next_funding_milliseconds" in has:
            names.append("next_funding_time")
        return DerivativeColumns(**_columns(rows, ["at", "code", "ts_event", *names]))

    def _books(self, rows: Any, levels: Any) -> BookColumns:
        has = self._placeholders[BOOK] | self._placeholders[BOOK_SNAPSHOT]
        numbers: dict[str, Any] = dict.fromkeys(_BOOK_NUMBERS)
        numbers |= _columns(rows, [name for name in _BOOK_NUMBERS if name in has])
        return BookColumns(
            **_columns(rows, ["at", "code", "kind", "levels"]),
            ts_event=rows["ts_event"].copy() if has & _BOOK_TIMES else None,
            **numbers,
            **_columns(levels, LEVEL_ROW.names or ()),
        )


_DERIVATIVE_VALUES: Final = ("mark_price", "index_price", "open_interest", "funding_rate", "predicted_funding_rate")
_BOOK_TIMES: Final = {"milliseconds", "microseconds", "iso_time", "seconds_time"}
_BOOK_NUMBERS: Final = ("first_sequence", "sequence", "previous_sequence", "checksum")


def _columns(rows: Any, names: Sequence[str]) -> dict[str, Any]:
    """Columns of their own, as the tables are wider and longer than what was read."""
    return {name: rows[name].copy() for name in names}


def _bytes_of_row(text: str) -> int:
    """The fewest bytes a row, or a level, of a frame of this layout is made of."""
    fixed = re.sub(r"\[\[.*?\]\]|<[^>]*>", "", text)
    repeated = re.findall(r"\(\((?:bid:|ask:)?(.*?)\)\)", fixed)
    return min(len(part) for part in repeated) + 1 if repeated else len(fixed)
