"""The channels of one Bitfinex connection: which are wanted, and under which numbers they were granted.

Numbers hold for one connection only, and only the event that grants a channel says what its number means.
"""

from collections.abc import Sequence
from copy import copy
from typing import Final

import msgspec

from actors.feeds.bitfinex.instruments import is_contract
from actors.feeds.bitfinex.messages import Failed, Subscribed, Unsubscribed
from actors.feeds.feed import Channel, Refusal
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes

#: What is subscribed: a channel of ours, and its symbol. Liquidations come for all symbols in one.
Key = tuple[Channel, str]
#: What a number means: a channel and the code of its symbol; None and `UNKNOWN_SYMBOL` where it means nothing to us.
Meaning = tuple[Channel | None, int]
_LIQUIDATIONS: Final[Key] = ("liquidations", "")
_LIQUIDATIONS_KEY: Final = "liq:global"
_DERIVATIVES_KEY: Final = "deriv:"

#: The exchange's names of channels with a symbol.
_NAMES: Final[dict[str, Channel]] = {"trades": "trades", "ticker": "quotes", "book": "book"}


class Channels:
    """Gives the messages that subscribe and unsubscribe, and follows the answers. What comes of a channel that was
    left is known until the exchange says that it ended."""

    def __init__(self, wanted: frozenset[Channel], symbols: SymbolCodes) -> None:
        self._wanted = wanted
        self._symbols = symbols
        self._numbers: dict[Key, int] = {}
        self._by_number: dict[int, tuple[Channel, int]] = {}
        self._incomplete: dict[str, None] = {}
        #: Counts the changes of what numbers mean.
        self.changes = 0

    def copy(self) -> "Channels":
        """One that follows answers without a trace here."""
        other = copy(self)
        other._numbers, other._by_number = self._numbers.copy(), self._by_number.copy()
        return other

    def subscribe(self, symbols: Sequence[str]) -> list[bytes]:
        self._incomplete |= dict.fromkeys(symbols)
        keys = dict.fromkeys(key for symbol in symbols for key in self._keys(symbol))
        return [_subscription(key) for key in keys if key not in self._numbers]

    def unsubscribe(self, symbols: Sequence[str]) -> list[bytes]:
        for symbol in symbols:
            self._incomplete.pop(symbol, None)
        own = [key for symbol in symbols for key in self._keys(symbol) if key != _LIQUIDATIONS]
        return [self._leave(key) for key in own if key in self._numbers]

    def renew_book(self, symbol: str) -> list[bytes]:
        key: Key = ("book", symbol)
        left = [self._leave(key)] if key in self._numbers else []
        return [*left, _subscription(key)]

    def granted(self, event: Subscribed) -> list[bytes]:
        """What to answer: a symbol that was unsubscribed before its channel was granted is unsubscribed again."""
        key = self._key(event)
        if key is None:
            return []
        if self._symbols.any_retired and key != _LIQUIDATIONS and key[1] not in self._symbols.active:
            return [_message(event="unsubscribe", chanId=event.channel_id)]
        if self._is_new(key, event.channel_id):
            self._by_number.pop(self._numbers.get(key, -1), None)
            self._numbers[key] = event.channel_id
            self._by_number[event.channel_id] = key[0], self._symbols.code(key[1])
            self.changes += 1
        return []

    def is_news(self, event: Subscribed | Unsubscribed) -> bool:
        """Whether a number does not mean what it meant before."""
        if isinstance(event, Unsubscribed):
            return event.channel_id in self._by_number
        key = self._key(event)
        return key is not None and self._is_new(key, event.channel_id)

    def ended(self, number: int) -> None:
        self.changes += self._by_number.pop(number, None) is not None

    def refused(self, event: Failed) -> Refusal:
        symbol = event.symbol or event.key.removeprefix(_DERIVATIVES_KEY)
        known = self._symbols.code(symbol) != UNKNOWN_SYMBOL
        if known:
            self._incomplete.pop(symbol, None)
        about = f" {event.channel[:20]} of {symbol}" if known else ""
        return Refusal(frozenset({symbol} if known else ()), f"bitfinex refuses{about}: {event.reason}")

    def completed(self) -> frozenset[str]:
        """Symbols that have all their channels since the last call."""
        granted = self._numbers.keys()
        complete = frozenset(symbol for symbol in self._incomplete if granted >= set(self._keys(symbol)))
        for symbol in complete:
            del self._incomplete[symbol]
        return complete

    def of(self, number: int) -> Meaning:
        return self._by_number.get(number, (None, UNKNOWN_SYMBOL))

    def codes(self, wanted: Channel) -> list[int]:
        """The codes of the symbols with this channel."""
        return [code for channel, code in self._by_number.values() if channel == wanted]

    def names(self) -> dict[str, dict[str, int]]:
        """As layouts have them: the numbers of each channel, and of all of them, with the codes."""
        names: dict[str, dict[str, int]] = {name: {} for name in (*_NAMES, "channel")}
        for number, (channel, code) in self._by_number.items():
            names["channel"][str(number)] = code
            for name, own in _NAMES.items():
                if own == channel:
                    names[name][str(number)] = code
        return names

    def _leave(self, key: Key) -> bytes:
        return _message(event="unsubscribe", chanId=self._numbers.pop(key))

    def _keys(self, symbol: str) -> list[Key]:
        own: list[Channel] = ["trades", "quotes", "book"]
        if is_contract(symbol):
            own.append("derivatives")
        keys: list[Key] = [(channel, symbol) for channel in own if channel in self._wanted]
        return [*keys, _LIQUIDATIONS] if "liquidations" in self._wanted else keys

    def _key(self, event: Subscribed) -> Key | None:
        """What was granted, if it is anything we ask for."""
        if event.channel == "status":
            liquidations = event.key == _LIQUIDATIONS_KEY
            key: Key = _LIQUIDATIONS if liquidations else ("derivatives", event.key.removeprefix(_DERIVATIVES_KEY))
        elif event.channel in _NAMES and (event.channel != "book" or event.prec == "P0"):
            key = _NAMES[event.channel], event.symbol
        else:
            return None
        channel, symbol = key
        known = key == _LIQUIDATIONS or self._symbols.code(symbol) != UNKNOWN_SYMBOL
        return key if known and channel in self._wanted and (channel != "derivatives" or is_contract(symbol)) else None

    def _is_new(self, key: Key, number: int) -> bool:
        granted = key[0], self._symbols.code(key[1])
        return self._numbers.get(key) != number or self._by_number.get(number) != granted


def _subscription(key: Key) -> bytes:
    channel, symbol = key
    match channel:
        case "book":
            return _message(event="subscribe", channel="book", symbol=symbol, prec="P0", freq="F0", len="100")
        case "derivatives":
            return _message(event="subscribe", channel="status", key=f"{_DERIVATIVES_KEY}{symbol}")
        case "liquidations":
            return _message(event="subscribe", channel="status", key=_LIQUIDATIONS_KEY)
        case "quotes":
            return _message(event="subscribe", channel="ticker", symbol=symbol)
        case "trades":
            return _message(event="subscribe", channel="trades", symbol=symbol)


def _message(**fields: str | int) -> bytes:
    return msgspec.json.encode(fields)
