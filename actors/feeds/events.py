"""What a list of frames says, gathered as columns and cut into Arrow batches.

Every feed adds its columns here, so what counts as a usable row is decided in one place, without a loop over
rows. Rows come out in the order of their frames, whichever way and in whichever order they were added.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.feeds.columns import (
    NO_SEQUENCE,
    NO_TIME,
    BookColumns,
    DerivativeColumns,
    Floats,
    Integers,
    LiquidationColumns,
    Positions,
    QuoteColumns,
    Times,
    TradeColumns,
    joined,
    joined_books,
)
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes
from storage.schema import (
    BOOK_MESSAGES,
    BROKEN,
    DERIVATIVES,
    LEVEL,
    LIQUIDATIONS,
    MERGED,
    ORDER_ID,
    QUOTES,
    TRADES,
    UNKNOWN_SIDE,
)

NOT_SUBSCRIBED: Final = "not a subscribed symbol"
_NO_USABLE_TIME: Final = "time is unreadable or not between 2000 and 2100"
_LEVEL_UNUSABLE: Final = "a level's price is not a positive number or its size is negative or no number"


@dataclass(slots=True)
class Events:
    """The columns of one list of frames, received at `ts_recv`; `reasons` names by position what cannot be used.

    Rows of retired symbols are left out without a word: they were on their way when we unsubscribed.
    """

    ts_recv: Times
    symbols: SymbolCodes
    reasons: dict[int, str] = field(default_factory=dict)
    trades: list[TradeColumns] = field(default_factory=list)
    history: list[TradeColumns] = field(default_factory=list)
    quotes: list[QuoteColumns] = field(default_factory=list)
    books: list[BookColumns] = field(default_factory=list)
    derivatives: list[DerivativeColumns] = field(default_factory=list)
    liquidations: list[LiquidationColumns] = field(default_factory=list)
    _merged: list[pa.RecordBatch] = field(default_factory=list)

    def trade_batch(self) -> pa.RecordBatch:
        """`storage.schema.TRADES`, without rows of unknown symbols, no time, or an unusable price or size."""
        return self._trade_batch(self.trades)

    def history_batch(self) -> pa.RecordBatch:
        """As `trade_batch`, of the trades from before the subscription."""
        return self._trade_batch(self.history)

    def merged_batch(self) -> pa.RecordBatch:
        """`storage.schema.MERGED`, of the trades whose batches were made before."""
        if not self._merged:
            return NO_MERGED
        whole = pa.Table.from_batches(self._merged).combine_chunks().to_batches()
        return whole[0] if whole else NO_MERGED

    def _trade_batch(self, parts: list[TradeColumns]) -> pa.RecordBatch:
        if not parts:
            return _NO_TRADES
        rows = joined(TradeColumns, parts)
        checks = {
            NOT_SUBSCRIBED: rows.code != UNKNOWN_SYMBOL,
            _NO_USABLE_TIME: rows.ts_event != NO_TIME,
            "price is not a positive number": _usable(rows.price),
            "size is not a positive number": _usable(rows.size),
        }
        columns = [
            self._symbol_column(rows.code),
            pa.array(rows.ts_event),
            pa.array(self.ts_recv[rows.at]),
            pa.array(rows.trade_id),
            pa.array(rows.price),
            pa.array(rows.size),
            pa.array(rows.side),
            _order_ids(rows.maker_order_id, rows.maker_known, len(rows.at)),
            _order_ids(rows.taker_order_id, rows.taker_known, len(rows.at)),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=TRADES)
        if rows.fills is not None and (rows.fills > 1).any():
            merged = pa.RecordBatch.from_arrays(
                [*columns[:1], columns[3], pa.array(rows.fills, pa.int32())], schema=MERGED
            )
            several = self._checked(merged, checks, rows.at, rows.code)
            self._merged.append(several.filter(pc.greater(several.column("fills"), pa.scalar(1))))
        return self._checked(batch, checks, rows.at, rows.code)

    def quote_batch(self) -> pa.RecordBatch:
        """`storage.schema.QUOTES`; a price or size that is not positive and finite becomes null."""
        if not self.quotes:
            return _NO_QUOTES
        rows = joined(QuoteColumns, [self._with_times(part) for part in self.quotes])
        assert rows.ts_event is not None
        assert rows.sequence is not None
        checks = {NOT_SUBSCRIBED: rows.code != UNKNOWN_SYMBOL, _NO_USABLE_TIME: rows.ts_event != NO_TIME}
        side = rows.side
        columns = [
            self._symbol_column(rows.code),
            pa.array(rows.ts_event),
            pa.array(self.ts_recv[rows.at]),
            pa.array(rows.sequence),
            *(
                _prices(values, len(rows.at))
                for values in (rows.bid_price, rows.bid_size, rows.ask_price, rows.ask_size)
            ),
            *(_prices(values, len(rows.at)) for values in (rows.last_price, rows.last_size)),
            pa.nulls(len(rows.at), pa.uint8()) if side is None else pa.array(side, mask=side == UNKNOWN_SIDE),
        ]
        return self._checked(pa.RecordBatch.from_arrays(columns, schema=QUOTES), checks, rows.at, rows.code)

    def book_batch(self) -> pa.RecordBatch:
        """`storage.schema.BOOK_MESSAGES`. A message with a level that makes no sense becomes `BROKEN`, without
        levels: what it said is lost to its book."""
        if not self.books:
            return _NO_BOOKS
        rows = joined_books([self._with_times(part) for part in self.books])
        assert rows.ts_event is not None
        unusable = ~(_usable(rows.level_price) & (rows.level_size >= 0) & (rows.level_size < np.inf))
        offsets = np.zeros(len(rows.at) + 1, np.int32)
        np.cumsum(rows.levels, out=offsets[1:])
        kind = rows.kind
        if unusable.any():
            message = np.repeat(np.arange(len(rows.at)), rows.levels)
            broken = np.unique(message[unusable])
            kind = kind.copy()
            kind[broken] = BROKEN
            for position in rows.at[broken].tolist():
                self.reasons.setdefault(position, _LEVEL_UNUSABLE)
            kept = ~np.isin(message, broken)
            levels = rows.levels.copy()
            levels[broken] = 0
            np.cumsum(levels, out=offsets[1:])
        else:
            kept = None
        level_columns: list[npt.NDArray[Any]] = [
            rows.level_side,
            rows.level_price,
            rows.level_size,
            rows.level_price_decimals,
            rows.level_size_decimals,
        ]
        levels_struct = pa.StructArray.from_arrays(
            [pa.array(column if kept is None else column[kept]) for column in level_columns], fields=_LEVEL_FIELDS
        )
        ts_event = np.where(rows.ts_event == NO_TIME, self.ts_recv[rows.at], rows.ts_event)
        columns = [
            self._symbol_column(rows.code),
            pa.array(ts_event),
            pa.array(self.ts_recv[rows.at]),
            pa.array(kind),
            *map(
                partial(_numbers_or_null, length=len(rows.at)),
                (rows.first_sequence, rows.sequence, rows.previous_sequence, rows.checksum),
            ),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), levels_struct, type=_LEVELS),
        ]
        checks = {NOT_SUBSCRIBED: rows.code != UNKNOWN_SYMBOL}
        return self._checked(pa.RecordBatch.from_arrays(columns, schema=BOOK_MESSAGES), checks, rows.at, rows.code)

    def derivative_batch(self) -> pa.RecordBatch:
        """`storage.schema.DERIVATIVES`; a value that is not finite becomes null."""
        if not self.derivatives:
            return _NO_DERIVATIVES
        rows = joined(DerivativeColumns, self.derivatives)
        length = len(rows.at)
        checks = {NOT_SUBSCRIBED: rows.code != UNKNOWN_SYMBOL, _NO_USABLE_TIME: rows.ts_event != NO_TIME}
        funding = rows.next_funding_time
        columns = [
            self._symbol_column(rows.code),
            pa.array(rows.ts_event),
            pa.array(self.ts_recv[rows.at]),
            *(
                pa.nulls(length, pa.float64()) if values is None else pa.array(values, mask=~np.isfinite(values))
                for values in (
                    rows.mark_price,
                    rows.index_price,
                    rows.open_interest,
                    rows.funding_rate,
                    rows.predicted_funding_rate,
                )
            ),
            pa.nulls(length, pa.int64()) if funding is None else pa.array(funding, mask=funding == NO_TIME),
        ]
        return self._checked(pa.RecordBatch.from_arrays(columns, schema=DERIVATIVES), checks, rows.at, rows.code)

    def liquidation_batch(self) -> pa.RecordBatch:
        """`storage.schema.LIQUIDATIONS`, left out as in `trade_batch`."""
        if not self.liquidations:
            return _NO_LIQUIDATIONS
        rows = joined(LiquidationColumns, self.liquidations)
        checks = {
            NOT_SUBSCRIBED: rows.code != UNKNOWN_SYMBOL,
            _NO_USABLE_TIME: rows.ts_event != NO_TIME,
            "price is not a positive number": _usable(rows.price),
            "size is not a positive number": _usable(rows.size),
        }
        columns = [
            self._symbol_column(rows.code),
            pa.array(rows.ts_event),
            pa.array(self.ts_recv[rows.at]),
            pa.array(rows.price),
            pa.array(rows.size),
            pa.array(rows.side),
        ]
        return self._checked(pa.RecordBatch.from_arrays(columns, schema=LIQUIDATIONS), checks, rows.at, rows.code)

    def _symbol_column(self, codes: npt.NDArray[np.int32]) -> "pa.Array[Any]":
        # Rows of unknown symbols borrow the first one until they are left out.
        return pa.DictionaryArray.from_arrays(np.maximum(codes, 0), self.symbols.names_array, safe=False)

    def _with_times[Part: (QuoteColumns, BookColumns)](self, part: Part) -> Part:
        if part.ts_event is None:
            part.ts_event = self.ts_recv[part.at]
        if isinstance(part, QuoteColumns) and part.sequence is None:
            part.sequence = self.ts_recv[part.at]
        return part

    def _checked(
        self,
        batch: pa.RecordBatch,
        checks: dict[str, npt.NDArray[np.bool_]],
        at: Positions,
        code: npt.NDArray[np.int32],
    ) -> pa.RecordBatch:
        usable = np.logical_and.reduce(list(checks.values()))
        if self.symbols.any_retired:
            retired = self.symbols.is_retired(code)
            usable &= ~retired
            at_fault = {reason: passed | retired for reason, passed in checks.items()}
        else:
            at_fault = checks
        if usable.all():
            return batch
        for reason, passed in at_fault.items():
            for position in at[~passed].tolist():
                self.reasons.setdefault(position, reason)
        return batch.filter(pa.array(usable))


def _usable(values: Floats) -> npt.NDArray[np.bool_]:
    return (values > 0) & (values < np.inf)


def _prices(values: Floats | None, length: int) -> "pa.Array[Any]":
    return pa.nulls(length, pa.float64()) if values is None else pa.array(values, mask=~_usable(values))


def _numbers_or_null(values: Integers | None, length: int) -> "pa.Array[Any]":
    return pa.nulls(length, pa.int64()) if values is None else pa.array(values, mask=values == NO_SEQUENCE)


def _order_ids(ids: npt.NDArray[np.uint8] | None, known: npt.NDArray[np.bool_] | None, length: int) -> "pa.Array[Any]":
    if ids is None or known is None or not known.any():
        return pa.nulls(length, ORDER_ID)
    bits = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(ORDER_ID, length, [bits, pa.py_buffer(np.ascontiguousarray(ids))])


_LEVEL_FIELDS: Final = list(LEVEL)
_LEVELS: Final[Any] = BOOK_MESSAGES.field("levels").type
_NO_TRADES = pa.RecordBatch.from_pylist([], TRADES)
NO_MERGED: Final = pa.RecordBatch.from_pylist([], MERGED)
_NO_QUOTES = pa.RecordBatch.from_pylist([], QUOTES)
_NO_BOOKS = pa.RecordBatch.from_pylist([], BOOK_MESSAGES)
_NO_DERIVATIVES = pa.RecordBatch.from_pylist([], DERIVATIVES)
_NO_LIQUIDATIONS = pa.RecordBatch.from_pylist([], LIQUIDATIONS)
