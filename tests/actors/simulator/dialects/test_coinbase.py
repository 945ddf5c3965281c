import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.coinbase import Coinbase
from actors.simulator.coinbase import CoinbaseSession
from actors.simulator.dialects.coinbase import CoinbaseDialect
from actors.simulator.session import HangUp, Known, Stream
from tests.actors.simulator.dialects.following import check_backfilled, check_followed, exact_rows
from tests.actors.simulator.dialects.made_up import Client, Exchange, check_answered, check_served, queries

BTC, LINK = SYMBOLS = ("BTC-USD", "LINK-BTC")
TRADES = "/products/BTC-USD/trades"


def traded(steps: int = 900) -> Exchange:
    exchange = Exchange(CoinbaseDialect, SYMBOLS)
    exchange.run(steps)
    return exchange


ASKED = traded(100)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 150), min_size=3, max_size=6))
def test_our_feed_has_every_trade_and_quote_and_right_books_from_any_moment_on(seed: int, pieces: list[int]) -> None:
    check_followed(CoinbaseDialect, SYMBOLS, seed, pieces)


async def test_our_feed_follows_it_over_sockets() -> None:
    await check_served(CoinbaseDialect, [SYMBOLS])


def test_a_match_names_the_makers_side_and_two_orders() -> None:
    exchange = traded()
    client = Client(exchange, SYMBOLS)
    exchange.run(50)
    frames = [json.loads(frame) for frame in client.frames]
    matches = [frame for frame in frames if frame["type"] == "match" and frame["product_id"] == BTC]
    rows = exact_rows(exchange, BTC)[-len(matches) :]
    assert [match["side"] for match in matches] == [("sell", "buy")[row[4]] for row in rows]
    orders = {uuid.UUID(match[name]) for match in matches for name in ("maker_order_id", "taker_order_id")}
    assert len(orders) == 2 * len(matches)


def test_who_subscribes_hears_of_the_last_match_and_of_the_whole_book() -> None:
    exchange = traded()
    client = Client(exchange, [BTC])
    frames = {frame["type"]: frame for frame in map(json.loads, client.frames)}
    newest = exact_rows(exchange, BTC)[-1]
    assert frames["last_match"]["trade_id"] == frames["heartbeat"]["last_trade_id"] == newest[0]
    assert frames["ticker"]["trade_id"] == exchange.quote(BTC).last_ids[-1]
    bids, asks = exchange.levels(BTC)
    assert [tuple(map(float, level)) for level in frames["snapshot"]["bids"]] == bids
    assert [tuple(map(float, level)) for level in frames["snapshot"]["asks"]] == asks


def test_every_beat_says_the_last_match_that_went_out() -> None:
    exchange = traded()
    client = Client(exchange, SYMBOLS)
    for _ in range(3):
        exchange.run(40)
        beats = [json.loads(beat) for beat in client.session.beat(exchange.now_ns)]
        assert {beat["product_id"]: beat["last_trade_id"] for beat in beats} == {
            symbol: exact_rows(exchange, symbol)[-1][0] for symbol in SYMBOLS
        }
        client.frames += client.session.beat(exchange.now_ns)
    client.read()
    client.send(b'{"type":"unsubscribe","product_ids":["LINK-BTC"],"channels":["heartbeat"]}')
    assert [json.loads(beat)["product_id"] for beat in client.session.beat(exchange.now_ns)] == [BTC]


def test_a_recording_has_its_own_heartbeats() -> None:
    session = CoinbaseSession("/", Known({BTC}))
    session.receive('{"type":"subscribe","product_ids":["BTC-USD"],"channels":["heartbeat"]}')
    beat = b'{"type":"heartbeat","last_trade_id":1,"product_id":"BTC-USD","sequence":1,"time":"2023-01-01T00:00:00Z"}'
    stream = Stream("heartbeat", BTC)
    assert session.outgoing([beat, beat], [stream, stream], [1, 2]) == [beat, beat]
    assert session.beat(3) == []


def test_who_asks_for_nothing_is_sent_away() -> None:
    session = CoinbaseSession("/", Known({BTC}))
    assert session.beat_s == 5.0
    with pytest.raises(HangUp):
        session.beat(1)


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_past_trades_page_back_and_are_what_was_live(limit: int) -> None:
    exchange = traded(300)
    expected = exact_rows(exchange, BTC)
    found: list[Any] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        reply = exchange.reply(TRADES, **query)
        page = json.loads(reply.body)
        if not page:
            break
        assert reply.headers == {"CB-BEFORE": str(page[0]["trade_id"]), "CB-AFTER": str(page[-1]["trade_id"])}
        assert len(page) <= limit
        found += page
        query["after"] = reply.headers["CB-AFTER"]
    assert [trade["trade_id"] for trade in reversed(found)] == [row[0] for row in expected]
    # Word for word what came over WebSocket.
    again = Exchange(CoinbaseDialect, SYMBOLS)
    client = Client(again, [BTC])
    again.run(300)
    matches = [frame for frame in map(json.loads, client.frames) if frame["type"] == "match"]
    names = ("trade_id", "side", "size", "price", "time")
    assert [[trade[name] for name in names] for trade in reversed(found)] == [
        [match[name] for name in names] for match in matches
    ]


def test_before_gives_the_newest_of_those_that_are_newer() -> None:
    exchange = traded(300)
    ids = [row[0] for row in exact_rows(exchange, BTC)]
    page = exchange.get(TRADES, limit=5, before=ids[3])
    assert [trade["trade_id"] for trade in page] == ids[:-6:-1]
    page = exchange.get(TRADES, before=ids[3], after=ids[8])
    assert [trade["trade_id"] for trade in page] == ids[7:3:-1]


def test_our_history_finds_what_was_missed() -> None:
    exchange = traded(4_000)
    count = len(exact_rows(exchange, BTC))
    check_backfilled(exchange, BTC, 5, count - 4)
    check_backfilled(exchange, BTC, 7, 7)


def test_our_feed_reads_the_products() -> None:
    exchange = traded(10)
    (request,) = Coinbase.instrument_requests(SYMBOLS)
    rows = {row["symbol"]: row for row in Coinbase.read_instruments([exchange.reply(request.path).body]).to_pylist()}
    assert {symbol: rows[symbol]["instrument"] for symbol in SYMBOLS} == {symbol: symbol for symbol in SYMBOLS}
    assert rows[BTC]["price_increment"] == 0.01
    assert exchange.get(f"/products/{LINK}")["base_currency"] == "LINK"
    assert {one["id"] for one in exchange.get("/currencies")} == {"BTC", "LINK", "USD"}
    assert exchange.get("/time")["epoch"] == exchange.now_ns // 1_000_000 / 1000


def test_the_order_book_over_http_is_the_book() -> None:
    exchange = traded()
    bids, asks = exchange.levels(BTC)
    whole, best = (exchange.get(f"/products/{BTC}/book", level=level) for level in (2, 1))
    assert [(float(price), float(size)) for price, size, _ in whole["bids"]] == bids
    assert [(float(price), float(size)) for price, size, _ in best["asks"]] == asks[:1]
    ticker = exchange.get(f"/products/{BTC}/ticker")
    assert float(ticker["bid"]) < float(ticker["ask"])


@settings(max_examples=300, deadline=None)
@given(
    queries(
        ["/time", "/products", TRADES, f"/products/{BTC}/book", f"/products/{BTC}/ticker"],
        ["limit", "before", "after", "level"],
    )
)
def test_whatever_is_asked_there_is_an_answer(query: tuple[str, dict[str, str]]) -> None:
    check_answered(ASKED, *query)


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("/", 404, "NotFound"),
        ("/products/ETH-USD/trades", 404, "NotFound"),
        (f"/products/{'A' * 5000}/trades", 404, "NotFound"),
        (f"/products/{BTC}/candles", 404, "NotFound"),
        (f"{TRADES}?limit=0", 400, "Invalid limit"),
        (f"{TRADES}?limit=1001", 400, "Invalid limit"),
        (f"{TRADES}?limit=-1", 400, "Invalid limit"),
        (f"{TRADES}?after=2018-05-28", 400, "Invalid value for pagination after"),
        (f"{TRADES}?after={'9' * 5000}", 400, "Invalid value for pagination after"),
        (f"{TRADES}?before=٣", 400, "Invalid value for pagination before"),
        (f"/products/{BTC}/book?level=4", 400, "Invalid level"),
    ],
)
def test_errors_are_those_of_the_exchange(address: str, status: int, message: str) -> None:
    reply = traded(10).reply(address)
    assert (reply.status, json.loads(reply.body)) == (status, {"message": message})


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC/USD", "btc-usd", "B" * 5000, "A-B-C", "A-B\n"])
def test_what_cannot_be_a_product_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot be a product"):
        CoinbaseDialect.listing(symbol)


def test_nothing_is_said_before_a_restart() -> None:
    assert CoinbaseDialect().notice("reconnect") is None
