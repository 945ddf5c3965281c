"""What a collector records plays again: the same trades, the same books."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.simulator.captures import Recording, read_captures, recordings
from actors.simulator.deribit import DeribitSession
from config import Settings, load
from storage.journal import JournalEvent, journal_files, read_journal
from tests.actors.exchanges import (
    NOWHERE,
    BinanceServer,
    Kept,
    collecting,
    limit,
    live,
    recorded,
    recording,
    replaying,
    settled,
    synced,
)
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")
Told = tuple[set[tuple[Any, ...]], dict[str, tuple[Any, ...]]]


def events(settings: Settings) -> list[JournalEvent]:
    return [event for path in journal_files(settings.journals) for event in read_journal(path, lambda _: None)]


async def told(collector: Collector, kept: Kept, since: int = 0) -> Told:
    """The trades a shard keeps, without the first ones, and all levels of all books."""
    columns = ["symbol", "ts_event", "ts_recv", "trade_id", "price", "size", "side"]
    trades = [tuple(row.values()) for batch in kept.trades for row in batch.select(columns).to_pylist()]
    rows = [row for batch in await collector.book(levels=None) for row in batch.to_pylist()]
    return set(trades[since:]), {r["symbol"]: (r["state"], r["sequence"], r["bids"], r["asks"]) for r in rows}


async def plays_again(settings: Settings, folder: Path, first: Told) -> Recording:
    """A second collector hears from the journal what the first one heard from the exchange."""
    (played,) = recordings(read_captures(settings.journals))
    kept = Kept()
    async with replaying(played) as (_, endpoint):
        async with collecting(recorded(folder), endpoint, kept, exchange=played.exchange) as collector:

            async def the_same() -> bool:
                return await told(collector, kept) == first

            with suppress(AssertionError):
                await until(the_same)
            assert await told(collector, kept) == first
            assert (await collector.status())["book_states"] == {"synced": len(endpoint.symbols)}
    return played


@pytest.mark.parametrize("exchange", ["bitfinex", "coinbase", "deribit", "kraken", "okx"])
async def test_a_journal_that_begins_in_the_middle_holds_the_whole_story(
    tmp_path: Path, recordings: Path, exchange: str
) -> None:
    settings, kept = recorded(tmp_path / "first"), Kept()
    async with replaying(recording(recordings, exchange)) as (server, endpoint):
        async with collecting(settings, endpoint, kept, exchange=exchange) as collector:
            await until(lambda: synced(collector, *endpoint.symbols))
            await settled(collector)
            assert (await collector.record(True))["on"]
            await until(lambda: server.progress()["connections"] == 2)
            await until(lambda: server.progress()["connections"] == 1)
            await settled(collector)
            first = await told(collector, kept)
            assert (await collector.status())["journal"]
            said = await collector.record(False)
            assert (said["on"], said["lost"], said["failure"]) == (False, 0, "")
    written = events(settings)
    assert said["frames"] == sum(event.kind == "recv" for event in written)
    assert {event.kind for event in written} >= {"open", "send", "recv", "close"}
    played = await plays_again(settings, tmp_path / "second", first)
    assert set(played.symbols) == set(endpoint.symbols)


async def test_a_journal_of_a_live_market_holds_the_snapshots_and_what_came_since(tmp_path: Path) -> None:
    settings, kept = live(tmp_path / "first"), Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS) if kept.ids else False)
        await collector.record(True)
        since = (await collector.status())["trades"]
        await until(lambda: 1 in server.closed)
        again = server.traded["BTCUSDT"]
        await until(lambda: server.traded["BTCUSDT"] > again + 20)
        server.moving = False
        await settled(collector)
        first = await told(collector, kept, since)
        await collector.record(False)
    kinds = [(event.kind, event.connection.partition("#")[0]) for event in events(settings)]
    assert ("recv", "ws-1") in kinds, "the connection there was is recorded until it is left"
    assert ("close", "ws-1") in kinds
    assert [kind for kind, name in kinds if name == "ws-2"][:2] == ["open", "send"]
    assert kinds.count(("rest", "ws-2")) == len(SYMBOLS)
    await plays_again(settings, tmp_path / "second", first)


async def test_with_the_setting_on_everything_is_recorded_from_the_first_frame_on_and_cannot_be_switched_off(
    tmp_path: Path,
) -> None:
    settings, kept = load(tmp_path / "first", {"source": "live", "journal": True}), Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        assert (await collector.record(False))["on"]
        await collector.record(True)
        server.cut()
        await until(lambda: 2 in server.opened)
        await until(lambda: synced(collector, *SYMBOLS))
        # A snapshot after which nothing comes is one nobody asks for when it plays again.
        again = server.traded["BTCUSDT"]
        await until(lambda: server.traded["BTCUSDT"] > again + 5)
        server.moving = False
        await settled(collector)
        first = await told(collector, kept)
        assert (await collector.status())["connects"] == 2, "nothing had to begin anew for it"
    closed = [event.data for event in events(settings) if event.kind == "close"]
    assert closed == [b"connection lost", b"the collector stops"], "each end is told once"
    assert len(journal_files(settings.journals)) == 1
    await plays_again(settings, tmp_path / "second", first)


async def test_the_end_of_a_connection_that_fell_silent_is_told_once_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit(monkeypatch, "binance", silence_s=0.3)
    settings = load(tmp_path, {"source": "live", "journal": True})
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.silent = True
        await until(lambda: 1 in server.closed)
        server.silent = False
        await until(lambda: 2 in server.opened)
    ends = [event.data for event in events(settings) if (event.kind, event.connection[:5]) == ("close", "ws-1#")]
    assert [end.startswith(b"nothing received") for end in ends[:1]] == [True]
    assert len(ends) == len([event for event in events(settings) if event.kind == "open"])


async def test_a_journal_that_begins_during_an_overlap_still_gets_the_whole_story(tmp_path: Path) -> None:
    settings, kept = live(tmp_path / "first"), Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.say('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}')
        await until(lambda: server.subscribed.get(2) == set(SYMBOLS))
        await collector.record(True)
        server.snapshots_open.set()
        await until(lambda: sorted(server.closed) == [1, 2])
        await until(lambda: synced(collector, *SYMBOLS))
        server.moving = False
        await settled(collector)
        await collector.record(False)
    third = [event.kind for event in events(settings) if event.connection.startswith("ws-3#")]
    assert third[:2] == ["open", "send"]


async def test_a_full_disk_never_stops_the_feed_and_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("actors.recorder.FLUSH_S", 0.02)
    write, kept = os.pwrite, Kept()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings = live(tmp_path)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        monkeypatch.setattr(os, "pwrite", full)
        await collector.record(True)

        async def lost() -> bool:
            said = await collector.journal()
            return bool(said["lost"] > 20 and said["failure"] == "No space left on device")

        await until(lost)
        before = kept.ids_of("BTCUSDT")[-1]
        await until(lambda: kept.ids_of("BTCUSDT")[-1] > before + 20)
        status = await collector.status()
        assert (status["running"], status["failure"], status["book_states"]) == (True, "", {"synced": 2})

        monkeypatch.setattr(os, "pwrite", write)

        async def has_room() -> bool:
            said = await collector.journal()
            return bool(said["failure"] == "" and said["bytes"] > 0)

        await until(has_room)
    ids = kept.ids_of("BTCUSDT")
    assert set(ids) == set(range(ids[0], max(ids) + 1))
    assert events(settings), "what came after it is there"


@asynccontextmanager
async def deribit(symbols: tuple[str, ...], known: bool) -> AsyncIterator[Endpoint]:
    """A Deribit that knows our credentials or does not; without them there are no raw channels.

    Error codes: https://docs.deribit.com/articles/errors
    """

    async def handle(connection: ServerConnection) -> None:
        session, trusted = DeribitSession("/ws/api/v2"), False
        async for message in connection:
            request = json.loads(message)
            said: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
            raw = [name for name in request["params"].get("channels", []) if name.endswith(".raw")]
            if request["method"] == "public/auth":
                trusted = known
                tokens = {"access_token": "1582.TOKEN", "expires_in": 900, "refresh_token": "1586.TOKEN"}
                error = {"message": "invalid_credentials", "code": 13004}
                await connection.send(json.dumps(said | ({"result": tokens} if known else {"error": error})))
            elif raw and not trusted:
                error = {"message": "raw_subscriptions_not_available_for_unauthorized", "code": 13778}
                await connection.send(json.dumps(said | {"error": error}))
            else:
                for answer in session.receive(message):
                    await connection.send(answer, text=True)

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/api/v2"
        yield Endpoint(address, NOWHERE, symbols)


#: As JSON writes it, it looks different.
SECRET = 'se"cret-\\schlüssel'


def with_credentials(folder: Path) -> Settings:
    own = {
        "websocket": "wss://www.deribit.com/ws/api/v2",
        "rest": "https://www.deribit.com",
        "symbols": ["BTC-PERPETUAL"],
        "credentials": {"key": "KEY", "secret": SECRET},
    }
    return load(folder, {"source": "live", "journal": True, "exchanges": {"deribit": own}})


async def test_neither_credentials_nor_what_they_brought_reach_the_journal(tmp_path: Path) -> None:
    settings = with_credentials(tmp_path)
    async with deribit(("BTC-PERPETUAL",), known=True) as endpoint:
        async with collecting(settings, endpoint, exchange="deribit") as collector:

            async def granted() -> bool:
                return bool((await collector.status())["subscribed"] == ["BTC-PERPETUAL"])

            await until(granted)
            assert (await collector.status())["errors"][1:] == [], "but that there is no list of instruments"
    sent = [json.loads(event.data) for event in events(settings) if event.kind == "send"]
    (login,) = (request["params"] for request in sent if request["method"] == "public/auth")
    assert (login["client_id"], login["client_secret"]) == ("KEY", "***")
    got = [json.loads(event.data) for event in events(settings) if event.kind == "recv"]
    (answer,) = (one["result"] for one in got if one["id"] == 2)
    assert answer == {"access_token": "***", "expires_in": 900, "refresh_token": "***"}
    everything = b"".join(event.data for event in events(settings)).decode()
    assert SECRET not in everything
    assert "TOKEN" not in everything.replace("_token", "")


async def test_bad_credentials_are_a_clear_error_and_what_needs_none_goes_on(tmp_path: Path) -> None:
    async with deribit(("BTC-PERPETUAL", "ETH-PERPETUAL"), known=False) as endpoint:
        async with collecting(with_credentials(tmp_path), endpoint, exchange="deribit") as collector:

            async def said() -> bool:
                return any("does not know this key or secret" in e for e in (await collector.status())["errors"])

            await until(said)

            async def refused() -> bool:
                return sorted((await collector.status())["refused"]) == sorted(endpoint.symbols)

            await until(refused)
            status = await collector.status()
            assert all("raw_subscriptions" in reason for reason in status["refused"].values())
            assert (status["running"], status["connects"]) == (True, 1)
            assert SECRET not in json.dumps(status)
            assert await asyncio.wait_for(collector.symbols(), 1)
