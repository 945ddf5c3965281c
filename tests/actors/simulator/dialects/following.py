"""What a client of a made-up exchange has to have, to the nanosecond, and past trades the way our histories ask."""

from collections.abc import Sequence
from itertools import count

from actors.feeds.history import Wanted
from actors.feeds.registry import HISTORIES
from actors.simulator.dialect import Dialect
from tests.actors.simulator.dialects.made_up import Client, Exchange, Row, quotes_in, quotes_of, rows_in

_LAST = 2**63 - 1


def exact_rows(exchange: Exchange, symbol: str) -> list[Row]:
    """Every trade so far: id, ns, price, size, side."""
    listed, trades = exchange.listings[symbol], exchange.by_id(symbol, 0, _LAST, _LAST)
    price, size = 10**listed.price_decimals, 10**listed.size_decimals
    columns = (trades.ids, trades.t_ns, trades.prices / price, trades.sizes / size, trades.sides)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def check_followed(dialect: type[Dialect], symbols: Sequence[str], seed: int, pieces: Sequence[int]) -> None:
    """A client that subscribes after the first piece has every later trade and quote and, after each piece, the right
    books, with every checksum verified; a book that is renewed on the way is right again. The one before the last
    trade it is told of is history."""
    exchange = Exchange(dialect, symbols, seed)
    exchange.run(pieces[0])
    before = {symbol: len(exact_rows(exchange, symbol)) for symbol in symbols}
    quoted = {symbol: len(exchange.quoted[symbol]) for symbol in symbols}
    client = Client(exchange, symbols)
    # What happened before an acknowledgement came is history: it comes now, not when the exchange was made.
    client._clock = count(exchange.now_ns)
    decodeds = [client.read()]
    assert all(map(client.follows, symbols))
    for message in client.feed.renew_book(symbols[0]):
        client.send(message)
    for steps in pieces[1:]:
        exchange.run(steps)
        decodeds.append(client.read())
        assert all(map(client.follows, symbols)), client.books.states()
    assert frozenset().union(*(decoded.subscribed for decoded in decodeds)) == set(symbols)
    assert not any(decoded.refused for decoded in decodeds)
    for symbol in symbols:
        state = client.books.states()[symbol]
        assert (state.gaps, state.checksum_failures, state.checksums_unknown) == (0, 0, 0)
        expected = exact_rows(exchange, symbol)
        assert [row for decoded in decodeds for row in rows_in(decoded.trades, symbol)] == expected[before[symbol] :]
        history = [row for decoded in decodeds for row in rows_in(decoded.history, symbol)]
        assert history == expected[before[symbol] - len(history) : before[symbol]]
        # The first is the quote that stood when it subscribed.
        quotes = [quote for decoded in decodeds for quote in quotes_in(decoded.quotes, symbol)]
        told = exchange.quoted[symbol][quoted[symbol] :]
        assert quotes[len(quotes) - len(told) :] == [
            row for quote in told for row in quotes_of(exchange.listings[symbol], quote)
        ]


def check_backfilled(exchange: Exchange, symbol: str, first: int, last: int) -> None:
    """Our history of these trades (by their places) is what was live, asked for by id and by time."""
    rows = exact_rows(exchange, symbol)
    (first_id, from_ns, *_), (last_id, to_ns, *_) = rows[first], rows[last]
    assert past(exchange, Wanted(symbol, from_ns, to_ns, first_id, last_id)) == rows[first : last + 1]
    assert past(exchange, Wanted(symbol, from_ns, to_ns)) == [row for row in rows if from_ns <= row[1] <= to_ns]


def past(exchange: Exchange, wanted: Wanted) -> list[Row]:
    history = HISTORIES[exchange.dialect.exchange]
    request, found, covered = history.request(wanted), [], False
    while request is not None:
        reply = exchange.reply(request.path)
        assert reply.status == 200
        page = history.read(wanted, reply.body, exchange.now_ns + 3_600 * 10**9, request)
        found += rows_in(page.trades, wanted.symbol)
        request, covered = page.next, page.covered
    assert covered
    return sorted(set(found))
