"""The report of a day, from its bars and gaps: what moved, how much was traded, how nervous it was, and how far the
data can be trusted. Pure and deterministic: the same tables give the same report, in both languages.
"""

import math
from datetime import UTC, date, datetime
from typing import Any, Final

import jinja2
import numpy as np
import pyarrow as pa

from serve_apps import daily_texts
from serve_apps.bands import BANDS, band
from serve_apps.daily_numbers import DAY, MINUTE, SymbolDay, exchange_gaps, symbol_days, units_of
from serve_apps.daily_texts import number, percent, price, short
from serve_apps.report_charts import Bar, Line, bars, gauge, lines
from serve_apps.reports_frame import TEMPLATES
from serve_apps.reports_language import LANGUAGES, Language

#: What is asked of the database: bars of a minute and gaps, between two times in ns.
BARS_SQL: Final = (
    "SELECT exchange, symbol, time, open, high, low, close, volume, quote_volume, trade_count FROM bars FINAL"
    " WHERE timeframe = '1m' AND time >= {start:Int64} AND time < {end:Int64}"
)
GAPS_SQL: Final = (
    "SELECT exchange, from_ns, to_ns, opened, closed, missing, backfilled FROM gaps FINAL"
    " WHERE (opened < {end:Int64} AND (closed IS NULL OR closed >= {start:Int64}))"
    " OR (from_ns < {end:Int64} AND to_ns >= {start:Int64})"
)
SYMBOLS_SQL: Final = "SELECT exchange, symbol, quote, contract_size, contract_currency FROM symbols FINAL"
_MOVERS: Final = 12
_TRADED: Final = 10
_LINES: Final = 5
_GAUGES: Final = 6
_ROWS: Final = 100

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def span_of(day: date) -> tuple[int, int]:
    """Its first ns, and the first of the next."""
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000_000
    return start, start + DAY


def daily_report(day: date, bars_of_day: pa.Table, gaps: pa.Table, instruments: pa.Table) -> dict[str, Any]:
    """What is given to publish it (`actors.report_book.Given`); a second one of the same day takes the place of the
    first. The tables are those of `BARS_SQL`, `GAPS_SQL` and `SYMBOLS_SQL`."""
    start, end = span_of(day)
    found = symbol_days(bars_of_day, start, units_of(instruments))
    times = bars_of_day["time"].to_numpy()
    first, last = (int(times.min()), int(times.max()) + MINUTE) if len(times) else (start, start)
    given: dict[str, Any] = {"key": f"daily-{day.isoformat()}", "css": (TEMPLATES / "daily.css").read_text("utf-8")}
    for language in LANGUAGES:
        t = daily_texts.texts(language)
        given[f"title_{language}"] = t["title"].format(day=_day(day, language))
        given[f"summary_{language}"] = _summary(found, t, language)
        given[f"html_{language}"] = _templates.get_template("daily.html").render(
            t=t,
            until=t["until"].format(begin=_clock(first), end=_clock(last, end=bars_of_day.num_rows > 0)),
            tiles=_tiles(found, t, language),
            charts=_charts(found, t, language),
            gauges=_gauges(found, language),
            momentum=t["momentum_about"].format(of=", ".join(sorted({one.rsi_of for one in found if one.rsi_of}))),
            rows=[_row(one, language) for one in _by_turnover(found)[:_ROWS]],
            more=t["more"].format(count=len(found) - _ROWS) if len(found) > _ROWS else "",
            gaps=_gap_rows(gaps, start, end, language),
            gaps_said=_gaps_said(gaps, start, end, t, language, collected=bool(found)),
        )
    return given


def _summary(found: list[SymbolDay], t: dict[str, str], language: Language) -> str:
    moved = sorted((one for one in found if not math.isnan(one.change)), key=lambda one: one.change)
    if not moved:
        return t["summary_none"]
    best, worst = moved[-1], moved[0]
    return t["summary" if len(moved) > 1 else "summary_one"].format(
        up=sum(one.change > 0 for one in moved),
        down=sum(one.change < 0 for one in moved),
        best=_name(best),
        best_change=percent(best.change, language),
        worst=_name(worst),
        worst_change=percent(worst.change, language),
    )


def _tiles(found: list[SymbolDay], t: dict[str, str], language: Language) -> list[tuple[str, str]]:
    trades = [one.trades for one in found if not math.isnan(one.trades)]
    return [
        (t["symbols"], number(len(found), language, 0)),
        (t["exchanges"], number(len({one.exchange for one in found}), language, 0)),
        (t["rose"], number(sum(one.change > 0 for one in found), language, 0)),
        (t["fell"], number(sum(one.change < 0 for one in found), language, 0)),
        (t["all_trades"], number(sum(trades) if trades else math.nan, language, 0)),
    ]


def _charts(found: list[SymbolDay], t: dict[str, str], language: Language) -> dict[str, Any]:
    moved = sorted((one for one in found if not math.isnan(one.change)), key=lambda one: -abs(one.change))[:_MOVERS]
    moved.sort(key=lambda one: -one.change)
    traded = _by_turnover(found)
    drawn = [one for one in traded if len(one.course) > 1][:_LINES]
    changes = [value for one in drawn for _, value in one.course] or [0.0]
    ends = [position for one in drawn for position, _ in one.course] or [0.0, 1.0]
    begin, length = min(ends), max(max(ends) - min(ends), 1e-9)
    ticks = [
        (part, _clock(round((begin + part * length) * DAY) - MINUTE * (part == 0), end=part > 0))
        for part in (0.0, 0.5, 1.0)
    ]
    courses = [
        Line(
            _name(one),
            [((position - begin) / length, value) for position, value in one.course],
            percent(one.change, language),
        )
        for one in drawn
    ]
    return {
        "moves": bars(
            "moves", t["moves_chart"], [Bar(_name(one), one.change, percent(one.change, language)) for one in moved]
        ),
        "turnover": bars(
            "turnover",
            t["turnover_chart"],
            [
                Bar(_name(one), one.turnover, short(one.turnover, language))
                for one in traded[:_TRADED]
                if not math.isnan(one.turnover)
            ],
        ),
        "course": lines(
            "course",
            t["course_chart"],
            courses,
            ticks,
            [percent(min(changes), language), percent(max(changes), language)],
        )
        if courses
        else None,
    }


def _gauges(found: list[SymbolDay], language: Language) -> list[dict[str, Any]]:
    ends = [(100.0 if one.below is None else one.below, one.name) for one in BANDS["rsi"]]
    gauges = []
    for at, one in enumerate([one for one in _by_turnover(found) if not math.isnan(one.rsi)][:_GAUGES], 1):
        called = band("rsi", one.rsi)
        shown = number(one.rsi, language, 1)
        title = f"RSI {_name(one)}: {shown}, {getattr(called, language)}"
        gauges.append(
            {
                "symbol": one.symbol,
                "exchange": one.exchange,
                "band": getattr(called, language),
                "kind": called.name,
                "chart": gauge(f"rsi-{at}", title, one.rsi, shown, ends),
            }
        )
    return gauges


def _row(one: SymbolDay, language: Language) -> dict[str, Any]:
    return {
        "exchange": one.exchange,
        "symbol": one.symbol,
        "last": price(one.last, language),
        "change": percent(one.change, language),
        "way": "up" if one.change > 0 else "down" if one.change < 0 else "",
        "high": price(one.high, language),
        "low": price(one.low, language),
        "turnover": short(one.turnover, language),
        "volatility": percent(one.volatility, language).removeprefix("+"),
        "trades": number(one.trades, language, 0),
        "rsi": number(one.rsi, language, 1),
    }


def _gap_rows(gaps: pa.Table, start: int, end: int, language: Language) -> list[list[str]]:
    return [
        [one.exchange, *(number(getattr(one, name), language, 0) for name in _GAP_COLUMNS)]
        for one in exchange_gaps(gaps, start, end)
    ]


_GAP_COLUMNS: Final = ("opened", "closed", "still_open", "missing", "backfilled")


def _gaps_said(gaps: pa.Table, start: int, end: int, t: dict[str, str], language: Language, collected: bool) -> str:
    counted = exchange_gaps(gaps, start, end)
    if not counted:
        return t["no_gaps" if collected else "nothing_said"]
    sums = {name: number(sum(getattr(one, name) for one in counted), language, 0) for name in _GAP_COLUMNS}
    return t["some_gaps"].format(open=sums["still_open"], **sums)


def _by_turnover(found: list[SymbolDay]) -> list[SymbolDay]:
    """The highest first, those of which it is not known last."""
    return sorted(found, key=lambda one: (-np.nan_to_num(one.turnover, nan=-1.0), one.exchange, one.symbol))


def _name(one: SymbolDay) -> str:
    # Not to be broken into two lines.
    return f"{one.symbol}\u00a0·\u00a0{one.exchange}"


def _day(day: date, language: Language) -> str:
    return f"{day:%d/%m/%Y}" if language == "vi" else f"{day.day} {day:%B %Y}"


def _clock(ns: int, end: bool = False) -> str:
    """`end`: midnight is that at the end of the day."""
    minutes = ns // MINUTE % 1440 or (1440 if end else 0)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
