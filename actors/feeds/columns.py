"""Rows as columns, as feeds give them: for each kind of event what a row holds, and how parts become one in the order
of their frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage.schema import UNKNOWN_SIDE

#: int64 nanoseconds since the epoch, UTC.
Times = npt.NDArray[np.int64]

Integers = npt.NDArray[np.int64]

Floats = npt.NDArray[np.float64]

#: Positions of frames in the list that is decoded; several rows may come from one frame.
Positions = npt.NDArray[np.intp]

#: In a column of times: unreadable, or outside the years 2000 to 2099, which are those of files.
NO_TIME: Final = 0

#: In a column of sequences or checksums: the message does not say. A checksum is an unsigned 32-bit number.
NO_SEQUENCE: Final = -1

NO_CHECKSUM: Final = -1


@dataclass(slots=True)
class TradeColumns:
    """All of the same length. `side` is the taker's. Order ids as 16 bytes (n, 16) with whether they are known."""

    at: Positions
    code: npt.NDArray[np.int32]
    ts_event: Times
    trade_id: Integers
    side: npt.NDArray[np.uint8]
    price: Floats
    size: Floats
    maker_order_id: npt.NDArray[np.uint8] | None = None
    maker_known: npt.NDArray[np.bool_] | None = None
    taker_order_id: npt.NDArray[np.uint8] | None = None
    taker_known: npt.NDArray[np.bool_] | None = None
    #: How many trades of the exchange, whose ids end with this one's, a row stands for; None: each for itself.
    fills: Integers | None = None


@dataclass(slots=True)
class QuoteColumns:
    """All of the same length; NaN where the frame does not say. `ts_event` or `sequence` None: the frames have no
    such thing, the time received takes its place. `side` is the last trade's taker, `UNKNOWN_SIDE` or None where
    the frame does not say."""

    at: Positions
    code: npt.NDArray[np.int32]
    ts_event: Times | None
    sequence: Integers | None
    bid_price: Floats
    bid_size: Floats
    ask_price: Floats
    ask_size: Floats
    last_price: Floats | None = None
    last_size: Floats | None = None
    side: npt.NDArray[np.uint8] | None = None


@dataclass(slots=True)
class BookColumns:
    """Book messages (n) and their levels (m). `levels` says how many levels each message has, in order.

    `ts_event` None: the time received takes its place, as for single messages whose time is `NO_TIME`.
    """

    at: Positions
    code: npt.NDArray[np.int32]
    kind: npt.NDArray[np.uint8]
    ts_event: Times | None
    first_sequence: Integers | None
    sequence: Integers | None
    previous_sequence: Integers | None
    checksum: Integers | None
    levels: Integers
    level_side: npt.NDArray[np.uint8]
    level_price: Floats
    level_size: Floats
    level_price_decimals: npt.NDArray[np.int8]
    level_size_decimals: npt.NDArray[np.int8]


@dataclass(slots=True)
class DerivativeColumns:
    """All of the same length or None; NaN (0 for the time) where the frame does not say."""

    at: Positions
    code: npt.NDArray[np.int32]
    ts_event: Times
    mark_price: Floats | None = None
    index_price: Floats | None = None
    open_interest: Floats | None = None
    funding_rate: Floats | None = None
    predicted_funding_rate: Floats | None = None
    next_funding_time: Times | None = None


@dataclass(slots=True)
class LiquidationColumns:
    """All of the same length. `side` is the taker's."""

    at: Positions
    code: npt.NDArray[np.int32]
    ts_event: Times
    side: npt.NDArray[np.uint8]
    price: Floats
    size: Floats


Columns = TradeColumns | QuoteColumns | BookColumns | DerivativeColumns | LiquidationColumns

#: What a part without a column has in its place when another part has one.
_ABSENT: Final[dict[str, Any]] = {
    "side": np.uint8(UNKNOWN_SIDE),
    "maker_known": np.False_,
    "taker_known": np.False_,
    "fills": np.int64(1),
    "next_funding_time": np.int64(NO_TIME),
    "first_sequence": np.int64(NO_SEQUENCE),
    "sequence": np.int64(NO_SEQUENCE),
    "previous_sequence": np.int64(NO_SEQUENCE),
    "checksum": np.int64(NO_CHECKSUM),
}


def _column(parts: Sequence[Any], name: str) -> Any:
    values = [getattr(part, name) for part in parts]
    given = [value for value in values if value is not None]
    if len(given) == len(values):
        return np.concatenate(given)
    if not given:
        return None
    like = given[0]
    absent = _ABSENT.get(name, np.zeros((), like.dtype) if like.ndim > 1 else np.float64(np.nan))
    return np.concatenate(
        [
            np.full((len(part.at), *like.shape[1:]), absent, like.dtype) if value is None else value
            for part, value in zip(parts, values, strict=True)
        ]
    )


def joined[Rows: Columns](kind: type[Rows], parts: Sequence[Rows]) -> Rows:
    """All parts as one, in the order of the frames."""
    if len(parts) == 1 and _in_order(parts[0].at):
        return parts[0]
    columns: dict[str, Any] = {name: _column(parts, name) for name in kind.__dataclass_fields__}
    order = np.argsort(columns["at"], kind="stable")
    ordered: dict[str, Any] = {name: None if column is None else column[order] for name, column in columns.items()}
    return kind(**ordered)


_MESSAGE_COLUMNS: Final = (
    "at", "code", "kind", "ts_event", "first_sequence", "sequence", "previous_sequence", "checksum", "levels",
)  # fmt: skip

_LEVEL_COLUMNS: Final = ("level_side", "level_price", "level_size", "level_price_decimals", "level_size_decimals")


def joined_books(parts: Sequence[BookColumns]) -> BookColumns:
    """All parts as one, in the order of the frames, the levels with their messages."""
    if len(parts) == 1 and _in_order(parts[0].at):
        return parts[0]
    messages = {name: _column(parts, name) for name in _MESSAGE_COLUMNS}
    levels = {name: _column(parts, name) for name in _LEVEL_COLUMNS}
    order = np.argsort(messages["at"], kind="stable")
    starts = np.cumsum(messages["levels"]) - messages["levels"]
    counts = messages["levels"][order]
    # For each level in the new order, its place in the old one.
    shift = np.repeat(starts[order] - (np.cumsum(counts) - counts), counts)
    level_order = np.arange(len(shift)) + shift
    columns: dict[str, Any] = {name: None if column is None else column[order] for name, column in messages.items()}
    columns |= {name: column[level_order] for name, column in levels.items()}
    return BookColumns(**columns)


def _in_order(at: Positions) -> bool:
    return bool((at[1:] >= at[:-1]).all())
