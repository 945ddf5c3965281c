"""Past trades of Bitfinex by time.

https://docs.bitfinex.com/reference/rest-public-trades: `start` and `end` in ms, both inclusive, 10,000 trades at most,
oldest first with `sort=1`; 15 requests a minute of the 90 others have. Each page begins with the last millisecond of
the one before: a trade more of it may have been cut off.
"""

from typing import ClassVar, Final

import numpy as np

from actors.feeds.bitfinex.messages import read_past_trades
from actors.feeds.columns import NO_TIME
from actors.feeds.feed import RestRequest
from actors.feeds.history import NS_PER_MS, HistoryPage, Wanted, is_past, number_in, page, past_trades, reaches_end
from actors.feeds.texts import times
from storage.schema import BUY, SELL

_LIMIT: Final = 10_000
_WEIGHT: Final = 6


class BitfinexHistory:
    forwards: ClassVar[bool] = True

    def request(self, wanted: Wanted) -> RestRequest:
        return _from_time(wanted, max(wanted.from_ns, 0) // NS_PER_MS)

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades = read_past_trades(body)
        amount = np.array([trade.amount for trade in trades], np.float64)
        rows = past_trades(
            times(np.array([trade.time for trade in trades], np.int64), 1000),
            [trade.id for trade in trades],
            np.where(amount < 0, SELL, BUY).tolist(),
            [trade.price for trade in trades],
            np.abs(amount),
        )
        if len(trades) < _LIMIT or reaches_end(wanted, rows):
            return page(wanted, rows, ts_recv, True, None, is_past(wanted, ts_recv))
        start = int(rows.ts_event.max(initial=NO_TIME)) // NS_PER_MS
        if start > (number_in(request or self.request(wanted), "start") or 0):
            return page(wanted, rows, ts_recv, True, _from_time(wanted, start), False)
        return page(wanted, rows, ts_recv, True, None, False)


def _from_time(wanted: Wanted, start_ms: int) -> RestRequest:
    query = f"start={start_ms}&end={wanted.to_ns // NS_PER_MS}&limit={_LIMIT}&sort=1"
    return RestRequest(f"/v2/trades/{wanted.symbol}/hist?{query}", _WEIGHT)
