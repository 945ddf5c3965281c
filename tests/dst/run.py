"""Runs many seeds, or shows the history of one.

make dst            10,000 seeds on one core
make dst SEEDS=200  fewer
make dst SEED=123   one, with all that happened
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.dst.faults import plan
from tests.dst.settings import warm_up
from tests.dst.world import Outcome, simulate

#: In memory where the system has such a place: the disk is made up anyway.
_PLACES: Final = (Path("/dev/shm"), Path(tempfile.gettempdir()))
_LINE_S: Final = 0.5


def place() -> Path:
    """Where folders for runs are made."""
    return next(path for path in _PLACES if path.is_dir() and os.access(path, os.W_OK))


def command(seed: int) -> str:
    return f"make dst SEED={seed}"


def history(outcome: Outcome) -> str:
    """All that happened, and what is wrong."""
    verdict = [f"WRONG  {what}" for what in outcome.wrong] or ["nothing is wrong"]
    return "\n".join([str(plan(outcome.seed)), *outcome.trace, *verdict])


def run(first: int, count: int) -> int:
    """How many of these seeds break a promise."""
    faults: Counter[str] = Counter()
    sites: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    wrong: list[Outcome] = []
    virtual_s, said_at = 0.0, 0.0
    warm_up()
    began, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=place(), prefix="dst-") as folder:
        for seed in range(first, first + count):
            outcome = simulate(seed, Path(folder))
            faults += outcome.faults
            sites += outcome.sites
            counts += outcome.counts
            virtual_s += outcome.virtual_s
            if outcome.wrong:
                wrong.append(outcome)
                print(f"\nseed {seed}: {outcome.wrong[0]}\n  the same again: {command(seed)}", flush=True)
            now = time.perf_counter()
            if sys.stdout.isatty() and now - said_at > _LINE_S:
                said_at, done = now, seed - first + 1
                left_s = (now - began) / done * (count - done)
                print(f"\r{done} of {count} seeds, {len(wrong)} wrong, {left_s:.0f} s left ", end="", flush=True)
    seconds, processor_s = time.perf_counter() - began, time.process_time() - used
    print(
        f"\n{count} seeds in {seconds:.1f} s ({processor_s:.1f} s of the processor, "
        f"{1000 * processor_s / count:.1f} ms each), {virtual_s / 3600:.1f} hours simulated; {len(wrong)} wrong"
    )
    for title, kinds in (("faults", faults), ("load", counts), ("crashes at writes", sites)):
        print(f"\n{title}, {sum(kinds.values())}:")
        print("\n".join(f"  {number:8} {kind}" for kind, number in kinds.most_common()))
    return len(wrong)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.dst", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and tell its history")
    parser.add_argument("--seeds", type=int, default=10_000, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    given = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of names is part of the history.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.dst", *(sys.argv[1:] if arguments is None else arguments)],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    if given.seed is None:
        return 1 if run(given.first, given.seeds) else 0
    with tempfile.TemporaryDirectory(dir=place(), prefix="dst-") as folder:
        outcome = simulate(given.seed, Path(folder))
    print(history(outcome))
    return 1 if outcome.wrong else 0
