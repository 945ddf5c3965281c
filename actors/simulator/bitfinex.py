"""Bitfinex v2 as its clients see it: channels numbered on each connection, and flags for what arrays carry.

Forms and texts follow the recorded answers and https://docs.bitfinex.com/docs/ws-general. A book is the same at every
frequency and length: it is served as it was recorded or made up. Arrays of a made-up market have the channel 0.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.session import NOT_JSON, Known, Recorded, Session, State, Stream, read_as

TIMESTAMP: Final = 32768
SEQUENCE: Final = 65536
CHECKSUM: Final = 131072
_FLAGS: Final = TIMESTAMP | SEQUENCE | CHECKSUM

_CHANNELS: Final = ("ticker", "trades", "book", "candles", "status")
_PRECISIONS: Final = ("P0", "P1", "P2", "P3", "P4", "R0")
_MAX_CHANNELS: Final = 25
_HEARTBEAT_S: Final = 15.0
#: A channel's number, what it says, and the exchange's time (ms) where there is one.
_ARRAY: Final = re.compile(rb"\[(\d{1,18}),(.*?)(?:,(\d{13}))?\]", re.DOTALL)
#: How arrays of a made-up market begin, which have neither number nor time.
_MADE_UP: Final = b"[0,"
_MADE_UP_CHECKSUM: Final = b'[0,"cs",'
_MADE_UP_TRADE: Final = b'[0,"te",'
_MADE_UP_TRADE_AGAIN: Final = b'[0,"tu",'

_events: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.encode


class BitfinexSession(Session):
    """See `Session`. Streams are called by the number of their channel on this connection."""

    not_found: ClassVar[bytes] = b'["error",10020,"This is not in the recording."]'

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        self._flags = 0
        self._sequence = 0
        #: For channels without a recorded number; none is used twice on a connection.
        self._numbers = count(1)

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.partition("?")[0].rstrip("/") == "/ws/2"

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return _Reader(frames).recorded()

    @property
    def beat_s(self) -> float | None:
        return _HEARTBEAT_S if self.streams else None

    def beat(self, t_ns: int = 0) -> list[bytes]:
        return [self._numbered(b'[%d,"hb"' % number, t_ns // 1_000_000) for number in self.streams.values()]

    def greeting(self) -> list[bytes]:
        server = "00000000-0000-4000-8000-000000000000"
        return [_encode({"event": "info", "version": 2, "serverId": server, "platform": {"status": 1}})]

    def wants(self, stream: Stream) -> bool:
        if stream.channel.startswith("cs "):
            return bool(self._flags & CHECKSUM) and _book_of(stream) in self.streams
        return stream in self.streams

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        """A made-up trade comes twice, and the checksum of a made-up book with the book: who did not ask for it does
        not get it."""
        sent = []
        for frame, stream, t_ns in zip(frames, streams, times, strict=False):
            if frame.startswith(_MADE_UP_CHECKSUM) and not self._flags & CHECKSUM:
                continue
            sent.append(self._outgoing(frame, stream, t_ns))
            if frame.startswith(_MADE_UP_TRADE):
                again = frame.replace(_MADE_UP_TRADE, _MADE_UP_TRADE_AGAIN, 1)
                sent.append(self._outgoing(again, stream, t_ns))
        return sent

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        # The exchange says nothing at all to what is no JSON.
        if request is NOT_JSON:
            return []
        event = request.get("event") if isinstance(request, dict) else None
        match event:
            case "conf":
                flags = request.get("flags")
                self._flags = flags & _FLAGS if type(flags) is int else 0
                return [_encode({"event": "conf", "status": "OK", "flags": self._flags})]
            case "ping":
                cid = {"cid": request["cid"]} if "cid" in request else {}
                return [_encode({"event": "pong", "ts": t_ns // 1_000_000, **cid})]
            case "subscribe":
                answer = self._subscribe(request)
                return [] if answer is None else [_encode(answer)]
            case "unsubscribe":
                return [_encode(self._unsubscribe(request.get("chanId")))]
            case _:
                return [_encode({"event": "error", "msg": f"event: invalid ({event})", "code": 10000})]

    def _outgoing(self, frame: bytes, stream: Stream, t_ns: int) -> bytes:
        number = self.streams.get(stream) or self.streams.get(_book_of(stream))
        if number is not None and frame.startswith(_MADE_UP):
            return self._numbered(b"[%d,%b" % (number, frame[len(_MADE_UP) : -1]), t_ns // 1_000_000)
        array = _ARRAY.fullmatch(frame)
        if array is None or number is None:
            return frame
        return self._numbered(b"[%d,%b" % (number, array[2]), int(array[3] or t_ns // 1_000_000))

    def _numbered(self, start: bytes, time_ms: int) -> bytes:
        """An array with what the flags ask for; every array of the connection counts."""
        self._sequence += 1
        if self._flags & SEQUENCE:
            start += b",%d" % self._sequence
        if self._flags & TIMESTAMP:
            start += b",%d" % time_ms
        return start + b"]"

    def _subscribe(self, request: dict[str, Any]) -> dict[str, Any] | None:
        asked: dict[str, str | int] = {
            name: value for name, value in request.items() if name != "event" and isinstance(value, str | int)
        }
        channel = asked.get("channel")
        if channel == "book":
            asked = {"prec": "P0", "freq": "F0", "len": "25", **asked}
        stream = stream_of(asked)
        pair = {"pair": stream.symbol[1:]} if stream.symbol and "symbol" in asked else {}
        refusal: tuple[str, int] | None = None
        if channel not in _CHANNELS:
            refusal = ("channel: unknown", 10300)
        elif stream.symbol and stream.symbol not in self.known.symbols:
            # Nothing is said of an unknown status.
            if channel == "status":
                return None
            refusal = ("symbol: invalid", 10300)
        elif not stream.symbol and channel != "status":
            refusal = ("symbol: invalid", 10300)
        elif channel == "book" and asked["prec"] not in _PRECISIONS:
            refusal = ("precision: invalid", 10300)
        elif stream in self.streams:
            refusal = ("subscribe: dup", 10301)
        elif len(self.streams) >= _MAX_CHANNELS:
            refusal = ("subscribe: limit", 10305)
        if refusal:
            return {**asked, "event": "error", "msg": refusal[0], "code": refusal[1], **pair}
        number = self.streams[stream] = self._number(stream)
        order = ("symbol", "key", "prec", "freq", "len", "subId")
        options = {name: asked[name] for name in order if name in asked}
        return {"event": "subscribed", "channel": channel, "chanId": number, **options, **pair}

    def _unsubscribe(self, number: Any) -> dict[str, Any]:
        left = {stream: own for stream, own in self.streams.items() if own != number}
        if len(left) == len(self.streams):
            return {"event": "error", "msg": "unsubscribe: invalid", "code": 10400, "chanId": number}
        self.streams = left
        return {"event": "unsubscribed", "status": "OK", "chanId": number}

    def _number(self, stream: Stream) -> int:
        """The recorded one, unless another connection's channel had it too."""
        used = set(self.streams.values())
        recorded = self.known.numbers.get(stream)
        if recorded is not None and recorded not in used:
            return recorded
        used.update(self.known.numbers.values())
        return next(number for number in self._numbers if number not in used)


def stream_of(asked: dict[str, Any]) -> Stream:
    """What a subscription (or the event that grants it) means."""
    channel, symbol, key = str(asked.get("channel")), asked.get("symbol"), asked.get("key")
    if isinstance(symbol, str):
        return Stream(f"book {asked.get('prec')}" if channel == "book" else channel, symbol)
    if isinstance(key, str):
        # deriv:tBTCF0:USTF0, trade:1m:tBTCUSD, liq:global
        kind, _, symbol = key.partition(":t")
        return Stream(f"{channel} {kind}", f"t{symbol}" if symbol else "")
    return Stream(channel)


def _book_of(checksums: Stream) -> Stream:
    return Stream(checksums.channel.replace("cs", "book", 1), checksums.symbol)


class _Reader:
    """Reads one recorded connection, on which channels were numbered as its events say."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = frames
        self._events = [read_as(_events, frame) if frame.startswith(b"{") else None for frame in frames]
        self._channels: dict[int, Stream] = {}
        #: Books that were granted and whose snapshot has not come yet.
        self._awaited: set[int] = set()
        self._flags = 0

    def recorded(self) -> list[Recorded]:
        # A heartbeat may come before the event that says what its channel is.
        for event in self._events:
            if event is not None and event.get("event") == "subscribed" and isinstance(event.get("chanId"), int):
                self._channels.setdefault(event["chanId"], stream_of(event))
        return [
            self._array(frame) if event is None else self._event(frame, event)
            for frame, event in zip(self._frames, self._events, strict=True)
        ]

    def _event(self, frame: bytes, event: dict[str, Any]) -> Recorded:
        match event:
            case {"event": "conf", "flags": int(flags)}:
                self._flags = flags
            case {"event": "subscribed", "chanId": int(number)}:
                stream = self._channels[number] = stream_of(event)
                self._awaited.add(number)
                return Recorded(frame, stream, "unplayed", number)
        return Recorded(frame, state="unplayed")

    def _array(self, frame: bytes) -> Recorded:
        array = _ARRAY.fullmatch(frame)
        if array is None:
            return Recorded(frame)
        number, body, time = int(array[1]), array[2], array[3]
        stream = self._channels.get(number)
        if stream is None:
            return Recorded(frame, state="unplayed")
        if self._flags & SEQUENCE:
            body = body.rpartition(b",")[0]
        frame = b"[%d,%b%b]" % (number, body, b"," + time if time else b"")
        if body == b'"hb"' or not stream.channel.startswith("book "):
            return Recorded(frame, stream)
        if body.startswith(b'"cs"'):
            return Recorded(frame, Stream(stream.channel.replace("book", "cs", 1), stream.symbol))
        state: State = "snapshot" if number in self._awaited else "change"
        self._awaited.discard(number)
        return Recorded(frame, stream, state)
