"""What stands before every application: whether the request fits, who asks, how often, and for how long; and what every
answer has to say for browsers.

It finds out who asks and puts that into the scope; what they may do is for the application to say
(`serve_apps.token.check_token`, `serve_apps.auth_identity.identify`). Whoever reads public data without limits costs
nothing but a look at the headers.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from actors.buckets import Taken
from actors.metering.meters import Counted
from config import Settings
from config.security_settings import RateSettings
from serve_apps.asgi import (
    ANY_ORIGIN,
    Asgi,
    BadRequest,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    header_of,
    send_options,
    send_problem,
    send_whole,
)
from serve_apps.auth_identity import IDENTITY, Identities, Identity, credentials
from serve_apps.client_address import client_of, is_here, is_unheard
from serve_apps.exports import EXPORT
from serve_apps.rate_limits import RateLimits
from serve_apps.reports_publishing import KEY_HEADER, MOST_BODY_BYTES, REPORTS
from serve_apps.token import challenge

AUTH: Final = "/api/v1/auth/"
#: Whoever asks here has no token yet, or an old one.
SIGN_IN: Final = frozenset(AUTH + name for name in ("login", "register", "refresh"))
#: These say nothing about markets, and are asked by those who look after the instance.
OPEN: Final = frozenset({"/healthz", "/readyz", "/health", "/api/v1/health", "/docs", "/redoc", "/openapi.json"})
#: Links to exports say themselves who made them and until when they are good.
SIGNED: Final = "/api/v1/exports/"
#: For the edge, which asks a server this way whether it is up, and lets nobody else do so.
ALIVE: Final = "/-/healthz"
_LIMITED: Final = Counted("rayfeed_rate_limited_total")
READS: Final = frozenset({"GET", "HEAD"})

_SECURITY_HEADERS: Final = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, X-API-Key, Last-Event-ID"),
    (b"access-control-max-age", b"600"),
)
_EXPOSED: Final = (
    b"access-control-expose-headers",
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, ETag",
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one application. `api_headers`: its answers are no pages. None: no limit."""

    reads_are_public: bool
    origins: frozenset[bytes]
    max_body_bytes: int
    time_limit_s: float | None
    client_limit: RateSettings | None
    user_limit: RateSettings | None
    #: Of exports, besides; for each user or else client address.
    export_limit: RateSettings | None
    limit_loopback: bool
    only_tls: bool
    api_headers: bool = True
    #: Paths whose bodies may be larger.
    larger_bodies: Mapping[str, int] = field(default_factory=dict)

    @property
    def any_origin(self) -> bool:
        return b"*" in self.origins


def api_rules(settings: Settings) -> Rules:
    """For `/api/v1`."""
    security, limits = settings.security, settings.security.rate_limits
    return Rules(
        reads_are_public=security.reads_are_public,
        origins=frozenset(origin.encode() for origin in security.cors_origins),
        max_body_bytes=security.max_body_bytes,
        time_limit_s=security.time_limit_s,
        client_limit=limits.api,
        user_limit=limits.user,
        export_limit=limits.exports,
        limit_loopback=limits.loopback,
        only_tls=security.production,
        larger_bodies={REPORTS: max(MOST_BODY_BYTES, security.max_body_bytes)},
    )


def data_rules(settings: Settings) -> Rules:
    """For `/api`: answers may take long, as they are large."""
    limits = settings.security.rate_limits
    return replace(api_rules(settings), time_limit_s=None, client_limit=limits.data, user_limit=limits.data)


def page_rules(settings: Settings) -> Rules:
    """For the pages, which hold no data themselves."""
    return replace(data_rules(settings), reads_are_public=True, client_limit=None, user_limit=None, api_headers=False)


class Guard:
    """`app` behind `rules`. `identities` knows who may ask; keys in Redis begin with `prefix`."""

    def __init__(self, app: Asgi, rules: Rules, identities: Identities, prefix: str = "") -> None:
        self._app = app
        self._rules = rules
        self._identities = identities
        self._prefix = prefix
        self._limits: RateLimits | None = None
        self._limits_url: str | None = None
        # Nothing to find out and nothing to add.
        self._is_open = (
            rules.reads_are_public and rules.any_origin and len(rules.origins) == 1 and rules.client_limit is None
        )

    @property
    def passes_plain_reads(self) -> bool:
        """Whether who reads without saying who they are goes to the application as if there were no guard."""
        return self._is_open and self._rules.time_limit_s is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] != "http" or (self.passes_plain_reads and _is_plain(scope)):
            await self._app(scope, receive, send)
        elif scope["path"] == ALIVE:
            await send_whole(send, 200, [(b"content-type", b"text/plain")], b"ok")
        elif scope["method"] == "OPTIONS":
            await self._answer_options(scope, send)
        else:
            await self._guarded(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                # What is known comes soon; nobody waits for it here.
                following = asyncio.ensure_future(self._identities.ready())
                following.add_done_callback(lambda done: done.cancelled() or done.exception())
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            await self._identities.close()
            if self._limits is not None:
                await self._limits.close()

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(self._rules, scope, send)
        try:
            check_path(scope)
            self._check_size(scope)
            self._check_transport(scope)
            identity = await self._let_in(scope, answer)
            self._check_reading(scope, identity)
            async with asyncio.timeout(self._rules.time_limit_s) as answer.limit:
                await self._app(scope, self._bounded(receive, self._most_bytes(scope)), answer.send)
        except BadRequest as error:
            if answer.begun:
                raise
            await answer.problem(error.status, str(error), challenge(error))
        except TimeoutError:
            if answer.begun or answer.limit is None or not answer.limit.expired():
                raise
            said = f"The answer took longer than {self._rules.time_limit_s:g} s: ask for less, or again later."
            await answer.problem(504, said, [(b"retry-after", b"1")])

    async def _let_in(self, scope: Scope, answer: "_Answer") -> Identity | None:
        """Who asks, counted; `BadRequest` when that is not so, or too often."""
        path = scope["path"]
        if path in OPEN:
            return None
        identity: Identity | None = None
        refused: BadRequest | None = None
        if path not in SIGN_IN and credentials(scope) is not None:
            await self._identities.ready()
            try:
                identity = self._identities.identify(scope)
            except BadRequest as error:
                refused = error
        await self._count(scope, identity, answer)
        if refused is not None:
            raise refused
        if identity is not None:
            scope[IDENTITY] = identity
        return identity

    async def _count(self, scope: Scope, identity: Identity | None, answer: "_Answer") -> None:
        if identity is not None and identity.is_operator:
            return
        client, rules = client_of(scope), self._rules
        if is_here(client) and not rules.limit_loopback:
            return
        who = f"ip:{client}" if identity is None else f"user:{identity.user_id}"
        await self._take(who, "requests", rules.client_limit if identity is None else rules.user_limit, answer)
        if scope["path"].startswith((EXPORT, SIGNED)):
            await self._take(f"exports:{who}", "exports", rules.export_limit, answer)

    async def _take(self, who: str, what: str, limit: RateSettings | None, answer: "_Answer") -> None:
        if limit is None:
            return
        taken = await self._counter().take(who, limit)
        answer.counted = (limit, taken)
        if not taken.allowed:
            wait = math.ceil(taken.retry_in_s)
            _LIMITED.add()
            raise BadRequest(429, f"Too many {what}: {limit.requests} in {limit.per_s:g} s; go on in {wait} s.")

    def _counter(self) -> RateLimits:
        known = self._identities.known
        url = known.redis_url if known else None
        if self._limits is None or (self._limits_url is None and url is not None):
            self._limits, self._limits_url = RateLimits(url, self._prefix), url
        return self._limits

    def _most_bytes(self, scope: Scope) -> int:
        return self._rules.larger_bodies.get(scope["path"], self._rules.max_body_bytes)

    def _check_size(self, scope: Scope) -> None:
        length, most = header_of(scope, b"content-length"), self._most_bytes(scope)
        # A longer number is too much in any case; int() of a very long one takes its time.
        if length is not None and (len(length) > 15 or not length.isdigit() or int(length) > most):
            raise BadRequest(413, f"A body may have {most} bytes at most.")

    def _check_transport(self, scope: Scope) -> None:
        """In production nobody sends a password, token or key in the clear."""
        if (
            self._rules.only_tls
            and (scope["path"] in SIGN_IN or credentials(scope) is not None or header_of(scope, KEY_HEADER) is not None)
            and not is_unheard(scope)
        ):
            raise BadRequest(403, "Passwords, tokens and keys are taken over HTTPS only.")

    def _check_reading(self, scope: Scope, identity: Identity | None) -> None:
        path, reads = scope["path"], scope["method"] in READS
        open_to_all = path in OPEN or path.startswith(SIGNED)
        # What is sent may be answered with what is read. These say who they are in another way.
        known = path in SIGN_IN or (path.startswith(REPORTS) and header_of(scope, KEY_HEADER) is not None)
        if identity is None and not self._rules.reads_are_public and not known and not (reads and open_to_all):
            raise BadRequest(
                401, "Reading needs a token here: POST /api/v1/auth/login, then Authorization: Bearer TOKEN."
            )
        if not reads and identity is not None and identity.role == "readonly" and not path.startswith(AUTH):
            raise BadRequest(403, f"{identity.name} may only read.")

    def _bounded(self, receive: Receive, most: int) -> Receive:
        got = 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                raise BadRequest(413, f"A body may have {most} bytes at most.")
            return message

        return bounded

    async def _answer_options(self, scope: Scope, send: Send) -> None:
        origin = header_of(scope, b"origin") or b""
        if origin in self._rules.origins and origin != b"*":
            headers = [*_PREFLIGHT, (b"access-control-allow-origin", origin), (b"vary", b"Origin")]
            await send_whole(send, 200, headers, b"")
        elif self._rules.any_origin:
            await send_options(send)
        else:
            await send_whole(send, 200, [(b"vary", b"Origin")], b"")


class _Answer:
    """What goes back, with what every answer has to say."""

    def __init__(self, rules: Rules, scope: Scope, send: Send) -> None:
        self._rules = rules
        self._origin = header_of(scope, b"origin") or b""
        self._reads = scope["method"] in READS
        self._send = send
        self.begun = False
        self.limit: asyncio.Timeout | None = None
        self.counted: tuple[RateSettings, Taken] | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            if self.limit is not None:
                # What is sent slowly is for the edge to end.
                self.limit.reschedule(None)
            message = {**message, "headers": self._headers(list(message.get("headers", ())))}
        await self._send(message)

    async def problem(self, status: int, detail: str, headers: Headers = ()) -> None:
        own = [ANY_ORIGIN] if self._rules.any_origin and self._reads else []
        if status == 429 and self.counted is not None:
            own.append((b"retry-after", b"%d" % max(1, math.ceil(self.counted[1].retry_in_s))))
        self.limit = None
        await send_problem(self.send, status, detail, [*own, *headers, (b"cache-control", b"no-store")])

    def _headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if self._rules.api_headers:
            there = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in _SECURITY_HEADERS.items() if name not in there]
        if not self._rules.reads_are_public:
            headers = _private(headers)
        if not self._rules.any_origin or self._origin in self._rules.origins:
            headers = [pair for pair in headers if not pair[0].lower().startswith(b"access-control-")]
            headers.append((b"vary", b"Origin"))
            if self._origin in self._rules.origins:
                headers += [(b"access-control-allow-origin", self._origin), _EXPOSED]
        if self.counted is not None:
            limit, taken = self.counted
            headers += [
                (b"x-ratelimit-limit", b"%d" % limit.requests),
                (b"x-ratelimit-remaining", b"%d" % taken.left),
                (b"x-ratelimit-reset", b"%d" % math.ceil(taken.full_in_s)),
            ]
        return headers


def check_path(scope: Scope) -> None:
    """`BadRequest` for a path that tries to lead elsewhere, or holds what no name has. Applications look names up and
    open no path that a request names; this is for what may come after them."""
    path: str = scope["path"]
    if not path.isprintable() or "\\" in path or (".." in path and ".." in path.split("/")):
        raise BadRequest(400, "There is no such path.")


def _is_plain(scope: Scope) -> bool:
    """Whether somebody who does not say who they are reads."""
    return scope["method"] == "GET" and scope["path"] != ALIVE and credentials(scope) is None


def _private(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What only some may read is not kept where others ask."""
    said = b", ".join(value for name, value in headers if name.lower() == b"cache-control")
    parts = [part.strip() for part in said.split(b",") if part.strip() and part.strip().lower() != b"public"]
    others = [pair for pair in headers if pair[0].lower() != b"cache-control"]
    if b"no-store" not in parts and b"private" not in parts:
        parts.insert(0, b"private")
    return [*others, (b"cache-control", b", ".join(parts))]
