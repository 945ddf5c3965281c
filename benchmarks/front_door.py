"""What the edge answers from its cache against nginx, which sends the same file, and small JSON that nobody keeps, from
replicas of Serve, against Serve as it comes. The instance collects nothing meanwhile.

Rounds of all cases take turns; what is reported is the median. The load (wrk) runs on the same processors.
"""

import os
import subprocess
import sys
import tempfile
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data_api import EXCHANGE, SYMBOL, fetched, symbol_day
from benchmarks.instance import COMMAND, quiet, running_instance
from benchmarks.table import Bound, Row, UnavailableError
from benchmarks.web_load import ANSWERS, Loads, asking, kept, nginx, program
from cluster.instance import free_ports
from storage.column_writer import ColumnWriter

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
            (peer / "files" / "page").write_bytes(fetched(door + "/"))
            # Two Rays at a time would only measure each other: the other one follows.
            *found, json = measured(door, peer_door, folder)
        with stock_serve(folder) as stock:
            peer_json = Loads({"json": asking(stock, JSON_CONNECTIONS, folder)}).median("json")
        bound = Bound(at_least=10_000, ratio_at_least=10)
        return [*found, Row(json.name, json.ours, json.unit, peer_json, "stock Serve", bound, json.note)]


def answers(url: str) -> bool:
    """The summary of the market knows nothing where nothing is collected."""
    try:
        fetched(url)
    except urllib.error.HTTPError:
        return False
    return True


def measured(door: str, peer_door: str, folder: Path) -> list[Row]:
    """The last row is that of JSON, still without its peer."""
    cases = {"json": asking(door + "/healthz", JSON_CONNECTIONS, folder)}
    for connections in (FEW, MANY):
        cases[f"page {connections}"] = kept(door + "/", connections, folder)
        cases[f"page nginx {connections}"] = kept(peer_door + "/page", connections, folder)
    pages = [path for path in PAGES if answers(door + path)]
    for path in pages:
        cases[path] = kept(door + path, MANY, folder, AS_A_BROWSER)
    loads = Loads(cases)
    bound = Bound(at_least=100_000)
    return [
        *(
            loads.against_nginx(
                f"front door: a page, {many} connections",
                f"page {many}",
                f"page nginx {many}",
                Bound(at_least=100_000, ratio_at_least=1.0),
            )
            for many in (FEW, MANY)
        ),
        *(
            Row(
                f"front door: {path}, gzip, {MANY} connections",
                loads.median(path),
                ANSWERS,
                bound=bound,
                note=loads.latency(path),
            )
            for path in pages
        ),
        Row(_JSON, loads.median("json"), ANSWERS, note=loads.latency("json")),
    ]


_JSON = f"front door: small JSON nobody keeps, {JSON_CONNECTIONS} connections"


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
