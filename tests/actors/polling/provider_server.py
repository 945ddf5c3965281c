"""A local server that speaks Yahoo's chart API and Polygon's aggregates, and misbehaves when told to."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

#: (seconds, open, high, low, close, volume)
Row = tuple[int, float | None, float | None, float | None, float | None, float | None]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProviderServer:
    """Use as an async context manager. Change the attributes while it runs."""

    def __init__(self) -> None:
        self.url = ""
        #: Per symbol, what it knows; others are unknown to it.
        self.minutes: dict[str, list[Row]] = {}
        self.page_size = 1000
        #: What the next pages are said to be at.
        self.next_host: str | None = None
        #: The next requests (of a symbol, or of any) meet these instead.
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        #: When (loop time), what, and with which headers.
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self._runner: web.AppRunner | None = None

    def asked(self, symbol: str) -> list[float]:
        """When a symbol was asked for, whatever page."""
        return [at for at, path, _ in self.requests if f"/{symbol}" in unquote(path)]

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v8/finance/chart/{symbol}", self._chart)
        app.router.add_get("/v2/aggs/ticker/{symbol}/prev", self._previous)
        app.router.add_get("/v2/aggs/ticker/{symbol}/range/1/minute/{first}/{last}", self._range)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _met(self, request: web.Request) -> web.StreamResponse | None:
        self.requests.append((asyncio.get_running_loop().time(), request.raw_path, dict(request.headers)))
        for name in (request.match_info["symbol"], ""):
            if self.faults[name]:
                return await self.faults[name].pop(0)(request)
        return None

    async def _chart(self, request: web.Request) -> web.StreamResponse:
        if fault := await self._met(request):
            return fault
        symbol = request.match_info["symbol"]
        if symbol not in self.minutes:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return web.json_response({"chart": {"result": None, "error": error}}, status=404)
        rows = self.minutes[symbol]
        columns = list(map(list, zip(*rows, strict=True))) if rows else [[]] * 6
        closes = [(row[0], row[4]) for row in rows if row[4] is not None]
        meta: dict[str, Any] = {"symbol": symbol, "dataGranularity": request.query["interval"], "range": "1d"}
        if closes:
            meta |= {"regularMarketTime": closes[-1][0] + 30, "regularMarketPrice": closes[-1][1]}
        names = ("open", "high", "low", "close", "volume")
        quote = dict(zip(names, columns[1:], strict=True))
        result = {"meta": meta, "timestamp": columns[0], "indicators": {"quote": [quote]}}
        return web.json_response({"chart": {"result": [result], "error": None}})

    async def _previous(self, request: web.Request) -> web.StreamResponse:
        if fault := await self._met(request):
            return fault
        return self._aggregates(request.match_info["symbol"], self.minutes.get(request.match_info["symbol"], [])[:1])

    async def _range(self, request: web.Request) -> web.StreamResponse:
        if fault := await self._met(request):
            return fault
        symbol, at = request.match_info["symbol"], int(request.query.get("cursor", 0))
        first, last = (int(request.match_info[name]) for name in ("first", "last"))
        rows = [row for row in self.minutes.get(symbol, []) if first <= row[0] * 1000 <= last]
        fields = {}
        if len(rows) > at + self.page_size:
            host = self.next_host or self.url
            fields["next_url"] = f"{host}{request.path}?cursor={at + self.page_size}"
        return self._aggregates(symbol, rows[at : at + self.page_size], **fields)

    def _aggregates(self, symbol: str, rows: list[Row], **fields: Any) -> web.Response:
        results = [
            {"t": t * 1000, "o": o, "h": h, "l": low, "c": c, "v": v, "vw": o, "n": 3} for t, o, h, low, c, v in rows
        ]
        body = {"ticker": symbol, "status": "OK", "resultsCount": len(results), "results": results, **fields}
        return web.json_response(body if results else {k: v for k, v in body.items() if k != "results"})


def status(code: int, body: str | dict[str, Any] = "", **headers: str) -> Fault:
    text = body if isinstance(body, str) else json.dumps(body)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def endless(piece: bytes = b" " * 65536, **headers: str) -> Fault:
    """A body that goes on until the other side has enough."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={k.replace("_", "-"): v for k, v in headers.items()})
        await response.prepare(request)
        while True:
            await response.write(piece)

    return answer


def silence(seconds: float = 60.0) -> Fault:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response()

    return answer
