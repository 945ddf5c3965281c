"""From where a request comes: the edge says so in X-Forwarded-For, which nobody else can set."""

import functools
import ipaddress

from serve_apps.asgi import Scope, header_of

UNKNOWN = "unknown"


def client_of(scope: Scope) -> str:
    """The address of the client; of IPv6 its network (/64), as one client has all of that. Who comes past the edge is
    who the connection says."""
    forwarded = header_of(scope, b"x-forwarded-for")
    if forwarded is not None:
        # What the edge itself has seen is last.
        return _named(forwarded.rpartition(b",")[2].strip().decode("latin-1"))
    peer = scope.get("client")
    return _named(str(peer[0])) if peer else UNKNOWN


def is_here(client: str) -> bool:
    """Whether that client is on this machine."""
    return client.startswith("127.") or client == "::1"


def is_unheard(scope: Scope) -> bool:
    """Whether nobody on the way hears what is said: it is encrypted, or stays on this machine."""
    return header_of(scope, b"x-forwarded-proto") == b"https" or is_here(client_of(scope))


@functools.lru_cache(4096)
def _named(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return "::1"
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
