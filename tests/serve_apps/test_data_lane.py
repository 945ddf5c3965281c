"""The lane answers plain requests at once, with the very bytes that the application sends otherwise."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import load
from serve_apps.at_once import protocol
from serve_apps.data import DataApp, build
from serve_apps.fast_lane import FastLane
from serve_apps.scaling import Measured
from storage.column_writer import ColumnWriter
from tests.serve_apps.conftest import DAY, Stored, fetch, made_rows, serving, target
from tests.servers import free_port

LIMIT = 2**32 - 1


class Counted(DataApp):
    """How often the lane needed no task."""

    at_once_answers = 0

    def at_once(self, query_string: bytes) -> tuple[bytes, bytes] | None:
        answer = super().at_once(query_string)
        self.at_once_answers += answer is not None
        return answer


@contextlib.contextmanager
def doors(root: Path) -> Iterator[tuple[Counted, int, int]]:
    """The application, its usual port and its lane's."""
    app = build(load(root))
    app.__class__ = Counted
    assert isinstance(app, Counted)
    lane = free_port()
    with serving(FastLane(Measured(app), lane, 1, {"http": protocol(app.at_once)})) as port:
        yield app, port, lane


@pytest.fixture(scope="module")
def opened(stored: Stored) -> Iterator[tuple[Counted, int, int]]:
    with doors(stored.root.parent) as opened:
        yield opened


PLAIN = [
    target(DAY + 5, DAY + 25, "time,id,price"),
    target(DAY, DAY + 7 * 86_400, "time_ns,price64"),
    target(DAY, DAY + 86_400, "time") + "&max_points=3",
    target(DAY, DAY + 86_400, "time") + "&max_points=3&decimate=last&format=binary",
    target(DAY, DAY + 9, symbol="NOT-LISTED"),
    target(DAY + 9, DAY),
    target(DAY, DAY + 9, "time,price", "XBT_USD") + "&exchange=kraken",
    target(DAY, DAY + 9, "time", "tAAVE:USD", "MD") + "&exchange=bitfinex",
    target(DAY, DAY + 9) + f"&start={DAY + 5}",
    target(DAY, DAY + 9) + f"&%73tart={DAY + 5}",
    f"/api/data?start={DAY}&end={DAY + 9}&symbol=BTC-USD&type=TRADES&columns=time",
]
OTHER = [
    "/api/symbols",
    "/api/nothing",
    "/api/data",
    "/api/data?symbol=a",
    target(DAY, 99_999_999_999),
    target(DAY, 4_294_967_296),
    target(0, LIMIT),
    target(DAY, DAY + 86_400) + "&decimate=minmax&max_points=4",
    target(DAY, DAY + 86_400, "time") + "&format=csv",
    target(DAY, DAY + 86_400, "time,price64,id,taker_order_id", "LARGE-USD"),
]


@pytest.mark.parametrize(("path", "at_once"), [*((path, True) for path in PLAIN), *((path, False) for path in OTHER)])
def test_both_doors_give_the_same_answer(opened: tuple[Counted, int, int], path: str, at_once: bool) -> None:
    app, port, lane = opened
    before = app.at_once_answers
    fast, usual = fetch(lane, path, headers={"Accept": "*/*"}), fetch(port, path, headers={"Accept": "*/*"})
    assert app.at_once_answers - before == at_once
    assert (fast.status, fast.body) == (usual.status, usual.body)
    hop = {"date", "server"}
    assert {k: v for k, v in fast.headers.items() if k not in hop} == {
        k: v for k, v in usual.headers.items() if k not in hop
    }
    assert "date" in fast.headers


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Range", "bytes=0-3", 206),
        ("rAnGe", "bytes=0-3", 206),
        ("If-None-Match", "*", 304),
        ("Accept", "text/csv", 200),
        ("accept", "application/vnd.apache.arrow.stream", 200),
        ("Content-Length", "0", 200),
        ("Connection", "close", 200),
    ],
)
def test_a_request_that_asks_for_more_is_not_plain(
    opened: tuple[Counted, int, int], header: str, value: str, status: int
) -> None:
    app, port, lane = opened
    before = app.at_once_answers
    fast, usual = (fetch(door, PLAIN[0], headers={header: value}) for door in (lane, port))
    assert (fast.status, fast.body) == (usual.status, usual.body)
    assert fast.status == status
    assert app.at_once_answers == before


def test_requests_that_come_in_bits_or_many_at_once_are_answered_in_order(
    opened: tuple[Counted, int, int],
) -> None:
    _, port, lane = opened
    requests = b"".join(
        f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in [PLAIN[0], "/api/symbols", PLAIN[6], *PLAIN[:2]]
    )
    requests += b"GET /api/symbols HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    def answers(door: int, bits: list[bytes]) -> bytes:
        with socket.create_connection(("127.0.0.1", door), timeout=10) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for bit in bits:
                client.sendall(bit)
            said = b""
            while more := client.recv(65536):
                said += more
        return b"\r\n".join(line for line in said.split(b"\r\n") if not line.lower().startswith((b"date:", b"server:")))

    expected = answers(port, [requests])
    assert expected.count(b"HTTP/1.1 200 OK") == 6
    assert answers(lane, [requests]) == expected
    for size in (1000, 100, 7):
        assert answers(lane, [requests[first : first + size] for first in range(0, len(requests), size)]) == expected


def test_many_requests_of_one_connection_see_rows_that_are_added(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "columns", 64)
    writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY]))
    with doors(tmp_path) as (app, _, lane), socket.create_connection(("127.0.0.1", lane), timeout=10) as client:
        for count in range(1, 20):
            client.sendall(f"GET {target(DAY, DAY + 99)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b'"num_records":%d,' % count in client.recv(65536)
            writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY + count], seed=count + 5))
        assert app.at_once_answers == 19
    writer.close()


async def test_a_closing_lane_ends_connections_with_an_answer(stored: Stored) -> None:
    app, port = build(load(stored.root.parent)), free_port()
    lane = FastLane(Measured(app), port, 1, {"http": protocol(app.at_once)})
    given: asyncio.Queue[Any] = asyncio.Queue()
    started = asyncio.Event()

    async def told(message: Any) -> None:
        started.set()

    life = asyncio.create_task(lane({"type": "lifespan"}, given.get, told))
    given.put_nowait({"type": "lifespan.startup"})
    await asyncio.wait_for(started.wait(), 10)
    request = f"GET {target(DAY, DAY + 9)} HTTP/1.1\r\nHost: x\r\n"
    kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]

    async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, more: str = "") -> bytes:
        writer.write(f"{request}{more}\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
        await asyncio.wait_for(reader.readexactly(int(length)), 10)
        return head

    for connection in kept:
        assert b"connection: close" not in await asked(*connection)
    given.put_nowait({"type": "lifespan.shutdown"})
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
    for connection, more in zip(kept, ["", "Range: bytes=0-9\r\n"] * 2, strict=True):
        said = await asked(*connection, more)
        assert said.startswith((b"HTTP/1.1 200 OK", b"HTTP/1.1 206"))
        assert b"\r\nconnection: close\r\n" in said
        connection[1].close()
    await asyncio.wait_for(life, 10)


async def test_the_lane_is_closed_when_serve_hears_that_the_replica_has_stopped(stored: Stored) -> None:
    """Serve takes the threads of a replica away then: whoever still came would get an error."""
    app, port = build(load(stored.root.parent)), free_port()
    lane = FastLane(Measured(app), port, 1)
    given: asyncio.Queue[Any] = asyncio.Queue()
    open_when_told = []

    async def told(message: Any) -> None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except (ConnectionRefusedError, ConnectionResetError):
            open_when_told.append((message["type"], False))
        else:
            writer.close()
            open_when_told.append((message["type"], True))

    for event in ("startup", "shutdown"):
        given.put_nowait({"type": f"lifespan.{event}"})
    await asyncio.wait_for(lane({"type": "lifespan"}, given.get, told), 10)
    assert open_when_told == [("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]


def test_what_a_lane_sends_on_its_own_host_is_not_paced(opened: tuple[Counted, int, int]) -> None:
    """Where BBR is the host's choice, 12 MB take twice as long."""
    _, _, lane = opened
    with socket.create_connection(("127.0.0.1", lane)) as client:
        client.sendall(f"GET {target(DAY, DAY + 9)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        (chosen,) = [pacing(one) for one in Path("/proc/self/fd").iterdir() if peer(one) == client.getsockname()]
        assert chosen == b"reno"


def peer(descriptor: Path) -> Any:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as one:
        return one.getpeername()


def pacing(descriptor: Path) -> bytes:
    with socket.socket(fileno=os.dup(int(descriptor.name))) as one:
        return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
