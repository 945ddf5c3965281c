"""Exchanges whose ids tell nothing: what was missed is a window of time, or shows when trades get a second look."""

from pathlib import Path
from typing import ClassVar

import pytest

from actors.backfill import schedule
from actors.feeds import registry
from actors.feeds.binance import Binance
from actors.feeds.binance.history import BinanceHistory
from actors.feeds.feed import RestRequest
from actors.feeds.history import HistoryPage, Wanted, is_past
from config import Settings
from tests.actors.backfill.test_backfilling import all_closed, gaps, lose_some, shards, trades_flow, whole
from tests.actors.exchanges import BinanceServer, collecting, live, numbers
from tests.actors.shards import stored_ids
from tests.polling import until

SYMBOL = "BTCUSDT"


class Recent(BinanceHistory):
    """The newest trades and none before them, as Bybit has it."""

    forwards: ClassVar[bool] = False
    limit = 400

    def request(self, wanted: Wanted) -> RestRequest:
        return RestRequest(f"/api/v3/aggTrades?symbol={wanted.symbol}&limit={self.limit}")

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        found = super().read(Wanted(wanted.symbol, 0, 1 << 62), body, ts_recv, RestRequest("/?fromId=0"))
        rows = found.trades
        times = numbers(rows, "ts_event")
        inside = [number for number, t_ns in enumerate(times) if wanted.from_ns <= t_ns <= wanted.to_ns]
        covered = min(times, default=wanted.from_ns) < wanted.from_ns and is_past(wanted, ts_recv)
        return HistoryPage(rows.take(inside), found.merged, None, covered, min(times, default=wanted.from_ns))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SETTLE_S", 0.3)


async def lose_connection(server: BinanceServer, trades: int) -> None:
    server.refusing = (503, {})
    server.cut()
    await until(lambda: not server.clients)
    for _ in range(trades):
        server.move(SYMBOL)
    server.refusing = None


async def test_what_a_lost_connection_missed_is_fetched_by_time_and_the_window_closes(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(Binance, "proof", "numbered")
    async with BinanceServer([SYMBOL]) as server, shards(settings) as kept:
        async with collecting(settings, server.endpoint(), *kept) as running:
            await trades_flow(settings, SYMBOL)
            assert await gaps(kept, open_only=False) == [], "before the first trade nothing is promised"
            await lose_connection(server, 1500)
            await until(lambda: all_closed(kept))
            await until(lambda: whole(settings, SYMBOL))
            assert (await running.status())["repair_error"] == ""
        (gap,) = await gaps(kept, open_only=False)
        assert (gap.first_id, gap.missing) == (None, None)
        assert gap.backfilled >= 1500
        assert "connection lost" in gap.reason
        assert "showed everything" in gap.evidence


async def test_a_new_collector_asks_for_everything_since_the_last_trade_that_is_stored(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(Binance, "proof", "numbered")
    async with BinanceServer([SYMBOL]) as server, shards(settings) as kept:
        async with collecting(settings, server.endpoint(), *kept):
            await trades_flow(settings, SYMBOL)
        for _ in range(100):
            server.move(SYMBOL)
        async with collecting(settings, server.endpoint(), *kept):
            await until(lambda: all_closed(kept))
        (gap,) = await gaps(kept, open_only=False)
        assert gap.reason == "the collector was started"
        assert whole(settings, SYMBOL)


async def test_a_trade_nobody_missed_is_found_by_a_second_look(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(Binance, "proof", "recent")
    monkeypatch.setitem(registry.HISTORIES, "binance", Recent())
    async with BinanceServer([SYMBOL]) as server, shards(settings) as kept:
        async with collecting(settings, server.endpoint(), *kept):
            await lose_some(server, settings, SYMBOL, 3)
            await until(lambda: whole(settings, SYMBOL))
            assert await gaps(kept, open_only=False) == [], "what is found was never missing"


async def test_what_recent_trades_do_not_show_any_more_is_counted_and_is_no_gap(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(Binance, "proof", "recent")
    monkeypatch.setitem(registry.HISTORIES, "binance", Recent())
    async with BinanceServer([SYMBOL]) as server, shards(settings) as kept:
        async with collecting(settings, server.endpoint(), *kept) as running:
            await lose_some(server, settings, SYMBOL, 3000)

            async def counted() -> bool:
                return bool((await running.status())["unseen_s"] > 0)

            await until(counted, 20.0)
        assert await gaps(kept, open_only=False) == []
        assert len(stored_ids(settings, "binance", SYMBOL)) == len(set(stored_ids(settings, "binance", SYMBOL)))
