"""What the front door of an instance is, from its settings, and `rayfeed edge`."""

import json
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer

from cluster.certificate import self_signed, your_own
from cluster.edge_configuration import Edge, Route
from cluster.instance import Instance, InstanceError
from cluster.options import AsJson, Data
from config import Settings, load

#: Parts of the site that replicas of other hosts may answer too.
ELSEWHERE: Final = ("data", "live")

app = typer.Typer(no_args_is_help=True, help="The front door.")


@app.callback()
def edge() -> None:
    """The front door."""


@app.command()
def reload(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Take over changed `edge` settings and a renewed certificate; no request fails."""
    running = Instance.read(data.absolute())
    if running is None:
        raise InstanceError(f"nothing runs on {data}; start it with: rayfeed up --data {data}")
    if running.details is None:
        raise InstanceError(f"{running}; ask again in a moment")
    from cluster.other_lanes import go_on
    from cluster.ray_head import runtime_folder

    details = running.details
    settings = load(data, {name: getattr(details, name) for name in ("host", "port", "tls_port")})
    go_on(settings, details.ports, runtime_folder(settings.data) / "edge")
    typer.echo(json.dumps({"reloaded": True}) if as_json else "the front door goes on with its new configuration")


def front_door(settings: Settings, ports: Mapping[str, int], others: Sequence[str] = ()) -> Edge:
    """`ports` as in `cluster.instance.Details`; `others` are the addresses of hosts that answer too, as far as they
    have replicas. Raises CertificateError for a certificate that is of no use."""
    certificate, own = None, settings.edge
    if own.tls:
        now = datetime.now(UTC)
        if own.certificate is None:
            certificate = self_signed(settings.data, socket.gethostname(), now)
        else:
            certificate = your_own(own.certificate, own.certificate_key, settings.data, now)
    serve = ("127.0.0.1", ports["serve"])

    def lanes(name: str) -> list[tuple[str, int]]:
        elsewhere = others if name in ELSEWHERE else ()
        return [(host, ports[name]) for host in ("127.0.0.1", *elsewhere)]

    routes = [
        # Serve's proxy answers while no replica of this node listens on the lane; it does not know WebSockets.
        *(
            Route(lanes(name), prefix, backups=[serve], through_serve=True)
            for name, prefix in (("pages", None), ("market", "/api/v1"), ("data", "/api"))
        ),
        *(Route(lanes("live"), path, health_path="/api/v1/stream/health") for path in ("/ws", "/api/v1/stream")),
    ]
    return Edge(settings.host, settings.port, settings.tls_port, certificate, routes, ports["edge metrics"], own)
