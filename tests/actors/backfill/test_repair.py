"""Which windows a repair closes, and with what evidence: real accounts of what is missing and real requests to an
exchange on loopback. No window closes before every trade of it was delivered."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp.web
import numpy as np
import pytest

from actors.backfill import pages as backfill_pages
from actors.backfill.pages import Pages
from actors.backfill.records import NotesInFile, Records
from actors.backfill.repair import MARGIN_NS, Repair
from actors.delivery import Batches
from actors.feeds.bitfinex import history as bitfinex_history
from actors.feeds.bitfinex.history import BitfinexHistory
from actors.feeds.bybit.history import BybitHistory
from actors.feeds.history import TradeHistory
from actors.ledger.account import Account
from actors.polling.breaker import Breaker
from actors.request_budget import RequestBudget
from actors.rest_client import RestClient
from actors.routes import Routes
from storage.ledger_log import Gap
from tests.actors.exchanges import Handle, numbers
from tests.polling import until

SECOND = 1_000_000_000
BITFINEX, BYBIT = "tBTCUSD", "spot:BTCUSDT"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_pages, "AWAY_S", 0.05)


class Exchange:
    """Bitfinex from a time on, and Bybit's newest 60; holds its answers back until `open` is set."""

    def __init__(self) -> None:
        #: ms of the trades, by id.
        self.times: list[int] = []
        #: What was asked for, in ms.
        self.asked: list[tuple[int, int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._left = -1
        #: A status instead of trades, for what begins at this time (ms).
        self.status: Callable[[int], int] = lambda start: 200

    @asynccontextmanager
    async def served(self) -> AsyncIterator[RestClient]:
        application = aiohttp.web.Application()
        application.router.add_get("/v2/trades/{symbol}/hist", self._bitfinex)
        application.router.add_get("/v5/market/recent-trade", self._bybit)
        runner = aiohttp.web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        async with RestClient(f"http://127.0.0.1:{runner.addresses[0][1]}", RequestBudget(1e6)) as rest:
            yield rest
        await runner.cleanup()

    def hold_after(self, answers: int) -> None:
        """Give so many more answers."""
        self._left = answers

    async def _answer(self, start: int, end: int) -> None:
        self.asked.append((start, end))
        if self._left == 0:
            self.open.clear()
        self._left -= 1
        await self.open.wait()
        if (status := self.status(start)) != 200:
            raise {400: aiohttp.web.HTTPBadRequest, 503: aiohttp.web.HTTPServiceUnavailable}[status]

    async def _bitfinex(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        start, end, limit = (int(request.query[name]) for name in ("start", "end", "limit"))
        await self._answer(start, end)
        found = [[number, at, 1.0, 2.0] for number, at in enumerate(self.times) if start <= at <= end]
        return aiohttp.web.json_response(found[:limit])

    async def _bybit(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        await self._answer(0, 0)
        rows = [
            {"execId": str(number), "symbol": "BTCUSDT", "price": "1", "size": "1", "side": "Buy", "time": str(at)}
            for number, at in enumerate(self.times)
        ]
        return aiohttp.web.json_response({"retCode": 0, "result": {"category": "spot", "list": rows[:-61:-1]}})


class Ledger:
    """What a shard knows of one symbol whose trades prove nothing by their ids."""

    def __init__(self, symbol: str, exchange: Exchange) -> None:
        self.symbol = symbol
        self.rows: dict[int, Gap] = {}
        self.delivered: set[int] = set()
        #: Windows that were to be closed before all of their trades were delivered.
        self.untrue: list[Gap] = []
        self.failing = False
        self.account = Account("exchange", symbol, "numbered", self._changed)
        self._exchange = exchange
        one = np.ones(1, np.int64)
        self.account.stored("trades", one, one, one, one > 0, 1)

    def window(self, from_s: float, to_s: float, reason: str = "connection lost") -> int:
        """Opens one, these many seconds ago."""
        now = time.time_ns()
        self.account.broke(now - int(from_s * SECOND), now - int(to_s * SECOND), reason, now)
        return max(self.account.open)

    def gap(self, gap_id: int) -> Gap:
        return self.rows[gap_id]

    async def gaps(self, exchange: str) -> list[Gap]:
        if self.failing:
            raise OSError("away")
        return list(self.account.open.values())

    async def attempted(self, exchange: str, symbol: str, gap_id: int, covered: bool, note: str, now_ns: int) -> None:
        if covered and (gap := self.account.open.get(gap_id)) is not None:
            inside = {at for at in self._exchange.times if gap.from_ns <= at * 1_000_000 <= gap.to_ns}
            if not inside <= self.delivered:
                self.untrue.append(gap)
        self.account.attempted(gap_id, covered, note, now_ns)

    async def take(self, batches: Batches, received: int) -> None:
        self.delivered |= {at // 1_000_000 for at in numbers(batches["backfill"], "ts_event")}

    def _changed(self, gap: Gap) -> None:
        self.rows[gap.gap_id] = gap


@asynccontextmanager
async def repairing(
    exchange: Exchange, records: Path, history: TradeHistory, *shards: Ledger
) -> AsyncIterator[tuple[Repair, list[str]]]:
    failures: list[str] = []
    kept = Records(NotesInFile(records))
    await kept.read()
    repair = Repair(
        "exchange",
        Routes("exchange", [Handle(shard) for shard in shards]),
        kept,
        lambda: 0,
        failures.append,
    )
    async with exchange.served() as rest:
        running = asyncio.create_task(
            repair.run(Pages(history, rest, Breaker("REST", failures=10_000), shards[0].take))
        )
        try:
            yield repair, failures
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    assert not any(shard.untrue for shard in shards)


@pytest.fixture
def exchange() -> Exchange:
    """It traded ten times a second in the last ten minutes."""
    made, now = Exchange(), time.time_ns() // 1_000_000
    made.times = list(range(now - 600_000, now, 100))
    return made


@pytest.fixture
def ledger(exchange: Exchange) -> Ledger:
    return Ledger(BITFINEX, exchange)


async def test_near_windows_are_closed_by_one_request(exchange: Exchange, ledger: Ledger, tmp_path: Path) -> None:
    windows = [ledger.window(ago, ago - 5) for ago in (200, 150, 100)]
    exchange.open.clear()
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger) as (repair, failures):
        await until(lambda: bool(exchange.asked))
        assert repair.under_way == 1
        exchange.open.set()
        await until(lambda: not ledger.account.open and repair.open == 0)
    assert (len(exchange.asked), failures) == (1, [])
    assert all("showed everything" in ledger.gap(window).evidence for window in windows)


async def test_windows_that_are_far_apart_have_a_request_each(
    exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    for ago in (500, 100):
        ledger.window(ago, ago - 5)
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger) as (repair, _):
        await until(lambda: not ledger.account.open and repair.open == 0)
    assert len(exchange.asked) == 2


async def test_what_opened_while_rest_was_away_is_not_closed_by_what_was_asked_for_before(
    exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    asked_for = [ledger.window(ago, ago - 5) for ago in (200, 150)]
    exchange.status = lambda start: 503
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger) as (repair, _):
        await until(lambda: bool(ledger.gap(asked_for[1]).attempts))
        first = exchange.asked[0]
        later = ledger.window(215, 208)
        repair.acknowledged(0, 3)
        await until(lambda: exchange.asked[-1] != first)
        exchange.status = lambda start: 200 if start == first[0] else 503
        await until(lambda: all(ledger.gap(window).closed for window in asked_for))
        assert ledger.gap(later).closed is None
        exchange.status = lambda start: 200
        await until(lambda: not ledger.account.open)


async def test_a_window_opened_later_than_the_request_is_not_closed_by_it(
    exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    asked_for = [ledger.window(ago, ago - 5) for ago in (200, 150)]
    exchange.open.clear()
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger) as (repair, _):
        await until(lambda: bool(exchange.asked))
        later = ledger.window(190, 180)
        repair.acknowledged(0, 3)
        await until(lambda: len(exchange.asked) == 2)
        own = exchange.asked[1][0]
        exchange.status = lambda start: 503 if start == own else 200
        exchange.open.set()
        await until(lambda: all(ledger.gap(window).closed for window in asked_for))
        assert ledger.gap(later).closed is None, "though it lies within what was shown"
        exchange.status = lambda start: 200
        await until(lambda: not ledger.account.open)


async def test_a_window_that_became_part_of_a_larger_one_does_not_close_that(
    exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    small = [ledger.window(ago, ago - 5) for ago in (200, 150)]
    exchange.open.clear()
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger) as (repair, failures):
        await until(lambda: bool(exchange.asked))
        whole = ledger.window(147, 20, "collector was started")
        assert ledger.gap(small[1]).evidence == f"part of gap {whole}"
        repair.acknowledged(0, 2)
        await until(lambda: len(exchange.asked) == 2)
        exchange.open.set()
        await until(lambda: not ledger.account.open and repair.open == 0)
    assert failures == []
    assert "showed everything" in ledger.gap(small[0]).evidence
    assert "showed everything" in ledger.gap(whole).evidence


async def test_after_a_restart_a_repair_goes_on_and_closes_nothing_but_its_own_window(
    monkeypatch: pytest.MonkeyPatch, exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    monkeypatch.setattr(bitfinex_history, "_LIMIT", 30)
    small, large = ledger.window(250, 245), ledger.window(200, 100)
    records = tmp_path / "a.json"
    exchange.hold_after(7)
    async with repairing(exchange, records, BitfinexHistory(), ledger):
        await until(lambda: len(exchange.asked) == 8)
    exchange.open.set()
    begun = len(exchange.asked)
    assert ledger.account.open.keys() == {small, large}
    first = exchange.asked[0][0]
    async with repairing(exchange, records, BitfinexHistory(), ledger) as (repair, _):
        await until(lambda: ledger.gap(large).closed is not None)
        assert exchange.asked[begun][0] > first + 10_000, "what a turn has brought is not fetched again"
        await until(lambda: not ledger.account.open and repair.open == 0)
    again = [asked for asked in exchange.asked[begun:] if asked[0] <= first + 1_000]
    assert len(again) == 1, "of the other window nobody knows any more that it was shown"


async def test_what_is_known_of_a_gap_that_closed_otherwise_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    monkeypatch.setattr(bitfinex_history, "_LIMIT", 30)
    gap = ledger.window(300, 100)
    records = tmp_path / "a.json"
    exchange.hold_after(7)
    async with repairing(exchange, records, BitfinexHistory(), ledger) as (repair, _):
        await until(lambda: len(exchange.asked) == 8)
        assert str(gap).encode() in records.read_bytes()
        whole = ledger.window(301, 99)
        assert ledger.gap(gap).evidence == f"part of gap {whole}"
        repair.acknowledged(0, 2)
        await until(lambda: len(exchange.asked) == 9)
        exchange.open.set()
        await until(lambda: not ledger.account.open and repair.open == 0)
        await until(lambda: str(gap).encode() not in records.read_bytes())


async def test_a_window_the_exchange_does_not_show_any_more_keeps_no_near_one_open(
    exchange: Exchange, tmp_path: Path
) -> None:
    ledger = Ledger(BYBIT, exchange)
    # The newest 60 trades are those of the last 30 seconds.
    exchange.times = exchange.times[::5]
    gone, shown = ledger.window(50, 45), [ledger.window(ago, ago - 1) for ago in (20, 15)]
    async with repairing(exchange, tmp_path / "a.json", BybitHistory(), ledger) as (repair, _):
        await until(lambda: repair.open == 1)
    assert all(ledger.gap(window).closed for window in shown)
    assert ledger.gap(gone).closed is None
    assert "shows no more" in ledger.gap(gone).evidence
    assert len(exchange.asked) <= 2


async def test_a_window_whose_request_is_refused_keeps_no_near_one_open(
    exchange: Exchange, ledger: Ledger, tmp_path: Path
) -> None:
    refused, near = ledger.window(200, 190), ledger.window(150, 140)
    limit = (ledger.gap(near).from_ns - MARGIN_NS) // 1_000_000 - 1_000
    exchange.status = lambda start: 400 if start < limit else 200
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger):
        await until(lambda: ledger.gap(near).closed is not None)
        await until(lambda: ledger.gap(refused).attempts > 0)
    assert ledger.gap(refused).closed is None


async def test_a_shard_that_does_not_tell_its_gaps_keeps_those_of_others_from_nothing(
    exchange: Exchange, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger(BITFINEX, exchange)
    other.failing = True
    ledger.window(200, 190)
    monkeypatch.setattr(Routes, "number", lambda *_: 0)
    async with repairing(exchange, tmp_path / "a.json", BitfinexHistory(), ledger, other) as (_, failures):
        await until(lambda: not ledger.account.open)
    assert any("does not tell its gaps" in failure for failure in failures)
