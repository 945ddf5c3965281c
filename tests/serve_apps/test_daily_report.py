"""The report of a day: its numbers, that it is the same for the same tables, and that it can be read."""

import math
import random
import re
import xml.etree.ElementTree as ElementTree
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.report_book import ReportBook
from serve_apps import daily_texts
from serve_apps.daily_numbers import DAY, MINUTE, exchange_gaps, rsi, symbol_days, units_of
from serve_apps.daily_report import daily_report, span_of
from serve_apps.daily_texts import number, percent, price, short
from serve_apps.report_charts import Bar, Line, bars, gauge, lines
from serve_apps.reports_html import sanitised, sections

_DAY = date(2026, 1, 30)
_START, _END = span_of(_DAY)
_BARS = pa.schema(
    [("exchange", pa.string()), ("symbol", pa.string()), ("time", pa.int64())]
    + [(name, pa.float64()) for name in ("open", "high", "low", "close", "volume", "quote_volume")]
    + [("trade_count", pa.int64())]
)
_INSTRUMENTS = pa.schema(
    [(name, pa.string()) for name in ("exchange", "symbol", "quote", "contract_currency")]
    + [("contract_size", pa.float64())]
)
_GAPS = pa.schema(
    [("exchange", pa.string())]
    + [(name, pa.int64()) for name in ("from_ns", "to_ns", "opened", "closed", "missing", "backfilled")]
)


def bar(symbol: str, minute: int, close: float, **own: Any) -> dict[str, Any]:
    known = {"open": close, "high": close, "low": close, "volume": 2.0, "quote_volume": None, "trade_count": 3}
    return {"exchange": "binance", "symbol": symbol, "time": _START + minute * MINUTE, "close": close} | known | own


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=_BARS)


def made_up(symbols: int = 3, minutes: int = 1440) -> pa.Table:
    chance = random.Random(5)
    rows = []
    for at in range(symbols):
        close = 100.0
        for minute in range(minutes):
            close *= math.exp(chance.gauss(0, 0.001))
            rows.append(bar(f"S{at}", minute, close, exchange=f"exchange-{at % 2}", quote_volume=close * 10))
    return table(rows)


def no_gaps() -> pa.Table:
    return _GAPS.empty_table()


def no_contracts() -> pa.Table:
    return _INSTRUMENTS.empty_table()


def test_what_is_traded_in_contracts_is_counted_in_money() -> None:
    rows = [bar(name, 0, 100.0, volume=30.0, quote_volume=3000.0) for name in ("inverse", "linear", "spot")]
    same = {"exchange": "binance", "quote": "USD"}
    known = [
        same | {"symbol": "inverse", "contract_size": 10.0, "contract_currency": "USD"},
        same | {"symbol": "linear", "contract_size": 0.01, "contract_currency": "BTC"},
        same | {"symbol": "spot", "contract_size": None, "contract_currency": None},
    ]
    units = units_of(pa.Table.from_pylist(known, schema=_INSTRUMENTS))
    found = {one.symbol: one.turnover for one in symbol_days(table(rows), _START, units)}
    assert found == {"inverse": 300.0, "linear": pytest.approx(30.0), "spot": 3000.0}


def test_what_a_day_says_of_a_symbol() -> None:
    rows = [bar("A", 0, 110.0, open=100.0, high=120.0), bar("A", 1, 90.0, low=80.0, quote_volume=500.0)]
    (one,) = symbol_days(table(rows[::-1]), _START)
    assert (one.first, one.last, one.high, one.low) == (100.0, 90.0, 120.0, 80.0)
    assert one.change == pytest.approx(-0.1)
    assert one.turnover == 2 * 110 + 500
    assert (one.trades, one.minutes) == (6, 2)
    assert math.isnan(one.rsi)
    assert math.isnan(one.volatility)
    assert one.course[-1] == (2 / 1440, pytest.approx(-0.1))


def test_what_nobody_says_is_no_zero() -> None:
    unsaid = {"volume": None, "trade_count": None}
    rows = [
        bar("A", 0, 1.0, exchange="yahoo", **unsaid), bar("A", 1, 2.0, exchange="yahoo", **unsaid),
        bar("B", 0, 1.0), bar("B", 1, 2.0, **unsaid),
    ]  # fmt: skip
    known, unknown = symbol_days(table(rows), _START)
    assert (known.turnover, known.trades) == (2.0, 3.0)
    assert math.isnan(unknown.turnover)
    assert math.isnan(unknown.trades)
    html = daily_report(_DAY, table(rows), no_gaps(), no_contracts())["html_en"]
    assert re.findall(r"<th scope=.row.>(.) ", html) == ["B", "A"]
    assert html.count('<td class="number">–</td><td class="number">–</td><td class="number">–</td></tr>') == 1
    assert "<dt>Trades</dt><dd>3</dd>" in html
    alone = daily_report(_DAY, table(rows[:2]), no_gaps(), no_contracts())["html_en"]
    assert "<dt>Trades</dt><dd>–</dd>" in alone


def test_symbols_of_the_same_name_on_two_exchanges_are_two() -> None:
    rows = [bar("A", n, 1.0 + n, exchange=exchange) for n in range(3) for exchange in ("okx", "binance")]
    assert [(one.exchange, one.minutes) for one in symbol_days(table(rows), _START)] == [("binance", 3), ("okx", 3)]


@given(st.lists(st.floats(1, 1000), max_size=60))
def test_rsi_is_that_of_the_plainest_reading(closes: list[float]) -> None:
    """Averages with Wilder's weights, from the first change on, each divided by the sum of its weights."""
    gained = lost = 0.0
    for before, after in pairwise(closes):
        gained = gained * 13 / 14 + max(after - before, 0)
        lost = lost * 13 / 14 + max(before - after, 0)
    found = rsi(closes)
    if len(closes) < 15 or gained + lost == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(100 * gained / (gained + lost), abs=1e-6)


def test_rsi_is_of_the_longest_bars_that_the_day_has() -> None:
    for minutes, called in ((1440, "1h"), (600, "15m"), (100, "5m"), (20, "1m"), (5, "")):
        (one,) = symbol_days(made_up(1, minutes), _START)
        assert one.rsi_of == called
        assert math.isnan(one.rsi) == (called == "")


def test_gaps_of_the_day_are_counted_once() -> None:
    rows = [
        {"exchange": "a", "opened": _START + 1, "closed": _START + 2, "missing": 0, "backfilled": 5},
        {"exchange": "a", "opened": _START - 9, "closed": _START + 2, "missing": 0, "backfilled": 7},
        {"exchange": "a", "opened": _START + 1, "closed": None, "missing": 4, "backfilled": 0},
        {"exchange": "b", "opened": _START + 1, "closed": _END + 2, "missing": None, "backfilled": 1},
        {"exchange": "c", "opened": _START - 9, "closed": _START - 2, "missing": 0, "backfilled": 1},
        {"exchange": "c", "opened": _END, "closed": None, "missing": 1, "backfilled": 0},
    ]
    rows = [{"from_ns": row["opened"], "to_ns": row["opened"]} | row for row in rows]
    found = exchange_gaps(pa.Table.from_pylist(rows, schema=_GAPS), _START, _END)
    assert [(g.exchange, g.opened, g.closed, g.still_open, g.missing, g.backfilled) for g in found] == [
        ("a", 2, 2, 1, 4, 12),
        ("b", 1, 0, 1, 0, 1),
    ]


def test_gaps_of_an_outage_over_midnight_belong_to_both_days_whenever_they_are_found() -> None:
    outage = {"from_ns": _END - 9, "to_ns": _END + 9, "opened": _END + 8}
    rows = [
        {"exchange": "a", **outage, "closed": None, "missing": 4, "backfilled": 0},
        {"exchange": "b", **outage, "closed": _END + 99, "missing": 0, "backfilled": 6},
    ]
    gaps = pa.Table.from_pylist(rows, schema=_GAPS)
    found = exchange_gaps(gaps, _START, _END)
    assert [(g.exchange, g.opened, g.closed, g.still_open, g.missing, g.backfilled) for g in found] == [
        ("a", 0, 0, 1, 4, 0),
        ("b", 0, 1, 0, 0, 6),
    ]
    assert "every trade" not in daily_report(_DAY, made_up(), gaps, no_contracts())["html_en"]
    assert [(g.exchange, g.opened) for g in exchange_gaps(gaps, _END, _END + DAY)] == [("a", 1), ("b", 1)]


def test_of_a_day_without_data_nothing_is_said_to_be_whole() -> None:
    assert "every trade" in daily_report(_DAY, made_up(1, 9), no_gaps(), no_contracts())["html_en"]
    said = daily_report(_DAY, _BARS.empty_table(), no_gaps(), no_contracts())
    assert "nothing can be said of gaps" in said["html_en"]
    assert said["summary_en"] == "No trades of this day are stored."


def test_the_same_tables_give_the_same_report_in_whatever_order() -> None:
    first = daily_report(_DAY, made_up(), no_gaps(), no_contracts())
    shuffled = made_up().take(np.random.default_rng(1).permutation(3 * 1440))
    assert daily_report(_DAY, shuffled, no_gaps(), no_contracts()) == first
    assert first["key"] == "daily-2026-01-30"


@pytest.mark.parametrize("rows", [made_up(), made_up(13, 60), made_up(120, 3), made_up(1, 1), _BARS.empty_table()])
def test_a_report_can_be_published_and_loses_nothing_to_the_sanitiser(rows: pa.Table) -> None:
    given_ = daily_report(_DAY, rows, no_gaps(), no_contracts())
    report, pages, _ = ReportBook([], 10, 10**9).published(given_, "ada", 0)
    assert (report.title_vi, report.title_en) == (
        "Báo cáo thị trường ngày 30/01/2026",
        "Market report of 30 January 2026",
    )
    for html in (pages.html_vi, pages.html_en):
        assert sanitised(html).count("<svg") == html.count("<svg")
        assert sanitised(sanitised(html)) == sanitised(html)
        assert re.findall(r'(?:class|id)="[^"]*"', sanitised(html)) == re.findall(r'(?:class|id)="[^"]*"', html)
        assert "nan" not in html.lower().replace("finance", "")
    assert len(sections(pages.html_vi)) == len(sections(pages.html_en)) > 1
    assert not set(sections(pages.html_vi)) & set(sections(pages.html_en))


def test_names_of_symbols_are_escaped() -> None:
    rows = [bar("<script>alert(1)</script>", minute, 1.0 + minute / 100) for minute in range(30)]
    given_ = daily_report(_DAY, table(rows), no_gaps(), no_contracts())
    assert "<script" not in given_["html_vi"] + given_["html_en"]
    assert "&lt;script&gt;" in given_["html_en"]


def test_the_summary_names_what_moved_most() -> None:
    rows = [
        bar(name, minute, 100 + minute * by) for name, by in (("UP", 1), ("FLAT", 0), ("DOWN", -2)) for minute in (0, 9)
    ]
    said = daily_report(_DAY, table(rows), no_gaps(), no_contracts())
    assert said["summary_en"].replace("\u00a0", " ") == (
        "1 symbols rose, 1 fell. Largest rise: UP · binance (+9.00 %); largest fall: DOWN · binance (−18.00 %)."
    )
    assert "(−18,00 %)" in said["summary_vi"]


def test_every_text_is_there_in_both_languages_and_used() -> None:
    for both in daily_texts.TEXTS.values():
        assert len(both) == 2
        assert all(text.strip() for text in both)
        assert sorted(re.findall(r"\{\w*\}", both[0])) == sorted(re.findall(r"\{\w*\}", both[1]))


@pytest.mark.parametrize(
    ("said", "vi", "en"),
    [
        (lambda language: number(1234567.891, language), "1.234.567,89", "1,234,567.89"),
        (lambda language: short(1.5e12, language), "1,50 nghìn tỷ", "1.50 T"),
        (lambda language: short(2.25e9, language), "2,25 tỷ", "2.25 B"),
        (lambda language: short(999_999, language), "999.999", "999,999"),
        (lambda language: price(0.1234567, language), "0,123457", "0.123457"),
        (lambda language: price(0.00812, language), "0,008120", "0.008120"),
        (lambda language: price(8.126e-6, language), "0,000008126", "0.000008126"),
        (lambda language: price(4.1e-7, language), "0,0000004100", "0.0000004100"),
        (lambda language: price(0.0, language), "0,000000", "0.000000"),
        (lambda language: percent(-0.0123, language), "−1,23 %", "−1.23 %"),
        (lambda language: percent(math.nan, language), "–", "–"),
    ],
)
def test_numbers_are_written_as_the_language_does(said: Any, vi: str, en: str) -> None:
    assert (said("vi"), said("en")) == (vi, en)


_NUMBERS = st.floats(-1e12, 1e12)


@given(
    st.lists(st.tuples(st.text(max_size=9), _NUMBERS), max_size=9),
    st.lists(st.lists(st.tuples(st.floats(0, 1), _NUMBERS), min_size=1, max_size=9), max_size=5),
    _NUMBERS,
)
def test_charts_are_whole_and_say_what_they_show(
    rows: list[tuple[str, float]], courses: list[list[tuple[float, float]]], value: float
) -> None:
    named = [Bar(label, one, f"<{one}>") for label, one in rows]
    drawn = [Line("a & b", points, "1 %") for points in courses]
    for chart in (
        bars("a", 'x" onload="y', named),
        lines("b", "<t>", drawn, [(0, "0"), (1, "1")], ["low", "high"]),
        gauge("c", "t", value, "50", [(30, "oversold"), (70, "neutral"), (100, "overbought")]),
    ):
        printable = re.sub(r"[^\x20-\uD7FF\uE000-\uFFFD]", "", str(chart))
        root = ElementTree.fromstring(printable)
        assert root.get("role") == "img"
        assert "onload" not in root.attrib
        ids = {element.get("id") for element in root}
        assert set(str(root.get("aria-labelledby")).split()) <= ids
        assert "nan" not in re.sub(r">[^<]*<", "><", printable)


def test_the_whole_day_is_drawn() -> None:
    (one,) = symbol_days(made_up(1), _START)
    assert one.course[0][0] == 1 / 1440
    assert one.course[-1] == (1.0, pytest.approx(one.change))
    assert len(one.course) <= 96
    assert DAY == 86_400 * 10**9
