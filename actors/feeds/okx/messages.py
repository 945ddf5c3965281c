"""What OKX v5 sends over WebSocket: the types of its messages, each with a real one beside it.

A message with an #anchor comes from https://www.okx.com/docs-v5/en/, the others from a recording of 2022. Nearly all
numbers are texts, and what does not exist is "". Fields nothing is made of are left out.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

from actors.feeds.frames import without_blanks
from actors.feeds.history import answer_of
from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, DERIVATIVE, IGNORED, QUOTE, TRADE, Layout

#: Trades of the exchange in one message.
Fills = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Sequence = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
Checksum = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**32 - 1)]

#: A subscription: its channel, and the instrument, index or kind of instruments it is for.
Key = tuple[str, str]


class Argument(msgspec.Struct, gc=False, rename="camel"):
    channel: str
    inst_id: str = ""
    inst_type: str = ""

    @property
    def key(self) -> Key:
        return self.channel, self.inst_id or self.inst_type


class Envelope(msgspec.Struct, gc=False, kw_only=True):
    """Data has `arg` and `data`, books `action` too; everything else has an `event`.

    {"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USD-220527"}}

    #overview-websocket-subscribe, #overview-websocket-notification:

    {"event":"error","code":"60018","msg":"Wrong URL or channel:books,instId:NOPE-USDT doesn't exist. ..."}
    {"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. ..."}
    """

    arg: Argument | None = None
    action: str = ""
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    event: str = ""
    code: str = ""
    msg: str = ""


class Trade(msgspec.Struct, gc=False, rename="camel"):
    """`side` is the taker's. Since 2023 a message may stand for several fills (`count`), with the id of the last.

    {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"338476308",
    "px":"30228.7","sz":"0.0024","side":"buy","ts":"1652459226049"}]}
    """

    trade_id: Number
    px: float
    sz: float
    side: Literal["buy", "sell"]
    ts: Milliseconds
    count: Fills = 1


class Ticker(msgspec.Struct, gc=False, rename="camel"):
    """{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT","last":"30236",
    "lastSz":"0.0002","askPx":"30228.7","askSz":"1.55896972","bidPx":"30228.6","bidSz":"0.23393","open24h":"29700.4",
    "high24h":"31073","low24h":"28020.3","sodUtc0":"29028.8","sodUtc8":"30337.7","volCcy24h":"525802090.62716611",
    "vol24h":"17602.13085371","ts":"1652459224956"}]}
    """

    ts: Milliseconds
    last: float = math.nan
    last_sz: float = math.nan
    ask_px: float = math.nan
    ask_sz: float = math.nan
    bid_px: float = math.nan
    bid_sz: float = math.nan


class Level(msgspec.Struct, gc=False, array_like=True):
    """Price, size (0 removes the level); then a number without meaning and the count of orders."""

    price: str
    size: str


class Book(msgspec.Struct, gc=False, rename="camel"):
    """{"arg":{"channel":"books","instId":"UNI-USD-SWAP"},"action":"update","data":[{"asks":[["5.158","129","0","2"],
    ["5.233","240","0","1"]],"bids":[["5.14","427","0","4"],["5.138","26","0","2"],["5.117","0","0","0"]],
    "ts":"1652459225464","checksum":1361161687}]}

    Since 2022 `seqId` and `prevSeqId` (-1 in a snapshot) follow, and since June 2026 the checksum is always 0, which
    means that there is none. #order-book-trading-market-data-ws-order-book-channel
    """

    asks: list[Level]
    bids: list[Level]
    ts: Milliseconds = 0
    checksum: Checksum = 0
    seq_id: Sequence = -1
    prev_seq_id: Sequence = -1


class Derivative(msgspec.Struct, gc=False, rename="camel"):
    """What four channels say, each something else; the index is for all instruments on it. `oi` counts contracts,
    `fundingTime` is when `fundingRate` is paid. Funding rates of 2021 have no `ts`.

    #public-data-websocket-mark-price-channel, -index-tickers-channel, -open-interest-channel, -funding-rate-channel:

    {"arg":{"channel":"mark-price","instId":"LTC-USD-190628"},"data":[{"instType":"FUTURES","instId":"LTC-USD-190628",
    "markPx":"0.1","ts":"1597026383085"}]}
    {"arg":{"channel":"index-tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","idxPx":"0.1","high24h":"0.5",
    "low24h":"0.1","open24h":"0.1","sodUtc0":"0.1","sodUtc8":"0.1","ts":"1597026383085"}]}
    {"arg":{"channel":"open-interest","instId":"LTC-USD-SWAP"},"data":[{"instType":"SWAP","instId":"LTC-USD-SWAP",
    "oi":"5000","oiCcy":"555.55","ts":"1597026383085"}]}
    {"arg":{"channel":"funding-rate","instId":"BTC-USD-SWAP"},"data":[{"fundingRate":"0.0001875391284828",
    "fundingTime":"1700726400000","instId":"BTC-USD-SWAP","instType":"SWAP","method":"current_period",
    "maxFundingRate":"0.00375","minFundingRate":"-0.00375","nextFundingRate":"","nextFundingTime":"1700755200000",
    "premium":"0.0001233824646391","settFundingRate":"0.0001699799259033","settState":"settled",
    "ts":"1700724675402"}]}
    """

    mark_px: float = math.nan
    idx_px: float = math.nan
    oi: float = math.nan
    funding_rate: float = math.nan
    next_funding_rate: float = math.nan
    funding_time: Milliseconds = 0
    ts: Milliseconds = 0


class LiquidationDetail(msgspec.Struct, gc=False, rename="camel"):
    side: Literal["buy", "sell"]
    bk_px: float
    sz: float
    ts: Milliseconds


class Liquidation(msgspec.Struct, gc=False, rename="camel"):
    """`side` is that of the order that closes the position, so the taker's; `sz` counts contracts.
    #public-data-websocket-liquidation-orders-channel

    {"arg":{"channel":"liquidation-orders","instType":"SWAP"},"data":[{"details":[{"bkLoss":"0","bkPx":"0.007831",
    "ccy":"","posSide":"short","side":"buy","sz":"13","ts":"1692266434010"}],"instFamily":"IOST-USDT",
    "instId":"IOST-USDT-SWAP","instType":"SWAP","uly":"IOST-USDT"}]}
    """

    inst_id: str
    details: list[LiquidationDetail]


class PastTrades(msgspec.Struct, gc=False):
    """#order-book-trading-market-data-get-trades-history: each trade by itself.

    {"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29963.2","source":"0",
    "tradeId":"242720720","ts":"1654161646974"},{"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29964.1",
    "source":"0","tradeId":"242720719","ts":"1654161641568"}]}
    """

    code: str
    msg: str = ""
    data: list[Trade] = []


_decode_past_trades: Final = msgspec.json.Decoder(PastTrades, strict=False).decode


def read_past_trades(body: bytes) -> list[Trade]:
    """The trades; ValueError with the reason where it is something else."""
    answer = answer_of(_decode_past_trades, body)
    if answer.code != "0":
        raise ValueError(f"{answer.msg[:300]} (code {answer.code[:20]})")
    return answer.data


decode_envelope: Final = msgspec.json.Decoder(Envelope).decode
decode_books: Final = msgspec.json.Decoder(list[Book], strict=False).decode
_decode_fields: Final = msgspec.json.Decoder(list[dict[str, Any]]).decode


class Reader[Item]:
    """Reads the data of one channel."""

    def __init__(self, kind: type[Item]) -> None:
        self._kind = list[kind]  # type: ignore[valid-type]
        self.read: Callable[[msgspec.Raw], list[Item]] = msgspec.json.Decoder(self._kind, strict=False).decode

    def read_blanks(self, data: msgspec.Raw) -> list[Item]:
        """As `read`, and what is "" or null does not exist."""
        return msgspec.convert([without_blanks(item) for item in _decode_fields(data)], self._kind, strict=False)


_TRADE: Final = (
    '{"instId":"<symbol>","tradeId":"<trade_id>","px":"<price>","sz":"<size>","side":"<taker_side>",'
    '"ts":"<milliseconds>"[[,"count":"1"]][[,"source":"<text>"]][[,"seqId":<any>]]}'
)
_LEVEL: Final = '["<level_price>","<level_size>","0","<text>"]'


def _book(action: str, numbers: str) -> str:
    return (
        f'{{"arg":{{"channel":"books","instId":"<symbol>"}},"action":"{action}","data":[{{"asks":[((ask:{_LEVEL}))],'
        f'"bids":[((bid:{_LEVEL}))],"ts":"<milliseconds>",{numbers}}}]}}'
    )


#: By channel; the most frequent first.
LAYOUTS: Final = {
    "books": [
        Layout(BOOK, _book("update", '"checksum":<checksum>[[,"seqId":<sequence>,"prevSeqId":<previous_sequence>]]')),
        Layout(BOOK_SNAPSHOT, _book("snapshot", '"checksum":<checksum>[[,"seqId":<sequence>,"prevSeqId":-1]]')),
        Layout(BOOK, _book("update", '"seqId":<sequence>,"prevSeqId":<previous_sequence>')),
    ],
    "trades": [
        Layout(TRADE, f'{{"arg":{{"channel":"trades","instId":"<symbol>"}},"data":[(({_TRADE}))]}}'),
    ],
    "tickers": [
        Layout(
            QUOTE,
            '{"arg":{"channel":"tickers","instId":"<symbol>"},"data":[{"instType":"<text>","instId":"<symbol>",'
            '"last":"<last_price>","lastSz":"<last_size>","askPx":"<ask_price>","askSz":"<ask_size>",'
            '"bidPx":"<bid_price>","bidSz":"<bid_size>","open24h":"<text>","high24h":"<text>","low24h":"<text>",'
            '"sodUtc0":"<text>","sodUtc8":"<text>","volCcy24h":"<text>","vol24h":"<text>","ts":"<milliseconds>"}]}',
        ),
    ],
    "mark-price": [
        Layout(
            DERIVATIVE,
            '{"arg":{"channel":"mark-price","instId":"<symbol>"},"data":[{"instId":"<symbol>","instType":"<text>",'
            '"markPx":"<mark_price>","ts":"<milliseconds>"}]}',
        ),
    ],
}
PONG_LAYOUT: Final = Layout(IGNORED, "pong")
