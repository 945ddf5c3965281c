"""The whole path from the exchange to the files and the database in one process: the real collector, shards and
database actor on a virtual clock, network and disk. One seed is one history, the same each time.
"""

import asyncio
import gc
import logging
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import structlog

from actors import collector, database, kernels, symbol_shard
from actors.collector import Collector
from actors.database import Database
from actors.endpoint import Endpoint
from actors.ledger import keeper
from actors.parcels import batches_of
from actors.placement import shard_of
from actors.sinks import Sinks
from actors.symbol_shard import SymbolShard
from storage.column_reader import BeingRewritten, ColumnReader
from tests.dst.clickhouse import ClickHouseModel
from tests.dst.clock import Clock, VirtualLoop
from tests.dst.disk import Crash, Disk
from tests.dst.exchange import Exchange
from tests.dst.faults import Fault, Plan, plan
from tests.dst.network import Network, Weather
from tests.dst.process import Actor, Handle, Killed, new_task
from tests.dst.settings import settings_of

EXCHANGE: Final = "binance"
#: A run that has not come to rest by then never will.
_PATIENCE_S: Final = 1800.0
_LOOK_S: Final = 0.6

_ALWAYS: Final = 1 << 62


@dataclass(slots=True)
class Outcome:
    seed: int
    wrong: list[str]
    trace: list[str]
    faults: Counter[str]
    sites: Counter[str]
    counts: Counter[str]
    virtual_s: float


class World:
    """Below `folder`, which is empty."""

    def __init__(self, planned: Plan, folder: Path) -> None:
        self.plan = planned
        chance = random.Random(planned.seed ^ 0x5EED)
        self._chance = chance
        self.clock = Clock(planned.begin_ns)
        self.disk = Disk(folder / "data", self.clock, random.Random(chance.random()))
        self.network = Network(random.Random(chance.random()))
        self.exchange = self.network.exchange = Exchange(
            self.clock, random.Random(chance.random()), list(planned.symbols), self.network.publish
        )
        self.clickhouse = ClickHouseModel()
        self.settings = settings_of(planned, folder / "data")
        self.loop = VirtualLoop(self.clock, random.Random(chance.random()))
        self.loop.set_task_factory(new_task)
        self.loop.set_exception_handler(lambda loop, context: None)
        self.trace: list[str] = []
        self.wrong: list[str] = []
        self.faults: Counter[str] = Counter()
        #: Ids of trades that were acknowledged, and those of them that a power cut must leave, by symbol.
        self.acknowledged: dict[str, set[int]] = {symbol: set() for symbol in planned.symbols}
        self.durable: dict[str, set[int]] = {symbol: set() for symbol in planned.symbols}
        #: Trades that were lost to ClickHouse with the power: they were on their way there.
        self.excused: set[tuple[str, int]] = set()
        self.bars_lost = False
        self.power_cuts = 0
        self.disk.synced = self._all_synced
        self._cut_since_start: set[int] = set()

    def run(self) -> Outcome:
        state, logs = random.getstate(), structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        gc.disable()
        random.seed(self.plan.seed)
        try:
            with self._installed():
                self.loop.run_until_complete(self._history())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            self.fail("".join(traceback.format_exception(error))[-900:])
        finally:
            random.setstate(state)
            structlog.configure(**logs)
            self._end()
            gc.enable()
        counts = self.network.counts + Counter(writes=self.disk.writes, writes_refused=self.disk.refused)
        counts["trades"] = sum(len(market.trades) for market in self.exchange.markets.values())
        counts["sink errors"] = self.clickhouse.refused
        virtual_s = (self.clock.now_ns - self.plan.begin_ns) / 1e9
        self.say(f"the end: {dict(counts)}")
        return Outcome(self.plan.seed, self.wrong, self.trace, self.faults, self.disk.sites, counts, virtual_s)

    def say(self, what: str) -> None:
        self.trace.append(f"{(self.clock.now_ns - self.plan.begin_ns) / 1e9:10.4f}  {what}")

    def ids(self, symbol: str) -> Any:
        """Of the trades in the files."""
        reader = ColumnReader(self.settings.columns, rescan_s=0)
        found = reader.select(EXCHANGE, symbol, "TRADES", 0, _ALWAYS, ["id"]).column("id")
        return found.astype(np.int64)

    # ---- the history

    async def _history(self) -> None:
        self.shards = [
            Actor(f"shard:{index}", lambda index=index: self._shard(index), self._chance,
                  lambda shard, index=index: self._shard_started(index), self._heard)
            for index in range(self.plan.shards)
        ]  # fmt: skip
        self.database = Actor("database", lambda: Database(self.settings), self._chance)
        endpoint = Endpoint("ws://exchange", "http://exchange", self.plan.symbols)
        handles = [Handle(shard) for shard in self.shards]
        self.collector = Actor("collector", lambda: Collector(EXCHANGE, endpoint, self.settings, handles), self._chance)
        self.actors = [self.database, *self.shards, self.collector]
        self._tasks = [self.loop.create_task(actor.live()) for actor in self.actors]
        self._tasks.append(self.loop.create_task(self._supervise()))
        self.network.weather = self.plan.weather
        load = self.loop.create_task(self._load())
        faults = [self.loop.create_task(self._suffer(fault)) for fault in self.plan.faults]
        await asyncio.gather(load, *faults)
        self._heal()
        await self._rest()
        if not self.wrong:
            await self._checked()

    async def _load(self) -> None:
        pause_s = self.plan.load_s / self.plan.trades
        chance = self._chance
        for _ in range(self.plan.trades):
            await asyncio.sleep(chance.expovariate(1 / pause_s))
            name = chance.choice(self.plan.symbols)
            for _ in range(chance.choice((1, 1, 1, 2, 5))):
                self.exchange.trade(name)
            if chance.random() < 0.3:
                self.exchange.quote(chance.choice(self.plan.symbols))

    async def _suffer(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        self.say(str(fault))
        self.faults[fault.kind] += 1
        shard, weather = self.shards[fault.shard], self.network.weather
        match fault.kind:
            case "kill shard":
                self._kill(shard)
            case "kill collector":
                self._kill(self.collector)
            case "kill database":
                self._kill(self.database)
            case "kill all":
                for actor in self.actors:
                    self._kill(actor)
            case "power cut":
                self._cut_power()
            case "shard dies at a write":
                self._arm(fault, shard)
            case "database dies at a write":
                self._arm(fault, self.database)
            case "collector dies at a write":
                self._arm(fault, self.collector)
            case "power cut at a write":
                crash = Crash(fault.after, fault.when, lambda process: self._cut_power(), "shard", fault.name)
                self.disk.armed.append(crash)
            case "connection cut":
                self.network.cut()
            case "exchange silent":
                weather.silent = True
                await asyncio.sleep(fault.lasts_s)
                weather.silent = False
            case "exchange refuses":
                weather.refuses = True
                self.network.cut()
                await asyncio.sleep(fault.lasts_s)
                weather.refuses = False
            case "REST away":
                weather.rest_away = True
                await asyncio.sleep(fault.lasts_s)
                weather.rest_away = False
            case "disk full" | "disk read-only":
                self.disk.state = "full" if fault.kind == "disk full" else "read-only"
                await asyncio.sleep(fault.lasts_s)
                self.disk.state = "works"
            case "ClickHouse away":
                self.clickhouse.away = True
                await asyncio.sleep(fault.lasts_s)
                self.clickhouse.away = False
            case "ClickHouse mumbles":
                self.clickhouse.mumbles = True
                await asyncio.sleep(fault.lasts_s)
                self.clickhouse.mumbles = False
            case "calls doubled":
                for one in self.shards:
                    one.doubled = 0.3
                await asyncio.sleep(fault.lasts_s)
                for one in self.shards:
                    one.doubled = 0.0
            case "shard restarted":
                if shard.runs:
                    # Which may fail, and be killed on the way.
                    await asyncio.wait([shard.process.begin(shard.actor.stop())])
                self._kill(shard)

    def _heal(self) -> None:
        self.say("all faults end")
        self.network.weather = Weather()
        self.disk.state = "works"
        self.disk.armed.clear()
        self.clickhouse.away = self.clickhouse.mumbles = False

    async def _rest(self) -> None:
        """Wait until everything is well; what was lost shows with the next trades, so it must be well after one."""
        deadline = self.loop.time() + _PATIENCE_S
        wait_s, well = _LOOK_S, 0
        while well < 2 and not self.wrong:
            for name in self.plan.symbols:
                self.exchange.trade(name)
            await asyncio.sleep(wait_s)
            ill = await self._ill()
            well = 0 if ill else well + 1
            if self.loop.time() > deadline:
                self.fail(f"not at rest after {_PATIENCE_S / 3600:g} hours: {ill}")
                return
            wait_s = min(wait_s * 1.2, 20.0) if ill else _LOOK_S
        self.say("at rest")

    async def _ill(self) -> str:
        for actor in self.actors:
            if not actor.runs:
                return f"{actor.name} does not run"
        for shard in self.shards:
            said = await shard.call("status")
            if said["failure"]:
                return f"{shard.name}: {said}"
        status = await self.collector.call("status")
        if not status["running"] or status["frames_waiting"] or status["batches_in_flight"] or status["gaps_open"]:
            return f"collector: {status}"
        for row in await self.collector.call("symbols"):
            if row["state"] != "subscribed" or row["book"] != "synced":
                return f"{row['symbol']} is {row['state']}, its book {row['book']}: {row['reason']} {row['book_why']}"
        for shard in self.shards:
            said = await shard.call("status")
            if said["gaps_open"] or said["batches_waiting"]:
                return f"{shard.name}: {said}; {await shard.call('gaps', (None,))}"
        if unheard := [symbol for symbol, ids in self.acknowledged.items() if not ids]:
            return f"nothing of {unheard[0]} was stored"
        said = await self.database.call("status")
        return f"database: {said}" if said["pending"] else ""

    async def _checked(self) -> None:
        # They look at a world.
        from tests.dst import checks

        await checks.running(self)
        if self.wrong:
            return
        await checks.stopped(self)

    # ---- what happens to actors

    def _shard(self, index: int) -> SymbolShard:
        sinks = Sinks(lambda parcel: parcel, Handle(self.database), _Nobody())
        # Nobody asks the model what it has.
        return SymbolShard(index, self.settings, lambda table: table, sinks.__call__, recorded=False)

    def _shard_started(self, index: int) -> None:
        """Before it does anything, all it has acknowledged is there."""
        self.say(f"shard:{index} starts")
        powerless = index in self._cut_since_start
        self._cut_since_start.discard(index)
        for symbol in self.plan.symbols:
            if shard_of(EXCHANGE, symbol, self.plan.shards) != index:
                continue
            ids = self.ids(symbol)
            there = set(ids.tolist())
            if len(there) < len(ids):
                self.fail(f"{symbol}: {len(ids) - len(there)} trades are stored twice")
            expected = self.durable[symbol] if powerless else self.acknowledged[symbol]
            if lost := expected - there:
                what = "was flushed" if powerless else "was acknowledged"
                self.fail(f"{symbol}: what {what} is gone after a restart: {sorted(lost)[:5]} and {len(lost)} in all")
            if powerless:
                self.acknowledged[symbol] &= there
                self.durable[symbol] &= there

    def _heard(self, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "append":
            trades = batches_of({"trades": arguments[1]["trades"]})["trades"] if "trades" in arguments[1] else None
            if trades is not None:
                names = trades.column("symbol").to_pylist()
                for symbol, number in zip(names, trades.column("trade_id").to_pylist(), strict=True):
                    self.acknowledged[symbol].add(number)
                if self.disk.state != "works" or self._chance.random() < 0.1:
                    self._check_acknowledged(set(names))

    def _check_acknowledged(self, symbols: set[str]) -> None:
        for symbol in sorted(symbols):
            with suppress(BeingRewritten):
                if lost := self.acknowledged[symbol] - set(self.ids(symbol).tolist()):
                    self.fail(f"{symbol}: acknowledged and not in the files: {sorted(lost)[:5]}, {len(lost)} in all")

    def _all_synced(self) -> None:
        for symbol, ids in self.acknowledged.items():
            if shard_of(EXCHANGE, symbol, self.plan.shards) not in self._cut_since_start:
                self.durable[symbol] |= ids

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.collector.runs:
                process, actor = self.collector.process, self.collector.actor
                with suppress(Killed, asyncio.CancelledError):
                    await process.begin(actor.start())
            if self.database.runs:
                with suppress(Killed, asyncio.CancelledError):
                    await self.database.process.begin(self.database.actor.status())

    def _arm(self, fault: Fault, actor: Actor) -> None:
        self.disk.armed.append(
            Crash(fault.after, fault.when, lambda process: self._kill(actor), actor.name, fault.name)
        )

    def _kill(self, actor: Actor) -> None:
        process = actor.process
        if process is None or not process.alive:
            return
        self.say(f"{actor.name} is killed")
        if actor is self.database and actor.actor is not None:
            self._excuse_unspooled(actor.actor)
        actor.kill()
        self.disk.let_go(process)
        if actor is self.collector:
            self.network.cut(process)

    def _excuse_unspooled(self, killed: Database) -> None:
        """What the disk did not take was in its memory alone."""
        for waiting in killed._waiting._queue:
            if waiting.record is None and waiting.rows is not None:
                self.bars_lost = True
                if waiting.described.table == "trades":
                    names, ids = (waiting.rows.column(name).to_pylist() for name in ("symbol", "trade_id"))
                    self.excused.update(zip(names, ids, strict=True))

    def _cut_power(self) -> None:
        there = self.clickhouse.tables["trades"].keys()
        for symbol in self.plan.symbols:
            with suppress(BeingRewritten):
                self.excused |= {(symbol, number) for number in self.ids(symbol).tolist()} - there
        for actor in self.actors:
            self._kill(actor)
        self._cut_since_start = set(range(self.plan.shards))
        self.power_cuts += 1
        self.bars_lost = True
        self.say(f"the power is cut: {self.disk.cut_power()}")

    def fail(self, what: str) -> None:
        self.say(f"WRONG: {what}")
        self.wrong.append(what)

    def _end(self) -> None:
        for actor in getattr(self, "actors", ()):
            if actor.process is not None:
                process = actor.process
                actor.kill()
                self.disk.let_go(process)
        with suppress(Exception), self._installed():
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=60))
        self.loop.close()

    @contextmanager
    def _installed(self) -> Iterator[None]:
        with ExitStack() as patched:
            patched.enter_context(self.clock.installed())
            patched.enter_context(self.disk.installed())
            patched.enter_context(self.network.installed())
            for module, name, value in (
                (database, "open_clickhouse", lambda *_: self.clickhouse),
                (collector, "IDLE_S", 1.0),
                (symbol_shard, "CLOSE_INTERVAL_S", 0.5),
                (symbol_shard, "COMPACT_INTERVAL_S", 0.5),
                (symbol_shard, "HISTORY_INTERVAL_S", 5.0),
                (keeper, "COMPACT_NS", int(self.plan.compact_s * 1e9)),
                (kernels, "warm_up", lambda: None),
            ):
                patched.enter_context(patch.object(module, name, value))
            yield


class _Nobody:
    """An actor that takes everything."""

    def __getattr__(self, method: str) -> Any:
        return self

    async def remote(self, *_: Any) -> None:
        pass


def simulate(seed: int | Plan, folder: Path) -> Outcome:
    """One run below `folder`, which is left empty."""
    planned = seed if isinstance(seed, Plan) else plan(seed)
    place = folder / str(planned.seed)
    place.mkdir(parents=True)
    try:
        return World(planned, place).run()
    finally:
        shutil.rmtree(place)
