"""Texts that may be kept are compressed once, here, and not by the edge for everybody who asks: it keeps both versions,
by what a client accepts.
"""

import asyncio
import gzip
import re
from collections import OrderedDict
from collections.abc import Container
from typing import Final

from serve_apps.asgi import Asgi, Message, Receive, Scope, Send, header_of
from serve_apps.data_conditions import accepted_encoding

#: Of all that is remembered.
MOST_BYTES: Final = 16 << 20
#: Below this the head of an answer is more than what is saved.
LEAST_BYTES: Final = 256
#: What takes longer than a moment is compressed in a thread.
_INLINE_BYTES: Final = 64 * 1024
_LEVEL: Final = 6
_TEXTS: Final = (
    b"text/", b"application/json", b"application/javascript", b"application/xml", b"application/rss+xml",
    b"image/svg+xml",
)  # fmt: skip
_MAY_BE_KEPT: Final = re.compile(rb"(?:s-max|max-)age=")
_VARY: Final = (b"vary", b"Accept-Encoding")


class Compressed:
    """`app`, with whole answers of 200 that may be kept as gzip for who accepts it. They are remembered by their tag,
    which becomes a weak one, as the bytes are others; those without a tag stay as they are. `paths`: these alone."""

    def __init__(self, app: Asgi, paths: Container[str] | None = None, most_bytes: int = MOST_BYTES) -> None:
        self._app = app
        self._paths = paths
        self._most_bytes = most_bytes
        self._made: OrderedDict[tuple[bytes, bytes], bytes] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] not in ("GET", "HEAD")
            or (self._paths is not None and scope["path"] not in self._paths)
        ):
            await self._app(scope, receive, send)
            return
        welcome = accepted_encoding((header_of(scope, b"accept-encoding") or b"").decode("latin-1"), ("gzip",))
        held: Message | None = None

        async def compressing(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_text_to_keep(message):
                message["headers"] = [*message["headers"], _VARY]
                if message["status"] == 200 and welcome and scope["method"] == "GET":
                    held = message
                    return
            elif held is not None:
                start, held = held, None
                if not message.get("more_body") and len(message["body"]) >= LEAST_BYTES:
                    message = {**message, "body": await self._compress(start, message["body"], scope["path"])}
                await send(start)
            await send(message)

        await self._app(scope, receive, compressing)

    async def _compress(self, start: Message, body: bytes, path: str) -> bytes:
        """The body, and the head changed to fit."""
        headers = dict(start["headers"])
        tag = headers.get(b"etag")
        if tag is None:
            return body
        key = (path.encode(), tag)
        made = self._made.get(key)
        if made is None and len(body) > _INLINE_BYTES:
            made = await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)
        elif made is None:
            made = gzip.compress(body, _LEVEL, mtime=0)
        # Also where another made the same meanwhile.
        self._bytes -= len(self._made.pop(key, b""))
        self._made[key] = made
        self._bytes += len(made)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._made.popitem(last=False)[1])
        changed = {b"content-length": b"%d" % len(made), b"etag": tag if tag.startswith(b"W/") else b"W/" + tag}
        start["headers"] = [
            *((name, changed.get(name, value)) for name, value in start["headers"]), (b"content-encoding", b"gzip")
        ]  # fmt: skip
        return made


def _is_text_to_keep(start: Message) -> bool:
    """304 says how its text may be kept as well."""
    headers = dict(start["headers"])
    return bool(
        start["status"] in (200, 304)
        and b"content-encoding" not in headers
        and _MAY_BE_KEPT.search(headers.get(b"cache-control", b""))
        and (start["status"] == 304 or headers.get(b"content-type", b"").startswith(_TEXTS))
    )
