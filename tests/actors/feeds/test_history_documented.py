"""The requests for past trades, and the answers beside them in each exchange's documentation."""

from typing import Any, Final

import numpy as np
import pytest

from actors.feeds.feed import RestRequest
from actors.feeds.history import Wanted
from actors.feeds.kraken import Kraken
from actors.feeds.registry import FEEDS, HISTORIES
from storage.schema import BUY, MERGED, SELL, TRADES

RECEIVED: Final = 1_800_000_000_000_000_000


def ns(milliseconds: int) -> int:
    return milliseconds * 1_000_000


AGGREGATE: Final = (
    b'[{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,"m":true,"M":true}]'
)
COINBASE: Final = (
    b'[{"time":"2014-11-07T22:19:28.578544Z","trade_id":74,"price":"10.00000000","size":"0.01000000","side":"buy"},'
    b'{"time":"2014-11-07T01:08:43.642366Z","trade_id":73,"price":"100.00000000","size":"0.01000000","side":"sell"}]'
)
KRAKEN: Final = (
    b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],'
    b'["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953],'
    b'["30243.30000","0.01235716",1688669602.698379,"s","m","",61044956]],"last":"1688671969993150842"}}'
)
DERIBIT: Final = (
    b'{"jsonrpc":"2.0","id":9267,"result":{"trades":[{"trade_seq":36798,"trade_id":"48079254",'
    b'"timestamp":1590474933333,"tick_direction":0,"price":8950.0,"mark_price":8948.9,'
    b'"instrument_name":"BTC-PERPETUAL","index_price":8955.88,"direction":"sell","amount":10.0}],"has_more":true}}'
)
OKX: Final = (
    b'{"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00001","px":"29963.2","source":"0",'
    b'"tradeId":"242720720","ts":"1654161646974"},{"instId":"BTC-USDT","side":"sell","sz":"0.00002","px":"29964.1",'
    b'"source":"0","tradeId":"242720719","ts":"1654161641568"}]}'
)
BYBIT: Final = (
    b'{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"execId":"2100000000007764263",'
    b'"symbol":"BTCUSDT","price":"16618.49","size":"0.00012","side":"Buy","time":"1672052955758",'
    b'"isBlockTrade":false}]},"retExtInfo":{},"time":1672053054358}'
)
BITFINEX: Final = b"[[388063447,1567526214100,0.5,10681],[388063448,1567526214876,-1.918524,10682]]"

#: The exchange, a symbol, the answer, and its trades as (id, ns, price, size, side).
DOCUMENTED: Final[list[tuple[str, str, bytes, list[tuple[int, int, float, float, int]]]]] = [
    ("binance", "BNBBTC", AGGREGATE, [(26129, ns(1498793709153), 0.01633102, 4.70443515, SELL)]),
    (
        "coinbase",
        "BTC-USD",
        COINBASE,
        # The side is the maker's.
        [(73, 1415322523642366000, 100.0, 0.01, BUY), (74, 1415398768578544000, 10.0, 0.01, SELL)],
    ),
    (
        "kraken",
        "BTC/USD",
        KRAKEN,
        # To the microsecond, as the live feed writes it.
        [
            (61044952, 1688669597827736000, 30243.4, 0.34507674, BUY),
            (61044953, 1688669598280411000, 30243.3, 0.0037696, SELL),
            (61044956, 1688669602698379000, 30243.3, 0.01235716, SELL),
        ],
    ),
    ("deribit", "BTC-PERPETUAL", DERIBIT, [(36798, ns(1590474933333), 8950.0, 10.0, SELL)]),
    (
        "okx",
        "BTC-USDT",
        OKX,
        [
            (242720719, ns(1654161641568), 29964.1, 0.00002, SELL),
            (242720720, ns(1654161646974), 29963.2, 0.00001, SELL),
        ],
    ),
    ("bybit", "spot:BTCUSDT", BYBIT, [(2100000000007764263, ns(1672052955758), 16618.49, 0.00012, BUY)]),
    (
        "bitfinex",
        "tBTCUSD",
        BITFINEX,
        [(388063447, ns(1567526214100), 10681.0, 0.5, BUY), (388063448, ns(1567526214876), 10682.0, 1.918524, SELL)],
    ),
]


def test_every_exchange_has_its_past_trades() -> None:
    assert HISTORIES.keys() == FEEDS.keys()


@pytest.mark.parametrize(("exchange", "symbol", "body", "trades"), DOCUMENTED)
def test_the_documented_answer_gives_its_trades(
    exchange: str, symbol: str, body: bytes, trades: list[tuple[int, int, float, float, int]]
) -> None:
    page = HISTORIES[exchange].read(Wanted(symbol, ns(1_000_000_000_000), ns(1_790_000_000_000)), body, RECEIVED)
    assert page.trades.schema == TRADES
    page.trades.validate(full=True)
    rows = page.trades.to_pylist()
    assert [(row["trade_id"], row["ts_event"], row["price"], row["size"], row["side"]) for row in rows] == trades
    assert {(row["symbol"], row["ts_recv"]) for row in rows} == {(symbol, RECEIVED)}
    assert page.merged.schema == MERGED
    assert not page.merged.num_rows


@pytest.mark.parametrize(("exchange", "symbol", "body", "trades"), DOCUMENTED)
def test_only_what_is_wanted_of_an_answer_is_given(
    exchange: str, symbol: str, body: bytes, trades: list[tuple[int, int, float, float, int]]
) -> None:
    number, moment = trades[0][:2]
    for wanted in (Wanted(symbol, moment, moment), Wanted(symbol, 0, 1, number, number)):
        page = HISTORIES[exchange].read(wanted, body, RECEIVED)
        assert page.trades.column("trade_id").to_pylist() == [number]
    for wanted in (Wanted(symbol, moment - 10, moment - 1), Wanted(symbol, 0, 1, number - 5, number - 1)):
        assert not HISTORIES[exchange].read(wanted, body, RECEIVED).trades.num_rows


TIME: Final = (1_700_000_000_000_500_000, 1_700_010_000_000_000_000)
IDS: Final = (1_001, 1_500)


@pytest.mark.parametrize(
    ("exchange", "symbol", "by_ids", "by_time", "weight"),
    [
        (
            "binance",
            "BTCUSDT",
            "/api/v3/aggTrades?symbol=BTCUSDT&fromId=1001&limit=1000",
            "/api/v3/aggTrades?symbol=BTCUSDT&startTime=1700000000000&endTime=1700003599999&limit=1000",
            4,
        ),
        (
            "coinbase",
            "BTC-USD",
            "/products/BTC-USD/trades?limit=1000&after=1501",
            "/products/BTC-USD/trades?limit=1000",
            1,
        ),
        (
            "kraken",
            "BTC/USD",
            "/0/public/Trades?pair=XBTUSD&since=1700000000000499999&count=1000",
            "/0/public/Trades?pair=XBTUSD&since=1700000000000499999&count=1000",
            1,
        ),
        (
            "deribit",
            "BTC-PERPETUAL",
            "/api/v2/public/get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL&start_seq=1001&end_seq=1500"
            "&count=1000&sorting=asc",
            "/api/v2/public/get_last_trades_by_instrument_and_time?instrument_name=BTC-PERPETUAL"
            "&start_timestamp=1700000000000&end_timestamp=1700010000000&count=1000&sorting=asc",
            1,
        ),
        (
            "okx",
            "BTC-USDT",
            "/api/v5/market/history-trades?instId=BTC-USDT&type=1&after=1501&limit=100",
            "/api/v5/market/history-trades?instId=BTC-USDT&type=2&after=1700010000001&limit=100",
            1,
        ),
        (
            "bybit",
            "linear:BTCUSDT",
            "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=1000",
            "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=1000",
            1,
        ),
        (
            "bitfinex",
            "tBTCF0:USTF0",
            "/v2/trades/tBTCF0:USTF0/hist?start=1700000000000&end=1700010000000&limit=10000&sort=1",
            "/v2/trades/tBTCF0:USTF0/hist?start=1700000000000&end=1700010000000&limit=10000&sort=1",
            6,
        ),
    ],
)
def test_the_first_request(exchange: str, symbol: str, by_ids: str, by_time: str, weight: int) -> None:
    history = HISTORIES[exchange]
    assert history.request(Wanted(symbol, *TIME, *IDS)) == RestRequest(by_ids, weight)
    assert history.request(Wanted(symbol, *TIME)) == RestRequest(by_time, weight)


def test_a_time_of_kraken_is_the_same_that_the_live_feed_reads() -> None:
    live = Kraken(["BTC/USD"], "wss://ws.kraken.com/v2")
    frame = (
        b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":30243.4,"qty":0.34507674,'
        b'"ord_type":"market","trade_id":61044952,"timestamp":"2023-07-06T18:53:17.827736Z"}]}'
    )
    (heard,) = live.decode([frame], np.array([RECEIVED])).trades.to_pylist()
    (past,) = HISTORIES["kraken"].read(Wanted("BTC/USD", 0, 1, 61044952, 61044952), KRAKEN, RECEIVED).trades.to_pylist()
    assert past == heard


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1688669597", 1688669597_000_000_000),
        ("1688669597.1", 1688669597_100_000_000),
        ("1688669597.123456789", 1688669597_123_456_000),
        ("1688669597.999999999", 1688669597_999_999_000),
    ],
)
def test_a_time_of_kraken_has_up_to_nine_digits(text: str, found: int) -> None:
    body = b'{"error":[],"result":{"X":[["1","1",%b,"b","m","",5]],"last":"1688669597999999999"}}' % text.encode()
    page = HISTORIES["kraken"].read(Wanted("BTC/USD", 0, 1, 5, 5), body, RECEIVED)
    assert page.trades.column("ts_event").to_pylist() == [found]


def test_pairs_of_kraken_are_asked_for_by_the_names_rest_has() -> None:
    for symbol, pair in (("BTC/USD", "XBTUSD"), ("DOGE/BTC", "XDGXBT"), ("ETH/EUR", "ETHEUR")):
        request = HISTORIES["kraken"].request(Wanted(symbol, 1_000, 2_000))
        assert request is not None
        assert f"pair={pair}&" in request.path


def test_trades_of_okx_that_stand_for_several_say_so() -> None:
    body = OKX.replace(b'"tradeId":"242720720"', b'"tradeId":"242720720","count":"3"')
    page = HISTORIES["okx"].read(Wanted("BTC-USDT", 0, RECEIVED), body, RECEIVED)
    assert page.merged.to_pylist() == [{"symbol": "BTC-USDT", "trade_id": 242720720, "fills": 3}]
    page = HISTORIES["okx"].read(Wanted("BTC-USDT", 0, 1, 242720719, 242720719), body, RECEIVED)
    assert not page.merged.num_rows


def test_bybit_reads_ids_as_the_live_feed_does() -> None:
    live: Any = FEEDS["bybit"](["linear:BTCUSDT"], "wss://stream.bybit.com")
    number = b"20f43950-d8dd-5b31-9112-a178eb6023af"
    frame = (
        b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT",'
        b'"S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"%b","BT":false,"seq":1783284617}]}' % number
    )
    body = (
        b'{"retCode":0,"result":{"list":[{"execId":"%b","symbol":"BTCUSDT","price":"16578.50","size":"0.001",'
        b'"side":"Buy","time":"1672304486865"}]}}' % number
    )
    page = HISTORIES["bybit"].read(Wanted("linear:BTCUSDT", 0, RECEIVED), body, RECEIVED)
    assert page.trades.to_pylist() == live.decode([frame], np.array([RECEIVED])).trades.to_pylist()
