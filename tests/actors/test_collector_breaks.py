"""When trades may have been missed, a collector says so: from what it heard last until it is granted again."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actors import frame_receiver
from actors.feeds.binance import Binance
from actors.feeds.feed import Proof
from actors.integrity import combined
from config import Settings, load
from tests.actors.exchanges import (
    BinanceServer,
    Kept,
    collecting,
    live,
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


async def test_a_new_collector_may_have_missed_everything_since_the_last_trade_that_is_stored(
    settings: Settings,
) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept):
        await until(lambda: len(kept.breaks) == 2)
        assert {row["symbol"] for row in kept.breaks} == set(SYMBOLS)
        assert {(row["from_ns"], row["reason"]) for row in kept.breaks} == {(0, "the collector was started")}
        assert all(0 <= time.time_ns() - row["to_ns"] < 10_000_000_000 for row in kept.breaks)


async def test_what_was_missed_is_said_before_the_first_trade_also_where_nothing_is_granted_yet(
    settings: Settings,
) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server:
        server.granting = False
        async with collecting(settings, server.endpoint(), kept) as collector:
            await until(lambda: all(kept.ids_of(symbol) for symbol in SYMBOLS))
            assert {row["state"] for row in await collector.symbols()} != {"subscribed"}
            missed: set[str] = set()
            for batches in kept.batches:
                missed.update(row["symbol"] for row in (batches["breaks"].to_pylist() if "breaks" in batches else ()))
                traded = batches["trades"].column("symbol").to_pylist() if "trades" in batches else []
                assert missed >= set(traded)
            assert [row["from_ns"] for row in kept.breaks] == [0, 0]


async def test_a_lost_connection_breaks_what_it_brought_until_it_is_granted_again(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.refusing = (503, {})
        cut = time.time_ns()
        server.cut()
        await until(lambda: len(server.attempts) >= 3)
        assert len(kept.breaks) == 2
        server.refusing = None
        let_in = time.time_ns()
        await until(lambda: len(kept.breaks) == 4)
        for row in kept.breaks[2:]:
            assert cut - 1_000_000_000 < row["from_ns"] <= cut + 100_000_000
            assert row["to_ns"] > let_in
            assert row["reason"].startswith("connection lost")


async def test_a_connection_that_takes_over_breaks_nothing(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.say('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}')
        await until(lambda: 1 in server.closed)
        await until(lambda: synced(collector, *SYMBOLS))
        before = server.traded["BTCUSDT"]
        await until(lambda: kept.ids_of("BTCUSDT")[-1] > before)
        assert [row["from_ns"] for row in kept.breaks] == [0, 0]


async def test_a_connection_that_dies_while_another_takes_over_breaks_only_what_that_one_has_not_yet(
    settings: Settings,
) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}')
        await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        before = dict(server.traded)
        await until(lambda: server.traded["BTCUSDT"] > before["BTCUSDT"] + 10)
        server.clients[1].transport.abort()
        server.snapshots_open.set()
        await until(lambda: synced(collector, *SYMBOLS))
        assert [row["from_ns"] for row in kept.breaks] == [0, 0]


async def test_symbols_that_come_and_go_break_nothing(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server:
        async with collecting(settings, server.endpoint("BTCUSDT"), kept) as collector:
            await until(lambda: synced(collector, "BTCUSDT"))
            assert await collector.add(["ETHUSDT"]) == {"ETHUSDT": ""}
            await collector.remove(["ETHUSDT"])
            server.cut()
            await until(lambda: len(kept.breaks) == 2)
            assert await collector.add(["ETHUSDT"]) == {"ETHUSDT": ""}
            await until(lambda: bool(kept.ids_of("ETHUSDT")))
        assert [row["symbol"] for row in kept.breaks] == ["BTCUSDT"] * 2


async def test_what_the_exchange_refuses_breaks_nothing_until_it_is_granted(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.refused.update(SYMBOLS)
        server.cut()
        await until(lambda: len(server.methods("SUBSCRIBE")) >= 2)
        await settled(collector)
        assert len(kept.breaks) == 2


async def test_without_the_trade_channel_there_is_nothing_to_miss(tmp_path: Path) -> None:
    own = {
        "websocket": "wss://stream.binance.com:9443",
        "rest": "https://api.binance.com",
        "symbols": list(SYMBOLS),
        "channels": ["book", "quotes"],
    }
    settings, kept = load(tmp_path, {"source": "live", "exchanges": {"binance": own}}), Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.cut()
        await until(lambda: synced(collector, *SYMBOLS) if 2 in server.opened else False)
        assert (await collector.status())["breaks"] == 0
        assert kept.breaks == []


async def test_a_frame_that_cannot_be_read_may_have_been_a_trade_where_no_id_tells(
    tmp_path: Path, recordings: Path
) -> None:
    kept = Kept()
    async with replaying(recording(recordings, "bitfinex")) as (server, endpoint):
        async with collecting(recorded(tmp_path), endpoint, kept, exchange="bitfinex") as collector:
            await until(lambda: synced(collector, *endpoint.symbols))
            await settled(collector)
            assert kept.breaks == [], "a recording without holes has none"
            (client,) = server.faults.connections
            await client.send(json.dumps([1, "te", "not a trade", 10_000_000]))
            await until(lambda: len(kept.breaks) > 0)
        assert {row["symbol"] for row in kept.breaks} <= set(endpoint.symbols)
        assert all(0 < row["from_ns"] <= row["to_ns"] for row in kept.breaks)


@pytest.mark.parametrize("exchange", ["binance", "bitfinex", "coinbase", "deribit", "kraken", "okx"])
async def test_a_recording_without_holes_has_no_breaks(tmp_path: Path, recordings: Path, exchange: str) -> None:
    kept = Kept()
    async with replaying(recording(recordings, exchange)) as (_, endpoint):
        async with collecting(recorded(tmp_path), endpoint, kept, exchange=exchange) as collector:
            await until(lambda: bool(kept.batches))
            await settled(collector)
            assert (await collector.status())["backfilled"] == 0
    assert kept.breaks == []


async def test_every_batch_says_where_it_comes_from(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    proof: Proof = "numbered"
    monkeypatch.setattr(Binance, "proof", proof)
    first, second = Kept(), Kept()
    async with BinanceServer(SYMBOLS) as server:
        for kept in (first, second):
            async with collecting(settings, server.endpoint(), kept):
                await until(lambda kept=kept: len(kept.origins) > 5)
    for kept in (first, second):
        assert [origin.sequence for origin in kept.origins] == list(range(len(kept.origins)))
        assert {origin.proof for origin in kept.origins} == {proof}
        assert len({origin.epoch for origin in kept.origins}) == 1
    assert second.origins[0].epoch > first.origins[0].epoch


async def test_what_is_lost_and_found_again_shows_in_the_state_of_a_symbol(settings: Settings) -> None:
    async with BinanceServer(["BTCUSDT"]) as server, collecting(settings, server.endpoint()) as collector:

        async def state_is(state: str) -> bool:
            (row,) = await collector.symbols()
            return bool(combined("binance", "BTCUSDT", row, None)["state"] == state)

        begun = time.time_ns()
        await until(lambda: state_is("synced"))
        server.refusing = (503, {})
        server.cut()
        await until(lambda: state_is("stale"))
        (row,) = await collector.symbols()
        lost = combined("binance", "BTCUSDT", row, None)
        assert lost["why"].startswith("connection lost")
        assert begun < lost["since"] < time.time_ns()
        server.refusing = None
        await until(lambda: state_is("synced"))
        (row,) = await collector.symbols()
        assert combined("binance", "BTCUSDT", row, None)["since"] > lost["since"]


async def test_frames_that_a_fault_of_our_own_has_lost_are_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    decode: Callable[..., object] = Binance.decode

    def fails(feed: Binance, frames: list[bytes], ts_recv: object) -> object:
        if any(b"poison" in frame for frame in frames):
            raise ZeroDivisionError("poison")
        return decode(feed, frames, ts_recv)

    monkeypatch.setattr(Binance, "decode", fails)
    kept = Kept()
    async with BinanceServer(["BTCUSDT"]) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: len(kept.breaks) == 1)
        server.say("poison")

        async def failed() -> bool:
            return not (await collector.status())["running"]

        await until(failed)
        await collector.start()
        await until(lambda: len(kept.breaks) == 2)
        assert kept.breaks[1]["from_ns"] == 0


async def test_what_is_missed_after_the_clock_was_set_back_is_looked_for_where_it_was(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    monkeypatch.setattr(frame_receiver, "time_ns", lambda: time.time_ns() + 3600 * 10**9)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        monkeypatch.setattr(frame_receiver, "time_ns", time.time_ns)
        seen = max(server.traded.values())
        await until(lambda: max(kept.ids, default=0) > seen)
        lost_ns = time.time_ns()
        server.cut()
        await until(lambda: sum(row["from_ns"] > 0 for row in kept.breaks) == 2)
    assert all(abs(row["from_ns"] - lost_ns) < 5e9 for row in kept.breaks if row["from_ns"])
