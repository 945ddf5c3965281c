"""Following the live feed through servers that go away; against the whole system see tests/cluster/test_live.py."""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from cluster import client as module
from cluster.client import AsyncClient, FeedError
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


def update(seq: int) -> str:
    return json.dumps({"type": "update", "topic": "trades", "seq": seq, "data": [{"trade_id": seq}]})


async def test_after_a_lost_connection_what_was_missed_is_asked_for() -> None:
    heard: list[dict[str, Any]] = []

    async def handler(socket: ServerConnection, hello: dict[str, Any]) -> None:
        heard.append(hello)
        first = hello.get("since", 0) + 1
        for seq in (first, first + 1):
            await socket.send(update(seq))
        # And the connection breaks without a word.
        socket.transport.abort()

    async with feed(handler) as url, AsyncClient(url) as client:
        updates = client.live("trades:binance:BTCUSDT", rate=0)
        seen = [(await anext(updates))["seq"] for _ in range(5)]
        await updates.aclose()
    assert seen == [1, 2, 3, 4, 5]
    assert heard[0] == {"type": "subscribe", "topics": ["trades:binance:BTCUSDT"], "rate": 0}
    assert [hello.get("since") for hello in heard] == [None, 2, 4]


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
