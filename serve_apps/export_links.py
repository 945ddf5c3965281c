"""Links to exports that work for a day without a token: whoever has one gets the file, made anew each time. A link says
what was asked and until when, signed with a key that follows from the token of the data folder: nothing is stored.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, read_body
from serve_apps.bodies import send_json
from serve_apps.exports import EXPORT, ROUTES, ExportsApp
from serve_apps.parameters import Route
from serve_apps.token import check_token

EXPORTS: Final = "/api/v1/exports"
VALID_S: Final = 24 * 3600
MOST_BYTES: Final = 16 << 10
_MAC_BYTES: Final = 16

_PARAMETERS: Final = {one.name: {"type": "string"} for one in ROUTES[0].parameters}
LINK_ROUTES: Final = (
    Route(
        EXPORTS,
        "A link to an export that works for 24 hours without a token",
        method="POST",
        about="The body has `symbol` and the parameters of the export, as text.",
        body={
            "type": "object",
            "required": ["symbol"],
            "additionalProperties": False,
            "properties": {"symbol": {"type": "string", "minLength": 1, "maxLength": 100}, **_PARAMETERS},
        },
        body_example={"symbol": "BTCUSDT", "exchange": "binance", "format": "parquet", "timeframe": "1h"},
        example={"link": "/api/v1/exports/MTc2OTk0...", "expires_at": 1769947200},
        status=201,
        errors=(400, 401, 404, 413),
        needs_token=True,
    ),
    Route(
        EXPORTS + "/{link}",
        "The export that a link leads to",
        others=("text/csv", "application/vnd.apache.parquet", "application/json"),
        errors=(404, 503),
        segments={"link": "As it was given."},
    ),
)


class ExportLinksApp:
    """ASGI application that answers `LINK_ROUTES`; the files are those of `exports`."""

    def __init__(self, exports: ExportsApp, token: str, clock: Callable[[], float] = time.time) -> None:
        self._exports = exports
        self._token = token
        self._key = hmac.digest(token.encode(), b"export links", hashlib.sha256)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = last_segment(scope, EXPORTS).strip("/")
        if scope["method"] == "POST" and not wanted:
            await self._make(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and wanted:
            path, query = self._read(wanted)
            asked = {**scope, "path": path, "raw_path": path.encode(), "query_string": query}
            await self._exports(asked, receive, send)
        else:
            raise BadRequest(404, f"Here are POST of {EXPORTS}, and GET of the links it gives.")

    async def _make(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_token(scope, self._token, "Making a link")
        given = _asked(await read_body(receive, MOST_BYTES))
        symbol = given.pop("symbol")
        query = urlencode(given)
        # What is wrong is said now, not to who follows the link.
        self._exports.check(symbol, {**scope, "query_string": query.encode()})
        expires = int(self._clock()) + VALID_S
        said = msgspec.json.encode((expires, EXPORT + quote(symbol, safe=""), query))
        signed = base64.urlsafe_b64encode(self._mac(said) + said).decode().rstrip("=")
        await send_json(send, {"link": f"{EXPORTS}/{signed}", "expires_at": expires}, 201)

    def _read(self, link: str) -> tuple[str, bytes]:
        try:
            content = base64.b64decode(link + "=" * (-len(link) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            content = b""
        mac, said = content[:_MAC_BYTES], content[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(said)):
            raise BadRequest(404, "This is no link that was given here.")
        expires, path, query = msgspec.json.decode(said, type=tuple[int, str, str])
        if self._clock() > expires:
            raise BadRequest(404, "This link has expired: links work for 24 hours.")
        return path, query.encode()

    def _mac(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, hashlib.sha256)[:_MAC_BYTES]


def _asked(body: bytes) -> dict[str, str]:
    try:
        given: dict[str, Any] = msgspec.json.decode(body, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(400, f"The body must be an object of texts: {error}.") from None
    if not given.get("symbol"):
        raise BadRequest(400, "symbol is missing: which one to export.")
    return given
