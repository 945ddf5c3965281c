import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.okx import Okx
from actors.simulator.dialects.okx import OkxDialect
from actors.simulator.okx import OkxSession
from actors.simulator.session import Known, Stream
from tests.actors.simulator.dialects.following import check_backfilled, check_followed, exact_rows
from tests.actors.simulator.dialects.made_up import Client, Exchange, check_answered, check_served, queries

BTC, LINEAR, INVERSE = SYMBOLS = ("BTC-USDT", "BTC-USDT-SWAP", "ETH-USD-SWAP")
HISTORY = "/api/v5/market/history-trades"


def traded(steps: int = 900) -> Exchange:
    exchange = Exchange(OkxDialect, SYMBOLS)
    exchange.run(steps)
    return exchange


ASKED = traded(100)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.integers(200, 300), st.lists(st.integers(0, 150), min_size=2, max_size=5))
def test_our_feed_has_every_trade_and_quote_and_right_books_from_any_moment_on(
    seed: int, first: int, pieces: list[int]
) -> None:
    check_followed(OkxDialect, SYMBOLS, seed, [first, *pieces])


async def test_our_feed_follows_it_over_sockets() -> None:
    await check_served(OkxDialect, [SYMBOLS])


def test_each_change_of_a_book_names_the_one_before() -> None:
    exchange = traded()
    client = Client(exchange, [BTC])
    exchange.run(400)
    frames = [frame for frame in map(json.loads, client.frames) if frame.get("arg", {}).get("channel") == "books"]
    books = [(frame["action"], *frame["data"]) for frame in frames if "data" in frame]
    assert [action for action, _ in books] == ["snapshot"] + ["update"] * (len(books) - 1)
    assert [book["prevSeqId"] for _, book in books] == [-1, *(book["seqId"] for _, book in books[:-1])]
    assert {book["checksum"] for _, book in books} == {0}
    assert len(books) > 5


def test_who_subscribes_gets_the_last_trade() -> None:
    exchange = traded()
    client = Client(exchange, [BTC])
    (frame,) = (
        frame for frame in map(json.loads, client.frames) if frame["arg"]["channel"] == "trades" and "data" in frame
    )
    (trade,) = frame["data"]
    assert (int(trade["tradeId"]), trade["count"]) == (exact_rows(exchange, BTC)[-1][0], "1")


def test_contracts_have_marks_indices_interest_and_funding() -> None:
    exchange = traded(10)
    client = Client(exchange, SYMBOLS)
    client.read()
    exchange.run(1500)
    rows = client.read().derivatives.to_pylist()
    assert BTC not in {row["symbol"] for row in rows}
    for symbol in (LINEAR, INVERSE):
        marked, decimals = exchange.marked[symbol], exchange.listings[symbol].price_decimals
        for name, places in (
            ("mark_price", decimals), ("index_price", decimals), ("open_interest", 4), ("funding_rate", 16),
        ):  # fmt: skip
            told = [row[name] for row in rows if row["symbol"] == symbol and row[name] is not None]
            assert told == [round(getattr(mark, name), places) for mark, _ in marked]
            assert len(told) > 2
        due = {row["next_funding_time"] for row in rows if row["symbol"] == symbol} - {None}
        assert due == {mark.next_funding_ns for mark, _ in marked}


def test_of_what_is_told_about_contracts_a_client_gets_what_it_asked_for() -> None:
    exchange = traded(10)
    session = OkxSession("/ws/v5/public", Known(exchange.listings))
    whole = OkxSession("/ws/v5/public", Known(exchange.listings))
    asked = [{"channel": "mark-price", "instId": LINEAR}, {"channel": "index-tickers", "instId": "ETH-USD"}]
    session.receive(json.dumps({"op": "subscribe", "args": asked}))
    frames, streams = [], []
    for symbol in (LINEAR, INVERSE):
        told = exchange.dialect.derivatives(symbol, exchange.mark(symbol), exchange.quote(symbol))
        stream = exchange.dialect.stream(symbol, "derivatives")
        assert stream is not None
        assert session.wants(stream)
        assert not whole.wants(stream)
        frames += told
        streams += [stream] * len(told)
    assert len(frames) == 8
    assert [json.loads(one)["arg"] for one in session.outgoing(frames, streams, [1] * 8)] == asked
    assert session.form != whole.form
    assert exchange.dialect.stream(BTC, "derivatives") is None
    opened = [exchange.dialect.opening(stream, exchange) for stream in session.streams]
    assert [json.loads(frame)["arg"] for frames in opened for frame in frames] == asked
    assert exchange.dialect.opening(Stream("index-tickers XRP-USD"), exchange) == []


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("by", ["1", "2"])
def test_past_trades_page_back_and_are_what_was_live(limit: int, by: str) -> None:
    exchange = traded(200)
    rows = exact_rows(exchange, BTC)
    found: list[Any] = []
    query: dict[str, Any] = {"instId": BTC, "limit": limit, "type": by}
    if by == "2":
        query["after"] = rows[-3][1] // 1_000_000
        rows = [row for row in rows if row[1] < rows[-3][1]]
    while page := exchange.get(HISTORY, **query)["data"]:
        assert len(page) <= limit
        found += page
        # As our history does: pages of one time are cut anywhere.
        query |= {"type": "1", "after": page[-1]["tradeId"]}
    assert [int(trade["tradeId"]) for trade in reversed(found)] == [row[0] for row in rows]
    again = Exchange(OkxDialect, SYMBOLS)
    client = Client(again, [BTC])
    again.run(200)
    frames = [json.loads(frame) for frame in client.frames]
    live = [one["data"][0] for one in frames if one["arg"]["channel"] == "trades" and "data" in one]
    names = ("instId", "tradeId", "px", "sz", "side", "ts")
    assert [[trade[name] for name in names] for trade in reversed(found)] == [
        [trade[name] for name in names] for trade in live[: len(found)]
    ]


def test_before_gives_the_newest_of_those_that_are_newer() -> None:
    exchange = traded(300)
    ids = [row[0] for row in exact_rows(exchange, BTC)]
    page = exchange.get(HISTORY, instId=BTC, limit=5, before=ids[3])["data"]
    assert [int(trade["tradeId"]) for trade in page] == ids[:-6:-1]
    page = exchange.get(HISTORY, instId=BTC, before=ids[3], after=ids[8])["data"]
    assert [int(trade["tradeId"]) for trade in page] == ids[7:3:-1]
    recent = exchange.get("/api/v5/market/trades", instId=BTC, limit=3)["data"]
    assert [int(trade["tradeId"]) for trade in recent] == ids[:-4:-1]


def test_our_history_finds_what_was_missed() -> None:
    exchange = traded()
    count = len(exact_rows(exchange, LINEAR))
    check_backfilled(exchange, LINEAR, 5, count - 4)
    check_backfilled(exchange, BTC, 7, 7)


def test_our_feed_reads_the_instruments_and_what_a_contract_is() -> None:
    exchange = traded(10)
    bodies = [exchange.reply(request.path).body for request in Okx.instrument_requests(SYMBOLS)]
    rows = {row["symbol"]: row for row in Okx.read_instruments(bodies).to_pylist()}
    assert {symbol: (row["kind"], row["inverse"], row["settle"]) for symbol, row in rows.items()} == {
        BTC: ("spot", False, None),
        LINEAR: ("perpetual", False, "USDT"),
        INVERSE: ("perpetual", True, "ETH"),
    }
    assert (rows[LINEAR]["contract_size"], rows[LINEAR]["contract_currency"]) == (0.01, "BTC")
    assert (rows[INVERSE]["contract_size"], rows[INVERSE]["contract_currency"]) == (10.0, "USD")
    assert rows[INVERSE]["size_increment"] == 1.0
    sizes = [row[3] for row in exact_rows(traded(300), INVERSE)]
    assert all(size.is_integer() for size in sizes)
    for kind in ("FUTURES", "OPTION"):
        assert exchange.get("/api/v5/public/instruments", instType=kind)["data"] == []


def test_what_is_told_of_contracts_is_there_over_http_too() -> None:
    exchange = traded()
    mark = exchange.mark(LINEAR)
    (told,) = exchange.get("/api/v5/public/funding-rate", instId=LINEAR)["data"]
    assert int(told["fundingTime"]) == mark.next_funding_ns // 1_000_000
    assert len(exchange.get("/api/v5/public/mark-price", instType="SWAP")["data"]) == 2
    (told,) = exchange.get("/api/v5/public/open-interest", instType="SWAP", instId=LINEAR)["data"]
    assert float(told["oi"]) == round(mark.open_interest, 4)
    (told,) = exchange.get("/api/v5/market/index-tickers", instId="BTC-USDT")["data"]
    assert float(told["idxPx"]) == round(mark.index_price, exchange.listings[LINEAR].price_decimals)
    assert exchange.get("/api/v5/public/time")["data"] == [{"ts": str(exchange.now_ns // 1_000_000)}]
    assert exchange.get("/api/v5/system/status")["data"] == []


def test_the_order_book_over_http_is_the_best_of_the_book() -> None:
    exchange = traded()
    (book,) = exchange.get("/api/v5/market/books", instId=BTC, sz=7)["data"]
    for side, expected in zip(("bids", "asks"), exchange.levels(BTC), strict=True):
        assert [(float(price), float(size)) for price, size, _, _ in book[side]] == expected[:7]
    (ticker,) = exchange.get("/api/v5/market/ticker", instId=BTC)["data"]
    assert float(ticker["bidPx"]) < float(ticker["askPx"])
    assert {one["instId"] for one in exchange.get("/api/v5/market/tickers", instType="SWAP")["data"]} == {
        LINEAR,
        INVERSE,
    }


@settings(max_examples=300, deadline=None)
@given(
    queries(
        ["/api/v5/public/instruments", HISTORY, "/api/v5/market/books", "/api/v5/public/open-interest"],
        ["instId", "instType", "type", "after", "before", "limit", "sz"],
    )
)
def test_whatever_is_asked_there_is_an_answer(query: tuple[str, dict[str, str]]) -> None:
    check_answered(ASKED, *query)


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/", 404, "404"),
        ("/market/trades", 404, "404"),
        ("/api/v5/market/fly", 404, "404"),
        (HISTORY, 400, "50014"),
        (f"{HISTORY}?instId=ETH-USDT", 200, "51001"),
        (f"{HISTORY}?instId={'9' * 5000}", 200, "51001"),
        (f"{HISTORY}?instId={BTC}&limit=0", 400, "51000"),
        (f"{HISTORY}?instId={BTC}&limit=101", 400, "51000"),
        (f"{HISTORY}?instId={BTC}&type=3", 400, "51000"),
        (f"{HISTORY}?instId={BTC}&after=-1", 400, "51000"),
        (f"{HISTORY}?instId={BTC}&after={'9' * 5000}", 400, "51000"),
        (f"{HISTORY}?instId={BTC}&type=2&before=5", 400, "51000"),
        (f"/api/v5/market/books?instId={BTC}&sz=401", 400, "51000"),
        ("/api/v5/public/instruments", 400, "50014"),
        ("/api/v5/public/instruments?instType=STOCK", 400, "51000"),
        ("/api/v5/public/instruments?instType=SPOT&instId=ETH-USDT", 200, "51001"),
        ("/api/v5/market/index-tickers?instId=XRP-USD", 200, "51001"),
    ],
)
def test_errors_are_those_of_the_exchange(address: str, status: int, code: str) -> None:
    reply = traded(10).reply(address)
    assert (reply.status, json.loads(reply.body)["code"]) == (status, code)


def test_a_service_upgrade_is_told() -> None:
    exchange = traded(10)
    client = Client(exchange, [BTC])
    client.frames.append(exchange.dialect.notice("reconnect") or b"")
    assert client.read().notices == ("reconnect",)
    assert exchange.dialect.notice("maintenance") is exchange.dialect.notice("resumed") is None


@pytest.mark.parametrize("symbol", ["", "BTC", "BTC/USD", "BTC-USD-260327", "btc-usdt", "B" * 5000, "A-B-SWAP\n"])
def test_what_cannot_be_simulated_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot be simulated"):
        OkxDialect.listing(symbol)
