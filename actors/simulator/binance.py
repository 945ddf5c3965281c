"""Binance spot as its clients see it: streams in the address or by SUBSCRIBE, combined or raw frames.

Forms and texts follow Binance's "WebSocket Streams" documentation. Any well-formed stream name is accepted, known
or not, as Binance does.
"""

import re
from collections.abc import Container
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from actors.simulator.session import EVERYBODY, MAX_STREAMS, UnknownTarget

_STREAM: Final = re.compile(r"[!\w]+@[\w@+:]+")
_METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")


class _Frame(msgspec.Struct, gc=False):
    """A frame of either form: `stream` and `data` are of the combined one, the rest of an event or an answer."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    event: Any = msgspec.field(name="e", default=None)
    symbol: Any = msgspec.field(name="s", default=None)
    kline: Any = msgspec.field(name="k", default=None)
    update: Any = msgspec.field(name="u", default=None)
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET


_decode_frame: Final = msgspec.json.Decoder(_Frame).decode
_encode: Final = msgspec.json.encode


class BinanceSession:
    """See `Session`."""

    subscribe_within_s: ClassVar[float | None] = None
    not_found: ClassVar[bytes] = b'{"code":-1000,"msg":"This is not in the recording."}'

    def __init__(self, target: str, known_symbols: Container[str] | None = None) -> None:
        try:
            parts = urlsplit(target)
        except ValueError:
            raise UnknownTarget("malformed address") from None
        if parts.path == "/stream":
            names = parse_qs(parts.query).get("streams", [""])[0]
        elif parts.path == "/ws" or parts.path.startswith("/ws/"):
            names = unquote(parts.path.removeprefix("/ws").removeprefix("/"))
        else:
            raise UnknownTarget("streams are at /stream?streams= and /ws/")
        #: Combined frames name their stream: {"stream": ..., "data": ...}.
        self.combined = parts.path == "/stream"
        self.streams = dict.fromkeys(name for name in names.split("/") if name)
        if len(self.streams) > MAX_STREAMS or not all(map(_STREAM.fullmatch, self.streams)):
            raise UnknownTarget("invalid stream")

    @property
    def symbols(self) -> set[str]:
        return {name.split("@")[0].upper() for name in self.streams if not name.startswith("!")}

    def receive(self, message: str | bytes) -> bytes:
        try:
            request = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _error(3, "Invalid JSON: the message is not JSON")
        if not isinstance(request, dict):
            return _error(2, "Invalid request: expected an object")
        number = request.get("id")
        if type(number) is not int or number < 0:
            return _error(2, "Invalid request: request ID must be an unsigned integer")
        method, streams = request.get("method"), request.get("params", [])
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            return _error(2, f"Invalid request: unknown variant, expected one of {expected}", number)
        if method == "LIST_SUBSCRIPTIONS":
            return _encode({"result": list(self.streams), "id": number})
        if not isinstance(streams, list) or not all(isinstance(name, str) for name in streams):
            return _error(2, "Invalid request: params must be an array of strings", number)
        if not all(map(_STREAM.fullmatch, streams)):
            return _error(2, "Invalid request: invalid stream", number)
        if method == "SUBSCRIBE":
            wanted = self.streams | dict.fromkeys(streams)
            if len(wanted) > MAX_STREAMS:
                return _error(2, f"Invalid request: more than {MAX_STREAMS} streams", number)
            self.streams = wanted
        else:
            self.streams = {name: None for name in self.streams if name not in streams}
        return _encode({"result": None, "id": number})

    def wants(self, key: str) -> bool:
        return key in self.streams or (key == EVERYBODY and bool(self.streams))

    def outgoing(self, frame: bytes) -> bytes:
        if self.combined and frame.startswith(b'{"stream":'):
            return frame
        try:
            content = _decode_frame(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return frame
        if self.combined == (content.stream is not None):
            return frame
        if content.stream is not None:
            return bytes(content.data)
        stream = _stream_of_event(content)
        return b'{"stream":"%s","data":%s}' % (stream.encode(), frame) if stream else frame

    @staticmethod
    def key(frame: bytes) -> str | None:
        try:
            content = _decode_frame(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return EVERYBODY
        if content.stream is not None:
            return content.stream
        if content.result is not msgspec.UNSET or content.error is not msgspec.UNSET:
            return None
        return _stream_of_event(content)


def _stream_of_event(content: _Frame) -> str:
    """The stream a raw event must have come from; `EVERYBODY` for one about the connection."""
    if not isinstance(content.symbol, str):
        return EVERYBODY
    kind = {"depthUpdate": "depth", "24hrTicker": "ticker"}.get(content.event, content.event)
    if kind is None and content.update is not None:
        kind = "bookTicker"
    elif kind == "kline" and isinstance(content.kline, dict):
        kind = f"kline_{content.kline.get('i')}"
    return f"{content.symbol.lower()}@{kind}"


def _error(code: int, text: str, number: int | None = None) -> bytes:
    return _encode({"error": {"code": code, "msg": text}, "id": number})
