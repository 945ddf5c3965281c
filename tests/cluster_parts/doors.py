"""Front doors before real small servers, for the tests of the edge."""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from cluster.child import Child
from cluster.edge_configuration import Edge
from cluster.instance import free_ports

BODY = os.urandom(12_000_000)
TEXT = "<p>price</p>" * 1000


class Backend:
    """A real small server that can be stopped and started again on its port."""

    def __init__(self, name: str = "one") -> None:
        self.name = name
        self.port = free_ports(1)[0]
        self.seen = 0
        self.release = asyncio.Event()
        self.asked_once: set[asyncio.Transport] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/-/healthz", self._health)
        app.router.add_get("/big", self._big)
        app.router.add_get("/text", self._text)
        app.router.add_get("/cached", self._cached)
        app.router.add_get("/slow", self._slow)
        app.router.add_get("/ws", self._websocket)
        app.router.add_route("*", "/broken", self._broken)
        app.router.add_get("/once", self._once)
        app.router.add_get("/busy", self._busy)
        app.router.add_route("*", "/{tail:.*}", self._echo)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _big(self, request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="application/octet-stream")

    async def _text(self, request: web.Request) -> web.Response:
        kind = request.query.get("type", "text/html")
        return web.Response(body=TEXT.encode(), content_type=kind)

    async def _cached(self, request: web.Request) -> web.Response:
        self.seen += 1
        headers = {"ETag": '"same"', "Cache-Control": request.query.get("control", "")}
        return web.Response(text=str(self.seen), headers=headers)

    async def _slow(self, request: web.Request) -> web.Response:
        self.seen += 1
        await self.release.wait()
        return web.Response(text="done")

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data + "!")
        return socket

    async def _broken(self, request: web.Request) -> web.Response:
        """Every first request loses its connection before the answer."""
        self.seen += 1
        if self.seen % 2 == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(text=str(self.seen))

    async def _busy(self, request: web.Request) -> web.Response:
        return web.Response(status=503, headers=dict(request.query))

    async def _once(self, request: web.Request) -> web.Response:
        """Each connection has one answer; the next request on it finds it closed. The first wait for each other."""
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        if transport in self.asked_once:
            transport.abort()
        self.asked_once.add(transport)
        await self.release.wait()
        return web.Response(text="done")

    async def _echo(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"server": self.name, "headers": [[name.lower(), value] for name, value in request.headers.items()]}
        )


@dataclass
class Door:
    edge: Edge
    child: Child
    life: asyncio.Task[None]
    client: aiohttp.ClientSession
    backend: Backend
    tls: ssl.SSLContext
    folder: Path
    bases: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.bases = (f"http://127.0.0.1:{self.edge.port}", f"https://127.0.0.1:{self.edge.tls_port}")

    async def status(self, path: str) -> int:
        try:
            async with self.client.get(self.bases[0] + path) as answer:
                return answer.status
        except aiohttp.ClientConnectionError:
            return 0


Open = Callable[..., Awaitable[Door]]


async def answers(value: Awaitable[int], expected: int) -> bool:
    return await value == expected
