"""What Bybit v5 sends over its public WebSockets: the types of its messages, each with a real one beside it.

They come from the page named; all are below https://bybit-exchange.github.io/docs/v5/. The two categories write their
keys in different orders, and spot has trade ids that are numbers, linear contracts UUIDs. Prices and sizes are texts,
times are in ms.
"""

import hashlib
import math
import re
from typing import Annotated, Any, Final, Literal

import msgspec

from actors.feeds.frames import without_blanks
from actors.feeds.history import answer_of
from actors.feeds.layouts import BOOK, BOOK_SNAPSHOT, QUOTE, TRADE, Layout

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Envelope(msgspec.Struct, gc=False, kw_only=True):
    """Data has a `topic`; answers have an `op`. `ts` is when the message was made (whatever it may be: see `made`),
    `cts` when the matching engine made what it says.

    ws/connect:

    {"success":true,"ret_msg":"subscribe","conn_id":"2324d924-aa4d-45b0-a858-7b8be29ab52b","req_id":"10001",
    "op":"subscribe"}
    {"success":true,"ret_msg":"pong","conn_id":"0970e817-426e-429a-a679-ff7f55e0b16a","op":"ping"}

    Not documented, but what is said when one of the topics asked for does not exist; then none of them is granted:

    {"success":false,"ret_msg":"error:handler not found,topic:orderbook.50.NOPEUSDT",
    "conn_id":"da7tmhs21nld3jk6lb70-8csm4","req_id":"e1","op":"subscribe"}
    {"success":false,"ret_msg":"Invalid symbol :[publicTrade.NOPEUSDT]","req_id":"6","op":"subscribe"}
    """

    topic: str = ""
    type: str = ""
    ts: Any = 0
    cts: Milliseconds = 0
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    success: bool | None = None
    ret_msg: str | None = None
    req_id: str | None = None
    op: str = ""

    @property
    def made(self) -> int:
        """`ts` in ms, 0 where it is no time."""
        return self.ts if type(self.ts) is int and 0 <= self.ts < 2**63 else 0


class Trade(msgspec.Struct, gc=False):
    """`T` is when it happened, `S` the taker's side; block trades (`BT`) are trades too. websocket/public/trade:

    {"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT",
    "S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false,
    "seq":1783284617}]}
    """

    T: Milliseconds
    S: Literal["Buy", "Sell"]
    v: float
    p: float
    i: str


class Level(msgspec.Struct, gc=False, array_like=True):
    """Price and size, which is absolute; 0 removes the level."""

    price: str
    size: str


class Book(msgspec.Struct, gc=False):
    """`u` counts the messages of one book, `seq` the events of the matching engine. websocket/public/orderbook:

    {"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{"s":"BTCUSDT",
    "b":[["30247.20","30.028"],["30240.00","0"]],"a":[["30248.70","0"],["30249.30","0.892"]],"u":177400507,
    "seq":66544703342},"cts":1687940967464}
    """

    b: list[Level]
    a: list[Level]
    u: Sequence


class Top(msgspec.Struct, gc=False):
    """A book of one level, always a snapshot.

    {"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1672304484978,"data":{"s":"BTCUSDT","b":[["16493.50","0.006"]],
    "a":[["16611.00","0.029"]],"u":18521288,"seq":7961638724},"cts":1672304484976}
    """

    b: list[Level]
    a: list[Level]
    seq: Sequence


class Ticker(msgspec.Struct, gc=False, rename="camel"):
    """Of contracts: a snapshot, then deltas with what has changed. `openInterest` is in the base currency,
    `fundingRate` will be paid at `nextFundingTime`. websocket/public/ticker:

    {"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","tickDirection":"PlusTick",
    "price24hPcnt":"0.017103","lastPrice":"17216.00","prevPrice24h":"16926.50","highPrice24h":"17281.50",
    "lowPrice24h":"16915.00","prevPrice1h":"17238.00","markPrice":"17217.33","indexPrice":"17227.36",
    "openInterest":"68744.761","openInterestValue":"1183601235.91","turnover24h":"1570383121.943499",
    "volume24h":"91705.276","nextFundingTime":"1673280000000","fundingRate":"-0.000212","bid1Price":"17215.50",
    "bid1Size":"84.489","ask1Price":"17216.00","ask1Size":"83.020"},"cs":24987956059,"ts":1673272861686}
    """

    mark_price: float = math.nan
    index_price: float = math.nan
    open_interest: float = math.nan
    funding_rate: float = math.nan
    next_funding_time: Milliseconds = 0


class Liquidation(msgspec.Struct, gc=False):
    """`S` is the side of the position: a long one, bought before, is closed by selling. The price is that of
    bankruptcy. websocket/public/all-liquidation:

    {"topic":"allLiquidation.ROSEUSDT","type":"snapshot","ts":1739502303204,"data":[{"T":1739502302929,"s":"ROSEUSDT",
    "S":"Sell","v":"20000","p":"0.04499"}]}
    """

    T: Milliseconds
    S: Literal["Buy", "Sell"]
    v: float
    p: float


class PastTrade(msgspec.Struct, gc=False, rename="camel"):
    """`side` is the taker's, `execId` what the stream calls `i`. market/recent-trade:

    {"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"execId":"2100000000007764263","symbol":"BTCUSDT",
    "price":"16618.49","size":"0.00012","side":"Buy","time":"1672052955758","isBlockTrade":false}]},"retExtInfo":{},
    "time":1672053054358}
    """

    exec_id: str
    symbol: str
    price: float
    size: float
    side: Literal["Buy", "Sell"]
    time: Milliseconds


class PastTrades(msgspec.Struct, gc=False):
    trades: list[PastTrade] = msgspec.field(name="list")


class PastTradesAnswer(msgspec.Struct, gc=False, rename="camel"):
    ret_code: int
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


_decode_past_answer: Final = msgspec.json.Decoder(PastTradesAnswer).decode
_decode_past_trades: Final = msgspec.json.Decoder(PastTrades, strict=False).decode


def read_past_trades(body: bytes) -> list[PastTrade]:
    """The trades; ValueError with the reason where it is something else."""
    answer = answer_of(_decode_past_answer, body)
    if answer.ret_code != 0:
        raise ValueError(f"{answer.ret_msg[:300]} (code {answer.ret_code})")
    return answer_of(_decode_past_trades, answer.result).trades


decode_envelope: Final = msgspec.json.Decoder(Envelope, strict=False).decode
decode_trades: Final = msgspec.json.Decoder(list[Trade], strict=False).decode
decode_book: Final = msgspec.json.Decoder(Book, strict=False).decode
decode_top: Final = msgspec.json.Decoder(Top, strict=False).decode
decode_ticker: Final = msgspec.json.Decoder(Ticker, strict=False).decode
decode_liquidations: Final = msgspec.json.Decoder(list[Liquidation], strict=False).decode
_decode_fields: Final = msgspec.json.Decoder(dict[str, Any]).decode


def decode_blank_ticker(data: msgspec.Raw) -> Ticker:
    """What is "" or null does not exist."""
    return msgspec.convert(without_blanks(_decode_fields(data)), Ticker, strict=False)


_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def trade_id(text: str) -> int:
    """The number a trade's id is, or 63 bits that are always the same for the same id: of a UUID its first ones."""
    if _NUMBER.fullmatch(text) and int(text) < 2**63:
        return int(text)
    if _UUID.fullmatch(text):
        return int(text.replace("-", "")[:16], 16) >> 1
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def layouts(category: str, depth: int) -> dict[str, list[Layout]]:
    """By topic; `sequence` of a trade is when its message was made."""
    heads = ('"type":"{kind}","ts":{ts}', '"ts":{ts},"type":"{kind}"')
    if category == "linear":
        trade = (
            '{"T":<milliseconds>,"s":"<text>","S":"<taker_side:Buy|Sell>","v":"<size>","p":"<price>","L":"<text>",'
            '"i":"<trade_uuid>","BT":<any>[[,"RPI":<any>]][[,"seq":<any>]]}'
        )
    else:
        trade = (
            '{"i":"<trade_id>","T":<milliseconds>,"p":"<price>","v":"<size>","S":"<taker_side:Buy|Sell>"'
            '[[,"seq":<any>]],"s":"<text>","BT":<any>[[,"RPI":<any>]]}'
        )

    def frame(topic: str, kind: str, data: str, ts: str = "<any>") -> list[str]:
        return [f'{{"topic":"{topic}.<symbol>",{head.format(kind=kind, ts=ts)},"data":{data}}}' for head in heads]

    def book(levels: str, sequence: str) -> str:
        return f'{{"s":"<text>",{levels},{sequence}}},"cts":<milliseconds>'

    level = '["<level_price>","<level_size>"]'
    deep = book(f'"b":[((bid:{level}))],"a":[((ask:{level}))]', '"u":<sequence>,"seq":<any>')
    top = book(
        '"b":[((["<bid_price>","<bid_size>"]))],"a":[((["<ask_price>","<ask_size>"]))]', '"u":<any>,"seq":<sequence>'
    )
    return {
        f"orderbook.{depth}": [
            *(Layout(BOOK, text) for text in frame(f"orderbook.{depth}", "delta", deep)),
            *(Layout(BOOK_SNAPSHOT, text) for text in frame(f"orderbook.{depth}", "snapshot", deep)),
        ],
        "orderbook.1": [Layout(QUOTE, text) for text in frame("orderbook.1", "snapshot", top)],
        "publicTrade": [
            Layout(TRADE, text) for text in frame("publicTrade", "snapshot", f"[(({trade}))]", "<sequence>")
        ],
    }
