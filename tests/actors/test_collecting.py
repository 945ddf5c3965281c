"""Journals are on the first host: whoever is to write one is there before it begins. What is collected stays so until
somebody removes it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors import collecting, succession
from actors.collecting import Collecting
from actors.endpoint import Endpoint
from tests.actors.exchanges import BinanceServer, Handle, live, synced
from tests.actors.exchanges import collecting as collecting_from
from tests.polling import until

NAME = "collector:binance"


class OnNode:
    """A collector that has a journal when it is told so."""

    def __init__(self, node: str) -> None:
        self.node, self.on = node, False

    async def status(self) -> dict[str, Any]:
        return {"exchange": "binance", "answers": True, "running": True, "node": self.node, "journal": self.on}

    async def record(self, on: bool) -> dict[str, Any]:
        self.on = on
        return await self.journal()

    async def journal(self) -> dict[str, Any]:
        return {"on": self.on}


class Cluster:
    """One exchange whose collector belongs to the other host; `meanwhile` happens while one follows another."""

    def __init__(self, folder: Path) -> None:
        self.meanwhile: list[Callable[[], Awaitable[Any]]] = []
        self.made: list[OnNode] = []
        self.actors: dict[str, Any] = {}
        self.exchanges = Collecting(live(folder), self.actors, lambda *_: None, lambda *_, **__: None)
        self.exchanges.endpoints = {"binance": Endpoint("", "", ("BTCUSDT",))}

    async def begin(self) -> None:
        async def lead(exchange: str) -> None:
            assert exchange == "binance"

        self.exchanges.begin(self._make, lead, lambda _: "other")

    async def misplaced(self) -> list[str]:
        return self.exchanges.misplaced({NAME: await self.made[-1].status()})

    async def settled(self) -> None:
        while await self.misplaced():
            await self.exchanges.go_home(NAME)

    async def succeed(self, _: str, __: Any, make: Any, counts: Any, lead: Any) -> None:
        counts(make(f"{NAME}#2"))
        for happens in self.meanwhile:
            await happens()
        await lead()

    def _make(self, exchange: str, known_as: str, node: str | None) -> Any:
        assert node is not None and (exchange, known_as.partition("#")[0]) == ("binance", NAME)
        self.made.append(OnNode(node))
        return Handle(self.made[-1])


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    found = Cluster(tmp_path)
    monkeypatch.setattr(collecting, "this_node", lambda: "first")
    monkeypatch.setattr(collecting, "name_in_ray", lambda name: name)
    monkeypatch.setattr(succession, "succeed", found.succeed)
    await found.begin()
    return found


async def test_who_writes_a_journal_comes_first_and_goes_back_when_it_ends(cluster: Cluster) -> None:
    assert not await cluster.misplaced()
    said = await cluster.exchanges.record(True)
    assert (said["binance"]["on"], "on its way" in said["binance"]["failure"]) == (False, True)
    await cluster.settled()
    assert [(one.node, one.on) for one in cluster.made] == [("other", False), ("first", True)]
    assert not (await cluster.exchanges.record(False))["binance"]["on"]
    await cluster.settled()
    assert [(one.node, one.on) for one in cluster.made[1:]] == [("first", False), ("other", False)]


async def test_a_journal_that_is_wanted_while_its_collector_leaves_is_not_written_elsewhere(cluster: Cluster) -> None:
    await cluster.exchanges.record(True)
    await cluster.settled()
    await cluster.exchanges.record(False)
    # It is told to begin while one on the other host counts already.
    cluster.meanwhile.append(lambda: cluster.exchanges.record(True))
    await cluster.exchanges.go_home(NAME)
    cluster.meanwhile.clear()
    assert (cluster.made[-1].node, cluster.made[-1].on) == ("other", False)
    await cluster.settled()
    assert (cluster.made[-1].node, cluster.made[-1].on) == ("first", True)


async def test_a_symbol_that_is_halted_is_still_wanted_after_somebody_asked_for_it_again(tmp_path: Path) -> None:
    settings = live(tmp_path, list_interval_s=0.3, list_retry_s=0.3)
    server = BinanceServer(["BTCUSDT", "ETHUSDT"])
    server.list("BTCUSDT", "HALT")
    async with server, collecting_from(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, "ETHUSDT"))
        exchanges = Collecting(settings, {NAME: Handle(collector)}, lambda *_: None, lambda *_, **__: None)
        exchanges.endpoints = {"binance": server.endpoint()}
        said = await exchanges.add_symbols("binance", ["BTCUSDT"])
        assert "does not trade" in said["BTCUSDT"]
        server.list("BTCUSDT")
        await until(lambda: synced(collector, "BTCUSDT"))
