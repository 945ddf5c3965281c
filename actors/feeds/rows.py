"""One list of frames as columns: what each frame says stands at its position, and Arrow batches are cut from there.

Every feed fills these columns, so what counts as a usable row is decided in one place, without a loop over
rows, and rows keep the order of their frames whichever way they were read.
"""

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.schema import ORDER_ID, QUOTES, TRADES, UNKNOWN_SIDE

#: int64 nanoseconds since the epoch, UTC.
Times = npt.NDArray[np.int64]

#: In a column of times: unreadable, or outside the years 2000 to 2199.
NO_TIME: Final = 0
UNKNOWN_SYMBOL: Final = -1

# What the frame at a position holds.
NOTHING: Final = 0
TRADE: Final = 1
HISTORY: Final = 2
QUOTE: Final = 3

# Rows of `Rows.values`; a trade has the first two.
PRICE: Final = 0
SIZE: Final = 1
BID_PRICE: Final = 0
BID_SIZE: Final = 1
ASK_PRICE: Final = 2
ASK_SIZE: Final = 3
LAST_PRICE: Final = 4
LAST_SIZE: Final = 5

MAKER: Final = 0
TAKER: Final = 1

NOT_SUBSCRIBED: Final = "not a subscribed symbol"
_NO_USABLE_TIME: Final = "time is unreadable or not between 2000 and 2200"

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_NO_TRADES = pa.RecordBatch.from_pylist([], TRADES)
_NO_QUOTES = pa.RecordBatch.from_pylist([], QUOTES)


class Rows:
    """Columns over the positions of `length` frames; only those whose `kind` is not `NOTHING` hold anything."""

    def __init__(self, length: int) -> None:
        self.kind = np.zeros(length, np.int8)
        #: Place of the symbol in the feed's list, or `UNKNOWN_SYMBOL`.
        self.code = np.empty(length, np.int32)
        self.ts_event = np.empty(length, np.int64)
        #: The id of a trade, the sequence of a quote.
        self.number = np.empty(length, np.int64)
        #: The taker's side, `UNKNOWN_SIDE` where a quote does not say.
        self.side = np.empty(length, np.uint8)
        #: Prices and sizes, NaN where the frame does not say: (6, length).
        self.values = np.empty((6, length))
        #: UUIDs of the maker's and the taker's order, and whether they are known.
        self.order_ids = np.empty((2, length, 16), np.uint8)
        self.order_ids_known = np.zeros((2, length), np.bool_)

    def trades(self, kind: int, ts_recv: Times, symbols: pa.StringArray, reasons: dict[int, str]) -> pa.RecordBatch:
        """The rows of `kind` (`TRADE` or `HISTORY`) as `storage.schema.TRADES`.

        Rows with an unknown symbol, no time, or a price or size that is not positive and finite are left out
        and explained in `reasons` under their positions.
        """
        at = np.flatnonzero(self.kind == kind)
        if not len(at):
            return _NO_TRADES
        code, ts_event = self.code[at], self.ts_event[at]
        price, size = self.values[PRICE, at], self.values[SIZE, at]
        checks = {
            NOT_SUBSCRIBED: code != UNKNOWN_SYMBOL,
            _NO_USABLE_TIME: ts_event != NO_TIME,
            "price is not a positive number": _usable(price),
            "size is not a positive number": _usable(size),
        }
        columns = [
            _symbol_column(code, symbols),
            pa.array(ts_event),
            pa.array(ts_recv[at]),
            pa.array(self.number[at]),
            pa.array(price),
            pa.array(size),
            pa.array(self.side[at]),
            self._order_ids(MAKER, at),
            self._order_ids(TAKER, at),
        ]
        return _checked(pa.RecordBatch.from_arrays(columns, schema=TRADES), checks, at, reasons)

    def quotes(self, ts_recv: Times, symbols: pa.StringArray, reasons: dict[int, str]) -> pa.RecordBatch:
        """The rows of kind `QUOTE` as `storage.schema.QUOTES`, left out as in `trades`.

        A price or size that is not positive and finite becomes null.
        """
        at = np.flatnonzero(self.kind == QUOTE)
        if not len(at):
            return _NO_QUOTES
        code, ts_event, side = self.code[at], self.ts_event[at], self.side[at]
        checks = {NOT_SUBSCRIBED: code != UNKNOWN_SYMBOL, _NO_USABLE_TIME: ts_event != NO_TIME}
        values = self.values[:, at]
        columns = [
            _symbol_column(code, symbols),
            pa.array(ts_event),
            pa.array(ts_recv[at]),
            pa.array(self.number[at]),
            *(pa.array(column, mask=~_usable(column)) for column in values),
            pa.array(side, mask=side == UNKNOWN_SIDE),
        ]
        return _checked(pa.RecordBatch.from_arrays(columns, schema=QUOTES), checks, at, reasons)

    def add_order_ids(self, whose: int, at: npt.NDArray[np.intp], texts: list[str]) -> None:
        """Set the order ids of `MAKER` or `TAKER` at these positions; a text that is no UUID is not known."""
        known = [_UUID.fullmatch(text) is not None for text in texts]
        content = [text.replace("-", "") if usable else "0" * 32 for text, usable in zip(texts, known, strict=True)]
        self.order_ids_known[whose, at] = known
        self.order_ids[whose, at] = np.frombuffer(bytes.fromhex("".join(content)), np.uint8).reshape(-1, 16)

    def _order_ids(self, whose: int, at: npt.NDArray[np.intp]) -> "pa.Array[Any]":
        known = self.order_ids_known[whose, at]
        if not known.any():
            return pa.nulls(len(at), ORDER_ID)
        bits = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
        return pa.Array.from_buffers(ORDER_ID, len(at), [bits, pa.py_buffer(self.order_ids[whose, at])])


def times(values: Times, per_second: int) -> Times:
    """Times since the epoch in `per_second`ths of a second (int64) as int64 ns, `NO_TIME` where out of range."""
    usable = (values >= 946_684_800 * per_second) & (values < 7_258_118_400 * per_second)
    return np.where(usable, values, NO_TIME) * (1_000_000_000 // per_second)


def iso_times(texts: list[str]) -> Times:
    """ISO 8601 times with a zone, to the microsecond, as int64 ns; `NO_TIME` where unreadable or out of range."""
    try:
        microseconds = pa.array(texts, pa.string()).cast(pa.timestamp("us", "UTC"))
    except (pa.ArrowInvalid, UnicodeEncodeError):
        if len(texts) == 1:
            return np.array([NO_TIME])
        middle = len(texts) // 2
        return np.concatenate([iso_times(texts[:middle]), iso_times(texts[middle:])])
    return times(microseconds.view(pa.int64()).to_numpy(), 1_000_000)


def _usable(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (values > 0) & (values < np.inf)


def _symbol_column(codes: npt.NDArray[np.int32], symbols: pa.StringArray) -> "pa.Array[Any]":
    # Rows of unknown symbols borrow the first one until they are left out.
    return pa.DictionaryArray.from_arrays(np.maximum(codes, 0), symbols, safe=False)


def _checked(
    batch: pa.RecordBatch,
    checks: dict[str, npt.NDArray[np.bool_]],
    at: npt.NDArray[np.intp],
    reasons: dict[int, str],
) -> pa.RecordBatch:
    usable = np.logical_and.reduce(list(checks.values()))
    if usable.all():
        return batch
    for reason, passed in checks.items():
        for position in at[~passed].tolist():
            reasons.setdefault(position, reason)
    return batch.filter(pa.array(usable))
