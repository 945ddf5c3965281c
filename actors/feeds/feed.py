"""What every feed is: a pure translation between one exchange's frames and Arrow batches.

A feed is the protocol side of one connection: it knows what was asked for and what was granted there, and what
numbers of the connection came last. It holds no socket and reads no clock.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, Protocol

import pyarrow as pa

from actors.feeds.columns import Times
from actors.feeds.events import NO_MERGED, Events

Channel = Literal["trades", "quotes", "book", "derivatives", "liquidations"]
ALL_CHANNELS: frozenset[Channel] = frozenset(("trades", "quotes", "book", "derivatives", "liquidations"))

#: A reason may quote what was sent, which may be long.
LONGEST_REASON: Final = 200

#: How a hole in a book's messages shows. `previous`: each names the message before it. `range`: each begins one
#: after the end of the one before. `next`: each is one more than the one before. `none`: the sequences of single
#: messages say nothing (a checksum may, or the connection's own numbers, which the feed itself watches).
Chain = Literal["previous", "range", "next", "none"]

#: How the exchange makes the checksum of a book, if it does; see `actors.aggregation.books`.
Checksum = Literal["kraken", "okx", "bitfinex", "none"]

#: Something is going to happen or has ended: the exchange asks us to connect again, will not serve for a while, or
#: serves again.
Notice = Literal["reconnect", "maintenance", "resumed"]


#: How it is known that no trade is missing. `ids`: they count up by one for each symbol. `numbered`: the frames of a
#: connection do. `recent`: only a comparison with recent trades over REST tells. `none`: nothing does.
Proof = Literal["ids", "numbered", "recent", "none"]


@dataclass(frozen=True, slots=True)
class BookRules:
    """What a book of this exchange is checked by. `depth` cuts each side after every message (None: never)."""

    chain: Chain
    checksum: Checksum
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the exchange allows and expects of one client, from its documentation."""

    #: Symbols of one connection with all channels on, and of one subscribe message.
    symbols_per_connection: int
    symbols_per_message: int
    messages_per_second: float
    connects_per_minute: float
    #: The weight of REST requests the exchange allows in a minute.
    rest_weight_per_minute: int
    #: Without any frame for this long the connection is dead; without an answer for that long a request is.
    silence_s: float
    answer_s: float
    #: Send `Feed.ping` this often; None where WebSocket pings do.
    ping_s: float | None = None
    #: The exchange ends connections after this long; None where it does not.
    lifetime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    key: str
    #: Not in any log or traceback.
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A GET below the exchange's REST address; `path` has its query."""

    path: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the exchange refused, in its words; `symbols` is empty where it is not about single symbols."""

    symbols: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class RejectedFrame:
    """A frame (or one event of it) that could not be used, and why."""

    frame: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Hole:
    """Trades of these symbols may be missing, and no id will tell."""

    symbols: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a list of frames said. Rows keep the order of the frames."""

    #: Live trades, `storage.schema.TRADES`.
    trades: pa.RecordBatch
    #: Best bid/ask, `storage.schema.QUOTES`.
    quotes: pa.RecordBatch
    #: Trades from before the subscription, `storage.schema.TRADES`: evidence for gaps, in no file and no bar.
    history: pa.RecordBatch
    #: `storage.schema.BOOK_MESSAGES`, `DERIVATIVES` and `LIQUIDATIONS`.
    books: pa.RecordBatch
    derivatives: pa.RecordBatch
    liquidations: pa.RecordBatch
    #: Symbols that became complete: everything asked for them is granted. And what was refused.
    subscribed: frozenset[str]
    refused: tuple[Refusal, ...]
    #: What to send back at once.
    replies: tuple[bytes, ...]
    notices: tuple[Notice, ...]
    rejected: tuple[RejectedFrame, ...]
    #: Frames that are understood and carry nothing we store (heartbeats, acknowledgements, other channels).
    ignored: int
    #: Which of the trades (live and from before) stand for several of the exchange, `storage.schema.MERGED`.
    merged: pa.RecordBatch = field(default_factory=lambda: NO_MERGED)
    holes: tuple[Hole, ...] = ()


def decoded(
    events: Events,
    frames: Sequence[bytes],
    *,
    subscribed: frozenset[str] = frozenset(),
    refused: Sequence[Refusal] = (),
    replies: Sequence[bytes] = (),
    notices: Sequence[Notice] = (),
    ignored: int = 0,
    trades_of: Callable[[bytes], Iterable[str] | None] | None = None,
    holes: Sequence[Hole] = (),
) -> Decoded:
    """The events as batches, with the rest of what the frames said. `trades_of` names the symbols whose trades a frame
    that cannot be used may have held (None: any); without it ids will show what is missing."""
    batches = {
        "trades": events.trade_batch(),
        "quotes": events.quote_batch(),
        "history": events.history_batch(),
        "books": events.book_batch(),
        "derivatives": events.derivative_batch(),
        "liquidations": events.liquidation_batch(),
    }
    return Decoded(
        **batches,
        subscribed=subscribed,
        refused=tuple(refused),
        replies=tuple(replies),
        notices=tuple(notices),
        # Only now are all reasons known.
        rejected=tuple(RejectedFrame(frames[at], events.reasons[at][:LONGEST_REASON]) for at in sorted(events.reasons)),
        ignored=ignored,
        merged=events.merged_batch(),
        holes=(*holes, *(_holes(events, frames, trades_of) if trades_of and events.reasons else ())),
    )


def _holes(events: Events, frames: Sequence[bytes], trades_of: Callable[[bytes], Iterable[str] | None]) -> list[Hole]:
    """One for each reason; a symbol has the first of its reasons, however many of its frames are unusable."""
    active = frozenset(events.symbols.active)
    reasons: dict[str, str] = {}
    for at in sorted(events.reasons):
        if len(reasons) == len(active):
            break
        symbols = trades_of(frames[at])
        for symbol in active if symbols is None else active.intersection(symbols):
            reasons.setdefault(symbol, events.reasons[at][:LONGEST_REASON])
    return [
        Hole(frozenset(symbol for symbol, its in reasons.items() if its == reason), f"a frame was unusable: {reason}")
        for reason in dict.fromkeys(reasons.values())
    ]


class Feed(Protocol):
    """One exchange's wire protocol on one connection."""

    exchange: ClassVar[str]
    #: Host names this exchange has used, to recognise its recordings.
    hosts: ClassVar[frozenset[str]]
    limits: ClassVar[Limits]

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        """`endpoint` is the WebSocket address of the settings; where an exchange has spoken several versions, its
        path says which. `symbols` is what will be subscribed first and must be one of `groups`."""

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        """The symbols, one group for each connection the limits ask for. ValueError, in one line for the user, for
        a symbol this exchange cannot have."""

    @property
    def url(self) -> str:
        """The address to connect to."""

    @property
    def book_rules(self) -> BookRules: ...

    @property
    def proof(self) -> Proof: ...

    def greet(self) -> list[bytes]:
        """What to send first on every connection."""

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """The messages that subscribe to all channels of these symbols, in pieces within the limits; symbols may be
        new. Called with all symbols after connecting, and at run time with further ones."""

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        """The messages that end these symbols; what still comes of them is left out without a word."""

    def renew_book(self, symbol: str) -> list[bytes]:
        """The messages that bring a new snapshot of one book; empty where `snapshot_request` does."""

    def ping(self) -> bytes | None:
        """What to send every `limits.ping_s`."""

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        """The request that brings a snapshot of one book; None where a subscription does."""

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        """The answer as `storage.schema.BOOK_MESSAGES` (one row); ValueError with the reason when it is none."""

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        """The requests that together list what these symbols can be."""

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        """The answers, in order, as `storage.schema.INSTRUMENTS`; ValueError with the reason when unreadable."""

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        """Translate frames received at `ts_recv` (int64 ns, same length) in this order.

        Never raises for what a frame holds: what cannot be used is in `rejected` with the reason, and when it was
        about a book, that book gets a `BROKEN` row in its place.
        """
