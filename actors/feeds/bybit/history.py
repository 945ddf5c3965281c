"""Recent trades of Bybit: one page, and none before it.

https://bybit-exchange.github.io/docs/v5/market/recent-trade: the newest 1,000 trades, of spot 60. What happened
between two of these pages is known only if they overlap, so a time is covered where the page reaches back beyond it.
"""

from typing import ClassVar, Final

import numpy as np

from actors.feeds.bybit.messages import read_past_trades, trade_id
from actors.feeds.feed import RestRequest
from actors.feeds.history import HistoryPage, Wanted, is_past, page, past_trades, reaches_back
from actors.feeds.texts import times
from storage.schema import BUY, SELL

_LIMITS: Final = {"spot": 60, "linear": 1_000}
_SIDES: Final = {"Buy": BUY, "Sell": SELL}


class BybitHistory:
    forwards: ClassVar[bool] = False

    def request(self, wanted: Wanted) -> RestRequest:
        category, _, name = wanted.symbol.partition(":")
        query = f"category={category}&symbol={name}&limit={_LIMITS[category]}"
        return RestRequest(f"/v5/market/recent-trade?{query}")

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades = read_past_trades(body)
        if any(trade.symbol != wanted.symbol.partition(":")[2] for trade in trades):
            raise ValueError("trades of another symbol")
        rows = past_trades(
            times(np.array([trade.time for trade in trades], np.int64), 1000),
            [trade_id(trade.exec_id) for trade in trades],
            [_SIDES[trade.side] for trade in trades],
            [trade.price for trade in trades],
            [trade.size for trade in trades],
        )
        return page(wanted, rows, ts_recv, False, None, reaches_back(wanted, rows) and is_past(wanted, ts_recv))
