"""Kraken's WebSocket protocol version 1 as its clients see it: channels of pairs, an answer for each pair.

Forms and texts follow the recorded answers and https://docs.kraken.com/exchange/api-reference/spot-websocket-v1
(refusals: its subscriptionStatus page). A recorded book is served at the depth it was recorded with. A live market
speaks version 2, of which frames are made as this version has them; its symbols have this version's names.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.kraken_books import is_depth
from actors.simulator.kraken_v1_frames import FirstFrames, status_of
from actors.simulator.session import EVERYBODY, NOT_JSON, Known, Recorded, Session, Stream, read_as, words

#: Of version 2, which a live market speaks.
_SECOND: Final = "v2 "
_SECOND_FRAME: Final = b'{"channel":'
_CHANNELS: Final = ("ticker", "trade", "spread", "ohlc", "book")
_HEARTBEAT: Final = b'{"event":"heartbeat"}'
_HEARTBEAT_S: Final = 1.0

_events: Final = msgspec.json.Decoder(dict[str, Any])
_arrays: Final = msgspec.json.Decoder(list[msgspec.Raw])
_texts: Final = msgspec.json.Decoder(str)
_numbers: Final = msgspec.json.Decoder(int)


class KrakenSession(Session):
    """See `Session`. Streams are named as in the frames (book-1000); their value is the channel's number."""

    not_found: ClassVar[bytes] = b'{"error":["EGeneral:Unknown method"]}'

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        #: Streams of version 2, and what they are here.
        self._live: dict[Stream, Stream] = {}
        self._frames = FirstFrames()

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.partition("?")[0] in ("", "/")

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return [_array(frame) if frame.startswith(b"[") else _event(frame) for frame in frames]

    @property
    def beat_s(self) -> float | None:
        return _HEARTBEAT_S if self.streams else None

    def beat(self, t_ns: int = 0) -> list[bytes]:
        return [_HEARTBEAT]

    def greeting(self) -> list[bytes]:
        return [_encode(connectionID=1, event="systemStatus", status="online", version="1.8.3")]

    def wants(self, stream: Stream) -> bool:
        return stream in self.streams or self._live.get(stream) in self.streams

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        if not any(frame.startswith(_SECOND_FRAME) for frame in frames):
            return frames
        formed = (self._formed(*one) for one in zip(frames, streams, times, strict=False))
        return [frame for frame in formed if frame is not None]

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        if request is NOT_JSON or not isinstance(request, dict):
            return [_encode(errorMessage="Malformed request", event="error")]
        event, pairs = request.get("event"), words(request.get("pair"))
        subscription, reqid = request.get("subscription"), request.get("reqid")
        identified = {"reqid": reqid} if type(reqid) is int else {}
        if event == "ping":
            return [_encode(event="pong", **identified)]
        if event not in ("subscribe", "unsubscribe"):
            return [_encode(errorMessage="Unsupported event", event="error", **identified)]
        if pairs is None or not isinstance(subscription, dict):
            field = "Pair(s) field must be an array" if pairs is None else "Subscription field must be an object"
            return [_encode(errorMessage=field, event="subscriptionStatus", status="error", **identified)]
        return [self._status(event, pair, subscription, identified) for pair in pairs]

    def _formed(self, frame: bytes, stream: Stream, t_ns: int) -> bytes | None:
        """None for what the client has ended."""
        if not frame.startswith(_SECOND_FRAME):
            return frame
        if stream == EVERYBODY:
            return status_of(frame)
        own = self._live.get(stream, stream)
        return self._frames.of(frame, own, self.streams[own], t_ns) if own in self.streams else None

    def _status(self, event: str, pair: str, asked: dict[str, Any], identified: dict[str, int]) -> bytes:
        name = asked.get("name")
        subscription: dict[str, Any] = {"name": name}
        channel = str(name)
        if name == "book":
            subscription["depth"] = asked.get("depth", 10)
            channel = f"book-{subscription['depth']}"
        elif name == "ohlc":
            subscription["interval"] = asked.get("interval", 1)
            channel = f"ohlc-{subscription['interval']}"
        stream = Stream(channel, pair)
        answer = {"event": "subscriptionStatus", "pair": pair, "subscription": subscription, **identified}
        if refusal := self._refusal(event, stream, subscription):
            return _encode(errorMessage=refusal, status="error", **answer)
        number = self.streams.get(stream) or self.known.numbers.get(stream) or zlib.crc32("".join(stream).encode())
        if event == "subscribe":
            self.streams[stream] = number
            self._live[Stream(_SECOND + str(name), pair)] = stream
        else:
            del self.streams[stream]
        return _encode(channelID=number, channelName=channel, status=f"{event}d", **answer)

    def _refusal(self, event: str, stream: Stream, subscription: dict[str, Any]) -> str:
        if subscription["name"] not in _CHANNELS:
            return "Subscription name invalid"
        if stream.symbol not in self.known.symbols:
            return f"Currency pair not supported {stream.symbol}"
        if event == "unsubscribe":
            return "" if stream in self.streams else "Subscription Not Found"
        if subscription["name"] == "book":
            recorded = {known.channel for known in self.known.numbers if known.symbol == stream.symbol}
            recorded = {channel for channel in recorded if channel.startswith("book-")}
            if not is_depth(subscription["depth"]) or (recorded and stream.channel not in recorded):
                return "Subscription depth not supported"
        return ""


def _event(frame: bytes) -> Recorded:
    content = read_as(_events, frame)
    if content is None:
        return Recorded(frame)
    channel, pair, number = content.get("channelName"), content.get("pair"), content.get("channelID")
    if content.get("event") == "heartbeat":
        return Recorded(frame)
    if isinstance(channel, str) and isinstance(pair, str) and isinstance(number, int):
        return Recorded(frame, Stream(channel, pair), "unplayed", number)
    return Recorded(frame, state="unplayed")


def _array(frame: bytes) -> Recorded:
    """[channelID, payload, ..., channelName, pair]"""
    parts = read_as(_arrays, frame) or []
    if len(parts) < 4:
        return Recorded(frame)
    number, channel, pair = read_as(_numbers, parts[0]), read_as(_texts, parts[-2]), read_as(_texts, parts[-1])
    if channel is None or pair is None:
        return Recorded(frame)
    stream = Stream(channel, pair)
    if not channel.startswith("book-"):
        return Recorded(frame, stream, number=number)
    begins = bytes(parts[1]).startswith((b'{"as"', b'{"bs"'))
    return Recorded(frame, stream, "snapshot" if begins else "change", number)


def _encode(**fields: Any) -> bytes:
    """Kraken's keys are in alphabetical order."""
    return msgspec.json.encode(fields, order="sorted")
