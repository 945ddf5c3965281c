"""Arbitrage: buying at the ask of one exchange and selling at the bid of another, after the fees of both takers and for
no more than the smaller of the two sizes.

An opportunity that lasts is one episode: it opens, has a peak, and closes when it pays no more or one of its quotes no
longer counts. Currencies that are set to count as one are one here: USDT, USDC and BUSD as USD by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numba import njit

from actors.aggregation.consolidated import COUNTS, LEFT_OUT, Array, Consolidated, Instrument, View
from actors.feeds.instruments import instrument_name
from storage.schema import ARBITRAGE

#: Opportunities at a time, and episodes nobody has asked for; further ones are counted.
MOST: Final = 16_384

#: `key` is made of the two listings, by their places. `closed` 0: it is open; else `ended` says why (place in ENDED).
EPISODE: Final = np.dtype(
    [
        ("key", "<i8"),
        ("opened", "<i8"),
        ("closed", "<i8"),
        ("peak", "<i8"),
        ("buy_price", "<f8"),
        ("sell_price", "<f8"),
        ("size", "<f8"),
        ("spread", "<f8"),
        ("profit", "<f8"),
        ("last_profit", "<f8"),
        ("ended", "<i4"),
        ("revision", "<i4"),
    ],
    align=True,
)
#: Both quotes count but pay no more, one of them does not count, or nobody looks any more.
ENDED: Final = ("prices", *LEFT_OUT[1:], "stopped")
STOPPED: Final = len(LEFT_OUT)
_AT_PEAK: Final = ("peak", "buy_price", "sell_price", "size", "spread", "profit")
_PLACE_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class Rules:
    """What pays: a `min_spread` (fraction of the ask) and a `min_profit` (quote currency) at least, after `fees`
    (fractions, by exchange and kind). Of an exchange without a fee nothing is known to pay."""

    fees: Mapping[str, Mapping[str, float]]
    min_spread: float
    min_profit: float
    #: Currency -> the one it counts as.
    same: Mapping[str, str]


@njit(cache=True)
def find(listings, left_out, bid_size, ask_size, order, market, fee, min_spread, min_profit, found):  # type: ignore[no-untyped-def]
    """All pairs of listings of a market that pay, as open EPISODEs in `found` as far as there is room; how many there
    are. `market` and `fee` are by listing, `order` has those of a market together."""
    count, begin = 0, 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and market[order[end]] == market[order[begin]]:
            end += 1
        for buy in order[begin:end]:
            if left_out[buy] != COUNTS or not ask_size[buy] > 0.0:
                continue
            ask = listings[buy].ask_price
            cost = ask * (1.0 + fee[buy])
            for sell in order[begin:end]:
                if listings[sell].exchange == listings[buy].exchange:
                    continue
                if left_out[sell] != COUNTS or not bid_size[sell] > 0.0:
                    continue
                bid = listings[sell].bid_price
                gain = bid * (1.0 - fee[sell]) - cost
                size = min(ask_size[buy], bid_size[sell])
                if gain / ask >= min_spread and size * gain >= min_profit:
                    if count < len(found):
                        one = found[count]
                        one.key = (np.int64(buy) << _PLACE_BITS) | sell
                        one.buy_price, one.sell_price, one.size = ask, bid, size
                        one.spread, one.profit = gain / ask, size * gain
                    count += 1
        begin = end
    return count


class Arbitrage:
    """The episodes of all pairs of listings of one `Consolidated`; of those that are over, the newest `keep`."""

    def __init__(self, rules: Rules, keep: int) -> None:
        self._rules = rules
        self._keep = keep
        self._found = np.zeros(MOST, EPISODE)
        #: By key.
        self._open: Array = np.zeros(0, EPISODE)
        #: Oldest first.
        self._closed: Array = np.zeros(0, EPISODE)
        self._untold: list[Array] = []
        #: What `changed` gave last.
        self._told: Array = np.zeros(0, EPISODE)
        #: By listing: its market (-1: none), and the fee of its exchange.
        self._market: Array = np.zeros(0, np.int64)
        self._fee = np.zeros(0)
        #: Listings that have a market, those of each together.
        self._order: Array = np.zeros(0, np.int64)
        self._markets: dict[Instrument, int] = {}
        #: Opportunities there was no room for at the last look, and changes that were not told as too many waited.
        self.beyond = self.unsaid = 0
        self.opened = 0

    def limit(self, min_spread: float, min_profit: float) -> None:
        """Other limits from now on; an episode that does not reach them ends at the next look."""
        self._rules = replace(self._rules, min_spread=min_spread, min_profit=min_profit)

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self._open)

    def follow(self, book: Consolidated, view: View) -> None:
        """Open, go on with and close episodes by how everything stands at the time of the view."""
        self._place(book)
        sizes = (view.bid_size, view.ask_size)
        limits = (self._rules.min_spread, self._rules.min_profit)
        listings, left_out = book.listings, view.left_out
        count = find(listings, left_out, *sizes, self._order, self._market, self._fee, *limits, self._found)
        self.beyond = max(count - MOST, 0)
        if not count and not len(self._open):
            return
        found = _sorted(self._found[:count])
        found["opened"] = found["peak"] = view.now_ns
        found["last_profit"] = found["profit"]
        goes_on = np.isin(self._open["key"], found["key"], assume_unique=True)
        over, open_ = self._open[~goes_on], self._open[goes_on]
        at = np.searchsorted(found["key"], open_["key"])
        open_["last_profit"] = found["profit"][at]
        higher = open_["last_profit"] > open_["profit"]
        for name in _AT_PEAK:
            open_[name][higher] = found[name][at[higher]]
        new = np.delete(found, at)
        self._begin_anew(new, view.now_ns)
        self.opened += len(new)
        self._tell(new)
        self._open = _sorted(np.concatenate([open_, new]))
        buy, sell = _places(over)
        self._close(over, np.where(left_out[buy] != COUNTS, left_out[buy], left_out[sell]), view.now_ns)

    def stop(self, now_ns: int) -> None:
        """Close what is open: nobody will follow it."""
        over, self._open = self._open, self._open[:0]
        self._close(over, STOPPED, now_ns)

    def changed(self, book: Consolidated) -> pa.RecordBatch:
        """`storage.schema.ARBITRAGE` of what opened and closed since this was asked last."""
        self._told, self._untold = np.concatenate([np.zeros(0, EPISODE), *self._untold]), []
        return self._to_arrow(book, self._told)

    def untold(self) -> None:
        """What `changed` gave last did not arrive: it is given again."""
        self._untold.insert(0, self._told)
        self._keep_within()

    def episodes(self, book: Consolidated) -> pa.RecordBatch:
        """`storage.schema.ARBITRAGE` of those that are open, the most profitable now first, and then of those that are
        over, the newest first."""
        best_first = self._open[np.argsort(-self._open["last_profit"], kind="stable")]
        return self._to_arrow(book, np.concatenate([best_first, self._closed[::-1]]))

    def _begin_anew(self, new: Array, now_ns: int) -> None:
        """Episodes are told apart by their listings and when they opened. One that closes and opens again at one time,
        as the clock of a replay may stand still, goes on with the revisions of the one before."""
        for before in self._closed[self._closed["opened"] == now_ns]:
            again = new["key"] == before["key"]
            new["revision"][again] = before["revision"] + 1

    def _close(self, over: Array, ended: Any, now_ns: int) -> None:
        over["closed"], over["ended"] = now_ns, ended
        over["revision"] += 1
        self._closed = np.concatenate([self._closed, over])[-self._keep :]
        self._tell(over)

    def _tell(self, episodes: Array) -> None:
        if not len(episodes):
            return
        self._untold.append(episodes.copy())
        self._keep_within()

    def _keep_within(self) -> None:
        while sum(map(len, self._untold)) > MOST and len(self._untold) > 1:
            self.unsaid += len(self._untold.pop(0))

    def _place(self, book: Consolidated) -> None:
        """Look which market each listing belongs to."""
        group, names = book.listings["group"], book.names
        known = self._market[: len(group)]
        if len(known) == len(group) and np.array_equal(known >= 0, group >= 0):
            return
        instruments = book.instruments
        self._market = np.full(len(group), -1)
        self._fee = np.full(len(group), np.nan)
        for place in np.flatnonzero(group >= 0).tolist():
            instrument, (exchange, _) = instruments[group[place]], names[place]
            market = _market(instrument, self._rules.same)
            self._market[place] = self._markets.setdefault(market, len(self._markets))
            self._fee[place] = self._rules.fees.get(exchange, {}).get(instrument.kind, np.nan)
        order = np.argsort(self._market, kind="stable")
        self._order = order[self._market[order] >= 0]

    def _to_arrow(self, book: Consolidated, episodes: Array) -> pa.RecordBatch:
        markets, names = list(self._markets), book.names
        buy, sell = _places(episodes)
        of = [markets[market] for market in self._market[buy].tolist()]
        closed = episodes["closed"]
        columns: dict[str, Any] = {
            "instrument": [market.name for market in of],
            "kind": [market.kind for market in of],
            "closed": pa.array(np.ascontiguousarray(closed), mask=closed == 0),
            "ended": ["" if open_ else ENDED[why] for open_, why in zip(closed == 0, episodes["ended"], strict=True)],
        }
        for side, places in (("buy", buy), ("sell", sell)):
            columns[f"{side}_exchange"] = [names[place][0] for place in places.tolist()]
            columns[f"{side}_symbol"] = [names[place][1] for place in places.tolist()]
        columns |= {name: np.ascontiguousarray(episodes[name]) for name in ARBITRAGE.names if name not in columns}
        return pa.RecordBatch.from_pydict(columns, schema=ARBITRAGE)


def _sorted(episodes: Array) -> Array:
    return episodes[np.argsort(episodes["key"])]


def _places(episodes: Array) -> tuple[Array, Array]:
    """The listings that are bought and sold."""
    return episodes["key"] >> _PLACE_BITS, episodes["key"] & ((1 << _PLACE_BITS) - 1)


def _market(instrument: Instrument, same: Mapping[str, str]) -> Instrument:
    """What an instrument is where some currencies are one."""
    quote = same.get(instrument.quote, instrument.quote)
    settle = None if instrument.settle is None else same.get(instrument.settle, instrument.settle)
    name = instrument_name(instrument.kind, instrument.base, quote, inverse=instrument.inverse)
    return Instrument(name, instrument.kind, instrument.base, quote, settle, instrument.inverse)


def warm_up() -> None:
    """Compile (or load from numba's cache) before the first quote has to wait for it."""
    book = Consolidated(1, 1)
    Arbitrage(Rules({}, 0.0, 0.0, {}), 1).follow(book, book.look(0))
