"""The front door is told of hosts that come, and not of those that go."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from cluster import other_lanes
from cluster.edge_configuration import Edge, EdgeError
from cluster.other_lanes import follow, go_on, known_hosts
from config import load
from tests.polling import until

PORTS = {"serve": 1, "pages": 2, "market": 3, "data": 4, "live": 5, "edge metrics": 6}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The hosts the front door went on with, each time it did."""
    told: list[list[str]] = []
    reloading(monkeypatch, lambda hosts: told.append(hosts))
    return told


def reloading(monkeypatch: pytest.MonkeyPatch, done: Callable[[list[str]], None]) -> None:
    def reload(edge: Edge, folder: Path) -> None:
        (data,) = (route for route in edge.routes if route.prefix == "/api")
        done([host for host, _ in data.servers[1:]])

    monkeypatch.setattr(other_lanes, "reload", reload)


async def test_hosts_that_come_are_added_and_those_that_go_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: list[list[str]]
) -> None:
    monkeypatch.setattr(other_lanes, "LOOK_S", 0.001)
    there, looks = {"10.0.0.7"}, 0
    refused = 1

    def look() -> set[str]:
        nonlocal looks
        looks += 1
        return set(there)

    def go_on_with(more: set[str]) -> None:
        nonlocal refused
        if refused:
            refused -= 1
            raise EdgeError("the front door does not answer")
        go_on(load(tmp_path), PORTS, tmp_path, more)

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


def test_a_host_is_not_forgotten_that_comes_while_somebody_changes_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reloads, go = threading.Semaphore(0), threading.Event()
    told: list[list[str]] = []

    def slowly(hosts: list[str]) -> None:
        reloads.release()
        assert go.wait(10)
        told.append(hosts)

    reloading(monkeypatch, slowly)
    settings = load(tmp_path)
    come = threading.Thread(target=partial(go_on, settings, PORTS, tmp_path, {"10.0.0.7"}))
    changed = threading.Thread(target=partial(go_on, settings, PORTS, tmp_path))
    come.start()
    assert reloads.acquire(timeout=10)
    changed.start()
    # One at a time: the second would begin with what it knew before the first was done.
    assert not reloads.acquire(timeout=0.5)
    go.set()
    come.join()
    changed.join()
    assert told == [["10.0.0.7"], ["10.0.0.7"]]
    assert known_hosts(tmp_path) == ["10.0.0.7"]


def test_a_host_the_front_door_could_not_be_told_of_is_told_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(hosts: list[str]) -> None:
        raise EdgeError(f"the front door goes on as it was: {hosts}")

    reloading(monkeypatch, fail)
    with pytest.raises(EdgeError, match=r"10\.0\.0\.7"):
        go_on(load(tmp_path), PORTS, tmp_path, {"10.0.0.7"})
    assert known_hosts(tmp_path) == []
