import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.deribit import Deribit
from actors.feeds.deribit.history import DeribitHistory
from actors.feeds.history import Wanted
from actors.simulator.dialects.deribit import DeribitDialect
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

INVERSE, LINEAR, SPOT = SYMBOLS = ("BTC-PERPETUAL", "SOL_USDC-PERPETUAL", "BTC_USDC")
TRADES = "/api/v2/public/get_last_trades_by_instrument"
#: With a past.
BUSY = Exchange(DeribitDialect, SYMBOLS)
BUSY.run(200)


def row_of(trade: dict[str, Any]) -> tuple[Any, ...]:
    side = ["buy", "sell"].index(trade["direction"])
    return trade["trade_seq"], trade["timestamp"] * 1_000_000, trade["price"], trade["amount"], side


def error_of(exchange: Exchange, address: str) -> dict[str, Any]:
    reply = exchange.reply(address)
    assert reply.status == 400
    answer = json.loads(reply.body)
    assert answer["jsonrpc"] == "2.0"
    return dict(answer["error"])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 150), min_size=3, max_size=6))
def test_our_feed_has_every_trade_and_the_right_books_from_any_moment_on(seed: int, pieces: list[int]) -> None:
    check_followed(DeribitDialect, [SYMBOLS], seed, pieces)


def test_a_ticker_of_a_perpetual_has_quote_and_mark_and_that_of_spot_is_each_quote() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    client.read()
    exchange.run(1500)
    decoded = client.read()
    assert quotes_in(decoded.quotes, SPOT) == [
        row for quote in exchange.quoted[SPOT] for row in quotes_of(exchange.listings[SPOT], quote)
    ]
    for symbol in (INVERSE, LINEAR):
        marked = exchange.marked[symbol]
        assert len(marked) > 3
        listed = exchange.listings[symbol]
        assert quotes_in(decoded.quotes, symbol) == [row for _, quote in marked for row in quotes_of(listed, quote)]
        rows = [row for row in decoded.derivatives.to_pylist() if row["symbol"] == symbol]
        for (mark, _), row in zip(marked, rows, strict=True):
            assert (row["mark_price"], row["index_price"]) == (mark.mark_price, mark.index_price)
            assert (row["open_interest"], row["funding_rate"]) == (mark.open_interest, mark.funding_rate)
    assert SPOT not in decoded.derivatives.column("symbol").to_pylist()


def test_changes_of_a_book_are_chained_and_say_what_is_new() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    client = Client(exchange, [INVERSE])
    exchange.run(600)
    frames = [json.loads(frame) for frame in client.frames]
    books = [one["params"]["data"] for one in frames if one.get("params", {}).get("channel") == f"book.{INVERSE}.100ms"]
    assert [book["type"] for book in books[:2]] == ["snapshot", "change"]
    assert "prev_change_id" not in books[0]
    levels: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
    seen = set()
    for book in books:
        for side, own in levels.items():
            for action, price, amount in book[side]:
                seen.add(action)
                assert (action == "new") == (price not in own)
                own[price] = amount
                if action == "delete":
                    assert own.pop(price) == 0.0
            assert len(own) == DeribitDialect.depth
    for before, after in pairwise(books):
        assert after["prev_change_id"] == before["change_id"] < after["change_id"]
    assert seen == {"new", "change", "delete"}


def test_amounts_of_inverse_contracts_are_dollars() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    exchange.run(300)
    assert all(float(size).is_integer() for *_, size, _ in exchange.rows(INVERSE))
    assert 100 < sum(size for *_, size, _ in exchange.rows(INVERSE)) / len(exchange.rows(INVERSE)) < 10_000


def test_numbers_have_exponents_where_that_is_shorter() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    exchange.run(1000)
    assert any(b".0e" in frame for frame in client.frames)
    assert client.read().rejected == ()


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_past_trades_by_sequence_are_those_that_were_live(count: int) -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    exchange.run(400)
    live = rows_in(client.read().trades, INVERSE)
    assert live == exchange.rows(INVERSE)
    first, last = live[3][0], live[-4][0]
    found: list[Any] = []
    start = first
    while True:
        asked = {"instrument_name": INVERSE, "start_seq": start, "end_seq": last, "count": count, "sorting": "asc"}
        page = exchange.get(TRADES, **asked)["result"]
        found += page["trades"]
        if not page["has_more"]:
            break
        assert len(page["trades"]) == count
        start = page["trades"][-1]["trade_seq"] + 1
    assert [row_of(trade) for trade in found] == live[3:-3]
    # Word for word what came over WebSocket.
    frames = Exchange(DeribitDialect, SYMBOLS)
    again = Client(frames, SYMBOLS)
    frames.run(400)
    texts = [json.loads(frame) for frame in again.frames if b'"trades.BTC-PERPETUAL' in frame]
    assert found == [trade for one in texts if "params" in one for trade in one["params"]["data"]][3:-3]


def test_past_trades_by_time_newest_first() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    exchange.run(300)
    rows = exchange.rows(LINEAR)
    start, end = rows[5][1] // 1_000_000, rows[-5][1] // 1_000_000
    address = f"{TRADES}_and_time?instrument_name={LINEAR}&start_timestamp={start}&end_timestamp={end}"
    page = exchange.get(address, count=1000)["result"]
    assert [row_of(trade) for trade in page["trades"]] == [
        row for row in reversed(rows) if start <= row[1] // 1_000_000 <= end
    ]
    assert page["has_more"] is False
    newest = exchange.get(TRADES, instrument_name=LINEAR)["result"]
    assert [row_of(trade) for trade in newest["trades"]] == rows[:-11:-1]
    assert newest["has_more"] is True


def test_the_order_book_over_http_is_the_best_of_the_book() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    exchange.run(200)
    for symbol in SYMBOLS:
        book = exchange.get("/api/v2/public/get_order_book", instrument_name=symbol, depth=20)["result"]
        bids, asks = exchange.levels(symbol)
        assert ([tuple(one) for one in book["bids"]], [tuple(one) for one in book["asks"]]) == (bids[:20], asks[:20])
        assert book["change_id"] == exchange.book(symbol).update_id
        assert math.isclose(book["best_bid_price"], bids[0][0], rel_tol=0.01)


def test_our_feed_reads_the_instruments() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    requests = Deribit.instrument_requests(SYMBOLS)
    assert {exchange.dialect.weight(one.path.partition("?")[0], {}) for one in requests} == {requests[0].weight}
    table = Deribit.read_instruments([exchange.reply(one.path).body for one in requests])
    rows = {row["symbol"]: row for row in table.to_pylist()}
    assert [rows[symbol]["instrument"] for symbol in SYMBOLS] == ["BTC-PERPETUAL", "SOL-USDC-PERPETUAL", "BTC-USDC"]
    assert {symbol: (row["kind"], row["inverse"], row["settle"]) for symbol, row in rows.items()} == {
        INVERSE: ("perpetual", True, "BTC"),
        LINEAR: ("perpetual", False, "USDC"),
        SPOT: ("spot", False, None),
    }
    assert (rows[INVERSE]["price_increment"], rows[INVERSE]["size_increment"]) == (0.01, 1.0)


@pytest.mark.parametrize(
    ("address", "code", "about"),
    [
        ("/api/v2/public/fly", -32601, None),
        ("/api/v1/public/test", -32601, None),
        (TRADES, -32602, "instrument_name"),
        (f"{TRADES}?instrument_name=ABC-PERPETUAL", 13020, None),
        (f"{TRADES}?instrument_name=BTC_USDC&count=0", -32602, "count"),
        (f"{TRADES}?instrument_name=BTC_USDC&count=1001", -32602, "count"),
        (f"{TRADES}?instrument_name=BTC_USDC&count=ten", -32602, "count"),
        (f"{TRADES}?instrument_name=BTC_USDC&start_seq=-1", -32602, "start_seq"),
        (f"{TRADES}?instrument_name=BTC_USDC&start_seq={'9' * 5000}", -32602, "start_seq"),
        (f"{TRADES}?instrument_name=BTC_USDC&sorting=up", -32602, "sorting"),
        ("/api/v2/public/get_order_book?instrument_name=BTC_USDC&depth=3", -32602, "depth"),
        ("/api/v2/public/get_instruments?currency=DOGE", -32602, "currency"),
        ("/api/v2/public/get_instruments?currency=BTC&kind=swap", -32602, "kind"),
    ],
)
def test_errors_say_what_they_are_about(address: str, code: int, about: str | None) -> None:
    error = error_of(Exchange(DeribitDialect, SYMBOLS), address)
    assert (error["code"], error.get("data", {}).get("param")) == (code, about)


def test_the_platform_says_when_maintenance_begins_and_ends() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    client = Client(exchange, SYMBOLS)
    assert exchange.dialect.notice("reconnect") is None
    client.frames += [exchange.dialect.notice("maintenance") or b"", exchange.dialect.notice("resumed") or b""]
    assert client.read().notices == ("maintenance", "resumed")


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC-27MAR26", "BTC-27MAR26-60000-C", "btc_usdc", "B" * 5000, "A_B"])
def test_what_cannot_be_made_up_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot have the symbol"):
        DeribitDialect.listing(symbol)


def test_time_and_currencies_are_told() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS)
    assert exchange.get("/api/v2/public/get_time")["result"] == exchange.now_ns // 1_000_000
    assert {"BTC", "USDC"} <= {one["currency"] for one in exchange.get("/api/v2/public/get_currencies")["result"]}


@settings(max_examples=200, deadline=None)
@given(
    queries(
        [
            "/api/v2/public/get_instruments",
            "/api/v2/public/get_last_trades_by_instrument",
            "/api/v2/public/get_last_trades_by_instrument_and_time",
            "/api/v2/public/get_order_book",
            "/api/v2/public/ticker",
            "/api/v2/public/get_time",
        ],
        [
            "instrument_name",
            "start_seq",
            "end_seq",
            "start_timestamp",
            "end_timestamp",
            "count",
            "sorting",
            "currency",
            "kind",
            "depth",
        ],
    )
)
def test_every_request_is_answered(request: tuple[str, dict[str, str]]) -> None:
    check_answered(BUSY, *request)


def test_our_backfill_finds_what_was_live() -> None:
    exchange = Exchange(DeribitDialect, SYMBOLS, rate=2000)
    exchange.run(3000)
    for symbol in SYMBOLS:
        rows = exchange.rows(symbol)[5:-5]
        (first, start, *_), (last, end, *_) = rows[0], rows[-1]
        check_past(DeribitHistory(), exchange, Wanted(symbol, start, end, first, last), rows)
        within = [row for row in exchange.rows(symbol) if start <= row[1] <= end]
        check_past(DeribitHistory(), exchange, Wanted(symbol, start, end), within)


async def test_our_feed_follows_it_over_real_sockets() -> None:
    await check_served(DeribitDialect, [SYMBOLS])
