"""Past trades over REST: what is wanted of a symbol, the requests that ask for it, and the answers as rows.

Each exchange has a `TradeHistory` in `actors/feeds/<exchange>/history.py`. They are pure and keep no state: whoever
wants past trades sends `request`, hands the answer to `read`, and goes on with `HistoryPage.next` until it is None.
That comes to an end whatever an exchange answers, since every page must go further than the request before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pyarrow as pa

from actors.feeds.columns import NO_TIME, Floats, Integers, Times, TradeColumns
from actors.feeds.events import Events
from actors.feeds.feed import RestRequest
from actors.feeds.symbol_codes import SymbolCodes

NS_PER_MS: Final = 1_000_000

TradeId = msgspec.Meta(ge=0, le=2**63 - 2)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Past trades of one symbol: those with the ids `first_id..last_id` where these are known, otherwise those of the
    time `from_ns..to_ns`; all inclusive. With ids, the time says about when they were."""

    symbol: str
    from_ns: int
    to_ns: int
    first_id: int | None = None
    last_id: int | None = None

    @property
    def ids(self) -> tuple[int, int] | None:
        return None if self.first_id is None or self.last_id is None else (self.first_id, self.last_id)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What one answer brought."""

    #: `storage.schema.TRADES`: only what is wanted, by (ts_event, trade_id), with the ids of the live feed.
    trades: pa.RecordBatch
    #: `storage.schema.MERGED`: which of them stand for several.
    merged: pa.RecordBatch
    #: Asks for the rest; None: that was all.
    next: RestRequest | None
    #: With `next` None: the exchange has shown everything wanted that it has, and both ends were seen.
    covered: bool
    #: How far in time the pages have come, within `from_ns..to_ns`: forwards the newest, backwards the oldest trade. A
    #: page without any trade has come nowhere: it says where one began.
    reached_ns: int


class TradeHistory(Protocol):
    """How one exchange gives past trades."""

    #: Pages go from old to new.
    forwards: ClassVar[bool]

    def request(self, wanted: Wanted) -> RestRequest | None:
        """What to ask for first; None where the exchange does not offer it."""

    def read(self, wanted: Wanted, body: bytes, ts_recv: int, request: RestRequest | None = None) -> HistoryPage:
        """The answer, received at `ts_recv` (ns), to this request (None: the first). ValueError with the reason when
        it is none."""


def past_trades(
    ts_event: Times,
    trade_id: Sequence[int],
    side: Sequence[int],
    price: Sequence[float] | Floats,
    size: Sequence[float] | Floats,
    fills: Sequence[int] | None = None,
) -> TradeColumns:
    """The trades of an answer, as the exchange says them, in any order."""
    return TradeColumns(
        at=np.zeros(len(ts_event), np.intp),
        code=np.zeros(len(ts_event), np.int32),
        ts_event=ts_event,
        trade_id=np.array(trade_id, np.int64),
        side=np.array(side, np.uint8),
        price=np.array(price, np.float64),
        size=np.array(size, np.float64),
        fills=None if fills is None else np.array(fills, np.int64),
    )


def page(
    wanted: Wanted, rows: TradeColumns, ts_recv: int, forwards: bool, then: RestRequest | None, covered: bool
) -> HistoryPage:
    """What is wanted of these trades, each once; `then` asks for the rest. A trade no live feed would accept is left
    out."""
    times = rows.ts_event[rows.ts_event != NO_TIME]
    if then is None and covered:
        reached = wanted.to_ns if forwards else wanted.from_ns
    elif not len(times):
        reached = wanted.from_ns if forwards else wanted.to_ns
    else:
        reached = min(max(int(times.max() if forwards else times.min()), wanted.from_ns), wanted.to_ns)
    chosen = _chosen(wanted, rows)
    kept: dict[str, Any] = {
        name: None if (column := getattr(rows, name)) is None else column[chosen]
        for name in TradeColumns.__dataclass_fields__
    }
    events = Events(np.array([ts_recv], np.int64), SymbolCodes([wanted.symbol]))
    events.trades.append(TradeColumns(**kept))
    trades = events.trade_batch()
    return HistoryPage(trades, events.merged_batch(), then, covered and then is None, reached)


def _chosen(wanted: Wanted, rows: TradeColumns) -> Integers:
    """The places of what is wanted, in order."""
    if wanted.ids is None:
        inside = (rows.ts_event >= wanted.from_ns) & (rows.ts_event <= wanted.to_ns)
    else:
        inside = (rows.trade_id >= wanted.ids[0]) & (rows.trade_id <= wanted.ids[1])
    places = np.flatnonzero(inside)
    _, first = np.unique(rows.trade_id[places], return_index=True)
    places = places[first]
    order: Integers = np.lexsort((rows.trade_id[places], rows.ts_event[places]))
    return places[order]


def reaches_back(wanted: Wanted, rows: TradeColumns) -> bool:
    """Whether nothing wanted is older than these trades, all of the newest ones before some id or time: the first id
    is among them, or one from before the time (at its very beginning there may be more)."""
    if wanted.ids is not None:
        return bool((rows.trade_id <= wanted.ids[0]).any())
    return bool(((rows.ts_event < wanted.from_ns) & (rows.ts_event != NO_TIME)).any())


def reaches_end(wanted: Wanted, rows: TradeColumns) -> bool:
    """The same towards the end, of the oldest ones after some id or time."""
    if wanted.ids is not None:
        return bool((rows.trade_id >= wanted.ids[1]).any())
    return bool((rows.ts_event > wanted.to_ns).any())


def is_past(wanted: Wanted, ts_recv: int) -> bool:
    """Whether no further trade can come into the time wanted. Of ids that can never be said: they tell themselves."""
    return wanted.ids is None and wanted.to_ns < ts_recv


def forward_page(
    wanted: Wanted, rows: TradeColumns, ts_recv: int, cursor: int, more: bool, from_id: Callable[[int], RestRequest]
) -> HistoryPage:
    """A page of the oldest trades with an id of `cursor` or more; `more` says that there are others, which `from_id`
    asks for."""
    ended = reaches_end(wanted, rows)
    newest = int(rows.trade_id.max(initial=-1))
    advances = newest >= cursor
    if more and advances and not ended:
        return page(wanted, rows, ts_recv, True, from_id(newest + 1), False)
    return page(wanted, rows, ts_recv, True, None, ended or (not more and is_past(wanted, ts_recv)))


def backward_page(
    wanted: Wanted,
    rows: TradeColumns,
    ts_recv: int,
    cursor: int | None,
    more: bool,
    before_id: Callable[[int], RestRequest],
) -> HistoryPage:
    """A page of the newest trades with an id below `cursor`; `more` says that there may be older ones, which
    `before_id` asks for."""
    begun = reaches_back(wanted, rows)
    oldest = int(rows.trade_id.min(initial=2**63 - 1))
    advances = len(rows.trade_id) > 0 and oldest > 0 and (cursor is None or oldest < cursor)
    if more and advances and not begun:
        return page(wanted, rows, ts_recv, False, before_id(oldest), False)
    return page(wanted, rows, ts_recv, False, None, begun and (wanted.ids is not None or is_past(wanted, ts_recv)))


def number_in(request: RestRequest | None, name: str) -> int | None:
    """A whole number of a request's query; None where it has none."""
    values = parse_qs(urlsplit(request.path).query).get(name) if request is not None else None
    return int(values[0]) if values else None


def answer_of[Answer](decode: Callable[[bytes], Answer], body: bytes) -> Answer:
    """The body decoded; ValueError with the reason where it is something else."""
    try:
        return decode(body)
    except (ValueError, RecursionError) as unexpected:
        raise ValueError(f"not a list of trades: {unexpected}") from None
