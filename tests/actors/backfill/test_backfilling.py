"""Trades that were lost on the way come back over REST: a real collector, real shards and a real exchange on loopback,
all in this process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.feeds.binance import history as binance_history
from config import Settings, SettingsError, load
from storage.ledger_log import Gap
from tests.actors.exchanges import NOON_MS, NOWHERE, BinanceServer, collecting, live, synced
from tests.actors.shards import Shard, stored_ids
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


@asynccontextmanager
async def shards(settings: Settings) -> AsyncIterator[list[Shard]]:
    """All shards of an instance."""
    made = [Shard(settings, recorded=False, index=index) for index in range(settings.shards)]
    yield made
    for shard in made:
        await shard.stop()


async def gaps(kept: list[Shard], open_only: bool = True) -> list[Gap]:
    return [gap for shard in kept for gap in await shard.gaps("binance", open_only)]


async def trades_flow(settings: Settings, symbol: str, more: int = 20) -> None:
    begun = len(stored_ids(settings, "binance", symbol))
    await until(lambda: len(stored_ids(settings, "binance", symbol)) >= begun + more)


def whole(settings: Settings, symbol: str) -> bool:
    """Whether every id between the first and the last is stored once."""
    ids = sorted(stored_ids(settings, "binance", symbol))
    return ids == list(range(ids[0], ids[-1] + 1))


async def lose_some(server: BinanceServer, settings: Settings, symbol: str, count: int) -> None:
    """Let so many trades get lost on the way, and the next one through."""
    await trades_flow(settings, symbol)
    server.moving = False
    server.skipping.add(symbol)
    for _ in range(count):
        server.move(symbol)
    server.skipping.clear()
    server.moving = True
    await trades_flow(settings, symbol)


async def all_closed(kept: list[Shard], count: int = 1) -> bool:
    rows = await gaps(kept, open_only=False)
    return len(rows) >= count and all(gap.closed is not None for gap in rows)


async def test_trades_that_got_lost_are_fetched_and_the_gap_closes_with_evidence(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, shards(settings) as kept:
        async with collecting(settings, server.endpoint(), *kept) as collector:
            await lose_some(server, settings, "BTCUSDT", 2500)
            await until(lambda: all_closed(kept))
            assert whole(settings, "BTCUSDT")

            async def told() -> bool:
                return bool((await collector.status())["gaps_open"] == 0)

            await until(told)
            status = await collector.status()
        (gap,) = await gaps(kept, open_only=False)
        assert (gap.symbol, gap.missing, gap.backfilled) == ("BTCUSDT", 0, 2500)
        assert gap.evidence
        assert status["backfilled"] == 2500
        assert status["breaker"] == "closed"
        assert [symbol for symbol, _ in server.trades_asked] == ["BTCUSDT"] * 3
        assert whole(settings, "ETHUSDT")


async def test_a_lost_connection_is_the_reason_of_the_gap_it_leaves(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, shards(settings) as kept:
        async with collecting(settings, server.endpoint(), *kept):
            for symbol in SYMBOLS:
                await trades_flow(settings, symbol)
            server.refusing = (503, {})
            server.cut()
            before = server.traded["BTCUSDT"]
            await until(lambda: server.traded["BTCUSDT"] > before + 20)
            server.refusing = None
            await until(lambda: all_closed(kept, 2))
        rows = await gaps(kept, open_only=False)
        assert {gap.symbol for gap in rows} == set(SYMBOLS)
        assert all("connection" in gap.reason for gap in rows)
        assert all(whole(settings, symbol) for symbol in SYMBOLS)


async def test_while_rest_is_away_gaps_stay_open_the_feed_goes_on_and_afterwards_they_close(settings: Settings) -> None:
    async def away() -> aiohttp.web.Response:
        return aiohttp.web.Response(status=503)

    async with BinanceServer(SYMBOLS) as server, shards(settings) as kept:
        server.trades_instead = away
        async with collecting(settings, server.endpoint(), *kept) as collector:
            await lose_some(server, settings, "BTCUSDT", 10)

            async def breaker_is(state: str) -> bool:
                return bool((await collector.status())["breaker"] == state)

            await until(lambda: breaker_is("open"))
            asked = len(server.trades_asked)
            assert asked == 5
            await trades_flow(settings, "ETHUSDT", 50)
            status = await collector.status()
            assert (status["state"], status["gaps_open"]) == ("streaming", 1)
            assert "503" in status["repair_error"]
            (gap,) = await gaps(kept)
            assert (gap.attempts, gap.missing) == (5, 10)
            assert "503" in gap.evidence
            server.trades_instead = None
            await until(lambda: all_closed(kept))
            assert await breaker_is("closed")
        assert whole(settings, "BTCUSDT")


async def test_a_collector_that_is_killed_in_the_middle_is_followed_by_one_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    async with BinanceServer(["BTCUSDT"]) as server, shards(settings) as kept:
        monkeypatch.setattr(binance_history, "_LIMIT", 10)
        answers = asyncio.Semaphore(7)

        async def some() -> None:
            await answers.acquire()

        server.trades_instead = some
        async with collecting(settings, server.endpoint(), *kept):
            await lose_some(server, settings, "BTCUSDT", 200)
            await until(lambda: len(server.trades_asked) == 8)
        first = server.trades_asked[0][1]
        assert not whole(settings, "BTCUSDT")
        for _ in range(1000):
            answers.release()
        before = len(server.trades_asked)
        async with collecting(settings, server.endpoint(), *kept):
            await until(lambda: all_closed(kept, 2))
        assert whole(settings, "BTCUSDT")
        again = [asked for _, asked in server.trades_asked[before:] if first <= asked < first + 200]
        assert min(again) >= first + 50, "what a turn has brought is not fetched again"


async def test_a_slow_shard_costs_time_and_connections_but_no_trade(tmp_path: Path) -> None:
    small = {"max_batches_in_flight": 4, "max_frames": 50}
    settings = live(tmp_path, **small)
    async with BinanceServer(["BTCUSDT"]) as server, shards(settings) as kept:

        class Slow:
            """Takes nothing while it is closed."""

            def __init__(self, shard: Shard) -> None:
                self.gaps, self.attempted, self.integrity = shard.gaps, shard.attempted, shard.integrity
                self.open = asyncio.Event()
                self._shard = shard

            async def append(self, *call: Any) -> int:
                await self.open.wait()
                return await self._shard.append(*call)

        slow = Slow(kept[0])
        slow.open.set()
        async with collecting(settings, server.endpoint(), slow) as collector:
            await until(lambda: synced(collector, "BTCUSDT"))
            await trades_flow(settings, "BTCUSDT")
            slow.open.clear()
            waiting = []

            async def held() -> bool:
                status = await collector.status()
                waiting.append((status["batches_in_flight"], status["frames_waiting"]))
                return bool(status["batches_in_flight"] >= 4)

            await until(held)
            lost = server.traded["BTCUSDT"]
            for _ in range(500):
                server.move("BTCUSDT")
            server.cut()
            for _ in range(500):
                server.move("BTCUSDT")
            await held()
            slow.open.set()
            await until(lambda: all_closed(kept))
            await trades_flow(settings, "BTCUSDT")
        assert max(batches for batches, _ in waiting) <= 5
        assert max(frames for _, frames in waiting) < 200
        assert whole(settings, "BTCUSDT")
        (gap,) = await gaps(kept, open_only=False)
        assert gap.backfilled >= 500
        assert gap.first_id is not None and gap.first_id > lost - 100


async def test_a_range_of_the_past_is_fetched_on_request_and_counted(settings: Settings) -> None:
    async with BinanceServer(["BTCUSDT"]) as server, shards(settings) as kept:
        server.traded["BTCUSDT"] = 3000
        server.moving = False
        async with collecting(settings, server.endpoint(), *kept) as collector:
            await until(lambda: synced(collector, "BTCUSDT"))
            server.move("BTCUSDT")
            await until(lambda: bool(stored_ids(settings, "binance", "BTCUSDT")))
            job = await collector.backfill("BTCUSDT", NOON_MS * 1_000_000, time.time_ns())

            async def done() -> bool:
                (row,) = await collector.backfills()
                return bool(row["state"] == "done")

            await until(done)
            (row,) = await collector.backfills()
            assert (row["job"], row["rows"], row["pages"], row["error"]) == (job, 3001, 4, "")
            assert row["new"] == 3000
            assert sorted(stored_ids(settings, "binance", "BTCUSDT")) == list(range(1, 3002))
            assert not await collector.cancel_backfill(job)
        assert json.loads((settings.data / "backfill" / "binance.json").read_text())["jobs"][0]["state"] == "done"


async def test_a_range_goes_on_after_a_kill_and_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    async with BinanceServer(["BTCUSDT"]) as server, shards(settings) as kept:
        server.traded["BTCUSDT"] = 3000
        monkeypatch.setattr(binance_history, "_LIMIT", 100)
        answers = asyncio.Semaphore(2)

        async def some() -> None:
            await answers.acquire()

        server.trades_instead = some
        async with collecting(settings, server.endpoint(), *kept) as collector:
            job = await collector.backfill("BTCUSDT", NOON_MS * 1_000_000, time.time_ns())
            await until(lambda: len(server.trades_asked) == 3)
        async with collecting(settings, server.endpoint(), *kept) as collector:
            (row,) = await collector.backfills()
            assert (row["job"], row["state"]) == (job, "running")
            assert await collector.cancel_backfill(job)
            assert (await collector.backfills())[0]["state"] == "cancelled"


async def test_what_cannot_be_fetched_is_refused_with_the_reason(settings: Settings, tmp_path: Path) -> None:
    async with BinanceServer(["BTCUSDT"]) as server:
        async with collecting(settings, server.endpoint()) as collector:
            with pytest.raises(SettingsError, match="begins before it ends"):
                await collector.backfill("BTCUSDT", 2, 1)
            with pytest.raises(SettingsError, match="cannot be a symbol"):
                await collector.backfill("btc/usdt", 1, 2)
    replayed = load(tmp_path, {"source": f"replay:{tmp_path}"})
    with pytest.raises(SettingsError, match="replay"):
        await Collector("binance", Endpoint(NOWHERE, NOWHERE, ()), replayed, []).backfill("BTCUSDT", 1, 2)
