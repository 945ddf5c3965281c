"""What lies unread, or waits, while a shard takes nothing is neither left behind nor looked for at another time."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.backfill.jobs import TRIES
from actors.backfill.repair import MARGIN_NS
from actors.collector import Collector
from actors.placement import Placement
from tests.actors.exchanges import BinanceServer, Handle, Kept, Leaving, collecting, limit, live, synced
from tests.polling import until

SYMBOL = "BTCUSDT"


def missing(ids: Sequence[int]) -> list[int]:
    return sorted(set(range(min(ids), max(ids) + 1)).difference(ids))


async def test_who_takes_over_while_nothing_is_read_does_not_leave_what_lies_unread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("actors.exchange_connection.TAKE_OVER_S", 0.5)
    monkeypatch.setattr("actors.exchange_connection.CATCH_UP_S", 3.0)
    limit(monkeypatch, "binance", lifetime_s=2.0)
    server, kept = BinanceServer([SYMBOL, "ETHUSDT"], pace_s=0.002), Kept()
    settings = live(tmp_path, max_batches_in_flight=5, max_frames=100)
    async with server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *server.status))
        kept.open.clear()
        # The exchange ends connections of this age: another one is made, and is not read either.
        await until(lambda: server.subscribed.get(2) == set(server.status))
        both = server.traded[SYMBOL]
        await until(lambda: server.traded[SYMBOL] > both + 300)
        limit(monkeypatch, "binance", lifetime_s=None)
        assert 1 not in server.closed
        kept.open.set()
        await until(lambda: 1 in server.closed)
        last = server.traded[SYMBOL]
        await until(lambda: max(kept.ids_of(SYMBOL), default=0) > last)
    assert not missing(kept.ids_of(SYMBOL))


async def test_what_was_missed_while_nothing_was_read_is_looked_for_where_it_was(tmp_path: Path) -> None:
    server, kept = BinanceServer([SYMBOL, "ETHUSDT"], pace_s=0.005), Kept()
    settings = live(tmp_path, max_batches_in_flight=5, max_frames=100)
    async with server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *server.status))
        kept.open.clear()
        held = server.traded[SYMBOL]
        await until(lambda: server.traded[SYMBOL] > held + 100)
        # It has had enough of who does not read; what is on its way still comes.
        server.clients[1].transport.close()
        # For longer than a window of repair reaches beyond what is said.
        await asyncio.sleep(MARGIN_NS / 1e9 + 2)
        kept.open.set()
        last = server.traded[SYMBOL]
        await until(lambda: max(kept.ids_of(SYMBOL), default=0) > last)
    [row] = [row for row in kept.breaks if row["symbol"] == SYMBOL and row["from_ns"]]
    begin_ms = (row["from_ns"] - MARGIN_NS) // 1_000_000
    lost = missing(kept.ids_of(SYMBOL))
    assert lost
    assert [number for number in lost if server.times[SYMBOL, number] < begin_ms] == []


async def test_who_retires_while_a_shard_is_away_does_not_say_that_it_has_everything(tmp_path: Path) -> None:
    server, shard = BinanceServer([SYMBOL, "ETHUSDT"]), Leaving()
    async with server, collecting(live(tmp_path), server.endpoint(), shard) as old:
        await until(lambda: synced(old, *server.status))
        shard.away = True
        away = server.traded[SYMBOL]
        await until(lambda: server.traded[SYMBOL] > away + 100)
        # As in `actors.succession`: another one takes its place, and its process ends.
        new = Collector("binance", server.endpoint(), live(tmp_path), [Handle(shard)])
        try:
            await new.begin_beside(await old.received())
            await until(lambda: complete(new))
            heard = await old.retire()
            old._delivery._lanes.clear()
            await new.take_over(heard)
            shard.away = False
            await new.place({0: Handle(shard)}, Placement.first(1))
            last = server.traded[SYMBOL]
            await until(lambda: max(shard.ids_of(SYMBOL), default=0) > last)
        finally:
            await new.stop()
    assert missing(shard.ids_of(SYMBOL))
    assert {row["symbol"] for row in shard.breaks if row["reason"] == "the collector was replaced"} == set(
        server.status
    )


async def complete(collector: Collector) -> bool:
    return bool((await collector.status())["complete"])


async def test_a_backfill_goes_on_once_its_shard_is_back(tmp_path: Path) -> None:
    server, shard = BinanceServer([SYMBOL]), Leaving()
    async with server, collecting(live(tmp_path), server.endpoint(), shard) as collector:
        await until(lambda: synced(collector, SYMBOL))
        await until(lambda: server.traded[SYMBOL] > 100)
        shard.away = True
        now = time.time_ns()
        await collector.backfill(SYMBOL, now - 10**9, now)
        asked = shard.asked
        await until(lambda: shard.asked > asked + 2 * TRIES)
        shard.away = False
        await until(lambda: done(collector))


async def done(collector: Collector) -> bool:
    [job] = await collector.backfills()
    return bool(job["state"] == "done")
