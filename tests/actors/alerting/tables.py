"""Tables as shards send them, of one symbol, and alerts about it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.alerting.book import AlertBook
from actors.alerting.definitions import Rules
from storage.alert_log import Fired, Record
from storage.schema import BARS, INDICATORS, TRADES
from storage.timeframes import TIMEFRAMES

SECOND = 1_000_000_000
#: A full hour.
NOW = 1_769_860_800 * SECOND
EXCHANGE = "binance"
SYMBOL = "BTCUSDT"
RULES = Rules(most=100, log_rows=100, mail=True, private_targets=False, recorded=False)
PRICE = {
    "exchange": EXCHANGE,
    "symbol": SYMBOL,
    "condition": "price_above",
    "threshold": 100,
    "channels": ["websocket"],
}

#: Time, id and price.
Trade = tuple[int, int, float]


def trades(rows: Sequence[Trade], symbol: str = SYMBOL) -> pa.Table:
    count = len(rows)
    columns = {
        "symbol": pa.array([symbol] * count, pa.string()).dictionary_encode(),
        "ts_event": pa.array([at for at, _, _ in rows], pa.int64()),
        "ts_recv": pa.array([at for at, _, _ in rows], pa.int64()),
        "trade_id": pa.array([order for _, order, _ in rows], pa.int64()),
        "price": pa.array([price for _, _, price in rows], pa.float64()),
        "size": np.ones(count),
        "side": np.zeros(count, np.uint8),
        "maker_order_id": pa.nulls(count, pa.binary(16)),
        "taker_order_id": pa.nulls(count, pa.binary(16)),
    }
    return pa.table(columns).cast(TRADES)


def prices(*values: float, start: int = NOW + SECOND) -> pa.Table:
    """Trades a second apart."""
    return trades([(start + place * SECOND, place, value) for place, value in enumerate(values)])


def bars(rows: Sequence[dict[str, Any]], timeframe: str = "1m", symbol: str = SYMBOL) -> pa.Table:
    """Closed bars one after another from NOW on, unless the rows say otherwise."""
    known = dict.fromkeys(("open", "high", "low", "close", "volume", "quote_volume", "buy_volume", "vwap"), 1.0)
    known |= {"trade_count": 1, "revision": 0, "closed": True, "symbol": symbol, "timeframe": timeframe}
    span = TIMEFRAMES[timeframe]
    return pa.Table.from_pylist([{**known, "time": NOW + n * span, **row} for n, row in enumerate(rows)], BARS)


def indicators(rows: Sequence[dict[str, Any]], timeframe: str = "1m", symbol: str = SYMBOL) -> pa.Table:
    """Of the same bars."""
    span = TIMEFRAMES[timeframe]
    named = [{"symbol": symbol, "timeframe": timeframe, "time": NOW + n * span, **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(named, INDICATORS)


def book_with(*given: dict[str, Any], rules: Rules = RULES, records: Sequence[Record] = ()) -> AlertBook:
    """Its alerts are called a0, a1, ..."""
    book = AlertBook(rules, records, NOW)
    for number, one in enumerate(given):
        book.add(one, f"a{number}", NOW)
    return book


def fired(records: Sequence[Record]) -> list[tuple[int, float]]:
    """Seconds since NOW and value."""
    firings = [record.firing for record in records if isinstance(record, Fired)]
    return [((firing.ts_event - NOW) // SECOND, firing.value) for firing in firings]
