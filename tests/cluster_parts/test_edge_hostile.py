"""The stored corpus of hostile requests, sent to a front door with the real applications behind it."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
import yaml

from cluster.edge_configuration import Route
from config import load
from config.cache_settings import CacheSettings
from config.edge_settings import EdgeSettings
from serve_apps.asgi import Receive, Scope, Send
from serve_apps.cache import Cache
from serve_apps.cache_routes import CacheRoutes
from serve_apps.data import build
from serve_apps.pages import PagesApp
from tests.cluster_parts.doors import Door, Open
from tests.polling import until

CORPUS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "hostile" / "requests.yaml").read_text(encoding="utf-8")
)
SECRET = "secret-of-the-operator"
#: What no answer may hold: a path, a stack, what was asked to be put in a header, whatever runs here.
LEAKS = re.compile(
    rb"Traceback|File \"|/tmp/|/root/|/home/|root:x:|haproxy|uvicorn|^set-cookie|" + SECRET.encode(), re.I | re.M
)


def written_out(send: str) -> bytes:
    """`{A*3}` is AAA; bytes of the file are those that are sent."""
    return re.sub(r"\{(.+?)\*(\d+)\}", lambda found: found[1] * int(found[2]), send, flags=re.S).encode("latin-1")


async def ready() -> tuple[bool, dict[str, Any]]:
    return True, {}


@pytest.fixture
async def applications(tmp_path: Path) -> AsyncIterator[int]:
    """The port of the pages and the data API, over folders beside which a secret lies."""
    (tmp_path / "columns").mkdir()
    (tmp_path / "secret").write_text(SECRET)
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in ("index.html", "404.html"):
        (dist / name).write_text("<p>page</p>")
    pages = CacheRoutes(PagesApp(dist, ready), Cache(CacheSettings(), None), lambda: SECRET)
    data = build(load(tmp_path))

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        app = data if scope.get("path", "").startswith("/api/") else pages
        await app(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(both, port=0, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


async def answer_to(door: Door, sent: bytes) -> bytes:
    """All that comes back until the connection is closed, or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.edge.port)
    received = b""
    try:
        writer.write(sent)
        await writer.drain()
        while part := await asyncio.wait_for(reader.read(65536), 10 if not received else 0.2):
            received += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received


@pytest.mark.parametrize("kind", CORPUS)
async def test_hostile_requests_are_refused_and_nothing_leaks(open_door: Open, applications: int, kind: str) -> None:
    settings = EdgeSettings(head_timeout_s=1, body_timeout_s=1)
    door = await open_door(routes=[Route([("127.0.0.1", applications)], health_path="/healthz")], settings=settings)
    for request in CORPUS[kind]:
        received = await answer_to(door, written_out(request["send"]))
        said = int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/1.") else "closed"
        assert said in request["expect"], (request["send"][:100], received[:300])
        assert not LEAKS.search(received), (request["send"][:100], LEAKS.search(received))
        assert received.count(b"HTTP/1.1 ") <= 1, "one request has one answer"
    assert await door.status("/") == 200
    assert door.child.restarts == 0


async def test_all_of_them_at_once_take_no_connection_with_them(open_door: Open, applications: int) -> None:
    settings = EdgeSettings(head_timeout_s=1, body_timeout_s=1)
    door = await open_door(routes=[Route([("127.0.0.1", applications)], health_path="/healthz")], settings=settings)
    everything = [written_out(request["send"]) for requests in CORPUS.values() for request in requests]
    await asyncio.gather(*(answer_to(door, sent) for sent in everything * 3))
    await until(lambda: not clients_of(door), within_s=20)
    assert await door.status("/") == 200
    assert door.child.restarts == 0


def clients_of(door: Door) -> list[Any]:
    """Connections of the front door with clients."""
    assert door.child.pid is not None
    family = [psutil.Process(door.child.pid), *psutil.Process(door.child.pid).children(recursive=True)]
    return [
        connection
        for process in family
        for connection in process.net_connections("tcp")
        if connection.raddr and connection.laddr.port == door.edge.port
    ]
