import json
import zlib
from itertools import count
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.aggregation.book_sync import BookSync
from actors.feeds.kraken import Kraken
from actors.simulator.dialect import Trades
from actors.simulator.dialects.kraken import KrakenDialect
from actors.simulator.kraken import KrakenSession
from actors.simulator.kraken_books import CutBook, Level, Sides
from actors.simulator.kraken_v2 import KrakenV2Session
from actors.simulator.session import EVERYBODY, Known, Session
from tests.actors.simulator.dialects.following import check_backfilled, check_followed, exact_rows
from tests.actors.simulator.dialects.made_up import (
    START_NS,
    Client,
    Exchange,
    check_answered,
    check_served,
    queries,
    quotes_in,
    quotes_of,
)

BTC, XRP = SYMBOLS = ("BTC/USD", "XRP/EUR")
TRADES = "/0/public/Trades"


def traded(steps: int = 900, symbols: tuple[str, ...] = SYMBOLS) -> Exchange:
    exchange = Exchange(KrakenDialect, symbols)
    exchange.run(steps)
    return exchange


ASKED = traded(100)


class FirstClient(Client):
    """Our feed, speaking version 1."""

    def __init__(self, exchange: Exchange, symbols: tuple[str, ...]) -> None:
        self.exchange = exchange
        self.feed = Kraken(symbols, "ws://sim")
        self.session: Session = KrakenSession("/", Known(exchange.listings))
        self.books = BookSync(self.feed.book_rules, by_request=False)
        self.books.add(symbols, 0.0)
        self.frames = self.session.greeting()
        self._clock = count(START_NS)
        exchange.clients.append(self)
        for message in self.feed.subscribe(symbols):
            self.send(message)


class ShallowClient(Client):
    """A client of version 2 that asks for a shallow book of BTC/USD, and cuts its own as the exchange says."""

    def __init__(self, exchange: Exchange, depth: int) -> None:
        self.exchange = exchange
        self.depth = depth
        self.session = KrakenV2Session("/v2", Known(exchange.listings))
        self.frames = []
        self.sides: list[dict[float, str]] = [{}, {}]
        exchange.clients.append(self)
        message = {"method": "subscribe", "params": {"channel": "book", "symbol": [BTC], "depth": depth}}
        self.send(json.dumps(message).encode())

    def follow(self) -> None:
        for frame in self.frames:
            content = json.loads(frame, parse_float=str, parse_int=str)
            if content.get("channel") != "book":
                continue
            (book,) = content["data"]
            if content["type"] == "snapshot":
                self.sides = [{}, {}]
            for number, name in enumerate(("bids", "asks")):
                side = self.sides[number]
                for level in book[name]:
                    price = float(level["price"])
                    if float(level["qty"]):
                        side[price] = f"{level['price'].replace('.', '')}{level['qty'].replace('.', '').lstrip('0')}"
                    else:
                        del side[price]
                for price in sorted(side, reverse=number == 0)[self.depth :]:
                    del side[price]
            texts = [text for side in self.best(10)[::-1] for text in side]
            assert zlib.crc32("".join(texts).encode()) == int(book["checksum"])
        self.frames = []

    def best(self, depth: int) -> list[list[str]]:
        sorted_sides = (sorted(side.items(), reverse=number == 0) for number, side in enumerate(self.sides))
        return [[text for _, text in side[:depth]] for side in sorted_sides]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 150), min_size=3, max_size=6))
def test_our_feed_has_every_trade_and_quote_and_right_books_from_any_moment_on(seed: int, pieces: list[int]) -> None:
    check_followed(KrakenDialect, SYMBOLS, seed, pieces)


async def test_our_feed_follows_it_over_sockets() -> None:
    await check_served(KrakenDialect, [SYMBOLS])


def test_every_checksum_is_verified() -> None:
    exchange = traded()
    client = Client(exchange, SYMBOLS)
    exchange.run(600)
    client.read()
    state = client.books.states()[BTC]
    assert state.messages == state.checksums > 20


def test_who_subscribes_gets_the_last_fifty_trades() -> None:
    exchange = traded()
    client = Client(exchange, [XRP])
    (snapshot,) = (frame for frame in map(json.loads, client.frames) if frame.get("channel") == "trade")
    assert snapshot["type"] == "snapshot"
    assert [trade["trade_id"] for trade in snapshot["data"]] == [row[0] for row in exact_rows(exchange, XRP)[-50:]]


@pytest.mark.parametrize("depth", [10, 25, 100])
def test_a_shallow_book_has_what_is_in_its_depth(depth: int) -> None:
    exchange = traded()
    client, whole = ShallowClient(exchange, depth), ShallowClient(exchange, 1000)
    assert client.session.form is None
    assert whole.session.form == ()
    for _ in range(5):
        exchange.run(200)
        client.follow()
        whole.follow()
        assert [len(side) for side in client.sides] == [depth, depth]
        assert client.best(depth) == whole.best(depth)


def level(*numbers: int) -> Level:
    return Level(*(msgspec.Raw(str(number).encode()) for number in numbers))


def test_a_level_that_comes_into_the_depth_is_told_and_one_that_falls_out_of_it_is_not() -> None:
    book = CutBook(2, Sides([level(9, 1), level(8, 1), level(7, 1)], []))
    assert book.seen().bids == [level(9, 1), level(8, 1)]
    assert book.change(Sides([level(10, 1)], [])).bids == [level(10, 1)]
    assert book.change(Sides([level(8, 0)], [])).bids == []
    assert book.change(Sides([level(10, 0)], [])).bids == [level(10, 0), level(7, 1)]


def test_version_1_says_the_same_without_ids() -> None:
    symbols = ("XBT/USD", XRP)
    exchange = traded(500, symbols)
    client = FirstClient(exchange, symbols)
    before = {symbol: len(exact_rows(exchange, symbol)) for symbol in symbols}
    quoted = {symbol: len(exchange.quoted[symbol]) for symbol in symbols}
    client.read()
    exchange.run(600)
    decoded = client.read()
    for symbol in symbols:
        assert client.follows(symbol)
        assert client.books.states()[symbol].checksums > 5
        trades = [row for row in decoded.trades.to_pylist() if row["symbol"] == symbol]
        assert [tuple(row[name] for name in ("ts_event", "price", "size", "side")) for row in trades] == [
            row[1:] for row in exact_rows(exchange, symbol)[before[symbol] :]
        ]
        told = exchange.quoted[symbol][quoted[symbol] :]
        assert quotes_in(decoded.quotes, symbol) == [
            row for quote in told for row in quotes_of(exchange.listings[symbol], quote)
        ]


@pytest.mark.parametrize("name", ["BTC/USD", "BTCUSD", "XBT/USD", "XBTUSD", "XXBTZUSD"])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_past_trades_page_on_by_last_and_are_what_was_live(name: str, count: int) -> None:
    exchange = traded(200)
    since, found = "0", []
    while True:
        result = exchange.get(TRADES, pair=name, since=since, count=count)["result"]
        since = result.pop("last")
        ((key, rows),) = result.items()
        assert key == (name if "/" in name else "XXBTZUSD")
        if not rows:
            break
        found += rows
    expected = exact_rows(exchange, BTC)
    assert [(row[6], float(row[0]), float(row[1]), row[3]) for row in found] == [
        (number, price, size, "bs"[side]) for number, _, price, size, side in expected
    ]
    assert [round(row[2] * 10**6) * 1000 for row in found] == [row[1] for row in expected]


def test_trades_of_one_moment_stay_on_one_page() -> None:
    class AtOnce(Exchange):
        def by_time(self, symbol: str, from_ns: int, to_ns: int, limit: int, newest: bool = False) -> Trades:
            times = 10**18 + np.array([5, 6, 6, 6, 7], np.int64)
            at = np.flatnonzero((times >= from_ns) & (times <= to_ns))[:limit]
            ones = np.ones(5, np.int64)
            return Trades(times[at], np.arange(5)[at], ones[at], ones[at], ones.astype(np.uint8)[at])

    exchange = AtOnce(KrakenDialect, SYMBOLS)
    since, pages = "0", []
    for _ in range(4):
        result = exchange.get(TRADES, pair=BTC, since=since, count=2)["result"]
        pages.append([row[6] for row in result[BTC]])
        since = result["last"]
    assert pages == [[0], [1, 2, 3], [4], []]


def test_without_a_time_the_newest_trades_come() -> None:
    exchange = traded()
    rows = exact_rows(exchange, BTC)
    page = exchange.get(TRADES, pair="XBTUSD", count=5)["result"]
    assert [row[6] for row in page["XXBTZUSD"]] == [row[0] for row in rows[-5:]]
    assert page["last"] == str(rows[-1][1])
    seconds = rows[20][1] // 10**9
    page = exchange.get(TRADES, pair="XBTUSD", since=seconds)["result"]
    assert [row[6] for row in page["XXBTZUSD"]] == [row[0] for row in rows if row[1] > seconds * 10**9]


def test_our_history_finds_what_was_missed() -> None:
    exchange = traded(4_000)
    count = len(exact_rows(exchange, BTC))
    check_backfilled(exchange, BTC, 5, count - 4)
    check_backfilled(exchange, BTC, 7, 7)


def test_our_feed_reads_the_pairs() -> None:
    exchange = traded(10)
    (request,) = Kraken.instrument_requests(SYMBOLS)
    rows = {row["symbol"]: row for row in Kraken.read_instruments([exchange.reply(request.path).body]).to_pylist()}
    assert set(rows) == {BTC, "XBT/USD", XRP}
    assert (rows[BTC]["instrument"], rows[BTC]["price_increment"]) == ("BTC-USD", 0.01)
    assert set(exchange.get("/0/public/AssetPairs", pair="XBTUSD")["result"]) == {"XXBTZUSD"}
    assert set(exchange.get("/0/public/Assets")["result"]) == {"XXBT", "ZUSD", "XXRP", "ZEUR"}
    assert exchange.get("/0/public/Time")["result"]["unixtime"] == exchange.now_ns // 10**9
    assert exchange.get("/0/public/SystemStatus")["result"]["status"] == "online"


def test_the_list_of_instruments_can_be_subscribed_to() -> None:
    exchange = traded(10)
    client = Client(exchange, [BTC])
    client.send(b'{"method":"subscribe","params":{"channel":"instrument"}}')
    data = json.loads(client.frames[-1])["data"]
    assert {pair["symbol"]: pair["price_increment"] for pair in data["pairs"]}[BTC] == 0.01
    assert client.read().rejected == ()


def test_the_order_book_over_http_is_the_best_of_the_book() -> None:
    exchange = traded()
    book = exchange.get("/0/public/Depth", pair="XBTUSD", count=7)["result"]["XXBTZUSD"]
    bids, asks = exchange.levels(BTC)
    for side, expected in (("bids", bids), ("asks", asks)):
        assert [(float(price), float(size)) for price, size, _ in book[side]] == expected[:7]


@settings(max_examples=300, deadline=None)
@given(queries(["/0/public/AssetPairs", TRADES, "/0/public/Depth", "/0/public/Assets"], ["pair", "since", "count"]))
def test_whatever_is_asked_there_is_an_answer(query: tuple[str, dict[str, str]]) -> None:
    check_answered(ASKED, *query)


@pytest.mark.parametrize(
    ("address", "status", "error"),
    [
        ("/", 404, "EGeneral:Unknown method"),
        ("/0/public/Fly", 200, "EGeneral:Unknown method"),
        (TRADES, 200, "EGeneral:Invalid arguments"),
        (f"{TRADES}?pair=ETHUSD", 200, "EQuery:Unknown asset pair"),
        (f"{TRADES}?pair={'9' * 5000}", 200, "EQuery:Unknown asset pair"),
        (f"{TRADES}?pair=XBTUSD&since=-1", 200, "EGeneral:Invalid arguments:since"),
        (f"{TRADES}?pair=XBTUSD&since={'9' * 5000}", 200, "EGeneral:Invalid arguments:since"),
        (f"{TRADES}?pair=XBTUSD&since=1.x", 200, "EGeneral:Invalid arguments:since"),
        (f"{TRADES}?pair=XBTUSD&count=0", 200, "EGeneral:Invalid arguments:count"),
        (f"{TRADES}?pair=XBTUSD&count=1001", 200, "EGeneral:Invalid arguments:count"),
        (f"{TRADES}?pair=XBTUSD&count=ten", 200, "EGeneral:Invalid arguments:count"),
        ("/0/public/AssetPairs?pair=XBTUSD,ABC", 200, "EQuery:Unknown asset pair"),
        ("/0/public/Depth?pair=XBTUSD&count=501", 200, "EGeneral:Invalid arguments:count"),
    ],
)
def test_errors_are_those_of_the_exchange(address: str, status: int, error: str) -> None:
    reply = traded(10).reply(address)
    assert (reply.status, json.loads(reply.body)) == (status, {"error": [error]})


@pytest.mark.parametrize("since", ["9999999999999999999", "9999999999.999999999"])
def test_far_in_the_future_there_is_nothing(since: str) -> None:
    assert traded(10).get(TRADES, pair=BTC, since=since)["result"][BTC] == []


@pytest.mark.parametrize("target", ["/v2", "/"])
def test_maintenance_is_said_in_both_versions(target: str) -> None:
    exchange = traded(10)
    session: Session = KrakenV2Session(target) if target == "/v2" else KrakenSession(target)
    feed = Kraken([BTC], f"ws://sim{target}")
    assert exchange.dialect.notice("reconnect") is None
    notices = [exchange.dialect.notice("maintenance") or b"", exchange.dialect.notice("resumed") or b""]
    frames = session.outgoing(notices, [EVERYBODY] * 2, [1, 2])
    assert feed.decode(frames, np.array([1, 2])).notices == ("maintenance", "resumed")


@pytest.mark.parametrize("depth", [10.0, True, [], "10", 11])
@pytest.mark.parametrize("session", [KrakenSession("/"), KrakenV2Session("/v2")])
def test_a_depth_that_does_not_exist_is_refused(session: Session, depth: Any) -> None:
    first = {"event": "subscribe", "pair": [BTC], "subscription": {"name": "book", "depth": depth}}
    second = {"method": "subscribe", "params": {"channel": "book", "symbol": [BTC], "depth": depth}}
    (answer,) = session.receive(json.dumps(first if isinstance(session, KrakenSession) else second))
    assert b"Subscription depth not supported" in answer
    assert not session.streams


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC-USD", "B" * 5000, "A/B/C", "A/B\n"])
def test_what_cannot_be_a_pair_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot be a pair"):
        KrakenDialect.listing(symbol)
