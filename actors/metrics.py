"""Metrics: I ask all actors what they count every few seconds, take what replicas and the front door tell, and give it
all as one text and to Ray. I own no data: when I die, counters begin anew, which who reads them expects.
"""

import asyncio
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import ray
import structlog

from actors.directory import SUPERVISOR, Handles
from actors.metering.exposition import text
from actors.metering.from_status import of_actor, of_symbols
from actors.metering.meters import Samples, disk
from actors.metering.registry import Registry
from config import Settings

ANSWER_TIMEOUT_S: Final = 5.0
#: How far symbols can be trusted is asked this often; seldomer where that takes long, but no more seldom than that.
SYMBOLS_INTERVAL_S: Final = 5.0
LONGEST_INTERVAL_S: Final = 30.0
_SHARE: Final = 20
#: Ray tells its metrics on every ten seconds.
RAY_INTERVAL_S: Final = 8.0

log = structlog.get_logger(__name__)


class Metrics:
    """Of the instance with these settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = Registry(interval_s=settings.metrics.interval_s)
        self._actors = Handles()
        self._pids: dict[str, int] = {}
        self._restarts: dict[str, int] = {}
        #: What was found out about them last.
        self._symbols: Samples = {}
        self._symbols_due = self._ray_due = 0.0
        self._export: Any = None
        self._failure = ""
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"Metrics({len(self._registry)} sources)"

    async def status(self) -> dict[str, Any]:
        """`sources`: processes that tell what they count; `replicas`: how many of each application do."""
        self._start()
        replicas = {labels[0]: int(count) for labels, count in sorted(self._registry.gauge("rayfeed_replicas").items())}
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "failure": self._failure,
            "sources": len(self._registry),
            "replicas": replicas,
        }

    async def report(self, source: str, samples: Samples) -> None:
        """A process that is no actor of the supervisor tells everything it counts; again every few seconds."""
        self._start()
        self._registry.take(source, samples, time.monotonic())

    async def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        self._start()
        return text(self._registry.collect())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._ask_for_ever(), name="metrics")]

    async def _ask_for_ever(self) -> None:
        while True:
            try:
                await self._look()
                self._failure = ""
            except Exception as error:  # noqa: BLE001 - there is a next time, and the status tells
                if not self._failure:
                    log.error("metrics cannot be gathered", error=repr(error))
                self._failure = repr(error)
            await asyncio.sleep(self._settings.metrics.interval_s)

    async def _look(self) -> None:
        now = time.monotonic()
        said: dict[str, dict[str, Any]] = await self._asked(SUPERVISOR, "status") or {}
        names = [SUPERVISOR, *said]
        counted = await asyncio.gather(*(self._asked(name, "metrics", name) for name in names))
        for name, samples in zip(names, counted, strict=True):
            if samples is not None:
                self._registry.take(name, samples, now)
        for name, one in said.items():
            self._registry.take(f"status of {name}", of_actor(name, one, self._settings), now)
        self._registry.take("instance", self._own(said), now)
        if now >= self._symbols_due:
            await self._look_at_symbols()
        self._registry.take("symbols", self._symbols, now)
        self._registry.forget_silent(now)
        if self._settings.metrics.to_ray and now >= self._ray_due:
            self._ray_due = now + RAY_INTERVAL_S
            if self._export is None:
                from actors.metering.ray_export import RayExport

                self._export = RayExport()
            self._export.tell(self._registry.collect())

    async def _look_at_symbols(self) -> None:
        began = time.monotonic()
        integrity, quality = await asyncio.gather(
            self._asked(SUPERVISOR, "integrity"), self._asked(SUPERVISOR, "quality", None, None, 1)
        )
        took = time.monotonic() - began
        self._symbols_due = began + min(max(SYMBOLS_INTERVAL_S, _SHARE * took), LONGEST_INTERVAL_S)
        if integrity is not None:
            self._symbols = of_symbols(integrity, quality or (), self._settings.metrics.symbols)

    async def _asked(self, name: str, method: str, *arguments: Any) -> Any:
        """None when it does not answer."""
        try:
            return await asyncio.wait_for(self._actors.ask(name, method, *arguments), ANSWER_TIMEOUT_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError):
            return None

    def _own(self, said: Mapping[str, Mapping[str, Any]]) -> Samples:
        for name, one in said.items():
            if "pid" in one:
                self._restarts[name] = self._restarts.get(name, 0) + (self._pids.get(name, one["pid"]) != one["pid"])
                self._pids[name] = one["pid"]
        versions = (_version("rayfeed"), platform.python_version(), ray.__version__)
        samples: Samples = {
            ("rayfeed_build_info", versions): 1.0,
            ("rayfeed_settings_info", (self._settings.source.partition(":")[0],)): 1.0,
        }
        samples |= {("rayfeed_actor_restarts_total", (name,)): float(count) for name, count in self._restarts.items()}
        return samples | disk(self._settings.data)


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:  # PackageNotFoundError: run from a folder that is not installed
        return "unknown"
