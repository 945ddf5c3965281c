"""The Arrow schemas of all events, and how they are laid out in column files.

Times are int64 nanoseconds since the epoch, UTC. Symbols are exchange-native and dictionary-encoded, so a
batch carries each name once. A batch belongs to one exchange, which travels beside it. What a feed does not
say is null in Arrow.
"""

from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

BUY: Final = 0
SELL: Final = 1

#: Side in `MD` files where the feed does not say who took the last trade.
UNKNOWN_SIDE: Final = 2

SYMBOL: Final = pa.dictionary(pa.int32(), pa.string())
ORDER_ID: Final = pa.binary(16)

#: One row per trade. `side` is the taker's. `trade_id` is the exchange's own, unique per symbol.
TRADES: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("trade_id", pa.int64(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
        pa.field("size", pa.float64(), nullable=False),
        pa.field("side", pa.uint8(), nullable=False),
        pa.field("maker_order_id", ORDER_ID),
        pa.field("taker_order_id", ORDER_ID),
    ]
)

#: One row per best bid/ask. `sequence` orders and identifies quotes of one symbol; `last_*` is the last
#: trade where the feed sends it along (a ticker), null otherwise. `ts_event` is `ts_recv` where the feed has
#: no time.
QUOTES: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("bid_price", pa.float64()),
        pa.field("bid_size", pa.float64()),
        pa.field("ask_price", pa.float64()),
        pa.field("ask_size", pa.float64()),
        pa.field("last_price", pa.float64()),
        pa.field("last_size", pa.float64()),
        pa.field("last_side", pa.uint8()),
    ]
)

#: The timeframe of bars.
MINUTE: Final = "1m"

#: One row per bar. `time` is the start of the bucket (ns); `revision` counts changes after the bar closed.
BARS: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("open", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("close", pa.float64(), nullable=False),
        pa.field("volume", pa.float64(), nullable=False),
        pa.field("quote_volume", pa.float64(), nullable=False),
        pa.field("trade_count", pa.int64(), nullable=False),
        pa.field("buy_volume", pa.float64(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("closed", pa.bool_(), nullable=False),
    ]
)

#: The folders of a symbol on disk: `MD` holds quotes, `TRADES` trades.
RowType = Literal["MD", "TRADES"]

#: Columns of each row type on disk, all little-endian. The first seven of `MD` and the first eight of
#: `TRADES` are the legacy contract; the rest are exact values beside the f32 ones. In float columns NaN
#: says "not known". `id` identifies a trade and `sequence` a quote: a second row with it is dropped.
COLUMNS: Final[dict[RowType, dict[str, np.dtype[np.generic]]]] = {
    "MD": {
        "time": np.dtype("<u4"),
        "nanos": np.dtype("<u4"),
        "price": np.dtype("<f4"),
        "volume": np.dtype("<f4"),
        "side": np.dtype("<u4"),
        "best_bid": np.dtype("<f4"),
        "best_ask": np.dtype("<f4"),
        "price64": np.dtype("<f8"),
        "size64": np.dtype("<f8"),
        "best_bid64": np.dtype("<f8"),
        "best_bid_size64": np.dtype("<f8"),
        "best_ask64": np.dtype("<f8"),
        "best_ask_size64": np.dtype("<f8"),
        "sequence": np.dtype("<u8"),
    },
    "TRADES": {
        "time": np.dtype("<u4"),
        "nanos": np.dtype("<u4"),
        "id": np.dtype("<u8"),
        "price": np.dtype("<f4"),
        "size": np.dtype("<f4"),
        "side": np.dtype("<u4"),
        "maker_order_id": np.dtype("V16"),
        "taker_order_id": np.dtype("V16"),
        "price64": np.dtype("<f8"),
        "size64": np.dtype("<f8"),
    },
}

#: The column that identifies a row of each type within a symbol.
IDENTITY: Final[dict[RowType, str]] = {"MD": "sequence", "TRADES": "id"}


def symbols_of(batch: pa.RecordBatch | pa.Table) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int32]]]:
    """The symbol names of a batch (its dictionary) and per row the index into them."""
    column: Any = batch.column("symbol")
    if isinstance(batch, pa.Table):
        column = column.unify_dictionaries().combine_chunks()
    return column.dictionary.to_pylist(), np.asarray(column.indices)
