"""The front door is told of hosts that come, and not of those that go."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from cluster import other_lanes
from cluster.edge_configuration import EdgeError
from cluster.other_lanes import follow, known_hosts
from tests.polling import until


async def test_hosts_that_come_are_added_and_those_that_go_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(other_lanes, "LOOK_S", 0.001)
    there, told, looks = {"10.0.0.7"}, list[list[str]](), 0
    refused = 1

    def look() -> set[str]:
        nonlocal looks
        looks += 1
        return set(there)

    def go_on_with(hosts: list[str]) -> None:
        nonlocal refused
        if refused:
            refused -= 1
            raise EdgeError("the front door does not answer")
        told.append(hosts)

    following = asyncio.create_task(follow(look, go_on_with, tmp_path))
    try:
        await until(lambda: known_hosts(tmp_path) == ["10.0.0.7"])
        there.add("10.0.0.8")
        await until(lambda: len(known_hosts(tmp_path)) == 2)
        there.clear()
        before = looks
        await until(lambda: looks > before + 3)
        there.add("10.0.0.8")
        before = looks
        await until(lambda: looks > before + 3)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
    assert told == [["10.0.0.7"], ["10.0.0.7", "10.0.0.8"]]
