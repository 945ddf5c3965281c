"""How one exchange writes the made-up market: its frames, what a new subscriber gets first, and its REST answers.

A dialect is pure. The market (`actors.simulator.market`) says what happens in ticks and units, the dialect turns that
into the exchange's bytes, and the session of the exchange (`actors.simulator.session`) says which of them a client
gets and in which form. `ExchangeServer` owns the sockets.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.simulator.session import Stream


@dataclass(frozen=True, slots=True)
class Listing:
    """How a symbol trades: its usual price, the steps of price and size (10**-decimals each), a usual size. `size`
    of a contract is in the exchange's own unit."""

    symbol: str
    base: str
    quote: str
    price: float
    price_decimals: int
    size: float
    size_decimals: int
    kind: Literal["spot", "perpetual"] = "spot"


class Levels(NamedTuple):
    """Both sides of a book, best first, each level as (price in ticks, size in units)."""

    bids: Sequence[tuple[int, int]]
    asks: Sequence[tuple[int, int]]


class Book(Protocol):
    """A book of `listing` as it stands after the change `number` (counted from 1, without holes, for each symbol)."""

    @property
    def t_ns(self) -> int: ...

    @property
    def number(self) -> int: ...

    #: Counts single updates, several to a change: what exchanges that number updates call the last one.
    @property
    def update_id(self) -> int: ...

    def levels(self, depth: int) -> Levels: ...


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a book: the levels that are new, have another size, or are gone (size 0), by rising price.

    A level that fell out of the `depth` best without being gone is not in it, one that came in is: a client that cuts
    its book to the depth after each change has the exchange's. Where clients do not cut (`Dialect.cuts` False), the
    exchange's book ends at the depth: what fell out of it is gone and in here.
    """

    before: Book
    after: Book
    levels: Levels


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades of one symbol, in order: int64 ns, the ids the feed decodes, ticks, units, `side` the taker's (0 buy)."""

    t_ns: NDArray[np.int64]
    ids: NDArray[np.int64]
    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]
    sides: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True)
class Quotes:
    """Best bid and ask of one symbol after single updates, with the last trade before each; ticks and units."""

    t_ns: NDArray[np.int64]
    update_ids: NDArray[np.int64]
    bids: NDArray[np.int64]
    bid_sizes: NDArray[np.int64]
    asks: NDArray[np.int64]
    ask_sizes: NDArray[np.int64]
    last_ids: NDArray[np.int64]
    last_prices: NDArray[np.int64]
    last_sizes: NDArray[np.int64]
    last_sides: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True)
class Mark:
    """What an exchange says of a derivative now and then; rates are fractions."""

    t_ns: int
    mark_price: float
    index_price: float
    open_interest: float
    funding_rate: float
    next_funding_ns: int


class View(Protocol):
    """The exchange as it is now, for REST and for whoever subscribes."""

    @property
    def listings(self) -> Mapping[str, Listing]:
        """By symbol; delisted ones are no longer here."""

    @property
    def now_ns(self) -> int: ...

    def book(self, symbol: str) -> Book: ...

    def quote(self, symbol: str) -> Quotes:
        """The newest (one row)."""

    def mark(self, symbol: str) -> Mark: ...

    def newest(self, symbol: str, limit: int) -> Trades:
        """The newest trades, oldest first."""

    def by_id(self, symbol: str, first: int, last: int, limit: int, newest: bool = False) -> Trades:
        """Trades with first <= id <= last, oldest first: the first `limit` of them, or the last with `newest`."""

    def by_time(self, symbol: str, from_ns: int, to_ns: int, limit: int, newest: bool = False) -> Trades:
        """The same for from_ns <= t_ns <= to_ns."""


class Reply(NamedTuple):
    """An answer over REST."""

    body: bytes
    status: int = 200
    #: Further headers.
    headers: Mapping[str, str] = {}


#: What a frame is about: which of the streams of its symbol it belongs to.
Kind = Literal["trades", "quotes", "book", "derivatives"]


@dataclass(slots=True)
class Dialect(ABC):
    """The exchange with these listings. Keeps no state that frames depend on besides `Change.before`."""

    listings: Mapping[str, Listing] = field(default_factory=dict)

    exchange: ClassVar[str]
    #: Levels of each side of its books: what our feed subscribes to.
    depth: ClassVar[int]
    #: Clients cut their books to the depth after each change (see `Change`).
    cuts: ClassVar[bool] = True
    #: Trades happen at multiples of this (ns): as fine as the exchange writes times, live and over REST.
    resolution_ns: ClassVar[int] = 1_000_000
    #: Path that an endpoint setting needs ("/ws/2").
    path: ClassVar[str] = ""
    #: Trade ids count up by one for each symbol, or over all symbols of the exchange together.
    ids: ClassVar[Literal["symbol", "exchange"]] = "symbol"
    #: Weight of REST requests in a minute, after which 429 is answered; as the exchange documents it.
    weight_per_minute: ClassVar[int]
    #: Header of every REST answer that says how much of it is used; empty where there is none.
    weight_header: ClassVar[str] = ""
    #: What a REST request gets that costs more than is left.
    overrun: ClassVar[bytes] = b"{}"

    @classmethod
    @abstractmethod
    def listing(cls, symbol: str) -> Listing:
        """What is listed under a name; a name that is not known gets a price that depends on the name alone
        (`actors.simulator.market.usual`). ValueError for what cannot be a symbol of this exchange."""

    @abstractmethod
    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        """The stream of the session that frames of this kind belong to; None where the exchange has none."""

    @abstractmethod
    def trades(self, symbol: str, trades: Trades) -> list[bytes]:
        """A frame for each trade."""

    @abstractmethod
    def quotes(self, symbol: str, quotes: Quotes) -> list[bytes]:
        """A frame for each quote; empty where the exchange has no stream of them."""

    @abstractmethod
    def change(self, symbol: str, change: Change) -> list[bytes]:
        """The frames of one change of a book: one, or several where the exchange sends each level by itself, and a
        frame with the checksum where that comes apart (its stream is the book's)."""

    def derivatives(self, symbol: str, mark: Mark, quotes: Quotes) -> list[bytes]:
        """Frames about a derivative; `quotes` has one row."""
        return []

    @abstractmethod
    def opening(self, stream: Stream, view: View) -> list[bytes]:
        """What a client gets first that has just subscribed: the snapshot of a book, recent trades, a ticker."""

    @abstractmethod
    def rest(self, path: str, query: Mapping[str, str], view: View) -> Reply:
        """The answer to GET `path`: instruments, snapshots of books, past trades as the exchange offers them; for what
        does not exist or is malformed, the exchange's own error."""

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        """What the request costs of `weight_per_minute`."""
        return 1

    def notice(self, kind: Literal["reconnect", "maintenance", "resumed"]) -> bytes | None:
        """What the exchange says to everybody before it restarts, begins and ends maintenance; None if nothing."""
        return None
