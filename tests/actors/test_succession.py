"""Another process takes over from a collector: nothing is missed, nothing is said to be, and shards have what the first
one brought before they get what the second one kept.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from actors.backfill.records import NotesInFile, Records
from actors.collector import Collector
from actors.directory import Succeeded
from actors.placement import Placement
from actors.succession import successor_of
from config import Settings
from tests.actors.exchanges import BinanceServer, Handle, Kept, collecting, live, synced
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


def beside(settings: Settings, server: BinanceServer, kept: Kept, stack: AsyncExitStack) -> Collector:
    """One more collector, which does not run yet."""
    collector = Collector("binance", server.endpoint(), settings, [Handle(kept)])
    stack.push_async_callback(collector.stop)
    return collector


async def complete(collector: Collector) -> bool:
    done: bool = (await collector.status())["complete"]
    return done


async def test_a_successor_misses_nothing_and_sends_nothing_before_its_predecessor_has_ended(
    settings: Settings,
) -> None:
    first, second = Kept(), Kept()
    async with BinanceServer(SYMBOLS) as server, AsyncExitStack() as stack:
        async with collecting(settings, server.endpoint(), first) as old:
            await until(lambda: synced(old, *SYMBOLS))
            said = len(first.breaks)
            new = beside(settings, server, second, stack)
            await new.begin_beside(await old.received())
            await until(lambda: complete(new))
            common = server.traded["BTCUSDT"] + 2
            await until(lambda: common in first.ids_of("BTCUSDT"))
            assert not second.batches
            assert await old.book(), "its books are there to the end"
            heard = await old.retire()
            for asked in (old.book, old.receptions):
                with pytest.raises(Succeeded):
                    await asked()
        assert {*heard} == {*SYMBOLS}
        await new.take_over(heard)
        await new.place({0: Handle(second)}, Placement.first(1))
        last = server.traded["BTCUSDT"]
        await until(lambda: last + 3 in second.ids_of("BTCUSDT"))
        await new.stop()
    for symbol in SYMBOLS:
        ids = [*first.ids_of(symbol), *second.ids_of(symbol)]
        assert set(ids) == set(range(min(ids), max(ids) + 1)), "no trade is missing"
        assert common in second.ids_of(symbol), "both have received it"
    assert len(first.breaks) == said
    assert not second.breaks
    assert min(one.epoch for one in second.origins) > max(one.epoch for one in first.origins)


async def test_what_a_predecessor_that_died_has_missed_is_said(settings: Settings) -> None:
    first, second = Kept(), Kept()
    async with BinanceServer(SYMBOLS) as server, AsyncExitStack() as stack:
        async with collecting(settings, server.endpoint(), first) as old:
            await until(lambda: synced(old, *SYMBOLS))
            new = beside(settings, server, second, stack)
            await new.begin_beside(await old.received())
            await until(lambda: complete(new))
        # Nobody knows any more until when it heard something.
        await new.take_over({})
        await new.place({0: Handle(second)}, Placement.first(1))
        await until(lambda: len(second.breaks) == 2)
        assert {(row["from_ns"], row["reason"]) for row in second.breaks} == {(0, "the collector was replaced")}


async def test_past_trades_are_fetched_by_one_of_them_alone_and_none_twice(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, AsyncExitStack() as stack:
        new = beside(settings, server, Kept(), stack)
        await new.begin_beside({})
        await until(lambda: complete(new))
        # The predecessor's: begun while the successor ran already.
        Records(NotesInFile(settings.data / "backfill" / "binance.json")).add("BTCUSDT", 0, 1)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert await new.backfills() == []
        await new.take_over({})

        async def fetched() -> bool:
            return [job["state"] for job in await new.backfills()] == ["done"]

        await until(fetched)


def test_each_successor_has_another_name() -> None:
    second = successor_of("collector:okx")
    assert len({"collector:okx", second, successor_of(second)}) == 3
