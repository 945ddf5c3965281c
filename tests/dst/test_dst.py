"""The simulation: what it finds is wrong, what it plays is the same each time, and defects do not escape it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dst.faults import Kind, Plan, plan
from tests.dst.planted import PLANTED
from tests.dst.run import command, place
from tests.dst.world import simulate

CHECKOUT = Path(__file__).parents[2]
SEEDS = 200
#: Each planted defect is found by one of so many seeds.
MOST = 100


def planned_for(defect: str, seed: int) -> Plan:
    """Rare ones want longer histories, in which files are seldom flushed."""
    planned = plan(seed, ONLY.get(defect, ()))
    if defect not in ONLY:
        return planned
    faults = tuple(replace(fault, at_s=3 * fault.at_s) for fault in planned.faults)
    return replace(planned, load_s=3 * planned.load_s, trades=30, flush_s=8.0, compact_s=0.8, faults=faults)


def dst(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        [sys.executable, "-m", "tests.dst", *arguments],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip


def test_every_promise_holds_in_two_hundred_histories() -> None:
    ran = dst("--seeds", str(SEEDS))
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert f"{SEEDS} seeds" in ran.stdout and "crashes at writes" in ran.stdout


def test_a_seed_is_the_same_history_in_every_process() -> None:
    first, second = dst("--seed", "11"), dst("--seed", "11", hash_seed="random")
    assert first.stdout == second.stdout, first.stderr + second.stderr
    assert "the end: " in first.stdout


def test_a_broken_promise_is_told_with_the_command_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.dst import run

    with PLANTED["gaps are ignored"]():
        assert run.run(0, 3) > 0
    told = capsys.readouterr().out
    assert "trades are not stored and no gap is open" in told
    assert any(command(seed) in told for seed in range(3))


#: Faults that show what few histories do.
ONLY: dict[str, list[tuple[Kind, str]]] = {
    "merges have no marker": [("shard dies at a write", "replace"), ("connection cut", "")],
    "a checkpoint does not wait for the disk": [("power cut", "")],
    "batches are not looked at": [("power cut", "")],
    "merged files are not synced": [("connection cut", ""), ("power cut at a write", "unlink")],
    "a spool forgets what it holds": [("ClickHouse away", ""), ("database dies at a write", "")],
}


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found(defect: str, tmp_path: Path) -> None:
    folder = place() / f"dst-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    try:
        with PLANTED[defect]():
            plans = (planned_for(defect, seed) for seed in range(MOST))
            assert any(simulate(planned, folder).wrong for planned in plans), "nobody noticed"
    finally:
        folder.rmdir()


@pytest.mark.parametrize("defect", ONLY)
def test_the_histories_that_show_a_rare_defect_are_all_right_without_it(defect: str, tmp_path: Path) -> None:
    folder = place() / f"dst-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    try:
        for seed in range(30):
            assert simulate(planned_for(defect, seed), folder).wrong == []
    finally:
        folder.rmdir()
