"""ClickHouse gets what the files have, whatever was lost on the way there."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from actors import reconciler, symbol_shard
from actors.database import Database
from actors.parcels import Key
from actors.sinks import Sinks
from config import Settings, load
from storage.clickhouse_tables import TABLES
from tests.actors.batches import NOON, SECOND, trades
from tests.actors.shards import Shard, stored_ids
from tests.polling import until
from tests.servers import CLICKHOUSE_SERVER, ClickHouseServer, free_port, needs_clickhouse_server

HOUR = 3600 * SECOND
FIRST_HOUR = NOON // HOUR


class Remote:
    """An actor as others hold it."""

    def __init__(self, actor: object) -> None:
        self._actor = actor

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self._actor, method))


class Nobody:
    async def take(self, parcel: object) -> None:
        pass


class Lossy(Sinks):
    """Loses whole parcels: it says so (`fails`), or nobody ever knows."""

    def __init__(self, database: Database, fails: bool = False) -> None:
        super().__init__(lambda parcel: parcel, Remote(database), Remote(Nobody()))
        self._fails = fails
        self.lost = self.kept = 0
        self.everything = False

    async def __call__(self, tables: Mapping[Key, pa.Table]) -> None:
        has_trades = any(kind == "trades" for kind, _ in tables)
        if has_trades and (self.everything or self.lost <= self.kept):
            self.lost += 1
            if self._fails:
                raise RuntimeError("the actor died")
            return
        self.kept += has_trades
        await super().__call__(tables)

    async def keep(self, tables: Mapping[Key, pa.Table]) -> None:
        assert {kind for kind, _ in tables} == {"trades"}
        await super().keep(tables)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer | None]:
    if CLICKHOUSE_SERVER is None:
        yield None
    else:
        with ClickHouseServer(tmp_path_factory.mktemp("clickhouse-server")) as running:
            yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    chosen = load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5}})
    return chosen.model_copy(update={"clickhouse_url": None})


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
async def database(
    request: pytest.FixtureRequest, server: ClickHouseServer | None, settings: Settings
) -> AsyncIterator[Database]:
    url = server.url if server is not None and request.param == "server" else None
    opened = Database(settings.model_copy(update={"clickhouse_url": url}))
    for table in (*TABLES, "latest_trades_state", "latest_quotes_state", "coverage_state"):
        await opened.query(f"TRUNCATE TABLE {table}")
    yield opened
    await opened.stop()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for minutes."""
    monkeypatch.setattr(symbol_shard, "RECONCILE_INTERVAL_S", 0.05)
    monkeypatch.setattr(reconciler, "FIRST_LOOK_S", 0.2)
    monkeypatch.setattr(reconciler, "LOOK_AGAIN_S", 0.5)
    monkeypatch.setattr(reconciler, "LOOK_ANYWAY_S", 0.5)


async def ids(database: Database, symbol: str) -> list[int]:
    rows = await database.query(
        "SELECT trade_id FROM trades FINAL WHERE symbol = {symbol:String} ORDER BY trade_id", {"symbol": symbol}
    )
    return list(map(int, rows["trade_id"].to_pylist())) if rows.num_rows else []


def some(symbol: str, first: int, count: int, begin: int = NOON) -> pa.RecordBatch:
    """A trade every 40 seconds."""
    return trades([(symbol, begin + i * 40 * SECOND, first + i, 100.0, 1.0, 0) for i in range(count)])


@pytest.mark.parametrize("fails", [True, False])
async def test_trades_of_lost_parcels_are_in_clickhouse_in_the_end(
    settings: Settings, database: Database, fails: bool
) -> None:
    sink = Lossy(database, fails)

    def parcels(number: int) -> bool:
        return sink.lost + sink.kept >= number

    shard = Shard(settings, sink, recorded=False)
    for number in range(6):
        for symbol in ("BTC-USDT", "ETH-USDT"):
            begin = NOON + number * 4000 * SECOND
            await shard.send("okx", {"trades": some(symbol, 1 + number * 100, 100, begin)}, NOON)
        await until(partial(parcels, number + 1))
    everything = stored_ids(settings, "okx", "BTC-USDT")
    assert everything == list(range(1, 601)) and sink.lost

    async def arrived() -> bool:
        return await ids(database, "BTC-USDT") == await ids(database, "ETH-USDT") == everything

    await until(arrived, within_s=20)

    async def known() -> bool:
        said = await shard.status()
        return said["reconciling"] == 0 and said["reconciled"] is not None

    await until(known, within_s=20)
    await shard.stop()


async def test_backfilled_trades_stored_before_a_kill_arrive_after_the_start(
    settings: Settings, database: Database
) -> None:
    sink = Lossy(database)
    sink.everything = True
    shard = Shard(settings, sink, recorded=False)
    await shard.send("okx", {"trades": some("BTC-USDT", 1000, 10, NOON + 24 * HOUR)}, NOON)
    await shard.send("okx", {"backfill": some("BTC-USDT", 500, 500)}, NOON)
    assert stored_ids(settings, "okx", "BTC-USDT") == list(range(500, 1010))
    shard.kill()
    again = Shard(settings, Lossy(database), recorded=False)
    await again.start()

    async def arrived() -> bool:
        return await ids(database, "BTC-USDT") == list(range(500, 1010))

    await until(arrived, within_s=20)
    await again.stop()


async def test_a_database_made_anew_gets_everything_although_the_files_are_known_to_be_equal(
    settings: Settings, tmp_path: Path
) -> None:
    for number in range(2):
        place = settings.model_copy(update={"data": tmp_path / f"database{number}"})
        database = Database(place)
        shard = Shard(settings, Lossy(database), recorded=False)
        await shard.start()
        if number == 0:
            await shard.send("okx", {"trades": some("BTC-USDT", 1, 200)}, NOON)

        async def equal(shard: Shard = shard, database: Database = database) -> bool:
            remembered = (settings.data / "reconciled" / "shard-0.json").exists()
            return remembered and await ids(database, "BTC-USDT") == list(range(1, 201))

        await until(equal, within_s=10)
        await shard.stop()
        await database.stop()


async def test_trades_are_counted_once_by_symbol_and_hour_of_the_range(database: Database) -> None:
    for _ in range(2):
        await database.insert("trades", "okx", pa.table(some("BTC-USDT", 1, 100)))
        await database.insert("trades", "kraken", pa.table(some("BTC-USDT", 1, 7)))
        await database.insert("trades", "okx", pa.table(some("it's", 1, 7)))
        assert await database.flush()
    counted = await database.count_trades("okx", ["BTC-USDT", "it's"], NOON, NOON + 24 * HOUR)
    assert counted is not None
    assert counted.trades == {("BTC-USDT", FIRST_HOUR): 90, ("BTC-USDT", FIRST_HOUR + 1): 10, ("it's", FIRST_HOUR): 7}
    narrow = await database.count_trades("okx", ["BTC-USDT"], NOON + 40 * SECOND, NOON + 80 * SECOND)
    assert narrow is not None and narrow.trades == {("BTC-USDT", FIRST_HOUR): 1}


async def test_nothing_is_counted_while_the_database_is_away_or_old_rows_wait(settings: Settings) -> None:
    url = f"clickhouse://127.0.0.1:{free_port()}/default"
    clock = SimpleNamespace(now=time.time_ns())
    database = Database(settings.model_copy(update={"clickhouse_url": url}), lambda: clock.now)
    assert await database.count_trades("okx", ["BTC-USDT"], 0, NOON) is None
    await database.stop(0.1)


async def test_rows_that_wait_for_long_are_not_taken_for_lost(settings: Settings) -> None:
    clock = SimpleNamespace(now=time.time_ns())
    database = Database(settings, lambda: clock.now)
    await database.query("SELECT 1 AS one")
    await database.insert("trades", "okx", pa.table(some("BTC-USDT", 1, 100)))
    clock.now += 60 * SECOND
    assert await database.count_trades("okx", ["BTC-USDT"], 0, NOON) is None
    assert await database.flush()
    counted: Any = await database.count_trades("okx", ["BTC-USDT"], NOON, NOON + HOUR)
    assert counted.trades == {("BTC-USDT", FIRST_HOUR): 90}
    await database.stop()


async def test_a_replay_asks_nobody(settings: Settings, tmp_path: Path) -> None:
    asked: list[str] = []

    class Asking(Lossy):
        async def counted(self, *arguments: Any) -> Any:
            asked.append("")

    database = Database(settings)
    for recorded in (True, False):
        shard = Shard(settings, Asking(database), recorded=recorded)
        await shard.send("okx", {"trades": some("BTC-USDT", 1, 10)}, NOON, epoch=1 + recorded)
        await shard._reconciler.step()
        shard._reconciler._look_at = 0
        await shard._reconciler.step()
        await shard.stop()
        assert bool(asked) is not recorded
    await database.stop()
