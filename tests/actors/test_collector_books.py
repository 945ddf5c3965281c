"""Order books of a running collector: their snapshots keep to what the exchange allows, and a wrong one comes back
without any other being disturbed.
"""

import json
import time
from collections import Counter
from pathlib import Path

import aiohttp.web
import pytest

from actors import exchange_connection
from actors.request_budget import RequestBudget
from config import Settings
from tests.actors.exchanges import (
    SNAPSHOT_WEIGHT,
    BinanceServer,
    collecting,
    epochs,
    limit,
    live,
    recorded,
    recording,
    replaying,
    settled,
    synced,
)
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


@pytest.mark.parametrize("connections", [1, 3])
async def test_snapshots_of_hundreds_of_symbols_keep_to_the_weight_the_exchange_allows(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, connections: int
) -> None:
    symbols = [f"A{number}USDT" for number in range(300)]
    allowed = 300 * SNAPSHOT_WEIGHT / 0.22
    limit(
        monkeypatch,
        "binance",
        rest_weight_per_minute=int(allowed),
        symbols_per_connection=300 // connections,
        messages_per_second=1000,
    )
    # When they are sent: how long each is on its way is not ours to say.
    sent: list[tuple[float, float]] = []
    take = RequestBudget.take

    def noted(self: RequestBudget, weight: float, now: float, spare: bool = False) -> float:
        wait = take(self, weight, now, spare)
        if not wait and self.per_minute == int(allowed):
            sent.append((now, weight))
        return wait

    monkeypatch.setattr(RequestBudget, "take", noted)
    async with BinanceServer(symbols, pace_s=0.05) as server:
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: synced(collector, *symbols), 20)
        assert Counter(symbol for _, symbol in server.snapshots) == dict.fromkeys(symbols, 1), "each was asked for once"
        assert len(server.opened) == connections
    assert sum(weight for _, weight in sent) >= 300 * SNAPSHOT_WEIGHT
    for first, (begin, _) in enumerate(sent):
        spent = 0.0
        for when, weight in sent[first:]:
            spent += weight
            # A fifth of a minute's at once, and the rest evenly: no minute, wherever it begins, sees more than all.
            assert spent <= allowed * (0.2 + 0.8 * (when - begin) / 60) + SNAPSHOT_WEIGHT


async def test_a_snapshot_that_was_refused_is_asked_for_again_when_the_exchange_says_so(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server:
        server.instead["ETHUSDT"] = [aiohttp.web.Response(status=429, headers={"Retry-After": "2"})]
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: synced(collector, *SYMBOLS))
            assert await epochs(collector) == dict.fromkeys(SYMBOLS, 1)
        (refused, again) = (when for when, symbol in server.snapshots if symbol == "ETHUSDT")
        assert again - refused >= 2.0
        between = [symbol for when, symbol in server.snapshots if refused + 0.5 < when < refused + 2.0]
        assert between == [], "nothing else is asked for meanwhile"
        assert len(server.opened) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (500, "no"),
        (400, '{"code":-1121,"msg":"Invalid symbol."}'),
        (200, "<html>"),
        (200, '{"lastUpdateId":"x","bids":[],"asks":[]}'),
        (200, '{"lastUpdateId":0,"bids":[],"asks":[]}'),
    ],
    ids=["500", "400", "no JSON", "no snapshot", "older than what is held"],
)
async def test_a_snapshot_that_cannot_be_had_disturbs_no_other_book_and_is_asked_for_again(
    settings: Settings, answer: tuple[int, str]
) -> None:
    async with BinanceServer(SYMBOLS) as server:
        server.updated["ETHUSDT"] = 100
        status, text = answer
        server.instead["ETHUSDT"] = [aiohttp.web.Response(status=status, text=text)]
        server.snapshots_open.clear()
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: len(server.snapshots) == len(SYMBOLS))
            before = server.updated["ETHUSDT"]
            await until(lambda: server.updated["ETHUSDT"] > before + 10)
            server.snapshots_open.set()
            await until(lambda: synced(collector, "BTCUSDT", "SOLUSDT"))
            await until(lambda: synced(collector, "ETHUSDT"))
            assert await epochs(collector) == dict.fromkeys(SYMBOLS, 1)
            state = await collector.status()
            assert (state["book_gaps"], state["connects"], state["last_error"]) == (0, 1, "")
        assert Counter(symbol for _, symbol in server.snapshots) == {"BTCUSDT": 1, "ETHUSDT": 2, "SOLUSDT": 1}


async def test_a_snapshot_that_is_long_in_coming_is_waited_for_and_not_asked_for_twice(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    class Later:
        time_ns = time.time_ns

        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + 100.0

    async with BinanceServer(["BTCUSDT"]) as server, collecting(settings, server.endpoint()) as collector:
        server.snapshots_open.clear()
        await until(lambda: len(server.snapshots) == 1)
        monkeypatch.setattr(exchange_connection, "time", Later)
        seen = server.traded["BTCUSDT"]
        await until(lambda: server.traded["BTCUSDT"] > seen + 20)
        server.snapshots_open.set()
        await until(lambda: synced(collector, "BTCUSDT"))
        assert len(server.snapshots) == 1


async def test_snapshots_nobody_waits_for_any_more_are_not_asked_for(settings: Settings) -> None:
    symbols = [f"A{number}USDT" for number in range(12)]
    async with BinanceServer(symbols) as server, collecting(settings, server.endpoint()) as collector:
        server.snapshots_open.clear()
        at_once = exchange_connection.SNAPSHOTS_AT_ONCE
        await until(lambda: len(server.snapshots) == at_once)

        async def subscribed() -> bool:
            return len((await collector.status())["subscribed"]) == len(symbols)

        for number in (2, 3, 4):
            server.cut()
            await until(lambda number=number: number in server.opened)  # type: ignore[misc]
            await until(subscribed)
        server.snapshots_open.set()
        await until(lambda: synced(collector, *symbols))
        asked = Counter(symbol for _, symbol in server.snapshots)
        assert set(asked) == set(symbols)
        assert sum(asked.values()) <= len(symbols) + at_once, "only those that were under way were in vain"


async def test_a_lost_change_costs_one_book_a_resync_and_nobody_else_anything(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.snapshots_open.clear()
        server.losing.add("ETHUSDT")

        async def gapped() -> bool:
            states = {row["symbol"]: row["book"] for row in await collector.symbols()}
            return states == {"BTCUSDT": "synced", "ETHUSDT": "gapped", "SOLUSDT": "synced"}

        await until(gapped)
        (books,) = await collector.book(["ETHUSDT", "SOLUSDT"])
        assert books.column("bids").to_pylist()[0] == [], "what is known to be wrong is not served"
        assert books.column("bids").to_pylist()[1] != []
        server.snapshots_open.set()
        await until(lambda: synced(collector, *SYMBOLS))
        assert await epochs(collector) == {"BTCUSDT": 1, "ETHUSDT": 2, "SOLUSDT": 1}
        assert {row["symbol"]: row["gaps"] for row in await collector.symbols()}["ETHUSDT"] == 1
        server.moving = False
        last = server.updated["ETHUSDT"]

        async def up_to_date() -> bool:
            (books,) = await collector.book(["ETHUSDT"])
            return books.column("sequence").to_pylist() == [last]

        await until(up_to_date)
        (books,) = await collector.book(["ETHUSDT"])
        assert books.column("bids").to_pylist() == [[{"price": 100.0, "size": float(last)}]]
    assert list(server.opened) == [1]
    assert server.methods("UNSUBSCRIBE") == []


def symbol_of(exchange: str, frame: bytes) -> str:
    """The book a recorded frame changes; empty for any other frame."""
    if exchange == "okx" and b'"action":"update"' in frame:
        return str(json.loads(frame)["arg"]["instId"])
    if exchange == "deribit" and b'"type":"change"' in frame:
        return str(json.loads(frame)["params"]["data"]["instrument_name"])
    if exchange == "kraken" and b'"c":"' in frame:
        return str(json.loads(frame)[-1])
    return ""


@pytest.mark.parametrize("exchange", ["okx", "deribit", "kraken"])
async def test_a_book_with_a_lost_change_is_renewed_alone_on_the_same_connection(
    tmp_path: Path, recordings: Path, exchange: str
) -> None:
    played = recording(recordings, exchange)
    changes = Counter(symbol_of(exchange, frame) for one in played.connections for frame in one.frames)
    # One that has changes to come after the lost one, which show the hole.
    victim = next(symbol for symbol, _ in changes.most_common() if symbol)
    async with replaying(played) as (server, endpoint):
        server.faults.drop(lambda frame: symbol_of(exchange, frame) == victim)
        async with collecting(recorded(tmp_path), endpoint, exchange=exchange) as collector:

            async def built_again() -> bool:
                return (await epochs(collector)).get(victim) == 2 and await synced(collector, *endpoint.symbols)

            await until(built_again)
            others = {symbol: epoch for symbol, epoch in (await epochs(collector)).items() if symbol != victim}
            assert set(others.values()) == {1}
            gaps = {row["symbol"]: row["gaps"] for row in await collector.symbols() if row["gaps"]}
            assert gaps == {victim: 1}
            assert (await collector.status())["connects"] == 1
            damaged = (await collector.book([victim], levels=None))[0].select(["symbol", "state", "bids", "asks"])
    async with replaying(played) as (_, endpoint):
        async with collecting(recorded(tmp_path), endpoint, exchange=exchange) as collector:
            await until(lambda: synced(collector, *endpoint.symbols))
            await settled(collector)
            sound = (await collector.book([victim], levels=None))[0].select(["symbol", "state", "bids", "asks"])
    assert damaged.equals(sound), "it holds what it would have held"


async def test_a_hole_in_the_numbers_of_a_connection_renews_its_books_and_keeps_the_connection(
    tmp_path: Path, recordings: Path
) -> None:
    async with replaying(recording(recordings, "bitfinex")) as (server, endpoint):
        # A change of a book somewhere in the middle, as [chanId,[price,count,amount],1000].
        server.faults.drop(lambda frame: frame.endswith(b"],1000]"))
        async with collecting(recorded(tmp_path), endpoint, exchange="bitfinex") as collector:

            async def built_again() -> bool:
                return set((await epochs(collector)).values()) == {2} and await synced(collector, *endpoint.symbols)

            await until(built_again)
            assert {row["gaps"] for row in await collector.symbols()} == {1}
            assert (await collector.status())["connects"] == 1
