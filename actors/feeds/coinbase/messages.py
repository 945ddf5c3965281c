"""What Coinbase Exchange sends, over WebSocket and REST.

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels describes the channels. Not to be confused with
Coinbase Advanced Trade, whose messages have another shape. Messages without a source beside them are from the
recording.
"""

import math
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from actors.feeds.frames import without_blanks
from actors.feeds.history import TradeId

_Integer = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

#: How much of a text of the exchange is worth keeping.
_LONGEST_REASON: Final = 300


class Event(msgspec.Struct, gc=False, tag_field="type"):
    pass


class Match(Event, gc=False, kw_only=True, tag="match"):
    """`side` is the maker's.

    {"type":"match","trade_id":280232,"maker_order_id":"2a0da34e-61f7-4c36-88e5-c9dd15927b16",
     "taker_order_id":"3c82abaa-c01e-4608-be59-6a1e69742891","side":"sell","size":"985","price":"0.00001305",
     "product_id":"SKL-BTC","sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}
    """

    trade_id: _Integer
    maker_order_id: str = ""
    taker_order_id: str = ""
    side: Literal["buy", "sell"]
    size: float
    price: float
    product_id: str
    time: str


class LastMatch(Match, gc=False, kw_only=True, tag="last_match"):
    """The newest trade from before the subscription; otherwise as a match."""


class Ticker(Event, gc=False, kw_only=True, tag="ticker"):
    """`side` is the taker's. Products without a trade have no price; the sizes came in 2022.

    {"type":"ticker","sequence":333938798,"product_id":"BAND-GBP","price":"14.7775","open_24h":"14.6647",
     "volume_24h":"94381.28000000","low_24h":"14.3691","high_24h":"16.55","volume_30d":"2295579.57000000",
     "best_bid":"14.7550","best_ask":"14.8060","side":"buy","time":"2021-04-17T16:43:30.244075Z","trade_id":881613,
     "last_size":"0.04"}
    """

    sequence: _Integer
    product_id: str
    price: float = math.nan
    best_bid: float = math.nan
    best_bid_size: float = math.nan
    best_ask: float = math.nan
    best_ask_size: float = math.nan
    side: Literal["buy", "sell", ""] = ""
    time: str = ""
    last_size: float = math.nan


class Change(msgspec.Struct, gc=False, array_like=True):
    side: Literal["buy", "sell"]
    price: str
    size: str


class BookChange(Event, gc=False, kw_only=True, tag="l2update"):
    """Sizes are absolute and 0 removes. In very rare cases `time` is of the year 0001 and all else right.

    {"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],
     "time":"2021-04-17T16:43:37.075687Z"}
    """

    product_id: str
    changes: list[Change]
    time: str = ""


class Level(msgspec.Struct, gc=False, array_like=True):
    price: str
    size: str


class BookSnapshot(Event, gc=False, kw_only=True, tag="snapshot"):
    """The whole book; newer ones have a time.

    {"type":"snapshot","product_id":"BAND-GBP","asks":[["14.8024","12.77"],...],"bids":[["14.7693","27.51"],...]}
    """

    product_id: str
    asks: list[Level]
    bids: list[Level]
    time: str = ""


class ChannelProducts(msgspec.Struct, gc=False):
    name: str
    product_ids: list[str] = []


class Subscriptions(Event, gc=False, kw_only=True, tag="subscriptions"):
    """The answer to every message of ours: all that is subscribed now.

    {"type":"subscriptions","channels":[{"name":"level2","product_ids":["BAND-GBP","SKL-BTC"]}]}
    """

    channels: list[ChannelProducts]


class Error(Event, gc=False, kw_only=True, tag="error"):
    """The whole message of ours is refused for one product in it.

    https://docs.rs/barter-data/latest/src/barter_data/exchange/coinbase/subscription.rs.html:
    {"type":"error","message":"Failed to subscribe","reason":"GIBBERISH-USD is not a valid product"}
    """

    message: str
    reason: str = ""

    @property
    def text(self) -> str:
        return ": ".join(filter(None, (self.message, self.reason)))[:_LONGEST_REASON] or "error"


class Heartbeat(Event, gc=False, tag="heartbeat"):
    """
    From the page above: {"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD",
     "time":"2014-11-07T08:19:28.464459Z"}
    """


class Other(msgspec.Struct, gc=False):
    """A message of a type we do not know: the exchange may add some at any time."""

    type: str


class Product(msgspec.Struct, gc=False):
    """
    GET /products: [{"id":"SKL-EUR","base_currency":"SKL","quote_currency":"EUR","base_min_size":"5",...,
     "quote_increment":"0.0001","base_increment":"0.1","display_name":"SKL/EUR",...,"trading_disabled":false,
     "status":"online","status_message":""},...]
    """

    id: str
    base_currency: str
    quote_currency: str
    quote_increment: str = ""
    base_increment: str = ""
    status: str = "online"
    trading_disabled: bool = False


class PastTrade(msgspec.Struct, gc=False):
    """`side` is the maker's. GET /products/{id}/trades, from
    https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-trades:

    [{"time":"2014-11-07T22:19:28.578544Z","trade_id":74,"price":"10.00000000","size":"0.01000000","side":"buy"},
     {"time":"2014-11-07T01:08:43.642366Z","trade_id":73,"price":"100.00000000","size":"0.01000000","side":"sell"}]
    """

    trade_id: Annotated[int, TradeId]
    side: Literal["buy", "sell"]
    size: float
    price: float
    time: str


_Known = Match | LastMatch | Ticker | Subscriptions | Error | Heartbeat | BookChange | BookSnapshot
_TYPES: Final = tuple(kind.__struct_config__.tag for kind in get_args(_Known))

decode_event = msgspec.json.Decoder(_Known, strict=False).decode
decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
decode_past_trades = msgspec.json.Decoder(list[PastTrade], strict=False).decode
decode_products = msgspec.json.Decoder(list[Product]).decode


def look_again(frame: bytes) -> Any:
    """A frame of another type, or with values that do not exist."""
    fields = without_blanks(decode_fields(frame))
    if fields.get("type") not in _TYPES:
        return msgspec.convert(fields, Other)
    return msgspec.convert(fields, _Known, strict=False)
