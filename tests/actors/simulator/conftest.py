import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest

from actors.simulator.captures import Recording
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import ReplayClock


class Play(Protocol):
    """Starts the servers of a recording; returns them with their addresses, WebSocket and REST."""

    async def __call__(
        self, recording: Recording, speed: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> tuple[ReplayServer, str, str]: ...


@pytest.fixture
async def play() -> AsyncIterator[Play]:
    servers: list[ReplayServer] = []

    async def start(
        recording: Recording, speed: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> tuple[ReplayServer, str, str]:
        server = ReplayServer(recording, ReplayClock(recording.span[0], speed, clock))
        servers.append(server)
        return server, *await server.start()

    before = asyncio.all_tasks() - {asyncio.current_task()}
    yield start
    for server in servers:
        await asyncio.wait_for(server.stop(), 5)
    assert asyncio.all_tasks() - {asyncio.current_task()} == before, "a task was left behind"
