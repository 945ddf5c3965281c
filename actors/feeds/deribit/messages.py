"""What Deribit v2 sends over WebSocket: the types of its messages, each with a real one beside it, and their layouts.

JSON-RPC 2.0: https://docs.deribit.com/articles/json-rpc-overview. Messages without a source are from a recording of
2021, when keys stood in falling alphabetical order; today they stand in another, so the layouts have both. Numbers
are JSON numbers, with exponents since then (1.0002e6).
"""

from typing import Annotated, Final, Literal

import msgspec

from actors.feeds.history import answer_of
from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, TRADE, Layout

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

#: How much of a text of the exchange is worth keeping.
_LONGEST_REASON: Final = 300


class Params(msgspec.Struct, gc=False):
    channel: str = ""
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    type: str = ""


class RpcError(msgspec.Struct, gc=False):
    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)

    @property
    def reason(self) -> str:
        detail = f" {bytes(self.data).decode(errors='replace')}" if self.data else ""
        return f"{self.message}{detail}"[:_LONGEST_REASON] + f" (code {self.code})"


class Message(msgspec.Struct, gc=False, kw_only=True):
    """Whatever comes: data of a channel, a heartbeat, or the answer to a request, with `result` or `error`.

    {"jsonrpc":"2.0","id":0,"result":["trades.ETH-30JUL21-2800-C.raw","trades.ETH-27AUG21-4000-P.raw"],
     "usIn":1626993723846980,"usOut":1626993723847561,"usDiff":581,"testnet":false}

    https://docs.deribit.com/articles/connection-management-best-practices and, for the error,
    https://docs.deribit.com/articles/errors:

    {"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}
    {"jsonrpc":"2.0","error":{"code":13009,"message":"invalid_token","data":{"reason":"token has expired",
     "param":"access_token"}},"usIn":1704153600000000,"usOut":1704153600001234,"usDiff":1234,"id":42}
    """

    id: int | str | None = None
    method: str = ""
    params: Params | None = None
    result: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    error: RpcError | None = None


class Token(msgspec.Struct, gc=False):
    """The result of public/auth, https://docs.deribit.com/api-reference/authentication/public-auth; seconds.

    {"access_token":"1582628593469.1MbQ-J_4...","expires_in":31536000,"refresh_token":"1582628593469...",
     "scope":"connection mainaccount","token_type":"bearer"}
    """

    expires_in: Number


class PlatformState(msgspec.Struct, gc=False):
    """https://docs.deribit.com/subscriptions/platform/platform_state: {"maintenance":true}; locks of single indices,
    {"price_index":"sol_usdc","locked":true}, come here too."""

    maintenance: bool | None = None


class Level(msgspec.Struct, gc=False, array_like=True):
    action: Literal["new", "change", "delete"]
    price: msgspec.Raw
    amount: msgspec.Raw


class Book(msgspec.Struct, gc=False, kw_only=True):
    """A snapshot names no message before it. A deleted level has the amount 0.

    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-24SEP21-8000-P.raw","data":{"type":"change",
     "timestamp":1626993724337,"prev_change_id":33195894355,"instrument_name":"BTC-24SEP21-8000-P",
     "change_id":33195894358,"bids":[],"asks":[["delete",0.001,0.0]]}}}

    Today, https://docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval:

    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{
     "timestamp":1554373911330,"type":"change","change_id":297218,"instrument_name":"BTC-PERPETUAL",
     "bids":[["delete",5041.94,0.0],["delete",5042.34,0.0]],"asks":[],"prev_change_id":297217}}}
    """

    type: Literal["snapshot", "change"]
    timestamp: Number
    instrument_name: str
    change_id: Number
    prev_change_id: Number | None = None
    bids: list[Level]
    asks: list[Level]


class Trade(msgspec.Struct, gc=False, kw_only=True):
    """`trade_seq` counts the trades of an instrument, `direction` is the taker's. `liquidation` says whose side was
    forced: M the maker's, T the taker's, MT both. https://docs.deribit.com/subscriptions/trades/tradesinstrument_nameinterval:

    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.raw","data":[{
     "trade_seq":30289432,"trade_id":"48079254","timestamp":1590484156350,"tick_direction":0,"price":8950.0,
     "mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.88,"direction":"sell","amount":10.0}]}}
    """

    trade_seq: Number
    timestamp: Number
    price: float
    amount: float
    instrument_name: str
    direction: Literal["buy", "sell"]
    liquidation: Literal["M", "T", "MT"] | None = None


class PastTrades(msgspec.Struct, gc=False):
    trades: list[Trade]
    has_more: bool = False


class PastTradesAnswer(msgspec.Struct, gc=False):
    """From https://docs.deribit.com/api-reference/market-data/public-get_last_trades_by_instrument:

    {"jsonrpc":"2.0","id":9267,"result":{"trades":[{"trade_seq":36798,"trade_id":"48079254","timestamp":1590474933333,
     "tick_direction":0,"price":8950.0,"mark_price":8948.9,"instrument_name":"BTC-PERPETUAL","index_price":8955.88,
     "direction":"sell","amount":10.0}],"has_more":true}}
    """

    result: PastTrades | None = None
    error: RpcError | None = None


class Ticker(msgspec.Struct, gc=False, kw_only=True):
    """A bid, ask or last price that does not exist is 0.0, today also null. Only perpetuals have a funding.

    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.ETH-23JUL21-2300-C.raw","data":{
     "underlying_price":2005.38,"underlying_index":"ETH-23JUL21","timestamp":1626993723632,"stats":{"volume":103.0,
     "price_change":0.0,"low":0.0005,"high":0.0005},"state":"open","settlement_price":0.0,"open_interest":3709.0,
     "min_price":0.0001,"max_price":0.015,"mark_price":0.000001,"mark_iv":111.4,"last_price":0.0005,
     "interest_rate":0.0,"instrument_name":"ETH-23JUL21-2300-C","index_price":2006.72,"greeks":{"vega":0.00022,
     "theta":-0.00146,"rho":0.0,"gamma":0.0,"delta":0.00009},"estimated_delivery_price":2006.72,"bid_iv":0.0,
     "best_bid_price":0.0,"best_bid_amount":0.0,"best_ask_price":0.001,"best_ask_amount":274.0,"ask_iv":227.51}}}

    A perpetual's, https://docs.deribit.com/subscriptions/market-data/tickerinstrument_nameinterval:

    {"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.raw","data":{
     "timestamp":1623060194301,"stats":{"volume_usd":284061480.0,"volume":7871.02139035,"price_change":0.7229,
     "low":35213.5,"high":36824.5},"state":"open","settlement_price":36169.49,"open_interest":502097590,
     "min_price":35898.37,"max_price":36991.72,"mark_price":36446.51,"last_price":36457.5,"interest_value":1.7362511,
     "instrument_name":"BTC-PERPETUAL","index_price":36441.64,"funding_8h":0.0000211,
     "estimated_delivery_price":36441.64,"current_funding":0.0,"best_bid_price":36442.5,"best_bid_amount":5000.0,
     "best_ask_price":36443.0,"best_ask_amount":100.0}}}
    """

    timestamp: Number
    instrument_name: str
    best_bid_price: float | None = None
    best_bid_amount: float | None = None
    best_ask_price: float | None = None
    best_ask_amount: float | None = None
    last_price: float | None = None
    mark_price: float | None = None
    index_price: float | None = None
    open_interest: float | None = None
    current_funding: float | None = None


decode_message: Final = msgspec.json.Decoder(Message).decode
decode_book: Final = msgspec.json.Decoder(Book).decode
decode_trades: Final = msgspec.json.Decoder(list[Trade]).decode
decode_ticker: Final = msgspec.json.Decoder(Ticker).decode
decode_channels: Final = msgspec.json.Decoder(list[str]).decode
decode_token: Final = msgspec.json.Decoder(Token).decode
decode_platform_state: Final = msgspec.json.Decoder(PlatformState).decode


_decode_past_trades: Final = msgspec.json.Decoder(PastTradesAnswer).decode


def read_past_trades(body: bytes) -> tuple[list[Trade], bool]:
    """The trades, and whether there are more; ValueError with the reason where it is something else."""
    answer = answer_of(_decode_past_trades, body)
    if answer.error is not None or answer.result is None:
        raise ValueError(f"deribit refuses past trades: {answer.error.reason}" if answer.error else "no trades")
    return answer.result.trades, answer.result.has_more


def _data(kind: int, channel: str, data: str) -> Layout:
    """Data of one instrument's channel, at any of the intervals Deribit has."""
    beginning = '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
    return Layout(kind, f'{beginning}{channel}.[[raw]][[100ms]][[agg2]]","data":{data}}}}}')


_SIDES: Final = (
    '"bids":[((bid:["<level_action>",<level_price>,<level_size>]))],'
    '"asks":[((ask:["<level_action>",<level_price>,<level_size>]))]'
)

BOOK_LAYOUTS: Final = (
    _data(
        BOOK,
        "book.<symbol>",
        '{"timestamp":<milliseconds>,"type":"change","change_id":<sequence>,"instrument_name":"<symbol>",'
        f'{_SIDES},"prev_change_id":<previous_sequence>}}',
    ),
    _data(
        BOOK,
        "book.<symbol>",
        '{"type":"change","timestamp":<milliseconds>,"prev_change_id":<previous_sequence>,'
        f'"instrument_name":"<symbol>","change_id":<sequence>,{_SIDES}}}',
    ),
    _data(
        BOOK_SNAPSHOT,
        "book.<symbol>",
        '{"timestamp":<milliseconds>,"type":"snapshot","change_id":<sequence>,"instrument_name":"<symbol>",'
        f"{_SIDES}}}",
    ),
    _data(
        BOOK_SNAPSHOT,
        "book.<symbol>",
        '{"type":"snapshot","timestamp":<milliseconds>,"instrument_name":"<symbol>","change_id":<sequence>,'
        f"{_SIDES}}}",
    ),
)

# A trade that was forced follows neither: it gives two rows.
TRADE_LAYOUTS: Final = (
    _data(
        TRADE,
        "trades.<symbol>",
        '[(({"timestamp":<milliseconds>,"price":<price>,"amount":<size>,"direction":"<taker_side>",'
        '"index_price":<any>,"instrument_name":"<symbol>","trade_seq":<trade_id>,"mark_price":<any>,'
        '"tick_direction":<any>,[["starbase_match_id":<any>,]]"trade_id":<any>,"contracts":<any>'
        '[[,"starbase_timestamp":<any>]]}))]',
    ),
    _data(
        TRADE,
        "trades.<symbol>",
        '[(({"trade_seq":<trade_id>,"trade_id":<any>,"timestamp":<milliseconds>,"tick_direction":<any>,'
        '"price":<price>,"mark_price":<any>,[["iv":<any>,]]"instrument_name":"<symbol>","index_price":<any>,'
        '"direction":"<taker_side>",[["contracts":<any>,]]"amount":<size>}))]',
    ),
)

# What is written with an exponent is no <any>; it is read as a <price>, which is no part of these rows.
_PERPETUAL_TICKER: Final = (
    '{"timestamp":<milliseconds>,"state":<any>,[["stats":{"high":<any>,"low":<any>,"price_change":<any>,'
    '"volume":<any>,"volume_usd":<any>[[,"volume_notional":<any>]]},]]"index_price":<index_price>,'
    '"instrument_name":"<derivative>","last_price":<last_price>,"settlement_price":<any>,"min_price":<any>,'
    '"max_price":<any>,"open_interest":<open_interest>,"mark_price":<mark_price>,"interest_value":<any>,'
    '"current_funding":<funding_rate>,"estimated_delivery_price":<any>,"funding_8h":<price>,'
    '"best_ask_price":<ask_price>,"best_bid_price":<bid_price>,"best_ask_amount":<ask_size>,'
    '"best_bid_amount":<bid_size>}'
)
_OPTION_TICKER: Final = (
    '{"timestamp":<milliseconds>,"state":<any>,"stats":{"high":<any>,"low":<any>,"price_change":<any>,'
    '"volume":<any>[[,"volume_usd":<any>]]},"greeks":{"delta":<price>,"gamma":<price>,"vega":<price>,'
    '"theta":<price>,"rho":<price>},"index_price":<index_price>,"instrument_name":"<derivative>","last_price":<last_price>,'
    '"settlement_price":<any>,"min_price":<any>,"max_price":<any>,"open_interest":<open_interest>,'
    '"mark_price":<mark_price>,"interest_rate":<any>,"estimated_delivery_price":<any>,"best_ask_price":<ask_price>,'
    '"best_bid_price":<bid_price>,"mark_iv":<any>,"bid_iv":<any>,"ask_iv":<any>,"underlying_price":<any>,'
    '"underlying_index":<any>,"best_ask_amount":<ask_size>,"best_bid_amount":<bid_size>}'
)
_TICKER_OF_2021: Final = (
    '{[["underlying_price":<any>,"underlying_index":<any>,]]"timestamp":<milliseconds>,"stats":{'
    '[["volume_usd":<any>,]]"volume":<any>,"price_change":<any>,"low":<any>,"high":<any>},"state":<any>,'
    '"settlement_price":<any>,"open_interest":<open_interest>,"min_price":<any>,"max_price":<any>,'
    '"mark_price":<mark_price>,[["mark_iv":<any>,]]"last_price":<last_price>,[["interest_value":<any>,]]'
    '[["interest_rate":<any>,]]"instrument_name":"<derivative>","index_price":<index_price>,[["greeks":{"vega":<any>,'
    '"theta":<any>,"rho":<any>,"gamma":<any>,"delta":<any>},]][["funding_8h":<any>,]]'
    '"estimated_delivery_price":<any>,[["current_funding":<funding_rate>,]][["bid_iv":<any>,]]'
    '"best_bid_price":<bid_price>,"best_bid_amount":<bid_size>,"best_ask_price":<ask_price>,'
    '"best_ask_amount":<ask_size>[[,"ask_iv":<any>]]}'
)


def ticker_layouts(kind: int) -> list[Layout]:
    """Tickers of derivatives, as rows of these kinds (`QUOTE`, `DERIVATIVE` or both)."""
    tickers = (_PERPETUAL_TICKER, _OPTION_TICKER, _TICKER_OF_2021)
    return [_data(kind, "ticker.<derivative>", ticker) for ticker in tickers]
