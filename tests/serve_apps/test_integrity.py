"""What is missing, over HTTP without Ray."""

import asyncio
from dataclasses import asdict, replace
from typing import Any

import pytest

from serve_apps.integrity import GAPS, INTEGRITY, GapsApp, IntegrityApp
from serve_apps.market import MarketApp, Resource
from serve_apps.shared_answer import NoAnswer, Shared
from storage.ledger_log import Gap
from tests.polling import until
from tests.serve_apps.asgi_client import ask, check_problem

ROWS = [
    {"exchange": "kraken", "symbol": "BTC/USD", "proof": "ids", "state": "gapped", "since": 5, "why": "passed over"},
    {"exchange": "binance", "symbol": "BTCUSDT", "proof": "ids", "state": "synced", "since": 1, "why": ""},
    {"exchange": "bybit", "symbol": "BTCUSDT", "proof": "recent", "state": "stale", "since": 2, "why": "silent"},
]  # fmt: skip
OLDEST = Gap("kraken", "BTC/USD", 1, 7, 9, 10, 20, 3, opened=30, reason="connection lost")
GAPS_THERE = [OLDEST, replace(OLDEST, gap_id=2, opened=40, closed=50, evidence="every id is stored: came late")]


class Supervisor:
    """What the supervisor would say; `away`: it does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[Any] = []

    async def integrity(self) -> list[dict[str, Any]]:
        self._check()
        return ROWS

    async def gaps(self, exchange: str | None, symbol: str | None, open_only: bool) -> list[dict[str, Any]]:
        self._check()
        self.asked.append((exchange, symbol, open_only))
        if exchange == "nasdaq":
            raise LookupError("no exchange called 'nasdaq' runs here; there are kraken")
        return [asdict(gap) for gap in GAPS_THERE if not (open_only and gap.closed)]

    def _check(self) -> None:
        if self.away:
            raise NoAnswer("nobody answers")


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture
def app(supervisor: Supervisor) -> MarketApp:
    return MarketApp(
        [
            Resource(INTEGRITY, ("GET", "HEAD"), IntegrityApp(supervisor.integrity)),
            Resource(GAPS, ("GET", "HEAD"), GapsApp(supervisor.gaps)),
        ]
    )


async def test_the_integrity_of_all_symbols_is_listed_and_narrowed_to_an_exchange(app: MarketApp) -> None:
    answer = await ask(app, INTEGRITY)
    assert (answer.status, answer.json) == (200, ROWS)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=1"
    assert (await ask(app, f"{INTEGRITY}?exchange=bybit")).json == ROWS[2:]
    assert (await ask(app, f"{INTEGRITY}?exchange=nasdaq")).json == []


@pytest.mark.parametrize("name", ["BTC%2FUSD", "BTC_USD"])
async def test_one_symbol_is_found_by_its_native_name_and_by_that_on_disk(app: MarketApp, name: str) -> None:
    assert (await ask(app, f"{INTEGRITY}/{name}")).json == ROWS[0]


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        (f"{INTEGRITY}/BTCUSDT", 400, "exchange= one of: binance, bybit"),
        (f"{INTEGRITY}/NOPE?exchange=kraken", 404, "NOPE on kraken is not collected"),
        (f"{INTEGRITY}/BTC%2FUSD?exchange=binance", 404, "is not collected"),
        (f"{INTEGRITY}BTCUSDT", 404, "is not collected"),
        (f"{INTEGRITY}?exchnage=binance", 400, "no exchnage here"),
        (f"{GAPS}?open=yes", 400, "open must be"),
        (f"{GAPS}?limit=0", 400, "limit must be"),
        (f"{GAPS}?limit=99999999", 400, "limit must be"),
        (f"{GAPS}?limit=%C2%B2", 400, "limit must be"),
        (f"{GAPS}?limit=000001{'9' * 5000}", 400, "limit must be"),
        (f"{GAPS}/BTCUSDT", 404, "There is nothing here"),
        (f"{GAPS}?exchange=nasdaq", 404, "no exchange called 'nasdaq'"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_what_is_wrong(
    app: MarketApp, target: str, status: int, says: str
) -> None:
    await check_problem(app, target, status, says)


async def test_a_symbol_several_exchanges_have_needs_one(app: MarketApp) -> None:
    assert (await ask(app, f"{INTEGRITY}/BTCUSDT?exchange=bybit")).json == ROWS[2]


async def test_gaps_come_newest_first_with_all_that_is_known(app: MarketApp, supervisor: Supervisor) -> None:
    answer = await ask(app, GAPS)
    assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=1")
    assert [gap["gap_id"] for gap in answer.json] == [2, 1]
    assert answer.json[1] == {
        "exchange": "kraken",
        "symbol": "BTC/USD",
        "gap_id": 1,
        "first_id": 7,
        "last_id": 9,
        "from_ns": 10,
        "to_ns": 20,
        "missing": 3,
        "opened": 30,
        "reason": "connection lost",
        "attempts": 0,
        "backfilled": 0,
        "closed": None,
        "evidence": "",
        "revision": 0,
    }
    assert [gap["gap_id"] for gap in (await ask(app, f"{GAPS}?limit=1")).json] == [2]
    only = await ask(app, f"{GAPS}?exchange=kraken&symbol=BTC%2FUSD&open=1")
    assert [gap["gap_id"] for gap in only.json] == [1]
    assert supervisor.asked == [(None, None, False), (None, None, False), ("kraken", "BTC/USD", True)]


@pytest.mark.parametrize("path", [INTEGRITY, f"{INTEGRITY}/BTCUSDT", GAPS])
async def test_while_nobody_answers_it_says_when_to_ask_again(
    app: MarketApp, supervisor: Supervisor, path: str
) -> None:
    supervisor.away = True
    answer = await ask(app, path)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await ask(app, path, "POST")).status == 405


async def test_many_who_look_at_once_ask_once_and_one_that_leaves_takes_nothing_from_the_others() -> None:
    now, asked, answer = 0.0, 0, asyncio.Event()

    async def count() -> int:
        nonlocal asked
        asked += 1
        await answer.wait()
        return asked

    shared = Shared(count, fresh_s=0.5, clock=lambda: now)
    waiting = [asyncio.ensure_future(shared()) for _ in range(100)]
    await until(lambda: asked == 1)
    waiting.pop().cancel()
    now = 10.0
    waiting.append(asyncio.ensure_future(shared()))
    answer.set()
    assert await asyncio.gather(*waiting) == [1] * 100
    now = 10.1
    assert await shared() == 2, "what was answered is from when it was asked"
    now = 10.6
    assert await shared() == 2
    now = 10.7
    assert await shared() == 3


async def test_a_failure_is_told_to_all_and_asked_about_again() -> None:
    now, away = 0.0, True

    async def answer() -> str:
        if away:
            raise NoAnswer("away")
        return "here"

    shared = Shared(answer, fresh_s=0.5, clock=lambda: now)
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await shared()
    now, away = 1.0, False
    assert await shared() == "here"
