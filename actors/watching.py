"""How the actors of an instance are: each is asked again and again, and whoever does not work is set to work."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import ray

from actors.directory import MARKET_OVERVIEW, METRICS
from actors.surveys import ANSWER_TIMEOUT_S


class Watching:
    """Of the `actors` by name, which come and go. `noticed` is told the name of one that has another process than
    before, `set_to_work` has one begin whose process was restarted, or whose work failed."""

    def __init__(
        self,
        actors: Mapping[str, Any],
        noticed: Callable[[str], Awaitable[None]],
        set_to_work: Callable[[str], Awaitable[None]],
    ) -> None:
        self._actors = actors
        self._noticed = noticed
        self._set_to_work = set_to_work
        self._said: dict[str, dict[str, Any]] = {}

    def status(self) -> dict[str, dict[str, Any]]:
        """By actor name, what each said last, with `age_s` since then and `answers` false if it no longer does."""
        now = time.monotonic()
        return {
            name: {**{k: v for k, v in said.items() if k != "at"}, "age_s": round(now - said["at"], 3)}
            for name, said in self._said.items()
        }

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests can be served, and the state of each feed."""
        spared = (MARKET_OVERVIEW, METRICS)
        needed = [name for name in self._actors if name not in spared and not name.startswith("node:")]
        silent = [name for name in needed if not self._said.get(name, {}).get("answers")]
        feeds = {
            said["exchange"]: {key: said[key] for key in ("state", "lag_ms", "last_error", "failure")}
            for said in self._said.values()
            if "exchange" in said
        }
        ready = bool(self._actors) and not silent
        degraded = any(feed["state"] != "streaming" for feed in feeds.values())
        status = "starting" if not ready else "degraded" if degraded else "ready"
        return ready, {"status": status, "feeds": feeds, "not_answering": silent}

    def forget(self, name: str) -> None:
        """It has ended."""
        self._said.pop(name, None)

    async def look_at_all(self) -> None:
        await asyncio.gather(*map(self.look, list(self._actors)))

    async def look(self, name: str) -> Mapping[str, Any]:
        """What it said last, nothing for one that has ended; it is at work afterwards, if it can be."""
        if (actor := self._actors.get(name)) is None:
            return {}
        try:
            said = await asyncio.wait_for(actor.status.remote(), ANSWER_TIMEOUT_S)
            if self._said.get(name, said).get("pid") != said.get("pid"):
                await asyncio.wait_for(self._noticed(name), ANSWER_TIMEOUT_S)
            if name not in self._actors:
                return {}
            self._said[name] = {**said, "answers": True, "at": time.monotonic()}
            if said.get("running") is False:
                await asyncio.wait_for(self._set_to_work(name), ANSWER_TIMEOUT_S)
        except (TimeoutError, ray.exceptions.RayError) as error:
            if name not in self._actors:
                return {}
            before = self._said.get(name, {"at": time.monotonic()})
            self._said[name] = {**before, "answers": False, "failure": str(error) or "does not answer"}
        return self._said[name]
