"""What the server side of an exchange's protocol is: one client's subscriptions and the answers it gets.

A session is pure: the server feeds it what the client sent and asks which frames belong to the client. The same
code reads a recording, where it tells what the recorded client had subscribed to.
"""

from collections.abc import Container
from typing import ClassVar, Final, Protocol

#: Key of a frame that is about the connection and not about one stream: it goes to everybody who subscribed.
EVERYBODY: Final = ""

#: Streams (channel and symbol) one connection may have; Binance's documented limit.
MAX_STREAMS: Final = 1024


class UnknownTarget(ValueError):
    """The exchange has nothing at that path."""


class Session(Protocol):
    """One client's conversation with one exchange."""

    #: Seconds after which the exchange hangs up on a client that subscribed to nothing; None where it never does.
    subscribe_within_s: ClassVar[float | None]
    #: Body of a REST 404.
    not_found: ClassVar[bytes]

    def __init__(self, target: str, known_symbols: Container[str] | None = None) -> None:
        """`target` is path and query of the request; with `known_symbols` other symbols are refused where the
        exchange does so. Raises `UnknownTarget`."""

    @property
    def symbols(self) -> set[str]:
        """Exchange-native names the client is subscribed to now."""

    def receive(self, message: str | bytes) -> bytes:
        """Apply a client's message and return the answer. Never raises for what the message holds."""

    def wants(self, key: str) -> bool:
        """Whether frames with this key belong to the subscriptions."""

    def outgoing(self, frame: bytes) -> bytes:
        """The frame in the form this connection gets it."""

    @staticmethod
    def key(frame: bytes) -> str | None:
        """What a recorded frame belongs to: a stream, `EVERYBODY`, or None for an answer, which is not replayed."""
