"""What the front door lets in, keeps, compresses and logs."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from config.part import Part, Positive

type Network = IPv4Network | IPv6Network

LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
Timeout = Annotated[float, Field(ge=0.1, le=86400)]


class EdgeSettings(Part):
    """See docs/front_door.md. Limits are per client address (per /64 of IPv6); None: no limit."""

    #: False: plain HTTP alone, for a tunnel or a proxy that ends TLS itself.
    tls: bool = True
    #: PEM: the certificate, its chain, and the key unless it has a file of its own. None: a self-signed one.
    certificate: Path | None = None
    certificate_key: Path | None = None
    #: Tells browsers to use TLS alone, on every port of the host, for a year.
    strict_transport: bool = False
    #: Whose X-Forwarded-For and X-Forwarded-Proto are believed.
    trusted_proxies: list[Network] = Field(default=[], max_length=1000)

    requests_per_second: Positive | None = 1000
    connections_per_client: Positive | None = 500
    #: Whom the limits do not concern.
    unlimited: list[Network] = Field(default=[*LOOPBACK], max_length=1000)

    #: For the whole head of a request, and then for its whole body.
    head_timeout_s: Timeout = 10
    body_timeout_s: Timeout = 10
    #: A client that takes nothing of its answer for so long is cut off.
    read_timeout_s: Timeout = 30
    #: Silence on a WebSocket, in both directions.
    websocket_timeout_s: Timeout = 3600
    #: After a reload, answers on their way and WebSockets have so long to end.
    drain_s: Timeout = 60

    cache_mb: Annotated[int, Field(ge=8, le=4095)] = 64
    cache_s: Annotated[int, Field(ge=1, le=86400)] = 3600
    compression: bool = True
    #: One of so many requests is written to logs/edge.log; None: none.
    access_log_sample: Positive | None = None

    @model_validator(mode="after")
    def _key_of_a_certificate(self) -> Self:
        if self.certificate_key is not None and self.certificate is None:
            raise ValueError("certificate_key needs certificate: the file it belongs to")
        if self.certificate is not None and not self.tls:
            raise ValueError("a certificate is of no use with tls: false")
        return self
