"""A local server that speaks the APIs of all providers of the overview, and misbehaves when told to."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.actors.overview import bodies
from tests.actors.polling.provider_server import Fault, endless, silence, status

#: By provider, the paths it is asked at.
PATHS = {
    "binance": ("/api/v3/ticker/24hr",),
    "coingecko": ("/api/v3/simple/price", "/api/v3/global"),
    "coinmarketcap": ("/v2/cryptocurrency/quotes/latest", "/v1/global-metrics/quotes/latest"),
    "alternative.me": ("/fng/",),
    "taapi": ("/rsi",),
    "finnhub": ("/api/v1/quote",),
}


def _iso() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


#: By path, what is said when all is well.
GOOD: dict[str, Callable[[], Any]] = {
    "/api/v3/ticker/24hr": lambda: bodies.binance(now_s=time.time()),
    "/api/v3/simple/price": lambda: bodies.coingecko_prices(time.time()),
    "/api/v3/global": lambda: bodies.coingecko_global(time.time()),
    "/v2/cryptocurrency/quotes/latest": lambda: bodies.cmc_prices(_iso()),
    "/v1/global-metrics/quotes/latest": lambda: bodies.cmc_global(_iso()),
    "/fng/": lambda: bodies.fear_greed(now_s=time.time()),
    "/rsi": bodies.taapi,
    "/api/v1/quote": lambda: bodies.finnhub(now_s=time.time()),
}


class MarketServer:
    """`faults` by path, or by path and query: what is said there until it is taken away."""

    def __init__(self) -> None:
        self.url = ""
        self.faults: dict[str, Fault] = {}
        #: By path, when (loop time), with which headers and query.
        self.requests: dict[str, list[tuple[float, dict[str, str], str]]] = defaultdict(list)
        self.good = dict(GOOD)

    def fail(self, provider: str, fault: Fault | None) -> None:
        for path in PATHS[provider]:
            if fault is None:
                self.faults.pop(path, None)
            else:
                self.faults[path] = fault

    def asked(self, provider: str) -> int:
        return sum(len(self.requests[path]) for path in PATHS[provider])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        at = asyncio.get_running_loop().time()
        self.requests[request.path].append((at, dict(request.headers), request.query_string))
        fault = self.faults.get(request.path_qs) or self.faults.get(request.path)
        if fault is not None:
            return await fault(request)
        return web.json_response((self.good.get(request.path_qs) or self.good[request.path])())


@asynccontextmanager
async def market_server() -> AsyncIterator[MarketServer]:
    server = MarketServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def said(body: Any) -> Fault:
    """200 with this JSON."""
    return status(200, json.dumps(body), Content_Type="application/json")


def zeros(provider: str) -> Fault:
    """All numbers of a good answer, times aside, are zero."""

    def zeroed(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: zeroed(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [zeroed(one) for one in value]
        if name in ("closeTime", "last_updated_at", "updated_at", "timestamp", "t", "id") or isinstance(value, bool):
            return value
        is_number = isinstance(value, int | float) or (isinstance(value, str) and value.lstrip("-")[:1].isdigit())
        if not is_number or name in ("last_updated", "symbol"):
            return value
        # Fear of 0 and an RSI of 0 can be; what cannot be is less.
        zero = -1 if provider in ("alternative.me", "taapi") else 0
        return str(zero) if isinstance(value, str) else zero

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(zeroed(GOOD[request.path]()))

    return answer


async def broken_off(request: web.Request) -> web.StreamResponse:
    """As from a server that is down."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


FAULTS: dict[str, Callable[[str], Fault]] = {
    "down": lambda provider: broken_off,
    "slow": lambda provider: silence(30),
    "no JSON": lambda provider: status(200, "<html>maintenance</html>"),
    "other JSON": lambda provider: said({"unexpected": [1]}),
    "zeros": zeros,
    "429": lambda provider: status(429, "slow down", Retry_After="30"),
    "500": lambda provider: status(500, "oops"),
    "403": lambda provider: status(403, {"message": "not in your plan"}),
    "huge": lambda provider: endless(),
    "redirect": lambda provider: status(302, Location="/elsewhere"),
}
