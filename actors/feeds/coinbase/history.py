"""Past trades of Coinbase Exchange, newest first, before an id.

https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-trades and, for `after` (older
than this id), https://docs.cdp.coinbase.com/exchange/rest-api/pagination: 1,000 trades at most. There is no asking by
time: a time is walked back to from the newest trade, a thousand trades a request.
"""

from typing import ClassVar, Final

from actors.feeds.coinbase.messages import decode_past_trades
from actors.feeds.feed import RestRequest
from actors.feeds.history import HistoryPage, Wanted, answer_of, backward_page, number_in, past_trades
from actors.feeds.texts import iso_times
from storage.schema import BUY, SELL

_LIMIT: Final = 1_000


class CoinbaseHistory:
    forwards: ClassVar[bool] = False

    def request(self, wanted: Wanted) -> RestRequest:
        if wanted.ids is not None:
            return _before_id(wanted.symbol, wanted.ids[1] + 1)
        return RestRequest(f"/products/{wanted.symbol}/trades?limit={_LIMIT}")

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades = answer_of(decode_past_trades, body)
        rows = past_trades(
            iso_times([trade.time for trade in trades]),
            [trade.trade_id for trade in trades],
            [SELL if trade.side == "buy" else BUY for trade in trades],
            [trade.price for trade in trades],
            [trade.size for trade in trades],
        )
        cursor = number_in(request or self.request(wanted), "after")
        more = len(trades) >= _LIMIT
        return backward_page(wanted, rows, ts_recv, cursor, more, lambda number: _before_id(wanted.symbol, number))


def _before_id(symbol: str, number: int) -> RestRequest:
    return RestRequest(f"/products/{symbol}/trades?limit={_LIMIT}&after={number}")
