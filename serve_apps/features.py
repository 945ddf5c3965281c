"""Features of one symbol: of its newest bars, or of a range of time."""

import datetime
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa

from serve_apps.asgi import (
    BadRequest,
    Receive,
    Scope,
    Send,
    last_segment,
    send_problem,
    send_whole,
)
from serve_apps.bodies import ARROW, HEADERS, JSON, arrow_stream
from serve_apps.parameters import known_query, one_of, whole_number
from serve_apps.symbol_names import Symbols, find_symbol
from storage.feature_names import NEWEST, VERSIONS
from storage.timeframes import MINUTE, TIMEFRAMES

FEATURES: Final = "/api/v1/features/"
#: Rows of one answer.
LONGEST: Final = 5000
_PARAMETERS: Final = {"exchange", "timeframe", "version", "format", "mode", "limit", "start_time", "end_time"}
#: The years of the column files.
_FIRST: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_AFTER: Final = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

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
    """ASGI application: GET `/api/v1/features/{symbol}?exchange=&timeframe=1m&version=v2.0&format=json|arrow`,
    `mode=realtime&limit=1` or `mode=batch&start_time=&end_time=`."""

    def __init__(self, newest: Newest, between: Between, symbols: Symbols) -> None:
        self._newest = newest
        self._between = between
        self._symbols = symbols

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            asked = self._parse(last_segment(scope, FEATURES), known_query(scope, _PARAMETERS))
            found = (await self._find(asked)).select(["symbol", "timeframe", "time", *VERSIONS[asked.version]])
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
            return
        kind, body = (ARROW, arrow_stream(found)) if asked.as_arrow else (JSON, _json(asked, found))
        await send_whole(send, 200, (*HEADERS, kind), body)

    def _parse(self, symbol: str, query: Mapping[str, str]) -> _Question:
        timeframe = one_of(query, "timeframe", MINUTE, TIMEFRAMES)
        version = one_of(query, "version", NEWEST, VERSIONS)
        limit, span = whole_number(query, "limit", 1, LONGEST), None
        if one_of(query, "mode", "realtime", ("realtime", "batch")) == "batch":
            span = _time(query, "start_time"), _time(query, "end_time")
            if span[0] >= span[1]:
                raise BadRequest(400, "start_time must be before end_time.")
            if (span[1] - span[0]) // TIMEFRAMES[timeframe] > LONGEST:
                raise BadRequest(400, f"That are more than {LONGEST} bars of {timeframe}; ask for a shorter range.")
        as_arrow = one_of(query, "format", "json", ("json", "arrow")) == "arrow"
        exchange, symbol = find_symbol(self._symbols(), symbol, query.get("exchange"))
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


def _json(asked: _Question, found: pa.RecordBatch) -> bytes:
    rows: list[dict[str, Any]] = found.drop_columns(["symbol", "timeframe"]).to_pylist()
    said: dict[str, Any] = {
        "exchange": asked.exchange,
        "symbol": asked.symbol,
        "timeframe": asked.timeframe,
        "version": asked.version,
        "mode": "realtime" if asked.span is None else "batch",
    }
    if asked.span is not None:
        said |= {"start": asked.span[0] // 1_000_000, "end": asked.span[1] // 1_000_000}
    said |= {"count": len(rows), "features": [{**row, "time": row["time"] // 1_000_000} for row in rows]}
    return msgspec.json.encode(said)


def _time(query: Mapping[str, str], name: str) -> int:
    """Nanoseconds since the epoch."""
    try:
        moment = datetime.datetime.fromisoformat(query.get(name, ""))
    except ValueError:
        raise BadRequest(400, f"mode=batch needs {name} as 2026-01-31T12:00 (UTC).") from None
    moment = moment.replace(tzinfo=moment.tzinfo or datetime.UTC)
    if not _FIRST <= moment < _AFTER:
        raise BadRequest(400, f"{name} must be in the years 2000 to 2099.")
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
