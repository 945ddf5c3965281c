"""The best quotes and arbitrage over HTTP, without Ray."""

from typing import Any

import pyarrow as pa
import pytest

from actors.aggregation.arbitrage import Arbitrage, Rules
from serve_apps.consolidated import ARBITRAGE, BBO, ArbitrageApp, BestApp
from serve_apps.market import MarketApp, Resource
from serve_apps.shared_answer import NoAnswer
from tests.actors.aggregation.plain_consolidated import NOON, SECOND, Quote, batch, opened
from tests.serve_apps.asgi_client import ask, check_problem


class Watch:
    """Who watches the quotes: Binance asks 101, OKX bid 110 for a second, and still bids 105; `away`: no answer."""

    def __init__(self) -> None:
        self.away = False
        self._book = opened()
        fees = {exchange: {"spot": 0.0} for exchange in ("binance", "okx", "bybit")}
        self._arbitrage = Arbitrage(Rules(fees, 0.005, 0.5, {"USDT": "USD"}), 10)
        self._quote("binance", "BTCUSDT", NOON, 100.0, 101.0)
        for at, bid in ((NOON, 110.0), (NOON + SECOND, 99.0), (NOON + 2 * SECOND, 105.0)):
            self._quote("okx", "BTC-USDT", at, bid, bid + 1)
            self._view = self._book.look(at)
            self._arbitrage.follow(self._book, self._view)

    async def best(self) -> pa.RecordBatch:
        self._check()
        return self._book.best(self._view)

    async def episodes(self) -> pa.RecordBatch:
        self._check()
        return self._arbitrage.episodes(self._book)

    def _quote(self, exchange: str, symbol: str, at: int, bid: float, ask: float) -> None:
        self._book.take(exchange, batch([Quote(symbol, at, 1, bid, ask)]))

    def _check(self) -> None:
        if self.away:
            raise NoAnswer("nobody answers")


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def app(watch: Watch) -> MarketApp:
    methods = ("GET", "HEAD")
    return MarketApp(
        [Resource(BBO, methods, BestApp(watch.best)), Resource(ARBITRAGE, methods, ArbitrageApp(watch.episodes))]
    )


async def test_all_instruments_are_listed_by_name_and_narrowed_by_kind_and_exchange(app: MarketApp) -> None:
    async def names(query: str = "") -> list[str]:
        return [row["instrument"] for row in (await ask(app, BBO + query)).json]

    everything = ["BTC-PERPETUAL", "BTC-USD", "BTC-USDT", "BTC-USDT-PERPETUAL", "ETH-USDT"]
    assert await names() == await names("/") == everything
    assert await names("?kind=perpetual") == ["BTC-PERPETUAL", "BTC-USDT-PERPETUAL"]
    assert await names("?exchange=binance") == ["BTC-USDT", "ETH-USDT"]
    assert await names("?exchange=okx&kind=spot") == ["BTC-USDT", "ETH-USDT"]
    assert await names("?exchange=nasdaq") == []


async def test_one_instrument_has_its_best_quotes_and_what_each_exchange_says(app: MarketApp) -> None:
    answer = await ask(app, f"{BBO}/BTC-USDT")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-cache")
    said = answer.json
    quotes = said.pop("quotes")
    assert said == {
        "instrument": "BTC-USDT",
        "kind": "spot",
        "bid_price": 105.0,
        "bid_size": 1.0,
        "bid_exchange": "okx",
        "ask_price": 101.0,
        "ask_size": 1.0,
        "ask_exchange": "binance",
        "mid": 103.0,
        "spread": -4.0,
        "exchanges": 2,
    }
    assert [(one["exchange"], one["left_out"], one["bid_price"]) for one in quotes] == [
        ("binance", "", 100.0),
        ("bybit", "waiting", None),
        ("okx", "", 105.0),
    ]


async def test_what_is_open_comes_first_and_then_what_is_over(app: MarketApp) -> None:
    answer = await ask(app, ARBITRAGE)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    now, over = answer.json
    assert (now["closed"], now["profit"], now["ended"]) == (None, 4.0, "")
    assert (over["closed"] - over["opened"], over["profit"], over["ended"]) == (SECOND, 9.0, "prices")
    assert (await ask(app, f"{ARBITRAGE}?open=1")).json == [now]
    assert (await ask(app, f"{ARBITRAGE}?limit=1")).json == [now]
    narrow = f"{ARBITRAGE}?instrument=BTC-USD&buy_exchange=binance&sell_exchange=okx"
    assert (await ask(app, narrow)).json == [now, over]
    assert (await ask(app, f"{ARBITRAGE}?sell_exchange=binance")).json == []


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        (f"{BBO}/BTC-EUR", 404, f"BTC-EUR is collected nowhere; {BBO} lists what is."),
        (f"{BBO}BTC-USDT", 404, "is collected nowhere"),
        (f"{BBO}/BTC-USDT/", 404, "is collected nowhere"),
        (f"{BBO}/%FF%00", 404, "is collected nowhere"),
        (f"{BBO}?kind=option", 400, "kind must be one of: spot, perpetual"),
        (f"{BBO}?knid=spot", 400, "no knid here, only exchange, kind"),
        (f"{BBO}/BTC-USDT?exchange=okx", 400, "no exchange here, and no other"),
        (f"{ARBITRAGE}/BTC-USD", 404, f"{ARBITRAGE} lists opportunities, {BBO} the best quotes"),
        (f"{ARBITRAGE}?open=yes", 400, "open must be"),
        (f"{ARBITRAGE}?limit=0", 400, "limit must be"),
        (f"{ARBITRAGE}?limit=99999999", 400, "limit must be"),
        (f"{ARBITRAGE}?limit=%C2%B2", 400, "limit must be"),
        (f"{ARBITRAGE}?limit=000001{'9' * 5000}", 400, "limit must be"),
        (f"{ARBITRAGE}?exchange=okx", 400, "no exchange here, only buy_exchange"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_what_is_wrong(
    app: MarketApp, target: str, status: int, says: str
) -> None:
    await check_problem(app, target, status, says)


@pytest.mark.parametrize("path", [BBO, f"{BBO}/BTC-USDT", ARBITRAGE])
async def test_while_nobody_answers_it_says_when_to_ask_again(app: MarketApp, watch: Watch, path: str) -> None:
    watch.away = True
    answer: Any = await ask(app, path)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await ask(app, path, "POST")).status == 405
