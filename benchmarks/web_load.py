"""Load on a web server (wrk) and the server that ours is compared with (nginx), both Debian's packages."""

import getpass
import grp
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import Bound, Row, UnavailableError
from cluster.instance import free_ports

STARTED_WITHIN_S = 10.0
ROUNDS = 3
ROUND_S = 3
ANSWERS = "answers/s"
#: Threads of wrk for small answers out of a memory, and for large ones: with one it is busy all the time before a
#: server of two threads is, and would be what is measured.
FAST = 2

#: wrk's own report has rounded numbers only.
_REPORT = """
function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format(
        '\\n{"seconds": %f, "answers": %d, "bytes": %d, "failed": %d, "p50_ms": %f, "p99_ms": %f}\\n',
        summary.duration / 1e6, summary.requests, summary.bytes, failed,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""

_NGINX = """
daemon off;
user {user} {group};
worker_processes 2;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 60;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        root files;
    }}
}}
"""


@dataclass(frozen=True)
class Load:
    """What one round of load got."""

    seconds: float
    answers: int
    bytes: int
    #: Connections that broke and answers that were no 200.
    failed: int
    p50_ms: float
    p99_ms: float

    @property
    def answers_per_s(self) -> float:
        """Only those that were right."""
        return (self.answers - self.failed) / self.seconds

    @property
    def gigabytes_per_s(self) -> float:
        return self.bytes / self.seconds / 1e9


def load(url: str, connections: int, seconds: int, folder: Path, script: str = "", threads: int = 1) -> Load:
    """Ask `url` as fast as it answers; `script` is Lua for wrk, for instance a `request` function.

    `folder` gets the script. Raises `UnavailableError` where there is no wrk.
    """
    file = folder / "wrk.lua"
    file.write_text(script + _REPORT)
    command = [program("wrk"), "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "-s", str(file), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    return Load(**json.loads(said.splitlines()[-1]))


def asking(url: str, connections: int, folder: Path, script: str = "", threads: int = 1) -> Callable[[int], Load]:
    """`load` of so many seconds."""
    return lambda seconds: load(url, connections, seconds, folder, script, threads)


def kept(url: str, connections: int, folder: Path, script: str = "") -> Callable[[int], Load]:
    """`load` of an answer that lies in a memory when it begins: while other cases had their turns it may have expired,
    and all connections at once would ask for it anew."""

    def ask(seconds: int) -> Load:
        load(url, 1, 1, folder, script)
        return load(url, connections, seconds, folder, script, FAST)

    return ask


class Loads:
    """What `ROUNDS` rounds got by case. The cases take turns, so that all see the same machine, after a second each."""

    def __init__(self, cases: Mapping[str, Callable[[int], Load]]) -> None:
        for ask in cases.values():
            ask(1)
        self._of: dict[str, list[Load]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, ask in cases.items():
                self._of[name].append(ask(ROUND_S))

    def median(self, name: str, value: Callable[[Load], float] = lambda one: one.answers_per_s) -> float:
        return statistics.median(value(one) for one in self._of[name])

    def latency(self, name: str) -> str:
        failed = sum(one.failed for one in self._of[name])
        p50, p99 = (self.median(name, value) for value in (lambda one: one.p50_ms, lambda one: one.p99_ms))
        return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms" + (f", {failed} FAILED" if failed else "")

    def against_nginx(self, title: str, name: str, peer: str, bound: Bound) -> Row:
        """The row of a case beside that of nginx."""
        note = f"{self.latency(name)}; nginx {self.latency(peer)}"
        return Row(title, self.median(name), ANSWERS, self.median(peer), "nginx", bound, note)


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """The address of an nginx that sends what is in `folder`/files, with sendfile; `folder` is its own.

    Raises `UnavailableError` where there is no nginx, or it does not start.
    """
    binary = program("nginx")
    (port,) = free_ports(1)
    # Started by root it would read the files as somebody else, who may not.
    text = _NGINX.format(user=getpass.getuser(), group=grp.getgrgid(os.getgid()).gr_name, port=port)
    (folder / "nginx.conf").write_text(text)
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [binary, "-p", folder, "-c", "nginx.conf", "-e", "error.log"], stdout=output, stderr=output
        )
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def program(name: str) -> str:
    """The path of a program of the Debian package of the same name; `UnavailableError` where it is missing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise UnavailableError(f"{name} is missing: apt-get install {name}")
    return found


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError("nginx does not start") from None
            time.sleep(0.02)
        else:
            return
