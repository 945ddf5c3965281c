"""A supervisor that was made again goes on until everything is found again."""

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from actors import directory, places, supervisor
from actors.supervisor import Supervisor
from config import load
from tests.polling import until


class Nodes:
    there = ("node-1",)

    def __init__(self, _: Any) -> None: ...

    async def look(self) -> dict[str, str]:
        return {"disk-1": "node-1"}


class Running:
    """An actor that has gone on all the time."""

    def __getattr__(self, name: str) -> SimpleNamespace:
        async def remote(*_: Any) -> Any:
            return {"pid": 7, "running": True, "journal": False} if name == "status" else None

        return SimpleNamespace(remote=remote)


class Kept(dict[str, bytes]):
    def _internal_kv_put(self, key: str, value: bytes, namespace: str) -> None:
        self[key] = value

    def _internal_kv_get(self, key: str, namespace: str) -> bytes | None:
        return self.get(key)


async def test_who_was_restarted_on_a_full_disk_begins_when_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, tried, write, started = True, 0, places.write_new_file, list[asyncio.Task[None]]()
    made: Any = None

    def write_or_not(*arguments: Any) -> None:
        nonlocal tried
        tried += 1
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    def nobody(*_: Any, **__: Any) -> Any:
        raise ValueError("there is none")

    context = SimpleNamespace(was_current_actor_reconstructed=True, get_node_id=lambda: "node-1")
    begins = SimpleNamespace(remote=lambda: started.append(asyncio.create_task(begin())))

    async def begin() -> None:
        await made.start()

    monkeypatch.setattr(places, "write_new_file", write_or_not)
    monkeypatch.setattr(places, "Nodes", Nodes)
    monkeypatch.setattr(supervisor, "RETRY_S", 0.1)
    monkeypatch.setattr(directory, "internal_kv", Kept())
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "get_actor", nobody)
    monkeypatch.setattr(ray, "kill", lambda *_, **__: None)
    monkeypatch.setattr(supervisor, "start_actor", lambda *_, **__: Running())
    monkeypatch.setattr(supervisor, "find_actor", lambda _: SimpleNamespace(start=begins))

    made = Supervisor(load(tmp_path, {"source": "live"}), "redis://none")
    await until(lambda: tried > 2)
    full = False
    await until(lambda: started[0].done())
    assert started[0].exception() is None
    assert made._places.shards
    await made.stop()
