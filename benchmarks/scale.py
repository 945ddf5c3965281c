"""What more costs: shards, hosts, symbols, clients. `python -m benchmarks.scale [shards|hosts|symbols|clients ...]`.

A whole instance collects from an exchange in a process of its own, which trades at a rate it is told. All processes,
and all hosts, share the processors of one machine, so that many together are never faster than one: what counts is the
processor time of a trade, a symbol, a client (beyond what the same instance takes when nothing happens), the bytes
between hosts, and how long trades are on their way. Costs of one more are slopes of lines through three points.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import numpy as np
from picows import ws_connect
from rich.console import Console

from benchmarks.costs import STAGES, Taken, percentile_ms, slope
from benchmarks.live import Counting
from benchmarks.scale_systems import EXCHANGE, System, on_hosts, one_host
from benchmarks.table import Bound, Row, UnavailableError, show

SHARDS: Final = (1, 2, 4)
HOSTS: Final = (1, 2, 3)
#: On all hosts together, however many there are.
SHARDS_ON_HOSTS: Final = 3
#: Whose trades are spread over the shards; a second, all together.
SPREAD: Final = 40
RATE: Final = 10_000
#: More than anybody takes.
FLOOD: Final = 3_000_000
FLOOD_S: Final = 4.0
SYMBOLS: Final = (50, 200, 800)
#: Trades a second of each symbol, and as many quotes.
QUIET, BUSY = 0.1, 5.0
CLIENTS: Final = (100, 500, 2_000)
READERS: Final = (10, 20, 40)
#: Requests a second of each reader.
ASKED: Final = 10
#: Symbols that clients look at, and trades and quotes a second of each.
WATCHED, WATCHED_RATE = 20, 5.0
#: A state lasts this long before it is measured, and so long it is.
SETTLE_S: Final = 2.0
MEASURED_S: Final = 8.0
MINUTE_S: Final = 60.0
#: Connections that are opened at once.
AT_ONCE: Final = 50
#: Kinds of processes that are told by name; the others together.
TOLD: Final = ("collector", "shard", "database (embedded ClickHouse)", "live hub", "live replica")
#: Those that have to do with symbols, with clients of the live feed, and with those of `/api/data`.
OF_SYMBOLS: Final = (*TOLD, "other actors", "redis (embedded)")
OF_LIVE: Final = ("live replica", "live hub", "the edge, and Serve's")
OF_DATA: Final = ("data replica", "the edge, and Serve's")


@dataclass
class Cost:
    """Of a while: by kind of process the cores it used, and its bytes at the end; bytes a second between hosts."""

    cores: dict[str, float] = field(default_factory=dict)
    memory: Counter[str] = field(default_factory=Counter)
    processes: Counter[str] = field(default_factory=Counter)
    wires: float = 0.0

    @property
    def all_cores(self) -> float:
        return sum(self.cores.values())


class Watch:
    """Measures a system for a while: what it costs inside the block, found in `cost` after it."""

    def __init__(self, system: System, memory: bool = False) -> None:
        self._system, self._memory = system, memory
        self.cost = Cost()

    def __enter__(self) -> "Watch":
        self._before, self._carried, self._began = self._system.taken(), self._system.wires(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        took, carried = time.monotonic() - self._began, self._system.wires()
        after: Taken = self._system.taken()
        cores = {kind: used / took for kind, used in after.since(self._before).items()}
        memory = self._system.taken(memory=True).memory if self._memory else Counter()
        self.cost = Cost(cores, memory, after.processes, (carried - self._carried) / took)


@dataclass
class Spread:
    """What came of trades that are spread over shards: at a rate, and as many as are taken."""

    idle: Cost
    #: Processor seconds of a million trades, all and of kinds of processes; bytes between hosts of each trade.
    cpu: float
    cpu_of: dict[str, float]
    wire_bytes: float
    #: By stage, p50 and p99; and from received to a client of the live feed.
    stages_ms: dict[str, tuple[float, float]]
    seen_ms: tuple[float, float]
    most: float
    most_cpu: float
    missing: int


def measured_spread(system: System) -> Spread:
    """One state of a system; raises TimeoutError when it does not store what it is given."""
    system.market.trade(0)
    time.sleep(SETTLE_S)
    with Watch(system) as idle:
        time.sleep(MEASURED_S)
    system.market.trade(RATE)
    time.sleep(SETTLE_S)
    lags_before, sent = system.lags(), system.market.counts()["trades"]
    with Watch(system) as busy:
        seen = asyncio.run(_seen(system.url, system.market.names[0]))
    trades = system.market.counts()["trades"] - sent
    lags_after = system.lags()
    system.market.trade(0)
    whole = system.all_stored()

    before, began = system.market.counts()["trades"], time.monotonic()
    with Watch(system) as flooded:
        system.market.trade(FLOOD)
        time.sleep(FLOOD_S)
        system.market.trade(0)
        whole = system.all_stored() and whole
        took = time.monotonic() - began
    flood = system.market.counts()["trades"] - before
    rate = trades / MEASURED_S
    over = {kind: (used - idle.cost.cores.get(kind, 0.0)) / rate * 1e6 for kind, used in busy.cost.cores.items()}
    return Spread(
        idle.cost,
        sum(over.values()),
        over,
        (busy.cost.wires - idle.cost.wires) / rate,
        {one: tuple(percentile_ms(lags_before, lags_after, one, part) for part in (0.5, 0.99)) for one in STAGES},  # type: ignore[misc]
        (float(np.percentile(seen, 50)), float(np.percentile(seen, 99))),
        flood / took,
        (flooded.cost.all_cores - idle.cost.all_cores) * took / flood * 1e6,
        0 if whole and system.in_files() == system.market.counts()["trades"] else _lost(system),
    )


def _lost(system: System) -> int:
    return abs(system.market.counts()["trades"] - system.in_files())


async def _seen(url: str, symbol: str) -> list[float]:
    """Milliseconds from received to a client that gets every trade of a symbol, for a while."""
    counts = SimpleNamespace(updates=0, lost=0, received=[], measuring=True)
    async with _client(url, {"topics": [f"trades:{EXCHANGE}:{symbol}"]}, counts, timed=True):
        await asyncio.sleep(MEASURED_S)
    return [took / 1e6 for took in counts.received]


@asynccontextmanager
async def _client(url: str, subscribe: Mapping[str, Any], counts: SimpleNamespace, timed: bool = False) -> Any:
    transport = await _connected(url, subscribe, counts, timed)
    yield
    transport.disconnect()


async def _connected(url: str, subscribe: Mapping[str, Any], counts: SimpleNamespace, timed: bool = False) -> Any:
    said = {"type": "subscribe", **subscribe}
    address = f"ws{url.removeprefix('http')}/ws"
    return (await ws_connect(lambda: Counting(said, counts, timed), address, websocket_handshake_timeout=60))[0]


def shards() -> list[Row]:
    """One host, and more and more shards."""
    found = {}
    with one_host(SPREAD, channels=("trades",), shards=SHARDS[0]) as system:
        for count in SHARDS:
            system.scale(count)
            found[count] = measured_spread(system)
            _note(f"{count} shards", found[count])
    return _spread_rows(found, "shards on 1 host")


def hosts() -> list[Row]:
    """The same shards on more and more hosts."""
    found = {}
    with on_hosts(SPREAD, max(HOSTS), channels=("trades",), shards=SHARDS_ON_HOSTS) as (system, add_host):
        for count in HOSTS:
            if count > HOSTS[0]:
                add_host()
                system.scale(SHARDS_ON_HOSTS)
            found[count] = measured_spread(system)
            _note(f"{count} hosts", found[count])
    return _spread_rows(found, f"hosts with {SHARDS_ON_HOSTS} shards")


def _spread_rows(found: Mapping[int, Spread], of: str) -> list[Row]:
    first = found[min(found)]
    peer = f"with {min(found)}"
    rows = []
    for count, one in found.items():
        stages = ", ".join(
            f"{name.replace('_', ' ')} {p50:.1f} and {p99:.1f}" for name, (p50, p99) in one.stages_ms.items()
        )
        rows += [
            Row(
                f"scale: {count} {of}: a million trades",
                one.cpu,
                "s of processor",
                first.cpu,
                peer,
                note=f"at {RATE:,} trades/s: {_by_kind(one.cpu_of)}; with nothing to do "
                f"{one.idle.all_cores:.2f} of a core, {sum(one.idle.processes.values())} processes",
            ),
            Row(
                f"scale: {count} {of}: received until at a client, p99",
                one.seen_ms[1],
                "ms",
                first.seen_ms[1],
                peer,
                note=f"median {one.seen_ms[0]:.0f} ms; p50 and p99 of stages, ms: {stages}",
            ),
            Row(
                f"scale: {count} {of}: the most",
                one.most,
                "trades/s",
                first.most,
                peer,
                note=f"{FLOOD_S:g} s of a flood until stored; a million takes {one.most_cpu:.1f} s of processor",
            ),
        ]
        if "hosts" in of:
            rows.append(Row(f"scale: {count} {of}: between hosts", one.wire_bytes, "bytes a trade"))
    missing = sum(one.missing for one in found.values())
    return [*rows, Row(f"scale: {of}: missing or doubled", missing, "trades", bound=Bound(at_most=0))]


def symbols() -> list[Row]:
    """An instance with few, more and many symbols, quiet and busy, each for a minute: at its end bars close, and
    features are made of them."""
    costs: dict[str, list[Cost]] = {"quiet": [], "busy": []}
    with one_host(max(SYMBOLS), first=SYMBOLS[0], shards=2) as system:
        system.market.trade(QUIET * max(SYMBOLS), quotes=True)
        # What is made at the end of a minute is loaded when it is made first.
        time.sleep(MINUTE_S - time.time() % MINUTE_S + 2 * SETTLE_S)
        for count in SYMBOLS:
            system.collect(count)
            for state, rate in (("quiet", QUIET), ("busy", BUSY)):
                system.market.trade(rate * max(SYMBOLS), quotes=True)
                time.sleep(SETTLE_S)
                with Watch(system, memory=True) as watch:
                    time.sleep(MINUTE_S)
                costs[state].append(watch.cost)
                _note(f"{count} symbols, {state}", watch.cost)
    each = "symbol with {:g} trades and quotes/s"
    return [
        *_slope_rows(each.format(QUIET), SYMBOLS, costs["quiet"], OF_SYMBOLS, memory=False),
        *_slope_rows(each.format(BUSY), SYMBOLS, costs["busy"], OF_SYMBOLS),
    ]


def clients() -> list[Row]:
    """More and more clients of the live feed, and then of `/api/data`."""
    with one_host(WATCHED, shards=1) as system:
        system.market.trade(WATCHED_RATE * WATCHED, quotes=True)
        time.sleep(2 * SETTLE_S)
        live = asyncio.run(_live(system))
        readers = [asyncio.run(_read(system, count)) for count in READERS]
    return [
        *_slope_rows("live client with an update/s", CLIENTS, live, OF_LIVE),
        *_slope_rows(f"client with {ASKED} requests/s to /api/data", READERS, readers, OF_DATA, memory=False),
    ]


async def _live(system: System) -> list[Cost]:
    counts = SimpleNamespace(updates=0, lost=0, received=[], measuring=False)
    names, open_ones, costs = system.market.names, [], []
    for count in CLIENTS:
        while (there := len(open_ones)) < count:
            topics = [
                f"quotes:{EXCHANGE}:{names[one % len(names)]}" for one in range(there, min(there + AT_ONCE, count))
            ]
            open_ones += await asyncio.gather(
                *(_connected(system.url, {"topics": [one], "rate": 1}, counts) for one in topics)
            )
        await asyncio.sleep(SETTLE_S)
        before = counts.updates
        with Watch(system, memory=True) as watch:
            await asyncio.sleep(MEASURED_S)
        costs.append(watch.cost)
        got = (counts.updates - before) / MEASURED_S
        _note(f"{count} clients, {got:.0f} updates/s, {counts.lost} lost", watch.cost)
        if counts.lost or got < 0.8 * count:
            raise UnavailableError(f"{count} clients got {got:.0f} updates/s, {counts.lost} were disconnected")
    for transport in open_ones:
        transport.disconnect()
    return costs


async def _read(system: System, count: int) -> Cost:
    """`count` clients ask at their rate."""
    answered = Counter[int]()

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        due = time.monotonic() + number / count / ASKED
        name = system.market.names[number % len(system.market.names)]
        while True:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            due += 1 / ASKED
            query = f"exchange={EXCHANGE}&symbol={name}&type=TRADES&start={int(time.time()) - 10}&end=4294967295"
            async with session.get(f"{system.url}/api/data?{query}&columns=time,price64,id") as answer:
                await answer.read()
                answered[answer.status] += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(ask(session, number)) for number in range(count)]
        await asyncio.sleep(SETTLE_S)
        before = answered[200]
        with Watch(system, memory=True) as watch:
            await asyncio.sleep(MEASURED_S)
        rate = (answered[200] - before) / MEASURED_S
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    _note(f"{count} readers, {rate:.0f} answers/s", watch.cost)
    if rate < 0.8 * count * ASKED:
        raise UnavailableError(f"{count} readers got {rate:.0f} answers/s: {dict(answered)}")
    return watch.cost


def _slope_rows(
    each: str, counts: Sequence[int], costs: Sequence[Cost], kinds: Sequence[str], memory: bool = True
) -> Iterator[Row]:
    """What one more costs, together and by kind of process (those that have to do with it)."""

    def row(unit: str, of: Callable[[Cost, str], float], scale: float, base: tuple[str, float]) -> Row:
        lines = {kind: slope(counts, [of(cost, kind) for cost in costs]) for kind in kinds}
        note = ", ".join(
            f"{kind} {more * scale:,.3g} and {nothing * base[1]:,.3g} {base[0]} without any"
            for kind, (nothing, more) in lines.items()
        )
        points = " to ".join(f"{count:,}" for count in (counts[0], counts[-1]))
        total = sum(more for _, more in lines.values()) * scale
        return Row(f"scale: one more {each}", total, unit, note=f"{points}: {note}")

    yield row("us of processor/s", lambda cost, kind: cost.cores.get(kind, 0.0), 1e6, ("of a core", 1.0))
    if memory:
        yield row("KB", lambda cost, kind: float(cost.memory[kind]), 1e-3, ("MB", 1e-6))


def _by_kind(amounts: Mapping[str, float]) -> str:
    told = [f"{kind} {amounts[kind]:.1f}" for kind in TOLD if amounts.get(kind, 0.0) >= 0.05]
    return ", ".join([*told, f"others {sum(amounts.values()) - sum(amounts.get(kind, 0.0) for kind in TOLD):.1f}"])


def _note(what: str, found: object) -> None:
    print(f"  {what}: {json.dumps(found, default=vars)}", file=sys.stderr, flush=True)


PARTS: Final[dict[str, Callable[[], list[Row]]]] = {
    "shards": shards,
    "hosts": hosts,
    "symbols": symbols,
    "clients": clients,
}


def rows() -> list[Row]:
    """All parts; one that cannot be measured says why."""
    return [row for name in PARTS for row in rows_of(name)]


def rows_of(name: str) -> list[Row]:
    """The rows of a part."""
    try:
        return PARTS[name]()
    except UnavailableError as missing:
        return [Row(f"scale: {name}", None, note=f"not measured: {missing}")]


def main(names: list[str]) -> int:
    if unknown := [name for name in names if name not in PARTS]:
        print(f"no part named {', '.join(unknown)}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    # As in `benchmarks.__main__`: what was started ends while the stack unwinds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found = [row for name in names or PARTS for row in rows_of(name)]
    show(found, Console(width=None if sys.stdout.isatty() else 200))
    return 1 if any(row.held is False for row in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
