"""What a replica counts of its requests, under the templates of their paths, and how it tells that and everything else
its process counts: again every few seconds, to the actor that gathers metrics.
"""

import asyncio
import contextlib
import functools
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import ray

from actors.directory import METRICS
from actors.metering.meters import Counted, Durations, Samples, snapshot, watch
from serve_apps.asgi import Asgi, Message, Receive, Scope, Send
from serve_apps.asked_actors import actor
from serve_apps.at_once import AtOnce
from serve_apps.cache import Cache
from serve_apps.openapi_routes import ROUTES

#: Paths that OpenAPI does not tell of.
_OTHERS: Final = (
    "/", "/chart", "/operations", "/assets/{file}", "/favicon.ico", "/favicon.svg", "/crypto_report",
    "/crypto_report/{id}", "/crypto_report/{id}/frame", "/crypto_reports_list", "/pdf-template/{id}", "/rss.xml",
    "/sitemap.xml", "/robots.txt", "/api/data", "/api/symbols", "/api/symbol-search", "/api/status", "/healthz",
    "/readyz", "/health", "/metrics", "/cache-stats", "/clear-cache", "/docs", "/redoc", "/openapi.json",
    "/api/v1/stream", "/api/v1/stream/health", "/-/healthz",
)  # fmt: skip
OTHER: Final = "other"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
#: Kept like this many paths that were looked at.
_REMEMBERED: Final = 4096

#: What of the counts of a cache was answered how.
_RESULTS: Final = {
    "hit": ("from_memory", "from_redis", "joined"),
    "stale": ("stale",),
    "miss": ("made",),
    "failed": ("failed",),
}

Tell = Callable[[str, Samples], Awaitable[None]]

_REQUESTS: Final = Counted("rayfeed_http_requests_total")
_DURATIONS: Final = Durations("rayfeed_http_request_duration_seconds")
_BYTES: Final = Counted("rayfeed_http_response_bytes_total")


def templates() -> tuple[str, ...]:
    """All that requests are counted under besides `other`."""
    return tuple(dict.fromkeys([*_OTHERS, *(route.path for route in ROUTES)]))


def matcher(paths: Iterable[str]) -> Callable[[str], str]:
    """Tells the template of a path; fixed ones go before those with segments."""
    ordered = sorted(paths, key=lambda path: ("{" in path, path))
    patterns = [
        (
            re.compile(
                "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", one))
            ),
            one,
        )
        for one in ordered
    ]

    @functools.lru_cache(_REMEMBERED)
    def template(path: str) -> str:
        return next((one for pattern, one in patterns if pattern.fullmatch(path)), OTHER)

    return template


class Metered:
    """`app` with its requests counted under `application`; `tell` takes what this process counts. WebSockets count
    where they are served."""

    def __init__(self, app: Asgi, application: str, interval_s: float, tell: Tell) -> None:
        self._app = app
        self._application = application
        self._interval_s = interval_s
        self._tell = tell
        self._template = matcher(templates())
        self._ongoing = 0
        watch(self._samples)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def at_once(self, answer: AtOnce) -> AtOnce:
        """`answer` with its requests counted (`serve_apps.at_once`)."""

        def counted(query: bytes) -> tuple[bytes, bytes] | None:
            began = time.perf_counter()
            if (found := answer(query)) is not None:
                self._count("GET", "/api/data", 200, time.perf_counter() - began, len(found[1]))
            return found

        return counted

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status, size = time.perf_counter(), 500, 0

        async def watched(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif (body := message.get("body")) is not None:
                size += len(body)
            await send(message)

        self._ongoing += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            self._ongoing -= 1
            self._count(scope["method"], scope["path"], status, time.perf_counter() - began, size)

    def _count(self, method: str, path: str, status: int, seconds: float, size: int) -> None:
        route = self._template(path)
        _REQUESTS.add(self._application, method if method in _METHODS else OTHER, route, f"{status // 100}xx")
        _DURATIONS.observe(seconds, self._application, route)
        _BYTES.add(self._application, by=size)

    def _samples(self) -> Samples:
        own = (self._application,)
        return {("rayfeed_http_requests_ongoing", own): self._ongoing, ("rayfeed_replicas", own): 1}

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        telling: asyncio.Task[None] | None = None

        async def sent(message: Message) -> None:
            nonlocal telling
            if message["type"] == "lifespan.startup.complete":
                telling = asyncio.create_task(self._tell_for_ever(), name="metrics")
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.wait([telling])

    async def _tell_for_ever(self) -> None:
        source = f"{self._application}:{uuid.uuid4().hex}"
        while True:
            await asyncio.sleep(self._interval_s)
            # Whoever gathers them may be away for a moment.
            with contextlib.suppress(TimeoutError, ValueError, ray.exceptions.RayError):
                await self._tell(source, snapshot(self._application))


async def tell_metrics(source: str, samples: Samples) -> None:
    """To the actor that gathers them."""
    await asyncio.wait_for(actor(METRICS).report.remote(source, samples), 5.0)


def watch_cache(cache: Cache, application: str) -> Cache:
    """Count what it answers; `cache` as it is."""

    def samples() -> Samples:
        counts: dict[str, Any] = cache.counts()
        told: Samples = {
            ("rayfeed_cache_requests_total", (application, result)): sum(counts[name] for name in names)
            for result, names in _RESULTS.items()
        }
        return told | {
            ("rayfeed_cache_bytes", (application,)): counts["bytes"],
            ("rayfeed_cache_limit_bytes", (application,)): counts["most_bytes"],
            ("rayfeed_cache_evicted_total", (application,)): counts["evicted"],
        }

    watch(samples)
    return cache
