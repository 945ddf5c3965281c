"""One connection with everything that belongs to it, through a collector and real sockets."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from actors.collector import KEPT_BYTES, Collector
from actors.endpoint import Endpoint
from actors.feeds.binance import Binance
from actors.ledger.origin import Origin
from actors.parcels import Stream
from actors.simulator import wire
from config import Settings, load
from storage.journal import journal_files, read_journal
from tests.actors.exchanges import (
    NOWHERE,
    BinanceServer,
    Handle,
    Kept,
    Whole,
    collecting,
    epochs,
    limit,
    live,
    numbers,
    recorded,
    recording,
    replaying,
    settled,
    synced,
)
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


async def test_no_second_sees_more_messages_than_the_exchange_allows(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", symbols_per_message=1, messages_per_second=20.0)
    symbols = [f"A{number}USDT" for number in range(50)]
    async with BinanceServer(symbols) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: len(server.heard) == 25)
        await collector.remove(symbols[:10])
        await until(lambda: len(server.heard) == 60)
    for begin in server.heard:
        # A message may be under way for some milliseconds more than the next.
        assert sum(begin <= when < begin + 0.9 for when in server.heard) <= 20


async def test_a_replay_is_asked_for_everything_at_once_so_that_it_plays_in_recorded_order(
    tmp_path: Path, recordings: Path
) -> None:
    kept = Kept()
    async with replaying(recording(recordings, "bitfinex")) as (_, endpoint):
        async with collecting(recorded(tmp_path), endpoint, kept, exchange="bitfinex") as collector:
            await until(lambda: synced(collector, *endpoint.symbols))
            await settled(collector)
    times = [when for batches in kept.batches for when in numbers(batches["quotes"], "ts_recv")]
    assert len(times) == 21
    assert times == sorted(times)


async def test_a_rest_the_exchange_asks_of_one_connection_is_kept_by_all(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", symbols_per_connection=1)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.refusing = (429, {"Retry-After": "2"})
        server.clients[1].transport.abort()
        await until(lambda: len(server.attempts) == 3)
        server.refusing = None
        server.clients[2].transport.abort()
        await until(lambda: synced(collector, *SYMBOLS))
        assert len(server.attempts) == 5
        assert min(server.attempts[3:]) - server.attempts[2] >= 2.0


async def test_answers_that_lie_unread_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit(monkeypatch, "binance", answer_s=0.2)
    settings, kept = live(tmp_path, max_batches_in_flight=1), Kept()
    async with BinanceServer(["BTCUSDT", "ETHUSDT"]) as server:
        async with collecting(settings, server.endpoint("BTCUSDT"), kept) as collector:
            await until(lambda: synced(collector, "BTCUSDT"))
            kept.open.clear()

            async def held() -> bool:
                return bool((await collector.status())["batches_in_flight"] == 1)

            await until(held)
            adding = asyncio.create_task(collector.add(["ETHUSDT"]))
            await until(lambda: len(server.asked) == 2)
            begun = server.traded["BTCUSDT"]
            await until(lambda: server.traded["BTCUSDT"] > begun + 40)
            kept.open.set()
            assert await adding == {"ETHUSDT": ""}
            assert server.methods("SUBSCRIBE") == [(1, ("BTCUSDT",)), (1, ("ETHUSDT",))]
            assert (await collector.status())["unanswered"] == []


async def test_what_was_refused_on_one_connection_is_asked_for_again_on_the_next(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.refused.add("SOLUSDT")
        server.list("SOLUSDT")
        await collector._list.read(["SOLUSDT"])
        assert await collector.add(["SOLUSDT"]) == {"SOLUSDT": "Too many requests. (code 3)"}
        assert (await collector.status())["book_states"] == {"synced": 2}
        server.refused.clear()
        server.cut()
        await until(lambda: synced(collector, *SYMBOLS, "SOLUSDT"))
        status = await collector.status()
        assert (status["refused"], status["book_states"]) == ({}, {"synced": 3})


@pytest.mark.parametrize(
    ("exchange", "notice"),
    [
        # https://docs.bitfinex.com/docs/ws-general#info-messages
        ("bitfinex", '{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}'),
        # https://www.okx.com/docs-v5/en/#overview-websocket-notification
        ("okx", '{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}'),
    ],
)
async def test_a_notice_to_connect_again_is_followed_with_an_overlap(
    tmp_path: Path, recordings: Path, exchange: str, notice: str
) -> None:
    async with replaying(recording(recordings, exchange)) as (server, endpoint):
        async with collecting(recorded(tmp_path), endpoint, exchange=exchange) as collector:
            await until(lambda: synced(collector, *endpoint.symbols))
            (old,) = server.faults.connections
            old.transport.write(wire.block([notice.encode()], [0]))
            await until(lambda: server.faults.connections.isdisjoint({old}))
            assert await synced(collector, *endpoint.symbols)
            assert len(server.faults.connections) == 1
            assert (await collector.status())["last_error"] == ""


async def test_maintenance_is_waited_out_and_followed_by_new_books(tmp_path: Path, recordings: Path) -> None:
    # https://docs.bitfinex.com/docs/ws-general#info-messages
    begins, ends = (f'{{"event":"info","code":{code}}}' for code in (20060, 20061))
    async with replaying(recording(recordings, "bitfinex")) as (server, endpoint):
        async with collecting(recorded(tmp_path), endpoint, exchange="bitfinex") as collector:
            await until(lambda: synced(collector, *endpoint.symbols))
            (old,) = server.faults.connections
            old.transport.write(wire.block([begins.encode()], [0]))

            async def state(wanted: str) -> bool:
                return bool((await collector.status())["state"] == wanted)

            await until(lambda: state("maintenance"))
            assert server.faults.connections == {old}
            old.transport.write(wire.block([ends.encode()], [0]))
            await until(lambda: synced(collector, *endpoint.symbols) if old.close_code else False)
            assert set((await epochs(collector)).values()) == {2}
            assert "maintenance" in (await collector.status())["last_error"]


async def test_a_book_that_never_synced_is_not_served(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server:
        server.snapshots_open.clear()
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: len(server.snapshots) == 2)
            (books,) = await collector.book()
            assert books.column("state").to_pylist() == ["syncing", "syncing"]
            assert books.column("bids").to_pylist() == [[], []]
            server.snapshots_open.set()
            await until(lambda: synced(collector, *SYMBOLS))


async def test_without_the_book_channel_no_book_is_asked_for(tmp_path: Path) -> None:
    async with BinanceServer(SYMBOLS) as server:
        own = {
            "websocket": "wss://stream.binance.com:9443",
            "rest": "https://api.binance.com",
            "symbols": list(SYMBOLS),
            "channels": ["trades"],
        }
        settings, kept = load(tmp_path, {"source": "live", "exchanges": {"binance": own}}), Kept()
        async with collecting(settings, server.endpoint(), kept) as collector:
            await until(lambda: len(kept.ids) > 20)
            status = await collector.status()
            assert (status["book_states"], status["subscribed"]) == ({}, list(SYMBOLS))
            assert await collector.book() != []
            server.say('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}')
            await until(lambda: 1 in server.closed)
        assert server.snapshots == []


async def test_of_a_huge_frame_that_cannot_be_used_no_more_than_a_part_is_kept(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.say("x" * 1_000_000)

        async def kept() -> bool:
            return bool(await collector.quarantine())

        await until(kept)
        assert (await collector.quarantine())[0].frame == b"x" * KEPT_BYTES
        assert list(server.opened) == [1]


async def test_a_fault_of_our_own_is_told_and_leaves_no_connection_open(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", symbols_per_connection=1)
    decode: Callable[..., object] = Binance.decode

    def fails(feed: Binance, frames: list[bytes], ts_recv: object) -> object:
        if any(b"poison" in frame for frame in frames):
            raise ZeroDivisionError("poison")
        return decode(feed, frames, ts_recv)

    monkeypatch.setattr(Binance, "decode", fails)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.say("poison", to=1)

        async def failed() -> bool:
            return not (await collector.status())["running"]

        await until(failed)
        assert "ZeroDivisionError('poison')" in (await collector.status())["failure"]
        await until(lambda: sorted(server.closed) == [1, 2])
        await collector.start()
        await until(lambda: synced(collector, *SYMBOLS))
        assert (await collector.status())["failure"] == ""


class Refusing(Whole):
    async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
        raise OSError("No space left on device")


async def test_a_shard_that_refuses_a_batch_stops_the_collector_with_the_reason_and_the_journal_is_whole(
    tmp_path: Path,
) -> None:
    settings = load(tmp_path, {"source": "live", "journal": True})
    async with BinanceServer(SYMBOLS) as server:
        collector = Collector("binance", server.endpoint(), settings, [Handle(Refusing())])
        await collector.start()

        async def failed() -> bool:
            return not (await collector.status())["running"]

        await until(failed)
        assert "No space left on device" in (await collector.status())["failure"]
        await collector.stop()
        await until(lambda: 1 in server.closed)
    damages: list[object] = []
    (path,) = journal_files(settings.journals)
    assert list(read_journal(path, damages.append))
    assert damages == []


async def test_an_exchange_that_accepts_and_hangs_up_is_not_hammered(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", connects_per_minute=20.0)
    met: list[float] = []

    async def handle(connection: ServerConnection) -> None:
        met.append(time.monotonic())
        await connection.send('{"result":null,"id":0}')
        await connection.close()

    async with serve(handle, "127.0.0.1", 0) as server:
        endpoint = Endpoint(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", NOWHERE, SYMBOLS)
        async with collecting(settings, endpoint):
            await until(lambda: len(met) == 4)
            began = met[0]
            await asyncio.sleep(max(began + 3.0 - time.monotonic(), 0))
            assert len(met) <= 5, "a fifth of a minute's connections at once, and the rest evenly"
