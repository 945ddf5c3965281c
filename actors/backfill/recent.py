"""Looks at the trades of an exchange a second time, where nothing in its feed tells that one was lost: recent trades
over REST go to the shards, which keep what they did not have. What they cannot show any more was not looked at a second
time; that alone does not say that anything was lost, so it is counted and is no gap."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from actors.backfill.compare import LONGEST_S, Comparisons
from actors.backfill.pages import Away, Pages
from actors.delivery import Refused
from actors.feeds.history import Wanted, number_in
from actors.rest_client import RestError

IDLE_S: Final = 0.25
#: Everything a page can hold.
_LATEST_NS: Final = (1 << 63) - 1


class RecentTrades:
    """`received` says which symbols are received, and since when (ns on the exchange's clock)."""

    def __init__(self, received: Callable[[], Mapping[str, int]], failed: Callable[[str], None]) -> None:
        self._received = received
        self._failed = failed
        self._comparisons = Comparisons()
        #: Seconds of trades, over all symbols, that no page showed.
        self.unseen_s = 0.0

    def age_s(self) -> float | None:
        """How long ago the symbol was compared whose turn is longest ago; None where one was not yet."""
        oldest = self._comparisons.oldest
        return None if oldest is None else time.monotonic() - oldest

    async def run(self, pages: Pages) -> None:
        while True:
            symbol = self._comparisons.next(self._received(), time.monotonic())
            if symbol is None:
                await asyncio.sleep(IDLE_S)
                continue
            try:
                await self._compare(symbol, pages)
            except Away as away:
                self._comparisons.put_off(symbol, time.monotonic() + away.wait_s)
                if away.tried:
                    self._failed(str(away))
            except (RestError, ValueError, Refused) as error:
                self._comparisons.put_off(symbol, time.monotonic() + LONGEST_S)
                self._failed(str(error))

    async def _compare(self, symbol: str, pages: Pages) -> None:
        wanted = Wanted(symbol, 0, _LATEST_NS)
        if (request := pages.history.request(wanted)) is None:
            raise ValueError(f"there are no recent trades of {symbol} over REST")
        asked = time.monotonic()
        page = await pages.get(wanted, request, self._comparisons.since(symbol))
        if not page.trades.num_rows:
            self._comparisons.nothing(symbol, asked)
            return
        times = np.asarray(page.trades["ts_event"])
        # A page with room for more shows all there ever was.
        every = len(times) < (number_in(request, "limit") or 0)
        hole = self._comparisons.compared(symbol, int(times.min()), int(times.max()), asked, every)
        if hole is not None:
            self.unseen_s += (hole[1] - hole[0]) / 1e9
