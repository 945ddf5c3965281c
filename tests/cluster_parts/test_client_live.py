"""Following the live feed through servers that go away; against the whole system see tests/cluster/test_live.py."""

import asyncio
import itertools
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from cluster import client as module
from cluster.client import AsyncClient, FeedError, connect
from cluster.client_live import Following

pytestmark = pytest.mark.usefixtures("impatient")

Handler = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)


@asynccontextmanager
async def feed(handler: Handler) -> AsyncIterator[str]:
    async def connected(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "welcome", "seq": 0, "heartbeat_s": 0.1}))
        await handler(socket, json.loads(await socket.recv()))

    async with serve(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def update(seq: int, symbol: str = "BTCUSDT", kind: str = "update") -> str:
    return json.dumps({"type": kind, "topic": "trades", "symbol": symbol, "seq": seq, "data": [{"trade_id": seq}]})


def pong(ping: dict[str, Any]) -> str:
    return json.dumps({"type": "pong", "id": ping["id"]})


async def begin(socket: ServerConnection) -> None:
    """What was asked for with the topics has been told."""
    await socket.send(pong(json.loads(await socket.recv())))


async def test_after_a_lost_connection_what_was_missed_is_asked_for() -> None:
    heard: list[dict[str, Any]] = []

    async def handler(socket: ServerConnection, hello: dict[str, Any]) -> None:
        heard.append(hello)
        first = hello.get("since", 0) + 1
        await socket.send(update(first))
        await begin(socket)
        for seq in (first + 1, first + 2):
            await socket.send(update(seq))
        # And the connection breaks without a word.
        socket.transport.abort()

    async with feed(handler) as url, AsyncClient(url) as client:
        updates = client.live("trades:binance:BTCUSDT", rate=0)
        seen = [(await anext(updates))["seq"] for _ in range(6)]
        await updates.aclose()
    assert seen == [1, 2, 3, 4, 5, 6]
    assert heard[0] == {"type": "subscribe", "topics": ["trades:binance:BTCUSDT"], "rate": 0}
    assert [hello.get("since") for hello in heard] == [None, 2, 4]


async def test_updates_that_share_a_number_are_given_once_each_though_the_connection_breaks_between_them() -> None:
    connections = itertools.count()

    async def handler(socket: ServerConnection, hello: dict[str, Any]) -> None:
        since, first = hello.get("since", 0), next(connections) == 0
        told = [(5, "BTCUSDT"), *(() if first else ((5, "ETHUSDT"), (6, "BTCUSDT")))]
        for seq, symbol in told:
            if seq > since:
                await socket.send(update(seq, symbol))
        await socket.close(1013, "you read too slowly")

    async with feed(handler) as url, AsyncClient(url) as client:
        updates = client.live("trades:binance:*")
        seen = [await anext(updates) for _ in range(3)]
        await updates.aclose()
    assert [(one["seq"], one["symbol"]) for one in seen] == [(5, "BTCUSDT"), (5, "ETHUSDT"), (6, "BTCUSDT")]


def test_no_number_counts_before_all_topics_have_begun() -> None:
    following = Following(["trades:okx:A", "trades:okx:B"], None)
    _, ping = following.hello()
    for said in ({"type": "welcome", "seq": 40, "heartbeat_s": 15}, json.loads(update(50, "A"))):
        following.take(said)
    # The snapshot of B has not come yet.
    assert "since" not in following.hello()[0]
    following.take(json.loads(pong(ping)))
    assert "since" not in following.hello()[0]
    following.take({"type": "pong", "id": 3})
    assert following.seq == 40
    assert following.take(json.loads(update(51, "B")))
    # What had both is asked for again, as another symbol may have the same.
    assert following.hello()[0]["since"] == 50
    assert [following.take(json.loads(update(seq, symbol))) for seq, symbol in ((51, "A"), (51, "B"), (52, "B"))] == [
        True,
        False,
        True,
    ]


async def test_what_the_feed_has_lost_is_told_with_a_snapshot() -> None:
    heard: list[dict[str, Any]] = []

    async def handler(socket: ServerConnection, hello: dict[str, Any]) -> None:
        await begin(socket)
        await socket.send(update(7))
        await socket.send(json.dumps({"type": "gap", "after": 7, "message": "Something was lost."}))
        heard.append(json.loads(await socket.recv()))
        await socket.send(update(20, kind="snapshot"))
        await socket.wait_closed()

    async with feed(handler) as url, AsyncClient(url) as client:
        updates = client.live("trades")
        assert [(await anext(updates))["type"] for _ in range(2)] == ["update", "snapshot"]
        await updates.aclose()
    assert heard == [{"type": "subscribe", "topics": ["trades"]}]


async def test_a_feed_that_is_silent_is_left() -> None:
    connections = itertools.count()

    async def handler(socket: ServerConnection, _: dict[str, Any]) -> None:
        if next(connections) > 0:
            await socket.send(update(7))
        await socket.wait_closed()

    async with feed(handler) as url, AsyncClient(url) as client:
        updates = client.live("trades")
        assert (await anext(updates))["seq"] == 7
        await updates.aclose()


async def test_topics_nobody_knows_are_an_error() -> None:
    async def handler(socket: ServerConnection, _: dict[str, Any]) -> None:
        await socket.send(json.dumps({"type": "error", "code": "invalid_topic", "message": "There is no topic 'x'."}))
        await socket.wait_closed()

    async with feed(handler) as url, AsyncClient(url) as client:
        with pytest.raises(FeedError, match="There is no topic 'x'"):
            await anext(client.live("x"))
    with pytest.raises(ValueError, match="at least one topic"):
        Following([], None)


async def test_who_is_not_known_is_told_and_does_not_try_for_ever() -> None:
    async def handler(socket: ServerConnection, _: dict[str, Any]) -> None:
        await socket.close(4001, "the token has expired")

    async with feed(handler) as url, AsyncClient(url, token="old") as client:
        with pytest.raises(FeedError, match="the token has expired"):
            await anext(client.live("trades"))


async def test_ctrl_c_ends_following_and_the_client_goes_on() -> None:
    waits, left = asyncio.Event(), asyncio.Event()

    async def handler(socket: ServerConnection, _: dict[str, Any]) -> None:
        await begin(socket)
        waits.set()
        await socket.wait_closed()
        left.set()

    async with feed(handler) as url:
        # Ctrl-C reaches the main thread of a process of its own.
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _FOLLOWS, url, stdout=PIPE, stderr=PIPE)
        await waits.wait()
        process.send_signal(signal.SIGINT)
        said, wrong = await process.communicate()
        await left.wait()
    assert (said, wrong) == (b"interrupted, still asked\n", b"")


@pytest.mark.parametrize("said_before", [False, True])
async def test_ctrl_c_while_a_thread_is_asked_ends_following_too(
    monkeypatch: pytest.MonkeyPatch, said_before: bool
) -> None:
    async def handler(socket: ServerConnection, _: dict[str, Any]) -> None:
        await begin(socket)
        await socket.wait_closed()

    def follow(url: str) -> None:
        with connect(url) as client:
            say = client._loop.call_soon_threadsafe
            interrupts = iter([True])

            def interrupted(callback: Any, *arguments: Any, **options: Any) -> Any:
                interrupt = next(interrupts, False)
                if not interrupt or said_before:
                    say(callback, *arguments, **options)
                if interrupt:
                    raise KeyboardInterrupt

            monkeypatch.setattr(client._loop, "call_soon_threadsafe", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(iter(client.live("trades")))
            assert client._run(asyncio.sleep(0, "still asked")) == "still asked"

    async with feed(handler) as url:
        await asyncio.to_thread(follow, url)


_FOLLOWS = """
import signal, sys
from cluster.client import connect
# Who was started in the background of a script ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
client = connect(sys.argv[1])
try:
    for update in client.live("trades"):
        pass
except KeyboardInterrupt:
    print("interrupted", end=", ")
print("still asked" if client._thread.is_alive() else "gone")
client.close()
"""
