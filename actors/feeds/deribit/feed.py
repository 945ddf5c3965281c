"""Deribit v2: options, perpetuals, futures and spot over one address, as JSON-RPC.

https://docs.deribit.com/articles/notifications describes the protocol; the messages are in `messages`, the
instruments and their units in `instruments`. Without credentials everything comes every 100 ms; with them
books and trades come one by one (`raw`), which needs a key that may do nothing but read.

- Trades: the id is `trade_seq`, which counts an instrument's trades without a hole. The channel brings trades as they
  happen and none from before the subscription, so there is no history.
- Quotes have no sequence; the last trade's price comes along, its size and side do not.
- Books: each change names the one before it; a new snapshot comes only after the channel was left.
- Derivatives come with the quotes, in one frame. `funding_rate` is `current_funding`: the fraction a perpetual would
  pay in 8 hours at the present premium. It is paid continuously, so there is no next time and no other rate for it.
  (`funding_8h`, what was paid in the last 8 hours, has no column.) `open_interest` is in the unit of the sizes: USD
  for inverse contracts, else coins. Spot has no such row.
- Liquidations are trades with a mark. `side` is that of the forced order, so `sell` always closes a long position: the
  taker's where the taker was liquidated, the opposite where the maker was, and one row for each where both were.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import batched
from typing import Any, ClassVar, Final

import msgspec
import pyarrow as pa

from actors.feeds.book_rows import mark_broken
from actors.feeds.columns import Times
from actors.feeds.deribit import instruments
from actors.feeds.deribit.messages import (
    BOOK_LAYOUTS,
    TRADE_LAYOUTS,
    Message,
    Params,
    RpcError,
    decode_channels,
    decode_message,
    decode_platform_state,
    decode_token,
    ticker_layouts,
)
from actors.feeds.deribit.rows import Data, Found
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
from actors.feeds.frames import decode_each
from actors.feeds.layouts import DERIVATIVE, QUOTE, KnownLayouts, Layout
from actors.feeds.symbol_codes import SymbolCodes

#: Which of our channels each kind of theirs is for.
_KINDS: Final[dict[str, frozenset[Channel]]] = {
    "book": frozenset({"book"}),
    "trades": frozenset({"trades", "liquidations"}),
    "ticker": frozenset({"quotes", "derivatives"}),
}
_PLATFORM: Final = "platform_state"

# Ids of requests; those of subscriptions follow.
_HEARTBEAT: Final = 1
_AUTHENTICATION: Final = 2
_TEST: Final = 3
_UNSUBSCRIPTION: Final = 4
_FIRST_SUBSCRIPTION: Final = 10

#: The server says something at least this often, and hangs up when its test_request gets no answer for as long.
_HEARTBEAT_S: Final = 10
#: A new token is asked for after this part of the old one's life.
_RENEW_AFTER: Final = 0.8

_INVALID_CREDENTIALS: Final = 13004
_MAINTENANCE: Final = 11051
#: Not refused for good: too many requests, retry, settlement in progress, queue full, too many at once, maintenance,
#: internal error, temporarily unavailable, timed out. https://docs.deribit.com/articles/errors
_PASSING: Final = frozenset({10028, 10040, 10041, 10047, 10066, _MAINTENANCE, 11094, 13028, 13888})

_LONGEST_LIST: Final = 300

#: What an unreadable frame about a book still shows.
_BOOK: Final = re.compile(rb'"channel"\s*:\s*"book\.([A-Za-z0-9_-]{1,100})\.[a-z0-9]{0,20}"')


class Deribit:
    """Trades and liquidations from `trades`, quotes and derivatives from `ticker`, books from `book`."""

    exchange: ClassVar[str] = "deribit"
    hosts: ClassVar[frozenset[str]] = frozenset({"www.deribit.com", "streams.deribit.com", "test.deribit.com"})
    limits: ClassVar[Limits] = Limits(
        # https://docs.deribit.com/articles/market-data-collection-best-practices: 500 channels a request. A number of
        # channels of one connection is not documented; this many options make a few thousand frames a second.
        symbols_per_connection=500,
        symbols_per_message=150,
        # Subscribing costs 3,000 of 30,000 credits that refill 10,000 a second; without credits the session ends.
        messages_per_second=3.3,
        # 32 connections of one address at a time; how often is not documented.
        connects_per_minute=30,
        # 500 of 50,000 credits a request, 10,000 a second: https://docs.deribit.com/articles/rate-limits
        rest_weight_per_minute=1_200,
        silence_s=25,
        answer_s=10,
    )

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._channels = channels
        self._credentials = credentials
        self._kinds = [kind for kind, uses in _KINDS.items() if uses & channels]
        self._symbols = SymbolCodes(symbols)
        #: The id of the next subscription, and that of the last one for each channel without an answer. Channels are
        #: named without their interval here (book.BTC-PERPETUAL).
        self._next_id = _FIRST_SUBSCRIPTION
        self._awaited: dict[str, int] = {}
        #: Channels that are granted, and symbols that lack some.
        self._granted: set[str] = set()
        self._incomplete: dict[str, None] = {}
        #: When to ask for a new token (ns).
        self._token_due: int | None = None
        self._layouts = KnownLayouts(self._layouts_wanted(), self._names())

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        for symbol in symbols:
            if not instruments.is_symbol(symbol):
                raise ValueError(
                    f"deribit cannot have the symbol {symbol[:100]!r}: its names are like BTC-PERPETUAL, BTC-27MAR26, "
                    "BTC-27MAR26-60000-C, SOL_USDC-PERPETUAL and BTC_USDC"
                )
        return list(batched(dict.fromkeys(symbols), cls.limits.symbols_per_connection))

    @property
    def url(self) -> str:
        return self._endpoint

    @property
    def book_rules(self) -> BookRules:
        return BookRules(chain="previous", checksum="none")

    @property
    def proof(self) -> Proof:
        return "ids"

    def greet(self) -> list[bytes]:
        heartbeat = _request(_HEARTBEAT, "public/set_heartbeat", interval=_HEARTBEAT_S)
        platform = _request(self._new_id(), "public/subscribe", channels=[_PLATFORM])
        return [*self._authenticate(), heartbeat, platform]

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.add(symbols)
        self._layouts.rename(self._names())
        self._incomplete |= dict.fromkeys(symbols)
        messages = []
        for some in batched(dict.fromkeys(symbols), self.limits.symbols_per_message):
            asked = [channel for symbol in some for channel in self._wanted(symbol) if channel not in self._granted]
            if asked:
                messages.append(self._subscribe(asked))
        return messages

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.retire(symbols)
        messages = []
        for some in batched(dict.fromkeys(symbols), self.limits.symbols_per_message):
            ended = [channel for symbol in some for channel in self._wanted(symbol)]
            messages.append(self._unsubscribe(ended))
        for symbol in symbols:
            self._incomplete.pop(symbol, None)
        return messages

    def renew_book(self, symbol: str) -> list[bytes]:
        return [self._unsubscribe([f"book.{symbol}"]), self._subscribe([f"book.{symbol}"])]

    def ping(self) -> bytes | None:
        return None

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        return None

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        raise ValueError("deribit sends snapshots of books over WebSocket")

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        return instruments.requests(symbols)

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        return instruments.read(bodies)

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        events = Events(ts_recv, self._symbols)
        read = self._layouts.read(frames, events)
        others = read.others.tolist()
        messages, unreadable = decode_each(decode_message, decode_message, [frames[at] for at in others])
        events.reasons.update((others[number], reason) for number, reason in unreadable.items())
        data = Data(events, self._channels)
        answers = _Answers()
        for at, message in zip(others, messages, strict=True):
            if message is None:
                continue
            if message.method == "subscription" and message.params is not None:
                self._sort(at, message.params, data, answers)
            elif message.method == "heartbeat":
                answers.ignored += 1
                if message.params is not None and message.params.type == "test_request":
                    answers.replies.append(_request(_TEST, "public/test"))
            elif message.error is not None:
                answers.refused.append(self._refused(message.id, message.error, answers))
            elif message.result:
                self._granted_of(message, int(ts_recv[at]), answers)
            else:
                events.reasons[at] = "neither data nor an answer to a request"
        data.add()
        if "book" in self._kinds:
            mark_broken(events, frames, _BOOK)
        if self._token_due is not None and len(ts_recv) and ts_recv[-1] >= self._token_due:
            self._token_due = None
            answers.replies += self._authenticate()
        return decoded(
            events,
            frames,
            subscribed=frozenset(answers.subscribed),
            refused=answers.refused,
            replies=answers.replies,
            notices=answers.notices,
            ignored=answers.ignored + read.ignored + data.ignored,
        )

    def _sort(self, at: int, params: Params, data: Data, answers: "_Answers") -> None:
        """Put data where it belongs; what we did not ask for, as books grouped by price, is left out."""
        kind, _, rest = params.channel.partition(".")
        symbol, dot, interval = rest.partition(".")
        if kind in self._kinds and dot and "." not in interval:
            data.find(kind, Found(at, symbol, self._symbols.code(symbol), params.data))
            return
        answers.ignored += 1
        if kind == _PLATFORM and not rest:
            states, _ = decode_each(decode_platform_state, decode_platform_state, [params.data])
            if states[0] is not None and states[0].maintenance is not None:
                answers.notices.append("maintenance" if states[0].maintenance else "resumed")

    def _granted_of(self, message: Message, received: int, answers: "_Answers") -> None:
        """A result: of a subscription the channels that are granted, of the authentication a token."""
        (token,), _ = decode_each(decode_token, decode_token, [message.result])
        if message.id == _AUTHENTICATION and token is not None and self._credentials is not None:
            life = min(token.expires_in, 10**9)
            self._token_due = received + int(life * _RENEW_AFTER * 1e9)
        if message.id == _UNSUBSCRIPTION:
            answers.ignored += 1
            return
        (channels,), _ = decode_each(decode_channels, decode_channels, [message.result])
        granted = self._awaited.keys() & {channel.rpartition(".")[0] for channel in channels or ()}
        self._granted |= granted
        for channel in granted:
            del self._awaited[channel]
        missing = self._answered(message.id)
        if missing:
            answers.refused.append(self._refusal(missing, f"deribit has no {_listed(missing)}"))
        else:
            answers.ignored += 1
        if granted:
            answers.subscribed |= self._completed()

    def _refused(self, number: int | str | None, error: RpcError, answers: "_Answers") -> Refusal:
        if error.code == _MAINTENANCE:
            answers.notices.append("maintenance")
        if error.code == _INVALID_CREDENTIALS:
            return Refusal(frozenset(), f"deribit does not know this key or secret: {error.reason}")
        if error.code in _PASSING:
            # What was asked for stays without an answer, so it will be asked for again.
            return Refusal(frozenset(), f"deribit cannot answer now: {error.reason}")
        asked = self._answered(number)
        return self._refusal(asked, f"deribit refuses {_listed(asked) or 'a request'}: {error.reason}")

    def _refusal(self, channels: Iterable[str], reason: str) -> Refusal:
        symbols = frozenset(channel.partition(".")[2] for channel in channels)
        for symbol in symbols:
            self._incomplete.pop(symbol, None)
        return Refusal(symbols, reason)

    def _answered(self, number: int | str | None) -> set[str]:
        """The channels that waited for this answer, and do so no more."""
        asked = {channel for channel, request in self._awaited.items() if request == number}
        for channel in asked:
            del self._awaited[channel]
        return asked

    def _completed(self) -> frozenset[str]:
        complete = frozenset(symbol for symbol in self._incomplete if self._granted.issuperset(self._wanted(symbol)))
        for symbol in complete:
            del self._incomplete[symbol]
        return complete

    def _authenticate(self) -> list[bytes]:
        """The token is good for this connection only."""
        if self._credentials is None:
            return []
        key, secret = self._credentials.key, self._credentials.secret
        parameters = {"client_id": key, "client_secret": secret, "scope": "connection"}
        return [_request(_AUTHENTICATION, "public/auth", grant_type="client_credentials", **parameters)]

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _subscribe(self, channels: Sequence[str]) -> bytes:
        number = self._new_id()
        self._awaited |= dict.fromkeys(channels, number)
        return _request(number, "public/subscribe", channels=[self._at_interval(channel) for channel in channels])

    def _unsubscribe(self, channels: Sequence[str]) -> bytes:
        for channel in channels:
            self._awaited.pop(channel, None)
            self._granted.discard(channel)
        names = [self._at_interval(channel) for channel in channels]
        return _request(_UNSUBSCRIPTION, "public/unsubscribe", channels=names)

    def _wanted(self, symbol: str) -> list[str]:
        return [f"{kind}.{symbol}" for kind in self._kinds]

    def _at_interval(self, channel: str) -> str:
        single = self._credentials is not None and not channel.startswith("ticker.")
        return f"{channel}.{'raw' if single else '100ms'}"

    def _layouts_wanted(self) -> list[Layout]:
        """Most frequent first. Liquidations without trades are picked out by the JSON decoder."""
        rows = (QUOTE if "quotes" in self._channels else 0) | (DERIVATIVE if "derivatives" in self._channels else 0)
        return [
            *(BOOK_LAYOUTS if "book" in self._channels else ()),
            *(ticker_layouts(rows) if rows else ()),
            *(TRADE_LAYOUTS if "trades" in self._channels else ()),
        ]

    def _names(self) -> dict[str, dict[str, int]]:
        codes = {symbol: self._symbols.code(symbol) for symbol in self._symbols.names}
        derivatives = {symbol: code for symbol, code in codes.items() if not instruments.is_spot(symbol)}
        return {"symbol": codes, "derivative": derivatives}


class _Answers:
    """What a list of frames says beside data."""

    def __init__(self) -> None:
        self.subscribed: set[str] = set()
        self.refused: list[Refusal] = []
        self.replies: list[bytes] = []
        self.notices: list[Notice] = []
        self.ignored = 0


def _request(number: int, method: str, **params: Any) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def _listed(channels: Iterable[str]) -> str:
    return ", ".join(sorted(channels))[:_LONGEST_LIST]
