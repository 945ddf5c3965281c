"""What Binance spot sends, over WebSocket and REST.

Streams: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
REST: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints

The combined address wraps every payload as {"stream": NAME, "data": {...}}; the name says what the payload is, since
a bookTicker does not say so itself. Messages without a source beside them are from the recording.
"""

import math
from typing import Annotated, Any, Final

import msgspec

from actors.feeds.frames import without_blanks
from actors.feeds.history import TradeId

_Integer = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

#: How much of a text of the exchange is worth keeping.
_LONGEST_REASON: Final = 300


class Envelope(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class Trade(msgspec.Struct, gc=False, kw_only=True, tag_field="e"):
    """`m` says that the buyer is the maker, so the taker sold. `T` is in ms."""

    p: float
    q: float
    T: _Integer
    m: bool


class AggregateTrade(Trade, gc=False, kw_only=True, tag="aggTrade"):
    """
    {"stream":"nknusdt@aggTrade","data":{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT","a":15683430,
     "p":"0.35280000","q":"58.00000000","f":19862790,"l":19862790,"T":1633998523963,"m":false,"M":true}}
    """

    trade_id: _Integer = msgspec.field(name="a")


class SingleTrade(Trade, gc=False, kw_only=True, tag="trade"):
    """
    From the page above, wrapped:
    {"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",
     "T":1672515782136,"m":true,"M":true}}
    """

    trade_id: _Integer = msgspec.field(name="t")


class PastTrade(msgspec.Struct, gc=False):
    """As an aggTrade. From the second page above, GET /api/v3/aggTrades:

    [{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,"M":true}]
    """

    a: Annotated[int, TradeId]
    p: float
    q: float
    T: _Integer
    m: bool


class Quote(msgspec.Struct, gc=False):
    """
    {"stream":"nknusdt@bookTicker","data":{"u":499869768,"s":"NKNUSDT","b":"0.35210000","B":"672.00000000",
     "a":"0.35260000","A":"3199.00000000"}}
    """

    u: _Integer
    b: float = math.nan
    B: float = math.nan
    a: float = math.nan
    A: float = math.nan


class Level(msgspec.Struct, gc=False, array_like=True):
    """Price and size; older snapshots have a third, empty element."""

    price: str
    size: str


class Depth(msgspec.Struct, gc=False, tag_field="e", tag="depthUpdate"):
    """Sizes are absolute and 0 removes. `U` and `u` are the first and last update in the message, `E` is in ms.

    {"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998512568,"s":"NKNUSDT","U":499869753,
     "u":499869754,"b":[["0.35170000","4265.00000000"]],"a":[["0.35290000","10968.00000000"]]}}
    """

    E: _Integer
    U: _Integer
    u: _Integer
    b: list[Level]
    a: list[Level]


class Refused(msgspec.Struct, gc=False):
    code: int
    msg: str


class Answer(msgspec.Struct, gc=False):
    """What comes without a stream: the answer to a request (`result` is null where granted), or a notice.

    From the page above: {"result":null,"id":1} and {"code":2,"msg":"Invalid request: ...","id":1}; as Binance sends
    it today: {"error":{"code":2,"msg":"Invalid request: ..."},"id":1}. Raw streams also say
    {"e":"serverShutdown","E":1770123456789}, combined ones wrap it as the stream "!serverShutdown".
    """

    id: int | str | None = None
    result: Any = msgspec.UNSET
    error: Refused | msgspec.UnsetType = msgspec.UNSET
    code: int | msgspec.UnsetType = msgspec.UNSET
    msg: str = ""
    e: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def refusal(self) -> str:
        """What the exchange refused, in its words; empty where it did not."""
        if self.error is not msgspec.UNSET:
            return _reason(self.error.code, self.error.msg)
        return "" if self.code is msgspec.UNSET else _reason(self.code, self.msg)


class Snapshot(msgspec.Struct, gc=False, kw_only=True):
    """
    GET /api/v3/depth: {"lastUpdateId":499869752,"bids":[["0.35210000","672.00000000"],...],"asks":[...]}
    """

    last_update_id: _Integer = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class Filter(msgspec.Struct, gc=False, rename="camel"):
    filter_type: str
    tick_size: str = ""
    step_size: str = ""


class Symbol(msgspec.Struct, gc=False, rename="camel"):
    """
    {"symbol":"ETHBTC","status":"TRADING","baseAsset":"ETH","baseAssetPrecision":8,"quoteAsset":"BTC",...,"filters":[
     {"filterType":"PRICE_FILTER","minPrice":"0.00000100","maxPrice":"922327.00000000","tickSize":"0.00000100"},
     {"filterType":"LOT_SIZE","minQty":"0.00010000","maxQty":"100000.00000000","stepSize":"0.00010000"},...]}
    """

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[Filter] = []


class ExchangeInfo(msgspec.Struct, gc=False):
    """GET /api/v3/exchangeInfo: {"timezone":"UTC",...,"symbols":[...]}"""

    symbols: list[Symbol]


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_trade = msgspec.json.Decoder(AggregateTrade | SingleTrade, strict=False).decode
decode_quote = msgspec.json.Decoder(Quote, strict=False).decode
decode_depth = msgspec.json.Decoder(Depth).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode


def look_for_answer(frame: bytes) -> Answer:
    """A frame that is no envelope."""
    answer = _decode_answer(frame)
    if answer.result is answer.error is answer.code is answer.e is msgspec.UNSET:
        raise msgspec.ValidationError("neither a stream nor an answer to a request")
    return answer


def look_past_blanks(payload: msgspec.Raw) -> Quote:
    """A bookTicker with prices that do not exist."""
    return msgspec.convert(without_blanks(_decode_fields(payload)), Quote, strict=False)


def read_body[Body](kind: type[Body], body: bytes, strict: bool = True) -> Body:
    """The answer to a REST request; ValueError with the reason where it is another, or an error of the exchange.
    Not `strict`: numbers may be texts."""
    try:
        return msgspec.json.decode(body, type=kind, strict=strict)
    except (ValueError, RecursionError) as unexpected:
        try:
            # {"code":-1121,"msg":"Invalid symbol."}
            error = msgspec.json.decode(body, type=Refused)
        except (ValueError, RecursionError):
            raise ValueError(str(unexpected)) from None
    raise ValueError(_reason(error.code, error.msg))


def _reason(code: int, text: str) -> str:
    return f"{text[:_LONGEST_REASON]} (code {code})"
