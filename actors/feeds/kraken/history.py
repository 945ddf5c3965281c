"""Past trades of Kraken spot, as the second version of its protocol has them, from a time on.

https://docs.kraken.com/api/docs/rest-api/get-recent-trades: `since` in ns, 1,000 trades at most, oldest first; `last`
is what to ask for next. Whether the trade at `since` comes too is not said (it did not once), and several may have the
same time: so each request begins one nanosecond before the last trade that is known. A page with fewer trades is not
said to be the last; one without anything new is.

Ids are those of version 2. Version 1 has none, so its trades cannot be compared with these.
"""

from typing import Annotated, ClassVar, Final, Literal

import msgspec

from actors.feeds.columns import NO_TIME
from actors.feeds.feed import RestRequest
from actors.feeds.history import (
    HistoryPage,
    TradeId,
    Wanted,
    answer_of,
    is_past,
    number_in,
    page,
    past_trades,
    reaches_end,
)
from actors.feeds.texts import second_times
from storage.schema import BUY, SELL

_LIMIT: Final = 1_000
_SIDES: Final = {"b": BUY, "s": SELL}
#: Names of currencies in the names of pairs.
_OWN: Final = {"BTC": "XBT", "DOGE": "XDG"}
#: The live feed writes microseconds, REST up to nanoseconds.
_NS_PER_US: Final = 1_000
#: Trades with other ids that are this much later than wanted show that those wanted are not there.
_LATE_NS: Final = 60_000_000_000


class _Trade(msgspec.Struct, array_like=True, gc=False):
    """Price, volume, time (s), the taker's side, market or limit, miscellaneous, and since 2022 the id.

    {"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],
     ["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953]],"last":"1688671969993150842"}}
    """

    price: float
    volume: float
    time: msgspec.Raw
    side: Literal["b", "s"]
    order_type: str
    misc: str
    trade_id: Annotated[int, TradeId]


class _Answer(msgspec.Struct):
    error: list[str] = []
    result: dict[str, msgspec.Raw] = {}


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_trades: Final = msgspec.json.Decoder(list[_Trade], strict=False).decode
_decode_last: Final = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], strict=False).decode


class KrakenHistory:
    forwards: ClassVar[bool] = True

    def request(self, wanted: Wanted) -> RestRequest:
        return _since(wanted.symbol, max(wanted.from_ns - 1, 0))

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        trades, last = _read(body)
        exact = second_times([bytes(trade.time).decode(errors="replace") for trade in trades])
        rows = past_trades(
            exact // _NS_PER_US * _NS_PER_US,
            [trade.trade_id for trade in trades],
            [_SIDES[trade.side] for trade in trades],
            [trade.price for trade in trades],
            [trade.volume for trade in trades],
        )
        before = number_in(request or self.request(wanted), "since") or 0
        if reaches_end(wanted, rows):
            return page(wanted, rows, ts_recv, True, None, True)
        if wanted.ids is not None and bool((rows.ts_event > wanted.to_ns + _LATE_NS).any()):
            return page(wanted, rows, ts_recv, True, None, False)
        # Neither the one nor the other may lead further than trades were shown.
        since = min(last, int(exact.max(initial=NO_TIME))) - 1
        if since > before:
            return page(wanted, rows, ts_recv, True, _since(wanted.symbol, since), False)
        # Nothing new. A full page of what is known may hide more trades of the same time.
        return page(wanted, rows, ts_recv, True, None, len(trades) < _LIMIT and is_past(wanted, ts_recv))


def _read(body: bytes) -> tuple[list[_Trade], int]:
    """The trades, and the time of the last one (ns); ValueError with the reason where it is something else."""
    answer = answer_of(_decode_answer, body)
    if answer.error:
        raise ValueError("; ".join(answer.error)[:300])
    last = answer.result.pop("last", None)
    if last is None or len(answer.result) != 1:
        raise ValueError("not the trades of one pair")
    return answer_of(_decode_trades, *answer.result.values()), answer_of(_decode_last, last)


def _since(symbol: str, since: int) -> RestRequest:
    pair = "".join(_OWN.get(name, name) for name in symbol.split("/"))
    return RestRequest(f"/0/public/Trades?pair={pair}&since={since}&count={_LIMIT}")
