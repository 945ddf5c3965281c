"""What is known of backfills is on the disk of the supervisor, which may be away."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import ray

from actors import kept_notes
from actors.backfill.records import NotesInFile, Records
from actors.kept_notes import NotesBySupervisor
from tests.polling import until


class Supervisor:
    """Keeps notes in a file, as the real one does; `away` so often, or `failing`."""

    def __init__(self, path: Path) -> None:
        self.notes = NotesInFile(path)
        self.away = 0
        self.failing: Exception | None = None
        self.written = 0
        self.held = asyncio.Event()
        self.held.set()

    async def ask(self, _: str, method: str, exchange: str, *content: bytes) -> Any:
        assert exchange == "okx"
        await self.held.wait()
        if self.away:
            self.away -= 1
            raise ray.exceptions.ActorDiedError
        if self.failing is not None:
            raise ray.exceptions.RayTaskError(method, "", self.failing)
        if method == "backfill_notes":
            return await self.notes.read()
        self.written += 1
        self.notes.write(*content)
        return None


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Supervisor:
    found = Supervisor(tmp_path / "backfill" / "okx.json")
    monkeypatch.setattr(kept_notes, "RETRY_S", 0.001)
    monkeypatch.setattr(kept_notes, "Handles", lambda: found)
    return found


async def test_another_process_goes_on_from_there_whoever_was_away_meanwhile(supervisor: Supervisor) -> None:
    first = Records(NotesBySupervisor("okx"))
    await first.read()
    supervisor.away = 3
    job = first.add("BTC-USDT", 10, 20)
    await first.saved()
    supervisor.away = 3
    second = Records(NotesBySupervisor("okx"))
    await second.read()
    assert (second.jobs, second.failure) == ([job], "")


async def test_of_many_that_come_while_one_is_on_its_way_the_newest_is_kept(supervisor: Supervisor) -> None:
    notes = NotesBySupervisor("okx")
    supervisor.held.clear()
    for number in range(100):
        notes.write(b"%d" % number)
        await asyncio.sleep(0)
    supervisor.held.set()
    await notes.written()
    assert await notes.read() == b"99"
    assert supervisor.written <= 2


async def test_a_disk_that_takes_nothing_is_tried_until_it_does(supervisor: Supervisor) -> None:
    notes = NotesBySupervisor("okx")
    supervisor.failing = OSError("no space left")
    notes.write(b"1")
    await asyncio.sleep(0.01)
    assert not supervisor.written
    supervisor.failing = None
    await until(lambda: supervisor.written == 1)
    assert await notes.read() == b"1"


async def test_nobody_waits_for_what_cannot_be_read(supervisor: Supervisor) -> None:
    supervisor.failing = OSError("a bad block")
    records = Records(NotesBySupervisor("okx"))
    await records.read()
    assert "a bad block" in records.failure
