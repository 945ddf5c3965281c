"""Features of a shard's symbols, made when they are asked for from its bars and the stored quotes, and so always what
the stored trades and quotes say: live, years later, and after a backfill.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.aggregation.features import LOOK_BACK, features
from actors.aggregation.quote_features import LOOK_BACK_S, SECOND, Quotes, last_of_seconds
from actors.stored_bars import StoredBars, whole
from storage.column_layout import NANOS_PER_DAY, join_time
from storage.column_reader import ColumnReader
from storage.schema import BARS
from storage.timeframes import TIMEFRAMES

#: No more trades are read for bars that are no longer in memory.
MOST_TRADES: Final = 30_000_000
#: Rows of one answer.
LONGEST: Final = 100_000
#: Quotes of bars that end so close to each other are read together.
_TOGETHER_NS: Final = 600 * SECOND
_QUOTES: Final = ("best_bid64", "best_bid_size64", "best_ask64", "best_ask_size64")


class TooMuch(ValueError):
    """More would have to be read than one answer may cost; the message is fit for users."""


class StoredFeatures:
    """Of the symbols in `bars`; `storage.schema.FEATURES`, closed bars only, ascending."""

    def __init__(self, reader: ColumnReader, bars: StoredBars) -> None:
        self._reader = reader
        self._bars = bars
        #: One at a time: each may read much.
        self._reading = asyncio.Lock()

    async def newest(self, exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """Of the newest `limit` bars. KeyError for an unknown timeframe, `TooMuch` where those bars lie too far apart
        in the trades."""
        kept, begin_ns = self._bars.closed(exchange, symbol, timeframe)

        def enough(times: Any) -> bool:
            return len(times) >= limit + LOOK_BACK

        def made() -> pa.RecordBatch:
            bars = self._and_older(exchange, symbol, timeframe, kept, begin_ns, enough)
            return self._features(exchange, symbol, timeframe, bars, max(bars.num_rows - limit, 0))

        async with self._reading:
            return await asyncio.to_thread(made)

    async def between(self, exchange: str, symbol: str, timeframe: str, from_ns: int, before_ns: int) -> pa.RecordBatch:
        """Of bars that begin in a range of time. KeyError for an unknown timeframe, `TooMuch` for a range that has too
        many of them, or of trades."""
        if (before_ns - from_ns) // TIMEFRAMES[timeframe] > LONGEST:
            raise TooMuch(f"that are more than {LONGEST} bars of {timeframe}; ask for a shorter range")
        kept, begin_ns = self._bars.closed(exchange, symbol, timeframe)
        # Whole bars.
        before_ns = -(-before_ns // TIMEFRAMES[timeframe]) * TIMEFRAMES[timeframe]
        kept = kept.filter(pa.array(np.asarray(kept.column("time")) < before_ns))

        def enough(times: Any) -> bool:
            return int(np.count_nonzero(times < from_ns)) >= LOOK_BACK

        def made() -> pa.RecordBatch:
            bars = self._and_older(exchange, symbol, timeframe, kept, min(begin_ns, before_ns), enough)
            begin = int(np.count_nonzero(np.asarray(bars.column("time")) < from_ns))
            return self._features(exchange, symbol, timeframe, bars, begin)

        async with self._reading:
            return await asyncio.to_thread(made)

    async def newest_of(self, series: Iterable[tuple[str, str, str]]) -> dict[str, list[pa.RecordBatch]]:
        """Of the newest bar of each (exchange, symbol, timeframe), by exchange; none where that is `TooMuch`."""
        kept = [(one, self._bars.closed(*one)) for one in series]

        def made() -> dict[str, list[pa.RecordBatch]]:
            found: dict[str, list[pa.RecordBatch]] = {}
            for one, (bars, begin_ns) in kept:
                with suppress(TooMuch):
                    complete = self._and_older(*one, bars, begin_ns, lambda times: len(times) > LOOK_BACK)
                    newest = self._features(*one, complete, max(complete.num_rows - 1, 0))
                    found.setdefault(one[0], []).append(newest)
            return found

        return await asyncio.to_thread(made)

    def _and_older(
        self,
        exchange: str,
        symbol: str,
        timeframe: str,
        kept: pa.RecordBatch,
        begin_ns: int,
        enough: Callable[[Any], bool],
    ) -> pa.RecordBatch:
        """Bars with those before them, which end by `begin_ns`, day by day from the trades, until there are enough or
        no more."""
        if enough(np.asarray(kept.column("time"))):
            return kept
        parts, read = [kept], 0
        for day in reversed(self._bars.days(exchange, symbol)):
            from_ns, to_ns = day * NANOS_PER_DAY, min((day + 1) * NANOS_PER_DAY, begin_ns)
            if not (rows := self._reader.select(exchange, symbol, "TRADES", from_ns, to_ns - 1, ["time"]).rows):
                continue
            read += rows
            if read > MOST_TRADES:
                raise TooMuch(f"that needs more than {MOST_TRADES} trades to be read; ask for a later or shorter range")
            parts.insert(0, self._bars.from_trades(exchange, symbol, timeframe, from_ns, to_ns))
            if enough(np.concatenate([np.asarray(part.column("time")) for part in parts])):
                break
        return whole(pa.Table.from_batches(parts, schema=BARS).unify_dictionaries())

    def _features(self, exchange: str, symbol: str, timeframe: str, bars: pa.RecordBatch, begin: int) -> pa.RecordBatch:
        ends = np.asarray(bars.column("time"))[begin:] + TIMEFRAMES[timeframe]
        return features(bars, timeframe, self._quotes(exchange, symbol, ends), begin)

    def _quotes(self, exchange: str, symbol: str, ends: Any) -> Quotes:
        """The last quote of each second in the minutes before `ends` (ns, ascending)."""
        found = [last_of_seconds(np.empty(0, np.int64), *[np.empty(0)] * len(_QUOTES))]
        apart = (np.diff(ends) > _TOGETHER_NS) | (np.diff(ends // NANOS_PER_DAY) > 0)
        read_to = 0
        for run in np.split(ends, np.flatnonzero(apart) + 1) if len(ends) else []:
            first, read_to = max(int(run[0]) - LOOK_BACK_S * SECOND, read_to), int(run[-1])
            stored = self._reader.select(exchange, symbol, "MD", first, read_to - 1, ["time", "nanos", *_QUOTES])
            times = join_time(stored.column("time"), stored.column("nanos"))
            found.append(last_of_seconds(times, *(stored.column(name) for name in _QUOTES)))
        return Quotes(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
