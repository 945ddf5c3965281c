"""Which symbols of one exchange are collected, and on which connections: symbols come and go while it runs, each on a
connection with room for it; what the exchange does not have or no longer trades is refused with the reason; an old
connection is left only once its successor has everything.
"""

import asyncio
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import pyarrow as pa
import structlog

from actors.exchange_connection import ExchangeConnection
from actors.feeds.feed import Feed

NO_ANSWER_YET: Final = "the exchange has not answered yet"
#: So many unknown symbols at a time are told which names are like theirs: finding out takes milliseconds for each.
MOST_HINTS: Final = 10

log = structlog.get_logger(__name__)


class Roster:
    """The symbols of `feed`'s exchange. `connect` makes a connection for some symbols and keeps it running."""

    def __init__(
        self, feed: type[Feed], symbols: Iterable[str], connect: Callable[[Sequence[str]], ExchangeConnection]
    ) -> None:
        self._feed = feed
        self._connect = connect
        self._wanted = dict.fromkeys(symbols)
        #: Symbols that were never asked for, with the reason.
        self._refused: dict[str, str] = {}
        #: What the exchange lists: whether each symbol is traded. Empty while that is unknown.
        self._listed: dict[str, bool] = {}
        #: Whether connections may be made: from `place_all` until `leave`.
        self._open = False
        self.connections: list[ExchangeConnection] = []

    @property
    def wanted(self) -> tuple[str, ...]:
        return tuple(self._wanted)

    @property
    def refused(self) -> dict[str, str]:
        """Symbols that are not collected, by us or by the exchange, with the reason."""
        return self._refused | {symbol: why for one in self.connections for symbol, why in one.refused.items()}

    @property
    def granted(self) -> set[str]:
        return {symbol for connection in self.connections for symbol in connection.subscribed}

    def possible(self, symbols: Iterable[str]) -> tuple[str, ...]:
        """Those of the symbols that have the form of this exchange's names."""
        return tuple(symbol for symbol in symbols if not self.malformed(symbol))

    def unlisted(self, symbols: Iterable[str]) -> bool:
        """Whether the exchange, as far as is known, does not trade one of these."""
        return bool(self._listed) and not all(self._listed.get(symbol) for symbol in symbols)

    def place_all(self) -> None:
        """Connect everything that is wanted."""
        self._open = True
        self._place(self._acceptable(self.wanted))

    def add(self, symbols: Iterable[str]) -> None:
        """Collect further symbols; those refused before are tried again. What is added before `place_all` waits for
        that."""
        asked, refused = dict.fromkeys(symbols), self.refused
        again = [symbol for symbol in asked if symbol in refused]
        self._end(again, "asked for again")
        new = [symbol for symbol in asked if symbol not in self._wanted or symbol in again]
        self._wanted |= asked
        self._place(self._acceptable(new))

    def remove(self, symbols: Iterable[str]) -> list[str]:
        """Stop collecting these; returns those that were wanted."""
        known = [symbol for symbol in dict.fromkeys(symbols) if symbol in self._wanted]
        self._end(known, "not wanted any more")
        for symbol in known:
            del self._wanted[symbol]
            self._refused.pop(symbol, None)
        return known

    def list_is(self, instruments: pa.Table) -> None:
        """What the exchange lists now (`storage.schema.INSTRUMENTS`): symbols it no longer trades end quietly, and
        those it trades again come back, and so does what it refused though it trades it: it may have been no more than
        a halt."""
        columns: dict[str, list[Any]] = instruments.select(["symbol", "active"]).to_pydict()
        self._listed = dict(zip(columns["symbol"], columns["active"], strict=True))
        collected = [symbol for connection in self.connections for symbol in connection.symbols]
        gone = [symbol for symbol in collected if self._why_not(symbol, hint=False)]
        self._acceptable(gone)
        self._end(gone, "not traded any more")
        again = [symbol for one in self.connections for symbol in one.refused if self._listed.get(symbol)]
        self._end(again, "refused")
        back = [symbol for symbol in self._refused if not self._why_not(symbol, hint=False)]
        self._place(self._acceptable([*again, *back]))

    def flush(self) -> None:
        """Flush every connection, and let successors take over."""
        for connection in tuple(self.connections):
            connection.flush()
            self._succeed(connection)

    def renew(self, reason: str) -> None:
        """Let other connections take over everything."""
        for connection in self.connections:
            for one in _with_successor(connection):
                one.succeed = reason

    def hold(self, held: bool) -> None:
        """Stop or go on reading all sockets."""
        for connection in self.connections:
            for one in _with_successor(connection):
                one.hold(held)

    def leave(self, reason: str) -> None:
        """End all connections; what they received is flushed."""
        leaving = [one for connection in self.connections for one in _with_successor(connection)]
        self.connections, self._open = [], False
        _leave(leaving, reason)

    def rows(self) -> list[dict[str, Any]]:
        """Where each symbol stands: `state` is subscribed, waiting or refused; `book` the state of its book, since
        `book_since` (ns), and `book_why` it is not good."""
        refused, granted = self.refused, self.granted
        books = {symbol: book for one in self.connections for symbol, book in one.books.states().items()}
        since = {symbol: one.book_since(symbol) for one in self.connections for symbol in one.symbols}
        return [
            {
                "symbol": symbol,
                "state": "refused" if symbol in refused else "subscribed" if symbol in granted else "waiting",
                "reason": refused.get(symbol, ""),
                "book": books[symbol].state if symbol in books else None,
                "book_since": since.get(symbol),
                "book_why": books[symbol].reason if symbol in books else "",
                "epoch": books[symbol].epoch if symbol in books else None,
                "gaps": books[symbol].gaps if symbol in books else None,
            }
            for symbol in self._wanted
        ]

    def _acceptable(self, symbols: Sequence[str]) -> list[str]:
        """Those of the symbols the exchange has; the others are refused."""
        good: list[str] = []
        for number, symbol in enumerate(symbols):
            reason = self._why_not(symbol, hint=number - len(good) < MOST_HINTS)
            if reason:
                self._refused[symbol] = reason
                log.warning("symbol refused", exchange=self._feed.exchange, symbol=symbol, reason=reason)
            else:
                self._refused.pop(symbol, None)
                good.append(symbol)
        return good

    def _why_not(self, symbol: str, hint: bool) -> str:
        exchange = self._feed.exchange
        if malformed := self.malformed(symbol):
            return malformed
        if not self._listed or self._listed.get(symbol):
            return ""
        if symbol in self._listed:
            return f"{exchange} does not trade {symbol} any more"
        near = difflib.get_close_matches(symbol, self._listed, 3) if hint else []
        return f"{exchange} has no symbol {symbol}" + (f"; did you mean {' or '.join(near)}?" if near else "")

    def malformed(self, symbol: str) -> str:
        """Why this cannot be the name of a symbol of this exchange; "" where it can."""
        try:
            self._feed.groups([symbol])
        except ValueError as error:
            return str(error)
        return ""

    def _place(self, symbols: Sequence[str]) -> None:
        """Put symbols on connections: where there is room, else on new ones."""
        if not self._open:
            return
        left = dict.fromkeys(symbols)
        for connection in self.connections:
            if not left:
                return
            if fits := self._fitting(connection, left):
                for one in _with_successor(connection):
                    one.add(fits)
                left = {symbol: None for symbol in left if symbol not in connection.symbols}
        if left:
            self.connections += [self._connect(group) for group in self._feed.groups(tuple(left))]

    def _fitting(self, connection: ExchangeConnection, symbols: Iterable[str]) -> list[str]:
        """Those of the symbols that would be in the group of a connection."""
        own = connection.symbols
        groups = self._feed.groups([*own, *symbols])
        return [symbol for group in groups if not own.keys().isdisjoint(group) for symbol in group if symbol not in own]

    def _end(self, symbols: Iterable[str], reason: str) -> None:
        leaving = set(symbols)
        for connection in tuple(self.connections):
            mine = [symbol for symbol in connection.symbols if symbol in leaving]
            if not mine:
                continue
            for one in _with_successor(connection):
                one.remove(mine, reason)
            if not connection.symbols:
                _leave(_with_successor(connection), "no symbol is left on this connection")
                self.connections.remove(connection)

    def _succeed(self, old: ExchangeConnection) -> None:
        """Both connections run until the new one has everything; what both bring, the shards keep once."""
        if old.succeed and old.successor is None:
            log.info("another connection takes over", exchange=self._feed.exchange, name=old.name, why=old.succeed)
            old.successor = self._connect(tuple(old.symbols))
            old.succeed = ""
        new = old.successor
        if new is None:
            return
        new.flush()
        # What lies unread in the old one was before all that the new one brings.
        has_all = old.caught_up and (new.complete or new.had_time)
        if has_all or old.life.state in ("waiting", "connecting"):
            old.successor = None
            self.connections[self.connections.index(old)] = new
            _leave([old], f"{new.name} took over")


def _with_successor(connection: ExchangeConnection) -> list[ExchangeConnection]:
    return [connection] if connection.successor is None else [connection, connection.successor]


def _leave(connections: Sequence[ExchangeConnection], reason: str) -> None:
    # All sockets first: what was received may be what somebody fails at.
    for connection in connections:
        if connection.task is not None:
            connection.task.cancel()
        connection.close(reason)
    for connection in connections:
        connection.flush()
        connection.ended(reason)


async def answered(roster: Roster, symbols: Iterable[str], timeout_s: float) -> dict[str, str]:
    """Wait until each symbol is granted or refused: "" or the reason; what has no answer in time says so."""
    asked = tuple(dict.fromkeys(symbols))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        granted, refused = roster.granted, roster.refused
        if loop.time() >= deadline or all(symbol in granted or symbol in refused for symbol in asked):
            return {symbol: "" if symbol in granted else refused.get(symbol, NO_ANSWER_YET) for symbol in asked}
        # Answers arrive when the collector flushes, which it does on a timer too.
        await asyncio.sleep(0.01)
