"""What of the HTML of a report is let through: text, tables and inline SVG, by a parser (nh3) that writes anew what it
allows. Pure.
"""

import re
from html.parser import HTMLParser
from typing import Final

import nh3

#: Headings that the contents of a report list.
MOST_SECTIONS: Final = 12
_TEXT_TAGS: Final = (
    "a abbr article aside b blockquote br canvas caption cite code col colgroup dd del details dfn div dl dt em "
    "figcaption figure footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark meter ol p pre progress q s samp "
    "section small span strong sub summary sup table tbody td tfoot th thead time tr u ul var"
)
_SVG_TAGS: Final = (
    "svg g path rect circle ellipse line polyline polygon text tspan title desc defs linearGradient radialGradient "
    "stop clipPath marker"
)
_EVERYWHERE: Final = "class id title lang dir role tabindex style hidden"
_SVG: Final = (
    "clip-path clip-rule cx cy d dominant-baseline dx dy fill fill-opacity fill-rule focusable font-family font-size "
    "font-weight fx fy gradientTransform gradientUnits height markerHeight markerUnits markerWidth offset opacity "
    "orient pathLength points preserveAspectRatio r refX refY rx ry spreadMethod stop-color stop-opacity stroke "
    "stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity stroke-width "
    "text-anchor transform vector-effect viewBox width x x1 x2 y y1 y2"
)
_OWN: Final = {
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "canvas": {"width", "height"},
    "col": {"span"},
    "colgroup": {"span"},
    "details": {"open"},
    "li": {"value"},
    "meter": {"value", "min", "max", "low", "high", "optimum"},
    "ol": {"start", "reversed", "type"},
    "progress": {"value", "max"},
    "td": {"colspan", "rowspan", "headers"},
    "th": {"colspan", "rowspan", "headers", "scope", "abbr"},
    "time": {"datetime"},
}
_LINK: Final = re.compile(r"(?:#|https?://|mailto:)", re.IGNORECASE)
_PICTURE: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
_SPACES: Final = re.compile(r"\s+")
#: What XML, which feeds are written in, cannot hold.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
#: Words go on after these.
_WITHIN_WORDS: Final = frozenset(
    [
        "a",
        "abbr",
        "b",
        "cite",
        "code",
        "del",
        "dfn",
        "em",
        "i",
        "ins",
        "kbd",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "u",
    ]
)


def _allowed(tag: str, name: str, value: str) -> str | None:
    if (tag, name) == ("a", "href"):
        return value if _LINK.match(value) else None
    if (tag, name) == ("img", "src"):
        return value if _PICTURE.fullmatch(value) else None
    return value


_CLEANER: Final = nh3.Cleaner(
    tags={*_TEXT_TAGS.split(), *_SVG_TAGS.split()},
    clean_content_tags={"script", "style", "template", "noscript", "noembed", "noframes", "iframe", "object", "math"},
    attributes={"*": {*_EVERYWHERE.split()}, **_OWN, **{tag: {*_SVG.split()} for tag in _SVG_TAGS.split()}},
    attribute_filter=_allowed,
    generic_attribute_prefixes={"aria-", "data-"},
    url_schemes={"http", "https", "mailto", "data"},
    link_rel="noopener noreferrer",
)


def sanitised(html: str) -> str:
    """The HTML of a report without what it may not have: scripts, handlers, forms, frames, and addresses from which
    something would be loaded."""
    return _CLEANER.clean(html)


def sections(html: str) -> list[str]:
    """The headings (h2) of sanitised HTML, as text."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return [_joined(heading) or "·" for heading in reader.headings][:MOST_SECTIONS]


def plain_text(html: str, most: int) -> str:
    """The words of sanitised HTML without those of pictures; cut at a word, with "…", where they have more than `most`
    characters."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    text = _joined(reader.words)
    if len(text) <= most:
        return text
    return text[: most - 1].rpartition(" ")[0].rstrip(" ,.;:") + "…"


class _Reader(HTMLParser):
    """Text and headings, without what is inside pictures."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.headings: list[list[str]] = []
        self._pictures = 0
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._pictures += tag == "svg"
        if tag == "h2" and not self._pictures:
            self._in_heading = True
            self.headings.append([])
        self._apart(tag)

    def handle_endtag(self, tag: str) -> None:
        self._pictures -= tag == "svg" and self._pictures > 0
        if tag == "h2":
            self._in_heading = False
        self._apart(tag)

    def handle_data(self, data: str) -> None:
        if self._pictures:
            return
        self.words.append(data)
        if self._in_heading:
            self.headings[-1].append(data)

    def _apart(self, tag: str) -> None:
        if tag not in _WITHIN_WORDS:
            self.words.append(" ")


def _joined(words: list[str]) -> str:
    return _SPACES.sub(" ", _CONTROLS.sub(" ", "".join(words))).strip()
