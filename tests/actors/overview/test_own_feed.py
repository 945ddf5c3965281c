"""What bars of our own say of a coin."""

from typing import Any

import pyarrow as pa
import pytest

from actors.overview.own_feed import (
    RSI_DAYS,
    Market,
    daily_rsi,
    is_fresh,
    newest_trade,
    price_a_day_before,
    readings,
)
from actors.overview.question import Heard
from storage.schema import BARS, INDICATORS
from storage.timeframes import TIMEFRAMES

MINUTE = 60 * 10**9
DAY = 1440 * MINUTE
NOW = 1_732_268_400 * 10**9
MARKET = Market.of("bybit:spot:BTCUSDT")


def bars(timeframe: str, rows: list[tuple[int, float, float]], last_open: bool = True) -> pa.RecordBatch:
    """(time, open, close) of each."""
    made: list[dict[str, Any]] = [
        {"symbol": "B", "timeframe": timeframe, "time": time, "open": opened, "high": max(opened, close)}
        | {"low": min(opened, close), "close": close, "volume": 1.0, "quote_volume": close, "trade_count": 1}
        | {"buy_volume": 1.0, "vwap": close, "revision": 0, "closed": not last_open or at < len(rows) - 1}
        for at, (time, opened, close) in enumerate(rows)
    ]
    return pa.RecordBatch.from_pylist(made, schema=BARS)


def indicators(time: int, rsi: float | None) -> pa.RecordBatch:
    row = dict.fromkeys(INDICATORS.names) | {"symbol": "B", "timeframe": "1d", "time": time, "rsi_14": rsi}
    return pa.RecordBatch.from_pylist([row], schema=INDICATORS)


def test_a_market_is_an_exchange_and_a_symbol_which_may_have_colons() -> None:
    assert Market("bybit", "spot:BTCUSDT") == MARKET


def test_the_price_is_that_of_the_newest_trade_while_it_is_fresh() -> None:
    trade = newest_trade(MARKET, bars("1s", [(NOW, 1.0, 2.0)]))
    assert trade is not None
    assert (trade.price, trade.time) == (2.0, NOW)
    assert is_fresh(trade, NOW + MINUTE)
    assert not is_fresh(trade, NOW + MINUTE + 1)
    assert newest_trade(MARKET, None) is None
    assert newest_trade(MARKET, bars("1s", [])) is None


def series(first: int, last: int) -> pa.RecordBatch:
    """Bars of five minutes, so many minutes before now, whose close says when they ended."""
    return bars("5m", [(NOW - ago * MINUTE, float(ago), float(ago - 5)) for ago in range(first, last - 1, -5)])


@pytest.mark.parametrize(
    ("first", "last", "price"),
    [
        (2000, 0, 1440.0),
        (1440 + 60, 0, 1440.0),
        # Made in the middle of that bar.
        (1442, 0, 1442.0),
        (1440, 0, 1440.0),
        (1439, 0, None),
        # Nobody knows what it cost for an hour before.
        (2000, 1440 + 66, None),
        (2000, 1440 + 60, 1495.0),
    ],
)
def test_the_price_a_day_before_is_the_last_one_of_that_time_or_unknown(
    first: int, last: int, price: float | None
) -> None:
    assert price_a_day_before(series(first, last), NOW) == price


def test_without_bars_no_change_is_said() -> None:
    assert price_a_day_before(bars("5m", []), NOW) is None
    trade = newest_trade(MARKET, bars("1s", [(NOW, 1.0, 110.0)]))
    assert trade is not None
    assert readings({"btc": trade}, {"btc": None}) == {"btc_price_usd": Heard(110.0, NOW, "own:bybit")}
    both = readings({"btc": trade}, {"btc": 100.0})
    assert both["btc_change_24h"].value == pytest.approx(10.0)


def days(missing: int | None = None) -> pa.RecordBatch:
    return bars("1d", [(NOW - ago * DAY, 1.0, 2.0) for ago in range(RSI_DAYS, -1, -1) if ago != missing])


def test_the_rsi_is_that_of_the_last_day_that_is_over() -> None:
    said = daily_rsi(MARKET, days(), indicators(NOW - DAY, 55.5))
    assert said == {"btc_rsi_14": Heard(55.5, NOW, "own:bybit")}


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        (days(missing=5), indicators(NOW - DAY, 55.5)),
        (days(), indicators(NOW - 2 * DAY, 55.5)),
        (days(), indicators(NOW - DAY, None)),
        (days(), indicators(NOW - DAY, float("nan"))),
        (days(), indicators(NOW - DAY, 1.0).slice(0, 0)),
        (bars("1d", []), indicators(NOW - DAY, 55.5)),
    ],
)
def test_an_rsi_over_a_hole_or_of_another_day_is_none(rows: pa.RecordBatch, values: pa.RecordBatch) -> None:
    assert TIMEFRAMES["1d"] == DAY
    assert daily_rsi(MARKET, rows, values) == {}
