"""Processes that do a peer's work on request, so that peers and ours can take turns in one run.

A peer gets the workloads as one JSON object on its first line of input. Each further line, a JSON object with `name`
(of a workload) and `times`, plays that workload so many times and is answered with the seconds of processor time and
the number of events that took.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from benchmarks.recorded import PROJECT, Recorded
from benchmarks.table import UnavailableError

CRYPTOFEED: Final = "cryptofeed 2.4.1"
TARDIS: Final = "tardis-dev 13.35.3"
DUCKDB: Final = "DuckDB 2.0.0"

_CACHE: Final = PROJECT / ".cache"


class Peer:
    """A running peer; `pace` is how many frames it gets in a round, about."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", pace: int) -> None:
        self.name = name
        self._process = process
        self._pace = pace

    def round(self, name: str, workload: Recorded, least_events: int, **options: object) -> float:
        """Seconds of processor time for a frame. `least_events`: what it has to find each time it plays them."""
        times = workload.times(self._pace)
        answer = self.ask({"name": name, "times": times, **options})
        assert answer["events"] >= least_events * times, f"{self.name} left out events of {name}: {answer}"
        return answer["seconds"] / (times * len(workload))

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._stopped() from None

    def ask(self, order: Mapping[str, Any]) -> dict[str, float]:
        assert self._process.stdout
        self.send(order)
        line = self._process.stdout.readline()
        if not line:
            raise self._stopped()
        answer: dict[str, float] = json.loads(line)
        return answer

    def _stopped(self) -> UnavailableError:
        return UnavailableError(
            f"{self.name} stopped with status {self._process.wait()}; remove {_CACHE} and try again"
        )


@contextmanager
def cryptofeed(workloads: Mapping[str, Recorded]) -> Iterator[Peer]:
    """cryptofeed with these workloads."""
    given = {
        name: {
            "exchange": workload.exchange,
            "symbols": workload.symbols,
            "answers": [answer.decode() for answer in workload.answers],
            "frames": [frame.decode() for frame in workload.frames],
        }
        for name, workload in workloads.items()
    }
    python = environment("cryptofeed-2.4.1", "cryptofeed==2.4.1")
    # Its cost is that of single messages, so fewer of them tell as much.
    with _running(CRYPTOFEED, [python, Path(__file__).with_name("cryptofeed_peer.py")], 10_000, given) as peer:
        yield peer


@contextmanager
def tardis(workloads: Mapping[str, Recorded]) -> Iterator[Peer]:
    """tardis-dev with these workloads."""
    given = {
        name: {"exchange": workload.exchange, "frames": [frame.decode() for frame in workload.frames]}
        for name, workload in workloads.items()
    }
    modules = _node_modules("tardis-dev-13.35.3", "tardis-dev@13.35.3")
    node = Path(sys.executable).with_name("node")
    environment = os.environ | {"NODE_PATH": str(modules)}
    with _running(TARDIS, [node, Path(__file__).with_name("tardis_peer.cjs")], 40_000, given, environment) as peer:
        yield peer


@contextmanager
def duckdb(files: Mapping[str, str], script: str = "duckdb_peer.py") -> Iterator[Peer]:
    """DuckDB with these Arrow files, doing what this script beside us says."""
    python = environment("duckdb-2.0.0", "duckdb==2.0.0", f"pyarrow=={pa.__version__}")
    with _running(DUCKDB, [python, Path(__file__).with_name(script)], 1, files) as peer:
        yield peer


@contextmanager
def _running(
    name: str,
    command: Sequence[str | Path],
    pace: int,
    workloads: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        peer = Peer(name, process, pace)
        peer.send(workloads)
        yield peer
    finally:
        process.kill()
        process.communicate()


def environment(folder: str, *packages: str) -> Path:
    """The Python of an environment with these packages, made at the first call."""
    home = _CACHE / folder
    python = home / "bin" / "python"
    own = PROJECT / ".uv" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None and not (home / ".installed").exists():
        raise UnavailableError("uv is missing: run make install")
    _install_once(
        home,
        [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
        [str(uv), "pip", "install", "--quiet", "--python", str(python), *packages],
    )
    return python


def _node_modules(folder: str, package: str) -> Path:
    """The folder with this package from npm and what it needs, made at the first call."""
    home = _CACHE / folder
    npm = Path(sys.executable).with_name("npm")
    if not npm.exists():
        raise UnavailableError("npm is missing: run make install")
    _install_once(home, [str(npm), "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), package])
    return home / "node_modules"


def _install_once(home: Path, *commands: Sequence[str]) -> None:
    done = home / ".installed"
    if done.exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise UnavailableError(f"{home.name} cannot be installed: {result.stderr.strip() or result.stdout.strip()}")
    done.touch()
