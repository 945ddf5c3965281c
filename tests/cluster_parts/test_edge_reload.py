"""The front door goes on with another configuration, and who asks does not notice."""

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from cluster.certificate import self_signed
from cluster.edge import reload
from cluster.edge_configuration import Edge, EdgeError, Route
from config.edge_settings import EdgeSettings
from tests.cluster_parts.doors import Backend, Door, Open
from tests.polling import until


async def ask_until(stop: asyncio.Event, door: Door, base: str, keep: bool) -> list[str]:
    """What went wrong with one request after the other."""
    wrong = []
    connector = aiohttp.TCPConnector(ssl=False, force_close=not keep)
    async with aiohttp.ClientSession(connector=connector) as client:
        while not stop.is_set():
            try:
                # A POST: nobody sends it again when its connection ends.
                async with client.post(base + "/echo", data=b"x") as answer:
                    await answer.read()
                    if answer.status != 200:
                        wrong.append(str(answer.status))
            except (aiohttp.ClientError, OSError) as error:
                wrong.append(repr(error))
            await asyncio.sleep(0.002)
    return wrong


async def server_of(door: Door) -> str:
    async with door.client.get(door.bases[0] + "/echo") as answer:
        return str((await answer.json())["server"])


def serial(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


async def test_servers_certificate_and_settings_change_without_a_failed_request(
    open_door: Open, tmp_path: Path
) -> None:
    other = Backend("other")
    door = await open_door(("/other", other))
    stop = asyncio.Event()
    asking = [asyncio.create_task(ask_until(stop, door, base, keep)) for base in door.bases for keep in (True, False)]
    first = await asyncio.to_thread(serial, door.edge.tls_port)
    certificate = self_signed(tmp_path / "renewed", "localhost", datetime.now(UTC))
    for server in (other, door.backend, other):
        edge = replace(
            door.edge,
            routes=[Route([("127.0.0.1", server.port)])],
            certificate=certificate,
            settings=EdgeSettings(access_log_sample=2),
        )
        await asyncio.to_thread(reload, edge, door.folder)
        await until(lambda name=server.name: _is(server_of(door), name))
    stop.set()
    assert await asyncio.gather(*asking) == [[], [], [], []]
    assert await asyncio.to_thread(serial, door.edge.tls_port) != first
    assert door.child.restarts == 0


async def test_an_answer_that_was_begun_is_finished_by_the_old_worker(open_door: Open) -> None:
    door = await open_door()
    answer = asyncio.create_task(door.status("/slow"))
    await until(lambda: door.backend.seen == 1)
    await asyncio.to_thread(reload, door.edge, door.folder)
    assert await door.status("/") == 200
    door.backend.release.set()
    assert await answer == 200


async def test_what_haproxy_does_not_accept_changes_nothing(open_door: Open, tmp_path: Path) -> None:
    door = await open_door()
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    before = (door.folder / "haproxy.cfg").read_text()
    with pytest.raises(EdgeError, match=r"^the front door cannot be configured: .*bad\.pem"):
        await asyncio.to_thread(reload, replace(door.edge, certificate=bad), door.folder)
    assert (door.folder / "haproxy.cfg").read_text() == before
    assert await door.status("/") == 200


async def test_a_port_that_is_taken_leaves_the_old_worker_where_it_is(open_door: Open) -> None:
    door = await open_door()
    with pytest.raises(EdgeError, match="goes on as it was"):
        await asyncio.to_thread(reload, replace(door.edge, port=door.backend.port), door.folder)
    assert await door.status("/") == 200


def test_where_no_front_door_runs_it_says_so(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "localhost", datetime.now(UTC))
    edge = Edge("127.0.0.1", 1, 2, certificate, [Route([("127.0.0.1", 4)])], 3)
    with pytest.raises(EdgeError, match="does not answer: No such file"):
        reload(edge, tmp_path)


async def _is(value: object, expected: str) -> bool:
    return await value == expected  # type: ignore[misc]
