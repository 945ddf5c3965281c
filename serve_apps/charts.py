"""Charts: bars of one symbol, at one exchange or several, with their indicators."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from actors.aggregation.activity import activity
from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_whole
from serve_apps.bar_series import COLUMNS, BarSeries, Series, indicator_names
from serve_apps.bodies import BINARY, HEADERS, binary_columns, json_rows, send_json, values
from serve_apps.parameters import Parameter, Route, choice, moment, number
from serve_apps.shared_answer import NoAnswer
from serve_apps.symbol_names import SYMBOL, Symbols, find_symbol, having
from storage.clickhouse import DatabaseUnavailable
from storage.schema import INDICATOR_FIELDS
from storage.timeframes import MINUTE, TIMEFRAMES

CHARTS: Final = "/api/v1/charts/"
LONGEST: Final = 5000
ALL: Final = "all"
_MS: Final = 1_000_000


def _timeframe(given: str) -> str:
    try:
        activity(given)
    except ValueError as error:
        raise BadRequest(400, str(error)) from None
    return given


def _indicators(given: str) -> tuple[str, ...]:
    try:
        return indicator_names(given)
    except ValueError as error:
        raise BadRequest(400, str(error)) from None


EXCHANGES: Final[Parameter[str | None]] = Parameter(
    "exchange",
    "Needed where several exchanges have a symbol of that name. Several with commas, or all: one chart of each, also "
    "of symbols that are called otherwise there, where {symbol} is an instrument (BTC-USDT).",
    {"type": "string", "maxLength": 200},
    lambda given: given,
    None,
    "binance",
)
TIMEFRAME: Final = Parameter(
    "timeframe",
    f"{', '.join(TIMEFRAMES)}; or bars by activity: tick:1000 (trades), volume:12.5, dollar:1000000.",
    {"type": "string", "pattern": rf"^({'|'.join(TIMEFRAMES)}|(tick|volume|dollar):[0-9.]+)$", "default": MINUTE},
    _timeframe,
    MINUTE,
)
LIMIT: Final = number("limit", "The newest so many bars.", 1000, LONGEST)
BEFORE: Final = moment("before", "Only bars that begin before this time: next_before of the answer gives older ones.")
INDICATORS: Final[Parameter[tuple[str, ...]]] = Parameter(
    "indicators",
    f"Names with commas, or all: {', '.join(INDICATOR_FIELDS)}.",
    {"type": "string", "maxLength": 1000, "default": ""},
    _indicators,
    (),
    "sma_20,rsi_14",
)
FORMAT: Final = choice(
    "format",
    "JSON; or, of one exchange, a line of JSON and then the columns as little-endian f64, as /api/data answers.",
    "json",
    ("json", "binary"),
)

ROUTE: Final = Route(
    CHARTS + "{symbol}",
    "Bars of a symbol, with indicators of each",
    (EXCHANGES, TIMEFRAME, LIMIT, BEFORE, INDICATORS, FORMAT),
    about="Ascending by time (ms since the epoch); the open bar is last. `indicators` has a list for each that was "
    "asked for, a value for each bar, null where its history is too short. `complete` is false while the database, "
    "which has the older bars, does not answer. With several exchanges: {timeframe, charts: [...]}.",
    example={
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "timeframe": "1m",
        "bars": [
            {"time": 1769860800000, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10.0}
            | {"quote_volume": 15.0, "trade_count": 3, "buy_volume": 4.0, "vwap": 1.5, "revision": 0, "closed": True}
        ],
        "indicators": {"sma_20": [None]},
        "complete": True,
        "next_before": 1769860800000,
    },
    others=("application/octet-stream",),
    segments={"symbol": SYMBOL},
)

#: An instrument -> exchange -> the symbol that is it there; raises `NoAnswer`.
Instruments = Callable[[str], Awaitable[Mapping[str, str]]]


class ChartsApp:
    """ASGI application that answers `ROUTE`."""

    def __init__(self, series: BarSeries, symbols: Symbols, instruments: Instruments) -> None:
        self._series = series
        self._symbols = symbols
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = ROUTE.query(scope)
        timeframe, names = TIMEFRAME.of(query), INDICATORS.of(query)
        before, limit = BEFORE.of(query), LIMIT.of(query)
        if timeframe not in TIMEFRAMES:
            for given, what in ((names, "indicators"), (before, "older bars")):
                if given:
                    raise BadRequest(400, f"There are {what} of {', '.join(TIMEFRAMES)} only.")
        name, exchanges, as_binary = last_segment(scope, CHARTS), EXCHANGES.of(query), FORMAT.of(query) == "binary"
        if exchanges is None or (exchanges != ALL and "," not in exchanges):
            series = Series(*find_symbol(self._symbols(), name, exchanges), timeframe)
            chart = await self._chart(series, limit, before, names)
            if not chart.bars.num_rows:
                earlier = "no trade has been seen" if before is None else "there is nothing before that time"
                raise BadRequest(404, f"No bars of {series.symbol} on {series.exchange} yet: {earlier}.")
            if as_binary:
                await send_whole(send, 200, (*HEADERS, BINARY), chart.binary)
            else:
                await send_json(send, chart.said)
            return
        if as_binary:
            raise BadRequest(400, "format=binary answers with one exchange: name it.")
        found = await self._several(name, exchanges)
        charts = await asyncio.gather(
            *(self._chart(Series(*one, timeframe), limit, before, names) for one in found.items())
        )
        await send_json(send, {"timeframe": timeframe, "charts": [chart.said for chart in charts]})

    async def _several(self, name: str, exchanges: str) -> dict[str, str]:
        """The exchanges that are wanted, with what the symbol is called there."""
        found: dict[str, str] = {}
        try:
            found |= await self._instruments(name)
        except NoAnswer:
            if not having(self._symbols(), name):
                raise
        found |= having(self._symbols(), name)
        if exchanges != ALL:
            wanted = [one for one in exchanges.split(",") if one]
            if missing := [one for one in wanted if one not in found]:
                raise BadRequest(404, f"{', '.join(missing)[:100]}: no such symbol there; /api/v1/symbols lists them.")
            found = {one: found[one] for one in wanted}
        if not found:
            raise BadRequest(404, "No exchange has such a symbol or instrument; /api/v1/symbols lists them.")
        return found

    async def _chart(self, series: Series, limit: int, before: int | None, names: tuple[str, ...]) -> "_Chart":
        found = await self._series.newest(series, limit, 0, before)
        bars, complete, indicators = found.bars, found.complete, None
        if names:
            try:
                indicators = await self._series.indicators(series, bars.column("time").combine_chunks(), names)
            except DatabaseUnavailable:
                complete = False
        first = bars.column("time")[0].as_py() // _MS if bars.num_rows else None
        in_ms = bars.set_column(0, "time", pc.divide(bars.column("time"), _MS))
        # Fewer than were asked for are all there are, unless the database does not say.
        more = bars.num_rows == limit or not found.complete
        older = first if more and series.timeframe in TIMEFRAMES else None
        return _Chart(series, in_ms, names, indicators, complete, older)


@dataclass(frozen=True, slots=True)
class _Chart:
    """`bars` have their time in ms; `indicators` is None where nobody knows them now."""

    series: Series
    bars: pa.Table
    names: tuple[str, ...]
    indicators: pa.Table | None
    complete: bool
    next_before: int | None

    @property
    def said(self) -> dict[str, Any]:
        known = self.indicators
        unknown = [None] * self.bars.num_rows
        indicators = {name: values(known.column(name)) if known is not None else unknown for name in self.names}
        return {
            **self._head,
            "bars": json_rows(self.bars, COLUMNS),
            "indicators": indicators if self.names else None,
            "complete": self.complete,
            "next_before": self.next_before,
        }

    @property
    def binary(self) -> bytes:
        columns: dict[str, Any] = {name: self.bars.column(name) for name in COLUMNS}
        unknown = pa.nulls(self.bars.num_rows, pa.float64())
        for name in self.names:
            # As exports call an indicator of the name of a bar's column.
            known_as = f"{name}_200" if name in COLUMNS else name
            columns[known_as] = unknown if self.indicators is None else self.indicators.column(name)
        head = {**self._head, "complete": self.complete, "next_before": self.next_before}
        return binary_columns(columns, head)

    @property
    def _head(self) -> dict[str, str]:
        return {"exchange": self.series.exchange, "symbol": self.series.symbol, "timeframe": self.series.timeframe}
