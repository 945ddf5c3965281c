"""What the edge answers from its cache against nginx, which sends the same file, and small JSON that nobody keeps, from
replicas of Serve, against Serve as it comes. The instance collects nothing meanwhile.

Rounds of all cases take turns; what is reported is the median. The load (wrk) runs on the same processors.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data_api import DAY, EXCHANGE, SMALL_S, SYMBOL, fetched, symbol_day, target
from benchmarks.instance import COMMAND, quiet, running_instance
from benchmarks.table import Bound, Row, UnavailableError
from benchmarks.web_load import Load, load, nginx, program
from cluster.instance import free_ports
from storage.column_writer import ColumnWriter

ROUNDS = 3
ROUND_S = 3
FEW, MANY = 100, 500
JSON_CONNECTIONS = 64
#: What most people open, and how a browser asks for it.
PAGES = ("/", "/crypto_report", "/crypto_report/1", "/api/crypto/dashboard-summary")
AS_A_BROWSER = """
wrk.headers["Accept-Encoding"] = "gzip"
wrk.headers["Accept-Language"] = "en"
"""


def rows() -> list[Row]:
    """Raises `UnavailableError` where wrk or nginx is missing or no instance comes up."""
    program("wrk")
    program("nginx")
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as temporary:
        folder = Path(temporary)
        data, peer = folder / "data", folder / "nginx"
        ColumnWriter(data / "columns", 64).append(EXCHANGE, SYMBOL, "TRADES", symbol_day())
        (peer / "files").mkdir(parents=True)
        with running_instance(data, quiet(folder)) as door, nginx(peer) as peer_door:
            command = [COMMAND, "report", "generate", "--day", "2024-03-01", "--data", data]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            # The format is said: what an Accept header chooses, the edge cannot keep.
            small = f"{target(DAY, SMALL_S)}&format=binary"
            for name, path in (("page", "/"), ("small", small)):
                with urllib.request.urlopen(door + path, timeout=30) as answer:
                    (peer / "files" / name).write_bytes(answer.read())
                    kept = "max-age" in answer.headers.get("Cache-Control", "")
            # Two Rays at a time would only measure each other: the other one follows.
            found = measured(door, peer_door, small if kept else None, folder)
        with stock_serve(folder) as stock:
            ask = _asking(stock, JSON_CONNECTIONS, folder)
            ask(1)
            peers = [ask(ROUND_S) for _ in range(ROUNDS)]
        return [*found[:-1], _json_row(found[-1], peers)]


def answers(url: str) -> bool:
    """The summary of the market knows nothing where nothing is collected."""
    try:
        fetched(url)
    except urllib.error.HTTPError:
        return False
    return True


def measured(door: str, peer_door: str, small: str | None, folder: Path) -> list[Row]:
    """The last row is that of JSON, still without its peer."""
    cases: dict[str, Callable[[int], Load]] = {"json": _asking(door + "/healthz", JSON_CONNECTIONS, folder)}
    for connections in (FEW, MANY):
        cases[f"page {connections}"] = _asking(door + "/", connections, folder)
        cases[f"page nginx {connections}"] = _asking(peer_door + "/page", connections, folder)
    pages = [path for path in PAGES if answers(door + path)]
    for path in pages:
        cases[path] = _asking(door + path, MANY, folder, AS_A_BROWSER)
    if small is not None:
        cases["small"] = _asking(door + small, FEW, folder)
        cases["small nginx"] = _asking(peer_door + "/small", FEW, folder)
    for ask in cases.values():
        ask(1)
    loads: dict[str, list[Load]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, ask in cases.items():
            loads[name].append(ask(ROUND_S))
    found = [
        row(
            f"front door: a page, {connections} connections",
            loads[f"page {connections}"],
            loads[f"page nginx {connections}"],
            Bound(at_least=100_000, ratio_at_least=1.0),
        )
        for connections in (FEW, MANY)
    ]
    found += [
        Row(
            f"front door: {path}, gzip, {MANY} connections",
            _median(loads[path]),
            _UNIT,
            bound=Bound(at_least=100_000),
            note=_latency(loads[path]),
        )
        for path in pages
    ]
    name = "front door: 1,000 rows again and again"
    if small is None:
        found.append(Row(name, None, note="not measured: the answer does not say that it may be kept"))
    else:
        found.append(row(name, loads["small"], loads["small nginx"], Bound(at_least=80_000)))
    json = loads["json"]
    return [*found, Row(_JSON, _median(json), _UNIT, note=_latency(json))]


_JSON = f"front door: small JSON nobody keeps, {JSON_CONNECTIONS} connections"
_UNIT = "answers/s"


def _json_row(ours: Row, peers: list[Load]) -> Row:
    bound = Bound(at_least=10_000, ratio_at_least=10)
    return Row(ours.name, ours.ours, _UNIT, _median(peers), "stock Serve", bound, ours.note)


def row(name: str, ours: list[Load], peers: list[Load], bound: Bound) -> Row:
    note = f"{_latency(ours)}; nginx {_latency(peers)}"
    return Row(name, _median(ours), _UNIT, _median(peers), "nginx", bound, note)


def _asking(url: str, connections: int, folder: Path, script: str = "") -> Callable[[int], Load]:
    return lambda seconds: load(url, connections, seconds, folder, script)


def _median(loads: list[Load]) -> float:
    return statistics.median(one.answers_per_s for one in loads)


def _latency(loads: list[Load]) -> str:
    failed = sum(one.failed for one in loads)
    p99 = statistics.median(one.p99_ms for one in loads)
    return f"p99 {p99:.2f} ms" + (f", {failed} FAILED" if failed else "")


@contextmanager
def stock_serve(folder: Path) -> Iterator[str]:
    """The address of a Serve without anything of ours. Raises `UnavailableError` when it does not come up."""
    (port,) = free_ports(1)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYFEED_"))}
    # Ray's sockets need a short path.
    short = tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp", ignore_cleanup_errors=True)
    with (folder / "stock.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stock_serve_peer", str(port), short.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=plain | {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"},
        )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        while line := process.stdout.readline():
            if line == b"ready\n":
                break
        else:
            raise UnavailableError("stock Serve does not start")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        short.cleanup()
