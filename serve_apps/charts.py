"""Charts: bars of one symbol. The newest bars come from the shard that owns the symbol, older
ones from ClickHouse; where both have a bar, the shard's is newer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from actors.aggregation.activity import activity
from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_problem, send_whole
from serve_apps.bodies import HEADERS, JSON
from serve_apps.parameters import known_query, whole_number
from serve_apps.symbol_names import Symbols, find_symbol
from storage.schema import BARS, INDICATOR_FIELDS
from storage.timeframes import MINUTE, TIMEFRAMES

CHARTS: Final = "/api/v1/charts/"
LONGEST: Final = 5000
DEFAULT_LIMIT: Final = 1000
DEFAULT_TIMEFRAME: Final = MINUTE
_PARAMETERS: Final = ("exchange", "timeframe", "limit", "indicators")
_BAR_FIELDS: Final = tuple(name for name in BARS.names if name not in ("symbol", "timeframe", "time"))

#: (exchange, symbol, timeframe, limit) -> the newest bars, ascending (`storage.schema.BARS`).
Charts = Callable[[str, str, str, int], Awaitable[pa.RecordBatch | pa.Table]]
#: The same arguments -> `storage.schema.INDICATORS` of those bars that have any, ascending.
Indicators = Callable[[str, str, str, int], Awaitable[pa.RecordBatch]]


class ChartsApp:
    """ASGI application that answers GET `/api/v1/charts/{symbol}?exchange=&timeframe=1m&limit=1000&indicators=`."""

    def __init__(self, charts: Charts, indicators: Indicators, symbols: Symbols) -> None:
        self._charts = charts
        self._indicators = indicators
        self._symbols = symbols

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        symbol = last_segment(scope, CHARTS)
        try:
            exchange, symbol, timeframe, limit, fields = self._parse(symbol, known_query(scope, _PARAMETERS))
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
            return
        bars = await self._charts(exchange, symbol, timeframe, limit)
        if bars.num_rows == 0:
            await send_problem(send, 404, f"No bars of {symbol} on {exchange} yet: no trade has been seen.")
            return
        indicators = None
        if fields:
            said = await self._indicators(exchange, symbol, timeframe, limit)
            places = pc.index_in(bars.column("time"), said.column("time"))
            indicators = {name: said.column(name).take(places).to_pylist() for name in fields}
        columns = [pc.divide(bars.column("time"), 1_000_000).to_pylist()]
        columns += [bars.column(name).to_pylist() for name in _BAR_FIELDS]
        names = ("time", *_BAR_FIELDS)
        body = msgspec.json.encode(
            {
                "exchange": exchange,
                "symbol": symbol,
                "timeframe": timeframe,
                "bars": [dict(zip(names, bar, strict=True)) for bar in zip(*columns, strict=True)],
                "indicators": indicators,
            }
        )
        await send_whole(send, 200, (*HEADERS, JSON), body)

    def _parse(self, symbol: str, query: Mapping[str, str]) -> tuple[str, str, str, int, Sequence[str]]:
        timeframe = query.get("timeframe", DEFAULT_TIMEFRAME)
        try:
            activity(timeframe)
        except ValueError as error:
            raise BadRequest(400, str(error)) from None
        limit = whole_number(query, "limit", DEFAULT_LIMIT, LONGEST)
        fields = [name for name in query.get("indicators", "").split(",") if name]
        if fields == ["all"]:
            fields = list(INDICATOR_FIELDS)
        if unknown := [name for name in fields if name not in INDICATOR_FIELDS]:
            raise BadRequest(400, f"There is no indicator {unknown[0][:40]!r}; all or: {', '.join(INDICATOR_FIELDS)}.")
        if fields and timeframe not in TIMEFRAMES:
            raise BadRequest(400, f"There are indicators of {', '.join(TIMEFRAMES)} only.")
        exchange, symbol = find_symbol(self._symbols(), symbol, query.get("exchange"))
        return exchange, symbol, timeframe, limit, fields


def live_then_stored(
    live: Callable[[str, str, str, int], Awaitable[pa.RecordBatch]],
    stored: Callable[[str, str, str, int, int | None], Awaitable[pa.Table]],
) -> Charts:
    """Charts from the shards' `live` bars, filled up with `stored` (exchange, symbol, timeframe, limit, before_ns)."""

    async def charts(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch | pa.Table:
        newest = await live(exchange, symbol, timeframe, limit)
        if newest.num_rows >= limit or timeframe not in TIMEFRAMES:
            return newest
        before: Any = newest.column("time")[0].as_py() if newest.num_rows else None
        older = await stored(exchange, symbol, timeframe, limit - newest.num_rows, before)
        if older.num_rows == 0:
            return newest
        columns = ["time", *_BAR_FIELDS]
        return pa.concat_tables(
            [older.select(columns), pa.Table.from_batches([newest]).select(columns)], promote_options="permissive"
        )

    return charts
