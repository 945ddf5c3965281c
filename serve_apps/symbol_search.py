"""Finds instruments by what people type (`btc`, `BTCUSDT`, `BTC-USD`, `eth usdt perp`): the same answer for the same
lists, whatever their order. Pure.

Every term of a query has to fit an instrument. How well is a score, on the scale of the server this replaces: 150 the
whole name, 140 both currencies the other way round, and less for each term: 100 the base, 90 the quote, 80 other words
(kind, expiry, exchange, name of a currency), 60 the beginning of one, 40 a part of one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from actors.feeds.instruments import currency
from serve_apps.symbol_words import CURRENCY_NAMES, FIAT, KIND_WORDS, QUOTE_ORDER, guessed
from storage.column_layout import folder_name

MOST_RESULTS: Final = 20
MOST_TERMS: Final = 8
LONGEST_QUERY: Final = 100

_WHOLE, _REVERSED, _BASE, _QUOTE, _WORD, _BEGINNING, _PART = 150.0, 140.0, 100.0, 90.0, 80.0, 60.0, 40.0
_SEPARATORS: Final = re.compile(r"[\W_]+")
_KIND_ORDER: Final = ("spot", "perpetual", "future", "option", "other")


@dataclass(slots=True)
class Found:
    """An instrument and where it is: exchange -> its symbols as on disk, and whether rows of them are stored."""

    name: str
    kind: str
    base: str
    quote: str
    expiry: int | None = None
    strike: float | None = None
    option_type: str | None = None
    symbols: dict[tuple[str, str], bool] = field(default_factory=dict)


class SymbolIndex:
    """Of `listed` (exchange -> rows of `storage.schema.INSTRUMENTS`) those that are active, and of `stored` (exchange
    -> native symbols with column files) all."""

    def __init__(self, listed: Mapping[str, Iterable[Mapping[str, Any]]], stored: Mapping[str, Iterable[str]]) -> None:
        self._found: dict[str, Found] = {}
        known = {exchange: frozenset(symbols) for exchange, symbols in stored.items()}
        named = set()
        for exchange, rows in listed.items():
            for row in rows:
                is_stored = row["symbol"] in known.get(exchange, ())
                if row["active"] or is_stored:
                    named.add((exchange, row["symbol"]))
                    self._add(exchange, row, is_stored)
        for exchange, symbols in known.items():
            for symbol in symbols:
                if (exchange, symbol) not in named:
                    self._add(exchange, {"symbol": symbol, **guessed(symbol)}, True)
        self._order = sorted(self._found.values(), key=_rank)
        self._places: dict[str, dict[int, float]] = {}
        for place, found in enumerate(self._order):
            for word, score in _words(found):
                scores = self._places.setdefault(word, {})
                scores[place] = max(score, scores.get(place, 0.0))

    def __len__(self) -> int:
        return len(self._order)

    def search(self, query: str) -> list[dict[str, Any]]:
        """At most `MOST_RESULTS` results, best first."""
        terms = [term for term in _SEPARATORS.split(query[:LONGEST_QUERY].lower()) if term][:MOST_TERMS]
        if not terms:
            return []
        scores = self._fitting(terms)
        whole = self._places.get("".join(terms), {})
        for place, score in whole.items():
            if score == _WHOLE:
                scores[place] = _WHOLE
        if len(terms) == 2:
            for place, score in self._places.get("".join(reversed(terms)), {}).items():
                if score == _WHOLE and place in scores:
                    scores[place] = max(scores[place], _REVERSED)
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_RESULTS]
        return [_result(self._order[place], score) for place, score in best]

    def _fitting(self, terms: Sequence[str]) -> dict[int, float]:
        """The mean score of all terms, of instruments that each of them fits."""
        by_term = [self._of_term(term) for term in terms]
        first, *others = sorted(by_term, key=len)
        return {
            place: sum(scores[place] for scores in by_term) / len(terms)
            for place in first
            if all(place in scores for scores in others)
        }

    def _of_term(self, term: str) -> dict[int, float]:
        scores: dict[int, float] = {}
        for word, places in self._places.items():
            if term in word:
                for place, score in places.items():
                    fits = min(score, _BEGINNING if word.startswith(term) else _PART)
                    if fits > scores.get(place, 0.0):
                        scores[place] = fits
        for word in {term, currency(term).lower()}:
            for place, score in self._places.get(word, {}).items():
                if score > scores.get(place, 0.0):
                    scores[place] = score
        return scores

    def _add(self, exchange: str, row: Mapping[str, Any], is_stored: bool) -> None:
        try:
            symbol = folder_name(row["symbol"])
        except ValueError:
            return  # nothing of it can be stored
        name = row["instrument"]
        if name not in self._found:
            self._found[name] = Found(
                name, row["kind"], row["base"], row["quote"], row.get("expiry"), row.get("strike"),
                row.get("option_type"),
            )  # fmt: skip
        symbols = self._found[name].symbols
        symbols[exchange, symbol] = is_stored or symbols.get((exchange, symbol), False)


def _rank(found: Found) -> tuple[Any, ...]:
    """Where instruments fit alike: what is stored, spot, what most exchanges have, in usual money."""
    return (
        not any(found.symbols.values()),
        _KIND_ORDER.index(found.kind),
        -len({exchange for exchange, _ in found.symbols}),
        QUOTE_ORDER.index(found.quote) if found.quote in QUOTE_ORDER else len(QUOTE_ORDER),
        len(found.name),
        found.name,
    )


def _words(found: Found) -> Iterable[tuple[str, float]]:
    """Lower-case words an instrument is known by, and what each is worth as a term."""
    yield found.base.lower(), _BASE
    yield found.quote.lower() or "-", _QUOTE
    yield _compact(found.name), _WHOLE
    for exchange, symbol in found.symbols:
        yield exchange, _WORD
        yield _compact(symbol), _WHOLE
    for code in (found.base, found.quote):
        for word in CURRENCY_NAMES.get(code, "").lower().split():
            yield word, _WORD
    for word in KIND_WORDS[found.kind]:
        yield word, _WORD
    if found.expiry is not None:
        yield f"{_expiry(found.expiry):%Y%m%d}", _WORD
    if found.strike is not None:
        yield f"{found.strike:.12g}", _WORD
    if found.option_type is not None:
        yield found.option_type, _WORD


def _compact(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


def _expiry(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC)


def _result(found: Found, score: float) -> dict[str, Any]:
    pair = f"{found.base}/{found.quote}" if found.quote else found.base
    details = [] if found.kind in ("spot", "other") else [found.kind.capitalize()]
    if found.expiry is not None:
        details.append(f"{_expiry(found.expiry):%Y-%m-%d}")
    if found.strike is not None:
        details.append(f"{found.strike:.12g}")
    if found.option_type is not None:
        details.append(found.option_type)
    base, quote = (CURRENCY_NAMES.get(code, code) for code in (found.base, found.quote))
    return {
        "base": found.base,
        "category": "forex" if {found.base, found.quote} <= FIAT else "crypto",
        "description": f"{base} in {quote}, {found.kind}" if quote else f"{base}, {found.kind}",
        "display_name": " ".join([pair, *details]) if found.kind != "other" else found.name,
        "exchanges": [
            {"exchange": exchange, "stored": stored, "symbol": symbol}
            for (exchange, symbol), stored in sorted(found.symbols.items())
        ],
        "kind": found.kind,
        "normalized_id": found.name,
        "quote": found.quote,
        "relevance_score": score,
    }
