"""What the server side of an exchange's protocol is: one client's subscriptions and the answers it gets.

A session is pure: the server feeds it what the client sent and asks which frames belong to the client. The same
code reads a recording, where it tells what the recorded client had subscribed to and what each frame is about.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, NamedTuple

import msgspec

#: Streams one connection may have; Binance's documented limit.
MAX_STREAMS: Final = 1024

#: What `parsed` gives for a text that is no JSON.
NOT_JSON: Final = object()

#: A `snapshot` begins a stream of `change`s that mean nothing without it; an `event` stands for itself. An `unplayed`
#: frame was meant for the recorded client alone: an answer, a test it asked for, or a notice of the exchange, which
#: would send the clients of a replay away to begin again, and again.
State = Literal["event", "snapshot", "change", "unplayed"]


class UnknownTarget(ValueError):
    """The exchange has nothing at that path."""


class HangUp(Exception):
    """The exchange ends the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Stream(NamedTuple):
    """What can be subscribed to; `symbol` is empty for a channel that is not about single symbols."""

    channel: str
    symbol: str = ""


#: Stream of a frame that is about the connection: it goes to whoever has a stream of that connection.
EVERYBODY: Final = Stream("")


class Recorded(NamedTuple):
    """What a frame of a recording is; `number` is what the recorded exchange called the stream."""

    frame: bytes
    stream: Stream = EVERYBODY
    state: State = "event"
    number: int | None = None


class _Everything:
    def __contains__(self, symbol: object) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Known:
    """What an exchange has: its symbols, and the numbers it gives to streams where it numbers them."""

    symbols: Container[str] = _Everything()
    numbers: Mapping[Stream, int] = field(default_factory=dict)


class Session(ABC):
    """One client's conversation with one exchange."""

    #: Body of a REST 404.
    not_found: ClassVar[bytes] = b"{}"
    #: Beats come in steady intervals; without it, only after that long without a frame.
    beats_always: ClassVar[bool] = False

    def __init__(self, target: str, known: Known | None = None) -> None:
        """`target` is path and query of the request; other symbols than `known` ones are refused where the exchange
        does so. Raises `UnknownTarget`."""
        if not self.serves(target):
            raise UnknownTarget(f"there is nothing at {target.partition('?')[0]}")
        self.known = known or Known()
        #: What the client is subscribed to, in the order it asked, and what it calls each.
        self.streams: dict[Stream, Any] = {}

    @classmethod
    @abstractmethod
    def serves(cls, target: str) -> bool:
        """Whether the protocol is spoken at that path."""

    @classmethod
    @abstractmethod
    def read(cls, target: str, frames: Sequence[bytes]) -> list[Recorded]:
        """What the frames of one recorded connection to `target` are, in order."""

    @classmethod
    def endpoint(cls, target: str) -> str:
        """The path an endpoint setting needs to lead to what was recorded at `target`."""
        return target.partition("?")[0].rstrip("/")

    @abstractmethod
    def answer(self, request: Any, message: str | bytes, t_ns: int) -> list[bytes]:
        """Answers to a message whose JSON is `request` (`NOT_JSON` without); applies what it asks for."""

    @property
    def symbols(self) -> set[str]:
        """Exchange-native names the client is subscribed to now."""
        return {stream.symbol for stream in self.streams if stream.symbol}

    @property
    def beat_s(self) -> float | None:
        """Seconds until `beat` has to be asked; None for never."""
        return None

    def beat(self, t_ns: int = 0) -> list[bytes]:
        """What the exchange sends of itself to show that it lives. Raises `HangUp` when it has enough of the client."""
        return []

    def greeting(self) -> list[bytes]:
        """What the exchange says first."""
        return []

    def receive(self, message: str | bytes, t_ns: int = 0) -> list[bytes]:
        """Apply a client's message at the recorded time `t_ns` and return the answers. Never raises for what the
        message holds."""
        return self.answer(parsed(message), message, t_ns)

    def wants(self, stream: Stream) -> bool:
        """Whether frames of this stream belong to the subscriptions."""
        return stream in self.streams

    @property
    def form(self) -> Hashable:
        """What `outgoing` depends on besides the frames: where it is the same on two connections, they get the same
        bytes. None where each frame depends on what this connection got before."""
        return () if type(self).outgoing is Session.outgoing else None

    def outgoing(self, frames: list[bytes], streams: Iterable[Stream], times: Iterable[int]) -> list[bytes]:
        """Frames of these streams and recorded times (ns) in the form this connection gets them. Every frame passes
        here once, in the order in which they are sent."""
        return frames


def parsed(text: str | bytes) -> Any:
    """The JSON value, or `NOT_JSON`."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOT_JSON


def read_as[T](decoder: "msgspec.json.Decoder[T]", text: bytes | msgspec.Raw) -> T | None:
    """The value, or None for a text that is something else."""
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def words(value: Any) -> list[str] | None:
    """A list of texts as such, anything else as None."""
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None
