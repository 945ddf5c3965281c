"""Every condition, at events as shards send them: trades, and bars that closed with their indicators."""

from typing import Any

import pytest

from actors.alerting.book import AlertBook
from actors.alerting.conditions import CONDITIONS
from storage.alert_log import Fired, Firing, Record
from tests.actors.alerting.tables import EXCHANGE, NOW, PRICE, SECOND, bars, book_with, fired, indicators, prices

MINUTE = 60
ANY = {"exchange": EXCHANGE, "symbol": "BTCUSDT", "channels": ["websocket"], "cooldown_seconds": 0}


def closed(book: AlertBook, rows: list[dict[str, Any]], timeframe: str = "1m", start: int = 0) -> list[Record]:
    """Bars and what is said of them, in the order shards share them."""
    at = [{"time": NOW + (start + place) * MINUTE * SECOND} for place in range(len(rows))] if timeframe == "1m" else []
    of_bars = [{name: value for name, value in row.items() if name in ("close", "volume")} for row in rows]
    said = [{name: value for name, value in row.items() if name not in ("close", "volume")} for row in rows]
    if at:
        of_bars, said = ([{**row, **time} for row, time in zip(part, at, strict=True)] for part in (of_bars, said))
    assert book.take("bars", EXCHANGE, bars(of_bars, timeframe), NOW) == []
    return book.take("indicators", EXCHANGE, indicators(said, timeframe), NOW)


@pytest.mark.parametrize(
    ("condition", "threshold", "rows", "at", "value"),
    [
        ("rsi_above", 70, [{"rsi_14": 69.9}, {"rsi_14": 70.0}, {"rsi_14": 70.1}, {"rsi_14": 80.0}], 3, 70.1),
        ("rsi_below", 30, [{"rsi_14": 30.1}, {"rsi_14": 30.0}, {"rsi_14": 29.9}], 3, 29.9),
        (
            "macd_crossover",
            1,
            [{"macd": 2.0, "macd_signal": 1.0}, {"macd": 1.0, "macd_signal": 1.0}, {"macd": 1.5, "macd_signal": 1.0}],
            3,
            0.5,
        ),
        (
            "macd_crossover",
            0,
            [{"macd": 1.0, "macd_signal": 2.0}, {"macd": 1.0, "macd_signal": 1.0}, {"macd": 1.0, "macd_signal": 1.5}],
            3,
            -0.5,
        ),
        ("bollinger_above", None, [{"bb_upper": 9.0, "close": 9.0}, {"bb_upper": 9.0, "close": 9.5}], 2, 9.5),
        ("bollinger_below", None, [{"bb_lower": 5.0, "close": 5.0}, {"bb_lower": 5.0, "close": 4.5}], 2, 4.5),
        ("volume_spike", 3, [{"volume_sma": 2.0, "volume": 6.0}, {"volume_sma": 2.0, "volume": 7.0}], 2, 3.5),
    ],
)
def test_it_fires_at_the_end_of_the_bar_where_it_begins_to_hold(
    condition: str, threshold: float | None, rows: list[dict[str, Any]], at: int, value: float
) -> None:
    book = book_with({**ANY, "condition": condition, "threshold": threshold})
    records = closed(book, rows)
    assert fired(records) == [(at * MINUTE, value)]
    [firing] = firings(records)
    assert (firing.timeframe, firing.price) == ("1m", rows[at - 1].get("close", 1.0))


def firings(records: list[Record]) -> list[Firing]:
    return [record.firing for record in records if isinstance(record, Fired)]


def test_prices_above_and_below_are_strict() -> None:
    above, below = {**PRICE, "condition": "price_above"}, {**PRICE, "condition": "price_below"}
    book = book_with(above, below)
    assert book.take("trades", EXCHANGE, prices(100, 100), NOW) != []
    assert fired(book.take("trades", EXCHANGE, prices(100.5, start=NOW + 10 * SECOND), NOW)) == [(10, 100.5)]
    assert fired(book.take("trades", EXCHANGE, prices(99.5, start=NOW + 20 * SECOND), NOW)) == [(20, 99.5)]


def test_a_crossing_needs_a_bar_before_it() -> None:
    book = book_with({**ANY, "condition": "macd_crossover", "threshold": 1})
    above, below = {"macd": 2.0, "macd_signal": 1.0}, {"macd": 0.0, "macd_signal": 1.0}
    assert fired(closed(book, [above, above])) == []
    assert fired(closed(book, [below, above], start=2)) == [(4 * MINUTE, 1.0)]


def test_what_is_not_known_changes_nothing() -> None:
    book = book_with({**ANY, "condition": "rsi_above", "threshold": 70})
    assert closed(book, [{"rsi_14": None}]) == []
    assert fired(closed(book, [{"rsi_14": 80.0}], start=1)) == [(2 * MINUTE, 80.0)]
    assert closed(book, [{"rsi_14": None}, {"rsi_14": 90.0}], start=2) == []


def test_a_bar_whose_close_nobody_has_seen_says_nothing_of_its_bands() -> None:
    book = book_with({**ANY, "condition": "bollinger_above"}, {**ANY, "condition": "rsi_above", "threshold": 70})
    records = book.take("indicators", EXCHANGE, indicators([{"bb_upper": 0.5, "rsi_14": 80.0}]), NOW)
    assert [(firing.condition, firing.price) for firing in firings(records)] == [("rsi_above", None)]


def test_an_open_bar_is_not_looked_at() -> None:
    book = book_with({**ANY, "condition": "bollinger_above"})
    book.take("bars", EXCHANGE, bars([{"close": 9.5, "closed": False}]), NOW)
    assert book.take("indicators", EXCHANGE, indicators([{"bb_upper": 9.0}]), NOW) == []


def test_a_revised_bar_that_is_told_again_fires_no_more() -> None:
    book = book_with({**ANY, "condition": "rsi_above", "threshold": 70})
    assert len(fired(closed(book, [{"rsi_14": 60.0}, {"rsi_14": 80.0}, {"rsi_14": 60.0}]))) == 1
    assert closed(book, [{"rsi_14": 90.0}, {"rsi_14": 60.0}, {"rsi_14": 90.0}]) == []


def test_bars_of_other_timeframes_are_others() -> None:
    book = book_with({**ANY, "condition": "rsi_above", "threshold": 70, "timeframe": "1h"})
    assert closed(book, [{"rsi_14": 80.0}]) == []
    records = closed(book, [{"rsi_14": 80.0}], "1h")
    assert fired(records) == [(3600, 80.0)]
    assert firings(records)[0].message == "binance BTCUSDT: RSI of 1h bars is 80.00, above 70"


def test_the_bar_that_is_open_when_the_alert_is_made_counts_when_it_closes() -> None:
    book = book_with()
    book.add({**ANY, "condition": "rsi_above", "threshold": 70}, "a0", NOW + 30 * SECOND)
    assert fired(closed(book, [{"rsi_14": 80.0}])) == [(MINUTE, 80.0)]


def test_every_condition_says_something_without_its_names() -> None:
    for condition in CONDITIONS.values():
        said = condition.message(1.0, 2.0, "1h")
        assert said and "{" not in said and "None" not in said


def test_an_average_of_nothing_is_no_spike() -> None:
    book = book_with({**ANY, "condition": "volume_spike", "threshold": 2})
    assert fired(closed(book, [{"volume_sma": 0.0, "volume": 0.0}, {"volume_sma": 1.0, "volume": 20.0}])) == [
        (2 * MINUTE, 20.0)
    ]
