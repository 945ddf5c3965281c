"""Backups on a schedule and when asked for, of a real folder and a real database; only the clock is ours."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from actors.backups import Backups
from actors.database import Database
from config.settings import Settings, load
from storage.backup_store import open_store
from storage.backup_verify import Verifying
from tests.polling import until
from tests.storage.stored import DAY, MIDNIGHT, filled_folder

HOUR = DAY // 24
#: When the tests begin: an hour before a backup is due.
ONE = MIDNIGHT + HOUR


class Clock:
    """Says what it is told to, and how often it was asked."""

    def __init__(self, now_ns: int = ONE) -> None:
        self.now_ns = now_ns
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return self.now_ns

    async def looked_at(self) -> None:
        """Wait until the schedule has seen this time, and had occasion to act on it."""
        seen = self.asked
        await until(lambda: self.asked > seen + 3)


class Gateway:
    """The handle of a gateway in this process, which answers while it is `open`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.open = asyncio.Event()
        self.open.set()
        self.dead = False
        self.waiting = 0

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=partial(self._call, getattr(self._database, method)))

    async def _call(self, method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        if self.dead:
            raise ray.exceptions.ActorDiedError
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return await method(*arguments)


class Instance:
    """A data folder with a gateway, and the actor, which may be started again."""

    def __init__(self, data: Path) -> None:
        self.data = filled_folder(data, days=1)
        (self.data / "settings.yaml").unlink()
        (self.data / "spool/1.spool").unlink()
        self.clock = Clock()
        self.database = Database(load(data))
        self.gateway = Gateway(self.database)
        self.started: list[Backups] = []

    def start(self, **backup: Any) -> Backups:
        settings: Settings = load(self.data, {"backup": backup})
        self.started.append(Backups(settings, self.gateway, self.clock))
        return self.started[-1]

    @property
    def store(self) -> Path:
        return self.data / "backups"

    def names(self) -> list[str]:
        return open_store(str(self.store)).names()

    async def end(self) -> None:
        self.gateway.open.set()
        for backups in self.started:
            await backups.stop()
        await self.database.stop()


@pytest.fixture
async def instance(tmp_path: Path) -> AsyncIterator[Instance]:
    opened = Instance(tmp_path / "data")
    yield opened
    await opened.end()


@pytest.fixture(autouse=True)
def _no_long_waits() -> Iterator[None]:
    """Neither for the next look or attempt, nor for the disk: whether bytes have reached it shows after a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.backups.LOOK_S", 0.01)
        patch.setattr("actors.backups.RETRY_WAITS_S", (0.01, 0.01, 0.01))
        for sync in ("fsync", "fdatasync"):
            patch.setattr(os, sync, lambda _: None)
        yield


async def ended(backups: Backups, number: int) -> dict[str, Any]:
    """The job of that number, once it has ended."""

    async def is_over() -> bool:
        job = await backups.job()
        return bool(job["job"] >= number and job["state"] != "running")

    await until(is_over)
    return await backups.job()


def name_of(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y%m%dT%H%M%SZ")


async def test_a_backup_is_made_once_a_day_when_the_hour_has_come(instance: Instance) -> None:
    backups = instance.start()
    assert (await backups.status())["next_at"] == "2025-08-18 02:00"
    await instance.clock.looked_at()
    assert instance.names() == []
    wanted = []
    for day in range(3):
        instance.clock.now_ns = MIDNIGHT + day * DAY + 2 * HOUR + 10**9
        wanted.append(name_of(instance.clock.now_ns))
        await until(lambda: instance.names() == wanted)
        await ended(backups, day + 1)
        instance.clock.now_ns += 12 * HOUR
        await instance.clock.looked_at()
    assert instance.names() == wanted
    status = await backups.status()
    assert (status["newest"], status["state"], status["failure"]) == (wanted[-1], "running", "")
    assert Verifying(open_store(str(instance.store))).run(wanted[-1]) == []


@pytest.mark.parametrize("made_before", [True, False])
async def test_one_that_was_missed_while_nothing_ran_is_made_at_once(instance: Instance, made_before: bool) -> None:
    first = instance.start()
    assert instance.names() == []
    if made_before:
        assert await first.make(None, False, False) == 1
        await ended(first, 1)
    await first.stop()
    before = instance.names()
    instance.clock.now_ns = MIDNIGHT + 3 * DAY + 17 * HOUR
    second = instance.start()
    await second.status()
    await until(lambda: len(instance.names()) == len(before) + 1)
    assert instance.names()[-1] == name_of(instance.clock.now_ns)


async def test_nothing_is_made_without_a_schedule(instance: Instance) -> None:
    backups = instance.start(enabled=False)
    instance.clock.now_ns += 5 * DAY
    status = await backups.status()
    assert (status["next_at"], status["remark"]) == (None, "newest none, no schedule")
    assert (await backups.job())["state"] == "none"
    assert backups._schedule is None


async def test_a_failed_one_is_tried_three_times_more_and_again_the_next_day(instance: Instance) -> None:
    backups = instance.start(to="elsewhere")
    obstacle = instance.data / "elsewhere"
    obstacle.write_text("no folder")
    await backups.status()
    instance.clock.now_ns = MIDNIGHT + 2 * HOUR
    await ended(backups, 4)
    await instance.clock.looked_at()
    status, job = await backups.status(), await backups.job()
    assert (job["job"], job["state"]) == (4, "failed")
    assert status["failure"] == f"backup failed: {job['error']}"
    assert "elsewhere" in job["error"]
    assert status["newest"] is None
    obstacle.unlink()
    instance.clock.now_ns += 23 * HOUR
    await instance.clock.looked_at()
    assert (await backups.job())["job"] == 4, "given up until it is that hour again"
    instance.clock.now_ns += HOUR + 10**9
    assert (await ended(backups, 5))["state"] == "done"
    status = await backups.status()
    assert (status["newest"], status["failure"]) == (name_of(instance.clock.now_ns), "")


async def test_an_attempt_that_succeeds_ends_the_failure(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.backups.RETRY_WAITS_S", (0.5, 0.5, 0.5))
    instance.gateway.dead = True
    backups = instance.start()
    await backups.status()
    instance.clock.now_ns = MIDNIGHT + 2 * HOUR
    await ended(backups, 1)
    failure = "ClickHouse cannot be backed up: its gateway does not answer (ActorDiedError)"
    assert (await backups.job())["error"] == failure
    await until(lambda: backups._failure == f"backup failed: {failure}")
    assert instance.names() == [], "not without the tables"
    instance.gateway.dead = False
    await until(lambda: len(instance.names()) == 1)
    await ended(backups, 2)
    assert (await backups.status())["failure"] == ""


async def test_a_scheduled_one_removes_what_need_not_be_kept_and_one_asked_for_does_not(instance: Instance) -> None:
    backups = instance.start(daily=1, weekly=0, monthly=0)
    for number in (1, 2):
        assert await backups.make(None, False, False) == number
        assert (await ended(backups, number))["state"] == "done"
        instance.clock.now_ns += 10**9
    assert len(instance.names()) == 2
    instance.clock.now_ns = MIDNIGHT + 2 * HOUR
    (instance.data / "symbols.json").write_text("{}")
    await until(lambda: instance.names() == [name_of(instance.clock.now_ns)])
    assert Verifying(open_store(str(instance.store))).run(instance.names()[0]) == []


async def test_what_cannot_be_removed_is_a_failure_that_is_seen(instance: Instance) -> None:
    backups = instance.start(daily=2)
    assert await backups.make(None, False, False) == 1
    name = (await ended(backups, 1))["backup"]
    (instance.store / "backups" / f"{name}.json").write_text("{}")
    instance.clock.now_ns = MIDNIGHT + DAY + 2 * HOUR

    async def seen() -> bool:
        return (await backups.status())["failure"].startswith("backup failed: old backups could not be removed: ")

    await until(seen)
    assert len(instance.names()) == 2


async def test_one_is_made_at_a_time(instance: Instance) -> None:
    backups = instance.start()
    instance.gateway.open.clear()
    numbers = await asyncio.gather(*(backups.make(None, False, False) for _ in range(3)))
    assert numbers == [1, None, None]
    await until(lambda: instance.gateway.waiting > 0)
    assert (await backups.status())["state"] == "backing up"
    instance.clock.now_ns = MIDNIGHT + 2 * HOUR
    await until(lambda: bool(backups._alone._waiters))
    assert (await backups.job())["job"] == 1, "the scheduled one waits"
    instance.gateway.open.set()
    job = await ended(backups, 2)
    assert (job["state"], job["backup"]) == ("done", name_of(instance.clock.now_ns + 10**9)), "after the first"


async def test_one_that_is_stopped_does_not_count_and_the_next_goes_on(instance: Instance) -> None:
    backups = instance.start()
    # Until its first question: then it knows what there is, and has copied nothing.
    asked = asyncio.Event()
    query = instance.database.query

    async def gated(*arguments: Any) -> Any:
        asked.set()
        await until(lambda: backups._stopped)
        return await query(*arguments)

    instance.database.query = gated  # type: ignore[method-assign]
    assert await backups.make(None, False, False) == 1
    await asked.wait()
    await backups.stop()
    job = await backups.job()
    assert (job["state"], job["error"]) == ("failed", "it was stopped; the next one goes on from there")
    assert instance.names() == []
    instance.database.query = query  # type: ignore[method-assign]
    again = instance.start()
    await again.make(None, False, False)
    assert (await ended(again, 1))["state"] == "done"
    assert len(instance.names()) == 1
