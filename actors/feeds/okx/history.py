"""Past trades of OKX, newest first, before an id or a time.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history: the last three months, 100 trades
at most, `after` (older than) is an id with `type=1` and a time in ms with `type=2`. After the first page of a time
the next are asked for by id, since several trades may have the same time.
"""

from typing import ClassVar, Final

import numpy as np

from actors.feeds.feed import RestRequest
from actors.feeds.history import NS_PER_MS, HistoryPage, Wanted, backward_page, number_in, past_trades
from actors.feeds.okx.messages import read_past_trades
from actors.feeds.texts import times
from storage.schema import BUY, SELL

_LIMIT: Final = 100
_SIDES: Final = {"buy": BUY, "sell": SELL}
_BY_ID: Final = 1
_BY_TIME: Final = 2


class OkxHistory:
    forwards: ClassVar[bool] = False

    def request(self, wanted: Wanted) -> RestRequest:
        if wanted.ids is not None:
            return _before(wanted.symbol, _BY_ID, wanted.ids[1] + 1)
        return _before(wanted.symbol, _BY_TIME, wanted.to_ns // NS_PER_MS + 1)

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades = read_past_trades(body)
        rows = past_trades(
            times(np.array([trade.ts for trade in trades], np.int64), 1000),
            [trade.trade_id for trade in trades],
            [_SIDES[trade.side] for trade in trades],
            [trade.px for trade in trades],
            [trade.sz for trade in trades],
            [trade.count for trade in trades],
        )
        request = request or self.request(wanted)
        cursor = number_in(request, "after") if number_in(request, "type") == _BY_ID else None
        more = len(trades) >= _LIMIT
        return backward_page(wanted, rows, ts_recv, cursor, more, lambda number: _before(wanted.symbol, _BY_ID, number))


def _before(symbol: str, kind: int, after: int) -> RestRequest:
    return RestRequest(f"/api/v5/market/history-trades?instId={symbol}&type={kind}&after={after}&limit={_LIMIT}")
