"""The market API without Ray: books, subscriptions, and what is not there."""

import json
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from serve_apps.asgi import send_whole
from serve_apps.books import BOOK, BOOKS, OLD_ROUTE, ROUTE, BooksApp
from serve_apps.market import MarketApp, Resource
from serve_apps.parameters import Retired, Route
from serve_apps.subscriptions import SUBSCRIPTIONS, SubscriptionsApp
from storage.clickhouse import DatabaseUnavailable
from storage.schema import DEPTH
from tests.serve_apps.asgi_client import ask

TOKEN = "of-the-data-folder"
STORED = {"kraken": ["BTC/USD"], "okx": ["BOTH"], "bybit": ["BOTH"]}
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def book(state: str) -> pa.RecordBatch:
    levels = state == "synced"
    row = {
        "symbol": "BTC/USD",
        "ts_event": 1,
        "ts_recv": 2,
        "state": state,
        "epoch": 3,
        "sequence": None,
        "bids": [{"price": 10.0, "size": 1.5}] if levels else [],
        "asks": [{"price": 11.0, "size": 2.5}] if levels else [],
    }
    return pa.RecordBatch.from_pylist([row], schema=DEPTH)


class Collection:
    """What a supervisor would do."""

    def __init__(self) -> None:
        self.collected = {"BTC/USD"}

    async def symbols(self) -> list[dict[str, Any]]:
        return [{"exchange": "kraken", "symbol": symbol} for symbol in sorted(self.collected)]

    async def add(self, exchange: str, symbols: list[str]) -> dict[str, str]:
        self._check(exchange)
        self.collected |= {symbol for symbol in symbols if symbol != "NOPE"}
        return {symbol: "kraken has no symbol NOPE" if symbol == "NOPE" else "" for symbol in symbols}

    async def remove(self, exchange: str, symbols: list[str]) -> list[str]:
        self._check(exchange)
        known = [symbol for symbol in symbols if symbol in self.collected]
        self.collected -= set(known)
        return known

    def _check(self, exchange: str) -> None:
        if exchange != "kraken":
            raise LookupError(f"no exchange called {exchange!r} runs here; there are kraken")


@pytest.fixture
def collection() -> Collection:
    return Collection()


@pytest.fixture
def app(collection: Collection) -> MarketApp:
    async def books(exchange: str, symbol: str, levels: int | None) -> pa.RecordBatch:
        asked.append((exchange, symbol, levels))
        if symbol == "NOPE":
            raise KeyError(symbol)
        return book("synced" if symbol == "BTC/USD" else symbol.lower())

    asked: list[tuple[str, str, int | None]] = []
    resources = [
        Resource(BOOK, ("GET", "HEAD"), BooksApp(books, lambda: STORED), [ROUTE]),
        Resource(BOOKS, ("GET", "HEAD"), BooksApp(books, lambda: STORED, BOOKS), [OLD_ROUTE]),
        Resource(SUBSCRIPTIONS, ("GET", "HEAD", "POST", "DELETE"), SubscriptionsApp(collection, TOKEN)),
    ]
    return MarketApp(resources)


async def test_a_synced_book_is_served_as_json_and_as_arrow(app: MarketApp) -> None:
    answer = await ask(app, "/api/v1/book/BTC%2FUSD?exchange=kraken&levels=10")
    assert (answer.status, answer.json["bids"], answer.json["asks"]) == (200, [[10.0, 1.5]], [[11.0, 2.5]])
    assert (answer.json["exchange"], answer.json["epoch"]) == ("kraken", 3)
    arrow = await ask(app, "/api/v1/books/BTC%2FUSD?exchange=kraken&levels=full&format=arrow")
    assert pa.ipc.open_stream(arrow.body).read_all().to_batches() == [book("synced")]


@pytest.mark.parametrize("state", ["syncing", "gapped", "stale"])
async def test_a_book_that_cannot_be_trusted_is_never_served(app: MarketApp, state: str) -> None:
    answer = await ask(app, f"/api/v1/books/{state.upper()}?exchange=kraken")
    assert answer.status == 503
    assert state in answer.json["detail"]
    assert answer.headers["retry-after"] == "1"
    assert b"bids" not in answer.body


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("exchange=kraken&levels=0", "levels"),
        ("exchange=kraken&levels=1e3", "levels"),
        ("exchange=kraken&levels=99999999999", "levels"),
        ("exchange=kraken&levels=000001" + "9" * 5000, "levels"),
        ("exchange=kraken&level=5", "no level here"),
        ("exchange=kraken&format=xml", "format"),
    ],
)
async def test_a_bad_question_about_a_book_says_what_is_wrong(app: MarketApp, query: str, says: str) -> None:
    answer = await ask(app, f"/api/v1/book/BTC%2FUSD?{query}")
    assert answer.status == 400
    assert says in answer.json["detail"]


async def test_the_exchange_is_needed_only_where_several_have_the_symbol(app: MarketApp) -> None:
    answer = await ask(app, "/api/v1/book/BTC_USD")
    assert (answer.status, answer.json["exchange"], answer.json["symbol"]) == (200, "kraken", "BTC/USD")
    assert "exchange= one of: bybit, okx" in (await ask(app, "/api/v1/book/BOTH")).json["detail"]


async def test_a_path_that_goes_says_so_and_answers_as_before(app: MarketApp) -> None:
    old, new = [await ask(app, f"/api/v1/{name}/BTC_USD?exchange=kraken") for name in ("books", "book")]
    assert old.body == new.body
    assert (old.headers["deprecation"], old.headers["sunset"]) == ("@1795305600", "Mon, 31 May 2027 00:00:00 GMT")
    assert old.headers["link"] == '</api/v1/book/>; rel="successor-version"'
    assert "deprecation" not in new.headers
    assert new.headers["api-version"] == "1"


async def test_who_uses_a_path_that_goes_is_noted_once_a_day() -> None:
    async def answered(scope: Any, receive: Any, send: Any) -> None:
        await send_whole(send, 200, [], b"")

    times = iter((0.0, 1.0, 86_402.0))
    goes = Route("/old", "Old", (), retired=Retired(date(2026, 11, 22), date(2027, 5, 31), "/new"))
    app = MarketApp([Resource("/old", ("GET",), answered, (goes,))], lambda: next(times))
    with capture_logs() as noted:
        for _ in range(3):
            assert (await ask(app, "/old")).status == 200
    assert [(one["path"], one["user"]) for one in noted] == [("/old", "")] * 2


async def test_what_is_broken_is_told_from_what_is_not_known_now_and_nothing_leaks() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("/secret/path of SELECT")

    async def away(scope: Any, receive: Any, send: Any) -> None:
        raise DatabaseUnavailable("10.0.0.7 refused us")

    app = MarketApp([Resource("/broken", ["GET"], broken), Resource("/away", ["GET"], away)])
    answer = await ask(app, "/broken")
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert b"secret" not in answer.body
    answer = await ask(app, "/away")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert b"10.0.0.7" not in answer.body


async def test_a_book_nobody_collects_is_not_found(app: MarketApp) -> None:
    assert (await ask(app, "/api/v1/books/NOPE?exchange=kraken")).status == 404


async def test_symbols_are_added_and_removed_with_the_token(app: MarketApp, collection: Collection) -> None:
    body = json.dumps({"exchange": "kraken", "symbols": ["ETH/USD"]}).encode()
    answer = await ask(app, SUBSCRIPTIONS, "POST", body, AUTHORIZED)
    assert (answer.status, answer.json) == (200, {"added": ["ETH/USD"], "refused": {}})
    assert [row["symbol"] for row in (await ask(app, SUBSCRIPTIONS)).json] == ["BTC/USD", "ETH/USD"]
    answer = await ask(app, SUBSCRIPTIONS, "DELETE", body, AUTHORIZED)
    assert answer.json == {"removed": ["ETH/USD"]}
    assert collection.collected == {"BTC/USD"}


async def test_a_refused_symbol_is_named_and_the_others_are_added(app: MarketApp) -> None:
    body = json.dumps({"exchange": "kraken", "symbols": ["ETH/USD", "NOPE"]}).encode()
    answer = await ask(app, SUBSCRIPTIONS, "POST", body, AUTHORIZED)
    assert answer.status == 422
    assert answer.json == {"added": ["ETH/USD"], "refused": {"NOPE": "kraken has no symbol NOPE"}}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}])
async def test_nothing_changes_without_the_token(
    app: MarketApp, collection: Collection, headers: dict[str, str]
) -> None:
    body = json.dumps({"exchange": "kraken", "symbols": ["BTC/USD"]}).encode()
    answer = await ask(app, SUBSCRIPTIONS, "DELETE", body, headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in answer.json["detail"]
    assert collection.collected == {"BTC/USD"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"exchange":"kraken"}', 400),
        (b'{"exchange":"kraken","symbols":[]}', 400),
        (b'{"exchange":"kraken","symbols":[1]}', 400),
        (b'{"exchange":"kraken","symbols":["A"],"more":1}', 400),
        (b'{"exchange":"nasdaq","symbols":["A"]}', 404),
        (b"[" * 50_000, 400),
        (b" " * (65 << 10), 413),
    ],
)
async def test_a_bad_change_says_what_is_wrong(app: MarketApp, body: bytes, status: int) -> None:
    answer = await ask(app, SUBSCRIPTIONS, "POST", body, AUTHORIZED)
    assert answer.status == status
    assert answer.json["detail"]


async def test_what_is_not_there_names_what_is(app: MarketApp) -> None:
    answer = await ask(app, "/api/v1/nope")
    assert answer.status == 404
    assert "/api/v1/books/{symbol}" in answer.json["detail"]
    assert (await ask(app, "/api/v1/books/BTC", "PUT")).headers["allow"] == "GET, HEAD"
