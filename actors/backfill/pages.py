"""Pages of past trades of one exchange, fetched with what live calls leave of its allowance and handed to the shards.
A breaker leaves a REST that fails alone."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
import pyarrow as pa
import structlog

from actors.delivery import Batches
from actors.feeds.feed import RestRequest
from actors.feeds.history import HistoryPage, TradeHistory, Wanted
from actors.polling.breaker import Breaker, BreakerOpen
from actors.rest_client import RestClient, RestError

#: What is asked for while REST is away is asked for again after this long, or once the breaker allows it.
AWAY_S: Final = 0.5

#: Brings batches by kind, received at a time (ns), to the shards; returns when they have them.
Deliver = Callable[[Batches, int], Awaitable[None]]

log = structlog.get_logger(__name__)


class Away(Exception):
    """The exchange's REST or a shard is away, and nothing was learned of what was asked; ask again in `wait_s` seconds.
    `tried` where a request was made, and not only left undone."""

    def __init__(self, reason: str, wait_s: float, tried: bool) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.tried = tried


class Pages:
    """The pages `history` can read, over `rest`."""

    def __init__(
        self, history: TradeHistory, rest: RestClient, breaker: Breaker, deliver: Deliver, rows: int = 0
    ) -> None:
        self.history = history
        self._rest = rest
        self._breaker = breaker
        self._deliver = deliver
        #: Trades fetched.
        self.rows = rows

    async def get(self, wanted: Wanted, request: RestRequest, since_ns: int = 0) -> HistoryPage:
        """One page; the shards have its trades (those since then) when it returns.

        Raises `Away`, `RestError` for a request the exchange refuses, ValueError for an answer that is none, and
        `Refused` when a shard does not take it.
        """
        try:
            ticket = self._breaker.admit(time.monotonic())
        except BreakerOpen as left_alone:
            raise Away(str(left_alone), left_alone.retry_after, tried=False) from None
        try:
            body = await self._rest.get(request, attempts=1, spare=True)
        except RestError as error:
            if not error.passing:
                self._breaker.succeeded(ticket)
                raise
            now = time.monotonic()
            self._breaker.failed(ticket, now)
            raise Away(str(error), max(AWAY_S, self._breaker.retry_after(now)), tried=True) from None
        except BaseException:
            self._breaker.abandoned(ticket)
            raise
        self._breaker.succeeded(ticket)
        received = time.time_ns()
        page = self._read(wanted, request, body, received)
        trades = page.trades
        if since_ns > 0 and trades.num_rows:
            trades = trades.filter(pa.array(np.asarray(trades["ts_event"]) >= since_ns))
        self.rows += trades.num_rows
        await self._deliver({"merged": page.merged, "backfill": trades}, received)
        return page

    def _read(self, wanted: Wanted, request: RestRequest, body: bytes, received: int) -> HistoryPage:
        try:
            return self.history.read(wanted, body, received, request)
        except ValueError:
            raise
        except Exception as error:
            # A fault of ours, and no reason to stop what is live.
            log.exception("past trades cannot be read", symbol=wanted.symbol)
            raise ValueError(f"past trades cannot be read: {error!r}") from error


def narrowed(wanted: Wanted, page: HistoryPage, forwards: bool) -> Wanted:
    """What is left of it after this page."""
    symbol, from_ns, to_ns = wanted.symbol, wanted.from_ns, wanted.to_ns
    if forwards:
        from_ns = min(max(from_ns, page.reached_ns), to_ns)
    else:
        to_ns = max(min(to_ns, page.reached_ns), from_ns)
    if wanted.ids is None or not page.trades.num_rows:
        return Wanted(symbol, from_ns, to_ns, wanted.first_id, wanted.last_id)
    ids = np.asarray(page.trades["trade_id"])
    first, last = wanted.ids
    if forwards:
        return Wanted(symbol, from_ns, to_ns, max(first, int(ids.max()) + 1), last)
    return Wanted(symbol, from_ns, to_ns, first, min(last, int(ids.min()) - 1))
