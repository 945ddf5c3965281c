"""A process that is flooded: `python -m benchmarks.flooded CASE ENDPOINT COUNT DATA` prints what came of it as JSON.

The cases: a collector before a shard that does nothing (`nothing`), before a real one (`shard`), before one that
takes nothing for `HELD_S` seconds (`held`), and a plain client of the `websockets` package (`websockets`).
Collector and shard are the objects that run as actors, here without Ray.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.ledger.origin import Origin
from actors.parcels import Stream, batches_of
from actors.symbol_shard import SymbolShard
from benchmarks.flood import SYMBOLS, numbers, prices
from config import Settings, load
from storage.column_reader import ColumnReader
from storage.ledger_log import Gap

EXCHANGE = "binance"
HELD_S = 10.0
#: What has not come by then does not come.
PATIENCE_S = 90.0

Take = Callable[[str, Mapping[str, Stream], int, Origin], Awaitable[int]]


@dataclass
class Outcome:
    """`wrong` counts trades that are missing, doubled or not as sent; memory is in bytes."""

    frames: int = 0
    seconds: float = 0.0
    wrong: int = 0
    resident_before: int = 0
    resident_peak: int = 0
    #: While the shard takes nothing: unacknowledged batches and the trades in them.
    batches_held: int = 0
    trades_held: int = 0


class NoGaps:
    """A shard that misses nothing."""

    async def remote(self, *_: object) -> list[Gap]:
        return []


class Handle:
    """Stands where a collector has the handle of a shard, and accounts for every trade of the `expected`."""

    def __init__(self, take: Take, expected: int) -> None:
        self.append = self
        self.gaps = NoGaps()
        self.complete = asyncio.Event()
        self.offered = 0
        self._take = take
        self._missing = expected
        self._times_seen = np.ones(expected, np.int8) - 1

    async def remote(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
        trades = batches_of(streams).get("trades")
        if trades is None:
            return await self._take(exchange, streams, clock_ns, origin)
        self.offered += trades.num_rows
        gaps = await self._take(exchange, streams, clock_ns, origin)
        np.add.at(self._times_seen, numbers(np.asarray(trades["trade_id"])), 1)
        self._missing -= trades.num_rows
        if self._missing <= 0:
            self.complete.set()
        return gaps

    @property
    def wrong(self) -> int:
        return int(np.count_nonzero(self._times_seen != 1))


async def nothing(endpoint: str, count: int, settings: Settings) -> Outcome:
    async def take(*_: object) -> int:
        return 0

    handle = Handle(take, count)
    outcome = Outcome(count)
    await collect(endpoint, settings, handle, outcome)
    return outcome


async def shard(endpoint: str, count: int, settings: Settings) -> Outcome:
    async def sink(*_: object) -> None:
        pass

    real = SymbolShard(0, settings, lambda table: table, sink, recorded=False)
    handle = Handle(real.append, count)
    outcome = Outcome(count)
    await collect(endpoint, settings, handle, outcome)
    await real.stop()
    outcome.wrong += wrong_in_files(settings, count)
    for symbol in SYMBOLS:
        bars = await real.bars(EXCHANGE, symbol, "1m", 100)
        outcome.wrong += abs(count // len(SYMBOLS) - int(np.sum(bars["trade_count"].to_numpy())))
    return outcome


async def held(endpoint: str, count: int, settings: Settings) -> Outcome:
    released = asyncio.Event()

    async def take(*_: object) -> int:
        await released.wait()
        return 0

    handle = Handle(take, count)
    outcome = Outcome(count)

    async def release(collector: Collector) -> None:
        await asyncio.sleep(HELD_S)
        outcome.batches_held = (await collector.status())["batches_in_flight"]
        outcome.trades_held = handle.offered
        released.set()

    await collect(endpoint, settings, handle, outcome, release)
    return outcome


async def websockets(endpoint: str, count: int, _settings: Settings) -> Outcome:
    rows: list[dict[str, Any]] = []
    outcome = Outcome(count)
    async with connect(f"{endpoint}/stream", compression=None) as connection:
        started = time.perf_counter()
        while len(rows) < count:
            rows.append(json.loads(await connection.recv()))
        outcome.seconds = time.perf_counter() - started
    return outcome


async def collect(
    endpoint: str,
    settings: Settings,
    handle: Handle,
    outcome: Outcome,
    meanwhile: Callable[[Collector], Awaitable[None]] | None = None,
) -> None:
    """Run a collector until the shard has acknowledged everything, and fill `outcome`."""
    # Nothing answers at the second address: the symbols are taken as they are.
    collector = Collector(EXCHANGE, Endpoint(endpoint, "http://127.0.0.1:1", SYMBOLS), settings, [handle])
    outcome.resident_before = memory("VmRSS")
    started = time.perf_counter()
    await collector.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            if meanwhile is not None:
                await meanwhile(collector)
            await handle.complete.wait()
    except TimeoutError:
        print(await collector.status(), file=sys.stderr)
    outcome.seconds = time.perf_counter() - started
    outcome.resident_peak = memory("VmHWM")
    outcome.wrong += handle.wrong
    await collector.stop()


def wrong_in_files(settings: Settings, count: int) -> int:
    reader = ColumnReader(settings.columns)
    times_stored = np.zeros(count, np.int64)
    wrong = 0
    for symbol in SYMBOLS:
        stored = reader.last_rows(EXCHANGE, symbol, "TRADES", count, ["id", "price64"])
        ids = stored.column("id").astype(np.int64)
        np.add.at(times_stored, numbers(ids), 1)
        wrong += int(np.count_nonzero(stored.column("price64") != prices(ids)))
    return wrong + int(np.count_nonzero(times_stored != 1))


def memory(name: str) -> int:
    """Bytes of this process: `VmRSS` resident now, `VmHWM` at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(f"the kernel does not tell {name}")


CASES = {"nothing": nothing, "shard": shard, "held": held, "websockets": websockets}


def main(case: str, endpoint: str, count: str, data: str) -> None:
    settings = load(data, {"shards": 1, "exchanges": {EXCHANGE: {"channels": ["trades", "quotes"]}}})
    print(json.dumps(asdict(asyncio.run(CASES[case](f"{endpoint}/{count}", int(count), settings)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
