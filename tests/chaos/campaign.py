"""Runs a campaign without Ray and holds what is stored against what was made.

.venv/bin/python -m tests.chaos.campaign --seed 1 --faults 200 --seconds 120 --out OUTPUT
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from actors import collector
from actors.feeds.registry import FEEDS
from actors.simulator.dialects import DIALECTS
from actors.simulator.fault_kinds import Fault
from actors.simulator.faults import Injected
from tests.chaos.checks import check_book, check_gaps, check_trades
from tests.chaos.in_process import SHARDS, SYMBOLS, UNREPAIRABLE, System
from tests.chaos.plots import plot_memory
from tests.chaos.recovery import Recoveries
from tests.chaos.schedule import Kill, Outage, Planned, plan

#: How often it is looked whether all is well.
_LOOK_S = 0.1
#: From the last fault until all is well again.
RECOVER_S = 120.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """So many faults in so many seconds, none longer than `longest_s`, at so many trades a second of each exchange."""

    seed: int
    faults: int
    seconds: float
    trades_per_second: float = 200.0
    longest_s: float = 3.0

    @property
    def command(self) -> str:
        return (
            f".venv/bin/python -m tests.chaos.campaign --seed {self.seed} --faults {self.faults} "
            f"--seconds {self.seconds:g} --rate {self.trades_per_second:g} --longest {self.longest_s:g}"
        )


@dataclass(slots=True)
class Result:
    """What a campaign found. `done` counts per kind of fault what it really did, `memory` is (s, bytes)."""

    wrong: list[str]
    planned: list[Planned]
    done: Counter[str]
    recoveries: Recoveries
    memory: list[tuple[float, int]]
    trades: int
    gaps: int
    seconds: float


async def run(campaign: Campaign, folder: Path) -> Result:
    """Run it below an empty folder."""
    planned = plan(campaign.seed, campaign.faults, campaign.seconds, SYMBOLS, SHARDS, longest_s=campaign.longest_s)
    began = time.monotonic()
    async with System(folder, campaign.seed, campaign.trades_per_second) as system:
        running = _Running(system, planned)
        await _until(running.all_well, RECOVER_S)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(running.watch()), tasks.create_task(running.remember())]
            await running.play()
            calm = await _until(running.all_recovered, RECOVER_S)
            for task in watching:
                task.cancel()
        wrong = [] if calm else [f"not well {RECOVER_S:g} s after the last fault: {one}" for one in await running.ill()]
        for server in system.servers.values():
            await server.halt()
        if not await _until(running.settled, RECOVER_S):
            wrong.append(f"not settled {RECOVER_S:g} s after the halt: {await system.settled()}")
        wrong += await running.wrong_books()
        gaps, integrity = await system.gaps(open_only=False), await system.integrity()
        wrong += check_gaps(gaps, UNREPAIRABLE)
        stored = await asyncio.to_thread(check_trades, system.settings.columns, system.truth, integrity, gaps)
        wrong += [f"{one.exchange} {one.symbol}: {what}" for one in stored for what in one.wrong]
        known = {(one.exchange, one.symbol) for one in stored}
        wrong += [
            f"{exchange} {symbol}: no ledger knows it"
            for exchange, symbols in SYMBOLS.items()
            for symbol in symbols
            if (exchange, symbol) not in known
        ]
    trades = sum(one.made for one in stored)
    took = time.monotonic() - began
    return Result(wrong, planned, running.done, running.recoveries, running.memory, trades, len(gaps), took)


class _Running:
    """A campaign while it goes on."""

    def __init__(self, system: System, planned: list[Planned]) -> None:
        self._system = system
        self._planned = planned
        self.recoveries = Recoveries()
        self.done: Counter[str] = Counter()
        self.memory: list[tuple[float, int]] = []
        self._began = time.monotonic()
        #: Faults that last, and where.
        self._injected: list[tuple[str, Injected]] = []

    async def play(self) -> None:
        """Do everything when it is due."""
        self._began = time.monotonic()
        for one in self._planned:
            await asyncio.sleep(self._began + one.at - time.monotonic())
            await self._do(one)

    async def watch(self) -> None:
        """Look which exchanges are well, again and again."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            for entry in [one for one in self._injected if one[1].ended is not None]:
                exchange, injected = entry
                self._injected.remove(entry)
                # The loop's clock is the monotonic one.
                self.recoveries.over(injected.fault.kind, [exchange], injected.ended or now)
                self.done[injected.fault.kind] += injected.done
            for exchange in SYMBOLS:
                if not await self._system.illness(exchange):
                    self.recoveries.well(exchange, now)

    async def remember(self) -> None:
        """Note how much memory is used."""
        process = psutil.Process()
        while True:
            self.memory.append((time.monotonic() - self._began, process.memory_info().rss))
            await asyncio.sleep(0.5)

    async def all_well(self) -> bool:
        return not await self.ill()

    async def all_recovered(self) -> bool:
        return not self._injected and not self.recoveries.waiting and await self.all_well()

    async def settled(self) -> bool:
        return not await self._system.settled()

    async def ill(self) -> list[str]:
        illnesses = [(exchange, await self._system.illness(exchange)) for exchange in SYMBOLS]
        return [f"{exchange}: {illness}" for exchange, illness in illnesses if illness]

    async def wrong_books(self) -> list[str]:
        wrong = []
        for exchange, server in self._system.servers.items():
            dialect = server.dialect
            for batch in await self._system.collectors[exchange].collector.book(None, None):
                for depth in batch.to_pylist():
                    listed = dialect.listings[depth["symbol"]]
                    made = server.book(depth["symbol"], dialect.depth)
                    said = check_book(depth, made.bids, made.asks, (listed.price_decimals, listed.size_decimals))
                    if said:
                        wrong.append(f"{exchange}: the book of {depth['symbol']} {said}")
        return wrong

    async def _do(self, one: Planned) -> None:
        system = self._system
        match one.what:
            case Fault():
                faults = system.servers[one.exchange].faults
                if one.kind in ("refuse", "refuse_symbol"):
                    # Who is there already would not notice.
                    faults.begin(Fault("drop", {"all": True}))
                injected = faults.begin(one.what)
                self._injected.append((one.exchange, injected))
                return
            case Kill(kind="kill_collector"):
                await system.kill_collector(one.exchange)
            case Kill(kind="kill_shard", shard=index):
                system.kill_shard(index)
            case Kill():
                await system.kill_everything()
            case Outage():
                raise ValueError(f"there is no {one.kind} without Ray")
        self.done[one.kind] += 1
        self.recoveries.over(one.kind, [one.exchange] if one.exchange else SYMBOLS, time.monotonic())


@contextmanager
def patient_exchanges() -> Iterator[None]:
    """Exchanges that let everybody connect and ask as often as a campaign makes them, and clients that soon miss an
    answer and look at the list of instruments often."""
    often = collector.LIST_INTERVAL_S, collector.LIST_RETRY_S
    vars(collector).update(LIST_INTERVAL_S=3.0, LIST_RETRY_S=1.0)
    before = {exchange: (feed.limits, DIALECTS[exchange].weight_per_minute) for exchange, feed in FEEDS.items()}
    for exchange, feed in FEEDS.items():
        weight = max(feed.limits.rest_weight_per_minute, 6000)
        feed.limits = replace(feed.limits, connects_per_minute=6000, answer_s=3.0, rest_weight_per_minute=weight)
        DIALECTS[exchange].weight_per_minute = weight * 2
    try:
        yield
    finally:
        vars(collector).update(LIST_INTERVAL_S=often[0], LIST_RETRY_S=often[1])
        for exchange, (limits, weight) in before.items():
            FEEDS[exchange].limits = limits
            DIALECTS[exchange].weight_per_minute = weight


async def _until(condition, within_s: float) -> bool:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


def report(campaign: Campaign, result: Result) -> str:
    """What to print."""
    kinds = Counter(one.kind for one in result.planned)
    idle = [kind for kind in kinds if not result.done[kind]]
    peak = max((size for _, size in result.memory), default=0) / 1e6
    lines = [
        f"{len(result.planned)} faults of {len(kinds)} kinds in {campaign.seconds:g} s at {len(SYMBOLS)} exchanges, "
        f"seed {campaign.seed}; {result.seconds:.0f} s in all",
        f"{result.trades} trades made and held against what is stored, {result.gaps} gap rows, "
        f"memory up to {peak:.0f} MB",
        *([f"did nothing: {', '.join(idle)}"] if idle else []),
        "",
        result.recoveries.table(),
        "",
        *(f"WRONG  {what}" for what in result.wrong),
        "nothing is wrong" if not result.wrong else f"{len(result.wrong)} things are wrong",
        f"the same again: {campaign.command}",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0, help="trades a second of each exchange")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of a fault")
    parser.add_argument("--out", type=Path, help="folder for the plot of memory")
    parser.add_argument("--plan", action="store_true", help="say what would be done")
    given = parser.parse_args(arguments)
    campaign = Campaign(given.seed, given.faults, given.seconds, given.rate, given.longest)
    if given.plan:
        print(*plan(given.seed, given.faults, given.seconds, SYMBOLS, SHARDS, longest_s=given.longest), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder, patient_exchanges():
        result = asyncio.run(run(campaign, Path(folder)))
    print(report(campaign, result))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        print(plot_memory(result.memory, given.out / f"memory-{given.seed}.svg"))
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
