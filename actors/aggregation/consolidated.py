"""The best bid and ask of each instrument over all exchanges that have it.

Of every symbol of every exchange the newest quote is held, by (ts_event, sequence): the same one in whatever order and
batches they came. It counts while it comes from a connection that lives and is not too old; time is passed in, and so
is what connections say of themselves. Bids above asks of other exchanges are shown as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from actors.feeds.instruments import Kind
from storage.schema import CONSOLIDATED, QUOTED, QUOTES, symbols_of

#: What is consolidated; no exchange has the options of another.
KINDS: Final[tuple[Kind, ...]] = ("spot", "perpetual")

#: Why a quote does not count. removed: its symbol is not collected any more. dead: its connection does not stream, or
#: nothing came by it for too long. waiting: none has come since the connection lives. invalid: a price or size that
#: cannot be, or a bid that is not below the ask.
LEFT_OUT: Final = ("", "removed", "dead", "waiting", "stale", "invalid")
COUNTS, REMOVED, DEAD, WAITING, STALE, INVALID = range(len(LEFT_OUT))

NEVER: Final = np.iinfo(np.int64).max
NOWHERE: Final = np.iinfo(np.int64).min
#: Its instrument is not known (yet), or none of KINDS.
UNLISTED: Final = -1
NOT_OURS: Final = -2

#: A symbol of an exchange with its newest quote. `void`: whatever comes next takes the place of the quote. A unit of
#: size is worth `unit` of the base currency (of the quote currency where `unit_in_quote`). Quotes count that were
#: received from `since` on, and after `broken`; until `heard` all that was received has come here.
LISTING: Final = np.dtype(
    [
        ("group", "<i4"),
        ("exchange", "<i4"),
        ("ts_event", "<i8"),
        ("sequence", "<i8"),
        ("ts_recv", "<i8"),
        ("bid_price", "<f8"),
        ("bid_size", "<f8"),
        ("ask_price", "<f8"),
        ("ask_size", "<f8"),
        ("unit", "<f8"),
        ("since", "<i8"),
        ("broken", "<i8"),
        ("heard", "<i8"),
        ("unit_in_quote", "?"),
        ("collected", "?"),
        ("void", "?"),
    ],
    align=True,
)
_TAKEN: Final = ("ts_recv", "bid_price", "bid_size", "ask_price", "ask_size")
_ROOM: Final = 64

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Reception:
    """What comes by one connection: its state, until when (ns) all that came was handed on, and since when each of its
    symbols comes without a break."""

    state: str
    heard_ns: int
    since: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is the same on all exchanges that have it; `name` is unique."""

    name: str
    kind: Kind
    base: str
    quote: str
    settle: str | None
    inverse: bool


class View(NamedTuple):
    """How all listings stand at `now_ns`, by their place: `left_out` (place in LEFT_OUT) and sizes in the base currency
    (NaN where unknown); and of each instrument the listings with the best bid and ask (-1: none) and how many exchanges
    count. Good until the next quotes are taken."""

    now_ns: int
    left_out: Array
    bid_size: Array
    ask_size: Array
    bid: Array
    ask: Array
    exchanges: Array


class _Layout(NamedTuple):
    """The places of listed symbols by (instrument, exchange, symbol), and with them their names."""

    order: Array
    exchanges: Any
    symbols: Any
    #: Instruments by name.
    groups: Array


@njit(cache=True)
def hold_newest(codes, places, ts_event, sequence, listings, chosen):  # type: ignore[no-untyped-def]
    """Of each symbol (its place in `places`, by code) choose the newest row, where it is newer than what is held."""
    for row in range(len(codes)):
        place = places[codes[row]]
        one = listings[place]
        ts, number = ts_event[row], sequence[row]
        if one.void or ts > one.ts_event or (ts == one.ts_event and number > one.sequence):
            one.void = False
            one.ts_event = ts
            one.sequence = number
            chosen[place] = row


@njit(cache=True)
def _why(one, now_ns, max_age_ns, silence_ns):  # type: ignore[no-untyped-def]
    if not one.collected:
        return REMOVED
    if one.since == NEVER or one.heard < now_ns - silence_ns:
        return DEAD
    if one.ts_recv < one.since or one.ts_recv <= one.broken:
        return WAITING
    if min(one.ts_event, one.ts_recv) < now_ns - max_age_ns:
        return STALE
    # A size that is not known (NaN) is none that cannot be.
    if not (0.0 < one.bid_price < one.ask_price < np.inf) or one.bid_size <= 0.0 or one.ask_size <= 0.0:
        return INVALID
    return COUNTS


@njit(cache=True)
def _in_base(one, size, price):  # type: ignore[no-untyped-def]
    if not one.unit_in_quote:
        return size * one.unit
    return size * one.unit / price if price > 0.0 else np.nan


@njit(cache=True)
def judge(listings, order, now_ns, max_age_ns, silence_ns, left_out, bid_size, ask_size, bid, ask, exchanges):  # type: ignore[no-untyped-def]
    """Fill a View; `exchanges` gets a bit for each. Of equal prices the larger known size is better, then the first in
    `order`. A quote that will never count again is void."""
    left_out[:] = REMOVED
    bid_size[:] = ask_size[:] = np.nan
    bid[:] = ask[:] = -1
    exchanges[:] = 0
    for place in order:
        one = listings[place]
        why = left_out[place] = _why(one, now_ns, max_age_ns, silence_ns)
        if why in (WAITING, STALE):
            one.void = True
        bid_size[place] = _in_base(one, one.bid_size, one.bid_price)
        ask_size[place] = _in_base(one, one.ask_size, one.ask_price)
        if why != COUNTS:
            continue
        exchanges[one.group] |= np.uint64(1) << np.uint64(one.exchange)
        best = bid[one.group]
        if best < 0 or _better(one.bid_price, listings[best].bid_price, bid_size[place], bid_size[best]):
            bid[one.group] = place
        best = ask[one.group]
        if best < 0 or _better(listings[best].ask_price, one.ask_price, ask_size[place], ask_size[best]):
            ask[one.group] = place


@njit(cache=True)
def _better(high, low, size, than):  # type: ignore[no-untyped-def]
    return high > low or (high == low and (size > than or (np.isnan(than) and not np.isnan(size))))


class Consolidated:
    """Quotes count for `max_age_ns`, and while something came by their connection within `silence_ns`."""

    def __init__(self, max_age_ns: int, silence_ns: int) -> None:
        self._max_age_ns = max_age_ns
        self._silence_ns = silence_ns
        self._listings: Array = np.zeros(_ROOM, LISTING)
        #: By place.
        self._names: list[tuple[str, str]] = []
        self._places: dict[str, dict[str, int]] = {}
        self._exchanges: dict[str, int] = {}
        self._instruments: dict[Instrument, int] = {}
        self._layout: _Layout | None = None

    @property
    def instruments(self) -> list[Instrument]:
        """By their place in a View."""
        return list(self._instruments)

    @property
    def exchanges(self) -> list[str]:
        """By their number in `listings`."""
        return list(self._exchanges)

    @property
    def names(self) -> Sequence[tuple[str, str]]:
        """Exchange and symbol of each listing."""
        return self._names

    @property
    def listings(self) -> Array:
        """All of them (LISTING), as they are now."""
        return self._listings[: len(self._names)]

    def take(self, exchange: str, quotes: pa.Table | pa.RecordBatch) -> None:
        """Quotes of an exchange (`storage.schema.QUOTES`), of any symbols in any order. Those not newer than what is
        held change nothing."""
        if not quotes.num_rows:
            return
        names, codes = symbols_of(quotes)
        places = np.array([self._place(exchange, name) for name in names], np.int64)
        times, numbers = (quotes.column(name).to_numpy() for name in ("ts_event", "sequence"))
        chosen = np.full(len(self._names), -1)
        hold_newest(codes, places, times, numbers, self._listings, chosen)
        changed = np.flatnonzero(chosen >= 0)
        newest = quotes.take(pa.array(chosen[changed]))
        for name in _TAKEN:
            self._listings[name][changed] = newest.column(name).to_numpy(zero_copy_only=False)

    def received(self, exchange: str, receptions: Iterable[Reception]) -> None:
        """How the symbols of an exchange are received now, all of them; others are not collected any more."""
        mine = self._mine(exchange)
        self._listings["collected"][mine] = False
        for one in receptions:
            places = np.array([self._place(exchange, symbol) for symbol in one.since], np.int64)
            if not len(places):
                continue
            listings = self._listings[places]
            # Who was silent for too long and speaks again may have missed something.
            silent = (listings["heard"] != NOWHERE) & (one.heard_ns - self._silence_ns > listings["heard"])
            listings["broken"][silent] = listings["heard"][silent] + self._silence_ns
            listings["heard"] = np.maximum(listings["heard"], one.heard_ns)
            listings["since"] = list(one.since.values()) if one.state == "streaming" else NEVER
            listings["collected"] = True
            self._listings[places] = listings

    def lost(self, exchange: str) -> None:
        """Nobody can say how the exchange is received."""
        self._listings["since"][self._mine(exchange)] = NEVER

    def unlisted(self, exchange: str) -> list[str]:
        """Symbols whose instrument is not known."""
        known = self._places.get(exchange, {})
        return [symbol for symbol, place in known.items() if self._listings["group"][place] == UNLISTED]

    def list_is(self, exchange: str, instruments: pa.Table) -> None:
        """What an exchange lists (`storage.schema.INSTRUMENTS`)."""
        found = pc.index_in(pa.array(self.unlisted(exchange), pa.string()), instruments.column("symbol"))
        for row in instruments.take(found.drop_null()).to_pylist():
            one = self._listings[self._places[exchange][row["symbol"]]]
            if row["kind"] not in KINDS:
                one["group"] = NOT_OURS
                continue
            instrument = Instrument(_name(row), *(row[name] for name in ("kind", "base", "quote", "settle", "inverse")))
            one["group"] = self._instruments.setdefault(instrument, len(self._instruments))
            one["unit"], one["unit_in_quote"] = _unit(row)
        self._layout = None

    def look(self, now_ns: int) -> View:
        """How everything stands at `now_ns`, which never goes back."""
        count, groups = len(self._names), len(self._instruments)
        (bid_size, ask_size), (bid, ask) = np.empty((2, count)), np.empty((2, groups), np.int64)
        left_out, bits = np.empty(count, np.uint8), np.empty(groups, np.uint64)
        given = (self._listings, self._laid_out().order, now_ns, self._max_age_ns, self._silence_ns)
        judge(*given, left_out, bid_size, ask_size, bid, ask, bits)
        return View(now_ns, left_out, bid_size, ask_size, bid, ask, np.bitwise_count(bits).astype(np.int32))

    def best(self, view: View, groups: Array | None = None) -> pa.RecordBatch:
        """`storage.schema.CONSOLIDATED` of all instruments, or of these (places in a View), by name. Those nobody
        collects any more are left out."""
        layout, listings = self._laid_out(), self._listings
        wanted = np.zeros(len(self._instruments), bool)
        wanted[slice(None) if groups is None else groups] = True
        shown = np.flatnonzero(wanted[listings["group"][layout.order]] & (view.left_out[layout.order] != REMOVED))
        order = layout.order[shown]
        here = np.bincount(listings["group"][order], minlength=len(wanted))
        chosen = layout.groups[here[layout.groups] > 0]
        offsets: Any = pa.array(np.concatenate([[0], np.cumsum(here[chosen])]).astype(np.int32))
        quoted = self._quoted(view, order, layout.exchanges.take(shown), layout.symbols.take(shown))
        instruments = self.instruments
        columns: dict[str, Any] = {
            "instrument": pa.array([instruments[group].name for group in chosen.tolist()], pa.string()),
            "kind": pa.array([instruments[group].kind for group in chosen.tolist()], pa.string()),
            "exchanges": pa.array(view.exchanges[chosen]),
            "quotes": pa.ListArray.from_arrays(offsets, quoted, type=CONSOLIDATED.field("quotes").type),
        }
        exchanges = pa.array([*self._exchanges, None], pa.string())
        prices = {}
        for side, places, sizes in (("bid", view.bid, view.bid_size), ("ask", view.ask, view.ask_size)):
            at = places[chosen]
            none = at < 0
            prices[side] = np.where(none, np.nan, listings[f"{side}_price"][at])
            columns[f"{side}_price"] = pa.array(prices[side], mask=none)
            columns[f"{side}_size"] = _known(np.where(none, np.nan, sizes[at]))
            columns[f"{side}_exchange"] = exchanges.take(
                pa.array(np.where(none, len(self._exchanges), listings["exchange"][at]))
            )
        columns["mid"] = _known((prices["bid"] + prices["ask"]) / 2)
        columns["spread"] = _known(prices["ask"] - prices["bid"])
        return pa.RecordBatch.from_arrays([columns[name] for name in CONSOLIDATED.names], schema=CONSOLIDATED)

    def _quoted(self, view: View, order: Array, exchanges: Any, symbols: Any) -> Any:
        listings = self._listings[order]
        why: Any = pa.array(view.left_out[order])
        none = listings["ts_recv"] == NOWHERE
        columns = {
            "exchange": exchanges,
            "symbol": symbols,
            "bid_price": _known(listings["bid_price"]),
            "bid_size": _known(view.bid_size[order]),
            "ask_price": _known(listings["ask_price"]),
            "ask_size": _known(view.ask_size[order]),
            "ts_event": pa.array(np.ascontiguousarray(listings["ts_event"]), mask=none),
            "ts_recv": pa.array(np.ascontiguousarray(listings["ts_recv"]), mask=none),
            "left_out": pa.array(LEFT_OUT, pa.string()).take(why),
        }
        return pa.StructArray.from_arrays([columns[field.name] for field in QUOTED], fields=list(QUOTED))

    def _mine(self, exchange: str) -> Array:
        return np.array(list(self._places.get(exchange, {}).values()), np.int64)

    def _place(self, exchange: str, symbol: str) -> int:
        known = self._places.setdefault(exchange, {})
        place = known.get(symbol)
        if place is None:
            place = known[symbol] = len(self._names)
            self._names.append((exchange, symbol))
            if place == len(self._listings):
                self._listings = np.concatenate([self._listings, np.zeros(place, LISTING)])
            one = self._listings[place]
            one["group"], one["exchange"] = UNLISTED, self._exchanges.setdefault(exchange, len(self._exchanges))
            one["ts_recv"] = one["heard"] = one["broken"] = NOWHERE
            one["since"], one["void"] = NEVER, True
            for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
                one[name] = np.nan
        return place

    def _laid_out(self) -> _Layout:
        if self._layout is None:
            group = self._listings["group"]
            instruments = self.instruments
            listed = [place for place in range(len(self._names)) if group[place] >= 0]
            listed.sort(key=lambda place: (instruments[group[place]].name, *self._names[place]))
            names = [self._names[place] for place in listed]
            self._layout = _Layout(
                np.array(listed, np.int64),
                pa.array([exchange for exchange, _ in names], pa.string()),
                pa.array([symbol for _, symbol in names], pa.string()),
                np.array(sorted(range(len(instruments)), key=lambda at: instruments[at].name), np.int64),
            )
        return self._layout


def _known(numbers: Array) -> Any:
    numbers = np.ascontiguousarray(numbers)
    return pa.array(numbers, mask=np.isnan(numbers))


def _name(row: Mapping[str, Any]) -> str:
    """The normalised name, with what a contract is settled in where that is not what its name says."""
    usual = ("USD", row["base"]) if row["inverse"] else (row["quote"], row["quote"])
    name, quote, settle = (row[column] for column in ("instrument", "quote", "settle"))
    return name if row["kind"] == "spot" or (quote, settle) == usual else f"{name}:{quote}:{settle}"


def _unit(row: Mapping[str, Any]) -> tuple[float, bool]:
    if row["kind"] == "spot":
        return 1.0, False
    worth = row["contract_size"] if row["contract_currency"] in (row["base"], row["quote"]) else None
    return np.nan if worth is None else worth, row["contract_currency"] == row["quote"]


def warm_up() -> None:
    """Compile (or load from numba's cache) before the first quote has to wait for it."""
    book = Consolidated(1, 1)
    row = dict.fromkeys(QUOTES.names, 1) | {"symbol": "A"}
    book.take("", pa.RecordBatch.from_pylist([row], schema=QUOTES))
    book.look(0)
