"""One fault of a host after another, under load: how long each takes until all is well, how long readers wait
meanwhile, and what is stored in the end held against what was made.

.venv/bin/python -m tests.hosts.faults --seconds 3600 --out chaos
"""

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import psutil
import structlog

from tests.chaos.campaign import Running, Verdict, held_against_truth, until
from tests.chaos.exchanges import Exchanges, patient_exchanges
from tests.chaos.on_ray import NoAnswer
from tests.hosts.machines import Network, missing
from tests.hosts.on_hosts import FAULTS, STORED_IN, SYMBOLS, OnHosts
from tests.hosts.reads import Reads, Waits
from tests.servers import CLICKHOUSE_SERVER, ClickHouseServer

WORKERS: Final = 2
RECOVER_S: Final = 300.0
#: How long nothing happens before the first fault: what readers wait then is what the others are held against.
CALM_S: Final = 10.0
#: Once, as hosts are not taken away again; and before the head, which takes all with it.
ONCE: Final = "host added"
PATH: Final = (
    "/api/data?exchange=binance&symbol=BTCUSDT&type=TRADES&start={since}&end=4294967295&columns=time,price64,id"
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """A fault: how long it lasted, seconds from its end until all was well again, and what readers had to wait from
    its beginning until then."""

    fault: str
    lasted_s: float
    recovered_s: float
    waits: Waits


@dataclass(frozen=True, slots=True)
class Result:
    calm: Waits
    events: list[Event]
    verdict: Verdict
    seconds: float


async def run(
    faults: Sequence[str],
    seconds: float,
    rate: float,
    seed: int,
    folder: Path,
    shards: int | None = None,
    logs: Path | None = None,
) -> Result:
    """Go through `faults`, and then again in other orders until `seconds` have passed; with so many `shards`, over all
    hosts, instead of two on the head. Ends when something is not well again; what hosts logged is left in `logs`
    when anything is wrong."""
    began = time.monotonic()
    events: list[Event] = []
    wrong: list[str] = []
    with Network(folder / "network") as network, patient_exchanges(), ExitStack() as own:
        clickhouse = None
        if STORED_IN in faults:
            clickhouse = own.enter_context(ClickHouseServer(folder / "clickhouse", address=network.address))
        async with (
            Exchanges(folder / "exchanges", seed, rate, rate, SYMBOLS, network.address) as exchanges,
            OnHosts(network, folder, exchanges, WORKERS, 1, clickhouse) as system,
        ):
            running = Running(system, exchanges)
            if not await until(running.all_well, RECOVER_S):
                raise RuntimeError(f"not well {RECOVER_S:g} s after the start: {await running.illnesses()}")
            log.info("all is well", seconds=round(time.monotonic() - began))
            with Reads(system.cluster.head.address, system.cluster.door.port, PATH) as reads:
                wrong = await _spread(running, system, shards)
                first = time.monotonic()
                await asyncio.sleep(CALM_S)
                calm = reads.between(first, time.monotonic())
                for fault in _sequence(faults, seed):
                    if wrong or (time.monotonic() - began > seconds and len(events) >= len(faults)):
                        break
                    log.info("a fault", fault=fault, number=len(events) + 1, symbols=system.symbols())
                    at = time.monotonic()
                    try:
                        await asyncio.to_thread(FAULTS[fault], system)
                    except (AssertionError, OSError, psutil.Error, subprocess.SubprocessError) as error:
                        wrong = [f"{fault} did not go as it should: {error}"]
                        break
                    over = time.monotonic()
                    if not await until(lambda since=over: _well(running, reads, since), RECOVER_S):
                        wrong = [f"not well {RECOVER_S:g} s after: {fault}: {one}" for one in await _illnesses(running)]
                    well = time.monotonic()
                    events.append(Event(fault, round(over - at, 1), round(well - over, 1), reads.between(at, well)))
                    log.info("all is well", **asdict(events[-1])) if not wrong else log.error("not well", why=wrong)
                    wrong = wrong or await _spread(running, system, shards)
            try:
                verdict = await held_against_truth(running, RECOVER_S)
            except (AssertionError, OSError, NoAnswer) as error:
                verdict = Verdict([f"what is stored cannot be held against what was made: {error}"], 0, 0, 0)
            if (wrong or verdict.wrong) and logs is not None:
                await asyncio.to_thread(_keep_logs, network, logs)
    verdict = Verdict([*wrong, *verdict.wrong], verdict.trades, verdict.gaps, verdict.still_open)
    return Result(calm, events, verdict, time.monotonic() - began)


async def _spread(running: Running, system: OnHosts, shards: int | None) -> list[str]:
    """Have shards on all hosts that are there; what is wrong when that cannot be."""
    if shards is None:
        return []
    try:
        await asyncio.to_thread(system.scale, shards)
    except (AssertionError, subprocess.SubprocessError) as error:
        return [f"symbols cannot be moved: {error}"]
    if await until(running.all_well, RECOVER_S):
        return []
    return [f"not well {RECOVER_S:g} s after symbols moved: {one}" for one in await _illnesses(running)]


async def _illnesses(running: Running) -> list[str]:
    try:
        return await running.illnesses() or ["a reader has no answer, or it was well just now"]
    except NoAnswer as error:
        return [str(error)]


def _keep_logs(network: Network, folder: Path) -> None:
    """What Ray and rayfeed said on each host."""
    for host in network.hosts:
        for logs in (host.disk / "tmp" / "ray").glob("session_2*/logs"):
            shutil.copytree(
                logs, folder / host.name / logs.parent.name, dirs_exist_ok=True, ignore_dangling_symlinks=True
            )


async def _well(running: Running, reads: Reads, since: float) -> bool:
    """Every symbol is collected, synced and stored, all hosts are there, and readers are answered."""
    return await running.all_well() and reads.answered(since)


def _sequence(faults: Sequence[str], seed: int) -> Iterator[str]:
    order = random.Random(seed)
    again = [fault for fault in faults if fault != ONCE]
    yield from faults
    while again:
        yield from order.sample(again, len(again))


def table(result: Result) -> str:
    """In Markdown."""
    calm = result.calm
    lines = [
        "| fault | times | recovered, median | worst | reads meanwhile | without answer | p50 | p99 |",
        "|---|---|---|---|---|---|---|---|",
        f"| none | | | | {calm.reads} | {calm.failed} | {calm.p50_ms} ms | {calm.p99_ms} ms |",
    ]
    for fault in dict.fromkeys(event.fault for event in result.events):
        own = [event for event in result.events if event.fault == fault]
        took = [event.recovered_s for event in own]
        reads, failed = sum(event.waits.reads for event in own), sum(event.waits.failed for event in own)
        p50, p99 = median(event.waits.p50_ms for event in own), max(event.waits.p99_ms for event in own)
        recovered = f"{median(took):.1f} s | {max(took):.1f} s"
        lines.append(f"| {fault} | {len(own)} | {recovered} | {reads} | {failed} | {p50} ms | {p99} ms |")
    return "\n".join(lines)


def report(result: Result) -> str:
    verdict = result.verdict
    return "\n".join(
        [
            f"{len(result.events)} faults in {result.seconds:.0f} s; {verdict.trades} trades made and held against "
            f"what is stored, {verdict.gaps} gap rows, {verdict.still_open} of them open",
            "",
            table(result),
            "",
            *(f"WRONG  {what}" for what in verdict.wrong),
            f"{len(verdict.wrong)} things are wrong" if verdict.wrong else "nothing is wrong",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--rate", type=float, default=40.0, help="trades a second of each exchange")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this; may be said again")
    parser.add_argument("--shards", type=int, help="so many, over all hosts")
    parser.add_argument("--out", type=Path, help="folder for hosts.json and hosts.md")
    given = parser.parse_args(arguments)
    if said := missing():
        sys.exit(said)
    if CLICKHOUSE_SERVER is None and STORED_IN in (given.fault or FAULTS):
        sys.exit("Debian packages are missing: clickhouse-server")
    with tempfile.TemporaryDirectory() as folder:
        faults = given.fault or list(FAULTS)
        logs = given.out / "logs" if given.out else None
        result = asyncio.run(run(faults, given.seconds, given.rate, given.seed, Path(folder), given.shards, logs))
    print(report(result))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "hosts.json").write_text(json.dumps(asdict(result), indent=1))
        (given.out / "hosts.md").write_text(table(result) + "\n")
    return 1 if result.verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
