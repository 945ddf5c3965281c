"""Coinbase Exchange as its clients see it: channels of products, asked for by subscribe messages.

Forms and texts follow the "WebSocket Overview" of Coinbase Exchange and the recorded answers.
"""

from collections.abc import Container
from typing import Any, ClassVar, Final

import msgspec

from actors.simulator.session import EVERYBODY, MAX_STREAMS, UnknownTarget

#: The channels a message type is sent on.
_CHANNELS_OF: Final = {
    "match": ("matches", "full"),
    "last_match": ("matches",),
    "ticker": ("ticker",),
    "heartbeat": ("heartbeat",),
    "snapshot": ("level2", "level2_batch", "level2_50"),
    "l2update": ("level2", "level2_batch", "level2_50"),
    "received": ("full",),
    "open": ("full",),
    "done": ("full",),
    "change": ("full",),
    "activate": ("full",),
    "status": ("status",),
}
_CHANNELS: Final = frozenset(name for names in _CHANNELS_OF.values() for name in names)
_ANSWERS: Final = ("subscriptions", "error")


class _Frame(msgspec.Struct, gc=False):
    type: Any = None
    product_id: Any = None


class _Refused(Exception):
    """Why a message of a client cannot be followed."""


_decode_frame: Final = msgspec.json.Decoder(_Frame).decode
_encode: Final = msgspec.json.encode


class CoinbaseSession:
    """See `Session`."""

    subscribe_within_s: ClassVar[float | None] = 5.0
    not_found: ClassVar[bytes] = b'{"message":"NotFound"}'

    def __init__(self, target: str, known_symbols: Container[str] | None = None) -> None:
        if target.partition("?")[0] not in ("", "/"):
            raise UnknownTarget("the feed is at /")
        self._known = known_symbols
        #: Products of each channel, in the order they were asked for.
        self.channels: dict[str, dict[str, None]] = {}

    @property
    def symbols(self) -> set[str]:
        return {product for products in self.channels.values() for product in products}

    def receive(self, message: str | bytes) -> bytes:
        try:
            request = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _encode({"type": "error", "message": "Malformed JSON"})
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in ("subscribe", "unsubscribe"):
            reason = "Type has to be either subscribe or unsubscribe"
            return _encode({"type": "error", "message": "Malformed message", "reason": reason})
        try:
            asked = self._channels_of(request, need_products=kind == "subscribe")
            self.channels = self._with(asked) if kind == "subscribe" else self._without(asked)
        except _Refused as refused:
            return _encode({"type": "error", "message": f"Failed to {kind}", "reason": str(refused)})
        channels = [{"name": name, "product_ids": list(products)} for name, products in self.channels.items()]
        return _encode({"type": "subscriptions", "channels": channels})

    def wants(self, key: str) -> bool:
        if key == EVERYBODY:
            return bool(self.channels)
        kind, _, product = key.partition(" ")
        return any(
            channel in self.channels and (not product or product in self.channels[channel])
            for channel in _CHANNELS_OF[kind]
        )

    def outgoing(self, frame: bytes) -> bytes:
        return frame

    @staticmethod
    def key(frame: bytes) -> str | None:
        try:
            content = _decode_frame(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return EVERYBODY
        if content.type in _ANSWERS:
            return None
        if not isinstance(content.type, str) or content.type not in _CHANNELS_OF:
            return EVERYBODY
        return f"{content.type} {content.product_id}" if isinstance(content.product_id, str) else content.type

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
            if not isinstance(name, str) or (self._known is not None and name not in self._known):
                raise _Refused(f"{name} is not a valid product")
        return dict.fromkeys(names)

    def _with(self, asked: dict[str, dict[str, None]]) -> dict[str, dict[str, None]]:
        wanted = {name: self.channels.get(name, {}) | asked.get(name, {}) for name in self.channels | asked}
        if sum(map(len, wanted.values())) > MAX_STREAMS:
            raise _Refused(f"more than {MAX_STREAMS} subscriptions")
        return wanted

    def _without(self, asked: dict[str, dict[str, None]]) -> dict[str, dict[str, None]]:
        """Naming no product gives up the whole channel."""
        left = {
            name: {product: None for product in products if asked.get(name) and product not in asked[name]}
            if name in asked
            else products
            for name, products in self.channels.items()
        }
        return {name: products for name, products in left.items() if products or name not in asked}
