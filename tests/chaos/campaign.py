"""Runs a campaign of faults and holds what is stored against what was made.

.venv/bin/python -m tests.chaos.campaign --seed 1 --faults 200 --seconds 600 --on ray --out OUTPUT
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog

from actors.simulator.fault_kinds import KINDS, Fault
from actors.simulator.faults import Injected
from storage.audit_files import newest
from storage.column_reader import ColumnReader
from storage.column_verify import verify
from tests.chaos.checks import check_book, check_gaps, check_trades
from tests.chaos.exchanges import SYMBOLS, UNREPAIRABLE, Exchanges, patient_exchanges
from tests.chaos.in_process import InProcess
from tests.chaos.on_ray import NoAnswer, OnRay
from tests.chaos.plots import plot_memory
from tests.chaos.recovery import Recoveries
from tests.chaos.schedule import KILL_TREE, REST_AWAY, SINK_KILLS, Kill, Outage, Planned, plan
from tests.chaos.system import COLLECTOR, SHARDS, System

#: How often it is looked whether all is well.
_LOOK_S: Final = 0.1
_MEMORY_S: Final = 0.5
_NOTICED_S: Final = 1.0
#: Trades that were made this long before the newest of a symbol may be on their way.
_BEHIND_NS: Final = 2_000_000_000
#: From the last fault until all is well again.
RECOVER_S: Final = {"process": 120.0, "ray": 300.0}
#: Trades a second at exchanges whose REST does not reach far back: it has to reach over a restart.
FEW_TRADES: Final = {"process": 10.0, "ray": 1.0}
_SYSTEMS: Final[dict[str, type[InProcess] | type[OnRay]]] = {"process": InProcess, "ray": OnRay}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Campaign:
    """So many faults in so many seconds, none longer than `longest_s` (outages: `outage_s`), at so many trades a second
    of each exchange, `on` a system in this process or on an instance of its own."""

    seed: int
    faults: int
    seconds: float
    on: Literal["process", "ray"] = "process"
    trades_per_second: float = 200.0
    longest_s: float = 3.0
    outage_s: float = 10.0
    #: Nothing but kills, of whoever holds what is to be kept.
    kills: bool = False

    @property
    def command(self) -> str:
        return (
            f".venv/bin/python -m tests.chaos.campaign --on {self.on} --seed {self.seed} --faults {self.faults} "
            f"--seconds {self.seconds:g} --rate {self.trades_per_second:g} --longest {self.longest_s:g} "
            f"--outage {self.outage_s:g}{' --kills' * self.kills}"
        )

    @property
    def planned(self) -> list[Planned]:
        """What goes wrong, and when."""
        harms, kinds = _SYSTEMS[self.on].harms, tuple(KINDS)
        if self.kills:
            # All of it takes longest to start again.
            harms, kinds = (*6 * ("kill_shard", *SINK_KILLS), KILL_TREE), ()
        return plan(self.seed, self.faults, self.seconds, SYMBOLS, SHARDS, harms, self.longest_s, self.outage_s, kinds)


@dataclass(slots=True)
class Result:
    """What a campaign found. `done` counts per kind of fault what it really did, `memory` is (s, bytes by user)."""

    wrong: list[str]
    planned: list[Planned]
    done: Counter[str]
    recoveries: Recoveries
    memory: list[tuple[float, dict[str, int]]]
    trades: int
    gaps: int
    still_open: int
    seconds: float


async def run(campaign: Campaign, folder: Path) -> Result:
    """Run it below an empty folder."""
    began, recover_s = time.monotonic(), RECOVER_S[campaign.on]
    async with (
        Exchanges(
            folder / "exchanges", campaign.seed, campaign.trades_per_second, FEW_TRADES[campaign.on]
        ) as exchanges,
        _SYSTEMS[campaign.on](folder, exchanges) as system,
    ):
        running = Running(system, exchanges, campaign.planned)
        if not await until(running.all_well, recover_s):
            raise RuntimeError(f"not well {recover_s:g} s after the start: {await running.illnesses()}")
        wrong = []
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(running.watch()), tasks.create_task(running.remember())]
            await running.play()
            if not await until(running.all_recovered, recover_s):
                wrong += [f"not well {recover_s:g} s after the last fault: {one}" for one in await running.illnesses()]
            # Before they are halted: a book that hears nothing does not stay synced for long.
            over = time.monotonic()
            if not await until(lambda: system.looked_twice(time.monotonic() - over), recover_s):
                wrong += [f"no second look at trades within {recover_s:g} s after the last fault"]
            for task in watching:
                task.cancel()
        verdict = await held_against_truth(running, recover_s)
    return Result(
        wrong=[*wrong, *verdict.wrong],
        planned=campaign.planned,
        done=running.done,
        recoveries=running.recoveries,
        memory=running.memory,
        trades=verdict.trades,
        gaps=verdict.gaps,
        still_open=verdict.still_open,
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with what is stored, and how much was made: trades, rows of gaps, and of those open ones."""

    wrong: list[str]
    trades: int
    gaps: int
    still_open: int


async def held_against_truth(running: "Running", recover_s: float) -> Verdict:
    """Nothing happens any more; everything that happened is stored, once, everywhere."""
    system, exchanges, wrong = running.system, running.exchanges, []
    await exchanges.halt()
    if not await until(running.settled, recover_s):
        wrong += [f"not settled {recover_s:g} s after the halt: {one}" for one in await running.illnesses()]
        wrong += [await system.on_its_way()]
    # Soon: nobody speaks any more, which is a gap of its own when it lasts.
    gaps = await system.gaps()
    wrong += await running.wrong_books()
    if not await until(running.database_has_all, recover_s):
        wrong += await system.behind()
    wrong += [f"{one.exchange} {one.symbol} {one.day}: {what}" for one in verify(system.columns) for what in one.wrong]
    integrity = await system.integrity()
    wrong += check_gaps(gaps, UNREPAIRABLE)
    stored = await asyncio.to_thread(check_trades, system.columns, exchanges.truth, integrity, gaps)
    wrong += [f"{one.exchange} {one.symbol}: {what}" for one in stored for what in one.wrong]
    known = {(one.exchange, one.symbol) for one in stored}
    wrong += [
        f"{exchange} {symbol}: no ledger knows it"
        for exchange, symbols in exchanges.symbols.items()
        for symbol in symbols
        if (exchange, symbol) not in known
    ]
    still_open = sum(gap.closed is None for gap in gaps)
    return Verdict([one for one in wrong if one], sum(one.made for one in stored), len(gaps), still_open)


class Running:
    """A campaign while it goes on."""

    def __init__(self, system: System, exchanges: Exchanges, planned: Sequence[Planned] = ()) -> None:
        self.system = system
        self.exchanges = exchanges
        self._planned = planned
        self.recoveries = Recoveries()
        self.done: Counter[str] = Counter()
        self.memory: list[tuple[float, dict[str, int]]] = []
        self._began = time.monotonic()
        #: Faults that last, and where.
        self._injected: list[tuple[str, Injected]] = []
        #: Until then a subscription may have ended without a word and nobody has noticed.
        self._unnoticed_until = 0.0

    async def play(self) -> None:
        """Do everything when it is due; returns when the last is done."""
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, one in enumerate(self._planned, 1):
                await asyncio.sleep(self._began + one.at - time.monotonic())
                log.info("a fault", number=number, what=str(one.what), exchange=one.exchange)
                if isinstance(one.what, Fault):
                    self._inject(one.exchange, one.what)
                else:
                    tasks.create_task(self._harm(one, one.what))

    async def watch(self) -> None:
        """Look which exchanges are well, again and again."""
        while True:
            await asyncio.sleep(_LOOK_S)
            asked = time.monotonic()
            for entry in [one for one in self._injected if one[1].ended is not None]:
                exchange, injected = entry
                self._injected.remove(entry)
                # The loop's clock is the monotonic one.
                self.recoveries.over(injected.fault.kind, [exchange], injected.ended or asked)
                self.done[injected.fault.kind] += injected.done
                if injected.fault.kind == "delist":
                    self._unnoticed_until = asked + COLLECTOR["stale_s"] + _NOTICED_S
            ill = await self.system.ill()
            for exchange in self.exchanges.symbols:
                if exchange not in ill:
                    self.recoveries.well(exchange, asked, time.monotonic())

    async def remember(self) -> None:
        """Note how much memory is used."""
        while True:
            sizes = await asyncio.to_thread(self.system.memory)
            self.memory.append((time.monotonic() - self._began, sizes))
            await asyncio.sleep(_MEMORY_S)

    async def illnesses(self) -> list[str]:
        ill = await self.system.ill()
        return [f"{exchange}: {why}" for exchange, why in ill.items()] or await asyncio.to_thread(self._behind)

    async def all_well(self) -> bool:
        return not await self.illnesses()

    async def all_recovered(self) -> bool:
        noticed = time.monotonic() > self._unnoticed_until
        return noticed and not self._injected and not self.recoveries.waiting and await self.all_well()

    async def settled(self) -> bool:
        return await self.all_well() and not await self.system.on_its_way()

    async def database_has_all(self) -> bool:
        return not await self.system.behind()

    async def wrong_books(self) -> list[str]:
        wrong = []
        for exchange, server in self.exchanges.servers.items():
            dialect = server.dialect
            for depth in await self.system.depths(exchange):
                listed = dialect.listings[depth["symbol"]]
                made = server.book(depth["symbol"], dialect.depth)
                said = check_book(depth, made.bids, made.asks, (listed.price_decimals, listed.size_decimals))
                if said:
                    wrong.append(f"{exchange}: the book of {depth['symbol']} {said}")
        return wrong

    def _inject(self, exchange: str, fault: Fault) -> None:
        faults = self.exchanges.servers[exchange].faults
        if fault.kind in ("refuse", "refuse_symbol"):
            # Who is there already would not notice.
            faults.begin(Fault("drop", {"all": True}))
        self._injected.append((exchange, faults.begin(fault)))

    async def _harm(self, one: Planned, what: Kill | Outage) -> None:
        at = time.monotonic()
        match what:
            case Kill():
                if not await self.system.kill(what, one.exchange):
                    return
            case Outage(kind=kind) if kind == REST_AWAY:
                for server in self.exchanges.servers.values():
                    server.faults.begin(Fault("rest_failing", {"seconds": what.seconds}))
                await asyncio.sleep(what.seconds)
                at = time.monotonic()
            case Outage():
                if not await self.system.outage(what):
                    return
                at = time.monotonic()
        self.done[one.kind] += 1
        self.recoveries.over(one.kind, [one.exchange] if one.exchange else self.exchanges.symbols, at)

    def _behind(self) -> list[str]:
        """Symbols that trade while nothing of it is stored."""
        here, there = (ColumnReader(root, rescan_s=0) for root in (self.system.columns, self.exchanges.truth))
        found = []
        for exchange, symbols in self.exchanges.symbols.items():
            for symbol in symbols:
                made, stored = newest(there, exchange, symbol), newest(here, exchange, symbol)
                if made is not None and (stored is None or made.ns - stored.ns > _BEHIND_NS):
                    found.append(f"{exchange}: the newest trade of {symbol} is not stored")
        return found


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if await condition():
                return True
        except NoAnswer as error:
            log.info("asked again", why=str(error))
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_S)


def report(campaign: Campaign, result: Result) -> str:
    """What to print."""
    kinds = Counter(one.kind for one in result.planned)
    idle = [kind for kind in kinds if not result.done[kind]]
    peaks: Counter[str] = Counter()
    for _, sizes in result.memory:
        peaks |= Counter(sizes)
    lines = [
        f"{len(result.planned)} faults of {len(kinds)} kinds in {campaign.seconds:g} s at {len(SYMBOLS)} exchanges, "
        f"seed {campaign.seed}; {result.seconds:.0f} s in all",
        f"{result.trades} trades made and held against what is stored, {result.gaps} gap rows, {result.still_open} of "
        f"them open (only {', '.join(sorted(UNREPAIRABLE))} may)",
        "memory up to " + ", ".join(f"{size / 1e6:.0f} MB ({name})" for name, size in peaks.most_common()),
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
    parser.add_argument("--on", choices=sorted(_SYSTEMS), default="process", help="this process, or an instance on Ray")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=200.0, help="trades a second of each exchange")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of a fault")
    parser.add_argument("--outage", type=float, default=10.0, help="seconds of an outage")
    parser.add_argument("--out", type=Path, help="folder for the plot of memory")
    parser.add_argument("--kills", action="store_true", help="nothing but kills of shards, database, Redis and all")
    parser.add_argument("--plan", action="store_true", help="say what would be done")
    given = parser.parse_args(arguments)
    campaign = Campaign(
        given.seed, given.faults, given.seconds, given.on, given.rate, given.longest, given.outage, given.kills
    )
    if given.plan:
        print(*campaign.planned, sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder, patient_exchanges():
        result = asyncio.run(run(campaign, Path(folder)))
    print(report(campaign, result))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        print(plot_memory(result.memory, given.out / f"memory-{given.on}-{given.seed}.png"))
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
