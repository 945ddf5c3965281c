"""OKX v5 as its clients see it: channels of instruments, an answer for each of the arguments.

Forms and texts follow the recorded answers and https://www.okx.com/docs-v5/en/#overview-websocket (error codes:
https://www.okx.com/docs-v5/en/#error-code-websocket-public).
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.session import NOT_JSON, HangUp, Recorded, Session, State, Stream, read_as

_CHANNELS: Final = frozenset(
    (
        *("books", "books5", "bbo-tbt", "books-l2-tbt", "books50-l2-tbt", "tickers", "trades", "trades-all"),
        *("open-interest", "funding-rate", "mark-price", "index-tickers", "price-limit", "liquidation-orders"),
        *("instruments", "status", "opt-summary", "estimated-price", "adl-warning", "option-trades"),
    )
)
#: Whose `instId` is an index and no instrument.
_OF_INDICES: Final = ("index-tickers",)
#: A live market tells all there is about a contract on this stream; each frame is of one channel.
_DERIVATIVES: Final = "derivatives"
_OF_CONTRACTS: Final = ("mark-price", "open-interest", "funding-rate")
_ABOUT_CONTRACTS: Final = (*_OF_CONTRACTS, *_OF_INDICES)
_ARGUMENT: Final = re.compile(rb'\{"arg":\{"channel":"([\w-]+)","instId":"([\w-]+)"')
_SILENCE_S: Final = 30.0


class _Frame(msgspec.Struct, gc=False):
    event: str | None = None
    arg: dict[str, Any] | None = None
    action: str | None = None


_frames: Final = msgspec.json.Decoder(_Frame)


class OkxSession(Session):
    """See `Session`."""

    not_found: ClassVar[bytes] = b'{"code":"404","data":{},"detailMsg":"","error_code":"404","msg":"Not Found"}'

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.partition("?")[0].rstrip("/") in ("/ws/v5/public", "/ws/v5/business")

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return [_recorded(frame) for frame in frames]

    @property
    def beat_s(self) -> float | None:
        return _SILENCE_S

    def beat(self, t_ns: int = 0) -> list[bytes]:
        raise HangUp(4004, "No data received in 30s.")

    def wants(self, stream: Stream) -> bool:
        if stream.channel != _DERIVATIVES:
            return stream in self.streams
        index = Stream("index-tickers " + stream.symbol.removesuffix("-SWAP"))
        return index in self.streams or any(Stream(name, stream.symbol) in self.streams for name in _OF_CONTRACTS)

    @property
    def form(self) -> Hashable:
        return frozenset(stream for stream in self.streams if stream.channel.startswith(_ABOUT_CONTRACTS))

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        """Of what is told about a contract, a client may have asked for a part."""
        return [
            frame
            for frame, stream in zip(frames, streams, strict=False)
            if stream.channel != _DERIVATIVES or _stream_told(frame) in self.streams
        ]

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        if message in ("ping", b"ping"):
            return [b"pong"]
        if request is NOT_JSON or not isinstance(request, dict) or not isinstance(request.get("args"), list):
            text = message if isinstance(message, str) else message.decode(errors="replace")
            return [_error("60012", f"Invalid request: {text}")]
        operation = request.get("op")
        if operation not in ("subscribe", "unsubscribe"):
            return [_error("60012", f"Invalid request: {msgspec.json.encode(request).decode()}")]
        return [self._apply(operation, arg) for arg in request["args"]]

    def _apply(self, operation: str, arg: Any) -> bytes:
        stream = stream_of(arg)
        if stream is None:
            return _error("60013", "Invalid args")
        if stream.channel.split(" ")[0] not in _CHANNELS or (stream.symbol and stream.symbol not in self.known.symbols):
            names = ",".join(f"{name}:{value}" for name, value in arg.items())
            use = "Please use the correct URL, channel and parameters referring to API document."
            return _error("60018", f"Wrong URL or {names} doesn't exist. {use}")
        if operation == "subscribe":
            self.streams[stream] = None
        else:
            self.streams.pop(stream, None)
        return msgspec.json.encode({"event": operation, "arg": arg})


def stream_of(arg: Any) -> Stream | None:
    """What an argument such as {"channel": "books", "instId": "BTC-USDT"} means; None for none."""
    if not isinstance(arg, dict) or not isinstance(arg.get("channel"), str):
        return None
    channel, symbol = arg["channel"], arg.get("instId")
    if isinstance(symbol, str) and channel not in _OF_INDICES:
        return Stream(channel, symbol)
    others = sorted((name, str(value)) for name, value in arg.items() if name != "channel")
    return Stream(" ".join((channel, *(value for _, value in others))))


def _stream_told(frame: bytes) -> Stream | None:
    """The stream a frame about a contract names."""
    named = _ARGUMENT.match(frame)
    return stream_of({"channel": named[1].decode(), "instId": named[2].decode()}) if named else None


def _recorded(frame: bytes) -> Recorded:
    if frame == b"pong":
        return Recorded(frame, state="unplayed")
    content = read_as(_frames, frame)
    if content is None:
        return Recorded(frame)
    stream = stream_of(content.arg)
    # A notice asks to connect again.
    if content.event is not None or stream is None:
        return Recorded(frame, state="unplayed")
    state: State = "event" if content.action is None else "snapshot" if content.action == "snapshot" else "change"
    return Recorded(frame, stream, state)


def _error(code: str, text: str) -> bytes:
    return msgspec.json.encode({"event": "error", "code": code, "msg": text})
