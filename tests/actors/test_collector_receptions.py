"""What a collector says of its connections: which symbols come, since when without a break, and when it heard last."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.aggregation.consolidated import Reception
from actors.collector import Collector
from config import Settings
from tests.actors.exchanges import BinanceServer, Kept, collecting, live, recorded, recording, replaying, synced
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


async def only(collector: Collector) -> Reception:
    """That of its one connection."""
    [one] = await collector.receptions()
    return one


async def test_symbols_of_a_connection_come_since_it_was_made_and_it_is_heard_until_now(settings: Settings) -> None:
    before = time.time_ns()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        one = await only(collector)
        assert (one.state, set(one.since)) == ("streaming", set(SYMBOLS))
        assert before < min(one.since.values()) <= one.heard_ns <= time.time_ns()
        server.moving = False

        async def quiet() -> bool:
            return time.time_ns() - (await only(collector)).heard_ns > 200_000_000

        await until(quiet)
    assert await collector.receptions() == []


async def test_a_lost_connection_says_so_and_what_comes_after_it_is_new(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        before = await only(collector)
        server.refusing = (503, {})
        lost_ns = time.time_ns()
        server.cut()

        async def lost() -> bool:
            return (await only(collector)).state in ("waiting", "connecting")

        await until(lost)
        server.refusing = None

        async def back() -> bool:
            return (await only(collector)).state == "streaming"

        await until(back)
        after = await only(collector)
    assert min(after.since.values()) > lost_ns > max(before.since.values())


async def test_a_connection_that_takes_over_breaks_nothing(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        before = await only(collector)
        # A journal holds the whole story of its connections, so others take over.
        await collector.record(True)
        await until(lambda: 1 in server.closed)
        await until(lambda: synced(collector, *SYMBOLS))
        after = await only(collector)
    assert len(server.opened) == 2
    # It is the grant that begins a symbol: what the first connection brought since holds.
    made_s = server.opened[2] - server.opened[1]
    assert all(after.since[symbol] - before.since[symbol] < made_s * 1e9 / 2 for symbol in SYMBOLS)


async def test_what_is_refused_does_not_come(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server:
        async with collecting(settings, server.endpoint(*SYMBOLS, "NOPEUSDT")) as collector:
            await until(lambda: synced(collector, *SYMBOLS))
            assert set((await only(collector)).since) == set(SYMBOLS)


async def test_while_a_shard_takes_nothing_nothing_is_heard(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        kept.open.clear()

        async def held_up() -> bool:
            return time.time_ns() - (await only(collector)).heard_ns > 300_000_000

        await until(held_up)
        kept.open.set()

        async def caught_up() -> bool:
            return time.time_ns() - (await only(collector)).heard_ns < 200_000_000

        await until(caught_up)


async def test_in_a_replay_times_are_the_recorded_ones(recordings: Path, tmp_path: Path) -> None:
    played = recording(recordings, "okx")
    async with replaying(played) as (_, endpoint):
        async with collecting(recorded(tmp_path), endpoint, exchange="okx") as collector:

            async def played_to_the_end() -> bool:
                said: Sequence[Reception] = await collector.receptions()
                return bool(said) and said[0].heard_ns > played.span[1] - 1_000_000_000

            await until(played_to_the_end)
            one = await only(collector)
    assert set(one.since.values()) == {0}
    assert played.span[0] <= one.heard_ns <= played.span[1]
