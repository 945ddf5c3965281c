"""One simulated exchange's WebSocket and REST servers, on free ports of one address."""

import asyncio
import http
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiohttp.web
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from actors.simulator.faults import Faults
from actors.simulator.session import UnknownTarget
from actors.simulator.sessions import session_at

#: Nobody on another host reaches it.
LOOPBACK: Final = "127.0.0.1"
#: What a client may send at once, and how long a polite good-bye may take (seconds).
_MAX_MESSAGE: Final = 64 * 1024
_CLOSE_TIMEOUT: Final = 1.0
#: Bytes the kernel has not taken, above which a sender waits.
_WRITE_LIMIT: Final = 256 * 1024


class LoopbackServers:
    """Opens both servers, then owns them until `close`."""

    def __init__(
        self,
        exchange: str,
        handler: Callable[[ServerConnection], Awaitable[None]],
        rest: aiohttp.web.Application,
        faults: Faults,
        subprotocol: str | None = None,
    ) -> None:
        """`handler` serves a connection whose path the exchange has; others get a 404."""
        self._exchange = exchange
        self._handler = handler
        rest.middlewares.append(self._answer_rest)
        self._rest = aiohttp.web.AppRunner(rest, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT)
        self._faults = faults
        self._subprotocol = subprotocol
        self._websocket: Server | None = None
        #: Above 0 nobody is let in, over WebSocket or REST.
        self.down = 0

    async def open(self, host: str = LOOPBACK) -> tuple[str, str]:
        """Start both and return their addresses, WebSocket and REST: scheme, host and port."""
        self._websocket = await serve(
            self._serve,
            host,
            0,
            process_request=self._check_target,
            select_subprotocol=self._select_subprotocol,
            compression=None,
            server_header=None,
            max_size=_MAX_MESSAGE,
            write_limit=_WRITE_LIMIT,
            close_timeout=_CLOSE_TIMEOUT,
            # Nobody is cut for a late pong: a client that is slow to read is slow to answer too.
            ping_interval=20,
            ping_timeout=None,
        )
        await self._rest.setup()
        site = aiohttp.web.TCPSite(self._rest, host, 0)
        await site.start()
        websocket_port = next(iter(self._websocket.sockets)).getsockname()[1]
        rest_port = self._rest.addresses[0][1]
        return f"ws://{host}:{websocket_port}", f"http://{host}:{rest_port}"

    async def close(self) -> None:
        """Close both and wait for every connection's handler to end. Does no harm when not open."""
        # Whoever waits for the end of a silence would wait on.
        self._faults.end_all()
        self._faults.silent = False
        if self._websocket is not None:
            self._websocket.close()
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._websocket.wait_closed()
            except TimeoutError:
                # The good-bye waits behind what somebody does not read.
                self._faults.cut()
                await self._websocket.wait_closed()
        await self._rest.cleanup()

    async def _serve(self, connection: ServerConnection) -> None:
        self._faults.connections.add(connection)
        try:
            async with connection:
                await self._handler(connection)
        finally:
            self._faults.connections.discard(connection)

    def _check_target(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.down:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "\n")
        if self._faults.refuse is not None:
            refusal = connection.respond(http.HTTPStatus(self._faults.refuse), "\n")
            self._faults.refused_one()
            return refusal
        try:
            session_at(self._exchange, request.path)(request.path)
        except UnknownTarget as error:
            return connection.respond(http.HTTPStatus.NOT_FOUND, f"{error}\n")
        return None

    def _select_subprotocol(self, _connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((name for name in offered if name == self._subprotocol), None)

    @aiohttp.web.middleware
    async def _answer_rest(
        self,
        request: aiohttp.web.Request,
        handler: Callable[[aiohttp.web.Request], Awaitable[aiohttp.web.StreamResponse]],
    ) -> aiohttp.web.StreamResponse:
        if self.down:
            return aiohttp.web.json_response({}, status=503)
        instead = await self._faults.rest(request)
        return await handler(request) if instead is None else instead
