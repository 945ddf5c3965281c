"""Bars that end after so many trades, so much size or so much money instead of after a time: `tick:1000`,
`volume:12.5`, `dollar:1000000` (in the quote currency).

They are made from the stored trades when somebody asks, in the order of (ts_event, trade_id), and begin anew each day
(UTC): so they always agree with the trades, and a late trade changes those of its day alone. The trade that reaches the
amount is the last of its bar, and `time` is that of the first.
"""

import numpy as np
import pyarrow as pa
from numba import njit

from actors.aggregation import bar_kernels, exact_sums
from actors.aggregation.activity import Activity
from actors.aggregation.bar_kernels import BAR, BOUGHT, QUOTE, SOLD, STRIDE
from actors.aggregation.bar_tables import to_bars
from actors.aggregation.exact_sums import WORDS, add, rounded
from actors.aggregation.kernel_cache import compile_anew_with
from storage.schema import TRADES


def activity_bars(trades: pa.RecordBatch, wanted: Activity, symbol: str, limit: int) -> pa.RecordBatch:
    """The newest `limit` of all trades of a symbol in one day (`storage.schema.TRADES`, in any order); ascending, and
    only the last one may be open. `storage.schema.BARS`."""
    columns = [np.asarray(trades.column(name)) for name in ("ts_event", "trade_id", "price", "size", "side")]
    order = np.lexsort((columns[1], columns[0]))
    ts, ids, price, size, side = (column[order] for column in columns)
    amounts = {"tick": np.ones(len(ts)), "volume": size, "dollar": price * size}[wanted.kind]
    numbers = np.empty(len(ts), np.int64)
    closed = _numbered(amounts, wanted.amount, numbers)
    # There may be as many bars as trades.
    left_out = max((int(numbers[-1]) + 1 if len(numbers) else 0) - limit, 0)
    first = int(np.searchsorted(numbers, left_out))
    kept = numbers[first:] - left_out
    rows = np.zeros(int(kept[-1]) + 1 if len(kept) else 0, BAR)
    _fill(kept, ts[first:], ids[first:], price[first:], size[first:], side[first:], rows, rows.view(np.uint64))
    rows["closed"][: max(closed - left_out, 0)] = True
    return to_bars(rows, pa.repeat(wanted.name, len(rows)), np.zeros(len(rows), np.int32), [symbol])


@njit(cache=True, nogil=True)
def _numbered(amounts, enough, numbers):  # type: ignore[no-untyped-def]
    """Which bar each trade belongs to, and how many bars are full. Ten times 0.1 is 1, as it is in their volume."""
    number, sofar = 0, np.zeros(WORDS, np.uint64)
    for at in range(len(amounts)):
        numbers[at] = number
        add(sofar, 0, amounts[at])
        if rounded(sofar, 0) >= enough:
            number += 1
            sofar[:] = 0
    return number


@njit(cache=True, nogil=True)
def _fill(numbers, ts, ids, price, size, side, rows, words):  # type: ignore[no-untyped-def]
    """Put trades, in order, into the bars they belong to."""
    for at in range(len(numbers)):
        row, own = rows[numbers[at]], numbers[at] * STRIDE
        if row.trade_count == 0:
            row.time = row.first_ts = ts[at]
            row.first_id = ids[at]
            row.open = row.high = row.low = price[at]
        row.high, row.low = max(row.high, price[at]), min(row.low, price[at])
        row.close, row.last_ts, row.last_id = price[at], ts[at], ids[at]
        row.trade_count += 1
        add(words, own + (BOUGHT if side[at] == 0 else SOLD), size[at])
        add(words, own + QUOTE, price[at] * size[at])


def warm_up() -> None:
    """Compile (or load from numba's cache)."""
    columns = [pa.array([], field.type) for field in TRADES]
    activity_bars(pa.RecordBatch.from_arrays(columns, schema=TRADES), Activity("tick", 1.0), "", 1)


compile_anew_with([_numbered, _fill], [exact_sums, bar_kernels])
