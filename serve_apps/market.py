"""The market API under `/api/v1`: which application answers which paths, what every answer carries, and why there is
none: what was asked is wrong or not there (4xx), nobody knows it now (503, ask again), or it is broken here (500).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from time import monotonic
from typing import Final

import structlog

from actors.buckets import Buckets
from serve_apps.asgi import BadRequest, Headers, Message, Receive, Scope, Send, is_request, send_problem
from serve_apps.auth_identity import IDENTITY
from serve_apps.client_address import client_of
from serve_apps.parameters import Route
from serve_apps.shared_answer import NoAnswer
from serve_apps.token import challenge
from storage.clickhouse import DatabaseUnavailable

VERSION: Final = (b"api-version", b"1")
RETRY: Final = (b"retry-after", b"1")
#: Whoever uses a path that goes is noted once in a while.
_NOTED_AGAIN_S: Final = 86_400.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resource:
    """Answers paths that begin with `path`, for these methods. What it raises is answered by `MarketApp`: `BadRequest`,
    and `NoAnswer` or `DatabaseUnavailable` while nobody knows."""

    path: str
    methods: Sequence[str]
    answer: Callable[[Scope, Receive, Send], Awaitable[None]]
    #: What can be asked there; for the OpenAPI document.
    routes: Sequence[Route] = ()


class MarketApp:
    """ASGI application over its resources, by the path they begin with."""

    def __init__(self, resources: Sequence[Resource], clock: Callable[[], float] = monotonic) -> None:
        self._resources = [(one, _retired(one.routes)) for one in resources]
        self._clock = clock
        #: Of whom it was noted lately that they use what goes.
        self._noted = Buckets(1, _NOTED_AGAIN_S, most=1000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_request(scope, receive, send):
            return
        path: str = scope["path"]
        found, more = next(
            ((one, more) for one, more in self._resources if path.startswith(one.path)), (None, (VERSION,))
        )
        answer = _Answer(send, more)
        try:
            if found is None:
                known = ", ".join(
                    f"{one.path}{{symbol}}" if one.path.endswith("/") else one.path for one, _ in self._resources
                )
                raise BadRequest(404, f"There is nothing here; try one of: {known}.")
            if scope["method"] not in found.methods:
                allowed = ", ".join(found.methods)
                await send_problem(answer, 405, f"Only {allowed} is answered here.", [(b"allow", allowed.encode())])
                return
            if more != (VERSION,):
                self._note_retired(scope, found.path)
            await found.answer(scope, receive, answer)
        except BadRequest as error:
            await send_problem(answer, error.status, str(error), challenge(error))
        except NoAnswer as error:
            await answer.fail(503, str(error), [RETRY])
        except DatabaseUnavailable:
            await answer.fail(503, "The database does not answer now; ask again in a moment.", [RETRY])
        except Exception as error:  # noqa: BLE001 - whoever asks is told that it is broken, and the log why
            log.error("a request failed", path=path[:200], error=repr(error))
            await answer.fail(500, "This is broken here: it is in the log, and asking again will not help.")

    def _note_retired(self, scope: Scope, path: str) -> None:
        """So that those who look after the instance know whom to tell before it is gone."""
        identity = scope.get(IDENTITY)
        user = "" if identity is None else identity.name
        client = client_of(scope)
        if self._noted.take(f"{path} {user or client}", self._clock()).allowed:
            log.warning("a path that will be gone is used", path=path, user=user, client=client)


class _Answer:
    """Sends, and adds to the headers what every answer carries."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            message["headers"] = [*message["headers"], *self._headers]
        await self._send(message)

    async def fail(self, status: int, detail: str, headers: Headers = ()) -> None:
        """An answer that has begun is broken off: one that ends as if it were whole would be wrong."""
        if self._begun:
            raise ConnectionAbortedError(detail)
        await send_problem(self, status, detail, headers)


def _retired(routes: Sequence[Route]) -> Headers:
    """What answers of these routes carry: the version, and that they go (RFC 9745, RFC 8594), where they do."""
    retired = next((route.retired for route in routes if route.retired is not None), None)
    if retired is None:
        return (VERSION,)
    since, ends = (datetime.combine(day, time(), UTC) for day in (retired.since, retired.ends))
    return (
        VERSION,
        (b"deprecation", b"@%d" % int(since.timestamp())),
        (b"sunset", ends.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()),
        (b"link", f'<{retired.instead}>; rel="successor-version"'.encode()),
    )
