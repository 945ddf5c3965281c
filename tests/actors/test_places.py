"""A host that comes back before anybody has seen it away has another reader of its disk too."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actors import directory, places
from actors.places import Places
from config import load


class Cluster:
    """Which node has which disk now; actors stay on the node they were started on, and are dead once it has gone."""

    def __init__(self, _: Any) -> None:
        self.disks = {"here": "node-1", "there": "node-2"}

    @property
    def there(self) -> list[str]:
        return [*self.disks.values()]

    async def look(self) -> dict[str, str]:
        return dict(self.disks)


class Method:
    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask

    async def remote(self, *_: Any) -> Any:
        return self._ask()


class Actor:
    def __init__(self, cluster: Cluster, node: str) -> None:
        self.cluster, self.node = cluster, node

    def __getattr__(self, name: str) -> Method:
        def answer() -> Any:
            if self.node not in self.cluster.there:
                raise OSError(f"{self.node} has gone")
            return {} if name == "symbols" else []

        return Method(answer)


async def test_who_reads_a_disk_goes_with_it_to_another_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "Nodes", Cluster)
    monkeypatch.setattr(directory, "publish", lambda _: None)
    ended: list[str] = []

    async def end(name: str) -> None:
        ended.append(name)

    async def known() -> list[Any]:
        return []

    def start(_: Any, node: str) -> Actor:
        return Actor(cluster, node)

    its = Places(load(tmp_path, {"shards": 2}), start, start, end, dict, known)
    cluster: Any = its._nodes
    await its.begin()
    await its._look()
    assert {disk: reader.node for disk, reader in its._readers.items()} == {"here": "node-1", "there": "node-2"}

    # Its raylet was killed and started again, or it was booted, between two looks: Ray calls it another node.
    cluster.disks["there"] = "node-3"
    for _ in range(3):
        with suppress(OSError):
            await its._look()
    assert its._on[1] == "node-3"
    assert its._readers["there"].node == "node-3"
    assert sorted(ended) == [directory.node_name("there"), "shard:1"]
