"""A second door of a replica: its ASGI application served straight from a port of the node, without Serve's work on
each request. Serve still starts, checks, scales and stops the replica; the lane opens and closes with it.

All replicas of a node listen on the same port and the kernel spreads connections over them, so nobody has to be
told when one comes or goes; while none is there, the edge asks Serve.
"""

import asyncio
import contextlib
import contextvars
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import uvicorn

from serve_apps.asgi import Message, Receive, Scope, Send
from serve_apps.scaling import Load, Measured

#: Where the edge is.
LOOPBACK = "127.0.0.1"
#: Connections one replica takes; the edge keeps few and uses them again.
MAX_CONNECTIONS = 2000
#: When the lane closes, whoever asks within this time is told to come on another connection.
POLITE_S = 0.5
#: So much of an answer waits for the edge on the same host: it reads it while it is in the processor's caches.
SEND_BUFFER_BYTES = 256 * 1024
#: A connection whose other side takes nothing for so long is closed by the kernel, whoever waits for it.
STUCK_MS = 30_000


class _Server(uvicorn.Server):
    """Signals belong to the process of the replica, not to this server in it. Connections end with an answer where
    they can: a request sent on one that is just being closed is lost to a client who must not repeat it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self.server_state.default_headers.append((b"connection", b"close"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLITE_S):
                while self.server_state.connections:  # noqa: ASYNC110 - uvicorn has nothing to await
                    await asyncio.sleep(0.01)
        await super().shutdown(sockets)


class FastLane:
    """`app` as it is, which also listens on `port` of `host` while its life cycle lasts. Requests on their way when the
    replica stops may take `drain_s`. `options` are further ones of uvicorn."""

    def __init__(
        self,
        app: Measured,
        port: int,
        drain_s: float,
        options: Mapping[str, Any] | None = None,
        host: str = LOOPBACK,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._drain_s = drain_s
        self._options: dict[str, Any] = {"http": "httptools", "limit_concurrency": MAX_CONNECTIONS, **(options or {})}

    @property
    def load(self) -> Load:
        """What the replica does, on both doors."""
        return self._app.load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        async with contextlib.AsyncExitStack() as lane:

            async def opened(message: Message) -> None:
                if message["type"] == "lifespan.startup.complete":
                    await lane.enter_async_context(self._listening())
                elif message["type"] == "lifespan.shutdown.complete":
                    # Serve takes the threads of the replica away as soon as it hears that.
                    await lane.aclose()
                await send(message)

            await self._app(scope, receive, opened)

    @contextlib.asynccontextmanager
    async def _listening(self) -> Any:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MS)
        if self._host == LOOPBACK:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_CONGESTION"):
                # Nothing is lost and nobody is in the way there: what a host's BBR paces arrives half as fast.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        listener.bind((self._host, self._port))
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(self._drain_s)),
            **self._options,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has nothing to await
                await asyncio.sleep(0.01)
            yield
        finally:
            server.should_exit = True
            await serving


class ThroughServe:
    """`app` as Serve asks it. Serve's own proxy, which answers while no other door of a replica is known, pickles what
    is sent: views of mapped files, which lanes send as they are, have to be bytes there. When a client leaves, it has
    Ray cancel what actors were asked in the context of its request, and what they ask others for that: changes that are
    half told, answers that others wait for. So a request is answered in the replica's context, as on its lane."""

    def __init__(self, app: Measured | FastLane) -> None:
        self._app = app
        self._context = contextvars.copy_context()

    @property
    def load(self) -> Load:
        """What the replica does, on both doors."""
        return self._app.load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_bytes(message: Message) -> None:
            if not isinstance(body := message.get("body", b""), bytes):
                message["body"] = bytes(body)
            await send(message)

        if scope["type"] == "lifespan":
            await self._app(scope, receive, in_bytes)
            return
        await asyncio.create_task(self._app(scope, receive, in_bytes), context=self._context.copy())
