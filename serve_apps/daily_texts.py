"""Every text of the daily report, in both languages, and how they write numbers."""

import math
from collections.abc import Mapping
from typing import Final

from serve_apps.reports_language import LANGUAGES, Language

#: By name: Vietnamese, English. `{}` stands for what is filled in.
TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "title": ("Báo cáo thị trường ngày {day}", "Market report of {day}"),
    "summary": (
        "{up} mã tăng, {down} mã giảm. Tăng mạnh nhất: {best} ({best_change}); giảm mạnh nhất: {worst} "
        "({worst_change}).",
        "{up} symbols rose, {down} fell. Largest rise: {best} ({best_change}); largest fall: {worst} ({worst_change}).",
    ),
    "summary_one": ("{best}: {best_change} trong ngày.", "{best}: {best_change} over the day."),
    "summary_none": ("Không có giao dịch nào của ngày này được lưu.", "No trades of this day are stored."),
    "overview": ("Tổng quan", "Overview"),
    "until": (
        "Số liệu từ {begin} đến {end} UTC, tính từ các nến một phút của hệ thống này.",
        "Figures from {begin} to {end} UTC, made from this system's own one-minute bars.",
    ),
    "symbols": ("Mã giao dịch", "Symbols"),
    "exchanges": ("Sàn", "Exchanges"),
    "rose": ("Tăng", "Rose"),
    "fell": ("Giảm", "Fell"),
    "all_trades": ("Giao dịch", "Trades"),
    "moves": ("Biến động giá", "Price moves"),
    "moves_chart": ("Thay đổi giá trong ngày theo mã", "Change of price over the day by symbol"),
    "course": ("Diễn biến trong ngày", "The course of the day"),
    "course_chart": (
        "Thay đổi giá kể từ đầu ngày của các mã có giá trị giao dịch lớn nhất",
        "Change of price since the beginning of the day, of the symbols with the highest turnover",
    ),
    "turnover": ("Giá trị giao dịch", "Turnover"),
    "turnover_chart": ("Giá trị giao dịch theo mã, bằng đồng yết giá", "Turnover by symbol, in the quote currency"),
    "momentum": ("Động lượng (RSI 14)", "Momentum (RSI 14)"),
    "momentum_about": (
        "RSI dưới 30 được gọi là quá bán, trên 70 là quá mua; tính từ nến {of}.",
        "An RSI below 30 is called oversold, above 70 overbought; of {of} bars.",
    ),
    "no_rsi": ("Ngày này chưa có đủ nến để tính RSI.", "The day has too few bars for an RSI."),
    "details": ("Tất cả các mã", "All symbols"),
    "exchange": ("Sàn", "Exchange"),
    "symbol": ("Mã", "Symbol"),
    "last": ("Giá cuối", "Last"),
    "change": ("Thay đổi", "Change"),
    "high": ("Cao nhất", "High"),
    "low": ("Thấp nhất", "Low"),
    "volatility": ("Biến động/ngày", "Volatility/day"),
    "trades": ("Giao dịch", "Trades"),
    "more": ("và {count} mã khác", "and {count} more"),
    "integrity": ("Độ tin cậy của dữ liệu", "How far the data can be trusted"),
    "no_gaps": (
        "Không có khoảng trống nào trong ngày: mọi giao dịch của các sàn đều đã được nhận kể từ khi bắt đầu thu thập.",
        "There were no gaps on this day: every trade of the exchanges was received since collecting began.",
    ),
    "some_gaps": (
        "{opened} khoảng trống mới, {closed} đã đóng, {open} còn mở; {backfilled} giao dịch đã được bổ sung.",
        "{opened} new gaps, {closed} closed, {open} still open; {backfilled} trades were filled in.",
    ),
    "nothing_said": (
        "Không có dữ liệu nào của ngày này, nên không thể nói gì về khoảng trống.",
        "Nothing of this day is stored, so nothing can be said of gaps.",
    ),
    "opened": ("Mới mở", "Opened"),
    "closed": ("Đã đóng", "Closed"),
    "still_open": ("Còn mở", "Still open"),
    "missing": ("Còn thiếu", "Missing"),
    "backfilled": ("Đã bổ sung", "Filled in"),
}
_UNITS: Final = ((1e12, " nghìn tỷ", "T"), (1e9, " tỷ", "B"), (1e6, " triệu", "M"))
NOTHING: Final = "–"


def texts(language: Language) -> dict[str, str]:
    """All of them in one language."""
    at = LANGUAGES.index(language)
    return {name: both[at] for name, both in TEXTS.items()}


def number(value: float, language: Language, decimals: int = 2) -> str:
    """With so many decimals."""
    if math.isnan(value):
        return NOTHING
    text = f"{value:,.{decimals}f}"
    return text.translate(str.maketrans(",.", ".,")) if language == "vi" else text


def price(value: float, language: Language) -> str:
    """Two decimals, more of what is small: four digits of whatever it is."""
    size = abs(value)
    if 0 < size < 0.01:
        return number(value, language, min(20, 3 - math.floor(math.log10(size))))
    return number(value, language, 2 if size >= 10 else 4 if size >= 1 else 6)


def percent(fraction: float, language: Language) -> str:
    """With its sign."""
    if math.isnan(fraction):
        return NOTHING
    return f"{'+' if fraction > 0 else ''}{number(100 * fraction, language)} %".replace("-", "−")


def short(value: float, language: Language) -> str:
    """In thousands of millions and the like."""
    for unit, vi, en in _UNITS:
        if abs(value) >= unit:
            return number(value / unit, language) + (vi if language == "vi" else f" {en}")
    return number(value, language, 0)
