"""Yahoo Finance's chart API (v8), which Yahoo does not document: the minutes of the current or last session.

An answer, cut (TSLA; a minute without trades is all null):

    {"chart": {"result": [{"meta": {"symbol": "TSLA", "regularMarketTime": 1788552000, "regularMarketPrice": 354.08,
       "currentTradingPeriod": {"regular": {"timezone": "EDT", "start": 1788528600, "end": 1788552000}},
       "tradingPeriods": [[{"timezone": "EDT", "start": 1788528600, "end": 1788552000, "gmtoffset": -14400}]],
       "dataGranularity": "1m", "range": "1d"},
     "timestamp": [1788528600, 1788528660, 1788528720],
     "indicators": {"quote": [{"open": [360.0, 359.5, null], "high": [361.0, 360.2, null],
       "low": [359.0, 358.8, null], "close": [359.6, 359.0, null], "volume": [120000, 98000, null]}]}}],
     "error": null}}

and for a symbol it does not have, with status 404:

    {"chart": {"result": null, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}}

Behind the last minute Yahoo adds a row with the price of now, at any second and without volume
(https://github.com/ranaroussi/yfinance/issues/1050): it is no minute and makes no bar. It gives neither the number
of trades nor their value nor who took them. Its prices are 32-bit floats written as 64-bit ones.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec
import numpy as np

from actors.polling.bars import MAX_BARS, Bar, flaw
from actors.polling.market_hours import SECOND_NS, Session
from actors.polling.provider import UNREADABLE, Failed, Price, Reading, Refused, Request, one_line
from storage.timeframes import MINUTE

_Numbers = list[float | None]


class _Period(msgspec.Struct, gc=False):
    end: int = 0


class _CurrentPeriod(msgspec.Struct):
    regular: _Period = msgspec.field(default_factory=_Period)


class _Meta(msgspec.Struct, rename="camel"):
    symbol: str
    data_granularity: str
    regular_market_price: float | None = None
    regular_market_time: int | None = None
    current_trading_period: _CurrentPeriod = msgspec.field(default_factory=_CurrentPeriod)
    #: A list of the days' sessions; something else where the session has parts.
    trading_periods: list[list[_Period]] | dict[str, Any] | None = None


class _Quote(msgspec.Struct):
    open: _Numbers = []
    high: _Numbers = []
    low: _Numbers = []
    close: _Numbers = []
    volume: _Numbers = []


class _Indicators(msgspec.Struct):
    quote: list[_Quote] = []


class _Result(msgspec.Struct):
    meta: _Meta
    timestamp: list[int] = []
    indicators: _Indicators = msgspec.field(default_factory=_Indicators)


class _Error(msgspec.Struct):
    code: str | None = None
    description: str | None = None


class _Chart(msgspec.Struct):
    result: list[_Result] | None = None
    error: _Error | None = None


class _Answer(msgspec.Struct):
    chart: _Chart


_decode: Final = msgspec.json.Decoder(_Answer).decode


class Yahoo:
    """Minute bars. Raises `ValueError` for a user agent that cannot be sent."""

    name: str = "yahoo"
    timeframes: tuple[str, ...] = (MINUTE,)

    def __init__(self, user_agent: str) -> None:
        # Compressed answers are not read: their size is only known when it is too late.
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"}

    def request(self, symbol: str, timeframe: str, session: Session) -> Request:
        return Request(f"/v8/finance/chart/{quote(symbol, safe='')}?interval=1m&range=1d", self._headers)

    def read(self, symbol: str, timeframe: str, body: bytes, clock_ns: int) -> Reading:
        try:
            chart = _decode(body).chart
        except UNREADABLE as error:
            raise Failed(f"an answer that cannot be read: {error}") from None
        if chart.error is not None:
            raise Refused(_said(chart.error))
        if not chart.result:
            raise Failed("an empty answer")
        result = chart.result[0]
        if result.meta.symbol.casefold() != symbol.casefold():
            raise Failed("an answer about another symbol")
        if result.meta.data_granularity != MINUTE:
            raise Failed(f"an answer with bars of {result.meta.data_granularity} instead of {MINUTE}")
        reading = Reading(price=_price(result.meta, clock_ns))
        for bar in _bars(result, reading):
            reading.add(bar, clock_ns)
        return reading

    def complaint(self, body: bytes) -> str:
        try:
            error = _decode(body).chart.error
        except UNREADABLE:
            return ""
        return "" if error is None else _said(error)

    def shown(self, text: str) -> str:
        return one_line(text)


def _bars(result: _Result, reading: Reading) -> list[Bar]:
    """One bar a row that is a minute; the others are counted in `reading`, except the one with the price of now."""
    quote = result.indicators.quote[0] if result.indicators.quote else _Quote()
    columns = (quote.open, quote.high, quote.low, quote.close, quote.volume)
    rows = len(result.timestamp)
    if rows > MAX_BARS:
        raise Failed(f"an answer with {rows} rows")
    if any(len(column) != rows for column in columns):
        raise Failed("an answer with columns of different lengths")
    ends = _ends_of_sessions(result.meta)
    prices = zip(*map(_without_noise, columns[:4]), strict=True)
    bars = []
    for seconds, (opened, high, low, close), volume in zip(result.timestamp, prices, quote.volume, strict=True):
        if opened is None or high is None or low is None or close is None:
            reading.leave_out("no price")
        elif seconds % 60 == 0 and (volume or seconds not in ends):
            bars.append(Bar(seconds * SECOND_NS, opened, high, low, close, volume))
    return bars


def _ends_of_sessions(meta: _Meta) -> set[int]:
    """The seconds at which the price of now can stand on a whole minute that nobody traded in."""
    days = meta.trading_periods if isinstance(meta.trading_periods, list) else []
    return {meta.current_trading_period.regular.end, *(period.end for day in days for period in day)}


def _price(meta: _Meta, clock_ns: int) -> Price | None:
    price, seconds = meta.regular_market_price, meta.regular_market_time
    if price is None or seconds is None or flaw(Bar(seconds * SECOND_NS, price, price, price, price), clock_ns):
        return None
    return Price(price, seconds * SECOND_NS)


def _without_noise(prices: _Numbers) -> _Numbers:
    """306.1199951171875 is the 32-bit float of 306.12, which is meant; what is no 32-bit float is left alone."""
    exact = np.array(prices, np.float64)
    with np.errstate(over="ignore"):
        short = exact.astype(np.float32)
    meant = np.where(short == exact, short.astype("U32"), "nan").astype(np.float64)
    return [
        None if price is None else price if np.isnan(number) else float(number)
        for price, number in zip(prices, meant, strict=True)
    ]


def _said(error: _Error) -> str:
    return one_line(": ".join(part for part in (error.code, error.description) if part)) or "an error without a text"
