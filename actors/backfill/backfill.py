"""Everything about past trades of one exchange: repairs of gaps, second looks at recent trades, and ranges that were
asked for. They share one breaker and what live calls leave of the budget."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from actors.backfill.jobs import Jobs
from actors.backfill.pages import Deliver, Pages
from actors.backfill.recent import RecentTrades
from actors.backfill.records import Notes, Records
from actors.backfill.repair import Repair
from actors.feeds.history import TradeHistory, Wanted
from actors.metering.breakers import changes_of
from actors.polling.breaker import Breaker
from actors.rest_client import RestClient
from actors.routes import Routes

log = structlog.get_logger(__name__)


class Backfill:
    """Of `exchange` on its `routes` (to anything with `gaps.remote`, `attempted.remote` and `integrity.remote`).

    `history` gives past trades, or None where they cannot be told from live ones. `deliver` brings batches to the
    shards; `received` says which symbols want a second look at their trades, and since when
    (ns on the exchange's clock); `lag_ns` how far that clock is behind ours. How far it is, `notes` have after a
    kill.
    """

    def __init__(
        self,
        exchange: str,
        routes: Routes,
        history: Callable[[], TradeHistory | None],
        notes: Notes,
        deliver: Deliver,
        received: Callable[[], Mapping[str, int]],
        lag_ns: Callable[[], int],
    ) -> None:
        self._exchange = exchange
        self._history = history
        self._deliver = deliver
        self._records = Records(notes)
        self._breaker = Breaker(
            f"REST of {exchange}",
            successes=1,
            first_wait_s=2.0,
            longest_wait_s=60.0,
            changed=changes_of(f"rest:{exchange}"),
        )
        self._repair = Repair(exchange, routes, self._records, lag_ns, self._fail)
        self._recent = RecentTrades(received, self._fail)
        self._jobs = Jobs(exchange, routes, self._records)
        self._pages: Pages | None = None
        self._error = ""
        self.acknowledged = self._repair.acknowledged

    async def read(self) -> None:
        """Know what another process knew."""
        await self._records.read()
        self._error = self._records.failure or self._error

    async def run(self, rest: RestClient) -> None:
        """Until cancelled; goes on where whoever did this before has ended."""
        await self.read()
        if (history := self._history()) is None:
            await self._repair.run(None)
            return
        self._pages = pages = Pages(history, rest, self._breaker, self._deliver, self._pages.rows if self._pages else 0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repair.run(pages))
            tasks.create_task(self._recent.run(pages))
            tasks.create_task(self._jobs.run(pages))

    async def begin(self, symbol: str, from_ns: int, to_ns: int) -> int:
        """Fetch the past trades of a time (both ends included); the number of the job. ValueError, in one line, when
        that cannot be; OSError when it cannot be written down."""
        to_ns = min(to_ns, time.time_ns())
        if not 0 <= from_ns <= to_ns:
            raise ValueError("a backfill begins before it ends, and before now")
        history = self._history()
        if history is None or history.request(Wanted(symbol, from_ns, to_ns)) is None:
            raise ValueError(f"{self._exchange} does not offer past trades of {symbol}")
        job = self._records.add(symbol, from_ns, to_ns).job
        await self._records.saved()
        return job

    async def finish(self) -> None:
        """Returns once another process can go on from here."""
        await self._records.saved()

    def cancel(self, job: int) -> bool:
        """End a job; False when it does not run."""
        running = [one for one in self._records.jobs if one.job == job and one.state == "running"]
        for one in running:
            one.state = "cancelled"
            self._records.save()
        return bool(running)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, oldest first; see `Job`."""
        return [msgspec.to_builtins(job) for job in self._records.jobs]

    def status(self) -> dict[str, Any]:
        """`backfilled` are trades this process fetched, stored before or not; `unseen_s` are seconds of trades that
        wanted a second look and did not get it, `compared_s` how long ago the last one was of the symbol that waits
        longest (None: one still waits for its first, or none wants it)."""
        breaker, compared_s = self._breaker.stats(time.monotonic()), self._recent.age_s()
        return {
            "gaps_open": self._repair.open,
            "repairs": self._repair.under_way,
            "backfilled": self._pages.rows if self._pages else 0,
            "backfills": sum(job.state == "running" for job in self._records.jobs),
            "unseen_s": round(self._recent.unseen_s, 1),
            "compared_s": None if compared_s is None else round(compared_s, 3),
            "repair_error": self._error,
            "breaker": breaker.state,
            "breaker_retry_s": round(breaker.retry_after, 3),
        }

    def _fail(self, reason: str) -> None:
        if reason != self._error:
            log.warning("a backfill failed", exchange=self._exchange, reason=reason)
        self._error = reason
