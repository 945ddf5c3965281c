"""Features of one symbol: of its newest bars, or of a range of time."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_whole
from serve_apps.bodies import ARROW, HEADERS, arrow_stream, json_rows, send_json
from serve_apps.parameters import Route, choice, moment, number
from serve_apps.symbol_names import EXCHANGE, SYMBOL, Symbols, find_symbol
from storage.feature_names import NEWEST, VERSIONS
from storage.timeframes import MINUTE, TIMEFRAMES

FEATURES: Final = "/api/v1/features/"
#: Rows of one answer.
LONGEST: Final = 5000

TIMEFRAME: Final = choice("timeframe", "Of the bars.", MINUTE, TIMEFRAMES)
VERSION: Final = choice("version", "Which features: a version never changes.", NEWEST, VERSIONS)
MODE: Final = choice("mode", "realtime: of the newest bars; batch: of a range.", "realtime", ("realtime", "batch"))
LIMIT: Final = number("limit", "With mode=realtime: of the newest so many closed bars.", 1, LONGEST)
START: Final = moment("start_time", "With mode=batch: of bars that begin at or after this time.", "2026-01-31T12:00")
END: Final = moment("end_time", "With mode=batch: of bars that begin before this time.", "2026-01-31T13:00")
FORMAT: Final = choice("format", "JSON, or an Arrow IPC stream.", "json", ("json", "arrow"))

ROUTE: Final = Route(
    FEATURES + "{symbol}",
    "Features of a symbol: of its newest bars, or of a range of time",
    (EXCHANGE, TIMEFRAME, VERSION, MODE, LIMIT, START, END, FORMAT),
    about="What they are is said in docs/features.md. Times are ms since the epoch. 422 where too much would have to "
    "be read.",
    example={
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "timeframe": "1m",
        "version": NEWEST,
        "mode": "realtime",
        "count": 1,
        "features": [{"time": 1769860800000, "return_1": 0.001, "rsi": 55.0}],
    },
    others=("application/vnd.apache.arrow.stream",),
    errors=(400, 404, 422, 503),
    segments={"symbol": SYMBOL},
)

#: (exchange, symbol, timeframe, limit) -> `storage.schema.FEATURES` of the newest bars.
Newest = Callable[[str, str, str, int], Awaitable[pa.RecordBatch]]
#: (exchange, symbol, timeframe, from_ns, before_ns) -> those of a range. ValueError with a text when it is too much.
Between = Callable[[str, str, str, int, int], Awaitable[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class _Question:
    exchange: str
    symbol: str
    timeframe: str
    version: str
    limit: int
    #: From and to (ns, the latter excluded); None for the newest.
    span: tuple[int, int] | None
    as_arrow: bool


class FeaturesApp:
    """ASGI application that answers `ROUTE`."""

    def __init__(self, newest: Newest, between: Between, symbols: Symbols) -> None:
        self._newest = newest
        self._between = between
        self._symbols = symbols

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._parse(last_segment(scope, FEATURES), ROUTE.query(scope))
        found = (await self._find(asked)).select(["symbol", "timeframe", "time", *VERSIONS[asked.version]])
        if asked.as_arrow:
            await send_whole(send, 200, (*HEADERS, ARROW), arrow_stream(found))
        else:
            await send_json(send, _said(asked, found))

    def _parse(self, symbol: str, query: Mapping[str, str]) -> _Question:
        timeframe, version, limit, span = TIMEFRAME.of(query), VERSION.of(query), LIMIT.of(query), None
        start, end = START.of(query), END.of(query)
        if MODE.of(query) == "batch":
            if start is None or end is None:
                raise BadRequest(400, "mode=batch needs start_time and end_time as 2026-01-31T12:00 (UTC).")
            if start >= end:
                raise BadRequest(400, "start_time must be before end_time.")
            bars = -(-end // TIMEFRAMES[timeframe]) + -start // TIMEFRAMES[timeframe]
            if bars > LONGEST:
                raise BadRequest(400, f"That are more than {LONGEST} bars of {timeframe}; ask for a shorter range.")
            span = start, end
        as_arrow = FORMAT.of(query) == "arrow"
        exchange, symbol = find_symbol(self._symbols(), symbol, EXCHANGE.of(query))
        return _Question(exchange, symbol, timeframe, version, limit, span, as_arrow)

    async def _find(self, asked: _Question) -> pa.RecordBatch:
        series = (asked.exchange, asked.symbol, asked.timeframe)
        try:
            if asked.span is None:
                found = await self._newest(*series, asked.limit)
            else:
                found = await self._between(*series, *asked.span)
        except ValueError as error:
            raise BadRequest(422, f"{error}.".capitalize()) from None
        if not found.num_rows:
            raise BadRequest(404, f"No bar of {asked.timeframe} of {asked.symbol} on {asked.exchange} closed then.")
        return found


def _said(asked: _Question, found: pa.RecordBatch) -> dict[str, Any]:
    names = ["time", *VERSIONS[asked.version]]
    in_ms: Any = pa.Table.from_batches([found.select(names)])
    rows = json_rows(in_ms.set_column(0, "time", pc.divide(in_ms["time"], 1_000_000)), names)
    said: dict[str, Any] = {
        "exchange": asked.exchange,
        "symbol": asked.symbol,
        "timeframe": asked.timeframe,
        "version": asked.version,
        "mode": "realtime" if asked.span is None else "batch",
    }
    if asked.span is not None:
        said |= {"start": asked.span[0] // 1_000_000, "end": asked.span[1] // 1_000_000}
    return said | {"count": len(rows), "features": rows}
