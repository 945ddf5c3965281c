"""Bars with their indicators to take away: as one file, or streamed page by page however many there are."""

import asyncio
import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from serve_apps.asgi import BadRequest, Receive, Scope, Send, disconnected, last_segment, send_whole
from serve_apps.bar_series import COLUMNS, BarSeries, Series
from serve_apps.bodies import HEADERS, json_rows
from serve_apps.charts import INDICATORS
from serve_apps.parameters import Parameter, Route, choice, moment, number
from serve_apps.shared_answer import NoAnswer
from serve_apps.symbol_names import EXCHANGE, SYMBOL, Symbols, find_symbol
from storage.schema import INDICATOR_FIELDS
from storage.timeframes import TIMEFRAMES

EXPORT: Final = "/api/v1/export/"
STREAM: Final = "/stream"
MOST: Final = 100_000
#: So many files are made at a time in a replica; who comes later waits.
AT_ONCE: Final = 2
#: Where ranges end that have no end: the years of the column files.
_AFTER: Final = 4_102_444_800_000_000_000
_MS: Final = 1_000_000
_TYPES: Final = {
    "csv": b"text/csv; charset=utf-8",
    "json": b"application/json",
    "parquet": b"application/vnd.apache.parquet",
}
_NDJSON: Final = b"application/x-ndjson"

TIMEFRAME: Final = choice("timeframe", "Of the bars.", "1h", TIMEFRAMES)
START: Final = moment("start", "Only bars that begin at or after this time.")
END: Final = moment("end", "Only bars that begin before this time.", "2026-02-01")
WITH: Final = Parameter(
    "indicators",
    f"Names with commas, all, or none with indicators= alone: {', '.join(INDICATOR_FIELDS)}.",
    {"type": "string", "maxLength": 1000, "default": "all"},
    INDICATORS.read,
    INDICATORS.read("all"),
    "sma_20,rsi_14",
)
FORMAT: Final = choice("format", "Of the file.", "csv", ("csv", "json", "parquet"))
LIMIT: Final = number("limit", "The newest so many bars of the range.", 10_000, MOST)
LINES: Final = choice("format", "CSV with one line of names, or JSON, an object on each line.", "csv", ("csv", "json"))
CHUNK: Final = number("chunk_size", "Bars that are read and sent at a time.", 1000, 10_000, least=100)

_BAR: Final = {"time": 1769860800000, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10.0}
ROUTES: Final = (
    Route(
        EXPORT + "{symbol}",
        "Bars and indicators as a file",
        (EXCHANGE, FORMAT, TIMEFRAME, START, END, WITH, LIMIT),
        about="An attachment `{symbol}_{YYYYMMDD}.{csv|json|parquet}`, ascending by time (ms since the epoch; a "
        "timestamp in Parquet). `vwap` is that of the bar, `vwap_200` the indicator of that name.",
        example={
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "timeframe": "1h",
            "exported_at": "2026-01-31T12:00:00Z",
            "count": 1,
            "data": [_BAR],
        },
        others=("text/csv", "application/vnd.apache.parquet"),
        segments={"symbol": SYMBOL},
    ),
    Route(
        EXPORT + "{symbol}" + STREAM,
        "Bars and indicators of a range of any length, streamed",
        (EXCHANGE, LINES, TIMEFRAME, START, END, WITH, CHUNK),
        about="Ascending by time. An answer that is broken off was not the whole.",
        others=("text/csv", "application/x-ndjson"),
        segments={"symbol": SYMBOL},
    ),
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    series: Series
    start: int
    end: int
    names: tuple[str, ...]
    kind: str


class ExportsApp:
    """ASGI application that answers `ROUTES`."""

    def __init__(
        self,
        series: BarSeries,
        symbols: Symbols,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._series = series
        self._symbols = symbols
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = last_segment(scope, EXPORT)
        if name.endswith(STREAM):
            query = ROUTES[1].query(scope)
            wanted = self._parse(name.removesuffix(STREAM), query, LINES)
            await self._stream(wanted, CHUNK.of(query), receive, send)
            return
        query = ROUTES[0].query(scope)
        wanted, limit = self._parse(name, query, FORMAT), LIMIT.of(query)
        async with self._turns:
            found = await self._series.newest(wanted.series, limit, wanted.start, wanted.end)
            if not found.complete:
                raise NoAnswer("The database, which has the older bars, does not answer; ask again in a moment.")
            bars = await self._with_indicators(wanted, _some(found.bars, wanted))
            now = self._clock()
            body = await asyncio.to_thread(_file, wanted, bars, now)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted.series.symbol)
        attachment = f'attachment; filename="{name}_{now:%Y%m%d}.{wanted.kind}"'.encode()
        headers = (*HEADERS, (b"content-type", _TYPES[wanted.kind]), (b"content-disposition", attachment))
        await send_whole(send, 200, headers, body)

    def check(self, symbol: str, scope: Scope) -> None:
        """`BadRequest` for what cannot be exported."""
        query = ROUTES[0].query(scope)
        LIMIT.of(query)
        self._parse(symbol, query, FORMAT)

    async def _stream(self, wanted: _Wanted, chunk: int, receive: Receive, send: Send) -> None:
        bars = _some(await self._series.oldest(wanted.series, chunk, wanted.start, wanted.end), wanted)
        bars = await self._with_indicators(wanted, bars)
        kind = _TYPES["csv"] if wanted.kind == "csv" else _NDJSON
        await send(
            {"type": "http.response.start", "status": 200, "headers": [*HEADERS, (b"content-type", kind)]},
        )
        gone = asyncio.create_task(disconnected(receive))
        try:
            first = True
            while bars.num_rows and not gone.done():
                body = await asyncio.to_thread(lines, wanted.kind, bars, first)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                last, full, first = bars.column("time")[bars.num_rows - 1].as_py(), bars.num_rows == chunk, False
                if not full:
                    break
                bars = await self._series.oldest(wanted.series, chunk, last + 1, wanted.end)
                bars = await self._with_indicators(wanted, bars)
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await asyncio.wait([gone])

    def _parse(self, name: str, query: Mapping[str, str], kind: Parameter[str]) -> _Wanted:
        start, end = START.of(query), END.of(query)
        if start is not None and end is not None and start >= end:
            raise BadRequest(400, "start must be before end.")
        timeframe, names = TIMEFRAME.of(query), WITH.of(query)
        exchange, symbol = find_symbol(self._symbols(), name, EXCHANGE.of(query))
        return _Wanted(
            Series(exchange, symbol, timeframe), start or 0, _AFTER if end is None else end, names, kind.of(query)
        )

    async def _with_indicators(self, wanted: _Wanted, bars: pa.Table) -> pa.Table:
        """What is called as a column of bars is called `{name}_200`: the vwap over so many bars."""
        if not wanted.names or not bars.num_rows:
            return bars
        times = bars.column("time").combine_chunks()
        said = await self._series.indicators(wanted.series, times, wanted.names)
        for name in wanted.names:
            bars = bars.append_column(f"{name}_200" if name in COLUMNS else name, said.column(name))
        return bars


def _some(bars: pa.Table, wanted: _Wanted) -> pa.Table:
    if not bars.num_rows:
        series = wanted.series
        raise BadRequest(404, f"No bars of {series.timeframe} of {series.symbol} on {series.exchange} then.")
    return bars


def _file(wanted: _Wanted, bars: pa.Table, now: datetime.datetime) -> bytes:
    if wanted.kind == "csv":
        return lines("csv", bars, True)
    if wanted.kind == "parquet":
        times = pc.cast(bars.column("time"), pa.timestamp("ns", "UTC"))
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(bars.set_column(0, "time", times), sink, compression="snappy")
        return sink.getvalue().to_pybytes()
    rows = json_rows(_in_ms(bars), bars.column_names)
    about = {
        "exchange": wanted.series.exchange,
        "symbol": wanted.series.symbol,
        "timeframe": wanted.series.timeframe,
        "exported_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "count": len(rows),
    }
    return msgspec.json.encode({**about, "data": rows})


def lines(kind: str, bars: pa.Table, first: bool) -> bytes:
    """CSV, the names before it when they come `first`, or an object of JSON on each line."""
    if kind == "json":
        return msgspec.json.Encoder().encode_lines(json_rows(_in_ms(bars), bars.column_names))
    sink = pa.BufferOutputStream()
    if first:
        sink.write(",".join(bars.column_names).encode() + b"\n")
    # Of a chunk without rows pyarrow 26 writes what its memory held before: parts of other answers.
    pa.csv.write_csv(_in_ms(bars).combine_chunks(), sink, pa.csv.WriteOptions(include_header=False))
    return sink.getvalue().to_pybytes()


def _in_ms(bars: pa.Table) -> Any:
    return bars.set_column(0, "time", pc.divide(bars.column("time"), _MS))
