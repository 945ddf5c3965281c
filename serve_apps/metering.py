"""What a replica counts of its requests, under the templates of their paths, and how it tells that and everything else
its process counts: again every few seconds, to the actor that gathers metrics.
"""

import asyncio
import contextlib
import functools
import re
import time
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import ray

from actors.directory import METRICS
from actors.metering.catalog import BY_NAME
from actors.metering.meters import Samples, snapshot, watch
from actors.tracing import tracing
from serve_apps.asgi import Asgi, Message, Receive, Scope, Send, header_of
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

_DURATION: Final = "rayfeed_http_request_duration_seconds"
_ENDS: Final = BY_NAME[_DURATION].ends


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


class _Tally:
    """The requests of one method, template and class of status."""

    __slots__ = ("durations", "nbytes", "requests")

    def __init__(self) -> None:
        self.requests = self.nbytes = 0
        # As `Durations` has them.
        self.durations = [0.0] * (len(_ENDS) + 2)

    def add(self, seconds: float, nbytes: int) -> None:
        self.requests += 1
        self.nbytes += nbytes
        self.durations[bisect_left(_ENDS, seconds)] += 1
        self.durations[-1] += seconds


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
        self._tallies: defaultdict[tuple[str, str, int], _Tally] = defaultdict(_Tally)
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

        tally = self._tallies["GET", "/api/data", 2]

        def counted(query: bytes) -> tuple[bytes, bytes] | None:
            began = time.perf_counter()
            if (found := answer(query)) is not None:
                tally.add(time.perf_counter() - began, len(found[1]))
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
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            tally = self._tallies[method, self._template(scope["path"]), status // 100]
            tally.add(took := time.perf_counter() - began, size)
            if (spans := tracing()) is not None:
                now_ns = time.time_ns()
                name = f"{method} {self._template(scope['path'])}"
                about = {"http.response.status_code": status, "rayfeed.application": self._application}
                spans.answered(header_of(scope, b"traceparent"), name, now_ns - int(took * 1e9), now_ns, **about)

    def _samples(self) -> Samples:
        own = self._application
        found: Samples = {
            ("rayfeed_http_requests_ongoing", (own,)): self._ongoing,
            ("rayfeed_replicas", (own,)): 1,
            ("rayfeed_http_response_bytes_total", (own,)): sum(tally.nbytes for tally in self._tallies.values()),
        }
        durations: dict[str, list[float]] = {}
        for (method, route, status), tally in self._tallies.items():
            found["rayfeed_http_requests_total", (own, method, route, f"{status}xx")] = tally.requests
            before = durations.get(route, [0.0] * len(tally.durations))
            durations[route] = [one + other for one, other in zip(before, tally.durations, strict=True)]
        return found | {(_DURATION, (own, route)): counts for route, counts in durations.items()}

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
