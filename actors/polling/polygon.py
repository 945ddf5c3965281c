"""Polygon's aggregates (https://polygon.io/docs/rest/stocks/aggregates/custom-bars and .../previous-day-bar): the
minutes of a session, and the day before. An answer:

    {"ticker": "AAPL", "queryCount": 2, "resultsCount": 2, "adjusted": false, "status": "OK", "results": [
      {"v": 135647456, "vw": 74.6099, "o": 74.06, "c": 75.0875, "h": 75.15, "l": 73.7975, "t": 1577941200000, "n": 1}],
     "next_url": "https://api.polygon.io/v2/aggs/ticker/AAPL/range/1/minute/1578114000000/2020-01-10?cursor=bGltaXQ9M",
     "request_id": "6a7e466379af0a71039d60cc78e72282"}

`t` is in ms: the start of the minute, but of the day before its close; `vw` and `n` may be missing, `v` too (indices).
Without trades there are no `results`. What a plan does not include has status 403:

    {"status": "NOT_AUTHORIZED", "request_id": "0f1e", "message": "You are not entitled to this data. ..."}
"""

import re
from typing import Annotated, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from actors.polling.bars import DAY, MINUTE_NS, Bar
from actors.polling.market_hours import DAY_NS, SECOND_NS, Session
from actors.polling.provider import UNREADABLE, Failed, Price, Reading, Request, one_line
from storage.timeframes import MINUTE

MS_NS: Final = SECOND_NS // 1000
_LIMIT: Final = 50_000
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Aggregate(msgspec.Struct, gc=False):
    t: int
    o: float
    h: float
    l: float  # noqa: E741 - the wire's name
    c: float
    v: float | None = None
    vw: float | None = None
    n: _Count | None = None


class _Answer(msgspec.Struct):
    status: str
    ticker: str | None = None
    results: list[_Aggregate] | None = None
    next_url: str | None = None


class _Complaint(msgspec.Struct):
    status: str = ""
    error: str | None = None
    message: str | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode
_decode_complaint: Final = msgspec.json.Decoder(_Complaint).decode


class Polygon:
    """Bars of the `timeframes` (1m, 1d). Raises `ValueError` for a key that cannot be one."""

    name: str = "polygon"

    def __init__(self, api_key: str, timeframes: tuple[str, ...]) -> None:
        if not re.fullmatch(r"[!-~]{1,200}", api_key):
            raise ValueError("the API key of polygon has letters that no key has")
        self.timeframes = timeframes
        self._key = api_key
        # A header and not the parameter apiKey, which would stand in every log on the way.
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }

    def request(self, symbol: str, timeframe: str, session: Session) -> Request:
        ticker = f"/v2/aggs/ticker/{quote(symbol, safe='')}"
        # As traded: bars adjusted for a split would not fit those stored before it.
        if timeframe == DAY:
            return Request(f"{ticker}/prev?adjusted=false", self._headers)
        first, last = session.open // MS_NS, session.close // MS_NS - 1
        return Request(f"{ticker}/range/1/minute/{first}/{last}?adjusted=false&sort=asc&limit={_LIMIT}", self._headers)

    def read(self, symbol: str, timeframe: str, body: bytes, clock_ns: int) -> Reading:
        try:
            answer = _decode(body)
        except UNREADABLE as error:
            raise Failed(f"an answer that cannot be read: {error}") from None
        # The second is the status of plans whose prices come 15 minutes late.
        if answer.status not in ("OK", "DELAYED"):
            raise Failed(f"an answer with status {self.shown(answer.status)}: {self.complaint(body)}")
        if answer.ticker is not None and answer.ticker != symbol:
            raise Failed("an answer about another symbol")
        reading = Reading(more=None if answer.next_url is None else self._next(answer.next_url))
        for row in answer.results or ():
            time = row.t * MS_NS
            if timeframe == MINUTE and time % MINUTE_NS:
                reading.leave_out("not the start of a minute")
                continue
            start = time // DAY_NS * DAY_NS if timeframe == DAY else time
            # The average price of a share times the shares is what was paid for all of them.
            value = None if row.vw is None or row.v is None else row.vw * row.v
            reading.add(Bar(start, row.o, row.h, row.l, row.c, row.v, value, row.n), clock_ns)
        if reading.bars:
            newest = max(reading.bars, key=lambda bar: bar.time)
            reading.price = Price(newest.close, newest.time)
        return reading

    def complaint(self, body: bytes) -> str:
        try:
            said = _decode_complaint(body)
        except UNREADABLE:
            return ""
        return self.shown(said.message or said.error or said.status)

    def shown(self, text: str) -> str:
        return one_line(text, self._key)

    def _next(self, url: str) -> Request:
        """The next page, asked where the first was asked: our key goes nowhere else, whatever an answer says."""
        try:
            parts = urlsplit(url)
            query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name.lower() != "apikey"])
        except ValueError:
            raise Failed("an answer whose next page is no address") from None
        path = f"{parts.path}?{query}"
        if not re.fullmatch(r"/v2/aggs/ticker/[!-~]{1,2000}", path) or "/." in path:
            raise Failed("an answer whose next page is elsewhere")
        return Request(path, self._headers)
