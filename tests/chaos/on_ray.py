"""A whole instance that collects from the exchanges, started as a user would; its processes are killed and stopped by
signals.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from queue import Empty
from typing import Any

import psutil
import yaml

from storage.column_reader import ColumnReader
from storage.ledger_log import Gap
from tests.chaos.exchanges import UNREPAIRABLE, Exchanges
from tests.chaos.schedule import KILL_TREE, KILLS, OUTAGES, SINK_KILLS, Kill, Outage
from tests.chaos.system import COLLECTOR, SHARDS
from tests.cluster.running import Instance, command_line, rayfeed_up

#: Processes whose memory is measured, by their title.
_MEASURED = {"Collector": "collectors", "SymbolShard": "shards", "Database": "database", "Publisher": "publisher"}

#: Of each symbol how many trades there are, and how many with an id of their own.
_COUNTS = (
    "SELECT exchange, symbol, count() AS found, uniqExact(trade_id) AS ids FROM trades FINAL GROUP BY exchange, symbol"
)


class NoAnswer(Exception):
    """The instance cannot be asked now."""


class OnRay:
    """Its data folder is below `folder`. Use as an async context manager."""

    harms = (*KILLS, *SINK_KILLS, KILL_TREE, *OUTAGES)

    def __init__(self, folder: Path, exchanges: Exchanges) -> None:
        self._data = folder / "data"
        self.columns = self._data / "columns"
        self._exchanges = exchanges
        self._started = contextlib.ExitStack()
        self._instance: Instance | None = None
        self._asking = asyncio.Lock()
        self._tree = asyncio.Lock()

    async def __aenter__(self) -> "OnRay":
        own = {
            exchange: {"websocket": endpoint.websocket, "rest": endpoint.rest, "symbols": list(endpoint.symbols)}
            for exchange, endpoint in self._exchanges.endpoints.items()
        }
        self._data.mkdir(parents=True)
        settings = {"source": "live", "shards": SHARDS, "collector": COLLECTOR, "exchanges": own}
        (self._data / "settings.yaml").write_text(yaml.safe_dump(settings))
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._started.close)

    async def kill(self, what: Kill, exchange: str) -> bool:
        if what.kind == KILL_TREE:
            async with self._tree:
                await asyncio.to_thread(self._kill_tree)
                async with self._asking:
                    await asyncio.to_thread(self._start)
            return True
        match what.kind:
            # Found without asking anybody: who is just starting is killed like anybody else.
            case "kill_redis":
                found = self._redis()
            case "kill_database":
                found = self._processes("Database")
            case "kill_shard":
                found = self._processes("SymbolShard")[what.shard :][:1]
            case _:
                try:
                    pids = await self._actors()
                except NoAnswer:
                    return False
                prefixes = f"collector:{exchange}" if what.kind == "kill_collector" else ("collector:", "shard:")
                found = [pid for name, pid in pids.items() if name.startswith(prefixes)]
        return sum(_signalled(pid, signal.SIGKILL) for pid in found) > 0

    async def outage(self, what: Outage) -> bool:
        # Not while the whole instance is started again.
        async with self._tree:
            # ClickHouse is in the actor.
            pids = self._redis() if what.kind == "outage_redis" else self._processes("Database")
        for pid in pids:
            _signalled(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(what.seconds)
        finally:
            for pid in pids:
                _signalled(pid, signal.SIGCONT)
        return bool(pids)

    async def behind(self) -> list[str]:
        said = await self._ask(
            f"answer = ray.get(find_actor('database').query.remote({_COUNTS!r}), timeout=60).to_pylist()"
        )
        rows = {(row["exchange"], row["symbol"]): (row["found"], row["ids"]) for row in said}
        reader, wrong = ColumnReader(self.columns, rescan_s=0), []
        for exchange, symbols in reader.symbols().items():
            for symbol in symbols:
                stored = reader.select(exchange, symbol, "TRADES", 0, 1 << 63, ["id"]).column("id")
                expected = (len(stored), len(stored))
                if (found := rows.get((exchange, symbol), (0, 0))) != expected:
                    wrong.append(f"{exchange} {symbol}: ClickHouse has {found[0]} trades, the files {expected[0]}")
        return wrong

    async def gaps(self) -> list[Gap]:
        rows = await self._ask("answer = ray.get(find_actor('supervisor').gaps.remote(None, None, False))")
        return [Gap(**row) for row in rows]

    async def integrity(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._ask(
            "answer = ray.get(find_actor('supervisor').integrity.remote(), timeout=30)"
        )
        return rows

    async def ill(self) -> dict[str, str]:
        try:
            rows = await self.integrity()
        except NoAnswer as error:
            return dict.fromkeys(self._exchanges.servers, str(error))
        known = {row["exchange"] for row in rows}
        found = {
            exchange: "nothing of it is collected" for exchange in self._exchanges.servers if exchange not in known
        }
        for row in rows:
            if row["state"] == "gapped" and row["exchange"] in UNREPAIRABLE and row["book_state"] == "synced":
                continue
            if row["state"] != "synced" or row["trades_state"] is None:
                found[row["exchange"]] = f"{row['symbol']} is {row['state']}: {row['why'] or 'it has no trades'}"
        return found

    async def on_its_way(self) -> str:
        said = await self._ask(
            "actors = ray.get(find_actor('supervisor').status.remote())\n"
            "names = [name for name in actors if name.startswith(('collector:', 'shard:'))]\n"
            "answer = dict(zip(names, ray.get([find_actor(name).status.remote() for name in names], timeout=30)))"
        )
        for name, status in said.items():
            if status["failure"]:
                return f"{name}: {status['failure']}"
            if status.get("frames_waiting") or status.get("batches_in_flight"):
                return f"{name}: {status['batches_in_flight']} batches are on their way"
        return ""

    async def looked_twice(self, seconds: float) -> bool:
        try:
            ages = await self._ask(
                f"names = {[f'collector:{exchange}' for exchange in UNREPAIRABLE]}\n"
                "said = ray.get([find_actor(name).status.remote() for name in names], timeout=30)\n"
                "answer = [status['compared_s'] for status in said]"
            )
        except NoAnswer:
            return False
        return all(age is not None and age < seconds for age in ages)

    async def depths(self, exchange: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._ask(
            f"batches = ray.get(find_actor('collector:{exchange}').book.remote(None, None), timeout=30)\n"
            "columns = ['symbol', 'state', 'bids', 'asks']\n"
            "answer = [row for batch in batches for row in batch.select(columns).to_pylist()]"
        )
        return rows

    def memory(self) -> dict[str, int]:
        sizes = dict.fromkeys(_MEASURED.values(), 0)
        for one, title in self._family():
            if title in _MEASURED:
                with contextlib.suppress(psutil.NoSuchProcess):
                    sizes[_MEASURED[title]] += one.memory_info().rss
        return sizes

    def _family(self) -> list[tuple[psutil.Process, str]]:
        """All processes of the instance with what they are: the class of an actor, or the command."""
        assert self._instance is not None
        try:
            found = psutil.Process(self._instance.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        commands = [(one, " ".join(command_line(one))) for one in found]
        # ray::Collector, and while it is asked ray::Collector.status
        return [
            (one, command[5:].partition(".")[0].strip() if command.startswith("ray::") else command)
            for one, command in commands
        ]

    def _processes(self, title: str) -> list[int]:
        return sorted(one.pid for one, known in self._family() if known == title)

    def _redis(self) -> list[int]:
        return [one.pid for one, command in self._family() if "redis-server" in command]

    async def _actors(self) -> dict[str, int]:
        """Processes by the name of the actor."""
        said = await self._ask("answer = ray.get(find_actor('supervisor').status.remote(), timeout=10)")
        return {name: status["pid"] for name, status in said.items() if "pid" in status}

    async def _ask(self, code: str) -> Any:
        async with self._asking:
            assert self._instance is not None
            try:
                return await asyncio.to_thread(self._instance.inside, code)
            except (Empty, ValueError, OSError, AssertionError) as error:
                self._instance.detach()
                reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                raise NoAnswer(f"the instance does not answer: {reason[0]}") from None

    def _start(self) -> None:
        self._instance = self._started.enter_context(rayfeed_up(self._data, "--source", "live"))

    def _kill_tree(self) -> None:
        assert self._instance is not None
        process = psutil.Process(self._instance.process.pid)
        family = [process, *process.children(recursive=True)]
        for one in family:
            _signalled(one.pid, signal.SIGKILL)
        self._instance.interrupt()
        self._instance.process.wait()
        psutil.wait_procs(family, timeout=10)


def _signalled(pid: int, which: signal.Signals) -> bool:
    """False when there is no such process."""
    try:
        os.kill(pid, which) if pid else None
    except ProcessLookupError:
        return False
    return bool(pid)
