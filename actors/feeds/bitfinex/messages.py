"""What Bitfinex v2 sends over WebSocket: the types of its messages, each with a real one beside it, and their layouts.

https://docs.bitfinex.com/docs/ws-general. Events are objects. Everything else is an array that begins with the number
of its channel, which an event gave it on this connection, and ends in the number of the array on this connection; new
elements may come at the end of any array inside. Messages without a page are from a recording of 2021.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, HISTORY, IGNORED, QUOTE, TRADE, Layout

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
ChannelId = Annotated[int, msgspec.Meta(ge=0, le=10**18)]

#: How much of a text of the exchange is worth keeping.
_LONGEST_REASON: Final = 300


class _Event(msgspec.Struct, gc=False, tag_field="event"):
    pass


class Platform(msgspec.Struct, gc=False):
    #: 1 operative, 0 in maintenance.
    status: int = 1


class Info(_Event, gc=False, kw_only=True, tag="info"):
    """The first of a connection, {"event":"info","version":2,"serverId":"083bd8d4-aca7-4690-a573-eabfc8103de8",
    "platform":{"status":1}}, and notices (page above): {"event":"info","code":20051,"msg":"..."}. Codes: 20051 please
    reconnect, 20060 maintenance begins (120 s at most), 20061 it has ended, subscribe again."""

    code: int = 0
    platform: Platform | None = None


class Conf(_Event, gc=False, tag="conf"):
    """{"event":"conf","status":"OK","flags":65536}"""

    status: str = ""
    flags: int = 0


class Subscribed(_Event, gc=False, kw_only=True, tag="subscribed"):
    """{"event":"subscribed","channel":"book","chanId":225206,"symbol":"tDOGUSD","prec":"P0","freq":"F0","len":"100",
     "pair":"DOGUSD"}

    https://docs.bitfinex.com/reference/ws-public-status:
    {"event":"subscribed","channel":"status","chanId":335856,"key":"deriv:tBTCF0:USTF0"}
    """

    channel: str
    channel_id: ChannelId = msgspec.field(name="chanId")
    symbol: str = ""
    key: str = ""
    prec: str = ""


class Unsubscribed(_Event, gc=False, kw_only=True, tag="unsubscribed"):
    """{"event":"unsubscribed","status":"OK","chanId":225206} (page above)"""

    channel_id: ChannelId = msgspec.field(name="chanId")


class Failed(_Event, gc=False, kw_only=True, tag="error"):
    """10300 subscription failed, 10301 already subscribed, 10302 unknown channel, 10305 too many channels, 10400 and
    10401 there is no such subscription to end. As it is sent for a pair that does not exist:

    {"channel":"trades","symbol":"tFAKEPAIRXYZ","event":"error","msg":"symbol: invalid","code":10300,
     "pair":"FAKEPAIRXYZ"}
    """

    msg: str = ""
    code: int = 0
    channel: str = ""
    symbol: str = ""
    key: str = ""

    @property
    def reason(self) -> str:
        return f"{self.msg[:_LONGEST_REASON]} (code {self.code})"


class Other(msgspec.Struct, gc=False):
    """An event of another kind, as {"event":"pong","ts":1511545528111,"cid":1234} (page above)."""

    event: str


class Level(msgspec.Struct, gc=False, array_like=True):
    """An amount above 0 is a bid, below it an ask; no orders (`count` 0) remove the level, the amount 1 or -1 then
    says the side only. https://docs.bitfinex.com/reference/ws-public-books

    [225206,[279380,1,0.0089],19]   [225206,[279380,0,1],21]   [204928,[2e-8,0,1],50]

    A snapshot: [225206,[[277520,1,0.00383141],[277510,1,0.027],...,[399720,1,-0.005],[400000,14,-0.293614]],16]

    The checksum of the 25 best levels a side, signed (https://docs.bitfinex.com/docs/ws-websocket-checksum):
    [CHAN_ID,"cs",CHECKSUM], with a number [225206,"cs",-1330055495,52]
    """

    price: msgspec.Raw
    count: Int64
    amount: msgspec.Raw


class Trade(msgspec.Struct, gc=False, array_like=True):
    """The sign of the amount is the taker's side. https://docs.bitfinex.com/reference/ws-public-trades:

    [17470,"te",[401597395,1574694478808,0.005,7245.3]]   [17470,"tu",[401597395,1574694478808,0.005,7245.3]]

    What came before, newest first, [232962,[[670155031,1618677442819,-0.00023057,60410],...],10].
    """

    id: Int64
    time: Int64
    amount: float
    price: float


class Ticker(msgspec.Struct, gc=False, array_like=True):
    """The sizes are those of the 25 best levels together, https://docs.bitfinex.com/reference/ws-public-ticker; then
    come the day's changes, and after the last price its volume, high and low. Today a null follows.

    [232953,[0.0371,92097.64238255,0.038797,45955.905192620005,-0.000874,-0.0221,0.03876,21929.955,0.040622,0.036637],7]
    """

    bid: float | None
    bid_size: msgspec.Raw
    ask: float | None
    ask_size: msgspec.Raw
    change: msgspec.Raw
    relative_change: msgspec.Raw
    last: float | None


class DerivativeStatus(msgspec.Struct, gc=False, array_like=True):
    """https://docs.bitfinex.com/reference/ws-public-status and, for what the values are,
    https://docs.bitfinex.com/reference/rest-public-derivatives-status:

    [335856,[1596124822000,null,0.896,0.771995,null,1396531.67460709,null,1596153600000,0.0001056,6,null,-0.01381344,
     null,null,0.7664,null,null,246502.09001551,null,null,null,null,0.3]]
    """

    time: Int64
    _1: Any
    book_mid_price: Any
    spot_price: float | None
    _4: Any
    insurance_fund: Any
    _6: Any
    next_funding_time: Int64 | None
    next_funding_accrued: float | None
    next_funding_step: Any
    _10: Any
    current_funding: float | None
    _12: Any
    _13: Any
    mark_price: float | None
    _15: Any = None
    _16: Any = None
    open_interest: float | None = None


class Liquidation(msgspec.Struct, gc=False, array_like=True):
    """`amount` is that of the position, above 0 a long one. With `is_match` 0 the position is only doomed, with 1 it
    was sold in the market or taken over, at `price`. All symbols come in one channel.
    https://docs.bitfinex.com/reference/ws-public-status and https://docs.bitfinex.com/reference/rest-public-liquidations:

    [91684,[["pos",142397657,1574697680828.2002,null,"tBSVUSD",-2.62932,91.583875238719,null,1,1,null,112.27]]]
    """

    kind: str
    position: Any
    time: float
    _3: Any
    symbol: str
    amount: float
    base_price: Any
    _7: Any
    is_match: int
    is_market_sold: Any = None
    _10: Any = None
    price: float | None = None


Array = list[msgspec.Raw]

_Known = Info | Conf | Subscribed | Unsubscribed | Failed
Event = _Known | Other

decode_message: Final = msgspec.json.Decoder(Array | _Known).decode
_decode_other: Final = msgspec.json.Decoder(Other).decode
decode_array: Final = msgspec.json.Decoder(Array).decode
decode_level: Final = msgspec.json.Decoder(Level).decode
decode_levels: Final = msgspec.json.Decoder(list[Level]).decode
decode_trade: Final = msgspec.json.Decoder(Trade).decode
decode_trades: Final = msgspec.json.Decoder(list[Trade]).decode
decode_ticker: Final = msgspec.json.Decoder(Ticker).decode
decode_status: Final = msgspec.json.Decoder(DerivativeStatus).decode
decode_liquidations: Final = msgspec.json.Decoder(list[Liquidation]).decode

_KINDS: Final = frozenset(kind.__struct_config__.tag for kind in (Info, Conf, Subscribed, Unsubscribed, Failed))


def look_again(frame: bytes) -> Other:
    """A frame that is neither an array nor an event we know."""
    other = _decode_other(frame)
    if other.event in _KINDS:
        raise msgspec.ValidationError(f"an event {other.event} without what belongs to it")
    return other


_decode_refusal: Final = msgspec.json.Decoder(tuple[Literal["error"], int, str]).decode


def read_past_trades(body: bytes) -> list[Trade]:
    """The answer to GET /v2/trades/{symbol}/hist, https://docs.bitfinex.com/reference/rest-public-trades; ValueError
    with the reason where it is something else.

    [[388063448,1567526214876,1.918524,10682],[388063447,1567526214100,0.5,10681]]   ["error",10020,"limit: invalid"]
    """
    try:
        return decode_trades(body)
    except (ValueError, RecursionError) as unexpected:
        try:
            _, code, text = _decode_refusal(body)
        except (ValueError, RecursionError):
            raise ValueError(f"not a list of trades: {unexpected}") from None
    raise ValueError(f"{text[:_LONGEST_REASON]} (code {code})")


#: Most frequent first. Only for connections whose arrays are numbered.
BOOK_LAYOUTS: Final = (
    Layout(BOOK, "[<book>,[<level_price>,<level_count>,<level_amount>],<sequence>]"),
    Layout(BOOK_SNAPSHOT, "[<book>,[(([<level_price>,<level_count>,<level_amount>]))],<sequence>]"),
)
TRADE_LAYOUTS: Final = (
    Layout(TRADE, '[<trades>,"te",[<trade_id>,<milliseconds>,<signed_size>,<price>],<sequence>]'),
    # The same trade once more.
    Layout(IGNORED, '[<trades>,"tu",[<any>,<any>,<any>,<any>],<sequence>]'),
    Layout(HISTORY, "[<trades>,[(([<trade_id>,<milliseconds>,<signed_size>,<price>]))],<sequence>]"),
)
TICKER_LAYOUT: Final = Layout(
    QUOTE,
    "[<ticker>,[<bid_price>,<any>,<ask_price>,<any>,<any>,<any>,<last_price>,<any>,<any>,<any>[[,<any>]]],<sequence>]",
)
HEARTBEAT_LAYOUT: Final = Layout(IGNORED, '[<channel>,"hb",<sequence>]')
