"""The few pieces of ASGI that applications without a framework share.

A whole answer in two messages, errors as `application/problem+json`, and the life cycle messages that a
server sends before the first request.
"""

import http
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Headers = Iterable[tuple[bytes, bytes]]
type Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_OPTIONS_HEADERS: Final = (
    ANY_ORIGIN,
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type"),
)


class BadRequest(Exception):
    """What is wrong with a request, for the client, with the status it deserves."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """The last header of that name (in lower case), None where there is none."""
    found: bytes | None = None
    for header, value in scope["headers"]:
        if header == name:
            found = value
    return found


def matches(if_none_match: str, tag: bytes) -> bool:
    """Whether the client has what `tag` stands for, by the weak comparison of RFC 9110."""
    if if_none_match.strip() == "*":
        return True
    opaque = tag.decode().removeprefix("W/")
    return any(one.strip().removeprefix("W/") == opaque for one in if_none_match.split(","))


def has_version(scope: Scope, tag: bytes) -> bool:
    """Whether If-None-Match of a request names this version."""
    return matches((header_of(scope, b"if-none-match") or b"").decode("latin-1"), tag)


def last_segment(scope: Scope, prefix: str) -> str:
    """What follows `prefix` in the path; `%2F` is part of it."""
    raw = scope.get("raw_path") or scope["path"].encode()
    return unquote(raw.decode("ascii", "replace").partition("?")[0].removeprefix(prefix))


async def read_body(receive: Receive, most: int) -> bytes:
    """The body of a request; `BadRequest` when it has more than `most` bytes."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest(400, "The request ended before its body did.")
        body += message.get("body", b"")
        if len(body) > most:
            raise BadRequest(413, f"A body may have {most} bytes at most.")
        if not message.get("more_body"):
            return body


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Answer with `body` as it is; Content-Length is added."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_head(send: Send, status: int, headers: Headers) -> None:
    """An answer without a body: to HEAD, or 304."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})


async def send_problem(send: Send, status: int, detail: str, headers: Headers = ()) -> None:
    """Answer with an error after RFC 9457; `detail` says what is wrong and what to do."""
    problem = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    body = json.dumps(problem, separators=(",", ":")).encode()
    await send_whole(send, status, [*headers, (b"content-type", b"application/problem+json")], body)


async def send_options(send: Send) -> None:
    """Answer OPTIONS, for every path alike: pages of other origins may ask."""
    await send_whole(send, 200, _OPTIONS_HEADERS, b"")


async def is_request(scope: Scope, receive: Receive, send: Send) -> bool:
    """Whether the application has a request to answer; life cycle, WebSockets and OPTIONS are answered here."""
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
    elif scope["type"] == "websocket":
        # Serve's own proxy does not know that it may be left out.
        await send({"type": "websocket.close", "code": 1000})
    elif scope["method"] == "OPTIONS":
        await send_options(send)
    else:
        return True
    return False


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone away; reads and drops what it still sends."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve_lifespan(receive: Receive, send: Send) -> None:
    """The life cycle of an application that has nothing to start or stop."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
