import asyncio
import gzip
import hashlib
import os
import shutil
import signal
import ssl
import sys
from collections.abc import Sized
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.edge import edge_child
from cluster.edge_configuration import Edge, EdgeError, Route, configuration
from cluster.instance import free_ports
from config.edge_settings import EdgeSettings
from serve_apps.asgi import Receive, Scope, Send, send_whole, serve_lifespan
from serve_apps.compressed import Compressed
from tests.cluster_parts.doors import BODY, TEXT, Backend, Open, answers
from tests.polling import gone, until
from tests.serve_apps.conftest import serving


async def test_plain_and_tls_answer_alike_and_say_nosniff(open_door: Open) -> None:
    door = await open_door()
    for base in door.bases:
        async with door.client.get(base + "/big") as answer:
            assert answer.status == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Strict-Transport-Security" not in answer.headers
            assert "Content-Encoding" not in answer.headers
            digest = hashlib.sha256(await answer.read()).digest()
            assert digest == hashlib.sha256(BODY).digest()


async def test_http2_is_spoken_over_tls(open_door: Open) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl to speak HTTP/2")
    door = await open_door()
    for option, version in (("--http2", b"2"), ("--http1.1", b"1.1")):
        process = await asyncio.create_subprocess_exec(
            *(curl, "-s", option, "--cacert", door.edge.certificate, "-o", "/dev/null"),
            *("-w", "%{http_version} %{http_code} %{size_download}", door.bases[1] + "/big"),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 10)
        assert output == version + b" 200 12000000"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_below_1_2_is_refused(open_door: Open, version: ssl.TLSVersion) -> None:
    door = await open_door()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", door.edge.tls_port, ssl=old)


async def test_who_the_client_is_only_the_door_says(open_door: Open) -> None:
    door = await open_door()
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=6.6.6.6",
        "X-Real-IP": "6.6.6.6",
    }
    for base, scheme in zip(door.bases, ("http", "https"), strict=True):
        async with door.client.get(base + "/echo", headers=forged) as answer:
            seen = [(name, value) for name, value in (await answer.json())["headers"] if "forw" in name]
            assert sorted(seen) == [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", scheme)]
            assert "6.6.6.6" not in await answer.text()


async def test_without_a_server_it_answers_503_with_retry_after_until_one_is_back(open_door: Open) -> None:
    door = await open_door()
    await door.backend.stop()
    await until(lambda: answers(door.status("/"), 503))
    for base in door.bases:
        async with door.client.get(base + "/") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.content_type == "application/problem+json"
            assert (await answer.json(content_type=None))["status"] == 503
    await door.backend.start()
    await until(lambda: answers(door.status("/"), 200))


async def test_who_gets_a_503_is_told_when_to_come_again(open_door: Open) -> None:
    door = await open_door()
    for said, told in (("", "1"), ("?Retry-After=30", "30")):
        async with door.client.get(f"{door.bases[0]}/busy{said}") as answer:
            assert (answer.status, answer.headers.getall("Retry-After")) == (503, [told])


async def test_a_prefix_takes_its_path_and_all_below_it_and_no_other(open_door: Open) -> None:
    door = await open_door(("/api/data", Backend("data")), ("/api", Backend("api")))
    expected = {
        "/api/data": "data",
        "/api/data/x": "data",
        "/api/data?symbol=a": "data",
        "/api/database": "api",
        "/api": "api",
        "/apis": "one",
        "/": "one",
    }
    for path, server in expected.items():
        async with door.client.get(door.bases[0] + path) as answer:
            assert (await answer.json())["server"] == server, path


async def test_a_request_moves_to_another_server_when_one_is_gone(open_door: Open) -> None:
    other = Backend("other")
    await other.start()
    dead = free_ports(1)[0]
    door = await open_door(routes=[Route([("127.0.0.1", dead), ("127.0.0.1", other.port)])])
    assert [await door.status("/") for _ in range(20)] == [200] * 20
    await other.stop()


async def test_only_what_may_be_repeated_is_sent_again(open_door: Open) -> None:
    door = await open_door()
    assert await door.status("/broken") == 200
    assert door.backend.seen == 2
    async with door.client.post(door.bases[0] + "/broken", data=b"order") as answer:
        assert answer.status == 502
        assert answer.headers["Retry-After"] == "1"
    assert door.backend.seen == 3


async def test_a_request_outlives_all_the_connections_a_stopping_server_leaves(open_door: Open) -> None:
    """The edge keeps connections for the next requests; those of a server that stops are all closed at once."""
    door = await open_door()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as kept:

        async def ask() -> int:
            async with kept.get(door.bases[0] + "/once") as answer:
                await answer.read()
                return answer.status

        first = [asyncio.create_task(ask()) for _ in range(5)]
        await until(lambda: answers(_size(door.backend.asked_once), 5))
        door.backend.release.set()
        assert await asyncio.gather(*first) == [200] * 5
        assert [await ask() for _ in range(5)] == [200] * 5


async def _size(found: Sized) -> int:
    return len(found)


async def test_text_is_compressed_and_binary_never(open_door: Open) -> None:
    door = await open_door()
    for kind, encoding in {
        "text/html": "gzip",
        "application/json": "gzip",
        "application/octet-stream": None,
        "application/vnd.apache.arrow.stream": None,
        "image/png": None,
    }.items():
        url = f"{door.bases[0]}/text?type={kind}"
        async with door.client.get(url, headers={"Accept-Encoding": "gzip, deflate"}) as answer:
            assert answer.headers.get("Content-Encoding") == encoding, kind
            body = await answer.read()
            assert (gzip.decompress(body) if encoding else body) == TEXT.encode()


async def test_a_text_is_kept_as_it_is_and_compressed(open_door: Open) -> None:
    asked = []

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
            return
        asked.append(scope["path"])
        kept = ((b"cache-control", b"public, s-maxage=60"), (b"content-type", b"text/html"), (b"etag", b'"one"'))
        await send_whole(send, 200, kept, TEXT.encode())

    with serving(Compressed(site)) as port:
        door = await open_door(routes=[Route([("127.0.0.1", port)])])
        for accepted, encoding in [("identity", None), ("gzip", "gzip"), ("gzip, deflate, br", "gzip")] * 2:
            async with door.client.get(door.bases[0] + "/page", headers={"Accept-Encoding": accepted}) as answer:
                body = await answer.read()
                assert answer.headers.get("Content-Encoding") == encoding
                assert answer.headers.getall("Vary") == ["Accept-Encoding"]
                # The edge, which compresses while it sends, does not know how long that will be.
                assert answer.headers["Content-Length"] == str(len(body))
                assert (gzip.decompress(body) if encoding else body) == TEXT.encode()
    assert asked.count("/page") == 2


async def test_only_an_answer_that_allows_it_is_kept(open_door: Open) -> None:
    door = await open_door()
    for control, kept in {
        "public, max-age=60": True,
        "s-maxage=60": True,
        "": False,
        "no-cache": False,
        "private, max-age=60": False,
        "no-store": False,
        "max-age=0": False,
    }.items():
        door.backend.seen = 0
        bodies = []
        for _ in range(3):
            async with door.client.get(door.bases[0] + "/cached", params={"control": control}) as answer:
                bodies.append(await answer.text())
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert bodies == (["1"] * 3 if kept else ["1", "2", "3"]), control


async def test_a_websocket_passes(open_door: Open) -> None:
    door = await open_door()
    for base in door.bases:
        async with door.client.ws_connect(base + "/ws") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=5) == "hello!"


async def test_heads_that_are_too_large_and_pages_of_serve_are_refused(open_door: Open) -> None:
    door = await open_door()
    assert await door.status("/" + "a" * 8300) == 414
    assert await door.status("/-/routes") == 404
    assert await door.status("/%2d/routes") == 404
    for size, status in ((6_000, 200), (9_000, 431), (40_000, 400)):
        large = {"X-One": "a" * size, "X-Two": "a" * size}
        async with door.client.get(door.bases[0] + "/text", headers=large) as answer:
            assert answer.status == status


async def test_a_client_that_sends_its_request_slowly_is_cut(open_door: Open) -> None:
    door = await open_door(settings=EdgeSettings(head_timeout_s=0.3))
    reader, writer = await asyncio.open_connection("127.0.0.1", door.edge.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")

    async def drip() -> None:
        while True:
            writer.write(b"a")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    answer = await asyncio.wait_for(reader.read(), 5)
    dripping.cancel()
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert await door.status("/") == 200


async def test_it_comes_back_after_it_was_killed(open_door: Open) -> None:
    door = await open_door()
    first = door.child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    exits: list[str] = []

    def started_again() -> bool:
        if door.child.restarts:
            # The port may be taken for a moment, and then it is tried again.
            exits.append(door.child.last_exit)
        return bool(exits)

    await until(started_again)
    assert exits == ["killed by SIGKILL"]
    await until(lambda: answers(door.status("/"), 200))
    assert door.child.pid != first


async def test_stopping_finishes_the_answers_on_their_way(open_door: Open) -> None:
    door = await open_door()
    answer = asyncio.create_task(door.status("/slow"))
    await until(lambda: door.backend.seen == 1)
    stopping = asyncio.create_task(door.child.stop(30))
    await until(lambda: answers(door.status("/"), 0))
    door.backend.release.set()
    assert await answer == 200
    await asyncio.wait_for(stopping, 30)


async def test_stopping_does_not_wait_for_an_open_websocket(open_door: Open) -> None:
    door = await open_door()
    async with door.client.ws_connect(door.bases[0] + "/ws"):
        await asyncio.wait_for(door.child.stop(), 4)


async def test_operations_see_metrics_and_the_admin_socket_is_private(open_door: Open) -> None:
    door = await open_door()
    async with door.client.get(f"http://127.0.0.1:{door.edge.metrics_port}/metrics") as answer:
        assert 'haproxy_server_status{proxy="default",server="s0",state="UP"} 1' in await answer.text()
    socket = door.folder / "edge.sock"
    assert socket.is_socket()
    assert socket.stat().st_mode & 0o777 == 0o600


async def test_a_second_one_on_the_same_port_does_not_start(open_door: Open, tmp_path: Path) -> None:
    door = await open_door()
    child = edge_child(door.edge, tmp_path / "second", tmp_path / "second.log")
    life = asyncio.create_task(child.run())
    await until(lambda: child.restarts >= 1)
    assert child.last_exit == "exit code 1"
    await child.stop()
    await life
    assert "Address already in use" in (tmp_path / "second.log").read_text()


def sample(**changes: object) -> Edge:
    edge = Edge("127.0.0.1", 1, 2, Path("/edge.pem"), [Route([("127.0.0.1", 4)])], 3)
    return replace(edge, **changes)  # type: ignore[arg-type]


def test_transport_security_is_asked_for_only_when_told() -> None:
    assert "Strict-Transport-Security" not in configuration(sample(), 1, 100)
    assert "Strict-Transport-Security" in configuration(sample(settings=EdgeSettings(strict_transport=True)), 1, 100)


def test_a_certificate_haproxy_does_not_accept_is_one_line(tmp_path: Path) -> None:
    certificate = tmp_path / "empty.pem"
    certificate.touch()
    with pytest.raises(EdgeError, match=r"the front door cannot be configured: .*empty\.pem") as caught:
        edge_child(sample(certificate=certificate), tmp_path, tmp_path / "log")
    assert "\n" not in str(caught.value)


def test_routes_need_one_default_and_different_prefixes() -> None:
    default, data = Route([("a", 1)]), Route([("a", 1)], "/data")
    for routes in ([], [data], [default, default], [default, data, data]):
        with pytest.raises(EdgeError, match="needs one default route"):
            configuration(sample(routes=routes), 1, 100)


@given(st.sampled_from(["host", "certificate", "prefix", "health", "server"]), st.text())
def test_no_value_can_add_a_line_to_the_configuration(place: str, text: str) -> None:
    default = Route([("127.0.0.1", 4)])
    edge = {
        "host": lambda: sample(host=text),
        "certificate": lambda: sample(certificate=Path("/x" + text)),
        "prefix": lambda: sample(routes=[default, Route([], text)]),
        "health": lambda: sample(routes=[replace(default, health_path=text)]),
        "server": lambda: sample(routes=[Route([(text, 4)])]),
    }[place]()
    plain = sample(routes=[default, Route([], "/a")] if place == "prefix" else [default])
    try:
        lines = configuration(edge, 1, 100).splitlines()
    except EdgeError:
        return
    assert len(lines) == len(configuration(plain, 1, 100).splitlines())


PARENT = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from cluster.certificate import self_signed
from cluster.edge import edge_child
from cluster.edge_configuration import Edge, Route
from cluster.instance import free_ports
async def main():
    folder = Path(sys.argv[1])
    port, tls_port, metrics_port = free_ports(3)
    certificate = self_signed(folder, "localhost", datetime.now(UTC))
    edge = Edge("127.0.0.1", port, tls_port, certificate, [Route([("127.0.0.1", 9)])], metrics_port)
    child = edge_child(edge, folder, folder / "log")
    life = asyncio.create_task(child.run())
    await child.wait_ready(10)
    print(child.pid, flush=True)
    await life
asyncio.run(main())
"""


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 15))
    assert not gone(pid)
    parent.kill()
    await parent.communicate()
    await until(lambda: gone(pid))
