"""Charts as inline SVG: bars around zero or from it, lines on one axis, and a gauge, each with a text that says the
same. Pure: numbers in, markup out. Colours are classes, which a style sheet gives a light and a dark value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

_WIDTH: Final = 720
_ROW: Final = 30
_LABEL: Final = 190
_VALUE: Final = 116


@dataclass(frozen=True, slots=True)
class Bar:
    """`shown` is its value as text."""

    label: str
    value: float
    shown: str


@dataclass(frozen=True, slots=True)
class Line:
    """Points as (position from 0 to 1, value), ascending; `shown` is the last value as text."""

    label: str
    points: Sequence[tuple[float, float]]
    shown: str


def bars(name: str, title: str, rows: Sequence[Bar]) -> Markup:
    """Horizontal bars in the order given, to the left where they are negative. `name` tells the charts of a page
    apart."""
    signed = any(row.value < 0 for row in rows)
    largest = max((abs(row.value) for row in rows), default=0.0) or 1.0
    height = _ROW * len(rows) + 8
    room = _WIDTH - _LABEL - _VALUE
    zero = _LABEL + (room / 2 if signed else 0)
    parts = [Markup('<line class="axis" x1="{0}" x2="{0}" y1="0" y2="{1}"></line>').format(_rounded(zero), height)]
    for at, row in enumerate(rows):
        length = abs(row.value) / largest * (room / 2 if signed else room)
        start = zero - length if row.value < 0 else zero
        kind = ("down" if row.value < 0 else "up") if signed else "flat"
        middle = at * _ROW + 19
        parts.append(
            Markup(
                '<text class="label" x="{}" y="{}" text-anchor="end">{}</text>'
                '<rect class="{}" x="{}" y="{}" width="{}" height="18" rx="3"></rect>'
                '<text class="value" x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(
                *(_LABEL - 10, middle, row.label),
                *(kind, _rounded(start), at * _ROW + 6, _rounded(max(1.0, length))),
                *(_WIDTH, middle, row.shown),
            )
        )
    said = "; ".join(f"{row.label} {row.shown}" for row in rows)
    return _chart(name, title, said, height, parts)


def lines(
    name: str, title: str, rows: Sequence[Line], ticks: Sequence[tuple[float, str]], shown: Sequence[str]
) -> Markup:
    """Lines over the same time. `ticks` are positions of the time axis with their texts, `shown` what the lowest and
    the highest value are called."""
    top, bottom, left, right = 12, 250, 84, _WIDTH - 8
    values = [value for row in rows for _, value in row.points] or [0.0]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def place(position: float, value: float) -> str:
        x = left + position * (right - left)
        y = bottom - (value - low) / spread * (bottom - top)
        return f"{_rounded(x)} {_rounded(y)}"

    parts = []
    for value, text in zip((low, high), shown, strict=True):
        y = bottom - (value - low) / spread * (bottom - top)
        parts.append(
            Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"></line>').format(left, right, *[_rounded(y)] * 2)
        )
        parts.append(
            Markup('<text class="value" x="{}" y="{}" text-anchor="end">{}</text>').format(
                left - 8, _rounded(y + 4), text
            )
        )
    if low < 0 < high:
        middle = _rounded(bottom + low / spread * (bottom - top))
        parts.append(
            Markup('<line class="zero" x1="{}" x2="{}" y1="{}" y2="{}"></line>').format(left, right, middle, middle)
        )
    for position, text in ticks:
        anchor = "start" if position <= 0 else "end" if position >= 1 else "middle"
        at = _rounded(left + position * (right - left))
        parts.append(
            Markup('<text class="label" x="{}" y="{}" text-anchor="{}">{}</text>').format(at, bottom + 22, anchor, text)
        )
    legend, x, y = [], left, bottom + 50
    for number, row in enumerate(rows, 1):
        path = "L".join(place(*point) for point in row.points)
        parts.append(Markup('<path class="line line-{}" d="M{}" fill="none"></path>').format(number, path))
        width = 34 + 8 * (len(row.label) + len(row.shown))
        if x + width > right:
            x, y = left, y + 24
        legend.append(
            Markup(
                '<rect class="key-{}" x="{}" y="{}" width="12" height="12" rx="3"></rect>'
                '<text class="legend" x="{}" y="{}">{} <tspan class="value">{}</tspan></text>'
            ).format(number, x, y - 10, x + 18, y, row.label, row.shown)
        )
        x += width + 18
    said = "; ".join(f"{row.label} {row.shown}" for row in rows)
    return _chart(name, title, said, y + 12, [*parts, *legend])


def gauge(name: str, title: str, value: float, shown: str, bands: Sequence[tuple[float, str]]) -> Markup:
    """A value from 0 to 100 on a half circle of `bands`: their ends and classes."""
    parts, start = [], 0.0
    for end, kind in bands:
        parts.append(Markup('<path class="band {}" d="{}" fill="none"></path>').format(kind, _arc(start, end)))
        start = end
    x, y = _on_circle(min(100.0, max(0.0, value)), 62)
    parts.append(Markup('<line class="needle" x1="100" y1="100" x2="{}" y2="{}"></line>').format(x, y))
    parts.append(Markup('<circle class="hub" cx="100" cy="100" r="6"></circle>'))
    parts.append(Markup('<text class="reading" x="100" y="138" text-anchor="middle">{}</text>').format(shown))
    return _chart(name, title, shown, 146, parts, 200)


def _chart(name: str, title: str, said: str, height: float, parts: Sequence[Markup], width: int = _WIDTH) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{name}-title {name}-text">'
        '<title id="{name}-title">{}</title><desc id="{name}-text">{}</desc>{}</svg>'
    ).format(width, _rounded(height), title, said, Markup().join(parts), name=name)


def _on_circle(value: float, radius: float) -> tuple[str, str]:
    angle = math.pi * (1 - value / 100)
    return _rounded(100 + radius * math.cos(angle)), _rounded(100 - radius * math.sin(angle))


def _arc(start: float, end: float) -> str:
    first, last = _on_circle(start, 82), _on_circle(end, 82)
    return f"M{' '.join(first)}A82 82 0 0 1 {' '.join(last)}"


def _rounded(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
