"""`GET /metrics`: the metrics of the whole instance for Prometheus, before an application that answers everything else.

They tell what is collected, how much of it and by whom it is read, and nothing of markets. Who asks from a network that
may (this machine, unless the settings say more) just gets them; everybody else shows a token or key, of any role.
"""

import functools
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from actors.metering.exposition import CONTENT_TYPE
from config.edge_settings import Network
from serve_apps.asgi import Asgi, BadRequest, Receive, Scope, Send, send_head, send_problem, send_whole
from serve_apps.auth_identity import identity_of
from serve_apps.client_address import client_of
from serve_apps.shared_answer import NoAnswer
from serve_apps.token import challenge

METRICS: Final = "/metrics"
_NO_STORE: Final = (b"cache-control", b"no-store")

Ask = Callable[[], Awaitable[bytes]]


class MetricsRoute:
    """ASGI application; `ask` gives the text, or raises `NoAnswer`."""

    def __init__(self, app: Asgi, ask: Ask, networks: Sequence[Network]) -> None:
        self._app = app
        self._ask = ask
        self._networks = tuple(networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != METRICS:
            await self._app(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            await send_problem(send, 405, "Only GET is answered here.", (_NO_STORE, (b"allow", b"GET, HEAD")))
            return
        try:
            self._check(scope)
            content = await self._ask()
        except BadRequest as error:
            await send_problem(send, error.status, str(error), (_NO_STORE, *challenge(error)))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), (_NO_STORE, (b"retry-after", b"1")))
        else:
            headers = (_NO_STORE, (b"content-type", CONTENT_TYPE.encode()))
            if scope["method"] == "HEAD":
                await send_head(send, 200, headers)
            else:
                await send_whole(send, 200, headers, content)

    def _check(self, scope: Scope) -> None:
        if identity_of(scope) is None and not _is_in(client_of(scope), self._networks):
            raise BadRequest(
                401,
                "Metrics are read from the networks of the setting metrics.networks, or with a token of any role: "
                "POST /api/v1/auth/login, then Authorization: Bearer TOKEN.",
            )


@functools.lru_cache(1024)
def _is_in(client: str, networks: tuple[Network, ...]) -> bool:
    try:
        # Of IPv6 clients their network is known.
        known = ipaddress.ip_network(client)
    except ValueError:
        return False
    return any(
        known.version == network.version and known.subnet_of(network)  # type: ignore[arg-type]
        for network in networks
    )
