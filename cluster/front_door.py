"""What the front door of an instance is, from its settings, and `rayfeed edge`."""

import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import typer

from cluster.certificate import self_signed, your_own
from cluster.edge_configuration import Edge, Route
from cluster.instance import Instance, InstanceError
from cluster.options import AsJson, Data
from config import Settings, load

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
    # What listens where stays: only a start can change it.
    where = {name: getattr(running.details, name) for name in ("host", "port", "tls_port")}
    settings = load(data, where)
    from cluster.edge import reload as go_on_as
    from cluster.ray_head import runtime_folder

    go_on_as(front_door(settings, running.details.ports), runtime_folder(settings.data) / "edge")
    typer.echo(json.dumps({"reloaded": True}) if as_json else "the front door goes on with its new configuration")


def front_door(settings: Settings, ports: Mapping[str, int]) -> Edge:
    """`ports` as in `cluster.instance.Details`. Raises CertificateError for a certificate that is of no use."""
    certificate, own = None, settings.edge
    if own.tls:
        now = datetime.now(UTC)
        if own.certificate is None:
            certificate = self_signed(settings.data, socket.gethostname(), now)
        else:
            certificate = your_own(own.certificate, own.certificate_key, settings.data, now)
    serve = ("127.0.0.1", ports["serve"])
    routes = [
        # Serve's proxy answers while no replica of this node listens on the lane; it does not know WebSockets.
        *(
            Route([("127.0.0.1", ports[name])], prefix, backups=[serve], through_serve=True)
            for name, prefix in (("pages", None), ("market", "/api/v1"), ("data", "/api"))
        ),
        *(
            Route([("127.0.0.1", ports["live"])], path, health_path="/api/v1/stream/health")
            for path in ("/ws", "/api/v1/stream")
        ),
    ]
    return Edge(settings.host, settings.port, settings.tls_port, certificate, routes, ports["edge metrics"], own)
