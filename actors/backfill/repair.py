"""Repairs the open gaps of one exchange over REST. The shards say which gaps are open; what the exchange shows goes to
them page by page, so that whatever ends this in the middle costs requests and no data.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from actors.backfill.pages import Away, Pages, narrowed
from actors.backfill.records import Records
from actors.backfill.schedule import Key, Schedule
from actors.delivery import Refused
from actors.feeds.feed import RestRequest
from actors.feeds.history import HistoryPage, Wanted
from actors.rest_client import RestError
from actors.routes import Routes
from storage.ledger_log import Gap

#: The shards are asked for open gaps this often whatever they answer to batches: as many may be open as before, and
#: others. While there are none as far as is known, less often.
ASK_AGAIN_S: Final = 1.0
ASK_S: Final = 30.0
#: Gaps repaired at the same time, and pages of one before others get their turn.
WORKERS: Final = 2
PAGES_A_TURN: Final = 5
#: Times are asked for with this much more on both ends: clocks differ, and trades travel.
MARGIN_NS: Final = 5_000_000_000


class Repair:
    """The gaps of `exchange` in the shards of its `routes` (anything with `gaps.remote` and `attempted.remote`).

    `lag_ns` says how far the exchange's clock is behind ours, `failed` takes what went wrong, in one line.
    """

    def __init__(
        self,
        exchange: str,
        routes: Routes,
        records: Records,
        lag_ns: Callable[[], int],
        failed: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._routes = routes
        self._records = records
        self._lag_ns = lag_ns
        self._failed = failed
        self._schedule: Schedule[Gap] = Schedule()
        #: Of gaps under way the request for the next page, what it is part of, and how many pages there were.
        self._next: dict[Key, tuple[RestRequest, Wanted, int]] = {}
        #: What each shard said last of its open gaps: how many, and which.
        self._said: dict[int, int] = {}
        self._gaps: dict[int, list[Gap]] = {}
        self._ask_now = asyncio.Event()
        self._due = asyncio.Event()

    @property
    def open(self) -> int:
        """Open gaps, as the shards said last."""
        return sum(self._said.values())

    @property
    def under_way(self) -> int:
        return self._schedule.under_way

    def acknowledged(self, shard: int, gaps: int) -> None:
        """A shard has so many gaps that want repair."""
        if gaps != self._said.get(shard, 0):
            self._said[shard] = gaps
            self._ask_now.set()

    async def run(self, pages: Pages | None) -> None:
        """Until cancelled; without `pages` gaps are counted and stay as they are."""
        # Those under way when this was cancelled are not any more.
        self._schedule = Schedule()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ask_forever())
            if pages is not None:
                for _ in range(WORKERS):
                    tasks.create_task(self._repair_forever(pages))

    async def _ask_forever(self) -> None:
        while True:
            self._ask_now.clear()
            shards = self._routes.shards
            asked = (shard.gaps.remote(self._exchange) for shard in shards.values())
            answers = await asyncio.gather(*asked, return_exceptions=True)
            # Others have the symbols of those that are gone.
            self._gaps = {number: gaps for number, gaps in self._gaps.items() if number in shards}
            self._said = {number: gaps for number, gaps in self._said.items() if number in shards}
            for number, answer in zip(shards, answers, strict=True):
                if isinstance(answer, BaseException):
                    # It is the shard that fails; its batches say so if it does not take those either. What it said
                    # last is held to be so, and the gaps of the others are repaired.
                    self._failed(f"a shard does not tell its gaps: {answer!r}")
                else:
                    self._gaps[number], self._said[number] = answer, len(answer)
            gaps = [gap for own in self._gaps.values() for gap in own]
            self._schedule.open_are(gaps, time.monotonic(), time.time_ns())
            keys = {Key(gap.symbol, gap.gap_id) for gap in gaps}
            self._next = {key: value for key, value in self._next.items() if key in keys}
            if len(self._gaps) == len(shards):
                self._write(self._records.forget, keys)
            self._due.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ask_now.wait(), ASK_AGAIN_S if self.open else ASK_S)

    async def _repair_forever(self, pages: Pages) -> None:
        while True:
            now = time.monotonic()
            if (gap := self._schedule.next(now)) is not None:
                await self._repair(gap, pages)
                continue
            self._due.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._schedule.due_in(now))

    async def _repair(self, gap: Gap, pages: Pages) -> None:
        """One turn of a gap; every way out of it tells the schedule."""
        key = Key(gap.symbol, gap.gap_id)
        if key in self._next:
            request, wanted, number = self._next.pop(key)
        else:
            # What joins it now is part of what is asked for. Nothing joins what another process has begun: what else
            # was part of that nobody knows any more.
            left, number = self._records.left(key), 0
            wanted = left or self._wanted(gap, self._schedule.join(gap, time.monotonic(), self._begun))
            if (first := pages.history.request(wanted)) is None:
                reason = f"{self._exchange} does not offer these trades over REST"
                for one in (gap, *self._schedule.along(gap)):
                    await self._attempted(one, False, reason)
                self._schedule.put_off(gap, float("inf"))
                return
            request = first
        try:
            for _ in range(PAGES_A_TURN):
                page = await pages.get(wanted, request)
                number += 1
                if page.next is None:
                    self._write(self._records.drop, key)
                    for one in (gap, *self._schedule.along(gap)):
                        covered = page.covered or self._shown(one, page, pages.history.forwards)
                        await self._attempted(one, covered, _evidence(covered, number))
                    # Closed, as the next answer will say, or to be tried again.
                    self._schedule.failed(gap, time.monotonic())
                    self._ask_now.set()
                    return
                request = page.next
        except Away as away:
            self._next[key] = request, wanted, number
            self._schedule.put_off(gap, time.monotonic() + away.wait_s)
            if away.tried:
                self._failed(str(away))
                await self._attempted(gap, False, str(away))
        except (RestError, ValueError, Refused) as error:
            self._write(self._records.drop, key)
            self._schedule.failed(gap, time.monotonic())
            self._failed(str(error))
            await self._attempted(gap, False, str(error))
        else:
            self._next[key] = request, wanted, number
            self._write(self._records.keep, key, narrowed(wanted, page, pages.history.forwards))
            self._schedule.go_on(gap, time.monotonic())
            self._due.set()

    def _begun(self, key: Key) -> bool:
        return key in self._next or self._records.left(key) is not None

    def _shown(self, gap: Gap, page: HistoryPage, forwards: bool) -> bool:
        """Whether the pages, this being the last, have gone beyond a window on the side where they ended early."""
        own = self._wanted(gap, ())
        beyond = own.to_ns < page.reached_ns if forwards else page.reached_ns < own.from_ns
        return gap.first_id is None and beyond

    def _wanted(self, gap: Gap, along: Sequence[Gap]) -> Wanted:
        lag = self._lag_ns()
        first, last = min(one.from_ns for one in (gap, *along)), max(one.to_ns for one in (gap, *along))
        begin = first - MARGIN_NS - max(lag, 0)
        end = min(last + MARGIN_NS, time.time_ns()) - min(lag, 0)
        return Wanted(gap.symbol, max(begin, 0), max(end, last), gap.first_id, gap.last_id)

    async def _attempted(self, gap: Gap, covered: bool, note: str) -> None:
        if (shard := self._routes.shards.get(self._routes.number(gap.symbol))) is None:
            return  # its node is away, and with it the gap
        told = shard.attempted.remote(self._exchange, gap.symbol, gap.gap_id, covered, note, time.time_ns())
        for error in await asyncio.gather(told, return_exceptions=True):
            if error is not None:
                self._failed(f"a shard does not take what became of a gap: {error!r}")

    def _write(self, change: Callable[..., None], *arguments: Any) -> None:
        try:
            change(*arguments)
        except OSError as error:
            self._failed(f"how far a repair is cannot be kept: {error.strerror}")


def _evidence(covered: bool, pages: int) -> str:
    shown = "the exchange showed everything it has of this time" if covered else "the exchange shows no more"
    return f"{shown} ({pages} page{'s' if pages > 1 else ''} over REST)"
