"""What the front door does about clients that ask too often, too slowly or too much, and whom it believes."""

import asyncio
import re
import socket
from contextlib import suppress
from ipaddress import IPv4Network, ip_network
from pathlib import Path

import aiohttp
import pytest
from pydantic import ValidationError

from config.edge_settings import EdgeSettings
from tests.cluster_parts.doors import BODY, TEXT, Door, Open
from tests.polling import until

EVERYBODY = ip_network("127.0.0.0/8")


async def connected(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", door.edge.port)


async def metric(door: Door, name: str) -> int:
    """What HAProxy counts of its clients."""
    async with door.client.get(f"http://127.0.0.1:{door.edge.metrics_port}/metrics") as answer:
        found = re.search(rf'^haproxy_frontend_{name}{{proxy="door"}} (\d+)$', await answer.text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def refused(door: Door, expected: int) -> bool:
    """Whether so many requests were refused."""
    async with door.client.get(f"http://127.0.0.1:{door.edge.metrics_port}/metrics") as answer:
        return f'haproxy_frontend_http_responses_total{{proxy="door",code="4xx"}} {expected}\n' in await answer.text()


async def connections(door: Door, expected: int) -> bool:
    """Whether so many clients are connected."""
    return await metric(door, "current_sessions") == expected


async def came(door: Door, before: int) -> bool:
    """Whether another client was connected since there had been so many."""
    return await metric(door, "connections_total") > before


def _taken(client: socket.socket) -> int:
    """How much of an answer still comes."""
    taken = 0
    with suppress(ConnectionResetError):
        while some := client.recv(1 << 16):
            taken += len(some)
    return taken


async def seen_headers(door: Door, **headers: str) -> dict[str, str]:
    async with door.client.get(door.bases[0] + "/echo", headers=headers) as answer:
        assert answer.status == 200
        return dict((await answer.json())["headers"])


async def test_one_address_may_ask_so_often_and_is_told_when_to_come_back(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(requests_per_second=5, unlimited=[ip_network("127.0.0.2/32")]))
    await until(lambda: _limited(door))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as unlimited:
        for _ in range(12):
            async with unlimited.get(door.bases[0] + "/") as answer:
                assert answer.status == 200


async def _limited(door: Door) -> bool:
    """Whether one of many requests at once was refused, in the form that is promised."""

    async def ask() -> int:
        async with door.client.get(door.bases[0] + "/") as answer:
            if answer.status == 429:
                assert answer.headers["Retry-After"] == "1"
                assert answer.content_type == "application/problem+json"
                assert (await answer.json(content_type=None))["status"] == 429
            return answer.status

    return 429 in await asyncio.gather(*(ask() for _ in range(20)))


async def test_by_default_nothing_is_limited_on_loopback(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(requests_per_second=1, connections_per_client=1))
    assert await asyncio.gather(*(door.status("/") for _ in range(20))) == [200] * 20


async def test_one_address_may_have_so_many_connections(open_door: Open) -> None:
    limited = EdgeSettings(connections_per_client=3, requests_per_second=None, unlimited=[ip_network("127.0.0.2/32")])
    door = await open_door(settings=limited)
    await until(lambda: connections(door, 0))
    held = [await connected(door) for _ in range(3)]
    try:
        await until(lambda: connections(door, 3))
        # It may be gone before it was there.
        with suppress(ConnectionResetError):
            reader, writer = await connected(door)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert await asyncio.wait_for(_rest(reader), 10) == b""
        held[0][1].close()
        await until(lambda: _ok(door))
    finally:
        for _, writer in held:
            writer.close()


async def _ok(door: Door) -> bool:
    return await door.status("/") == 200


async def test_a_trusted_proxy_says_who_the_client_is(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(tls=False, trusted_proxies=[EVERYBODY]), certificate=None)
    seen = await seen_headers(door, **{"X-Forwarded-For": "6.6.6.6, 203.0.113.7", "X-Forwarded-Proto": "https"})
    assert seen["x-forwarded-for"] == "203.0.113.7"
    assert seen["x-forwarded-proto"] == "https"
    assert (await seen_headers(door, **{"X-Forwarded-For": "rubbish"}))["x-forwarded-for"] == "127.0.0.1"
    assert (await seen_headers(door, **{"X-Forwarded-Proto": "gopher"}))["x-forwarded-proto"] == "http"


async def test_as_many_networks_as_settings_may_name_are_known(open_door: Open) -> None:
    """A content delivery network has hundreds of them."""
    many = [*(ip_network(f"10.0.{number // 256}.{number % 256}/32") for number in range(999)), EVERYBODY]
    settings = EdgeSettings(requests_per_second=5, unlimited=many, trusted_proxies=many)
    door = await open_door(settings=settings)
    assert (await seen_headers(door, **{"X-Forwarded-For": "203.0.113.7"}))["x-forwarded-for"] == "203.0.113.7"
    assert {await door.status("/") for _ in range(20)} == {200}


async def test_nobody_else_says_who_the_client_is(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(trusted_proxies=[ip_network("127.0.0.2/32")]))
    seen = await seen_headers(door, **{"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"})
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")


async def test_limits_behind_a_proxy_are_of_its_clients(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(requests_per_second=5, trusted_proxies=[EVERYBODY]))

    async def ask(client: str) -> int:
        async with door.client.get(door.bases[0] + "/", headers={"X-Forwarded-For": client}) as answer:
            return answer.status

    async def greedy() -> bool:
        return 429 in await asyncio.gather(*(ask("203.0.113.7") for _ in range(20)))

    await until(greedy)
    assert await ask("203.0.113.8") == 200


async def test_plain_mode_has_no_tls_port(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(tls=False), certificate=None)
    assert await door.status("/") == 200
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", door.edge.tls_port)) != 0


async def test_a_body_that_comes_slowly_never_reaches_a_server(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(body_timeout_s=0.3))
    for head in (b"Content-Length: 1000", b"Transfer-Encoding: chunked"):
        reader, writer = await connected(door)
        writer.write(b"POST /broken HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
        dripping = asyncio.create_task(_drip(writer, b"1\r\na\r\n"))
        assert (await _rest(reader)).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        writer.close()
    assert door.backend.seen == 0


async def test_a_body_that_is_too_large_is_refused_and_a_whole_one_passes(open_door: Open) -> None:
    door = await open_door()
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + (b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 50 + b"0\r\n\r\n"
    for rest in (b"Content-Length: 40961\r\n\r\n", chunked):
        reader, writer = await connected(door)
        writer.write(b"POST /broken HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + rest)
        assert (await _rest(reader)).startswith(b"HTTP/1.1 413 ")
        writer.close()
    assert door.backend.seen == 0
    async with door.client.post(door.bases[0] + "/echo", data=b"x" * 40_000) as answer:
        assert answer.status == 200


async def test_a_client_that_does_not_read_its_answer_is_cut_off(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(read_timeout_s=0.3))
    before = await metric(door, "connections_total")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", door.edge.port))
        client.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        # It may have been cut off before anybody looks.
        await until(lambda: came(door, before))
        await until(lambda: connections(door, 0))
        client.settimeout(10)
        assert await asyncio.to_thread(_taken, client) < len(BODY)
    assert await door.status("/") == 200


async def test_a_silent_websocket_ends(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(websocket_timeout_s=0.3))
    async with door.client.ws_connect(door.bases[0] + "/ws") as websocket:
        message = await websocket.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)


async def test_requests_are_logged_without_their_query(open_door: Open, tmp_path: Path) -> None:
    door = await open_door(settings=EdgeSettings(access_log_sample=1))
    assert await door.status("/logged?token=secret") == 200
    await until(lambda: " GET /logged HTTP/1.1 200 " in (tmp_path / "edge.log").read_text())
    assert "secret" not in (tmp_path / "edge.log").read_text()


async def test_requests_are_logged_only_when_wanted(open_door: Open, tmp_path: Path) -> None:
    door = await open_door()
    assert await door.status("/silent") == 200
    await door.child.stop()
    assert "silent" not in (tmp_path / "edge.log").read_text()


async def test_compression_can_be_switched_off(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(compression=False))
    async with door.client.get(door.bases[0] + "/text", headers={"Accept-Encoding": "gzip"}) as answer:
        assert await answer.text() == TEXT


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_second": 0},
        {"trusted_proxies": ["10.0.0.1/8"]},
        {"trusted_proxies": ["proxy.example\n bind :1"]},
        {"certificate_key": "/a"},
        {"tls": False, "certificate": "/a"},
        {"cache_mb": 1_000_000},
        {"head_timeout_s": float("inf")},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EdgeSettings.model_validate(wrong)


async def _drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    while True:
        writer.write(piece)
        await asyncio.sleep(0.05)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("unlimited", [[], [ip_network("127.0.0.2/32")]])
async def test_one_address_holds_no_more_requests_than_connections_however_it_sends_them(
    open_door: Open, unlimited: list[IPv4Network]
) -> None:
    """Over HTTP/2 a connection carries a hundred requests at a time."""
    door = await open_door(settings=EdgeSettings(connections_per_client=5, unlimited=unlimited))
    url, certificate = door.bases[1], str(door.edge.certificate)
    asking = ("curl", "-s", "--http2", "-Z", "--parallel-max", "60", "--cacert", certificate, "-w", "%{http_code}\n")
    process = await asyncio.create_subprocess_exec(*asking, *[f"{url}/slow"] * 60, stdout=asyncio.subprocess.DEVNULL)
    try:
        await until(lambda: refused(door, 55))
        # They may still be on their way.
        await until(lambda: door.backend.seen == 5)
    finally:
        process.kill()
        await process.wait()
    again = await asyncio.create_subprocess_exec(*asking, *["-o", "/dev/null"], url, stdout=asyncio.subprocess.PIPE)
    assert (await again.communicate())[0] == b"200\n", "they are counted no more"
