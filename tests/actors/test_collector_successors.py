"""One connection takes over from another: nothing is missing, and what both bring is told apart by its id."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from actors import connection
from actors.collector import Collector
from config import Settings
from tests.actors.exchanges import BinanceServer, Kept, collecting, limit, live, synced
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SHUTDOWN = '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


async def always_synced(collector: Collector, server: BinanceServer, connections: int) -> None:
    """Look at the books until so many connections were ended; they are good all the while."""
    while len(server.closed) < connections:
        assert (await collector.status())["book_states"] == {"synced": len(SYMBOLS)}
        await asyncio.sleep(0.005)


async def test_before_the_exchange_ends_a_connection_another_has_everything(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", lifetime_s=0.5)
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server:
        async with collecting(settings, server.endpoint(), kept) as collector:
            await until(lambda: synced(collector, *SYMBOLS))
            await asyncio.wait_for(always_synced(collector, server, connections=3), 10)
            status = await collector.status()
        traded = dict(server.traded)
    for symbol in SYMBOLS:
        ids = set(kept.ids_of(symbol))
        assert ids == set(range(min(ids), max(ids) + 1)), "no trade is missing"
        assert max(ids) > traded[symbol] - 50, "and it goes on to the end"
    assert status["book_gaps"] == 0
    for old, new in pairwise(sorted(server.closed)):
        if new in server.opened:
            assert ("SUBSCRIBE", SYMBOLS) in [(said, names) for number, said, names in server.asked if number == new]
            assert server.opened[new] < server.closed[old]
            snapshots = [name for when, name in server.answered if server.opened[new] < when < server.closed[old]]
            assert set(snapshots) == set(SYMBOLS), "it had its books before the old one was left"


async def test_an_exchange_that_asks_to_connect_again_is_followed(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say(SHUTDOWN)
        watching = asyncio.create_task(always_synced(collector, server, connections=1))
        await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        common = server.traded["BTCUSDT"] + 1
        # Both bring the trades of the time they have in common; a shard keeps each once.
        await until(lambda: kept.ids_of("BTCUSDT").count(common) == 2)
        server.snapshots_open.set()
        await asyncio.wait_for(watching, 10)
        assert list(server.opened) == [1, 2]
        before = kept.ids_of("BTCUSDT")[-1]
        await until(lambda: kept.ids_of("BTCUSDT")[-1] > before + 3)
        assert (await collector.status())["connections"] == 1
    ids = kept.ids_of("BTCUSDT")
    assert set(ids) == set(range(ids[0], max(ids) + 1))


async def test_symbols_added_and_removed_meanwhile_are_so_on_both_connections(settings: Settings) -> None:
    settings = live(settings.data, list_retry_s=0.01)
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        server.list("SOLUSDT")
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say(SHUTDOWN)
        await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        assert await collector.remove(["ETHUSDT"]) == ["ETHUSDT"]
        assert await collector.add(["SOLUSDT"]) == {"SOLUSDT": ""}
        await until(lambda: [*server.subscribed.values()] == [{"BTCUSDT", "SOLUSDT"}] * 2)
        server.snapshots_open.set()
        await until(lambda: 1 in server.closed)
        await until(lambda: synced(collector, "BTCUSDT", "SOLUSDT"))
        assert list(server.opened) == [1, 2]
        assert (await collector.status())["subscribed"] == ["BTCUSDT", "SOLUSDT"]
    ids = kept.ids_of("SOLUSDT")
    assert set(ids) == set(range(ids[0], max(ids) + 1))


async def test_where_the_old_connection_is_lost_first_the_new_one_stands_in_at_once(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say(SHUTDOWN)
        await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        server.clients[1].transport.abort()
        await until(lambda: 1 in server.closed)

        async def stands_in() -> bool:
            status = await collector.status()
            return (status["connections"], status["state"], status["book_states"]) == (1, "streaming", {"syncing": 2})

        await until(stands_in)
        server.snapshots_open.set()
        await until(lambda: synced(collector, *SYMBOLS))
        assert list(server.opened) == [1, 2], "the lost one is not made again"


async def test_a_successor_that_never_gets_everything_takes_over_after_a_while(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr("actors.exchange_connection.TAKE_OVER_S", 0.3)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say(SHUTDOWN)
        await until(lambda: 1 in server.closed)
        assert server.closed[1] - server.opened[2] > 0.3
        server.snapshots_open.set()
        await until(lambda: synced(collector, *SYMBOLS))


async def test_a_lost_successor_is_made_again_while_the_old_one_goes_on(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say(SHUTDOWN)
        await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        server.clients[2].transport.abort()
        await until(lambda: server.subscribed.get(3) == set(SYMBOLS))
        assert await synced(collector, *SYMBOLS)
        server.snapshots_open.set()
        await until(lambda: 1 in server.closed)
        assert await synced(collector, *SYMBOLS)
    ids = kept.ids_of("BTCUSDT")
    assert set(ids) == set(range(ids[0], max(ids) + 1))


async def test_heartbeats_without_data_are_doubted_and_another_connection_takes_over(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(connection, "DATA_SILENCE_S", 0.4)
    limit(monkeypatch, "binance", silence_s=0.4)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.moving = False

        async def followed() -> bool:
            server.say('{"result":null,"id":4711}')
            return 1 in server.closed

        await until(followed)
        assert server.opened[2] < server.closed[1], "the old one lived on until then"
        assert (await collector.status())["last_error"] == ""
        server.moving = True
        await until(lambda: synced(collector, *SYMBOLS))


async def test_what_the_collector_is_told_to_stop_during_an_overlap_leaves_both_connections(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server:
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: synced(collector, *SYMBOLS))
            server.snapshots_open.clear()
            server.say(SHUTDOWN)
            await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        await until(lambda: sorted(server.closed) == [1, 2])
        server.snapshots_open.set()
