"""Bars of one symbol and timeframe, with their indicators: the newest are asked of the shard that owns the symbol,
older ones of ClickHouse; where both have a bar, the shard's is newer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serve_apps.cache import Cache
from serve_apps.cache_history import cached_history
from storage.clickhouse import DatabaseUnavailable, Parameter
from storage.clickhouse_tables import STORED_BARS
from storage.schema import BARS, INDICATORS
from storage.timeframes import TIMEFRAMES

#: Columns of the bars that are given.
COLUMNS: Final = tuple(name for name in BARS.names if name not in ("symbol", "timeframe"))
#: More bars than a shard has in memory.
LIVE: Final = 100_000
#: A time that does not come.
_NEVER: Final = 2**63 - 1

_BARS_SQL: Final = (
    f"SELECT {', '.join(name for name in COLUMNS if name in STORED_BARS.names)},"  # noqa: S608
    " if(volume > 0, quote_volume / volume, NULL) AS vwap FROM bars FINAL"
)
_WHERE: Final = (
    " WHERE exchange = {exchange:String} AND symbol = {symbol:String} AND timeframe = {timeframe:String}"
    " AND time >= {from:Int64} AND time < {before:Int64}"
)

#: (exchange, symbol, timeframe, limit) -> the newest bars a shard has, or their indicators, ascending.
Live = Callable[[str, str, str, int], Awaitable[pa.RecordBatch]]
#: (sql, parameters) -> rows; raises `DatabaseUnavailable`.
Query = Callable[[str, Mapping[str, Parameter]], Awaitable[pa.Table]]


@dataclass(frozen=True, slots=True)
class Series:
    exchange: str
    symbol: str
    timeframe: str

    @property
    def parameters(self) -> dict[str, Parameter]:
        return {"exchange": self.exchange, "symbol": self.symbol, "timeframe": self.timeframe}


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of COLUMNS, ascending; not `complete` where the database, which has the older ones, does not answer."""

    bars: pa.Table
    complete: bool


class BarSeries:
    """Reads series of bars; see `Live` and `Query`."""

    def __init__(self, live: Live, live_indicators: Live, query: Query, cache: Cache) -> None:
        self._live = live
        self._live_indicators = live_indicators
        self._query = query
        self._history = cached_history(self._newest_stored, cache)

    async def newest(self, series: Series, limit: int, from_ns: int, before_ns: int | None) -> Found:
        """The newest `limit` bars that begin in a range of time. `DatabaseUnavailable` when the shard has none of
        them."""
        asked = limit if before_ns is None else LIVE
        live = _table(await self._live(series.exchange, series.symbol, series.timeframe, asked))
        begin = _begin(live, before_ns)
        held = _between(live, from_ns, before_ns)
        held = held.slice(max(held.num_rows - limit, 0))
        if held.num_rows >= limit or begin <= from_ns or series.timeframe not in TIMEFRAMES:
            return Found(held, True)
        try:
            before = None if begin == _NEVER else begin
            older = await self._history(series.exchange, series.symbol, series.timeframe, limit - held.num_rows, before)
        except DatabaseUnavailable:
            if not held.num_rows:
                raise
            return Found(held, False)
        return Found(pa.concat_tables([_between(_table(older), from_ns, begin), held]), True)

    async def oldest(self, series: Series, limit: int, from_ns: int, before_ns: int) -> pa.Table:
        """The oldest `limit` bars that begin in a range of time. `DatabaseUnavailable`."""
        live = _table(await self._live(series.exchange, series.symbol, series.timeframe, LIVE))
        begin = _begin(live, before_ns)
        older = _table(pa.RecordBatch.from_pylist([], schema=BARS))
        if from_ns < begin:
            older = await self._stored(series, from_ns, begin, limit, "ASC")
        held = _between(live, from_ns, before_ns)
        return pa.concat_tables([older, held]).slice(0, limit)

    async def indicators(self, series: Series, times: Any, names: Sequence[str]) -> pa.Table:
        """The named indicators of bars that begin at `times` (ns, ascending), a row for each; null where there are
        none. `DatabaseUnavailable`."""
        live = await self._live_indicators(series.exchange, series.symbol, series.timeframe, LIVE)
        columns = ["time", *names]
        known = pa.Table.from_batches([live]).select(columns)
        begin = _begin(known, None)
        if len(times) and (first := times[0].as_py()) < begin:
            before = min(times[len(times) - 1].as_py() + 1, begin)
            sql = f"SELECT {', '.join(columns)} FROM indicators FINAL{_WHERE}"  # noqa: S608 - names of ours
            stored = await self._query(sql, series.parameters | {"from": first, "before": before})
            known = pa.concat_tables([stored.cast(known.schema), known])
        return known.take(pc.index_in(times, known.column("time").combine_chunks()))

    async def _newest_stored(
        self, exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int | None
    ) -> pa.Table:
        before = _NEVER if before_ns is None else before_ns
        rows = await self._stored(Series(exchange, symbol, timeframe), 0, before, limit, "DESC")
        return rows.take(np.arange(rows.num_rows)[::-1])

    async def _stored(self, series: Series, from_ns: int, before_ns: int, limit: int, order: str) -> pa.Table:
        sql = f"{_BARS_SQL}{_WHERE} ORDER BY time {order} LIMIT {{limit:UInt32}}"
        parameters = series.parameters | {"from": from_ns, "before": before_ns, "limit": limit}
        return _table(await self._query(sql, parameters))


def indicator_names(given: str) -> tuple[str, ...]:
    """Names between commas, `all` for every one; ValueError, in one line, for one there is not."""
    known = INDICATORS.names[3:]
    names = tuple(dict.fromkeys(name for name in given.split(",") if name))
    if names == ("all",):
        return tuple(known)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no indicator {unknown[0][:40]!r}; all or: {', '.join(known)}.")
    return names


def _table(rows: pa.RecordBatch | pa.Table) -> pa.Table:
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    return table.select(list(COLUMNS)).cast(pa.schema([BARS.field(name) for name in COLUMNS]))


def _begin(rows: pa.Table, otherwise: int | None) -> int:
    """Where rows begin, or the end of what is asked for where that is earlier or there are none."""
    most = _NEVER if otherwise is None else otherwise
    return min(rows.column("time")[0].as_py(), most) if rows.num_rows else most


def _between(rows: pa.Table, from_ns: int, before_ns: int | None) -> pa.Table:
    times = rows.column("time").to_numpy()
    end = rows.num_rows if before_ns is None else int(times.searchsorted(before_ns))
    begin = int(times.searchsorted(from_ns))
    return rows.slice(begin, max(end - begin, 0))
