"""Bitfinex v2: pairs (tBTCUSD) and perpetual contracts (tBTCF0:USTF0) over one address.

https://docs.bitfinex.com/docs/ws-general describes the protocol; the messages are in `messages`, the channels
and their numbers in `channels`, the instruments in `instruments`.

- Every array of a connection ends in its number, heartbeats too, so a missing one shows, but not what it was about: a
  hole breaks every book of the connection. Each book has checksums of its own besides.
- Trades come twice with the same id, as `te` at once and as `tu` up to seconds later. We take `te`: the numbers prove
  that none is missing. The 30 trades before the subscription are history, newest first.
- Quotes have no time and no sequence. Their sizes would be those of 25 levels together, so they are null; the book has
  the real ones.
- Books have precision P0 (five digits of the price), 100 levels a side, every change (F0). The exchange removes levels
  that leave the 100, so nothing is cut here.
- Derivatives: `index_price` is the middle of the spot book, `mark_price` follows the exchange's composite index,
  `open_interest` counts coins. `funding_rate` is the fraction paid in the present 8 hours, `predicted_funding_rate`
  what has accrued for the next.
- Liquidations come for all symbols in one channel, also of margin positions on spot. `price` is that at which the
  position was sold or taken over.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec
import numpy as np
import pyarrow as pa

from actors.feeds.bitfinex import instruments
from actors.feeds.bitfinex.channels import Channels, Meaning
from actors.feeds.bitfinex.messages import (
    BOOK_LAYOUTS,
    HEARTBEAT_LAYOUT,
    TICKER_LAYOUT,
    TRADE_LAYOUTS,
    Conf,
    Event,
    Failed,
    Info,
    Subscribed,
    Unsubscribed,
    decode_message,
    look_again,
)
from actors.feeds.bitfinex.reading import Reading
from actors.feeds.bitfinex.rows import Found
from actors.feeds.book_rows import broken, ends
from actors.feeds.columns import Times
from actors.feeds.events import Events
from actors.feeds.feed import (
    ALL_CHANNELS,
    BookRules,
    Channel,
    Credentials,
    Decoded,
    Hole,
    Limits,
    Notice,
    Proof,
    Refusal,
    RestRequest,
    decoded,
)
from actors.feeds.frames import decode_each
from actors.feeds.layouts import KnownLayouts
from actors.feeds.symbol_codes import SymbolCodes

_SEQUENCE: Final = 65_536
_CHECKSUM: Final = 131_072

_NOTICES: Final[dict[int, Notice]] = {20051: "reconnect", 20060: "maintenance", 20061: "resumed"}
#: Already subscribed, and nothing to unsubscribe: what we want is so.
_HARMLESS: Final = frozenset({10301, 10400, 10401})

_HOLE: Final = "its number does not follow the last one of this connection"

#: https://docs.bitfinex.com/docs/requirements-and-limitations; one is for liquidations.
_MAX_CHANNELS: Final = 25

#: The channel of an array that is no JSON.
_BEGINNING: Final = re.compile(rb"\s*\[\s*(\d{1,18})\s*,")
_INTEGER: Final = re.compile(rb"0|[1-9]\d{0,18}")
_LARGEST: Final = 2**63 - 1


class Bitfinex:
    """Trades, quotes and books from the channels of those names, derivatives and liquidations from `status`."""

    exchange: ClassVar[str] = "bitfinex"
    hosts: ClassVar[frozenset[str]] = frozenset({"api-pub.bitfinex.com", "api.bitfinex.com"})
    limits: ClassVar[Limits] = Limits(
        # Of contracts, which have four channels; see `groups`.
        symbols_per_connection=6,
        symbols_per_message=1,
        # Not limited by the documentation.
        messages_per_second=20,
        connects_per_minute=20,
        rest_weight_per_minute=90,
        # Each channel has a heartbeat every 15 s.
        silence_s=35,
        answer_s=10,
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
        self._symbols = SymbolCodes(symbols)
        self._channels = Channels(channels, self._symbols)
        #: Whether arrays are numbered, and the number of the last one.
        self._numbered = False
        self._last: int | None = None
        layouts = [
            *(BOOK_LAYOUTS if "book" in channels else ()),
            *(TRADE_LAYOUTS if "trades" in channels else ()),
            *([TICKER_LAYOUT] if "quotes" in channels else ()),
            HEARTBEAT_LAYOUT,
        ]
        self._layouts = KnownLayouts(layouts, self._channels.names())
        #: The changes of channels the layouts know of.
        self._renamed = self._channels.changes

    @classmethod
    def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        groups: list[list[str]] = []
        room = 0
        for symbol in dict.fromkeys(symbols):
            if not instruments.is_symbol(symbol):
                raise ValueError(
                    f"bitfinex cannot have the symbol {symbol[:100]!r}: its names are like tBTCUSD, tAVAX:USD and "
                    "tBTCF0:USTF0"
                )
            channels = 4 if instruments.is_contract(symbol) else 3
            if channels > room:
                groups.append([])
                room = _MAX_CHANNELS - 1
            groups[-1].append(symbol)
            room -= channels
        return [tuple(group) for group in groups]

    @property
    def url(self) -> str:
        return self._endpoint

    @property
    def book_rules(self) -> BookRules:
        return BookRules(chain="none", checksum="bitfinex")

    @property
    def proof(self) -> Proof:
        return "numbered"

    def greet(self) -> list[bytes]:
        return [msgspec.json.encode({"event": "conf", "flags": _SEQUENCE + _CHECKSUM})]

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.add(symbols)
        return self._channels.subscribe(symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._symbols.retire(symbols)
        return self._channels.unsubscribe(symbols)

    def renew_book(self, symbol: str) -> list[bytes]:
        return self._channels.renew_book(symbol)

    def ping(self) -> bytes | None:
        return None

    def snapshot_request(self, symbol: str) -> RestRequest | None:
        return None

    def read_snapshot(self, symbol: str, body: bytes, ts_recv: int) -> pa.RecordBatch:
        raise ValueError("bitfinex sends snapshots of books over WebSocket")

    @classmethod
    def instrument_requests(cls, symbols: Sequence[str]) -> list[RestRequest]:
        return instruments.requests(symbols)

    @classmethod
    def read_instruments(cls, bodies: Sequence[bytes]) -> pa.Table:
        return instruments.read(bodies)

    def decode(self, frames: Sequence[bytes], ts_recv: Times) -> Decoded:
        reading = Reading(frames, ts_recv, self._symbols)
        left = self._read_known(reading, 0 if self._numbered else len(frames), self._channels)
        events = _decode_events(frames, left)
        if any(map(self._changes_meanings, events.values())):
            reading = Reading(frames, ts_recv, self._symbols)
            left = self._read_ahead(reading, events)
            if not left:
                # An array came before its channel was granted.
                reading = Reading(frames, ts_recv, self._symbols)
                left = range(len(frames))
        else:
            # They have nothing to say; a recording that is played again has many.
            known = {at for at, event in events.items() if isinstance(event, Subscribed | Unsubscribed)}
            reading.data.ignored |= known
            left = [at for at in left if at not in known]
        self._read(reading, left, events)
        reading.data.add()
        self._mark_broken(reading)
        holes = self._mark_holes(reading)
        return decoded(
            reading.events,
            frames,
            subscribed=self._channels.completed(),
            refused=reading.refused,
            replies=reading.replies,
            notices=reading.notices,
            # Where arrays are missing, that says it of every symbol already.
            trades_of=None if holes else self._trades_of,
            holes=holes,
            ignored=reading.ignored + len(reading.data.ignored),
        )

    def _changes_meanings(self, event: Event) -> bool:
        match event:
            case Subscribed() | Unsubscribed():
                return self._channels.is_news(event)
            case Conf():
                return _numbers_anew(event, self._numbered)
            case _:
                return False

    def _read_known(self, reading: Reading, start: int, channels: Channels) -> Sequence[int]:
        """Read the frames of known layouts from `start` on, with what numbers mean to these channels; the positions of
        the others."""
        if start == len(reading.frames):
            return range(start)
        if self._renamed != channels.changes:
            self._renamed = channels.changes
            self._layouts.rename(channels.names())
        events = Events(reading.events.ts_recv[start:], self._symbols)
        read = self._layouts.read(reading.frames[start:] if start else reading.frames, events)
        reading.take(start, events)
        reading.numbers[start:] = read.sequences
        reading.ignored += read.ignored
        return [*range(start), *(start + at for at in read.others.tolist())]

    def _read_ahead(self, reading: Reading, events: Mapping[int, Event]) -> Sequence[int]:
        """As `_read_known`, with what numbers mean after these events; what meant something else before is left, as
        the events are. Empty where a number gave rows before the event that gave it its meaning: then the reading is
        of no use."""
        channels = self._channels.copy()
        numbered, start = self._numbered, 0
        since: dict[Meaning, int] = {}
        for at, event in events.items():
            match event:
                case Conf() if _numbers_anew(event, numbered):
                    numbered, start = not numbered, at + 1
                case Subscribed() if channels.is_news(event):
                    channels.granted(event)
                    since[channels.of(event.channel_id)] = at
                case Unsubscribed():
                    channels.ended(event.channel_id)
        left = self._read_known(reading, start if numbered else len(reading.frames), channels)
        return [] if reading.is_any_before(since) else left

    def _read(self, reading: Reading, positions: Sequence[int], events: Mapping[int, Event]) -> None:
        """The slow way, but for events that were decoded before."""
        arrays = [at for at in positions if at not in events]
        messages, unreadable = decode_each(decode_message, look_again, [reading.frames[at] for at in arrays])
        reading.events.reasons.update((arrays[number], reason) for number, reason in unreadable.items())
        decoded = iter(messages)
        for at in positions:
            message = events[at] if at in events else next(decoded)
            if isinstance(message, list):
                self._sort(at, message, reading)
            elif message is not None:
                self._follow(at, message, reading)

    def _sort(self, at: int, parts: list[msgspec.Raw], reading: Reading) -> None:
        """Put an array where it belongs. What we know no channel for is ignored: heartbeats may come too early."""
        data = reading.data
        if len(parts) < 2 or (channel_id := _integer(parts[0])) is None:
            reading.events.reasons[at] = "neither an event nor a message of a channel"
            return
        if self._numbered and len(parts) > 2 and (number := _integer(parts[-1])) is not None:
            reading.numbers[at] = number
        channel, code = self._channels.of(channel_id)
        what = bytes(parts[1])
        named = what.startswith(b'"')
        found = Found(at, code, int(reading.numbers[at]), parts[2] if named and len(parts) > 2 else parts[1])
        match channel, what:
            case "book", b'"cs"':
                data.checksums.append(found)
            case "trades", b'"te"':
                data.trades.append(found)
            case _ if channel is None or named:
                data.ignored.add(at)
            case "book", _:
                data.books.append(found)
            case "trades", _:
                data.history.append(found)
            case "quotes", _:
                data.tickers.append(found)
            case "derivatives", _:
                data.statuses.append(found)
            case _:
                data.liquidations.append(found)

    def _follow(self, at: int, event: Event, reading: Reading) -> None:
        match event:
            case Failed() if event.code not in _HARMLESS:
                reading.refused.append(self._channels.refused(event))
                return
            case Conf() if event.status != "OK":
                reading.refused.append(Refusal(frozenset(), "bitfinex refuses to number its messages"))
                return
            case Conf():
                self._numbered = bool(event.flags & _SEQUENCE)
            case Info():
                if event.code in _NOTICES:
                    reading.notices.append(_NOTICES[event.code])
                elif event.platform is not None and event.platform.status == 0:
                    reading.notices.append("maintenance")
            case Subscribed():
                reading.replies += self._channels.granted(event)
            case Unsubscribed():
                self._channels.ended(event.channel_id)
        reading.data.ignored.add(at)

    def _mark_broken(self, reading: Reading) -> None:
        """A message of a book that cannot be used breaks that book."""
        places = []
        for at in sorted(reading.events.reasons):
            beginning = _BEGINNING.match(reading.frames[at])
            channel, code = self._channels.of(int(beginning[1]) if beginning else -1)
            if channel == "book":
                places.append((at, code))
        if places:
            reading.events.books.append(broken(places))

    def _trades_of(self, frame: bytes) -> Sequence[str]:
        """The symbol whose trades an unusable frame held. (Where its channel cannot be read its number cannot be
        either, and the next one shows a hole.)"""
        beginning = _BEGINNING.match(frame)
        channel, code = self._channels.of(int(beginning[1]) if beginning else -1)
        return [self._symbols.names[code]] if channel == "trades" else []

    def _mark_holes(self, reading: Reading) -> list[Hole]:
        """Where arrays are missing every book is broken, before what the array after the hole brings; trades of any
        symbol may be missing too."""
        at = np.flatnonzero(reading.numbers >= 0)
        if not self._numbered or not len(at):
            return []
        own = reading.numbers[at]
        before = np.empty_like(own)
        before[0] = own[0] - 1 if self._last is None else self._last
        before[1:] = own[:-1]
        self._last = int(own[-1])
        holes = at[own != before + 1].tolist()
        for position in holes:
            reading.events.reasons.setdefault(position, _HOLE)
            reading.counts_no_more(position)
        if not holes:
            return []
        if codes := self._channels.codes("book"):
            reading.events.books.insert(0, broken((position, code) for position in ends(holes) for code in codes))
        names = self._symbols.names
        missed = {names[code] for code in self._channels.codes("trades")}.intersection(self._symbols.active)
        return [Hole(frozenset(missed), f"an array: {_HOLE}")] if missed else []


def _decode_events(frames: Sequence[bytes], positions: Sequence[int]) -> dict[int, Event]:
    """Those that are readable, by position."""
    places = [at for at in positions if not frames[at].startswith(b"[")]
    messages, _ = decode_each(decode_message, look_again, [frames[at] for at in places])
    pairs = zip(places, messages, strict=True)
    return {at: message for at, message in pairs if message is not None and not isinstance(message, list)}


def _numbers_anew(event: Conf, numbered: bool) -> bool:
    return event.status == "OK" and bool(event.flags & _SEQUENCE) != numbered


def _integer(text: msgspec.Raw) -> int | None:
    content = bytes(text)
    if _INTEGER.fullmatch(content) is None or (value := int(content)) > _LARGEST:
        return None
    return value
