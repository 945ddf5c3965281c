"""OKX v5: pairs, perpetual contracts, futures and options of one exchange over one address.

https://www.okx.com/docs-v5/en/#overview-websocket describes the protocol; the messages are in `messages`, the
instruments in `instruments`. Sizes and open interest of contracts count contracts.

Books have 400 levels a side and each change names the one before it. Right after the trades of a symbol are
acknowledged, the exchange sends its last trade from before, however old; a recording shows it 3 ms after the
acknowledgement. So the first message of trades after it is history, as far as it happened before the acknowledgement
came. Where a symbol has derivatives, they come by several channels, of which the index belongs to all instruments on
it and liquidations to all of one kind; what is not ours is left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import batched
from typing import ClassVar, Final

import msgspec
import pyarrow as pa

from actors.feeds.book_rows import mark_broken
from actors.feeds.columns import NO_CHECKSUM, Times
from actors.feeds.events import NOT_SUBSCRIBED, Events
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
from actors.feeds.first_trades import first_messages, set_history_apart
from actors.feeds.frames import decode_each
from actors.feeds.layouts import KnownLayouts
from actors.feeds.okx import instruments
from actors.feeds.okx.messages import LAYOUTS, PONG_LAYOUT, Envelope, Key, decode_envelope
from actors.feeds.okx.rows import Data, Found
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes

_CHANNELS: Final[dict[Channel, tuple[str, ...]]] = {
    "trades": ("trades",),
    "quotes": ("tickers",),
    "book": ("books",),
    "derivatives": ("mark-price", "index-tickers", "open-interest", "funding-rate"),
    "liquidations": ("liquidation-orders",),
}
#: A symbol can do without these: some instruments have no index, or none that is published.
_SPARE: Final = frozenset((*_CHANNELS["derivatives"], *_CHANNELS["liquidations"]))

#: All arguments of a request must fit in 64 KB.
_REQUEST_BYTES: Final = 60_000
_NO_SUCH_CHANNEL: Final = re.compile(r"channel:([\w-]+), ?inst(?:Id|Type):([\w.-]+)", re.ASCII)
#: What an unreadable frame about a book still shows.
_BOOK: Final = re.compile(rb'"channel"\s*:\s*"books"\s*,\s*"instId"\s*:\s*"([A-Z0-9_.-]{1,100})"')
_LONGEST_REASON: Final = 300


class Okx:
    """Trades from `trades`, quotes from `tickers`, books from `books`, derivatives from four channels."""

    exchange: ClassVar[str] = "okx"
    hosts: ClassVar[frozenset[str]] = frozenset({"ws.okx.com", "wsaws.okx.com", "wseea.okx.com", "www.okx.com"})
    limits: ClassVar[Limits] = Limits(
        # Subscribing is limited to 480 requests an hour on a connection: these take three, and nearly all others are
        # left to renew books, two requests each.
        symbols_per_connection=250,
        symbols_per_message=100,
        messages_per_second=3,
        # Three a second; a fifth of a minute's are made at once.
        connects_per_minute=15,
        rest_weight_per_minute=600,
        silence_s=30,
        answer_s=10,
        # The exchange hangs up after 30 s without a frame.
        ping_s=12,
    )

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        """See `Feed`; credentials are not needed."""
        self._endpoint = endpoint
        self._channels = frozenset(name for channel in channels for name in _CHANNELS[channel])
        self._symbols = SymbolCodes(symbols)
        #: Subscriptions and the symbols they are for; those that need no answer any more.
        self._wanted: dict[Key, set[str]] = {}
        self._settled: set[Key] = set()
        self._complete: set[str] = set()
        #: When the trades of a symbol (by code) were acknowledged (ns), as long as none came since.
        self._acknowledged: dict[int, int] = {}
        layouts = [layout for name, own in LAYOUTS.items() if name in self._channels for layout in own]
        self._layouts = KnownLayouts([*layouts, PONG_LAYOUT], self._names())

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        for symbol in symbols:
            if not instruments.is_symbol(symbol):
                raise ValueError(
                    f"okx cannot have the symbol {symbol[:100]!r}: its names are like BTC-USDT, BTC-USDT-SWAP, "
                    "BTC-USD-260327 and BTC-USD-260327-60000-C"
                )
        return list(batched(dict.fromkeys(symbols), cls.limits.symbols_per_connection))

    @property
    def url(self) -> str:
        return self._endpoint

    @property
    def book_rules(self) -> BookRules:
        return BookRules(chain="previous", checksum="okx", depth=400)

    @property
    def proof(self) -> Proof:
        return "ids"

    def greet(self) -> list[bytes]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.add(symbols)
        asked: dict[Key, None] = {}
        for symbol in symbols:
            for key in self._keys(symbol):
                self._wanted.setdefault(key, set()).add(symbol)
                if key not in self._settled:
                    asked[key] = None
        self._layouts.rename(self._names())
        return _requests("subscribe", asked)

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        ended: dict[Key, None] = {}
        for symbol in symbols:
            for key in self._keys(symbol):
                others = self._wanted.get(key, set())
                others.discard(symbol)
                if not others and self._wanted.pop(key, None) is not None:
                    self._settled.discard(key)
                    ended[key] = None
            self._complete.discard(symbol)
            self._acknowledged.pop(self._symbols.code(symbol), None)
        self._symbols.retire(symbols)
        self._layouts.rename(self._names())
        return _requests("unsubscribe", ended)

    def renew_book(self, symbol: str) -> list[bytes]:
        key = ("books", symbol)
        return _requests("unsubscribe", [key]) + _requests("subscribe", [key])

    def ping(self) -> bytes | None:
        return b"ping"

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        return None

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        raise ValueError("okx sends snapshots of books over WebSocket")

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        return instruments.requests(symbols)

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        return instruments.read(bodies)

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        events = Events(ts_recv, self._symbols)
        read = self._layouts.read(frames, events)
        for books in events.books:
            if books.checksum is not None:
                books.checksum[books.checksum == 0] = NO_CHECKSUM
        others = read.others.tolist()
        envelopes, unreadable = decode_each(decode_envelope, _look_for_pong, [frames[at] for at in others])
        events.reasons.update((others[number], reason) for number, reason in unreadable.items())
        data = Data(events)
        answers = _Answers()
        for at, envelope in zip(others, envelopes, strict=True):
            if envelope is None:
                pass
            elif envelope.event:
                self._answer(at, envelope, ts_recv, answers)
            elif envelope.arg is None:
                events.reasons[at] = "neither data nor an answer to a request"
            elif envelope.arg.channel not in self._channels:
                answers.ignored += 1
            else:
                self._sort(at, envelope, *envelope.arg.key, data)
        data.add()
        answers.ignored += read.ignored + data.ignored
        self._set_history_apart(events, answers.acknowledged)
        if "books" in self._channels:
            mark_broken(events, frames, _BOOK)
        return decoded(
            events,
            frames,
            subscribed=frozenset(answers.subscribed),
            refused=answers.refused,
            notices=answers.notices,
            ignored=answers.ignored,
        )

    def _sort(self, at: int, envelope: Envelope, channel: str, name: str, data: Data) -> None:
        """Put data where it belongs: to a symbol, to all of an index, or to those its items name."""
        if channel == "liquidation-orders":
            data.find(channel, Found(at, (), envelope.data))
            return
        if channel == "index-tickers":
            codes = sorted(self._symbols.code(symbol) for symbol in self._wanted.get((channel, name), ()))
            if codes:
                data.find(channel, Found(at, tuple(codes), envelope.data))
            else:
                data.ignored += 1
            return
        code = self._symbols.code(name)
        if code == UNKNOWN_SYMBOL:
            data.events.reasons[at] = NOT_SUBSCRIBED
            return
        data.find(channel, Found(at, (code,), envelope.data, envelope.action))

    def _answer(self, at: int, envelope: Envelope, ts_recv: Times, answers: "_Answers") -> None:
        key = envelope.arg.key if envelope.arg else None
        if envelope.event == "error":
            answers.refused.append(self._refuse(envelope, key, answers))
            return
        answers.ignored += 1
        if envelope.event == "subscribe" and key in self._wanted and key not in self._settled:
            if key[0] == "trades":
                code = self._symbols.code(key[1])
                self._acknowledged[code] = int(ts_recv[at])
                answers.acknowledged[code] = at
            self._settle(key, answers)
        elif envelope.event == "notice" and envelope.code == "64008":
            answers.notices.append("reconnect")

    def _refuse(self, envelope: Envelope, key: Key | None, answers: "_Answers") -> Refusal:
        reason = f"{envelope.msg[:_LONGEST_REASON]} (code {envelope.code[:20]})"
        named = _NO_SUCH_CHANNEL.search(envelope.msg)
        key = key or ((named[1], named[2]) if named else None)
        if key not in self._wanted:
            return Refusal(frozenset(), reason)
        if key[0] in _SPARE:
            self._settle(key, answers)
            return Refusal(frozenset(), reason)
        return Refusal(frozenset(self._wanted[key]), reason)

    def _settle(self, key: Key, answers: "_Answers") -> None:
        self._settled.add(key)
        for symbol in self._wanted[key] - self._complete:
            if self._settled.issuperset(self._keys(symbol)):
                self._complete.add(symbol)
                answers.subscribed.add(symbol)

    def _set_history_apart(self, events: Events, positions: Mapping[int, int]) -> None:
        """`positions` tells which of the acknowledgements came with these events, by code."""
        if not self._acknowledged:
            return
        firsts = first_messages(events, {code: positions.get(code, -1) for code in self._acknowledged})
        set_history_apart(events, firsts, self._acknowledged)
        for code in firsts:
            del self._acknowledged[code]

    def _keys(self, symbol: str) -> list[Key]:
        """What is subscribed for a symbol."""
        kind = instruments.kind_of(symbol)
        keys: list[Key] = [(name, symbol) for name in ("trades", "tickers", "books") if name in self._channels]
        if kind == "SPOT":
            return keys
        if "mark-price" in self._channels:
            keys += [("mark-price", symbol), ("open-interest", symbol), ("index-tickers", instruments.index_of(symbol))]
            if kind == "SWAP":
                keys.append(("funding-rate", symbol))
        # Liquidations of options have neither price nor size.
        if "liquidation-orders" in self._channels and kind != "OPTION":
            keys.append(("liquidation-orders", kind))
        return keys

    def _names(self) -> dict[str, dict[str, int]]:
        return {"symbol": {symbol: self._symbols.code(symbol) for symbol in self._symbols.names}}


class _Answers:
    """What a list of frames says beside data."""

    def __init__(self) -> None:
        self.subscribed: set[str] = set()
        self.refused: list[Refusal] = []
        self.notices: list[Notice] = []
        #: Positions of acknowledgements of trades, by the code of the symbol.
        self.acknowledged: dict[int, int] = {}
        self.ignored = 0


def _look_for_pong(frame: bytes) -> Envelope:
    """The answer to `ping` is no JSON."""
    return Envelope(event="pong") if frame == b"pong" else decode_envelope(frame)


def _requests(operation: str, keys: Iterable[Key]) -> list[bytes]:
    """The requests for these subscriptions, each within the limit."""
    pieces: list[list[dict[str, str]]] = []
    length = _REQUEST_BYTES
    for channel, name in keys:
        argument = {"channel": channel, "instType" if channel == "liquidation-orders" else "instId": name}
        length += len(channel) + len(name) + len('{"channel":"","instType":""},')
        if length > _REQUEST_BYTES:
            pieces.append([])
            length = 0
        pieces[-1].append(argument)
    return [msgspec.json.encode({"op": operation, "args": piece}) for piece in pieces]
