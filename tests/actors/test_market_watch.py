"""The market watch without Ray: what it hears of quotes and connections, and what it tells others."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray.exceptions
from redis.asyncio import Redis

from actors.aggregation.consolidated import Reception
from actors.collector import Collector
from actors.database import Database
from actors.endpoint import Endpoint
from actors.feeds.instruments import instrument_table
from actors.market_watch import ANSWER_TIMEOUT_S, ASK_INTERVAL_S, WATCHED, MarketWatch
from actors.offers import Offers
from actors.parcels import packed
from actors.publisher import Publisher
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from actors.sinks import Sinks
from config import Settings, load
from storage.clickhouse import DatabaseUnavailable
from storage.schema import ARBITRAGE
from tests.actors.aggregation.plain_consolidated import LISTS, NOON, SECOND, Quote, batch, streaming
from tests.actors.exchanges import Handle, collecting
from tests.actors.shards import Shard
from tests.polling import until
from tests.servers import RedisServer

#: Machines with other things to do need not look at once.
SLACK_S = 1.5
SYMBOL = {"binance": "BTCUSDT", "okx": "BTC-USDT"}


class Said:
    """What collectors would say: every exchange streams since `since_ns`, unless `states` has something else."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.since_ns = NOON
        self.states: dict[str, str] = {}
        #: Until when an exchange was heard, where that is not now.
        self.heard: dict[str, int] = {}
        #: Set: collectors answer.
        self.answering = asyncio.Event()
        self.answering.set()
        self.gone: set[str] = set()
        #: Those that end when they are asked for their list.
        self.unlisted: set[str] = set()
        self.lists: dict[str, Any] = {exchange: instrument_table(LISTS[exchange]) for exchange in SYMBOL}
        self.asked: list[tuple[str, str]] = []

    async def receptions(self, exchange: str) -> Sequence[Reception]:
        self.asked.append(("receptions", exchange))
        await self.answering.wait()
        if exchange in self.gone:
            raise ValueError(f"no actor called collector:{exchange}")
        one = streaming(exchange, self.heard.get(exchange, self._clock()), self.since_ns)
        return [Reception(self.states.get(exchange, "streaming"), one.heard_ns, one.since)]

    async def instruments(self, exchange: str) -> pa.Table | None:
        self.asked.append(("instruments", exchange))
        if exchange in self.unlisted:
            raise ValueError(f"no actor called collector:{exchange}")
        found: pa.Table | None = self.lists[exchange]
        return found


class Told:
    """A publisher and a database that keep what they are given; `away`: both cannot be reached."""

    def __init__(self) -> None:
        self.away = False
        #: Rows of episodes that it was given meanwhile.
        self.refused = 0
        self.best: list[tuple[list[dict[str, Any]], int]] = []
        self.stored: list[dict[str, Any]] = []
        self.open_before: list[dict[str, Any]] = []

    async def publish_best(self, best: pa.RecordBatch, time_ns: int) -> None:
        self._check()
        self.best.append((best.to_pylist(), time_ns))

    async def insert(self, table: str, exchange: str | None, rows: pa.Table) -> None:
        self.refused += rows.num_rows if self.away else 0
        self._check()
        assert (table, exchange) == ("arbitrage", None)
        assert rows.schema == ARBITRAGE
        self.stored += rows.to_pylist()

    async def query(self, sql: str) -> pa.Table:
        if self.away:
            raise DatabaseUnavailable("away")
        return pa.Table.from_pylist(self.open_before, schema=ARBITRAGE)

    @property
    def newest(self) -> dict[str, Any]:
        """What was published of BTC-USDT last."""
        rows = [row for best, _ in self.best for row in best if row["instrument"] == "BTC-USDT"]
        return rows[-1] if rows else {}

    def _check(self) -> None:
        if self.away:
            raise ray.exceptions.RayActorError


class Clock:
    """The wall clock, moved to NOON when it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic_ns()
        self.ahead_ns = 0

    def __call__(self) -> int:
        return NOON + time.monotonic_ns() - self._began + self.ahead_ns


class Around:
    """A market watch of two exchanges with everything it speaks to."""

    def __init__(self, settings: Settings, recorded: bool) -> None:
        self.clock, self.told = Clock(), Told()
        self.said = Said((lambda: 0) if recorded else self.clock)
        told = Handle(self.told)
        self.watch = MarketWatch(settings, self.said, told, told, recorded, self.clock)

    async def quote(self, exchange: str, bid: float, ask: float, at: int | None = None) -> None:
        at = self.clock() if at is None else at
        quotes = batch([Quote(SYMBOL[exchange], at, at - NOON, bid, ask)])
        await self.watch.take(packed({("quotes", exchange): pa.Table.from_batches([quotes])}))

    async def row(self) -> dict[str, Any]:
        """Of BTC-USDT; empty while it is not known."""
        rows = (await self.watch.best()).to_pylist()
        return next((row for row in rows if row["instrument"] == "BTC-USDT"), {})

    async def living(self, count: int) -> bool:
        return (await self.row()).get("exchanges") == count


@asynccontextmanager
async def around(tmp_path: Path, recorded: bool = False, **told: Any) -> AsyncIterator[Around]:
    exchanges = {name: {"enabled": name in SYMBOL} for name in load(tmp_path).exchanges}
    fees = {name: {"spot": 0.0} for name in SYMBOL}
    pays: dict[str, Any] = {"min_spread": 0.005, "min_profit": 0.5, "fees": fees}
    one = Around(load(tmp_path, {"exchanges": exchanges, "arbitrage": pays}), recorded)
    vars(one.told).update(told)
    await one.watch.start()
    try:
        yield one
    finally:
        await one.watch.stop()
        assert [task for task in asyncio.all_tasks() if "actors/" in str(task.get_coro())] == []


async def test_an_exchange_whose_connection_is_lost_is_left_out_at_once_and_comes_back(tmp_path: Path) -> None:
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        await one.quote("binance", 100.0, 101.0)
        await one.quote("okx", 100.5, 101.5)
        assert (await one.row())["bid_exchange"] == "okx"
        lost = time.monotonic()
        one.said.states["okx"] = "waiting"
        await until(lambda: one.living(1))
        assert time.monotonic() - lost < ASK_INTERVAL_S + SLACK_S
        assert (await one.row())["bid_exchange"] == "binance"
        one.said.since_ns = one.clock()
        del one.said.states["okx"]
        await until(lambda: len([q for q in one.said.asked if q[1] == "okx"]) > 10)
        assert (await one.row())["exchanges"] < 2, "not with what it said before"
        await one.quote("okx", 100.6, 101.6)
        assert (await one.row())["bid_price"] == 100.6


async def test_an_exchange_whose_collector_does_not_answer_is_left_out_and_asked_no_more_than_once(
    tmp_path: Path,
) -> None:
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        await one.quote("okx", 100.0, 101.0)
        one.said.answering.clear()
        lost = time.monotonic()
        await until(lambda: one.living(0))
        assert time.monotonic() - lost < ASK_INTERVAL_S + ANSWER_TIMEOUT_S + SLACK_S
        assert (await one.watch.status())["states"]["okx"] == "its collector does not answer"
        asked = one.said.asked.count(("receptions", "okx"))
        await asyncio.sleep(ANSWER_TIMEOUT_S + 2 * ASK_INTERVAL_S)
        assert one.said.asked.count(("receptions", "okx")) == asked
        one.said.answering.set()
        # It had not lost its connection: what it said before holds.
        await until(lambda: one.living(1))
        assert (await one.watch.status())["states"]["okx"] == "streaming"


async def test_an_exchange_without_a_collector_costs_the_others_nothing(tmp_path: Path) -> None:
    async with around(tmp_path) as one:
        one.said.gone.add("binance")
        await until(lambda: one.living(0))
        await one.quote("okx", 100.0, 101.0)
        assert await one.living(1)
        status = await one.watch.status()
        assert (status["running"], status["states"]["binance"]) == (True, "it has no collector")


async def test_a_collector_that_ends_before_it_says_what_its_exchange_lists_costs_the_others_nothing(
    tmp_path: Path,
) -> None:
    async with around(tmp_path) as one:
        one.said.unlisted.add("binance")
        await until(lambda: one.living(0))
        await one.quote("okx", 100.0, 101.0)
        await until(lambda: one.said.asked.count(("receptions", "binance")) > 1)
        assert await one.living(1)
        assert (await one.watch.status())["running"]


async def test_a_quote_is_too_old_by_the_clock_also_where_nothing_comes_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock makes leaps that are nearly a silence.
    monkeypatch.setattr("actors.market_watch.ASK_INTERVAL_S", 0.1)
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        await one.quote("okx", 100.0, 101.0)
        for ahead in range(9, 64, 9):
            # Its connection lives all the time.
            asked = len(one.said.asked)
            one.clock.ahead_ns = ahead * SECOND
            await until(lambda asked=asked: len(one.said.asked) > asked + 2)
        assert (await one.row())["quotes"][-1]["left_out"] == "stale"
        await until(lambda: one.told.newest.get("exchanges") == 0)


async def test_in_a_replay_the_recorded_clock_decides(tmp_path: Path) -> None:
    async with around(tmp_path, recorded=True) as one:
        one.said.since_ns = 0
        one.said.heard = {"binance": NOON, "okx": NOON + 5 * SECOND}
        await one.quote("binance", 100.0, 101.0, NOON)
        await one.quote("okx", 100.5, 101.5, NOON + 5 * SECOND)
        await until(lambda: one.living(2))
        one.clock.ahead_ns = 3600 * SECOND
        await until(lambda: one.told.newest.get("exchanges") == 2)
        assert one.told.best[-1][1] == NOON + 5 * SECOND, "it stands still while nothing comes"
        # Eleven seconds after the last that was heard of the other one.
        one.said.heard["okx"] = NOON + 11 * SECOND
        await until(lambda: one.living(1))
        why = {quote["exchange"]: quote["left_out"] for quote in (await one.row())["quotes"]}
        assert why == {"binance": "dead", "okx": ""}


async def test_instruments_are_asked_for_until_all_symbols_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.market_watch.LIST_INTERVAL_S", 0.1)
    async with around(tmp_path) as one:
        okx, one.said.lists["okx"] = one.said.lists["okx"], None
        await until(lambda: one.said.asked.count(("instruments", "okx")) > 2)
        assert (await one.watch.status())["unlisted"]["okx"] == len(LISTS["okx"])
        await one.quote("okx", 100.0, 101.0)
        one.said.lists["okx"] = okx
        await until(lambda: one.living(1))
        asked = one.said.asked.count(("instruments", "okx"))
        await asyncio.sleep(0.5)
        assert one.said.asked.count(("instruments", "okx")) == asked


async def test_only_what_changed_is_published_and_again_where_nobody_took_it(tmp_path: Path) -> None:
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        await one.quote("okx", 100.0, 101.0)
        await until(lambda: one.told.newest.get("bid_price") == 100.0)
        await asyncio.sleep(0.6)
        count = len(one.told.best)
        one.told.away = True
        await one.quote("okx", 102.0, 103.0)
        await asyncio.sleep(0.6)
        assert len(one.told.best) == count
        one.told.away = False
        await until(lambda: len(one.told.best) == count + 1)
        assert [row["bid_price"] for row in one.told.best[-1][0]] == [102.0]


async def test_an_episode_is_stored_when_it_opens_and_when_it_closes_and_what_is_open_at_the_end_is_closed(
    tmp_path: Path,
) -> None:
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        await one.quote("binance", 100.0, 101.0)
        await one.quote("okx", 110.0, 111.0)
        [row] = (await one.watch.episodes()).to_pylist()
        assert (row["buy_exchange"], row["sell_exchange"], row["profit"]) == ("binance", "okx", 9.0)
        await until(lambda: [row["revision"] for row in one.told.stored] == [0])
        await one.quote("okx", 100.0, 101.0)
        await until(lambda: [row["revision"] for row in one.told.stored] == [0, 1])
        assert one.told.stored[1]["ended"] == "prices"
        await one.quote("okx", 120.0, 121.0)
    assert [row["ended"] for row in one.told.stored[2:]] in (["", "stopped"], ["stopped"], ["stopped", ""])


async def test_episodes_nobody_followed_to_their_end_are_closed_as_lost_once_the_database_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.market_watch.RETRY_S", 0.1)
    lost = dict.fromkeys(ARBITRAGE.names, 1) | {
        **dict.fromkeys(("instrument", "kind", "buy_exchange", "buy_symbol", "sell_exchange", "sell_symbol"), "x"),
        **{"opened": 5, "peak": 7, "closed": None, "ended": "", "revision": 0},
    }
    async with around(tmp_path, away=True, open_before=[lost]) as one:
        await asyncio.sleep(0.3)
        assert one.told.stored == []
        one.told.away = False
        await until(lambda: len(one.told.stored) == 1)
        assert one.told.stored[0] == {**lost, "closed": 7, "ended": "lost", "revision": 1}


async def test_what_became_of_an_episode_while_the_database_was_away_is_stored_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.market_watch.RETRY_S", 0.1)
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        await one.quote("binance", 100.0, 101.0)
        await one.quote("okx", 110.0, 111.0)
        await until(lambda: [row["revision"] for row in one.told.stored] == [0])
        one.told.away = True
        await one.quote("okx", 100.0, 101.0)
        await until(lambda: one.told.refused > 0)
        one.told.away = False
        await until(lambda: [row["ended"] for row in one.told.stored] == ["", "prices"])


async def test_status_says_what_is_left_out_and_what_was_missed(tmp_path: Path) -> None:
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        quotes = pa.Table.from_batches([batch([Quote("BTC-USDT", one.clock(), 1, 5.0, 4.0)])])
        for missed in (2, 0, 5):
            await one.watch.take(packed({("quotes", "okx"): quotes}), missed)
        status = await one.watch.status()
    assert (status["missed"], status["quotes"], status["instruments"]) == (7, 3, 4)
    assert status["left_out"]["invalid"] == 1
    assert status["running"]
    assert "4 instruments" in status["actor"]


async def test_when_its_work_fails_it_says_so_and_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with around(tmp_path) as one:
        await until(lambda: one.living(0))
        monkeypatch.setattr(one.said, "receptions", lambda exchange: 1 / 0)

        async def failed() -> bool:
            return not (await one.watch.status())["running"]

        await until(failed)
        assert "ZeroDivisionError" in (await one.watch.status())["failure"]
        monkeypatch.undo()
        await one.watch.start()
        await one.quote("okx", 100.0, 101.0)
        await until(lambda: one.living(1))
        assert (await one.watch.status())["failure"] == ""


class Collectors:
    """Real ones, in this process."""

    def __init__(self) -> None:
        self.of: dict[str, Collector] = {}

    async def receptions(self, exchange: str) -> Sequence[Reception]:
        return await self.of[exchange].receptions()

    async def instruments(self, exchange: str) -> pa.Table | None:
        return await self.of[exchange].instruments()


async def test_from_real_connections_to_redis_and_clickhouse_and_without_a_dead_exchange_in_between(
    tmp_path: Path,
) -> None:
    fees = {name: {"spot": 0.0} for name in SYMBOL}
    exchanges = {name: {"enabled": name in SYMBOL} for name in load(tmp_path).exchanges}
    timing = {"commit_interval_ms": 5, "share_interval_ms": 20}
    pays: dict[str, Any] = {"min_spread": 0, "min_profit": 0, "fees": fees}
    settings = load(
        tmp_path, {"source": "live", "shards": 1, "exchanges": exchanges, "arbitrage": pays, "shard": timing}
    )
    collectors = Collectors()
    servers = {}
    for seed, exchange in enumerate(SYMBOL):
        dialect = DIALECTS[exchange]
        servers[exchange] = ExchangeServer(dialect({SYMBOL[exchange]: dialect.listing(SYMBOL[exchange])}), seed, 100.0)
    with RedisServer(tmp_path / "redis") as server:
        publisher, database = Publisher(settings, server.url), Database(settings)
        watch = MarketWatch(settings, collectors, Handle(publisher), Handle(database), recorded=False)
        sinks = Sinks(lambda parcel: parcel, Handle(database), Handle(publisher), Offers(Handle(watch), kinds=WATCHED))
        shard = Shard(settings, sinks, recorded=False)
        endpoints = {name: Endpoint(*await one.start(), (SYMBOL[name],)) for name, one in servers.items()}
        binance = collecting(settings, endpoints["binance"], shard, exchange="binance")
        okx = collecting(settings, endpoints["okx"], shard, exchange="okx")
        async with binance as collectors.of["binance"], okx as collectors.of["okx"]:
            await watch.start()

            async def counting(count: int) -> bool:
                [row] = (await watch.best()).to_pylist() or [{"exchanges": 0}]
                return bool(row["exchanges"] == count)

            await until(lambda: counting(2))
            lost = time.monotonic()
            servers["okx"].restart(3.0)
            await until(lambda: counting(1))
            took = time.monotonic() - lost
            assert took < ASK_INTERVAL_S + SLACK_S
            [row] = (await watch.best()).to_pylist()
            assert [quote["left_out"] for quote in row["quotes"]] == ["", "dead"]
            await until(lambda: counting(2), 30)
            client = Redis.from_url(server.url)
            kept = json.loads(await client.get("bbo:BTC-USDT"))
            assert (kept["instrument"], kept["kind"]) == ("BTC-USDT", "spot")
            assert 0 < await client.ttl("bbo:BTC-USDT") <= 300
            await client.aclose()
            await until(lambda: watch._arbitrage.opened > 0, 30)
        await watch.stop()
        assert await database.flush()
        rows = (await database.query("SELECT * FROM arbitrage FINAL")).to_pylist()
        assert {row["instrument"] for row in rows} == {"BTC-USD"}
        assert all(row["closed"] is not None and row["ended"] for row in rows)
        await shard.stop()
        await publisher.stop()
        await database.stop()
    for one in servers.values():
        await one.stop()
    print(f"dropped {took * 1000:.0f} ms after its connection ended")


async def test_an_episode_that_had_opened_again_at_one_time_is_closed_as_lost_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `Arbitrage._begin_anew` leaves it: open with revision 2. The table keeps the highest revision.
    lost = dict.fromkeys(ARBITRAGE.names, 1) | {
        **dict.fromkeys(("instrument", "kind", "buy_exchange", "buy_symbol", "sell_exchange", "sell_symbol"), "x"),
        **{"opened": 5, "peak": 7, "closed": None, "ended": "", "revision": 2},
    }
    async with around(tmp_path, open_before=[lost]) as one:
        await until(lambda: len(one.told.stored) == 1)
        assert one.told.stored[0]["revision"] > 2
