import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.bitfinex import Bitfinex
from actors.feeds.bitfinex.history import BitfinexHistory
from actors.feeds.history import Wanted
from actors.simulator.bitfinex import CHECKSUM, SEQUENCE, TIMESTAMP, BitfinexSession
from actors.simulator.dialects.bitfinex import BitfinexDialect
from actors.simulator.session import Known
from tests.actors.simulator.dialects.made_up import (
    Client,
    Exchange,
    Row,
    check_answered,
    check_followed,
    check_past,
    check_served,
    queries,
    quotes_in,
    quotes_of,
    rows_in,
)

PAIR, LONG, CONTRACT = SYMBOLS = ("tBTCUSD", "tAVAX:USD", "tBTCF0:USTF0")
#: With a past.
BUSY = Exchange(BitfinexDialect, SYMBOLS)
BUSY.run(200)


def row_of(trade: list[Any]) -> Row:
    number, ms, amount, price = trade
    return number, ms * 1_000_000, price, abs(amount), 0 if amount > 0 else 1


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 150), min_size=3, max_size=6))
def test_our_feed_has_every_trade_and_the_right_books_from_any_moment_on(seed: int, pieces: list[int]) -> None:
    check_followed(BitfinexDialect, [SYMBOLS], seed, pieces)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["tSHIB:USD", "tBTCUSD", "tXRPBTC", "tPEPE:UST"]))
def test_every_checksum_is_that_of_the_book(seed: int, symbol: str) -> None:
    exchange = Exchange(BitfinexDialect, [symbol], seed)
    client = Client(exchange, [symbol])
    exchange.run(300)
    changes = exchange.book(symbol).number
    client.read()
    state = client.books.states()[symbol]
    # One with the snapshot, and one with each change.
    assert (state.checksums, state.checksum_failures, state.checksums_unknown) == (changes + 1, 0, 0)
    assert (state.epoch, state.unknown_removals, state.gaps) == (1, 0, 0)
    assert changes > 3


def test_a_wrong_checksum_would_be_found() -> None:
    exchange = Exchange(BitfinexDialect, [PAIR])
    client = Client(exchange, [PAIR])
    exchange.run(100)
    at = max(at for at, frame in enumerate(client.frames) if b',"cs",' in frame)
    number, name, checksum, sequence = json.loads(client.frames[at])
    client.frames[at] = json.dumps([number, name, checksum ^ 1, sequence]).encode()
    client.read()
    assert client.books.states()[PAIR].checksum_failures == 1


def test_ticker_and_status_are_read() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    client.read()
    exchange.run(1500)
    decoded = client.read()
    for symbol in SYMBOLS:
        wanted = [row for quote in exchange.quoted[symbol] for row in quotes_of(exchange.listings[symbol], quote)]
        # The sizes are of many levels together, so our feed leaves them out.
        assert quotes_in(decoded.quotes, symbol) == [(bid, None, ask, None, last) for bid, _, ask, _, last in wanted]
    rows = decoded.derivatives.to_pylist()
    assert len(rows) == len(exchange.marked[CONTRACT]) > 3
    for (mark, _), row in zip(exchange.marked[CONTRACT], rows, strict=True):
        assert (row["symbol"], row["mark_price"], row["index_price"]) == (CONTRACT, mark.mark_price, mark.index_price)
        assert (row["open_interest"], row["funding_rate"]) == (mark.open_interest, mark.funding_rate)


def test_a_subscriber_gets_the_30_newest_trades_first_as_history() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    exchange.run(300)
    client = Client(exchange, SYMBOLS)
    history = client.read().history
    for symbol in SYMBOLS:
        assert rows_in(history, symbol) == exchange.rows(symbol)[:-31:-1]


def test_ids_count_over_the_whole_exchange_and_each_trade_comes_twice() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    exchange.run(300)
    arrays = [json.loads(frame) for frame in client.frames if frame.startswith(b"[")]
    first, again = ([one[2] for one in arrays if one[1] == kind] for kind in ("te", "tu"))
    assert first == again
    ids = [trade[0] for trade in first]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_arrays_are_numbered_without_holes_whatever_they_say() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    exchange.run(100)
    client.frames += client.session.beat(exchange.now_ns)
    exchange.run(100)
    arrays = [json.loads(frame) for frame in client.frames if frame.startswith(b"[")]
    assert [one[-1] for one in arrays] == list(range(1, len(arrays) + 1))
    # Liquidations of all symbols have a channel too.
    assert sum(one[1] == "hb" for one in arrays) == len(client.session.streams) == 11


def test_checksums_and_times_come_to_those_who_ask_for_them() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    clients = [Client(exchange, [PAIR]) for _ in range(4)]
    flags = (0, SEQUENCE, CHECKSUM, CHECKSUM | TIMESTAMP)
    for client, own in zip(clients, flags, strict=True):
        client.send(b'{"event":"conf","flags":%d}' % own)
        client.frames.clear()
    exchange.run(100)
    plain, numbered, checked, timed = ([json.loads(frame) for frame in client.frames] for client in clients)
    assert not any(one[1] == "cs" for one in (*plain, *numbered))
    assert [one[:-1] for one in numbered] == plain
    assert [one[-1] for one in numbered] == list(range(numbered[0][-1], numbered[0][-1] + len(numbered)))
    assert [one for one in checked if one[1] != "cs"] == plain
    assert sum(one[1] == "cs" for one in checked) > 3
    assert [one[:-1] for one in timed] == checked
    assert all(before[-1] <= after[-1] for before, after in pairwise(timed))
    assert {one[-1] for one in timed if one[1] == "te"} == {
        ns // 1_000_000 for _, ns, *_ in exchange.rows(PAIR) if ns // 1_000_000 >= timed[0][-1]
    }


def test_a_channel_s_number_is_never_used_again() -> None:
    session = BitfinexSession("/ws/2", Known({PAIR, LONG}))
    used = []
    for symbol in (PAIR, LONG, PAIR):
        (granted,) = session.receive(b'{"event":"subscribe","channel":"trades","symbol":"%b"}' % symbol.encode())
        used.append(json.loads(granted)["chanId"])
        session.receive(b'{"event":"unsubscribe","chanId":%d}' % used[-1])
    assert len(set(used)) == 3


@pytest.mark.parametrize(("sort", "limit"), [(1, 40), (-1, 40), (1, 10_000)])
def test_walking_past_trades_gives_what_was_live(sort: int, limit: int) -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    exchange.run(700)
    live = rows_in(client.read().trades, PAIR)
    start, end = live[10][1] // 1_000_000, live[-10][1] // 1_000_000
    wanted = [row for row in live if start <= row[1] // 1_000_000 <= end]
    found: dict[int, Row] = {}
    while True:
        page = exchange.get(f"/v2/trades/{PAIR}/hist", start=start, end=end, limit=limit, sort=sort)
        assert [trade[0] for trade in page] == sorted((trade[0] for trade in page), reverse=sort < 0)
        found |= {trade[0]: row_of(trade) for trade in page}
        if len(page) < limit:
            break
        # More trades may have the millisecond at which a page ends.
        start, end = (page[-1][1], end) if sort > 0 else (start, page[-1][1])
    assert [found[number] for number in sorted(found)] == wanted


def test_past_trades_are_the_newest_125_without_more_said() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    exchange.run(700)
    rows = exchange.rows(PAIR)
    assert [row_of(trade) for trade in exchange.get(f"/v2/trades/{PAIR}/hist")] == rows[:-126:-1]


def test_the_book_over_http_is_the_best_of_the_book() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    exchange.run(200)
    for symbol in SYMBOLS:
        levels = exchange.get(f"/v2/book/{symbol}/P0", len=25)
        bids = [(price, amount) for price, count, amount in levels if amount > 0 and count > 0]
        asks = [(price, -amount) for price, count, amount in levels if amount < 0 and count > 0]
        assert (bids, asks) == tuple(side[:25] for side in exchange.levels(symbol))


def test_our_feed_reads_the_instruments() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    table = Bitfinex.read_instruments([exchange.reply(one.path).body for one in Bitfinex.instrument_requests(SYMBOLS)])
    assert {row["symbol"]: (row["instrument"], row["kind"]) for row in table.to_pylist()} == {
        PAIR: ("BTC-USD", "spot"),
        LONG: ("AVAX-USD", "spot"),
        CONTRACT: ("BTC-USDT-PERPETUAL", "perpetual"),
    }
    pairs, nothing, contracts = exchange.get("/v2/conf/pub:info:pair,pub:map:none,pub:info:pair:futures")
    assert [name for name, _ in pairs] == ["BTCUSD", "AVAX:USD"]
    assert (nothing, contracts[0][0]) == ([], "BTCF0:USTF0")
    assert exchange.get("/v2/platform/status") == [1]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("/v2/trades/tNONE/hist", "symbol: invalid"),
        ("/v2/trades/fUSD/hist", "symbol: invalid"),
        ("/v2/trades/tBTCUSD/hist?limit=10001", "limit: invalid"),
        ("/v2/trades/tBTCUSD/hist?limit=-1", "limit: invalid"),
        ("/v2/trades/tBTCUSD/hist?limit=x", "limit: invalid"),
        ("/v2/trades/tBTCUSD/hist?start=soon", "start: invalid"),
        (f"/v2/trades/tBTCUSD/hist?end={'9' * 5000}", "end: invalid"),
        ("/v2/trades/tBTCUSD/hist?sort=0", "sort: invalid"),
        ("/v2/book/tBTCUSD/P0?len=7", "len: invalid"),
        ("/v2/ticker/tNONE", "symbol: invalid"),
    ],
)
def test_errors_are_arrays(address: str, text: str) -> None:
    reply = Exchange(BitfinexDialect, SYMBOLS).reply(address)
    assert (reply.status, json.loads(reply.body)) == (500, ["error", 10020, text])


def test_there_is_nothing_elsewhere_and_times_beyond_all_clocks_are_no_trades() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    exchange.run(50)
    for address in ("/", "/v2/", "/v2/trades/tBTCUSD", "/v2/book/tBTCUSD/R0"):
        assert exchange.reply(address).status == 404
    assert exchange.get(f"/v2/trades/{PAIR}/hist", start=10**17) == []
    assert len(exchange.get(f"/v2/trades/{PAIR}/hist", end=10**17)) == len(exchange.rows(PAIR))


def test_notices_are_understood() -> None:
    exchange = Exchange(BitfinexDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    client.frames += [exchange.dialect.notice(kind) or b"" for kind in ("reconnect", "maintenance", "resumed")]
    assert client.read().notices == ("reconnect", "maintenance", "resumed")


def test_past_trades_weigh_more_than_the_rest() -> None:
    dialect = BitfinexDialect()
    assert dialect.weight(f"/v2/trades/{PAIR}/hist", {}) * 15 == dialect.weight_per_minute
    assert dialect.weight("/v2/conf/pub:list:pair:exchange", {}) == 1


@pytest.mark.parametrize("symbol", ["", "BTCUSD", "tBTC", "fUSD", "tbtcusd", "tA:B", "t" + "A" * 500])
def test_what_cannot_be_made_up_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot have the symbol"):
        BitfinexDialect.listing(symbol)


@settings(max_examples=200, deadline=None)
@given(
    queries(
        ["/v2/trades/tBTCUSD/hist", "/v2/book/tBTCUSD/P0", "/v2/ticker/tBTCUSD", "/v2/conf/pub:list:pair:exchange"],
        ["start", "end", "limit", "sort", "len"],
    )
)
def test_every_request_is_answered(request: tuple[str, dict[str, str]]) -> None:
    check_answered(BUSY, *request)


def test_our_backfill_finds_what_was_live() -> None:
    exchange = Exchange(BitfinexDialect, [PAIR], rate=10_000)
    exchange.run(12_000)
    start, end = exchange.rows(PAIR)[5][1], exchange.rows(PAIR)[-5][1]
    within = [row for row in exchange.rows(PAIR) if start <= row[1] <= end]
    assert check_past(BitfinexHistory(), exchange, Wanted(PAIR, start, end), within) == 2


async def test_our_feed_follows_it_over_real_sockets() -> None:
    await check_served(BitfinexDialect, [SYMBOLS])
