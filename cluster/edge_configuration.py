"""The text of HAProxy's configuration, from what the front door is to be: `haproxy.cfg` beside this file, filled in."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from cluster.edge_pages import BODY_RULES, PAGE_RULES, PATH_RULES
from cluster.instance import InstanceError
from config.edge_settings import EdgeSettings

#: A body and the head before it fit in one buffer (`tune.bufsize`, 64 KiB).
MAX_BODY_BYTES = 40_960
#: Above this many requests a second none is written to the access log: a flood cannot fill the disk.
MAX_LOGGED_PER_S = 1000
#: HAProxy takes 64 words in a line.
_NETWORKS_IN_A_LINE = 50
_HOST = re.compile(r"\*|[0-9A-Za-z.:_-]+")
_PREFIX = re.compile(r"(/[0-9A-Za-z._~-]+)+")

_TEXT_TYPES = (
    "text/html text/css text/plain text/csv text/javascript text/xml application/json application/problem+json "
    "application/javascript application/xml application/rss+xml application/manifest+json image/svg+xml"
)
_BACKEND = """\
backend $name from servers
    log global
    option httpchk GET $health_path
    http-check expect status 200
    # Only what may be repeated is sent again when a server broke off before it answered.
    http-request disable-l7-retry unless { method GET HEAD OPTIONS }
"""
_COMPRESSION = f"""\
    filter compression
    compression algo gzip
    compression type {_TEXT_TYPES}
"""
# Serve's proxy says 500 where a replica died before it answered.
_THROUGH_SERVE = "    retry-on conn-failure empty-response 500\n"
_TABLE = "stick-table type ipv6 size 100k expire 10s store"
_CLIENT = "src,ipmask(32,64)"
_TOO_MANY = (
    """status 429 content-type application/problem+json string '{"title":"Too many requests","status":429,"""
    """"detail":"At most %d requests a second from one address."}' hdr Retry-After 1"""
)
_TOO_MANY_ONGOING = _TOO_MANY.replace("requests a second from", "requests at a time from")
#: Time, client, method, path without its query (which may hold a token), version, status, bytes, ms, how it ended.
_LOG_FORMAT = '"%Ts.%ms %ci %HM %HPO %HV %ST %B %Ta %tsc"'


class EdgeError(InstanceError):
    """The front door cannot be configured; the message is one line for the user."""


@dataclass(frozen=True)
class Route:
    """Servers (host, port) of one part of the site. `prefix` `/api/data` means that path and all below it;
    None means whatever no other route takes. A server is up while GET `health_path` answers 200. `backups` are
    asked only while no server is up. `through_serve`: Serve's proxy is among the servers."""

    servers: Sequence[tuple[str, int]]
    prefix: str | None = None
    health_path: str = "/-/healthz"
    backups: Sequence[tuple[str, int]] = ()
    through_serve: bool = False


@dataclass(frozen=True)
class Edge:
    """What the front door is to be. `certificate` is a PEM file with its key, None where TLS is ended elsewhere.
    `metrics_port` (loopback) has /metrics, /stats and /alive."""

    host: str
    port: int
    tls_port: int
    certificate: Path | None
    routes: Sequence[Route]
    metrics_port: int
    settings: EdgeSettings = field(default_factory=EdgeSettings)


def configuration(edge: Edge, threads: int, max_connections: int) -> str:
    """The text of HAProxy's configuration file. Raises EdgeError for a host, path or route that has no place
    in one."""
    settings = edge.settings
    defaults = [route for route in edge.routes if route.prefix is None]
    prefixed = [(route, route.prefix) for route in edge.routes if route.prefix is not None]
    if len(defaults) != 1 or len({prefix for _, prefix in prefixed}) < len(prefixed):
        raise EdgeError("the front door needs one default route and no prefix twice")
    rules = []
    backends = [_backend("default", defaults[0])]
    for number, (route, prefix) in enumerate(_longest_first(prefixed)):
        if not _PREFIX.fullmatch(prefix):
            raise EdgeError(f"route {prefix!r} is no path prefix like /api/data")
        rules.append(f"    use_backend route{number} if {{ path {prefix} }} || {{ path_beg {prefix}/ }}")
        backends.append(_backend(f"route{number}", route))
    rules.append("    default_backend default")
    if settings.strict_transport:
        rules.append('    http-after-response set-header Strict-Transport-Security "max-age=31536000" if { ssl_fc }')
    return Template(Path(__file__).with_name("haproxy.cfg").read_text(encoding="utf-8")).substitute(
        threads=threads,
        max_connections=max_connections,
        max_body_bytes=MAX_BODY_BYTES,
        drain_ms=_ms(settings.drain_s),
        head_timeout_ms=_ms(settings.head_timeout_s),
        body_timeout_ms=_ms(settings.body_timeout_s),
        read_timeout_ms=_ms(settings.read_timeout_s),
        fin_timeout_ms=_ms(min(10.0, settings.read_timeout_s)),
        websocket_timeout_ms=_ms(settings.websocket_timeout_s),
        cache_mb=settings.cache_mb,
        cache_object_bytes=min(4, settings.cache_mb // 2) * 2**20,
        cache_s=settings.cache_s,
        binds="\n".join(_binds(edge)),
        connection_rules="\n".join([*_networks(settings), *_connection_rules(settings)]),
        compression=_COMPRESSION if settings.compression else "",
        client_rules="\n".join(_client_rules(settings)),
        report_body_rules=BODY_RULES,
        path_rules=PATH_RULES,
        page_rules=PAGE_RULES,
        scheme_rules="\n".join(_scheme_rules(settings)),
        metrics_port=edge.metrics_port,
        frontend_rules="\n".join(rules),
        backends="\n".join([*backends, *_tables(settings)]),
    )


def backend_names(routes: Sequence[Route]) -> dict[str, str]:
    """By the name of their servers in HAProxy, the part of the site that routes answer; `/` for all that is left."""
    prefixed = _longest_first([(route, route.prefix) for route in routes if route.prefix is not None])
    return {"default": "/"} | {f"route{number}": prefix for number, (_, prefix) in enumerate(prefixed)}


def _longest_first(prefixed: list[tuple[Route, str]]) -> list[tuple[Route, str]]:
    return sorted(prefixed, key=lambda pair: -len(pair[1]))


def _binds(edge: Edge) -> list[str]:
    address = _address(edge.host)
    binds = [f"    bind {address}:{edge.port}"]
    if edge.certificate is not None:
        certificate = str(edge.certificate)
        if not certificate.isprintable():
            raise EdgeError(f"certificate {certificate!r}: the path has a character that cannot be configured")
        binds.append(f"    bind {address}:{edge.tls_port} ssl crt {shlex.quote(certificate)} alpn h2,http/1.1")
    return binds


def _networks(settings: EdgeSettings) -> Iterator[str]:
    """Who is meant by `unlimited` and `trusted`, however many: lines of the same name count together."""
    for name, networks in (("unlimited", settings.unlimited), ("trusted", settings.trusted_proxies)):
        yield f"    acl {name} always_false"
        for some in itertools.batched(networks, _NETWORKS_IN_A_LINE):
            yield f"    acl {name} src {' '.join(map(str, some))}"


def _connection_rules(settings: EdgeSettings) -> list[str]:
    """What is decided when somebody connects, and what is written down of each request."""
    rules = []
    if settings.connections_per_client is not None:
        # A proxy's connections are those of all its clients.
        rules.append(f"    tcp-request connection track-sc0 {_CLIENT} table connections unless unlimited || trusted")
        rules.append(f"    tcp-request connection reject if {{ sc0_conn_cur gt {settings.connections_per_client} }}")
    if settings.access_log_sample is not None:
        rules.append(f"    log stdout format raw sample 1:{settings.access_log_sample} daemon info")
        rules.append(f"    log-format {_LOG_FORMAT}")
        rules.append(f"    http-request set-log-level silent if {{ fe_req_rate gt {MAX_LOGGED_PER_S} }}")
    return rules


def _client_rules(settings: EdgeSettings) -> list[str]:
    """Who asks, and how often that client may."""
    rules = []
    if settings.trusted_proxies:
        rules.append("    http-request set-var(txn.trusted) bool(true) if trusted")
        rules.append(
            "    http-request set-var(txn.tls) bool(true) if { var(txn.trusted) -m bool }"
            " { req.hdr(X-Forwarded-Proto) -i https }"
        )
        rules.append("    http-request set-src req.hdr_ip(X-Forwarded-For,-1) if { var(txn.trusted) -m bool }")
    if (most := settings.connections_per_client) is not None:
        # A connection of HTTP/2 carries a hundred requests at a time, one of a proxy those of all its clients, and each
        # request holds a connection to a server.
        only = "" if settings.trusted_proxies else " { fc_http_major 2 }"
        rules.append(f"    http-request track-sc2 {_CLIENT} table ongoing if{only} !unlimited")
        rules.append(f"    http-request return {_TOO_MANY_ONGOING % most} if {{ sc2_conn_cur gt {most} }}")
    if (most := settings.requests_per_second) is not None:
        rules.append(f"    http-request track-sc1 {_CLIENT} table requests unless unlimited")
        rules.append(f"    http-request return {_TOO_MANY % most} if {{ sc1_http_req_rate gt {most} }}")
    return rules


def _scheme_rules(settings: EdgeSettings) -> list[str]:
    said = " || { var(txn.tls) -m bool }" if settings.trusted_proxies else ""
    return [
        "    http-request set-header X-Forwarded-Proto http",
        f"    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}{said}",
    ]


def _tables(settings: EdgeSettings) -> list[str]:
    tables = []
    if settings.connections_per_client is not None:
        tables.append(f"backend connections from common\n    {_TABLE} conn_cur\n")
        tables.append(f"backend ongoing from common\n    {_TABLE} conn_cur\n")
    if settings.requests_per_second is not None:
        tables.append(f"backend requests from common\n    {_TABLE} http_req_rate(1s)\n")
    return tables


def _backend(name: str, route: Route) -> str:
    if not _PREFIX.fullmatch(route.health_path):
        raise EdgeError(f"health path {route.health_path!r} is no path like /healthz")
    servers = [
        f"    server s{number} {_address(host)}:{port} check\n" for number, (host, port) in enumerate(route.servers)
    ]
    servers += [
        f"    server b{number} {_address(host)}:{port} check backup\n"
        for number, (host, port) in enumerate(route.backups)
    ]
    text = Template(_BACKEND).substitute(name=name, health_path=route.health_path)
    text += _THROUGH_SERVE if route.through_serve else ""
    # Requests of several hosts take unlike long.
    text += "    balance leastconn\n" if len(route.servers) > 1 else ""
    return text + "".join(servers)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _address(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise EdgeError(f"host {host!r} is no host name or address")
    return f"[{host}]" if ":" in host else host
