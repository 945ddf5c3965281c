"""Past trades of Binance spot: aggregate trades by id, or from a time on.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints#compressedaggregate-trades-list
`fromId`, `startTime` and `endTime` (ms) are inclusive, 1,000 trades at most, 4 of the weight. Start and end were
once to be less than an hour apart, and some servers still want that; so a time is asked for by the hour until a trade
shows, and from there on by id, which counts without a hole.
"""

from typing import ClassVar, Final
from urllib.parse import quote

import numpy as np

from actors.feeds.binance.messages import PastTrade, read_body
from actors.feeds.feed import RestRequest
from actors.feeds.history import NS_PER_MS, HistoryPage, Wanted, forward_page, is_past, number_in, page, past_trades
from actors.feeds.texts import times
from storage.schema import BUY, SELL

_LIMIT: Final = 1_000
_WEIGHT: Final = 4
_HOUR_MS: Final = 3_600_000


class BinanceHistory:
    forwards: ClassVar[bool] = True

    def request(self, wanted: Wanted) -> RestRequest:
        if wanted.ids is not None:
            return _from_id(wanted.symbol, wanted.ids[0])
        return _from_time(wanted, max(wanted.from_ns, 0) // NS_PER_MS)

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades = read_body(list[PastTrade], body, strict=False)
        rows = past_trades(
            times(np.array([trade.T for trade in trades], np.int64), 1000),
            [trade.a for trade in trades],
            [SELL if trade.m else BUY for trade in trades],
            [trade.p for trade in trades],
            [trade.q for trade in trades],
        )
        request = request or self.request(wanted)
        end_ms = number_in(request, "endTime")
        if end_ms is not None and not trades:
            if (end_ms + 1) * NS_PER_MS > wanted.to_ns:
                return page(wanted, rows, ts_recv, True, None, is_past(wanted, ts_recv))
            return page(wanted, rows, ts_recv, True, _from_time(wanted, end_ms + 1), False)
        # An hour that is read is no sign of the end: the next trade may be in a later one.
        more = end_ms is not None or len(trades) >= _LIMIT
        cursor = number_in(request, "fromId") or 0
        return forward_page(wanted, rows, ts_recv, cursor, more, lambda number: _from_id(wanted.symbol, number))


def _from_id(symbol: str, number: int) -> RestRequest:
    return RestRequest(f"/api/v3/aggTrades?symbol={quote(symbol)}&fromId={number}&limit={_LIMIT}", _WEIGHT)


def _from_time(wanted: Wanted, start_ms: int) -> RestRequest:
    end_ms = min(wanted.to_ns // NS_PER_MS, start_ms + _HOUR_MS - 1)
    query = f"symbol={quote(wanted.symbol)}&startTime={start_ms}&endTime={end_ms}&limit={_LIMIT}"
    return RestRequest(f"/api/v3/aggTrades?{query}", _WEIGHT)
