"""A made-up exchange without sockets: what its market does, what the clients of its sessions get, and what is past.

Times are those at which things happen; a client gets everything at once.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import fields
from itertools import count
from typing import Any, Final

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from actors.aggregation.book_sync import BookSync
from actors.feeds.feed import Decoded, Feed
from actors.feeds.history import TradeHistory, Wanted
from actors.feeds.registry import FEEDS
from actors.simulator.dialect import Book, Change, Dialect, Levels, Listing, Mark, Quotes, Reply, Trades
from actors.simulator.exchange_server import ExchangeServer
from actors.simulator.market import Events, Market
from actors.simulator.session import Known, Stream
from actors.simulator.sessions import session_at

START_NS: Final = 1_700_000_000_123_456_789
#: Id, ns (in whole ms), price, size, side.
Row = tuple[int, int, float, float, int]


class Exchange:
    """A `View` too."""

    def __init__(self, dialect: type[Dialect], symbols: Sequence[str], seed: int = 7, rate: float = 200) -> None:
        self.listings: dict[str, Listing] = {symbol: dialect.listing(symbol) for symbol in symbols}
        self.dialect = dialect(self.listings)
        self.market = Market(seed, self.dialect, START_NS, rate)
        self.now_ns = START_NS
        self.clients: list[Client] = []
        self._states = {symbol: self.market.state(symbol) for symbol in symbols}
        self._books: dict[str, Book] = {symbol: state[0] for symbol, state in self._states.items()}
        self._quotes = {symbol: state[1] for symbol, state in self._states.items()}
        self._marks = {symbol: state[2] for symbol, state in self._states.items()}
        self._trades: dict[str, list[Trades]] = {symbol: [] for symbol in symbols}
        #: All quotes and marks so far.
        self.quoted: dict[str, list[Quotes]] = {symbol: [] for symbol in symbols}
        self.marked: dict[str, list[tuple[Mark, Quotes]]] = {symbol: [] for symbol in symbols}
        self._coming = self._steps()

    def run(self, steps: int) -> None:
        """Let so many things happen."""
        for _ in range(steps):
            next(self._coming)

    def book(self, symbol: str) -> Book:
        return self._books[symbol]

    def quote(self, symbol: str) -> Quotes:
        return self._quotes[symbol]

    def mark(self, symbol: str) -> Mark:
        return self._marks[symbol]

    def newest(self, symbol: str, limit: int) -> Trades:
        return self.by_id(symbol, 0, 2**63 - 1, limit, newest=True)

    def by_id(self, symbol: str, first: int, last: int, limit: int, newest: bool = False) -> Trades:
        past = self._past(symbol)
        return _limited(past, (past.ids >= first) & (past.ids <= last), limit, newest)

    def by_time(self, symbol: str, from_ns: int, to_ns: int, limit: int, newest: bool = False) -> Trades:
        past = self._past(symbol)
        return _limited(past, (past.t_ns >= from_ns) & (past.t_ns <= to_ns), limit, newest)

    def rows(self, symbol: str) -> list[Row]:
        """Every trade so far."""
        return rows_of(self.listings[symbol], self._past(symbol))

    def levels(self, symbol: str) -> tuple[Any, ...]:
        return levels_of(self.listings[symbol], self.book(symbol).levels(self.dialect.depth))

    def get(self, address: str, **query: Any) -> Any:
        reply = self.reply(address, **query)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def reply(self, address: str, **query: Any) -> Reply:
        path, _, own = address.partition("?")
        pairs = dict(pair.split("=") for pair in own.split("&")) if own else {}
        return self.dialect.rest(path, pairs | {name: str(value) for name, value in query.items()}, self)

    def _past(self, symbol: str) -> Trades:
        parts = self._trades[symbol]
        if not parts:
            none = np.array([], np.int64)
            return Trades(none, none, none, none, none.astype(np.uint8))
        self._trades[symbol] = [
            Trades(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Trades)))
        ]
        return self._trades[symbol][0]

    def _steps(self) -> Iterator[None]:
        for block in self.market:
            happening: list[tuple[int, int, Events, Any]] = []
            for events in block:
                happening += [(t_ns, 0, events, change) for t_ns, change in events.changes]
                happening += [(t_ns, 1, events, (mark, quote)) for t_ns, mark, quote in events.marks]
                happening += [(int(t_ns), 2, events, at) for at, t_ns in enumerate(events.due)]
            for t_ns, _, events, what in sorted(happening, key=lambda one: one[:2]):
                self.now_ns = t_ns
                self._happens(events, what)
                yield

    def _happens(self, events: Events, what: Any) -> None:
        symbol, dialect = events.symbol, self.dialect
        match what:
            case Change():
                self._books[symbol] = what.after
                self._publish(dialect.stream(symbol, "book"), dialect.change(symbol, what))
            case (Mark() as mark, quote):
                self._marks[symbol] = mark
                self.marked[symbol].append((mark, quote))
                self._publish(dialect.stream(symbol, "derivatives"), dialect.derivatives(symbol, mark, quote))
            case int(at):
                quote = self._quotes[symbol] = one_of(events.quotes, at)
                self.quoted[symbol].append(quote)
                self._publish(dialect.stream(symbol, "quotes"), dialect.quotes(symbol, quote))
                trade = one_of(events.trades, at)
                self._trades[symbol].append(trade)
                self._publish(dialect.stream(symbol, "trades"), dialect.trades(symbol, trade))

    def _publish(self, stream: Stream | None, frames: list[bytes]) -> None:
        for client in self.clients:
            if stream is not None and client.session.wants(stream):
                client.put(stream, frames)


class Client:
    """One connection of our feed with these symbols, subscribed."""

    def __init__(self, exchange: Exchange, symbols: Sequence[str]) -> None:
        self.exchange = exchange
        name = exchange.dialect.exchange
        self.feed: Feed = FEEDS[name](symbols, f"ws://sim{exchange.dialect.path}")
        target = self.feed.url.removeprefix("ws://sim")
        self.session = session_at(name, target)(target, Known(exchange.listings))
        self.books = BookSync(self.feed.book_rules, by_request=False)
        self.books.add(symbols, 0.0)
        self.frames: list[bytes] = self.session.greeting()
        self._clock = count(START_NS)
        exchange.clients.append(self)
        for message in (*self.feed.greet(), *self.feed.subscribe(symbols)):
            self.send(message)

    def send(self, message: bytes) -> None:
        """A message and what it brings at once."""
        before = set(self.session.streams)
        self.frames += self.session.receive(message, self.exchange.now_ns)
        for stream in self.session.streams:
            if stream not in before:
                self.put(stream, self.exchange.dialect.opening(stream, self.exchange))

    def put(self, stream: Stream, frames: list[bytes]) -> None:
        times = [self.exchange.now_ns] * len(frames)
        self.frames += self.session.outgoing(frames, [stream] * len(frames), times)

    def read(self) -> Decoded:
        """What came since the last call; the books follow it."""
        frames, self.frames = self.frames, []
        decoded = self.feed.decode(frames, np.array([next(self._clock) for _ in frames], np.int64))
        assert decoded.rejected == ()
        self.books.apply(decoded.books, 0.0)
        for reply in decoded.replies:
            self.send(reply)
        return decoded

    def follows(self, symbol: str) -> bool:
        """Whether the book is the exchange's, to the last level."""
        return shown(self.books, symbol) == self.exchange.levels(symbol)


def check_followed(dialect: type[Dialect], groups: Sequence[Sequence[str]], seed: int, pieces: Sequence[int]) -> None:
    """Clients that subscribe after the first piece have every later trade and the right book after each piece; a book
    that is renewed on the way is right again."""
    symbols = [symbol for group in groups for symbol in group]
    exchange = Exchange(dialect, symbols, seed)
    exchange.run(pieces[0])
    clients = [Client(exchange, group) for group in groups]
    before = {symbol: len(exchange.rows(symbol)) for symbol in symbols}
    granted: set[str] = set()
    got: dict[str, list[Row]] = {symbol: [] for symbol in symbols}
    for number, steps in enumerate((*pieces[1:], 0)):
        for client, group in zip(clients, groups, strict=True):
            decoded = client.read()
            granted |= decoded.subscribed
            assert decoded.refused == ()
            for symbol in group:
                got[symbol] += rows_in(decoded.trades, symbol)
                assert client.follows(symbol), client.books.states()[symbol]
            if number == 1:
                for message in client.feed.renew_book(group[0]):
                    client.send(message)
        exchange.run(steps)
    assert granted == set(symbols)
    for symbol in symbols:
        assert got[symbol] == exchange.rows(symbol)[before[symbol] :]


async def check_served(dialect: type[Dialect], groups: Sequence[Sequence[str]]) -> None:
    """Over real sockets, on the wall clock: no trade is missing after the first, and all books are right at the end."""
    listings = {symbol: dialect.listing(symbol) for group in groups for symbol in group}
    server = ExchangeServer(dialect(listings), seed=7, trades_per_second=2000)
    address, _ = await server.start()
    try:
        feeds = [FEEDS[dialect.exchange](group, address) for group in groups]
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(feed.url, max_queue=None)) for feed in feeds]
            for feed, group, client in zip(feeds, groups, clients, strict=True):
                for message in (*feed.greet(), *feed.subscribe(group)):
                    await client.send(message.decode())
            frames = [[str(await client.recv()).encode() for _ in range(800)] for client in clients]
            await server.halt()
            for client, own in zip(clients, frames, strict=True):
                # The pong comes after everything else.
                await (await client.ping())
                with suppress(TimeoutError):
                    while True:
                        own.append(str(await asyncio.wait_for(client.recv(), 0.02)).encode())
        ids: list[int] = []
        for feed, group, own in zip(feeds, groups, frames, strict=True):
            decoded = feed.decode(own, np.arange(START_NS, START_NS + len(own)))
            assert (decoded.subscribed, decoded.refused, decoded.rejected) == (frozenset(group), (), ())
            books = BookSync(feed.book_rules, by_request=False)
            books.add(group, 0.0)
            books.apply(decoded.books, 0.0)
            for symbol in group:
                assert shown(books, symbol) == levels_of(listings[symbol], server.book(symbol, dialect.depth))
                ids += (symbol_ids := [row[0] for row in rows_in(decoded.trades, symbol)])
                if dialect.ids == "symbol":
                    assert len(symbol_ids) > 20
                    assert symbol_ids == list(range(symbol_ids[0], symbol_ids[-1] + 1))
        if dialect.ids == "exchange":
            # Channels were granted one after the other; then nothing is missing.
            assert set(range(sorted(ids)[50], max(ids) + 1)) <= set(ids)
    finally:
        await server.stop()


def shown(books: BookSync, symbol: str) -> tuple[Any, ...] | None:
    """Both sides of a book that can be trusted."""
    (row,) = books.depth([symbol]).to_pylist()
    if row["state"] != "synced":
        return None
    return tuple([(level["price"], level["size"]) for level in row[side]] for side in ("bids", "asks"))


def levels_of(listed: Listing, levels: Levels) -> tuple[Any, ...]:
    price, size = 10**listed.price_decimals, 10**listed.size_decimals
    return tuple([(ticks / price, units / size) for ticks, units in side] for side in levels)


def check_past(history: TradeHistory, exchange: Exchange, wanted: Wanted, rows: Sequence[Row]) -> int:
    """Our own backfill finds these trades, each as it was live; gives the number of requests."""
    found: list[Row] = []
    request, requests = history.request(wanted), 0
    while request is not None:
        assert exchange.dialect.weight(request.path.partition("?")[0], {}) == request.weight
        reply = exchange.reply(request.path)
        assert reply.status == 200
        page = history.read(wanted, reply.body, exchange.now_ns + 1_000_000_000, request)
        found += rows_in(page.trades, wanted.symbol)
        request, requests = page.next, requests + 1
        assert request is not None or page.covered
    assert sorted(set(found)) == sorted(rows)
    return requests


hostile = st.one_of(
    st.text(max_size=8),
    st.integers(-3, 2**70).map(str),
    st.sampled_from(["", "any", "asc", "1", "9" * 30, "1e9", "spot", "linear", "BTC", "\x00", "BTCUSDT", "BTC_USDC"]),
)


def queries(paths: Sequence[str], names: Sequence[str]) -> st.SearchStrategy[tuple[str, dict[str, str]]]:
    """Requests that may make sense in part."""
    return st.tuples(
        st.sampled_from(paths) | st.text(max_size=8).map("/".__add__),
        st.dictionaries(st.sampled_from(names) | st.text(max_size=3), hostile, max_size=5),
    )


def check_answered(exchange: Exchange, path: str, query: dict[str, str]) -> None:
    """Whatever is asked, there is an answer in the exchange's form."""
    reply = exchange.dialect.rest(path, query, exchange)
    assert reply.status in (200, 400, 404, 500)
    json.loads(reply.body)
    assert 0 < exchange.dialect.weight(path, query) <= exchange.dialect.weight_per_minute


def quotes_in(batch: pa.RecordBatch, symbol: str) -> list[tuple[Any, ...]]:
    """Bid and its size, ask and its size, last price."""
    names = ("bid_price", "bid_size", "ask_price", "ask_size", "last_price")
    return [tuple(row[name] for name in names) for row in batch.to_pylist() if row["symbol"] == symbol]


def quotes_of(listed: Listing, quotes: Quotes) -> list[tuple[float, ...]]:
    price, size = 10**listed.price_decimals, 10**listed.size_decimals
    columns = ((quotes.bids, price), (quotes.bid_sizes, size), (quotes.asks, price), (quotes.ask_sizes, size))
    return list(
        zip(*((column / step).tolist() for column, step in (*columns, (quotes.last_prices, price))), strict=True)
    )


def one_of[Columns: (Trades, Quotes)](columns: Columns, at: int) -> Columns:
    return type(columns)(*(getattr(columns, one.name)[at : at + 1] for one in fields(columns)))


def rows_of(listed: Listing, trades: Trades) -> list[Row]:
    price, size = 10**listed.price_decimals, 10**listed.size_decimals
    columns = (trades.ids, trades.t_ns // 1_000_000 * 1_000_000, trades.prices, trades.sizes, trades.sides)
    return [
        (number, ns, ticks / price, units / size, side)
        for number, ns, ticks, units, side in zip(*(column.tolist() for column in columns), strict=True)
    ]


def rows_in(batch: pa.RecordBatch, symbol: str) -> list[Row]:
    """The same of what a feed decoded."""
    names = ("symbol", "trade_id", "ts_event", "price", "size", "side")
    rows = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    return [row[1:] for row in rows if row[0] == symbol]


def _limited(past: Trades, wanted: Any, limit: int, newest: bool) -> Trades:
    at = np.flatnonzero(wanted)
    at = at[len(at) - min(limit, len(at)) :] if newest else at[:limit]
    return Trades(*(getattr(past, one.name)[at] for one in fields(Trades)))
