"""Symbols that come and go while a collector runs, and those the exchange does not have."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from actors.roster import NO_ANSWER_YET
from config import Settings
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
    synced,
)
from tests.polling import until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with BinanceServer(["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT"]) as server:
        yield server


async def test_symbols_are_added_within_seconds_on_the_connection_there_is(
    settings: Settings, server: BinanceServer
) -> None:
    kept = Kept()
    async with collecting(settings, server.endpoint("BTCUSDT"), kept) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        began = time.monotonic()
        assert await collector.add(["ETHUSDT", "SOLUSDT"]) == {"ETHUSDT": "", "SOLUSDT": ""}
        await until(lambda: synced(collector, "BTCUSDT", "ETHUSDT", "SOLUSDT"))
        assert time.monotonic() - began < 5
        await until(lambda: bool(kept.ids_of("SOLUSDT")))
        assert [row["epoch"] for row in await collector.symbols()] == [1, 1, 1], "nothing else was built anew"
    assert list(server.opened) == [1]
    assert server.methods("SUBSCRIBE") == [(1, ("BTCUSDT",)), (1, ("ETHUSDT", "SOLUSDT"))]
    ids = kept.ids_of("BTCUSDT")
    assert ids == list(range(ids[0], ids[-1] + 1)), "and nothing of it was disturbed"


async def test_adding_what_is_collected_already_changes_nothing(settings: Settings, server: BinanceServer) -> None:
    async with collecting(settings, server.endpoint("BTCUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        assert await collector.add(["BTCUSDT", "BTCUSDT"]) == {"BTCUSDT": ""}
        assert await collector.remove(["ETHUSDT"]) == [], "nor does removing what is not"
    assert server.methods("SUBSCRIBE") == [(1, ("BTCUSDT",))]
    assert server.methods("UNSUBSCRIBE") == []


async def test_removed_symbols_are_ended_and_what_still_comes_of_them_is_left_out_without_a_word(
    settings: Settings, server: BinanceServer
) -> None:
    kept = Kept()
    async with collecting(settings, server.endpoint("BTCUSDT", "ETHUSDT"), kept) as collector:
        await until(lambda: synced(collector, "BTCUSDT", "ETHUSDT"))
        server.late.add("ETHUSDT")
        assert await collector.remove(["ETHUSDT"]) == ["ETHUSDT"]

        async def handed_over() -> bool:
            return not (await collector.status())["batches_in_flight"]

        await until(handed_over)
        had = len(kept.ids_of("ETHUSDT"))
        await until(lambda: server.methods("UNSUBSCRIBE") == [(1, ("ETHUSDT",))])
        late = server.traded["ETHUSDT"]
        await until(lambda: server.traded["ETHUSDT"] > late + 5 and kept.ids_of("BTCUSDT")[-1] > late + 5)
        status = await collector.status()
        assert (status["rejected"], status["errors"], status["subscribed"]) == ({}, [], ["BTCUSDT"])
        assert status["book_states"] == {"synced": 1}
        assert len(kept.ids_of("ETHUSDT")) == had
        assert [row["symbol"] for row in await collector.symbols()] == ["BTCUSDT"]
        assert await collector.book(["ETHUSDT"]) == []

        server.late.clear()
        assert await collector.add(["ETHUSDT"]) == {"ETHUSDT": ""}, "it may come back"
        await until(lambda: synced(collector, "ETHUSDT"))
    assert list(server.opened) == [1]


async def test_what_fits_on_no_connection_gets_another_and_one_without_symbols_is_closed(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, server: BinanceServer
) -> None:
    limit(monkeypatch, "binance", symbols_per_connection=2)
    async with collecting(settings, server.endpoint("BTCUSDT", "ETHUSDT", "SOLUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT", "ETHUSDT", "SOLUSDT"))
        assert server.subscribed == {1: {"BTCUSDT", "ETHUSDT"}, 2: {"SOLUSDT"}}
        assert await collector.add(["XRPUSDT", "ADAUSDT"]) == {"XRPUSDT": "", "ADAUSDT": ""}
        assert server.subscribed == {1: {"BTCUSDT", "ETHUSDT"}, 2: {"SOLUSDT", "XRPUSDT"}, 3: {"ADAUSDT"}}
        assert (await collector.status())["connections"] == 3

        await collector.remove(["BTCUSDT", "ETHUSDT"])
        await until(lambda: list(server.closed) == [1])
        await until(lambda: synced(collector, "SOLUSDT", "XRPUSDT", "ADAUSDT"))
        status = await collector.status()
        assert (status["connections"], status["last_error"], status["book_states"]) == (2, "", {"synced": 3})
        assert await collector.add(["BTCUSDT"]) == {"BTCUSDT": ""}
        assert server.subscribed[3] == {"ADAUSDT", "BTCUSDT"}, "room there is, is used"


async def test_a_collector_may_lose_its_last_symbol_and_go_on(settings: Settings, server: BinanceServer) -> None:
    async with collecting(settings, server.endpoint("BTCUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        await collector.remove(["BTCUSDT"])
        await until(lambda: list(server.closed) == [1])
        assert await collector.add(["ETHUSDT"]) == {"ETHUSDT": ""}
        await until(lambda: synced(collector, "ETHUSDT"))
        assert (await collector.status())["running"]


async def test_an_unknown_symbol_is_refused_with_what_it_may_have_meant_and_the_others_go_on(
    settings: Settings, server: BinanceServer
) -> None:
    async with collecting(settings, server.endpoint("BTCUSDT", "ETHUSD")) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        status = await collector.status()
        assert status["refused"]["ETHUSD"].startswith("binance has no symbol ETHUSD; did you mean ETHUSDT")
        said = await collector.add(["SOLUSD", "XRPUSDT", "btc usdt"])
        assert said["SOLUSD"].startswith("binance has no symbol SOLUSD; did you mean SOLUSDT")
        assert said["XRPUSDT"] == ""
        assert "'btc usdt' cannot be a symbol of binance" in said["btc usdt"]
    asked = {symbol for _, symbols in server.methods("SUBSCRIBE") for symbol in symbols}
    assert asked == {"BTCUSDT", "XRPUSDT"}, "the exchange is not bothered with them"


async def test_a_symbol_that_was_listed_a_moment_ago_is_found(settings: Settings, server: BinanceServer) -> None:
    settings = live(settings.data, list_retry_s=0.01)
    async with collecting(settings, server.endpoint("BTCUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        server.list("NEWUSDT")
        assert await collector.add(["NEWUSDT"]) == {"NEWUSDT": ""}


async def test_delisted_symbols_end_quietly_and_are_reported(settings: Settings, server: BinanceServer) -> None:
    settings = live(settings.data, list_interval_s=0.1, list_retry_s=0.1)
    async with collecting(settings, server.endpoint("BTCUSDT", "ETHUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT", "ETHUSDT"))
        server.list("ETHUSDT", "BREAK")
        await until(lambda: server.methods("UNSUBSCRIBE") == [(1, ("ETHUSDT",))])
        status = await collector.status()
        assert status["refused"] == {"ETHUSDT": "binance does not trade ETHUSDT any more"}
        assert (status["errors"], status["rejected"], status["book_gaps"]) == ([], {}, 0)
        assert status["book_states"] == {"synced": 1}
        states = {row["symbol"]: (row["state"], row["book"]) for row in await collector.symbols()}
        assert states == {"BTCUSDT": ("subscribed", "synced"), "ETHUSDT": ("refused", None)}

        server.list("ETHUSDT", "TRADING")
        await until(lambda: synced(collector, "BTCUSDT", "ETHUSDT"))
        assert (await collector.status())["refused"] == {}, "what is traded again is collected again"
    assert list(server.opened) == [1]


async def test_symbols_added_while_the_list_is_awaited_are_subscribed_once(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, server: BinanceServer
) -> None:
    endpoint = server.endpoint("BTCUSDT")
    asked = asyncio.Event()

    async def mute(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    monkeypatch.setattr("actors.collector.LIST_TIMEOUT_S", 0.5)
    silent = await asyncio.start_server(mute, "127.0.0.1", 0)
    nobody = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with collecting(settings, replace(endpoint, rest=nobody)) as collector:
        await asyncio.wait_for(asked.wait(), 5)
        adding = asyncio.create_task(collector.add(["ETHUSDT"]))
        assert await adding == {"ETHUSDT": ""}
        await until(lambda: bool(server.subscribed))
        assert server.methods("SUBSCRIBE") == [(1, ("BTCUSDT", "ETHUSDT"))]
    silent.close()


async def test_symbols_added_while_nothing_runs_are_collected_from_the_start_on(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, server: BinanceServer
) -> None:
    settings = live(settings.data, list_retry_s=0.01)
    monkeypatch.setattr("actors.collector.CHANGE_TIMEOUT_S", 0.1)
    async with collecting(settings, server.endpoint("BTCUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        await collector.stop()
        assert await collector.remove(["BTCUSDT"]) == ["BTCUSDT"]
        server.list("NEWUSDT")
        said = await collector.add(["ETHUSDT", "NEWUSDT"])
        assert said["ETHUSDT"] == NO_ANSWER_YET
        await collector.start()
        await until(lambda: synced(collector, "ETHUSDT", "NEWUSDT"))
    assert server.subscribed[2] == {"ETHUSDT", "NEWUSDT"}


async def test_an_added_symbol_without_an_answer_says_so(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, server: BinanceServer
) -> None:
    monkeypatch.setattr("actors.collector.CHANGE_TIMEOUT_S", 0.2)
    async with collecting(settings, server.endpoint("BTCUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT"))
        server.silent = True
        assert await collector.add(["ETHUSDT"]) == {"ETHUSDT": NO_ANSWER_YET}


async def test_symbols_added_while_the_connection_is_lost_come_with_the_next(
    settings: Settings, server: BinanceServer
) -> None:
    async with collecting(settings, server.endpoint("BTCUSDT", "SOLUSDT")) as collector:
        await until(lambda: synced(collector, "BTCUSDT", "SOLUSDT"))
        server.refusing = (503, {})
        server.cut()
        await until(lambda: 1 in server.closed)
        adding = asyncio.create_task(collector.add(["ETHUSDT"]))
        await collector.remove(["SOLUSDT"])
        server.refusing = None
        assert await adding == {"ETHUSDT": ""}
        await until(lambda: synced(collector, "BTCUSDT", "ETHUSDT"))
    assert server.methods("SUBSCRIBE")[1:] == [(2, ("BTCUSDT", "ETHUSDT"))]


#: What no exchange has but could have by its form.
BOGUS = {
    "bitfinex": "tNOPUSD",
    "coinbase": "NOSUCH-USD",
    "deribit": "NOSUCH-PERPETUAL",
    "kraken": "NOSUCH/USD",
    "okx": "NOSUCH-USDT",
}


async def test_a_symbol_that_is_halted_at_the_start_is_collected_soon_after_it_trades(
    settings: Settings, server: BinanceServer
) -> None:
    settings = live(settings.data, list_interval_s=3600, list_retry_s=0.1)
    server.list("BTCUSDT", "HALT")
    async with collecting(settings, server.endpoint("BTCUSDT", "ETHUSDT")) as collector:
        await until(lambda: synced(collector, "ETHUSDT"))
        assert "BTCUSDT" in (await collector.status())["refused"]
        server.list("BTCUSDT")
        await until(lambda: synced(collector, "BTCUSDT"))


@pytest.mark.parametrize("exchange", list(BOGUS))
async def test_without_a_list_the_exchange_names_what_it_refuses_and_the_others_go_on(
    tmp_path: Path, recordings: Path, exchange: str
) -> None:
    bogus = BOGUS[exchange]
    async with replaying(recording(recordings, exchange)) as (_, endpoint):
        symbols = endpoint.symbols[:2]
        endpoint = replace(endpoint, rest=NOWHERE, symbols=(symbols[0], bogus, symbols[1]))
        async with collecting(recorded(tmp_path), endpoint, exchange=exchange) as collector:
            await until(lambda: synced(collector, *symbols))

            async def refused() -> bool:
                return list((await collector.status())["refused"]) == [bogus]

            await until(refused)
            status = await collector.status()
            assert status["subscribed"] == sorted(symbols)
            assert status["refused"][bogus] in status["errors"]
            said = (await collector.add([bogus]))[bogus]
            assert said in (await collector.status())["errors"], "asked again, refused again"
            assert await synced(collector, *symbols)
            assert (await collector.status())["connects"] == 1
