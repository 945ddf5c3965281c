"""Deribit v2 as its clients see it: JSON-RPC requests and notifications of channels.

Forms and texts follow the recorded answer and https://docs.deribit.com. A channel of an unknown instrument is not in
the list of those granted, and nothing else is said about it. A channel is the same at every interval: what was
recorded, or made up, as book.X.raw goes to a client of book.X.100ms under that name. `.raw` needs no login here.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.session import NOT_JSON, HangUp, Known, Recorded, Session, State, Stream, read_as, words

_INTERVALS: Final = ("raw", "100ms", "agg2")
#: Channels about one instrument: KIND.INSTRUMENT[.GROUP.DEPTH].INTERVAL.
_OF_INSTRUMENTS: Final = ("book", "trades", "ticker", "quote", "perpetual", "incremental_ticker")
_OTHERS: Final = ("deribit_price_index", "deribit_price_ranking", "markprice", "platform_state", "instrument")
_KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo", "any")
_SHORTEST_HEARTBEAT_S: Final = 10
_TEST_REQUEST: Final = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
_CHANNEL: Final = re.compile(rb'"channel"\s*:\s*"([^"]*)"')


class _Params(msgspec.Struct, gc=False):
    channel: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Frame(msgspec.Struct, gc=False):
    method: str | None = None
    params: _Params | None = None


class _Book(msgspec.Struct, gc=False):
    type: str | None = None


_frames: Final = msgspec.json.Decoder(_Frame)
_books: Final = msgspec.json.Decoder(_Book)


class DeribitSession(Session):
    """See `Session`. Streams are called by the channel that was asked for."""

    not_found: ClassVar[bytes] = b'{"jsonrpc":"2.0","error":{"message":"Method not found","code":-32601}}'
    beats_always: ClassVar[bool] = True

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        self._heartbeat_s: float | None = None
        #: The client was asked to show that it lives.
        self._tested = False
        self._form: Hashable = ()

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.partition("?")[0].rstrip("/") == "/ws/api/v2"

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return [_recorded(frame) for frame in frames]

    @property
    def form(self) -> Hashable:
        return self._form

    @property
    def beat_s(self) -> float | None:
        return self._heartbeat_s

    def beat(self, t_ns: int = 0) -> list[bytes]:
        if self._tested:
            raise HangUp(1000, "no answer to test_request")
        self._tested = True
        return [_TEST_REQUEST]

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        return [self._named(frame, stream) for frame, stream in zip(frames, streams, strict=False)]

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        now = t_ns // 1000
        times = {"usIn": now, "usOut": now, "usDiff": 0, "testnet": False}
        said: dict[str, Any] = {"jsonrpc": "2.0"}
        if request is NOT_JSON or not isinstance(request, dict):
            code, text = (-32700, "Parse error") if request is NOT_JSON else (-32600, "Invalid Request")
            return [msgspec.json.encode(said | {"error": {"message": text, "code": code}} | times)]
        number = request.get("id")
        if isinstance(number, int | str):
            said["id"] = number
        params = request.get("params")
        outcome = self._call(request.get("method"), params if isinstance(params, dict) else {}, t_ns)
        return [msgspec.json.encode(said | outcome | times)]

    def _named(self, frame: bytes, stream: Stream) -> bytes:
        """The frame under the channel that was asked for."""
        asked, recorded = str(self.streams.get(stream, "")).encode(), _CHANNEL.search(frame)
        if not asked or recorded is None or recorded[1] == asked:
            return frame
        return frame[: recorded.start(1)] + asked + frame[recorded.end(1) :]

    def _call(self, method: Any, params: dict[str, Any], t_ns: int) -> dict[str, Any]:
        match method:
            case "public/subscribe" | "public/unsubscribe" | "private/subscribe" | "private/unsubscribe":
                channels = words(params.get("channels"))
                if channels is None:
                    return _invalid("value must be a list", "channels")
                return {"result": self._subscribe(channels) if "/sub" in method else self._unsubscribe(channels)}
            case "public/unsubscribe_all":
                self.streams.clear()
                return {"result": "ok"}
            case "public/set_heartbeat":
                interval = params.get("interval")
                if not isinstance(interval, int | float) or interval < _SHORTEST_HEARTBEAT_S:
                    return _invalid("value too small", "interval")
                self._heartbeat_s, self._tested = float(interval), False
                return {"result": "ok"}
            case "public/disable_heartbeat":
                self._heartbeat_s = None
                return {"result": "ok"}
            case "public/test":
                self._tested = False
                return {"result": {"version": "1.2.26"}}
            case "public/hello":
                return {"result": {"version": "1.2.26"}}
            case "public/get_time":
                return {"result": t_ns // 1_000_000}
            case "public/auth":
                # A recording has no accounts: whoever names himself is let in.
                if not (params.get("client_id") and (params.get("client_secret") or params.get("signature"))):
                    return {"error": {"message": "invalid_credentials", "code": 13004}}
                token = {"access_token": "1", "refresh_token": "1", "expires_in": 31536000}
                return {"result": token | {"scope": "connection mainaccount", "token_type": "bearer"}}
            case _:
                return {"error": {"message": "Method not found", "code": -32601}}

    def _subscribe(self, channels: list[str]) -> list[str]:
        granted = {stream: name for name in channels if self._exists(stream := stream_of(name))}
        self.streams |= granted
        # Those that ended are of no account, so nothing is made anew then.
        self._form = frozenset(self.streams.items())
        return list(granted.values())

    def _unsubscribe(self, channels: list[str]) -> list[str]:
        return [name for name in channels if self.streams.pop(stream_of(name), None) is not None]

    def _exists(self, stream: Stream) -> bool:
        kind = stream.channel.partition(".")[0]
        return stream.symbol in self.known.symbols if stream.symbol else kind in (*_OTHERS, "trades")


def stream_of(channel: str) -> Stream:
    """What a channel such as book.BTC-PERPETUAL.100ms means, without its interval."""
    kind, *rest = channel.split(".")
    if rest and rest[-1] in _INTERVALS:
        rest.pop()
    if kind not in _OF_INSTRUMENTS or not rest or rest[0] in _KINDS:
        return Stream(".".join((kind, *rest)))
    return Stream(".".join((kind, *rest[1:])), rest[0])


def _recorded(frame: bytes) -> Recorded:
    content = read_as(_frames, frame)
    if content is None:
        return Recorded(frame)
    if content.method != "subscription" or content.params is None or content.params.channel is None:
        return Recorded(frame, state="unplayed")
    stream = stream_of(content.params.channel)
    state: State = "event"
    # Grouped books (book.X.GROUP.DEPTH) come whole each time.
    if stream.channel == "book":
        book = read_as(_books, content.params.data)
        state = "snapshot" if book is not None and book.type == "snapshot" else "change"
    return Recorded(frame, stream, state)


def _invalid(reason: str, param: str) -> dict[str, Any]:
    return {"error": {"message": "Invalid params", "data": {"reason": reason, "param": param}, "code": -32602}}
