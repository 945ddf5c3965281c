"""Every trade a simulated exchange made: what its REST answers come from, and what audits compare with.

A trade is in the column files (the layout of DATA/columns) before anybody is told of it. A killed simulator goes on
with the next ids; what it had written and not told yet has happened all the same, while its clients were away.
"""

import resource
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.simulator.dialect import Listing, Trades
from actors.simulator.market import Last
from storage.column_layout import join_time, split_time
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS

_COLUMNS: Final = ("time", "nanos", "id", "price64", "size64", "side")
#: A symbol has ten; one exchange takes this part of what the process may open, and at least so many.
_SHARE_OF_FILES: Final = 16
_FEWEST_FILES: Final = 100
#: Trades of each symbol that are kept without files, and how many of them together.
_RECENT: Final = 100_000
_PART: Final = 1000
_LAST_ID: Final = 2**63 - 1


class TradeHistory(Protocol):
    """The trades of one exchange; those of a symbol have rising ids and times that do not fall."""

    def append(self, listed: Listing, trades: Trades) -> None: ...

    def select(self, listed: Listing, ids: tuple[int, int], span: tuple[int, int], limit: int, newest: bool) -> Trades:
        """Trades with these ids and times (ns; both ends inclusive), oldest first: the first `limit` of them, or the
        last."""

    def close(self) -> None: ...


class Truth:
    """See `TradeHistory`. The only one that writes below `root`/`exchange`. A request reads a few pages of the files,
    however long they are."""

    def __init__(self, root: Path, exchange: str) -> None:
        self._exchange = exchange
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._writer = ColumnWriter(root, max(allowed // _SHARE_OF_FILES, _FEWEST_FILES))
        self._symbols: set[str] = set()
        # Looks for symbols when there is a new one, and only then.
        self._reader = ColumnReader(root, clock=lambda: float(len(self._symbols)), rescan_s=1.0)

    def append(self, listed: Listing, trades: Trades) -> None:
        """Raises OSError when the disk fails."""
        count = len(trades)
        time, nanos = split_time(trades.t_ns)
        # A quotient of whole numbers is the float that the decimal text is read as.
        price = trades.prices / 10.0**listed.price_decimals
        size = trades.sizes / 10.0**listed.size_decimals
        columns = {
            "time": time,
            "nanos": nanos,
            "id": trades.ids.astype("<u8"),
            "price": price.astype("<f4"),
            "size": size.astype("<f4"),
            "side": trades.sides.astype("<u4"),
            "maker_order_id": np.zeros(count, COLUMNS["TRADES"]["maker_order_id"]),
            "taker_order_id": np.zeros(count, COLUMNS["TRADES"]["taker_order_id"]),
            "price64": price,
            "size64": size,
        }
        self._writer.append(self._exchange, listed.symbol, "TRADES", columns)
        self._symbols.add(listed.symbol)

    def select(self, listed: Listing, ids: tuple[int, int], span: tuple[int, int], limit: int, newest: bool) -> Trades:
        stored = self._reader.select(self._exchange, listed.symbol, "TRADES", *span, _COLUMNS)
        price_scale, size_scale = 10.0**listed.price_decimals, 10.0**listed.size_decimals
        chosen = []
        for part, rows in _chosen(stored.parts("id"), ids, limit, newest):
            time, nanos, trade_ids, price, size, side = (stored.parts(column)[part][rows] for column in _COLUMNS)
            chosen.append(
                Trades(
                    join_time(time, nanos),
                    trade_ids.astype(np.int64),
                    np.rint(price * price_scale).astype(np.int64),
                    np.rint(size * size_scale).astype(np.int64),
                    side.astype(np.uint8),
                )
            )
        return joined(chosen)

    def last(self, listings: Mapping[str, Listing]) -> dict[str, Last]:
        """The newest trade of every symbol there has ever been; in ticks where it is listed, else 0."""
        found = {}
        for symbol in self._reader.symbols().get(self._exchange, []):
            row = self._reader.last_rows(self._exchange, symbol, "TRADES", 1, ("time", "nanos", "id", "price64"))
            if row.rows:
                listed = listings.get(symbol)
                price = round(float(row.column("price64")[0]) * 10.0**listed.price_decimals) if listed else 0
                t_ns = int(join_time(row.column("time"), row.column("nanos"))[0])
                found[symbol] = Last(int(row.column("id")[0]), t_ns, price)
        return found

    def close(self) -> None:
        self._writer.close()


class RecentTrades:
    """See `TradeHistory`: in memory, the newest only."""

    def __init__(self) -> None:
        self._trades: dict[str, deque[Trades]] = {}

    def append(self, listed: Listing, trades: Trades) -> None:
        kept = self._trades.setdefault(listed.symbol, deque(maxlen=_RECENT // _PART + 1))
        if kept and len(kept[-1]) + len(trades) <= _PART:
            trades = joined([kept.pop(), trades])
        kept.append(trades)

    def select(self, listed: Listing, ids: tuple[int, int], span: tuple[int, int], limit: int, newest: bool) -> Trades:
        first, last = (min(max(t_ns, 0), _LAST_ID) for t_ns in span)
        parts = []
        for trades in self._trades.get(listed.symbol, ()):
            rows = slice(int(trades.t_ns.searchsorted(first)), int(trades.t_ns.searchsorted(last, "right")))
            parts.append(sliced(trades, rows))
        found = _chosen([part.ids for part in parts], ids, limit, newest)
        return joined([sliced(parts[part], rows) for part, rows in found])

    def close(self) -> None:
        self._trades.clear()


def sliced(trades: Trades, rows: slice) -> Trades:
    """Those rows."""
    return Trades(*(getattr(trades, name)[rows] for name in Trades.__slots__))


def joined(parts: Sequence[Trades]) -> Trades:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int64)
    t_ns, ids, prices, sizes = (
        np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in ("t_ns", "ids", "prices", "sizes")
    )
    return Trades(t_ns, ids, prices, sizes, np.concatenate([np.zeros(0, np.uint8), *(part.sides for part in parts)]))


def _chosen(
    parts: Sequence[NDArray[np.uint64] | NDArray[np.int64]], ids: tuple[int, int], limit: int, newest: bool
) -> list[tuple[int, slice]]:
    """Position of a part and its rows, in order, by binary search of the ids in each part."""
    first, last = (min(max(number, 0), _LAST_ID) for number in ids)
    found = []
    order = range(len(parts))
    for at in order[::-1] if newest else order:
        if limit <= 0:
            break
        # Searching for a Python int would convert the whole column first.
        low = int(parts[at].searchsorted(parts[at].dtype.type(first)))
        high = int(parts[at].searchsorted(parts[at].dtype.type(last), "right"))
        low, high = (max(low, high - limit), high) if newest else (low, min(high, low + limit))
        if low < high:
            limit -= high - low
            found.append((at, slice(low, high)))
    return found[::-1] if newest else found
