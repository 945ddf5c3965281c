"""Coinbase Exchange as its clients see it: channels of products, asked for by subscribe messages.

Forms and texts follow the "WebSocket Overview" of Coinbase Exchange
(https://docs.cdp.coinbase.com/exchange/docs/websocket-overview) and the recorded answers.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.dialects.times import iso_microseconds
from actors.simulator.session import NOT_JSON, HangUp, Known, Recorded, Session, State, Stream, read_as

_BOOKS: Final = ("level2", "level2_batch", "level2_50")

#: What a message type is recorded as, and the channels it is sent on.
_KINDS: Final[dict[str, tuple[str, State, tuple[str, ...]]]] = {
    "match": ("match", "event", ("matches", "full")),
    "last_match": ("last_match", "event", ("matches",)),
    "ticker": ("ticker", "event", ("ticker",)),
    "heartbeat": ("heartbeat", "event", ("heartbeat",)),
    "snapshot": ("level2", "snapshot", _BOOKS),
    "l2update": ("level2", "change", _BOOKS),
    "received": ("received", "event", ("full",)),
    "open": ("open", "event", ("full",)),
    "done": ("done", "event", ("full",)),
    "change": ("change", "event", ("full",)),
    "activate": ("activate", "event", ("full",)),
    "status": ("status", "event", ("status",)),
}
_CHANNELS_OF: Final = {kind: channels for kind, _, channels in _KINDS.values()}
_CHANNELS: Final = frozenset(name for names in _CHANNELS_OF.values() for name in names)
_ANSWERS: Final = ("subscriptions", "error")
_HEARTBEAT: Final = "heartbeat"
_HEARTBEAT_S: Final = 1.0
_MATCHES: Final = ("match", "last_match", "matches")
_TRADE_ID: Final = re.compile(rb'"trade_id":(\d{1,19})')
_POLICY_VIOLATION: Final = 1008


class _Frame(msgspec.Struct, gc=False):
    type: Any = None
    product_id: Any = None


class _Refused(Exception):
    """Why a message of a client cannot be followed."""


_frames: Final = msgspec.json.Decoder(_Frame)
_objects: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.encode


class CoinbaseSession(Session):
    """See `Session`. Its streams are channels; frames are matched by what their type is sent on.

    A live market gives one heartbeat of a product, as it is subscribed; the others are made here, with the id of the
    last match that went to this client. A recording has all of them.
    """

    beats_always: ClassVar[bool] = True
    not_found: ClassVar[bytes] = b'{"message":"NotFound"}'
    #: The exchange hangs up on a client that subscribes to nothing for this long.
    subscribe_within_s: ClassVar[float] = 5.0

    def __init__(self, target: str, known: Known | None = None) -> None:
        super().__init__(target, known)
        #: Products of each channel, in the order they were asked for.
        self.channels: dict[str, dict[str, None]] = {}
        #: Heartbeats of each product since it was subscribed, and its newest match.
        self._heartbeats: dict[str, list[bytes]] = {}
        self._matches: dict[str, bytes] = {}

    @classmethod
    def serves(cls, target: str) -> bool:
        return target.partition("?")[0] in ("", "/")

    @classmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        return [_recorded(frame) for frame in frames]

    @property
    def beat_s(self) -> float | None:
        if not self.channels:
            return self.subscribe_within_s
        return _HEARTBEAT_S if _HEARTBEAT in self.channels else None

    def beat(self, t_ns: int = 0) -> list[bytes]:
        if not self.channels:
            raise HangUp(_POLICY_VIOLATION, f"no subscription within {self.subscribe_within_s:g} s")
        return [
            _heartbeat(had[0], self._matches.get(product, b""), t_ns)
            for product, had in self._heartbeats.items()
            if len(had) == 1 and Stream(_HEARTBEAT, product) in self.streams
        ]

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        products = self.channels.get(_HEARTBEAT)
        if products:
            for frame, (channel, product) in zip(frames, streams, strict=False):
                if channel in _MATCHES and product in products:
                    self._matches[product] = frame
                elif channel == _HEARTBEAT and len(had := self._heartbeats.setdefault(product, [])) < 2:
                    had.append(frame)
        return frames

    def wants(self, stream: Stream) -> bool:
        return any(
            Stream(channel, stream.symbol) in self.streams if stream.symbol else channel in self.channels
            for channel in _CHANNELS_OF.get(stream.channel, ())
        )

    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        if request is NOT_JSON:
            return [_encode({"type": "error", "message": "Malformed JSON"})]
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            reason = "Type has to be either subscribe or unsubscribe"
            return [_encode({"type": "error", "message": "Malformed message", "reason": reason})]
        try:
            asked = self._channels_of(request, need_products=kind == "subscribe")
            if kind == "subscribe":
                self.channels = {n: self.channels.get(n, {}) | asked.get(n, {}) for n in self.channels | asked}
            else:
                self.channels = self._without(asked)
        except _Refused as refused:
            return [_encode({"type": "error", "message": f"Failed to {kind}", "reason": str(refused)})]
        products = self.channels.get(_HEARTBEAT, {})
        self._heartbeats = {product: had for product, had in self._heartbeats.items() if product in products}
        self.streams = {Stream(name, one): None for name, products in self.channels.items() for one in products or [""]}
        channels = [{"name": name, "product_ids": list(products)} for name, products in self.channels.items()]
        return [_encode({"type": "subscriptions", "channels": channels})]

    def _channels_of(self, request: dict[str, Any], need_products: bool) -> dict[str, dict[str, None]]:
        """The channels a message names with their products: those of the message and of the channel together."""
        shared = self._products(request.get("product_ids", []))
        channels = request.get("channels")
        if not isinstance(channels, list) or not channels:
            raise _Refused("No channels provided")
        asked: dict[str, dict[str, None]] = {}
        for channel in channels:
            name, own = channel, {}
            if isinstance(channel, dict):
                name, own = channel.get("name"), self._products(channel.get("product_ids", []))
            if not isinstance(name, str) or name not in _CHANNELS:
                raise _Refused(f"{name} is not a valid channel")
            products = asked.setdefault(name, {})
            products |= shared | own
            if need_products and not products and name != "status":
                raise _Refused("No product_ids provided")
        return asked

    def _products(self, names: Any) -> dict[str, None]:
        if not isinstance(names, list):
            raise _Refused("product_ids must be an array")
        for name in names:
            if not isinstance(name, str) or name not in self.known.symbols:
                raise _Refused(f"{name} is not a valid product")
        return dict.fromkeys(names)

    def _without(self, asked: dict[str, dict[str, None]]) -> dict[str, dict[str, None]]:
        """Naming no product gives up the whole channel."""
        left = {
            name: {product: None for product in products if asked.get(name) and product not in asked[name]}
            if name in asked
            else products
            for name, products in self.channels.items()
        }
        return {name: products for name, products in left.items() if products or name not in asked}


def _heartbeat(first: bytes, match: bytes, t_ns: int) -> bytes:
    """The heartbeat of a product at a time, as the first one with the last match since."""
    fields = _objects.decode(first)
    if last := _TRADE_ID.search(match):
        fields["last_trade_id"] = fields["sequence"] = int(last[1])
    return _encode(fields | {"time": iso_microseconds(t_ns)})


def _recorded(frame: bytes) -> Recorded:
    content = read_as(_frames, frame)
    if content is None or not isinstance(content.type, str):
        return Recorded(frame)
    if content.type in _ANSWERS:
        return Recorded(frame, state="unplayed")
    if content.type not in _KINDS:
        return Recorded(frame)
    kind, state, _ = _KINDS[content.type]
    return Recorded(frame, Stream(kind, content.product_id if isinstance(content.product_id, str) else ""), state)
