"""What feeds say for the ledger: how it is known that no trade is missing, where some may be, and which trades stand
for several."""

import json
from typing import Any, Final

import numpy as np
import pytest

from actors.feeds.bybit import Bybit
from actors.feeds.feed import Hole, Proof
from actors.feeds.kraken import Kraken
from actors.feeds.okx import Okx
from actors.feeds.registry import FEEDS
from storage.schema import MERGED
from tests.actors.feeds.checks import decode, rows, same_outcomes, without_layouts
from tests.actors.feeds.test_bitfinex import Connection
from tests.actors.feeds.test_bybit import SPOT_TRADE
from tests.actors.feeds.test_okx import ENDPOINT, data
from tests.actors.feeds.test_okx import TRADE as OKX_TRADE

TRADE: Final = [401597395, 1574694478808, 0.005, 7245.3]
KRAKEN_TRADE: Final = '[993,[["354.11","0.89594024","1618678142.557535","s","l",""]],"trade","XMR/USD"]'


@pytest.mark.parametrize(
    ("exchange", "path", "proof"),
    [
        ("binance", "", "ids"),
        ("bitfinex", "", "numbered"),
        ("bybit", "", "recent"),
        ("coinbase", "", "ids"),
        ("deribit", "", "ids"),
        ("kraken", "", "none"),
        ("kraken", "/v2", "ids"),
        ("okx", "", "ids"),
    ],
)
def test_how_it_is_known_that_no_trade_is_missing(exchange: str, path: str, proof: Proof) -> None:
    assert FEEDS[exchange]([], f"wss://example.com{path}").proof == proof


def test_where_arrays_of_bitfinex_are_missing_trades_of_every_symbol_may_be() -> None:
    connection = Connection("tBTCUSD", "tETHUSD")
    assert not decode(connection.feed, connection.array("trades", "tBTCUSD", "te", TRADE)).holes
    connection.lose()
    first = connection.array("trades", "tBTCUSD", "te", TRADE)
    connection.lose()
    decoded = decode(connection.feed, first, connection.array("trades", "tBTCUSD", "te", TRADE))
    (hole,) = decoded.holes
    assert hole.symbols == {"tBTCUSD", "tETHUSD"}
    assert "does not follow" in hole.reason
    connection.feed.unsubscribe(["tETHUSD"])
    connection.lose()
    (hole,) = decode(connection.feed, connection.array("trades", "tBTCUSD", "te", TRADE)).holes
    assert hole.symbols == {"tBTCUSD"}


@pytest.mark.parametrize("content", [["te", [1, "x", 0.005, 7245.3]], ["te", {}], ["te", [1, 1574694478808, 1.0, 0]]])
def test_a_trade_of_bitfinex_that_cannot_be_read_is_a_hole_of_its_symbol(content: list[Any]) -> None:
    connection = Connection("tBTCUSD", "tETHUSD")
    decoded = decode(connection.feed, connection.array("trades", "tETHUSD", *content))
    (hole,) = decoded.holes
    assert hole.symbols == {"tETHUSD"}
    assert hole.reason
    # A book or a ticker that cannot be read is none.
    assert not decode(connection.feed, connection.array("book", "tETHUSD", "x")).holes
    assert not decode(connection.feed, connection.array("ticker", "tETHUSD", "x")).holes


def test_trades_of_bybit_that_cannot_be_read_are_a_hole() -> None:
    symbols = ["spot:BTCUSDT", "spot:ETHUSDT"]

    def holes(*frames: str) -> tuple[Hole, ...]:
        feed = Bybit(symbols, "wss://stream.bybit.com")
        feed.subscribe(symbols)
        return decode(feed, *frames).holes

    def trades(symbol: str, **changed: Any) -> str:
        content = {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": 1735689653900}
        return json.dumps(content | {"data": [SPOT_TRADE | changed]})

    assert holes(trades("BTCUSDT")) == ()
    (hole,) = holes(trades("BTCUSDT", p="x"), trades("BTCUSDT", S="x"), trades("BTCUSDT", v="0"))
    assert hole.symbols == {"spot:BTCUSDT"}
    first, second = holes(trades("BTCUSDT", p="x"), trades("ETHUSDT", v="0"))
    assert [set(first.symbols), set(second.symbols)] == [{"spot:BTCUSDT"}, {"spot:ETHUSDT"}]
    (hole,) = holes(trades("ETHUSDT")[:-10])
    assert hole.symbols == {"spot:ETHUSDT"}
    # What is no JSON and names nothing may have been anything.
    (hole,) = holes("\x00garbage")
    assert hole.symbols == set(symbols)
    assert holes('{"topic":"orderbook.200.BTCUSDT","type":"delta","data":3}') == ()
    assert holes(trades("XRPUSDT")) == ()


def test_trades_of_kraken_v1_that_cannot_be_read_are_a_hole_as_they_have_no_ids() -> None:
    symbols = ["XMR/USD", "SC/EUR"]

    def holes(frame: str, address: str = "wss://ws.kraken.com") -> tuple[Hole, ...]:
        feed = Kraken(symbols, address)
        feed.subscribe(symbols)
        return decode(feed, frame).holes

    assert holes(KRAKEN_TRADE) == ()
    for frame in (
        KRAKEN_TRADE.replace("354.11", "x"),
        KRAKEN_TRADE.replace('"s"', '"x"'),
        KRAKEN_TRADE.replace("[[", "[[["),
    ):
        (hole,) = holes(frame)
        assert hole.symbols == {"XMR/USD"}
    (hole,) = holes("[993,")
    assert hole.symbols == set(symbols)
    assert holes('[992,{"b":[3]},"book-1000","XMR/USD"]') == ()
    assert holes('{"event":') == ()
    assert holes('{"channel":"trade","type":"update","data":[{"symbol":"XMR/USD"}]}', "wss://ws.kraken.com/v2") == ()


def subscribed_okx() -> Okx:
    feed = Okx(["BTC-USDT"], ENDPOINT)
    feed.subscribe(["BTC-USDT"])
    return feed


@pytest.mark.parametrize(("count", "fills"), [("1", None), ("2", 2), ("10", 10), ("11", 11), ("1000000", 1_000_000)])
def test_a_trade_of_okx_that_stands_for_several_says_for_how_many(count: str, fills: int | None) -> None:
    frame = data("trades", OKX_TRADE | {"count": count}, OKX_TRADE | {"tradeId": "5"})
    decoded = decode(subscribed_okx(), frame)
    assert [row["trade_id"] for row in rows(decoded.trades)] == [338476308, 5]
    assert decoded.merged.schema == MERGED
    expected = [{"symbol": "BTC-USDT", "trade_id": 338476308, "fills": fills}] if fills else []
    assert decoded.merged.to_pylist() == expected
    same_outcomes(subscribed_okx(), without_layouts(subscribed_okx()), [frame.encode()])


@pytest.mark.parametrize("count", ["0", "-1", "1000001", "x", "1.5"])
def test_a_count_of_okx_that_makes_no_sense_is_refused(count: str) -> None:
    decoded = decode(subscribed_okx(), data("trades", OKX_TRADE | {"count": count}))
    assert len(decoded.rejected) == 1
    assert not decoded.merged.num_rows


def test_a_trade_that_is_not_usable_stands_for_none() -> None:
    feed = subscribed_okx()
    decoded = decode(
        feed,
        data("trades", OKX_TRADE | {"count": "3", "px": "0"}),
        data("trades", OKX_TRADE | {"count": "4", "tradeId": "7"}),
        data("trades", OKX_TRADE | {"tradeId": "8"}),
    )
    assert [row["trade_id"] for row in rows(decoded.trades)] == [7, 8]
    assert decoded.merged.to_pylist() == [{"symbol": "BTC-USDT", "trade_id": 7, "fills": 4}]
    feed.unsubscribe(["BTC-USDT"])
    late = feed.decode([data("trades", OKX_TRADE | {"count": "3"}).encode()], np.array([1_000]))
    assert not late.trades.num_rows
    assert not late.merged.num_rows
