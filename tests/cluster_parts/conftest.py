"""What the tests of the edge share."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from cluster.certificate import self_signed
from cluster.edge import edge_child
from cluster.edge_configuration import Edge, Route
from cluster.instance import free_ports
from tests.cluster_parts.doors import Backend, Door, Open, answers
from tests.polling import until


@pytest.fixture
async def open_door(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a front door before a running backend; both are gone after the test."""
    doors: list[Door] = []
    backends: list[Backend] = []

    async def one(*more: tuple[str, Backend], **changes: object) -> Door:
        backend = Backend()
        backends.extend([backend, *(other for _, other in more)])
        for server in backends:
            await server.start()
        routes = [Route([("127.0.0.1", backend.port)])]
        routes += [Route([("127.0.0.1", other.port)], prefix) for prefix, other in more]
        port, tls_port, metrics_port = free_ports(3)
        certificate = self_signed(tmp_path, "localhost", datetime.now(UTC))
        edge = Edge("127.0.0.1", port, tls_port, certificate, routes, metrics_port)
        edge = replace(edge, **changes)  # type: ignore[arg-type]
        # Deeper than a unix socket's path may be.
        folder = tmp_path / ("deep and 'quoted' " * 6) / "edge"
        child = edge_child(edge, folder, tmp_path / "edge.log", chance=lambda: 0.0)
        life = asyncio.create_task(child.run())
        tls = ssl.create_default_context(cafile=certificate)
        client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, force_close=True),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        door = Door(edge, child, life, client, backend, tls, folder)
        doors.append(door)
        await child.wait_ready(10)
        await until(lambda: answers(door.status("/"), 200))
        return door

    yield one
    for door in doors:
        await door.client.close()
        await door.child.stop()
        await door.life
    for backend in backends:
        backend.release.set()
        await backend.stop()
