"""The market API under `/api/v1`: which application answers which paths."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from serve_apps.asgi import Receive, Scope, Send, is_request, send_problem


@dataclass(frozen=True, slots=True)
class Resource:
    """Answers paths that begin with `path`, for these methods."""

    path: str
    methods: Sequence[str]
    answer: Callable[[Scope, Receive, Send], Awaitable[None]]


class MarketApp:
    """ASGI application over its resources, by the path they begin with."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_request(scope, receive, send):
            return
        found = next((one for one in self._resources if scope["path"].startswith(one.path)), None)
        if found is None:
            known = ", ".join(
                f"{one.path}{{symbol}}" if one.path.endswith("/") else one.path for one in self._resources
            )
            await send_problem(send, 404, f"There is nothing here; try one of: {known}.")
        elif scope["method"] not in found.methods:
            allowed = ", ".join(found.methods)
            await send_problem(send, 405, f"Only {allowed} is answered here.", [(b"allow", allowed.encode())])
        else:
            await found.answer(scope, receive, send)
