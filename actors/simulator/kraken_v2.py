"""Kraken's WebSocket protocol version 2 as its clients see it: methods with an answer for each symbol.

Forms and texts follow https://docs.kraken.com/exchange/api-reference/spot-websocket-v2 (the pages of the channels,
ping, status and heartbeat).
"""

from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.kraken_books import DEPTHS, CutBook, Level, Sides, is_depth
from actors.simulator.session import NOT_JSON, Known, Recorded, Session, State, Stream, read_as, words

#: Its streams must not be taken for those of version 1.
_PREFIX: Final = "v2 "
_CHANNELS: Final = ("book", "instrument", "level3", "ohlc", "ticker", "trade")
_HEARTBEAT: Final = b'{"channel":"heartbeat"}'
_HEARTBEAT_S: Final = 1.0


class _Item(msgspec.Struct, gc=False):
    symbol: str = ""


class _Frame(msgspec.Struct, gc=False):
    channel: str | None = None
    type: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Book(msgspec.Struct, gc=False, omit_defaults=True):
    symbol: str
    bids: list[Level]
    asks: list[Level]
    checksum: int
    timestamp: str | None = None


class _BookFrame(msgspec.Struct, gc=False):
    channel: str
    type: str
    data: list[_Book]


_book_frames: Final = msgspec.json.Decoder(_BookFrame)
_frames: Final = msgspec.json.Decoder(_Frame)
_items: Final = msgspec.json.Decoder(list[_Item])


class KrakenV2Session(Session):
    """See `Session`. The depth of a book is not part of its stream: what was made or recorded deeper than a client
    asked for is cut for it."""

    not_found: ClassVar[bytes] = b'{"error":["EGeneral:Unknown method"]}'

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        #: Books that are cut, from their snapshot on.
        self._books: dict[Stream, CutBook | None] = {}

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.partition("?")[0].rstrip("/") == "/v2"

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return [_recorded(frame) for frame in frames]

    @property
    def beat_s(self) -> float | None:
        return _HEARTBEAT_S if self.streams else None

    def beat(self, t_ns: int = 0) -> list[bytes]:
        return [_HEARTBEAT]

    def greeting(self) -> list[bytes]:
        status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 1}
        return [msgspec.json.encode({"channel": "status", "type": "update", "data": [status]})]

    @property
    def form(self) -> Hashable:
        return None if self._books else ()

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        if not self._books:
            return frames
        return [
            self._cut(frame, stream) if stream in self._books else frame
            for frame, stream in zip(frames, streams, strict=False)
        ]

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        if request is NOT_JSON or not isinstance(request, dict):
            return [_encode(t_ns, {"error": "Malformed request", "method": "error", "success": False})]
        method, params = request.get("method"), request.get("params")
        said: dict[str, Any] = {"method": method if isinstance(method, str) else "error"}
        if type(request.get("req_id")) is int:
            said["req_id"] = request["req_id"]
        if method == "ping":
            return [_encode(t_ns, said | {"method": "pong"})]
        if method not in ("subscribe", "unsubscribe"):
            return [_encode(t_ns, said | {"error": "Method(s) not found", "success": False})]
        if not isinstance(params, dict) or params.get("channel") not in _CHANNELS:
            return [_encode(t_ns, said | {"error": "Channel field is invalid", "success": False})]
        symbols = [""] if params["channel"] == "instrument" else words(params.get("symbol"))
        if not symbols:
            return [_encode(t_ns, said | {"error": "Symbol(s) field must be an array", "success": False})]
        return [self._status(t_ns, method, said, params, symbol) for symbol in symbols]

    def _status(self, t_ns: int, method: str, said: dict[str, Any], params: dict[str, Any], symbol: str) -> bytes:
        stream = Stream(_PREFIX + params["channel"], symbol)
        result = {name: value for name, value in params.items() if name in ("channel", "depth", "interval")}
        if params["channel"] == "book":
            result.setdefault("depth", 10)
        refusal = ""
        if symbol and symbol not in self.known.symbols:
            refusal = f"Currency pair not supported {symbol}"
        elif params["channel"] == "book" and not is_depth(result["depth"]):
            refusal = "Subscription depth not supported"
        elif method == "unsubscribe" and stream not in self.streams:
            refusal = "Subscription Not Found"
        if refusal:
            return _encode(t_ns, {"error": refusal, **said, "success": False} | ({"symbol": symbol} if symbol else {}))
        if method == "subscribe":
            self.streams[stream] = result.get("depth")
            if params["channel"] == "book" and result["depth"] < DEPTHS[-1]:
                self._books[stream] = None
            result["snapshot"] = params.get("snapshot", True)
        else:
            del self.streams[stream]
            self._books.pop(stream, None)
        if symbol:
            result["symbol"] = symbol
        return _encode(t_ns, said | {"result": result, "success": True})

    def _cut(self, frame: bytes, stream: Stream) -> bytes:
        content = read_as(_book_frames, frame)
        if content is None or len(content.data) != 1:
            return frame
        (book,) = content.data
        sides, depth = Sides(book.bids, book.asks), self.streams.get(stream, DEPTHS[-1])
        if content.type == "snapshot":
            # What is no deeper than asked for has the changes it needs.
            cut = self._books[stream] = CutBook(depth, sides) if max(map(len, sides)) > depth else None
        else:
            cut = self._books[stream]
        if cut is None:
            return frame
        seen = cut.seen() if content.type == "snapshot" else cut.change(sides)
        book.bids, book.asks = list(seen.bids), list(seen.asks)
        return msgspec.json.encode(content)


def _recorded(frame: bytes) -> Recorded:
    content = read_as(_frames, frame)
    if content is None:
        return Recorded(frame)
    if content.channel is None or content.channel == "status":
        return Recorded(frame, state="unplayed")
    if content.channel == "heartbeat":
        return Recorded(frame)
    items = read_as(_items, content.data) or [_Item()]
    symbol = "" if content.channel == "instrument" else items[0].symbol
    state: State = "event"
    if content.channel in ("book", "level3", "instrument"):
        state = "snapshot" if content.type == "snapshot" else "change"
    return Recorded(frame, Stream(_PREFIX + content.channel, symbol), state)


def _encode(t_ns: int, fields: dict[str, Any]) -> bytes:
    now = datetime.fromtimestamp(t_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    time = f"{now}.{t_ns // 1000 % 1_000_000:06}Z"
    return msgspec.json.encode(fields | {"time_in": time, "time_out": time})
