"""Past trades of Deribit by sequence number, or from a time on.

https://docs.deribit.com/api-reference/market-data/public-get_last_trades_by_instrument: `start_seq` and `end_seq` are
inclusive, 1,000 trades at most, `has_more` says whether others follow. After
https://docs.deribit.com/api-reference/market-data/public-get_last_trades_by_instrument_and_time (ms) the next pages
are asked for by number, since several trades may have the same time. Trades are kept for a day:
https://docs.deribit.com/articles/accessing-historical-trades-orders; what is older may be missing without a word.
"""

from dataclasses import replace
from typing import ClassVar, Final

import numpy as np

from actors.feeds.deribit.messages import read_past_trades
from actors.feeds.feed import RestRequest
from actors.feeds.history import NS_PER_MS, HistoryPage, Wanted, forward_page, number_in, past_trades
from actors.feeds.texts import times
from storage.schema import BUY, SELL

_LIMIT: Final = 1_000
_PATH: Final = "/api/v2/public/get_last_trades_by_instrument"
_SIDES: Final = {"buy": BUY, "sell": SELL}
_KEPT_NS: Final = 24 * 3_600 * 1_000_000_000


class DeribitHistory:
    forwards: ClassVar[bool] = True

    def request(self, wanted: Wanted) -> RestRequest:
        if wanted.ids is not None:
            return _from_number(wanted, wanted.ids[0])
        start, end = max(wanted.from_ns, 0) // NS_PER_MS, wanted.to_ns // NS_PER_MS
        asked = f"instrument_name={wanted.symbol}&start_timestamp={start}&end_timestamp={end}"
        return RestRequest(f"{_PATH}_and_time?{asked}&count={_LIMIT}&sorting=asc")

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades, more = read_past_trades(body)
        if any(trade.instrument_name != wanted.symbol for trade in trades):
            raise ValueError("trades of another instrument")
        rows = past_trades(
            times(np.array([trade.timestamp for trade in trades], np.int64), 1000),
            [trade.trade_seq for trade in trades],
            [_SIDES[trade.direction] for trade in trades],
            [trade.price for trade in trades],
            [trade.amount for trade in trades],
        )
        cursor = number_in(request or self.request(wanted), "start_seq") or 0
        read = forward_page(wanted, rows, ts_recv, cursor, more, lambda number: _from_number(wanted, number))
        if wanted.ids is None and wanted.from_ns < ts_recv - _KEPT_NS:
            return replace(read, covered=False)
        return read


def _from_number(wanted: Wanted, number: int) -> RestRequest:
    end = f"&end_seq={wanted.ids[1]}" if wanted.ids is not None else ""
    return RestRequest(f"{_PATH}?instrument_name={wanted.symbol}&start_seq={number}{end}&count={_LIMIT}&sorting=asc")
