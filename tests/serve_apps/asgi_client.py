"""Asks an ASGI application directly, as a server would."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from serve_apps.asgi import Receive, Scope, Send


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The entries of the header line of a binary answer."""
        entries: list[dict[str, Any]] = json.loads(self.body.partition(b"\n")[0])["columns"]
        return entries

    @property
    def binary(self) -> bytes:
        return self.body.partition(b"\n")[2]


async def ask(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    target: str,
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """The answer to one request; the body is sent in two pieces."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    pieces = [
        {"type": "http.request", "body": body[: len(body) // 2], "more_body": True},
        {"type": "http.request", "body": body[len(body) // 2 :], "more_body": False},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        if not pieces:
            # The client stays.
            await asyncio.Event().wait()
        return pieces.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )


async def check_problem(app: Any, target: str, status: int, says: str) -> None:
    """A GET is answered with this error."""
    answer = await ask(app, target)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json["detail"]
