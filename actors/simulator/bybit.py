"""Bybit v5 as its clients see it: topics of one category, which the address names.

Forms and texts follow https://bybit-exchange.github.io/docs/v5/ws/connect. A request with one topic that does not
exist is refused as a whole, as the exchange does. A symbol is named with its category: the same name means something
else in each.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.session import NOT_JSON, Known, Recorded, Session, State, Stream, read_as, words

_CATEGORIES: Final = ("spot", "linear", "inverse", "option")
_KINDS: Final = ("orderbook", "publicTrade", "tickers", "kline", "allLiquidation", "liquidation")
#: Topics that begin with everything and go on with what changed.
_WITH_CHANGES: Final = ("orderbook", "tickers")
_MAX_SPOT_TOPICS: Final = 10


class _Frame(msgspec.Struct, gc=False):
    topic: str | None = None
    type: str | None = None


_frames: Final = msgspec.json.Decoder(_Frame)


class BybitSession(Session):
    """See `Session`."""

    not_found: ClassVar[bytes] = b'{"retCode":10001,"retMsg":"This is not in the recording.","result":{}}'

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        self._category = _category(target)

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.startswith("/v5/public/") and _category(target) in _CATEGORIES

    @classmethod
    def endpoint(cls, target: str) -> str:
        return ""

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        category = _category(target)
        return [_recorded(frame, category) for frame in frames]

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        if request is NOT_JSON or not isinstance(request, dict):
            return [msgspec.json.encode({"success": False, "ret_msg": "Json parse error", "conn_id": "1", "op": ""})]
        operation = request.get("op")
        req_id = {"req_id": request["req_id"]} if isinstance(request.get("req_id"), str) else {}
        said = {"conn_id": "1", **req_id, "op": operation}
        if operation == "ping":
            return [msgspec.json.encode({"success": True, "ret_msg": "pong", **said})]
        topics = words(request.get("args"))
        if operation not in ("subscribe", "unsubscribe") or topics is None:
            return [msgspec.json.encode({"success": False, "ret_msg": "Params Error", **said})]
        refusal = self._refusal(topics)
        if refusal:
            return [msgspec.json.encode({"success": False, "ret_msg": refusal, **said})]
        streams = [stream_of(topic, self._category) for topic in topics]
        if operation == "subscribe":
            self.streams |= dict.fromkeys(streams)
        else:
            self.streams = {stream: None for stream in self.streams if stream not in streams}
        done = operation if self._category == "spot" else ""
        return [msgspec.json.encode({"success": True, "ret_msg": done, **said})]

    def _refusal(self, topics: list[str]) -> str:
        spot = self._category == "spot"
        if spot and len(topics) > _MAX_SPOT_TOPICS:
            return "args size >10"
        unknown = [topic for topic in topics if not self._exists(topic)]
        if not unknown:
            return ""
        return f"Invalid symbol :[{','.join(unknown)}]" if spot else f"error:handler not found,topic:{unknown[0]}"

    def _exists(self, topic: str) -> bool:
        stream = stream_of(topic, self._category)
        return topic.split(".")[0] in _KINDS and bool(stream.symbol) and stream.symbol in self.known.symbols


def stream_of(topic: str, category: str) -> Stream:
    """What a topic such as orderbook.50.BTCUSDT means in a category."""
    kind, dot, symbol = topic.rpartition(".")
    return Stream(f"{category} {kind}", f"{category}:{symbol}") if dot else Stream(f"{category} {topic}")


def _category(target: str) -> str:
    return target.partition("?")[0].rstrip("/").rpartition("/")[2]


def _recorded(frame: bytes, category: str) -> Recorded:
    content = read_as(_frames, frame)
    if content is None:
        return Recorded(frame)
    if content.topic is None:
        return Recorded(frame, state="unplayed")
    state: State = "event"
    if content.topic.split(".")[0] in _WITH_CHANGES:
        state = "snapshot" if content.type == "snapshot" else "change"
    return Recorded(frame, stream_of(content.topic, category), state)
