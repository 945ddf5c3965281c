"""What an exchange lists: asked for at the start, every so often, and when somebody wants a symbol that is not there.
Without it the exchange itself refuses what it does not have.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pyarrow as pa

from actors.feeds.feed import Feed, RestRequest
from actors.recorder import Recorder
from actors.rest_client import RestClient, RestError
from actors.roster import Roster
from config.settings import CollectorSettings


class InstrumentList:
    """That of `feed`'s exchange, of which `roster` is told. `recorder` keeps the answers, `say` an error."""

    def __init__(
        self,
        feed: type[Feed],
        settings: CollectorSettings,
        recorder: Recorder,
        say: Callable[[str], None],
        roster: Roster,
    ) -> None:
        self._feed = feed
        self._settings = settings
        self._recorder = recorder
        self._say = say
        self._roster = roster
        self._rest: RestClient | None = None
        self._recorded = False
        #: What was read last (`storage.schema.INSTRUMENTS`), and None while nothing was.
        self.table: pa.Table | None = None
        #: The requests it was read with: other symbols may be in other lists.
        self._asked: frozenset[RestRequest] = frozenset()
        self._read_at = 0.0
        self._due = asyncio.Event()

    def belongs_to(self, roster: Roster) -> None:
        """That one is told from now on."""
        self._roster = roster

    def is_due(self) -> None:
        """Ask again at once."""
        self._due.set()

    def may_lack(self, symbols: Sequence[str]) -> bool:
        """Whether what is not in it may have been put there since, or be in a list that was not asked for."""
        incomplete = not self._asked.issuperset(self._feed.instrument_requests(self._every(symbols)))
        old = time.monotonic() - self._read_at > self._settings.list_retry_s and self._roster.unlisted(symbols)
        return bool(self._asked) and (incomplete or old)

    async def follow(self, rest: RestClient, recorded: bool, listed: asyncio.Event) -> None:
        """Keep it up to date; `listed` is set as soon as it is known whether it can be had."""
        self._rest, self._recorded = rest, recorded
        while True:
            known = await self.read(())
            listed.set()
            due = time.monotonic() + self._settings.list_interval_s
            while time.monotonic() < due and not self._due.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), self._settings.list_retry_s)
                # What is refused, which may be at any time, may be no more than halted.
                if not known or self._roster.refused:
                    break
            self._due.clear()

    async def read(self, symbols: Sequence[str]) -> bool:
        """Ask for everything that these, and those that are collected, can be; whether that worked."""
        assert self._rest is not None
        rest, requests = self._rest, self._feed.instrument_requests(self._every(symbols))
        answers: list[tuple[RestRequest, bytes]] = []
        refused: RestError | None = None
        try:
            for request in requests:
                try:
                    answers.append((request, await rest.get(request, attempts=1)))
                except RestError as error:
                    if error.passing:
                        raise
                    # One list the exchange does not have (of a currency, say) must not cost the others.
                    refused = error
                    self._say(f"a list of instruments is refused: {error}")
            if refused is not None and not answers:
                raise refused
            self.table = await asyncio.to_thread(self._feed.read_instruments, [body for _, body in answers])
        except (RestError, ValueError) as error:
            self._say(f"the list of instruments cannot be had: {error}")
            return False
        # A replay has its own times: what is asked for there was there from the beginning.
        now = 0 if self._recorded else time.time_ns()
        for request, body in answers:
            self._recorder.event("rest", "rest", rest.url(request), now, body)
        self._asked, self._read_at = frozenset(requests), time.monotonic()
        self._roster.list_is(self.table)
        return True

    def _every(self, symbols: Sequence[str]) -> Sequence[str]:
        return self._roster.possible((*self._roster.wanted, *symbols))
