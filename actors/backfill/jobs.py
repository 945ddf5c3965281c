"""Carries out the backfills somebody asked for by date, a page of each in turn."""

import asyncio
import time
from typing import Any, Final

from actors.backfill.pages import AWAY_S, Away, Pages
from actors.backfill.records import Job, Records
from actors.delivery import AWAY, Refused
from actors.feeds.feed import RestRequest
from actors.rest_client import RestError
from actors.routes import Routes

#: A job whose pages fail this often in a row has failed.
TRIES: Final = 5
IDLE_S: Final = 0.25
#: How far a job is is written down this often; fetching a second's pages again costs little.
SAVE_S: Final = 1.0


class Jobs:
    """The running jobs of `records`; `routes` lead to what has `integrity.remote`."""

    def __init__(self, exchange: str, routes: Routes, records: Records) -> None:
        self._exchange = exchange
        self._routes = routes
        self._records = records
        self._next: dict[int, RestRequest] = {}
        self._tries: dict[int, int] = {}
        self._saved_at = 0.0

    async def run(self, pages: Pages) -> None:
        while True:
            running = [job for job in self._records.jobs if job.state == "running"]
            wait_s = 0.0 if running else IDLE_S
            numbers = {job.job for job in running}
            self._next = {job: request for job, request in self._next.items() if job in numbers}
            self._tries = {job: tries for job, tries in self._tries.items() if job in numbers}
            for job in running:
                wait_s = max(wait_s, await self._turn(job, pages))
            await asyncio.sleep(wait_s)

    async def _turn(self, job: Job, pages: Pages) -> float:
        """A page of a job; seconds to wait before the next."""
        try:
            await self._page(job, pages)
        except Away as away:
            job.error = str(away)
            self._save(job)
            return away.wait_s
        except (RestError, ValueError, Refused) as error:
            job.error = str(error)
            self._tries[job.job] = self._tries.get(job.job, 0) + 1
            if self._tries[job.job] >= TRIES and job.state == "running":
                job.state = "failed"
            self._save(job)
            return AWAY_S
        self._tries.pop(job.job, None)
        return 0.0

    async def _page(self, job: Job, pages: Pages) -> None:
        wanted = job.left(pages.history.forwards)
        request = self._next.pop(job.job, None) or pages.history.request(wanted)
        if request is None:
            raise ValueError(f"{self._exchange} does not offer these trades any more")
        before = await self._stored(job.symbol)
        page = await pages.get(wanted, request)
        job.pages += 1
        job.rows += page.trades.num_rows
        # Repairs of the same symbol store trades too.
        job.new += min(max(0, await self._stored(job.symbol) - before), page.trades.num_rows)
        job.error = ""
        if page.next is None:
            job.reached_ns = job.to_ns if pages.history.forwards else job.from_ns
            if job.state == "running":
                job.state = "done"
            if not page.covered:
                job.error = "the exchange does not show all of this time"
        else:
            job.reached_ns = page.reached_ns
            self._next[job.job] = page.next
        if page.next is None or time.monotonic() - self._saved_at > SAVE_S:
            self._save(job)

    async def _stored(self, symbol: str) -> int:
        """How many of its trades came from backfills."""
        try:
            rows: list[dict[str, Any]] = await self._routes.shard(symbol).integrity.remote(self._exchange)
        except (*AWAY, KeyError) as error:
            # It comes back, or others get its symbols, which nobody has meanwhile.
            raise Away(f"a shard is away: {error!r}", AWAY_S, tried=False) from error
        except Exception as error:
            # It is the shard that fails; what it does not take will say so.
            raise ValueError(f"a shard does not tell what it has: {error!r}") from error
        return next((row.get("backfilled", 0) for row in rows if row["symbol"] == symbol), 0)

    def _save(self, job: Job) -> None:
        self._saved_at = time.monotonic()
        try:
            self._records.save()
        except OSError as error:
            job.error = f"how far it is cannot be kept: {error.strerror}"
