"""`GET /cache-stats` and `POST /clear-cache`, before an application that answers everything else."""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

from serve_apps.asgi import BadRequest, Receive, Scope, Send, send_problem
from serve_apps.bodies import send_json
from serve_apps.cache import LONG_TERM, MEDIUM_TERM, REAL_TIME, SHORT_TERM, Cache
from serve_apps.token import challenge, check_token

STATS: Final = "/cache-stats"
CLEAR: Final = "/clear-cache"
_NO_STORE: Final = ((b"cache-control", b"no-store"),)
_STRATEGIES: Final = {
    "RealTime": REAL_TIME,
    "ShortTerm": SHORT_TERM,
    "MediumTerm": MEDIUM_TERM,
    "LongTerm": LONG_TERM,
}
_LONGEST_PREFIX: Final = 200


class CacheRoutes:
    """ASGI application. Clearing needs `token`, the instance's; `?prefix=` clears only keys that begin like that."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], cache: Cache, token: Callable[[], str]
    ) -> None:
        self._app = app
        self._cache = cache
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (STATS, CLEAR):
            await self._app(scope, receive, send)
            return
        allowed = ("GET",) if scope["path"] == STATS else ("POST",)
        if scope["method"] not in allowed:
            allow = (b"allow", allowed[0].encode())
            await send_problem(send, 405, f"Only {allowed[0]} is answered here.", (*_NO_STORE, allow))
        elif scope["path"] == STATS:
            await send_json(send, await self._stats(), headers=_NO_STORE)
        else:
            try:
                check_token(scope, self._token(), "Clearing the cache")
                await self._clear(send, _prefix(scope))
            except BadRequest as error:
                await send_problem(send, error.status, str(error), (*_NO_STORE, *challenge(error)))

    async def _stats(self) -> dict[str, Any]:
        told = await self._cache.all_counts()
        replicas = [self._cache.counts()] if told is None else list(told.values())
        total: dict[str, Any] = {
            name: sum(counts[name] for counts in replicas)
            for name in (replicas[0] if replicas else {})
            if name != "hears_redis"
        }
        asked = total.get("asked", 0)
        given = sum(total.get(name, 0) for name in ("from_memory", "from_redis", "stale"))
        return {
            "redis": told is not None,
            # Without Redis nobody knows of the others: these are the numbers of the replica that was asked.
            "replicas": len(replicas) if told is not None else None,
            "hit_rate": given / asked if asked else None,
            "total": total,
            "strategies": {name: {"fresh_s": one.fresh_s, "stale_s": one.stale_s} for name, one in _STRATEGIES.items()},
        }

    async def _clear(self, send: Send, prefix: str) -> None:
        removed = await self._cache.forget_below(prefix)
        if removed is None:
            detail = "Redis does not answer: only the memory of one replica was cleared. Ask again."
            await send_problem(send, 503, detail, (*_NO_STORE, (b"retry-after", b"1")))
            return
        await send_json(send, {"cleared": prefix or "everything", "removed_from_redis": removed}, headers=_NO_STORE)


def _prefix(scope: Scope) -> str:
    given = parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
    if any(name != "prefix" for name, _ in given) or len(given) > 1:
        raise BadRequest(400, "The only parameter is prefix.")
    prefix = given[0][1] if given else ""
    if len(prefix) > _LONGEST_PREFIX:
        raise BadRequest(400, f"A prefix has {_LONGEST_PREFIX} characters at most.")
    return prefix
