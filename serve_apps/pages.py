"""The pages people open and the two probes a load balancer asks, as one ASGI application.

Everything it serves is read into memory when it is made, by listing the built folder: a request is a look-up by
path, so no path can leave that folder. Compression is left to the edge.
"""

import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_apps.asgi import Receive, Scope, Send, has_version, is_request

type Readiness = Callable[[], Awaitable[tuple[bool, dict[str, Any]]]]

_SECURITY = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-resource-policy": "same-origin",
}
_TEXT = "text/plain; charset=utf-8"
_TEXT_TYPES = ("text/", "application/javascript", "image/svg+xml")
#: The edge keeps a page for seconds, which takes the load of many; browsers ask again.
_PAGE = "public, max-age=1, s-maxage=10"
_NOT_BUILT = b"The pages are not built yet. Run `make web` in the checkout and start again.\n"


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    cache_control: str
    etag: str

    @classmethod
    def read(cls, path: Path, cache_control: str) -> "_File":
        body = path.read_bytes()
        content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if content_type.startswith(_TEXT_TYPES):
            content_type += "; charset=utf-8"
        return cls(body, content_type, cache_control, f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": self.content_type, "cache-control": self.cache_control, "etag": self.etag}


class PagesApp:
    """Serves `/`, `/chart`, `/operations`, `/assets/*`, the icon, `/healthz` and `/readyz`; a styled 404 for every
    other path.

    `dist` is what `npm run build` made; without it pages answer 503 and say how to build them, the probes work.
    `readiness` tells whether the system can serve and what `/readyz` shows, with 200 or 503.
    """

    def __init__(self, dist: Path, readiness: Readiness) -> None:
        self._readiness = readiness
        self._files = _read_files(dist)
        self._not_found = self._files.pop("/404", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await is_request(scope, receive, send):
            status, headers, body = await self._answer(scope)
            await _respond(send, status, headers, b"" if scope["method"] == "HEAD" else body)

    async def _answer(self, scope: Scope) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; the body is also given for HEAD."""
        path: str = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return _sized(405, {"content-type": _TEXT, "allow": "GET, HEAD"}, b"Only GET and HEAD are served here.\n")
        if path == "/healthz":
            return _json(200, {"status": "ok"})
        # `/health` is its older name.
        if path in ("/readyz", "/health"):
            ready, state = await self._readiness()
            return _json(200 if ready else 503, state)
        if self._not_found is None:
            return _sized(503, {"content-type": _TEXT, "cache-control": "no-store"}, _NOT_BUILT)
        file = self._files.get(path)
        if file is None:
            headers = {"content-type": self._not_found.content_type, "cache-control": "no-cache"}
            return _sized(404, headers, self._not_found.body)
        if has_version(scope, file.etag.encode()):
            return 304, {"cache-control": file.cache_control, "etag": file.etag}, b""
        return _sized(200, file.headers, file.body)


def _read_files(dist: Path) -> dict[str, _File]:
    """The built files by the path they are served at; empty unless the build is whole."""
    if not (dist / "index.html").is_file() or not (dist / "404.html").is_file():
        return {}
    files = {_address(path): _File.read(path, _PAGE) for path in dist.iterdir() if path.is_file()}
    if icon := files.get("/favicon.svg"):
        files["/favicon.ico"] = icon
    for path in (dist / "assets").glob("*"):
        # Their names carry a hash of what they hold.
        files[f"/assets/{path.name}"] = _File.read(path, "public, max-age=31536000, immutable")
    return files


def _address(path: Path) -> str:
    """Where a file is served: pages without `.html`."""
    if path.name == "index.html":
        return "/"
    return f"/{path.stem if path.suffix == '.html' else path.name}"


def _json(status: int, content: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return _sized(status, headers, json.dumps(content).encode())


def _sized(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return status, headers | {"content-length": str(len(body))}, body


async def _respond(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in (headers | _SECURITY).items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
