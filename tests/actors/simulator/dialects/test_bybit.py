import json
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.bybit import Bybit
from actors.feeds.bybit.history import BybitHistory
from actors.feeds.bybit.messages import trade_id
from actors.feeds.history import Wanted
from actors.simulator.dialects.bybit import BybitDialect
from tests.actors.simulator.dialects.made_up import (
    Client,
    Exchange,
    check_answered,
    check_followed,
    check_past,
    check_served,
    queries,
    quotes_in,
    quotes_of,
    rows_in,
)

SPOT, LINEAR = ("spot:BTCUSDT", "spot:XRPUSDC"), ("linear:BTCUSDT", "linear:ABCUSDT", "linear:SOLPERP")
SYMBOLS = (*SPOT, *LINEAR)
#: With a past.
BUSY = Exchange(BybitDialect, SYMBOLS)
BUSY.run(200)


def row_of(trade: dict[str, Any]) -> tuple[Any, ...]:
    side = ["Buy", "Sell"].index(trade["side"])
    return trade_id(trade["execId"]), int(trade["time"]) * 10**6, float(trade["price"]), float(trade["size"]), side


def of_topic(client: Client, topic: str) -> list[Any]:
    frames = [json.loads(frame) for frame in client.frames]
    return [frame for frame in frames if frame.get("topic") == topic]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 150), min_size=3, max_size=6))
def test_our_feed_has_every_trade_and_the_right_books_from_any_moment_on(seed: int, pieces: list[int]) -> None:
    check_followed(BybitDialect, [SPOT, LINEAR], seed, pieces)


def test_quotes_are_the_books_of_one_level_and_marks_the_tickers_of_contracts() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    for group in (SPOT, LINEAR):
        client = Client(exchange, group)
        client.read()
    exchange.run(1500)
    for client, group in zip(exchange.clients, (SPOT, LINEAR), strict=True):
        decoded = client.read()
        for symbol in group:
            listed = exchange.listings[symbol]
            wanted = [row for quote in exchange.quoted[symbol] for row in quotes_of(listed, quote)]
            assert [row[:4] for row in quotes_in(decoded.quotes, symbol)] == [row[:4] for row in wanted]
            rows = [row for row in decoded.derivatives.to_pylist() if row["symbol"] == symbol]
            assert len(rows) == len(exchange.marked[symbol]) > (3 if group is LINEAR else -1)
            for (mark, _), row in zip(exchange.marked[symbol], rows, strict=True):
                assert (row["mark_price"], row["index_price"]) == (mark.mark_price, mark.index_price)
                assert (row["open_interest"], row["funding_rate"]) == (mark.open_interest, mark.funding_rate)
                assert row["next_funding_time"] == mark.next_funding_ns
    assert not exchange.marked[SPOT[0]]


def test_a_book_is_numbered_without_holes_after_its_snapshot() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    first = Client(exchange, LINEAR)
    exchange.run(300)
    later = Client(exchange, LINEAR)
    exchange.run(300)
    for client in (first, later):
        books = of_topic(client, "orderbook.200.BTCUSDT")
        assert [book["type"] for book in books] == ["snapshot"] + ["delta"] * (len(books) - 1)
        assert len(books) > 5
        for before, after in pairwise(books):
            assert after["data"]["u"] == before["data"]["u"] + 1
            assert after["data"]["seq"] > before["data"]["seq"]
    # A service that has just started begins with 1.
    assert of_topic(first, "orderbook.200.BTCUSDT")[0]["data"]["u"] == 1
    assert of_topic(later, "orderbook.200.BTCUSDT")[0]["data"]["u"] > 1


def test_a_ticker_begins_whole_and_goes_on_with_changes() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    client = Client(exchange, LINEAR)
    exchange.run(600)
    tickers = of_topic(client, "tickers.BTCUSDT")
    assert [one["type"] for one in tickers[:3]] == ["snapshot", "delta", "delta"]
    assert {"lastPrice", "bid1Price", "ask1Price", "markPrice", "fundingRate", "nextFundingTime"} <= tickers[0][
        "data"
    ].keys()


@given(st.integers(0, 2**63 - 1))
def test_a_contract_s_trade_has_a_uuid_that_is_its_id(number: int) -> None:
    exchange = Exchange(BybitDialect, LINEAR[:1])
    exchange.run(60)
    trade = exchange.newest(LINEAR[0], 1)
    trade.ids[:] = number
    for frame in exchange.dialect.trades(LINEAR[0], trade):
        text = json.loads(frame)["data"][0]["i"]
        assert str(UUID(text)) == text
        assert trade_id(text) == number


def test_recent_trades_are_the_newest_of_those_that_were_live() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    clients = [Client(exchange, group) for group in (SPOT, LINEAR)]
    exchange.run(700)
    for client, group, most, usual in zip(clients, (SPOT, LINEAR), (60, 1000), (60, 500), strict=True):
        trades = client.read().trades
        for symbol in group:
            live = rows_in(trades, symbol)
            category, _, name = symbol.partition(":")
            for asked, limit in ({"limit": 5}, 5), ({"limit": 99_999}, most), ({}, usual):
                answer = exchange.get("/v5/market/recent-trade", category=category, symbol=name, **asked)
                assert (answer["retCode"], answer["result"]["category"]) == (0, category)
                assert [row_of(trade) for trade in answer["result"]["list"]] == live[: -limit - 1 : -1]


def test_walking_recent_trades_before_a_page_is_full_gives_every_trade_once() -> None:
    exchange = Exchange(BybitDialect, SPOT)
    client = Client(exchange, SPOT)
    found: dict[int, Any] = {}
    for _ in range(12):
        exchange.run(40)
        page = exchange.get("/v5/market/recent-trade", category="spot", symbol="BTCUSDT")["result"]["list"]
        rows = [row_of(trade) for trade in page]
        assert not found or not found.keys().isdisjoint(row[0] for row in rows)
        assert all(found.get(row[0], row) == row for row in rows)
        found |= {row[0]: row for row in rows}
    assert [found[number] for number in sorted(found)] == rows_in(client.read().trades, SPOT[0])


def test_the_order_book_over_http_is_the_best_of_the_book() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    exchange.run(200)
    for symbol in SYMBOLS:
        category, _, name = symbol.partition(":")
        book = exchange.get("/v5/market/orderbook", category=category, symbol=name, limit=30)["result"]
        sides = [[(float(price), float(size)) for price, size in book[side]] for side in "ba"]
        assert sides == [side[:30] for side in exchange.levels(symbol)]
        assert (book["s"], book["seq"]) == (name, exchange.book(symbol).update_id)


def test_our_feed_reads_the_instruments() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    table = Bybit.read_instruments([exchange.reply(one.path).body for one in Bybit.instrument_requests(SYMBOLS)])
    rows = {row["symbol"]: row for row in table.to_pylist()}
    assert [rows[symbol]["instrument"] for symbol in SYMBOLS] == [
        *("BTC-USDT", "XRP-USDC", "BTC-USDT-PERPETUAL", "ABC-USDT-PERPETUAL", "SOL-USDC-PERPETUAL")
    ]
    for symbol, row in rows.items():
        listed = exchange.listings[symbol]
        assert (row["kind"], row["active"]) == (listed.kind, True)
        assert (row["price_increment"], row["size_increment"]) == (
            10**-listed.price_decimals,
            10**-listed.size_decimals,
        )


def test_instruments_of_contracts_come_in_pages() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    found, cursor = [], ""
    for _ in range(3):
        page = exchange.get("/v5/market/instruments-info", category="linear", limit=1, cursor=cursor)["result"]
        found += [one["symbol"] for one in page["list"]]
        cursor = page["nextPageCursor"]
    assert (found, cursor) == (["BTCUSDT", "ABCUSDT", "SOLPERP"], "")
    # What other clients ask for too.
    for category in ("inverse", "option"):
        assert exchange.get("/v5/market/instruments-info", category=category)["result"]["list"] == []


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("recent-trade", "Category is invalid"),
        ("recent-trade?category=swap&symbol=BTCUSDT", "Category is invalid"),
        ("recent-trade?category=spot", "symbol invalid"),
        ("recent-trade?category=spot&symbol=SOLPERP", "symbol invalid"),
        ("recent-trade?category=inverse&symbol=BTCUSD", "symbol invalid"),
        ("recent-trade?category=linear&symbol=BTCUSDT&limit=0", "limit invalid"),
        ("recent-trade?category=linear&symbol=BTCUSDT&limit=-3", "limit invalid"),
        (f"recent-trade?category=linear&symbol=BTCUSDT&limit={'9' * 5000}", "limit invalid"),
        ("orderbook?category=linear&symbol=%00", "symbol invalid"),
        ("instruments-info?category=spot&symbol=NONE", "symbol invalid"),
        ("instruments-info?category=linear&cursor=x", "cursor invalid"),
    ],
)
def test_errors_have_a_code_and_the_status_200(address: str, text: str) -> None:
    answer = Exchange(BybitDialect, SYMBOLS).get(f"/v5/market/{address}")
    assert (answer["retCode"], answer["retMsg"]) == (10001, f"params error: {text}")
    assert answer["result"] == {"category": "", "list": []}


def test_there_is_nothing_elsewhere() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    for address in ("/", "/v5/market/", "/v5/market/kline", "/v5/order/create"):
        assert exchange.reply(address).status == 404
    assert exchange.get("/v5/market/time")["result"]["timeNano"] == str(exchange.now_ns)
    assert all(exchange.dialect.notice(kind) is None for kind in ("reconnect", "maintenance", "resumed"))


def test_a_symbol_of_another_category_is_refused_and_a_delisted_one_too() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    client = Client(exchange, SPOT)
    client.read()
    client.send(b'{"op":"subscribe","args":["publicTrade.SOLPERP"],"req_id":"77"}')
    assert json.loads(client.frames[-1])["ret_msg"] == "Invalid symbol :[publicTrade.SOLPERP]"
    del exchange.listings[SPOT[1]]
    client.send(b'{"op":"subscribe","args":["publicTrade.XRPUSDC"],"req_id":"78"}')
    assert json.loads(client.frames[-1])["success"] is False


@pytest.mark.parametrize(
    "symbol",
    ["", "BTCUSDT", "spot:", "spot:USDT", "spot:BTCPERP", "inverse:BTCUSD", "linear:BTC-25DEC26", "spot:btcusdt"],
)
def test_what_cannot_be_made_up_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot have the symbol"):
        BybitDialect.listing(symbol)


@settings(max_examples=200, deadline=None)
@given(
    queries(
        [
            "/v5/market/instruments-info",
            "/v5/market/recent-trade",
            "/v5/market/orderbook",
            "/v5/market/tickers",
            "/v5/market/time",
        ],
        ["category", "symbol", "limit", "cursor", "baseCoin"],
    )
)
def test_every_request_is_answered(request: tuple[str, dict[str, str]]) -> None:
    check_answered(BUSY, *request)


def test_our_backfill_finds_what_was_live() -> None:
    exchange = Exchange(BybitDialect, SYMBOLS)
    exchange.run(600)
    for symbol in SYMBOLS:
        start, end = exchange.rows(symbol)[-40][1], exchange.rows(symbol)[-1][1]
        within = [row for row in exchange.rows(symbol) if start <= row[1] <= end]
        assert check_past(BybitHistory(), exchange, Wanted(symbol, start, end), within) == 1


async def test_our_feed_follows_it_over_real_sockets() -> None:
    await check_served(BybitDialect, [SPOT, LINEAR])
