"""Collectors go where they belong, one after another; one that cannot stays and is tried again."""

import asyncio

import pytest

from actors import settling
from actors.settling import Settling
from tests.polling import until


class Hosts:
    """Two collectors, and the host of each; both belong to `b`."""

    def __init__(self) -> None:
        self.at = {"collector:okx": "a", "collector:bybit": "a"}
        self.refused: set[str] = set()
        self.going: list[str] = []
        self.most_at_once = 0

    def misplaced(self) -> list[str]:
        return [name for name, host in self.at.items() if host != "b"]

    async def go_home(self, name: str) -> None:
        self.going.append(name)
        self.most_at_once = max(self.most_at_once, len(self.going))
        await asyncio.sleep(0)
        self.going.remove(name)
        if name in self.refused:
            raise RuntimeError("its successor did not get everything")
        self.at[name] = "b"


async def test_all_go_where_they_belong_one_after_another() -> None:
    hosts = Hosts()
    found = Settling(hosts.misplaced, hosts.go_home)
    assert not found.done
    for _ in range(3):
        found.look()
    await until(lambda: found.done)
    assert (hosts.misplaced(), hosts.most_at_once, found.error) == ([], 1, "")
    found.look()
    assert found.done


async def test_one_that_cannot_go_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "RETRY_S", 0.01)
    hosts = Hosts()
    hosts.refused = {"collector:okx"}
    found = Settling(hosts.misplaced, hosts.go_home)
    found.look()
    # Nobody waits for what may never be, only for the others.
    await until(lambda: found.done)
    assert hosts.misplaced() == ["collector:okx"]
    assert "collector:okx" in found.error
    hosts.refused.clear()

    def settled() -> bool:
        found.look()
        return not hosts.misplaced() and not found.error

    await until(settled)
    await found.end()
