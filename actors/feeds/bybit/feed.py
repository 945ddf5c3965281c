"""Bybit v5: pairs (spot) and contracts settled in USDT or USDC (linear), each category on a connection of its own.

https://bybit-exchange.github.io/docs/v5/ws/connect describes the protocol; the messages are in `messages`, the
instruments in `instruments`. The same name stands for different things in the two categories, so a symbol has
its category before its name: spot:BTCUSDT, linear:BTCUSDT.

- Quotes come from orderbook.1 in both categories: it is ten times as fast as the tickers, has the matching engine's
  time and number, and is always whole. Tickers of spot have no bid and ask at all; those of contracts say only what
  has changed and are read for mark, index, open interest and funding.
- Books come from orderbook.200: 200 levels five or ten times a second. With 50 levels there are fifty messages a
  second, for what quotes already tell. Each message is numbered one more than the one before; a snapshot may come at
  any time, with number 1 after a restart.
- The exchange does not say whether trades begin with old ones (its older protocol sent them up to 42 s late). Each
  message says when it was made, so of the first of a symbol what happened more than a second before is history.
- A request is granted or refused as a whole, at most ten topics. The refusal names the topic that is at fault: that
  symbol is given up, and the others are asked for again.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import batched
from typing import ClassVar, Final

import msgspec
import numpy as np
import pyarrow as pa

from actors.feeds.book_rows import mark_broken
from actors.feeds.bybit import instruments
from actors.feeds.bybit.messages import Envelope, decode_envelope, layouts
from actors.feeds.bybit.rows import Data, Found
from actors.feeds.columns import Integers, Times
from actors.feeds.events import NOT_SUBSCRIBED, Events
from actors.feeds.feed import (
    ALL_CHANNELS,
    BookRules,
    Channel,
    Credentials,
    Decoded,
    Limits,
    Proof,
    Refusal,
    RestRequest,
    decoded,
)
from actors.feeds.first_trades import first_messages, set_history_apart
from actors.feeds.frames import decode_each
from actors.feeds.layouts import KnownLayouts
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes
from actors.feeds.texts import times

_DEPTH: Final = 200
_TOPICS: Final[dict[str, dict[Channel, str]]] = {
    "spot": {"trades": "publicTrade", "quotes": "orderbook.1", "book": f"orderbook.{_DEPTH}"},
    "linear": {
        "trades": "publicTrade",
        "quotes": "orderbook.1",
        "book": f"orderbook.{_DEPTH}",
        "derivatives": "tickers",
        "liquidations": "allLiquidation",
    },
}
#: A symbol can do without these.
_SPARE: Final = ("tickers", "allLiquidation")

_TOPICS_OF_REQUEST: Final = 10
#: Requests that may be without an answer; older ones are forgotten.
_MOST_REQUESTS: Final = 1_000
_WORD: Final = re.compile(r"[\w.-]+", re.ASCII)
#: What an unreadable frame about a book still shows.
_BOOK: Final = re.compile(rb'"topic"\s*:\s*"orderbook\.%d\.([A-Z0-9-]{1,50})"' % _DEPTH)
_TOPIC: Final = re.compile(rb'"topic"\s*:\s*"([\w.-]{1,100})"')
_LONGEST_REASON: Final = 300
#: A trade that is this much older than the first message it is in is from before (ns).
_OLD: Final = 1_000_000_000


class Bybit:
    """Trades from `publicTrade`, quotes from `orderbook.1`, books from `orderbook.200`, the rest of contracts from
    `tickers` and `allLiquidation`."""

    exchange: ClassVar[str] = "bybit"
    hosts: ClassVar[frozenset[str]] = frozenset({"stream.bybit.com", "stream.bytick.com", "api.bybit.com"})
    limits: ClassVar[Limits] = Limits(
        # The topics of a connection have 21,000 characters, of which those of a symbol take at most 200.
        symbols_per_connection=100,
        symbols_per_message=2,
        messages_per_second=10,
        # 500 in five minutes.
        connects_per_minute=100,
        # 600 in five seconds.
        rest_weight_per_minute=7_200,
        silence_s=45,
        answer_s=10,
        ping_s=20,
    )

    def __init__(
        self,
        symbols: Sequence[str],
        endpoint: str,
        channels: frozenset[Channel] = ALL_CHANNELS,
        credentials: Credentials | None = None,
    ) -> None:
        """See `Feed`; the category of the symbols, which all have the same, decides the address. Credentials are not
        needed."""
        self._category = symbols[0].partition(":")[0] if symbols else instruments.CATEGORIES[0]
        self._url = f"{endpoint.rstrip('/')}/v5/public/{self._category}"
        topics = _TOPICS.get(self._category, {})
        self._topics = {topic: channel for channel, topic in topics.items() if channel in channels}
        self._symbols = SymbolCodes(symbols)
        #: The symbol of each topic asked for; topics that need no answer any more; symbols that have all.
        self._wanted: dict[str, str] = {}
        self._settled: set[str] = set()
        self._complete: set[str] = set()
        #: Topics of requests without an answer, by the number of the request.
        self._requests: dict[str, tuple[str, ...]] = {}
        self._last_request = 0
        #: Symbols (by code) of which no trades came since they were subscribed.
        self._fresh: set[int] = set()
        known = layouts(self._category, _DEPTH)
        self._layouts = KnownLayouts(
            [layout for topic, own in known.items() if topic in self._topics for layout in own], self._names()
        )

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        for symbol in symbols:
            if not instruments.is_symbol(symbol):
                raise ValueError(
                    f"bybit cannot have the symbol {symbol[:100]!r}: a symbol is named with its category, spot:BTCUSDT "
                    "or linear:BTCUSDT"
                )
        return [
            group
            for category in instruments.CATEGORIES
            for group in batched(
                (symbol for symbol in dict.fromkeys(symbols) if symbol.startswith(f"{category}:")),
                cls.limits.symbols_per_connection,
            )
        ]

    @property
    def url(self) -> str:
        return self._url

    @property
    def book_rules(self) -> BookRules:
        return BookRules(chain="next", checksum="none", depth=_DEPTH)

    @property
    def proof(self) -> Proof:
        return "recent"

    def greet(self) -> list[bytes]:
        return []

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.add(symbols)
        asked = []
        for symbol in symbols:
            for topic in self._topics_of(symbol):
                self._wanted[topic] = symbol
                if topic not in self._settled:
                    asked.append(topic)
                    if topic.startswith("publicTrade."):
                        self._fresh.add(self._symbols.code(symbol))
        self._layouts.rename(self._names())
        return self._ask(asked)

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        ended = [topic for symbol in symbols for topic in self._topics_of(symbol) if topic in self._wanted]
        for topic in ended:
            del self._wanted[topic]
        self._settled.difference_update(ended)
        self._complete.difference_update(symbols)
        self._fresh.difference_update(self._symbols.codes(symbols).tolist())
        self._symbols.retire(symbols)
        self._layouts.rename(self._names())
        return [_message("unsubscribe", piece) for piece in batched(ended, _TOPICS_OF_REQUEST)]

    def renew_book(self, symbol: str) -> list[bytes]:
        topic = f"orderbook.{_DEPTH}.{_name(symbol)}"
        return [_message("unsubscribe", (topic,)), *self._ask([topic])]

    def ping(self) -> bytes | None:
        return b'{"op":"ping"}'

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        return None

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        raise ValueError("bybit sends snapshots of books over WebSocket")

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
        envelopes, unreadable = decode_each(decode_envelope, decode_envelope, [frames[at] for at in others])
        events.reasons.update((others[number], reason) for number, reason in unreadable.items())
        data = Data(events)
        answers = _Answers()
        for at, envelope in zip(others, envelopes, strict=True):
            if envelope is None:
                continue
            topic, _, name = envelope.topic.rpartition(".")
            if not envelope.topic:
                self._answer(at, envelope, answers, events)
            elif (channel := self._topics.get(topic)) is None:
                answers.ignored += 1
            elif (code := self._symbols.code(f"{self._category}:{name}")) == UNKNOWN_SYMBOL:
                events.reasons[at] = NOT_SUBSCRIBED
            else:
                data.find(channel, Found(at, code, envelope))
        data.add()
        self._set_history_apart(events, read.sequences, data.made)
        if "book" in self._topics.values():
            mark_broken(events, frames, _BOOK, f"{self._category}:")
        return decoded(
            events,
            frames,
            subscribed=frozenset(answers.subscribed),
            refused=answers.refused,
            replies=answers.replies,
            trades_of=self._trades_of if "trades" in self._topics.values() else None,
            ignored=answers.ignored + data.ignored + read.ignored,
        )

    def _trades_of(self, frame: bytes) -> Sequence[str] | None:
        """The symbols whose trades an unusable frame may have held; None: any."""
        if topic := _TOPIC.search(frame):
            kind, _, name = topic[1].decode(errors="replace").rpartition(".")
            return (f"{self._category}:{name}",) if kind == "publicTrade" else ()
        (envelope,), _ = decode_each(decode_envelope, decode_envelope, [frame])
        return None if envelope is None else ()

    def _answer(self, at: int, envelope: Envelope, answers: "_Answers", events: Events) -> None:
        if envelope.op == "subscribe" and envelope.success is not None:
            topics = self._answered(envelope)
            if envelope.success:
                self._settle(topics, answers)
            elif (refusal := self._refuse(topics, envelope.ret_msg or "", answers)) is not None:
                answers.refused.append(refusal)
                return
        elif envelope.success is False and envelope.op != "unsubscribe":
            answers.refused.append(Refusal(frozenset(), (envelope.ret_msg or "no reason given")[:_LONGEST_REASON]))
            return
        elif not envelope.op and envelope.success is None:
            events.reasons[at] = "neither data nor an answer to a request"
            return
        answers.ignored += 1

    def _answered(self, envelope: Envelope) -> list[str]:
        """The topics of the request this is the answer to, as far as they are still wanted."""
        number = envelope.req_id or ""
        if number not in self._requests and not envelope.success:
            # Without its number a refused request is known by the topic that is named.
            words = _words(envelope.ret_msg or "")
            number = next((one for one, topics in self._requests.items() if not words.isdisjoint(topics)), "")
        return [topic for topic in self._requests.pop(number, ()) if topic in self._wanted]

    def _refuse(self, topics: list[str], text: str, answers: "_Answers") -> Refusal | None:
        """What is at fault is given up or, where it is subscribed already, done; the rest is asked for again."""
        reason = text[:_LONGEST_REASON] or "no reason given"
        words = _words(text)
        named = [topic for topic in topics if topic in words or topic.rpartition(".")[2] in words]
        if not named and len(topics) > 1:
            # One at a time, the exchange will show which it is.
            answers.replies += [message for topic in topics for message in self._ask([topic])]
            return None
        known = "already subscribed" in text
        at_fault = set() if known else {self._wanted[one] for one in named or topics if not one.startswith(_SPARE)}
        self._settle([one for one in named or topics if known or one.startswith(_SPARE)], answers)
        answers.replies += self._ask(
            [
                one
                for one in topics
                if one not in named and one not in self._settled and self._wanted[one] not in at_fault
            ]
        )
        return None if known else Refusal(frozenset(at_fault), reason)

    def _settle(self, topics: Iterable[str], answers: "_Answers") -> None:
        for topic in topics:
            self._settled.add(topic)
            symbol = self._wanted[topic]
            if symbol not in self._complete and self._settled.issuperset(self._topics_of(symbol)):
                self._complete.add(symbol)
                answers.subscribed.add(symbol)

    def _ask(self, topics: Sequence[str]) -> list[bytes]:
        """Requests to subscribe, remembered until they are answered."""
        messages = []
        for piece in batched(topics, _TOPICS_OF_REQUEST):
            self._last_request += 1
            self._requests[str(self._last_request)] = piece
            messages.append(_message("subscribe", piece, str(self._last_request)))
        while len(self._requests) > _MOST_REQUESTS:
            del self._requests[next(iter(self._requests))]
        return messages

    def _set_history_apart(self, events: Events, sequences: Integers, made: dict[int, int]) -> None:
        if not self._fresh or not events.trades:
            return
        firsts = first_messages(events, dict.fromkeys(self._fresh, -1))
        moments = times(np.array([made.get(at, sequences[at]) for at in firsts.values()], np.int64), 1000) - _OLD
        set_history_apart(events, firsts, dict(zip(firsts, moments.tolist(), strict=True)))
        self._fresh.difference_update(firsts)

    def _topics_of(self, symbol: str) -> list[str]:
        return [f"{topic}.{_name(symbol)}" for topic in self._topics]

    def _names(self) -> dict[str, dict[str, int]]:
        return {"symbol": {_name(symbol): self._symbols.code(symbol) for symbol in self._symbols.names}}


class _Answers:
    """What a list of frames says beside data."""

    def __init__(self) -> None:
        self.subscribed: set[str] = set()
        self.refused: list[Refusal] = []
        self.replies: list[bytes] = []
        self.ignored = 0


def _name(symbol: str) -> str:
    """What the exchange calls a symbol within its category."""
    return symbol.partition(":")[2]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text[:10_000]))


def _message(operation: str, topics: Sequence[str], number: str = "") -> bytes:
    message = {"op": operation, "args": topics}
    return msgspec.json.encode({"req_id": number, **message} if number else message)
