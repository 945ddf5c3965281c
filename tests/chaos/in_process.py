"""The whole path from seven exchanges to the files in one process, without Ray: real servers, real collectors, real
shards; what Ray does about actors that die (start them again, make their calls again) is done here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from actors.symbol_shard import SymbolShard
from config import Settings, load
from storage.ledger_log import Gap

SYMBOLS: Mapping[str, tuple[str, ...]] = {
    "binance": ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    "bitfinex": ("tBTCUSD", "tETHUSD"),
    "bybit": ("spot:BTCUSDT", "linear:BTCUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "deribit": ("BTC-PERPETUAL", "ETH-PERPETUAL"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "okx": ("BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP"),
}
SHARDS = 2


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
        victim._delivery._shards = [_Deaf()] * len(self._shards)
        tasks = [lane.task for lane in victim._delivery._lanes if lane.task is not None]
        if victim._task is not None:
            tasks.append(victim._task)
        for task in (*tasks, *self._calls):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in victim._delivery._lanes:
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


class System:
    """Seven exchanges and all that collects them below `folder`. Use as an async context manager."""

    def __init__(self, folder: Path, seed: int, trades_per_second: float) -> None:
        self.folder = folder
        self.truth = folder / "simulator" / "columns"
        self.settings = load(
            folder,
            {
                "source": "live",
                "shards": SHARDS,
                "collector": {"flush_interval_ms": 10},
                "shard": {"commit_interval_ms": 10, "share_interval_ms": 200},
            },
        )
        self.servers = {
            exchange: ExchangeServer(
                DIALECTS[exchange]({symbol: DIALECTS[exchange].listing(symbol) for symbol in symbols}),
                seed,
                trades_per_second,
                self.truth,
            )
            for exchange, symbols in SYMBOLS.items()
        }
        self.shards: list[ShardProcess] = []
        self.collectors: dict[str, CollectorProcess] = {}

    async def __aenter__(self) -> "System":
        self.shards = [ShardProcess(index, self.settings) for index in range(SHARDS)]
        for exchange, server in self.servers.items():
            endpoint = Endpoint(*await server.start(), SYMBOLS[exchange])
            self.collectors[exchange] = CollectorProcess(exchange, endpoint, self.settings, self.shards)
            await self.collectors[exchange].collector.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.faults.end_all()
        await asyncio.gather(*(process.collector.stop() for process in self.collectors.values()))
        await asyncio.gather(*(process.shard.stop() for process in self.shards))
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    async def kill_collector(self, exchange: str) -> None:
        await self.collectors[exchange].kill()

    def kill_shard(self, index: int) -> None:
        self.shards[index].kill()

    async def kill_everything(self) -> None:
        """All shards and collectors at once; the exchanges go on."""
        for process in self.shards:
            process.kill()
        await asyncio.gather(*(process.kill() for process in self.collectors.values()))

    async def gaps(self, open_only: bool) -> list[Gap]:
        return [gap for process in self.shards for gap in await process.shard.gaps(None, open_only)]

    async def integrity(self) -> list[dict[str, Any]]:
        return [row for process in self.shards for row in await process.shard.integrity(None)]

    async def illness(self, exchange: str) -> str:
        """Why not all is well at an exchange; "" when every symbol is subscribed, every book synced and no gap open
        that can be repaired."""
        process = self.collectors[exchange]
        await process.watch()
        for row in await process.collector.symbols():
            if row["state"] != "subscribed":
                return f"{row['symbol']} is {row['state']}: {row['reason']}"
            if row["book"] != "synced":
                return f"the book of {row['symbol']} is {row['book']}: {row['book_why']}"
        for gap in await self.gaps(open_only=True):
            if gap.exchange == exchange and exchange not in UNREPAIRABLE:
                return f"gap of {gap.symbol}, {gap.attempts} attempts: {gap.reason}: {gap.evidence or 'no word'}"
        return ""

    async def settled(self) -> str:
        """Why the halted exchanges are not all stored yet; "" when they are."""
        for shard in self.shards:
            if failure := (await shard.shard.status())["failure"]:
                return f"{shard.shard!r}: {failure}"
        for exchange, process in self.collectors.items():
            if illness := await self.illness(exchange):
                return f"{exchange}: {illness}"
            status = await process.collector.status()
            if status["frames_waiting"] or status["batches_in_flight"]:
                return f"{exchange}: {status['batches_in_flight']} batches are on their way: {status['failure']}"
        return ""


#: Its recent trades over REST reach back so little that a long fault leaves a gap for good: it must say so.
UNREPAIRABLE = frozenset(("bybit",))


class _Deaf:
    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *_: asyncio.Event().wait())


async def _nowhere(_kind: str, _exchange: str, _shared: Any) -> None:
    """No sink."""
