"""The backups of an instance: I make them, one at a time, when somebody asks and every day at an hour, and remove those
that need not be kept. I own no data. A backup I was killed in does not count; the next one goes on from there.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import ray
import structlog

from actors.other_disks import disks_to_back_up
from config.settings import Settings
from storage.backup import BackupCancelled, Copying, Extras, prune
from storage.backup_disks import SymbolsMoved
from storage.backup_manifest import BackupError, Manifest, described
from storage.backup_retention import begun, is_due, next_hour
from storage.backup_store import BackupStore, open_store
from storage.clickhouse import DatabaseUnavailable, Parameter

#: Looks at the clock this often.
LOOK_S: Final = 20.0
#: After each failure of a scheduled backup it waits this long; there is none after the last.
RETRY_WAITS_S: Final = (60.0, 300.0, 900.0)
#: Rows that wait for ClickHouse have this long to arrive there; those that do not are in the spool.
FLUSH_S: Final = 20.0
ANSWER_TIMEOUT_S: Final = 300.0
#: While symbols move, a backup is begun anew; what was copied is there already.
MOST_ATTEMPTS: Final = 3
STOP_S: Final = 2.0
#: Its time of change is when an instance began to look at the clock.
_SINCE: Final = "since"

log = structlog.get_logger(__name__)


class Backups:
    """An actor: one per instance. `database` is the handle of its gateway."""

    def __init__(self, settings: Settings, database: Any, clock: Callable[[], int] = time.time_ns) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._since = _began_looking(settings.data / "backups" / _SINCE, clock())
        self._newest: str | None = None
        #: Until when none is due, as all attempts failed.
        self._given_up: datetime | None = None
        self._failure = ""
        #: Held by who makes a backup, and while old ones are removed: what nobody names yet would be too.
        self._alone = asyncio.Lock()
        self._copying: Copying | None = None
        self._making: asyncio.Task[Any] | None = None
        self._schedule: asyncio.Task[None] | None = None
        self._stopped = False
        self._job: dict[str, Any] = {"job": 0, "state": "none", "error": ""}

    def __repr__(self) -> str:
        return f"Backups({self._job['state']}, newest {self._newest})"

    async def make(self, to: str | None, journal: bool, secrets: bool) -> int | None:
        """Begin a backup to that place (None: that of the settings); the number of the job, None while another is
        under way."""
        self._start()
        if self._alone.locked() or (self._making is not None and not self._making.done()):
            return None
        self._making = asyncio.create_task(self._asked_for(to or self._settings.backups, Extras(journal, secrets)))
        # It takes its number before anything else.
        await asyncio.sleep(0)
        number: int = self._job["job"]
        return number

    async def job(self) -> dict[str, Any]:
        """The newest job: its number, `state` (none, running, done, failed), `error`, how far it is, and once it is
        done what `storage.backup_manifest.described` says, and to which place."""
        self._start()
        progress = asdict(self._copying.progress) if self._copying is not None else {}
        return self._job | progress

    async def status(self) -> dict[str, Any]:
        """state, newest (the backup), next_at (UTC), failure (of the last scheduled one, until one succeeds)."""
        self._start()
        due = next_hour(self._now(), self._settings.backup.hour_utc).strftime("%Y-%m-%d %H:%M")
        plan = f"next {due} UTC" if self._settings.backup.enabled else "no schedule"
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "state": "running" if self._copying is None else "backing up",
            "newest": self._newest,
            "next_at": due if self._settings.backup.enabled else None,
            "remark": f"newest {self._newest or 'none'}, {plan}",
            "failure": self._failure,
        }

    async def stop(self) -> None:
        """End what is under way, between two objects."""
        self._stopped = True
        tasks = [task for task in (self._schedule, self._making) if task is not None]
        if self._schedule is not None:
            self._schedule.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    def _start(self) -> None:
        if self._schedule is None and self._settings.backup.enabled:
            self._schedule = asyncio.get_running_loop().create_task(self._keep_schedule(), name="backup-schedule")

    async def _keep_schedule(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - there is a next time, and the status tells
                self._note_failure(repr(error))
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        if self._newest is None:
            with contextlib.suppress(BackupError):  # told when one is due
                self._newest = await asyncio.to_thread(_newest, self._settings.backups)
        newest = begun(self._newest) if self._newest else None
        since = max(self._since, self._given_up or self._since)
        if newest is not None:
            since = max(since, newest)
        if is_due(self._now(), self._settings.backup.hour_utc, None, since):
            await self._scheduled()

    async def _scheduled(self) -> None:
        """A backup, tried again after a while when it fails."""
        for wait_s in (*RETRY_WAITS_S, None):
            async with self._alone:
                if await self._tried(self._settings.backups, Extras()):
                    await self._prune()
                    return
            if self._stopped:
                return
            self._note_failure(self._job["error"])
            if wait_s is not None:
                await asyncio.sleep(wait_s)
        self._given_up = self._now()

    async def _asked_for(self, target: str, extras: Extras) -> None:
        async with self._alone:
            await self._tried(target, extras)

    async def _tried(self, target: str, extras: Extras) -> bool:
        """Whether a backup was made; `_job` says the rest."""
        self._job = {"job": self._job["job"] + 1, "state": "running", "error": ""}
        try:
            store = open_store(target)
            name, manifest = await self._make(store, extras)
        except BackupCancelled:
            self._job |= {"state": "failed", "error": "it was stopped; the next one goes on from there"}
        except BackupError as error:
            self._job |= {"state": "failed", "error": str(error)}
        except Exception as error:
            self._job |= {"state": "failed", "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            log.exception("a backup failed")
        else:
            self._job |= {"state": "done", "to": store.shown, **described(name, manifest)}
            if target == self._settings.backups:
                self._newest, self._failure = name, ""
                if manifest.lacks:
                    self._note_failure(f"{name} lacks what other hosts have: {'; '.join(manifest.lacks)}")
            log.info("a backup was made", backup=name)
            return True
        finally:
            self._copying = None
        return False

    async def _make(self, store: BackupStore, extras: Extras) -> tuple[str, Manifest]:
        loop = asyncio.get_running_loop()

        def query(sql: str, parameters: Mapping[str, Parameter] | None = None) -> pa.Table:
            asked = asyncio.run_coroutine_threadsafe(self._ask("query", sql, parameters), loop)
            try:
                rows: pa.Table = asked.result(ANSWER_TIMEOUT_S)
            except TimeoutError:
                raise DatabaseUnavailable(f"no answer within {ANSWER_TIMEOUT_S:g} s") from None
            return rows

        for attempt in range(MOST_ATTEMPTS):
            disks = await disks_to_back_up(self._settings)
            data = self._settings.data
            self._copying = copying = Copying(store, data, query, extras, lambda: self._stopped, disks)
            with contextlib.suppress(DatabaseUnavailable):  # its queries will tell
                await self._ask("flush", FLUSH_S)
            try:
                return await asyncio.to_thread(copying.run, self._clock)
            except SymbolsMoved:
                if attempt == MOST_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._database, method).remote(*arguments)
        except ray.exceptions.RayTaskError as error:
            # What its gateway says, without the trace.
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise DatabaseUnavailable(f"its gateway does not answer ({type(error).__name__})") from None

    async def _prune(self) -> None:
        backup = self._settings.backup
        try:
            store = open_store(self._settings.backups)
            gone = await asyncio.to_thread(prune, store, backup.daily, backup.weekly, backup.monthly)
        except BackupError as error:
            self._note_failure(f"old backups could not be removed: {error}")
        else:
            log.info("old backups were removed", backups=gone)

    def _note_failure(self, error: str) -> None:
        self._failure = f"backup failed: {error}"
        log.error("a scheduled backup failed", error=error)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() // 1_000_000_000, UTC)


def _newest(target: str) -> str | None:
    return max(open_store(target).names(), default=None)


def _began_looking(path: Path, now_ns: int) -> datetime:
    """When an instance on this folder looked for the first time."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()
        os.utime(path, ns=(now_ns, now_ns))
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
