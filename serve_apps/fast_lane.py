"""A second door of a replica: its ASGI application served straight from a port of the node, without Serve's work on
each request. Serve still starts, checks, scales and stops the replica; the lane opens and closes with it.

All replicas of a node listen on the same port and the kernel spreads connections over them, so nobody has to be
told when one comes or goes; while none is there, the edge asks Serve.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_apps.asgi import Message, Receive, Scope, Send
from serve_apps.scaling import Load, Measured

#: Connections one replica takes; the edge keeps few and uses them again.
MAX_CONNECTIONS = 2000

#: One whole GET of data and nothing behind it, without a header that asks for anything but the plain answer, says where
#: the request ends, who asks, or is about the connection. Whatever does not look like this goes the usual way.
_PLAIN: Final = re.compile(
    rb"GET /api/data\?([A-Za-z0-9&=,._~:/+%-]+) HTTP/1\.1\r\n"
    rb"(?:(?!(?i:content-|transfer-|connection:|keep-alive:|upgrade:|expect:|range:|if-|te:|trailer:))"
    rb"(?!(?i:authorization:|x-api-key:))"
    rb"(?!(?i:accept:)(?! \*/\*\r))"
    rb"[A-Za-z0-9_-]+:[\t -~]*\r\n)+\r\n"
)


#: A query string -> the lines of headers and the body of `/api/data`, or None.
AtOnce = Callable[[bytes], tuple[bytes, bytes] | None]


class _Server(uvicorn.Server):
    """Signals belong to the process of the replica, not to this server in it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _connection(at_once: AtOnce) -> type[HttpToolsProtocol]:
    class Connection(HttpToolsProtocol):
        """Answers a plain request while it is being read, which takes a third of the time that a task, a scope and
        messages of their own would; any other as uvicorn does."""

        _within = False

        def data_received(self, data: bytes) -> None:
            plain = None if self._within else _PLAIN.fullmatch(data)
            if plain is None or not self._idle() or (answer := at_once(plain[1])) is None:
                super().data_received(data)
                return
            own = [b"%b: %b\r\n" % line for line in self.server_state.default_headers]
            self.transport.write(b"".join([b"HTTP/1.1 200 OK\r\n", *own, answer[0], b"\r\n", answer[1]]))
            self.on_response_complete()

        def on_message_begin(self) -> None:
            self._within = True
            super().on_message_begin()

        def on_message_complete(self) -> None:
            self._within = False
            super().on_message_complete()

        def _idle(self) -> bool:
            """Whether nobody else writes to this connection, whoever is at the other end reads, and there is room."""
            return (
                (self.cycle is None or self.cycle.response_complete)
                and not self.flow.write_paused
                and not self.transport.is_closing()
                and len(self.connections) < MAX_CONNECTIONS
            )

    return Connection


class FastLane:
    """`app` as it is, which also listens on `port` of the loopback interface while its life cycle lasts. Requests on
    their way when the replica stops may take `drain_s`. `at_once` answers plain requests there, without `app`; None:
    `app` answers all."""

    def __init__(self, app: Measured, port: int, drain_s: float, at_once: AtOnce | None = None) -> None:
        self._app = app
        self._protocol: Any = "httptools" if at_once is None else _connection(at_once)
        self._port = port
        self._drain_s = drain_s

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
                await send(message)

            await self._app(scope, receive, opened)

    @contextlib.asynccontextmanager
    async def _listening(self) -> Any:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", self._port))
        config = uvicorn.Config(
            self._app,
            http=self._protocol,
            interface="asgi3",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=max(1, round(self._drain_s)),
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
