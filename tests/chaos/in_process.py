"""The whole path from the exchanges to the files in this process, without Ray: real servers, real collectors, real
shards; what Ray does about actors that die (start them again, make their calls again) is done here.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.symbol_shard import SymbolShard
from config import Settings, load
from storage.ledger_log import Gap
from tests.chaos.exchanges import UNREPAIRABLE, Exchanges
from tests.chaos.schedule import KILLS, REST_AWAY, Kill, Outage
from tests.chaos.system import COLLECTOR, SHARDS


class ShardProcess:
    """Where a shard runs: `kill` ends it as SIGKILL does, and another begins with what the files hold."""

    def __init__(self, index: int, settings: Settings) -> None:
        self._index = index
        self._settings = settings
        self._begin()

    def kill(self) -> None:
        for task in self.shard._tasks:
            task.cancel()
        died = self._died
        self._begin()
        died.set()

    async def call(self, method: str, *arguments: Any) -> Any:
        """As Ray makes a call: again, when the shard dies before it has answered."""
        while True:
            died = self._died
            answer = asyncio.ensure_future(getattr(self.shard, method)(*arguments))
            death = asyncio.ensure_future(died.wait())
            try:
                await asyncio.wait((answer, death), return_when=asyncio.FIRST_COMPLETED)
                if not died.is_set():
                    return answer.result()
            finally:
                for task in (answer, death):
                    task.cancel()

    def _begin(self) -> None:
        self._died = asyncio.Event()
        self.shard = SymbolShard(self._index, self._settings, lambda table: table, _nowhere, recorded=False)


class Handle:
    """What one collector process holds of a shard: with the process its calls end."""

    def __init__(self, process: ShardProcess, calls: set["asyncio.Task[Any]"]) -> None:
        self._process = process
        self._calls = calls

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *arguments: self._call(method, arguments))

    async def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        task = asyncio.ensure_future(self._process.call(method, *arguments))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await task


class CollectorProcess:
    """Where a collector runs. Killed, it says and writes nothing more, its sockets are cut, and another begins."""

    def __init__(self, exchange: str, endpoint: Endpoint, settings: Settings, shards: Sequence[ShardProcess]) -> None:
        self._arguments = (exchange, endpoint, settings)
        self._shards = shards
        self._dying: set[asyncio.Task[Any]] = set()
        self._begin()

    async def kill(self) -> None:
        victim = self.collector
        for connection in victim._roster.connections:
            for one in (connection, connection.successor):
                if one is not None and one._transport is not None:
                    one._transport.disconnect(False)
        # Nobody hears what it says while its tasks end.
        victim._routes.shards = dict.fromkeys(victim._routes.shards, _Deaf())
        tasks = [lane.task for lane in victim._delivery._lanes.values() if lane.task is not None]
        if victim._task is not None:
            tasks.append(victim._task)
        for task in (*tasks, *self._calls):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in victim._delivery._lanes.values():
            if lane.task is not None:
                lane.task.cancel()
        self._begin()
        await self.collector.start()

    async def watch(self) -> None:
        """Start it again when its work failed, as the supervisor does."""
        if not (await self.collector.status())["running"]:
            await self.collector.start()

    def _begin(self) -> None:
        self._calls: set[asyncio.Task[Any]] = set()
        self.collector = Collector(*self._arguments, [Handle(shard, self._calls) for shard in self._shards])


class InProcess:
    """All that collects from the exchanges, below `folder`. Use as an async context manager."""

    harms = (*KILLS, REST_AWAY)

    def __init__(self, folder: Path, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._settings = load(
            folder,
            {
                "source": "live",
                "shards": SHARDS,
                "collector": {"flush_interval_ms": 10, **COLLECTOR},
                "shard": {"commit_interval_ms": 10, "share_interval_ms": 200},
            },
        )
        self.columns = self._settings.columns
        self._shards: list[ShardProcess] = []
        self._collectors: dict[str, CollectorProcess] = {}

    async def __aenter__(self) -> "InProcess":
        self._shards = [ShardProcess(index, self._settings) for index in range(SHARDS)]
        for exchange, endpoint in self._exchanges.endpoints.items():
            self._collectors[exchange] = CollectorProcess(exchange, endpoint, self._settings, self._shards)
            await self._collectors[exchange].collector.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(process.collector.stop() for process in self._collectors.values()))
        await asyncio.gather(*(process.shard.stop() for process in self._shards))

    async def kill(self, what: Kill, exchange: str) -> bool:
        match what.kind:
            case "kill_collector":
                await self._collectors[exchange].kill()
            case "kill_shard":
                self._shards[what.shard].kill()
            case _:
                # All at once.
                for process in self._shards:
                    process.kill()
                await asyncio.gather(*(process.kill() for process in self._collectors.values()))
        return True

    async def outage(self, what: Outage) -> bool:
        raise ValueError(f"there is no {what.kind} without Ray")

    async def depths(self, exchange: str) -> list[dict[str, Any]]:
        batches = await self._collectors[exchange].collector.book(None, None)
        return [depth for batch in batches for depth in batch.to_pylist()]

    def memory(self) -> dict[str, int]:
        return {"all in one process": psutil.Process().memory_info().rss}

    async def gaps(self) -> list[Gap]:
        return [gap for process in self._shards for gap in await process.shard.gaps(None, False)]

    async def integrity(self) -> list[dict[str, Any]]:
        return [row for process in self._shards for row in await process.shard.integrity(None)]

    async def ill(self) -> dict[str, str]:
        found = {}
        for gap in await self.gaps():
            if gap.closed is None and gap.exchange not in UNREPAIRABLE:
                said = gap.evidence or "no word"
                found[gap.exchange] = f"gap of {gap.symbol}, {gap.attempts} attempts: {gap.reason}: {said}"
        for exchange, process in self._collectors.items():
            await process.watch()
            for row in await process.collector.symbols():
                if row["state"] != "subscribed":
                    found[exchange] = f"{row['symbol']} is {row['state']}: {row['reason']}"
                elif row["book"] != "synced":
                    found[exchange] = f"the book of {row['symbol']} is {row['book']}: {row['book_why']}"
        return found

    async def on_its_way(self) -> str:
        for shard in self._shards:
            if failure := (await shard.shard.status())["failure"]:
                return f"{shard.shard!r}: {failure}"
        for exchange, process in self._collectors.items():
            status = await process.collector.status()
            if status["frames_waiting"] or status["batches_in_flight"]:
                return f"{exchange}: {status['batches_in_flight']} batches are on their way: {status['failure']}"
        return ""

    async def behind(self) -> list[str]:
        return []

    async def looked_twice(self, seconds: float) -> bool:
        ages = [(await self._collectors[exchange].collector.status())["compared_s"] for exchange in UNREPAIRABLE]
        return all(age is not None and age < seconds for age in ages)


class _Deaf:
    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *_: asyncio.Event().wait())


async def _nowhere(_tables: object) -> None:
    """No sink."""
