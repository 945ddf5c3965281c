"""When to compare a symbol's trades with the exchange's recent ones, and what those show, as a pure machine: where
nothing in the feed tells that a trade was lost, each is looked at twice. A comparison sees one page of the newest
trades, so the next is due before half a page has traded. Times of trades are ns, `now` seconds of a steady clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 10.0
#: Trades this close before the newest of a page may still have been on their way into it.
MARGIN_NS: Final = 1_000_000_000


@dataclass(slots=True)
class _Compared:
    #: Up to this time of trades nothing is missing.
    known_ns: int
    due: float
    #: When the last page was asked for that came; None before the first.
    asked: float | None = None


class Comparisons:
    """All symbols of one exchange."""

    def __init__(self) -> None:
        self._symbols: dict[str, _Compared] = {}

    def next(self, received: Mapping[str, int], now: float) -> str | None:
        """The symbol to compare now, of those `received` (since when, ns on the exchange's clock)."""
        for symbol in self._symbols.keys() - received.keys():
            del self._symbols[symbol]
        for symbol in received.keys() - self._symbols.keys():
            self._symbols[symbol] = _Compared(received[symbol], now + SHORTEST_S)
        due = min(self._symbols, key=lambda symbol: self._symbols[symbol].due, default=None)
        return None if due is None or self._symbols[due].due > now else due

    @property
    def oldest(self) -> float | None:
        """Of every symbol what was traded before then was compared; None where one was not compared yet."""
        return min((one.asked for one in self._symbols.values()), key=lambda asked: asked or 0.0, default=None)

    def since(self, symbol: str) -> int:
        """From which trade on (ns) those of a page are worth a look; call it after `next` gave the symbol. The first
        time all of them: what was lost without a sign before the symbol was lost, or its collector was killed, nobody
        has looked for."""
        one = self._symbols[symbol]
        return 0 if one.asked is None else one.known_ns - MARGIN_NS

    def put_off(self, symbol: str, until: float) -> None:
        """There was no answer."""
        if symbol in self._symbols:
            self._symbols[symbol].due = until

    def nothing(self, symbol: str, asked: float) -> None:
        """A page asked for then showed that there are no trades at all."""
        if symbol in self._symbols:
            self._symbols[symbol].asked, self._symbols[symbol].due = asked, asked + LONGEST_S

    def compared(
        self, symbol: str, oldest_ns: int, newest_ns: int, asked: float, all_there_are: bool = False
    ) -> tuple[int, int] | None:
        """A page asked for then showed all trades of this time (`all_there_are`: and none were before), and they are
        stored. The time before it that no page showed."""
        one = self._symbols.get(symbol)
        if one is None:
            return None
        hole = (one.known_ns, oldest_ns) if oldest_ns > one.known_ns and not all_there_are else None
        # Where the exchange's clock is behind ours, what is known ends with what it has shown.
        one.known_ns, one.asked = newest_ns, asked
        half = (newest_ns - oldest_ns) / 2e9
        one.due = asked + min(max(half, SHORTEST_S), LONGEST_S)
        return hole
