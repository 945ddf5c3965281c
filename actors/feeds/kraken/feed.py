"""Kraken spot: trades, tickers as quotes, and books that a checksum proves after every change.

Two versions of its protocol are in use: `v2` where the endpoint's path ends in /v2, `v1` elsewhere. They
call some symbols differently (BTC/USD, XBT/USD). There are no derivatives here.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import batched
from typing import ClassVar, Final, Literal, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from actors.feeds.book_rows import broken
from actors.feeds.columns import Times
from actors.feeds.events import Events
from actors.feeds.feed import (
    ALL_CHANNELS,
    BookRules,
    Channel,
    Credentials,
    Decoded,
    Limits,
    Notice,
    Proof,
    Refusal,
    RestRequest,
    decoded,
)
from actors.feeds.kraken import v1, v2
from actors.feeds.kraken.answers import CHANNELS, DEPTH, Acknowledged, Answers
from actors.feeds.kraken.instruments import read_pairs
from actors.feeds.layouts import KnownLayouts, Layout
from actors.feeds.symbol_codes import SymbolCodes

_SYMBOL: Final = re.compile(r"[A-Za-z0-9.]{1,20}/[A-Za-z0-9.]{1,20}", re.ASCII)


class _Version(Protocol):
    """What `v1` and `v2` have."""

    PING: bytes
    LAYOUTS: dict[Channel, tuple[Layout, ...]]
    HEARTBEAT: Layout

    def request(self, method: Literal["subscribe", "unsubscribe"], channel: str, symbols: Sequence[str]) -> bytes: ...

    def read(
        self, frames: Sequence[bytes], at: Sequence[int], events: Events, channels: Collection[Channel]
    ) -> Answers: ...

    def books_of(self, frame: bytes) -> Sequence[str] | None: ...


class Kraken:
    """See `Feed`. History is what the second version sends of each symbol's trades when it is subscribed."""

    exchange: ClassVar[str] = "kraken"
    hosts: ClassVar[frozenset[str]] = frozenset({"ws.kraken.com", "api.kraken.com"})
    limits: ClassVar[Limits] = Limits(
        # None is documented: this many books of full depth are some 30 MB of snapshots.
        symbols_per_connection=200,
        symbols_per_message=50,
        # The limit is said to be dynamic; see https://docs.kraken.com/api/docs/guides/spot-ws-intro
        messages_per_second=5.0,
        # About 150 in 10 minutes.
        connects_per_minute=15.0,
        # One request a second.
        rest_weight_per_minute=60,
        # A heartbeat comes each second in which nothing else does.
        silence_s=15.0,
        answer_s=10.0,
        # Connections without anything for a minute are closed.
        ping_s=30.0,
    )

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._is_second = urlsplit(endpoint).path.rstrip("/").endswith("/v2")
        self._channels = channels
        self._names = [name for name, channel in CHANNELS.items() if channel in channels]
        self._symbols = SymbolCodes()
        #: The channels of each symbol that are on.
        self._on: dict[str, set[str]] = {}
        #: Channels of symbols we asked to end.
        self._ending: set[tuple[str, str]] = set()
        self._in_maintenance = False
        layouts = [layout for channel, some in self._version.LAYOUTS.items() if channel in channels for layout in some]
        self._layouts = KnownLayouts([*layouts, self._version.HEARTBEAT], {"symbol": {}})
        self._add(symbols)

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        for symbol in symbols:
            if not _SYMBOL.fullmatch(symbol):
                raise ValueError(f"{symbol!r} cannot be a symbol of kraken: expected a name like BTC/USD")
        return list(batched(dict.fromkeys(symbols), cls.limits.symbols_per_connection))

    @property
    def url(self) -> str:
        return self._endpoint

    @property
    def book_rules(self) -> BookRules:
        return BookRules("none", "kraken", DEPTH)

    @property
    def proof(self) -> Proof:
        return "ids" if self._is_second else "none"

    def greet(self) -> list[bytes]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._add(symbols)
        return self._requests("subscribe", self._names, symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        ending = [symbol for symbol in symbols if symbol in self._symbols.active]
        self._symbols.retire(ending)
        for symbol in ending:
            self._on.pop(symbol, None)
        return self._requests("unsubscribe", self._names, ending)

    def renew_book(self, symbol: str) -> list[bytes]:
        """Every subscription brings a snapshot."""
        requests = self._requests("unsubscribe", ["book"], [symbol])
        return requests + self._requests("subscribe", ["book"], [symbol])

    def ping(self) -> bytes | None:
        return self._version.PING

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        return None

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        raise ValueError("snapshots of kraken come with the subscription")

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        return [RestRequest("/0/public/AssetPairs")]

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        return pa.concat_tables([read_pairs(body) for body in bodies])

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        events = Events(ts_recv, self._symbols)
        read = self._layouts.read(frames, events)
        if not len(read.others):
            return decoded(events, frames, ignored=read.ignored)
        others = read.others.tolist()
        answers = self._version.read([frames[at] for at in others], others, events, self._channels)
        if "book" in self._channels:
            lost = self._lost_books(frames, sorted(events.reasons))
            if lost:
                events.books.append(broken(lost))
        refused = self._refused(answers.refused)
        ended, subscribed = self._acknowledge(answers.acknowledged)
        handled = len(answers.refused) + len(answers.acknowledged) - len(refused) - len(ended)
        return decoded(
            events,
            frames,
            subscribed=subscribed,
            refused=[*refused, *ended],
            notices=self._notices(answers.system),
            # The second version numbers its trades.
            trades_of=v1.trades_of if "trades" in self._channels and not self._is_second else None,
            ignored=read.ignored + answers.ignored + handled,
        )

    @property
    def _version(self) -> _Version:
        return v2 if self._is_second else v1

    def _add(self, symbols: Sequence[str]) -> None:
        self._symbols.add(symbols)
        self._layouts.rename({"symbol": {name: code for code, name in enumerate(self._symbols.names)}})

    def _requests(
        self, method: Literal["subscribe", "unsubscribe"], names: Sequence[str], symbols: Sequence[str]
    ) -> list[bytes]:
        if method == "unsubscribe":
            self._ending.update((name, symbol) for name in names for symbol in symbols)
        parts = list(batched(symbols, self.limits.symbols_per_message))
        return [self._version.request(method, name, part) for name in names for part in parts]

    def _lost_books(self, frames: Sequence[bytes], unreadable: Sequence[int]) -> list[tuple[int, int]]:
        """Positions of unreadable frames with the codes of the books they may have been for."""
        lost = []
        of_any = []
        for at in unreadable:
            symbols = self._version.books_of(frames[at])
            if symbols is None:
                of_any.append(at)
            else:
                lost += [(at, self._symbols.code(symbol)) for symbol in symbols]
        # However many break all books, the first and the last of them say it.
        for at in {*of_any[:1], *of_any[-1:]}:
            lost += [(at, self._symbols.code(symbol)) for symbol in self._symbols.active]
        return lost

    def _refused(self, refusals: Iterable[Refusal]) -> list[Refusal]:
        """Those that are about no symbol or about one of ours: what we ended may be refused afterwards."""
        active = frozenset(self._symbols.active)
        return [refusal for refusal in refusals if not refusal.symbols or refusal.symbols & active]

    def _acknowledge(self, acknowledged: Iterable[Acknowledged]) -> tuple[list[Refusal], frozenset[str]]:
        """What the exchange ended by itself, and the symbols that became complete."""
        active = frozenset(self._symbols.active)
        ended: list[Refusal] = []
        complete: set[str] = set()
        for one in acknowledged:
            if one.on and one.symbol in active and one.channel in self._names:
                on = self._on.setdefault(one.symbol, set())
                on.add(one.channel)
                if len(on) == len(self._names):
                    complete.add(one.symbol)
            elif not one.on:
                asked = (one.channel, one.symbol) in self._ending
                self._ending.discard((one.channel, one.symbol))
                if one.symbol in active and one.channel in self._on.get(one.symbol, ()):
                    self._on[one.symbol].remove(one.channel)
                    complete.discard(one.symbol)
                    if not asked:
                        reason = f"kraken ended channel {one.channel}"
                        ended.append(Refusal(frozenset({one.symbol}), reason))
        return ended, frozenset(complete)

    def _notices(self, states: Iterable[str]) -> list[Notice]:
        notices: list[Notice] = []
        for state in states:
            if state == "maintenance" and not self._in_maintenance:
                notices.append("maintenance")
            elif state == "online" and self._in_maintenance:
                notices.append("resumed")
            self._in_maintenance = state == "maintenance" or (self._in_maintenance and state != "online")
        return notices
