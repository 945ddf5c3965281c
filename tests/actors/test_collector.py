"""A collector against real WebSocket servers, with a shard at hand instead of in another process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.placement import shard_of
from actors.simulator.simulator import Simulator
from actors.symbol_shard import SymbolShard
from config import Settings, load
from storage.column_reader import ColumnReader
from tests.actors import exchanges
from tests.actors.exchanges import NOWHERE, Kept, Shard, numbers, trade
from tests.polling import until


@asynccontextmanager
async def exchange(handle: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    async with serve(handle, "127.0.0.1", 0, compression=None, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5}, "collector": {"flush_interval_ms": 5}})


@asynccontextmanager
async def collecting(settings: Settings, websocket: str, *shards: Shard) -> AsyncIterator[Collector]:
    """As `exchanges.collecting`, of what has no list of instruments."""
    endpoint = Endpoint(websocket, NOWHERE, ("BTCUSDT", "ETHUSDT"))
    async with exchanges.collecting(settings, endpoint, *shards) as collector:
        yield collector


async def test_what_an_exchange_sends_reaches_the_shard_in_order(settings: Settings) -> None:
    async def handle(connection: ServerConnection) -> None:
        for number in range(1000):
            await connection.send(trade(number))
        await connection.wait_closed()

    kept = Kept()
    async with exchange(handle) as url, collecting(settings, url, kept) as collector:
        await until(lambda: len(kept.ids) == 1000)
        status = await collector.status()
    assert kept.ids == list(range(1000))
    assert (status["state"], status["trades"], status["rejected"]) == ("streaming", 1000, {})


async def test_symbols_go_to_their_shards_and_nowhere_else(settings: Settings) -> None:
    async def handle(connection: ServerConnection) -> None:
        for number in range(50):
            await connection.send(trade(number, "BTCUSDT"))
            await connection.send(trade(number, "ETHUSDT"))
        await connection.wait_closed()

    kept = [Kept() for _ in range(5)]
    async with exchange(handle) as url, collecting(settings, url, *kept):
        await until(lambda: sum(len(one.ids) for one in kept) == 100)
    for index, one in enumerate(kept):
        for batch in one.trades:
            names = set(map(str, batch.column("symbol").to_pylist()))
            assert {shard_of("binance", name, 5) for name in names} == {index}


async def test_a_lost_connection_is_made_again(settings: Settings) -> None:
    connections = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await connection.send(trade(connections))
        if connections < 3:
            connection.transport.abort()
        await connection.wait_closed()

    kept = Kept()
    async with exchange(handle) as url, collecting(settings, url, kept) as collector:
        await until(lambda: kept.ids[-1:] == [3])
        status = await collector.status()
    assert status["connects"] == 3
    assert "connection lost" in status["last_error"]


async def test_an_exchange_that_cannot_be_reached_is_named_with_the_reason(settings: Settings) -> None:
    async with collecting(settings, "ws://127.0.0.1:1", Kept()) as collector:

        async def said() -> bool:
            return "cannot connect to ws://127.0.0.1:1" in (await collector.status())["last_error"]

        await until(said)
        assert (await collector.status())["running"]


async def test_bad_frames_are_kept_with_the_reason_and_cost_nobody_else(settings: Settings) -> None:
    async def handle(connection: ServerConnection) -> None:
        for frame in (trade(1), "{half", trade(2), trade(3, "DOGEUSDT"), trade(4)):
            await connection.send(frame)
        await connection.wait_closed()

    kept = Kept()
    async with exchange(handle) as url, collecting(settings, url, kept) as collector:
        await until(lambda: kept.ids == [1, 2, 4])
        quarantined = await collector.quarantine()
        assert sum((await collector.status())["rejected"].values()) == 2
    assert quarantined[0].frame == b"{half"
    assert "subscribed" in quarantined[1].reason


async def test_while_a_shard_does_not_acknowledge_the_socket_is_not_read_and_stays_open(tmp_path: Path) -> None:
    small = {"max_batches_in_flight": 3, "max_frames": 100, "flush_interval_ms": 5}
    settings = load(tmp_path, {"collector": small})
    sent = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal sent
        while True:
            await connection.send(trade(sent))
            sent += 1

    kept = Kept()
    kept.open.clear()
    running = exchange(handle, ping_interval=None)
    async with running as url, collecting(settings, url, kept) as collector:

        async def stalled() -> bool:
            before = sent
            await asyncio.sleep(0.2)
            return sent == before and before > 0

        await until(stalled)
        status = await collector.status()
        assert status["batches_in_flight"] == 3
        assert status["frames_waiting"] <= 300, "what one read of the socket brought, and no more"
        kept.open.set()
        await until(lambda: len(kept.ids) > 2000)
        assert (await collector.status())["connects"] == 1
    assert kept.ids == list(range(len(kept.ids))), "nothing is lost over the pause"


async def test_a_replay_brings_its_recorded_times(settings: Settings, recordings: Path) -> None:
    settings = load(settings.data, {"source": f"replay:{recordings}"})
    simulator = Simulator(settings)
    endpoint = (await simulator.start())["binance"]
    kept = Kept()
    async with exchanges.collecting(settings, endpoint, kept):
        await until(lambda: len(kept.ids) == 2)
    await simulator.stop()
    received = [ts for batch in kept.trades for ts in numbers(batch, "ts_recv")]
    assert all(1633998512_000000000 < ts < 1633998545_000000000 for ts in received)
    assert kept.clocks[-1] >= max(received)


async def test_stopping_hands_over_what_was_received(settings: Settings) -> None:
    async def handle(connection: ServerConnection) -> None:
        for number in range(500):
            await connection.send(trade(number))
        await connection.wait_closed()

    async def ignore(*_: Any) -> None:
        pass

    shard = SymbolShard(0, settings, lambda table: table, ignore, recorded=False)
    async with exchange(handle) as url, collecting(settings, url, shard) as collector:

        async def received() -> bool:
            status = await collector.status()
            return bool(status["frames"] + status["frames_waiting"] == 500)

        await until(received)
    await shard.stop()
    stored = ColumnReader(settings.columns).select("binance", "BTCUSDT", "TRADES", 0, 2**62, ["id"])
    assert stored.column("id").tolist() == list(range(500))
