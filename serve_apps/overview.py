"""The overview of the market over HTTP: one JSON object, as the edge may keep it for a moment; asking for it anew; and
how it stands with those who are asked for it. Nothing is made up: where nobody knows anything it says so with a 503.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from actors.directory import MARKET_OVERVIEW
from actors.overview.fields import FEAR_GREED, RSI
from actors.overview.summary import aged, rfc3339
from serve_apps.asgi import (
    ANY_ORIGIN,
    Asgi,
    BadRequest,
    Receive,
    Scope,
    Send,
    has_version,
    send_head,
    send_options,
    send_problem,
    send_whole,
)
from serve_apps.asked_actors import told
from serve_apps.bands import band
from serve_apps.bodies import JSON, send_json
from serve_apps.parameters import Route
from serve_apps.shared_answer import NoAnswer, Shared

SUMMARY: Final = "/api/crypto/dashboard-summary"
ALIAS: Final = "/api/dashboard/data"
CACHED: Final = f"{SUMMARY}/cached"
REFRESH: Final = f"{SUMMARY}/refresh"
LIMITS: Final = "/api/crypto/rate-limit-status"

#: The edge keeps it as long as it takes until there is a new one; browsers ask again.
_KEPT: Final = (b"cache-control", b"public, max-age=1, s-maxage=5")
_NO_STORE: Final = (ANY_ORIGIN, (b"cache-control", b"no-store"))
#: `/cached` is what this replica has heard no longer ago than this.
_CACHED_S: Final = 5.0
_ANSWER_S: Final = 2.0
#: A refresh waits for those who are asked.
_REFRESH_S: Final = 15.0
_NOTHING: Final = "Nothing is known of the market yet: the first answers come within seconds. Ask again."

_ABOUT: Final = (
    "A number nobody knows is null. `fields` says of each number who said it (`own:binance` is our own feed), of when "
    "it is, and whether it is stale: not heard again for too long. `partial_failure` is true while any is unknown or "
    "stale."
)
_EXAMPLE: Final = {
    "btc_price_usd": 96000.1,
    "btc_change_24h": -1.23,
    "market_cap_usd": 3.34e12,
    "fng_value": 40,
    "fng_band": "fear",
    "btc_rsi_14": 55.1,
    "rsi_band": "neutral",
    "us_stock_indices": {"SPY": {"price": 590.1, "change": 1.2, "change_percent": 0.2, "status": "success"}},
    "fetch_duration_ms": 210,
    "partial_failure": False,
    "last_updated": "2026-01-31T12:00:00.000Z",
    "timestamp": "2026-01-31T12:00:01.000Z",
    "fields": {"btc_price_usd": {"source": "own:binance", "as_of": "2026-01-31T12:00:00.000Z", "stale": False}},
}
_LIMITS_EXAMPLE: Final = {
    "rate_limit_status": {
        "btc_api_circuit_breaker_open": False,
        "seconds_since_last_btc_fetch": 3,
        "can_fetch_btc_now": True,
    },
    "role": "leader",
    "providers": {},
    "off": {"taapi": "needs a key: set TAAPI_SECRET"},
    "timestamp": "2026-01-31T12:00:01.000Z",
    "server_info": {"total_requests": 12, "uptime_seconds": 60},
}

ROUTES: Final = (
    Route(SUMMARY, "The market in a few numbers", about=_ABOUT, example=_EXAMPLE, errors=(400, 503)),
    Route(ALIAS, "The same, by its other name", about=_ABOUT, example=_EXAMPLE, errors=(400, 503)),
    Route(
        CACHED,
        "The same, as this server heard it in the last seconds",
        about=_ABOUT,
        example=_EXAMPLE,
        errors=(400, 503),
    ),
    Route(
        REFRESH,
        "Ask those who know again, then the same",
        about="What was heard a moment ago is not asked for again, nor is who failed or asked for a rest. Three "
        "times in 30 s, of all clients together.",
        example={"status": "success", "message": "asked again", "data": _EXAMPLE},
        errors=(400, 429, 503),
    ),
    Route(
        LIMITS,
        "How it stands with those who are asked",
        about="By provider its breaker, how long it rests, and what became of the requests; `off`: who is not asked, "
        "and why.",
        example=_LIMITS_EXAMPLE,
        errors=(400, 503),
    ),
)
_BY_PATH: Final = {route.path: route for route in ROUTES}


class Overview(Protocol):
    """See `actors.market_overview.MarketOverview`. Each raises `NoAnswer`."""

    async def summary(self) -> dict[str, Any] | None: ...
    async def refresh(self) -> tuple[float, dict[str, Any] | None]: ...
    async def limits(self) -> dict[str, Any]: ...


class AskedOverview:
    """The actor of this instance."""

    async def summary(self) -> dict[str, Any] | None:
        said: dict[str, Any] | None = await told(MARKET_OVERVIEW, "summary", within_s=_ANSWER_S)
        return said

    async def refresh(self) -> tuple[float, dict[str, Any] | None]:
        said: tuple[float, dict[str, Any] | None] = await told(MARKET_OVERVIEW, "refresh", within_s=_REFRESH_S)
        return said

    async def limits(self) -> dict[str, Any]:
        said: dict[str, Any] = await told(MARKET_OVERVIEW, "limits", within_s=_ANSWER_S)
        return said


class OverviewRoutes:
    """ASGI application that answers ROUTES, before `app`, which answers everything else. A summary that was made longer
    than `old_after_s` ago is called stale as a whole, whoever gives it. `clock` in seconds since the epoch."""

    def __init__(
        self,
        app: Asgi,
        overview: Overview,
        old_after_s: float = 60.0,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._overview = overview
        self._old_after_s = old_after_s
        self._clock = clock
        self._steady = steady
        self._shared = Shared(self._ask, clock=steady)
        self._heard: dict[str, Any] | None = None
        self._heard_at = float("-inf")
        #: What was made of which summary, so that it is made once.
        self._made: tuple[dict[str, Any], bytes, bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _BY_PATH.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._answer(route, scope, send)
        except BadRequest as error:
            await send_problem(send, error.status, str(error), _NO_STORE)
        except NoAnswer as error:
            await send_problem(send, 503, str(error), (*_NO_STORE, (b"retry-after", b"1")))

    async def _answer(self, route: Route, scope: Scope, send: Send) -> None:
        allowed = ("GET", "HEAD", "POST") if route.path == REFRESH else ("GET", "HEAD")
        if scope["method"] == "OPTIONS":
            await send_options(send)
            return
        if scope["method"] not in allowed:
            allow = (b"allow", ", ".join(allowed).encode())
            await send_problem(send, 405, f"Only {', '.join(allowed)} are answered here.", (*_NO_STORE, allow))
            return
        route.query(scope)
        if route.path == LIMITS:
            said = await self._overview.limits()
            await send_json(send, {**said, "timestamp": rfc3339(int(self._clock() * 1e9))}, headers=_NO_STORE)
        elif route.path == REFRESH:
            await self._refresh(send)
        else:
            await self._send_summary(scope, send, await self._newest(_CACHED_S if route.path == CACHED else 0.0))

    async def _refresh(self, send: Send) -> None:
        wait_s, said = await self._overview.refresh()
        if wait_s:
            again = (b"retry-after", b"%d" % max(1, math.ceil(wait_s)))
            detail = f"It was asked for anew a moment ago; go on in {math.ceil(wait_s)} s, or read {SUMMARY}."
            await send_problem(send, 429, detail, (*_NO_STORE, again))
        elif said is None:
            raise NoAnswer(_NOTHING)
        else:
            answer = {"status": "success", "message": "asked again", "data": with_bands(said)}
            await send_json(send, answer, headers=_NO_STORE)

    async def _send_summary(self, scope: Scope, send: Send, said: dict[str, Any]) -> None:
        if self._made is None or self._made[0] is not said:
            body = msgspec.json.encode(with_bands(said))
            self._made = (said, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode())
        _, body, etag = self._made
        headers = (ANY_ORIGIN, _KEPT, (b"etag", etag))
        if has_version(scope, etag):
            await send_head(send, 304, headers)
        elif scope["method"] == "HEAD":
            await send_head(send, 200, (*headers, JSON, (b"content-length", b"%d" % len(body))))
        else:
            await send_whole(send, 200, (*headers, JSON), body)

    async def _newest(self, fresh_s: float) -> dict[str, Any]:
        """The summary, or what was heard last where nobody tells it now; `NoAnswer` for nothing."""
        if self._heard is None or self._steady() - self._heard_at > fresh_s:
            try:
                await self._shared()
            except NoAnswer:
                if self._heard is None:
                    raise
        if self._heard is None:
            raise NoAnswer(_NOTHING)
        if "note" not in self._heard and self._age_s(self._heard) > self._old_after_s:
            self._heard = aged(self._heard)
        return self._heard

    async def _ask(self) -> None:
        said = await self._overview.summary()
        if said is not None and (self._heard is None or said["timestamp"] != self._heard["timestamp"]):
            self._heard = said
        self._heard_at = self._steady()

    def _age_s(self, said: Mapping[str, Any]) -> float:
        return self._clock() - datetime.fromisoformat(said["timestamp"]).timestamp()


def with_bands(said: dict[str, Any]) -> dict[str, Any]:
    """With what the values are called, as `serve_apps.bands` says it in words; null where they are not known."""
    fear_greed, rsi = said[FEAR_GREED], said[RSI]
    return {
        **said,
        "fng_band": None if fear_greed is None else band("fear_greed", fear_greed).name,
        "rsi_band": None if rsi is None else band("rsi", rsi).name,
    }
