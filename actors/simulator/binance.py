"""Binance spot as its clients see it: streams in the address or by SUBSCRIBE, combined or raw frames.

Forms and texts follow Binance's "WebSocket Streams" documentation
(https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams). Any well-formed stream name is
accepted, known or not, as Binance does. A depth stream is the same at every update speed: a client gets what was
recorded under the name it asked for.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from actors.simulator.session import (
    EVERYBODY,
    MAX_STREAMS,
    NOT_JSON,
    Known,
    Recorded,
    Session,
    Stream,
    UnknownTarget,
    read_as,
    words,
)

_STREAM: Final = re.compile(r"[!\w]+@[\w@+:]+")
_SPEED: Final = re.compile(r"@\d+ms$")
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


_frames: Final = msgspec.json.Decoder(_Frame)
_encode: Final = msgspec.json.encode


class BinanceSession(Session):
    """See `Session`. Streams are called by the name that was asked for."""

    not_found: ClassVar[bytes] = b'{"code":-1000,"msg":"This is not in the recording."}'

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        parts = urlsplit(target)
        #: Combined frames name their stream: {"stream": ..., "data": ...}.
        self.combined = parts.path == "/stream"
        if self.combined:
            names = parse_qs(parts.query).get("streams", [""])[0]
        else:
            names = unquote(parts.path.removeprefix("/ws").removeprefix("/"))
        # Nothing comes on other names, which are accepted all the same: ccxt connects to /ws/0 and subscribes then.
        asked = [name for name in names.split("/") if name and not name.isalnum()]
        if not all(map(_STREAM.fullmatch, asked)):
            raise UnknownTarget("invalid stream")
        self.streams = {stream_of(name): name for name in asked}
        if len(self.streams) > MAX_STREAMS:
            raise UnknownTarget(f"more than {MAX_STREAMS} streams")

    @classmethod
    def serves(cls, target: str) -> bool:
        try:
            path = urlsplit(target).path
        except ValueError:
            return False
        return path in ("/stream", "/ws") or path.startswith("/ws/")

    @classmethod
    def endpoint(cls, target: str) -> str:
        return ""

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return [_recorded(frame) for frame in frames]

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        return [self._answer(request)]

    @property
    def form(self) -> Hashable:
        return self.combined, frozenset(self.streams.items())

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        if not self.combined:
            return [_event(frame) for frame in frames]
        # Most frames are as they are wanted.
        starts = {stream: f'{{"stream":"{name}"'.encode() for stream, name in self.streams.items()}
        return [
            frame if frame.startswith(starts.get(stream, b"")) else _combined(frame, self.streams[stream])
            for frame, stream in zip(frames, streams, strict=False)
        ]

    def _answer(self, request: Any) -> bytes:
        if request is NOT_JSON:
            return _error(3, "Invalid JSON: the message is not JSON")
        if not isinstance(request, dict):
            return _error(2, "Invalid request: expected an object")
        number = request.get("id")
        if type(number) is not int or number < 0:
            return _error(2, "Invalid request: request ID must be an unsigned integer")
        method, names = request.get("method"), words(request.get("params", []))
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            return _error(2, f"Invalid request: unknown variant, expected one of {expected}", number)
        if method == "LIST_SUBSCRIPTIONS":
            return _encode({"result": list(self.streams.values()), "id": number})
        if names is None:
            return _error(2, "Invalid request: params must be an array of strings", number)
        if not all(map(_STREAM.fullmatch, names)):
            return _error(2, "Invalid request: invalid stream", number)
        asked = {stream_of(name): name for name in names}
        if method == "SUBSCRIBE":
            wanted = self.streams | asked
            if len(wanted) > MAX_STREAMS:
                return _error(2, f"Invalid request: more than {MAX_STREAMS} streams", number)
            self.streams = wanted
        else:
            self.streams = {stream: name for stream, name in self.streams.items() if stream not in asked}
        return _encode({"result": None, "id": number})


def stream_of(name: str) -> Stream:
    """What a stream name such as btcusdt@depth@100ms means."""
    if name.startswith("!"):
        return Stream(name)
    symbol, _, channel = name.partition("@")
    return Stream(_SPEED.sub("", channel), symbol.upper())


def _recorded(frame: bytes) -> Recorded:
    content = read_as(_frames, frame)
    if content is None:
        return Recorded(frame)
    if content.stream is not None:
        return Recorded(frame, stream_of(content.stream))
    if content.result is not msgspec.UNSET or content.error is not msgspec.UNSET or content.event == "serverShutdown":
        return Recorded(frame, state="unplayed")
    return Recorded(frame, _stream_of_event(content))


def _event(frame: bytes) -> bytes:
    """A frame without the name of its stream."""
    content = read_as(_frames, frame)
    return frame if content is None or content.stream is None else bytes(content.data)


def _combined(frame: bytes, name: str) -> bytes:
    """A frame with that name of its stream."""
    content = read_as(_frames, frame)
    if content is None or content.stream == name:
        return frame
    return b'{"stream":"%s","data":%s}' % (name.encode(), _event(frame))


def _stream_of_event(content: _Frame) -> Stream:
    """The stream a raw event must have come from; `EVERYBODY` for one about the connection."""
    if not isinstance(content.symbol, str):
        return EVERYBODY
    kind = {"depthUpdate": "depth", "24hrTicker": "ticker"}.get(str(content.event), content.event)
    if kind is None and content.update is not None:
        kind = "bookTicker"
    elif kind == "kline" and isinstance(content.kline, dict):
        kind = f"kline_{content.kline.get('i')}"
    return Stream(str(kind), content.symbol)


def _error(code: int, text: str, number: int | None = None) -> bytes:
    return _encode({"error": {"code": code, "msg": text}, "id": number})
