"""The Arrow schemas of all events, and how they are laid out in column files.

Times are int64 nanoseconds since the epoch, UTC. Symbols are exchange-native and dictionary-encoded, so a
batch carries each name once. A batch belongs to one exchange, which travels beside it. What a feed does not
say is null in Arrow.
"""

from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from storage.feature_names import NEWEST, VERSIONS

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

#: One level of a book message. `side`: 0 bid, 1 ask; `size` is absolute, 0 removes the level. The decimals say how
#: the exchange wrote the numbers ("0.0510" has 4), -1 where unknown: together they give the exact text back, which
#: checksums are made of.
LEVEL: Final = pa.struct(
    [
        pa.field("side", pa.uint8(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
        pa.field("size", pa.float64(), nullable=False),
        pa.field("price_decimals", pa.int8(), nullable=False),
        pa.field("size_decimals", pa.int8(), nullable=False),
    ]
)

#: Kinds of book messages. A snapshot replaces the book, a change changes levels of it. A checksum alone belongs to
#: the book as it is. After a broken one the book misses something: an unreadable message, or a hole in the numbers
#: of its connection.
SNAPSHOT: Final = 0
CHANGE: Final = 1
CHECKSUM: Final = 2
BROKEN: Final = 3

#: One row per book message, in the order received. The sequences are the exchange's own, where it has them: of the
#: first and the last event in the message, and of the message before it.
BOOK_MESSAGES: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("first_sequence", pa.int64()),
        pa.field("sequence", pa.int64()),
        pa.field("previous_sequence", pa.int64()),
        pa.field("checksum", pa.int64()),
        pa.field("levels", pa.list_(pa.field("item", LEVEL, nullable=False)), nullable=False),
    ]
)

DEPTH_LEVEL: Final[Any] = pa.struct(
    [pa.field("price", pa.float64(), nullable=False), pa.field("size", pa.float64(), nullable=False)]
)
_DEPTH_SIDE: Final[Any] = pa.list_(pa.field("item", DEPTH_LEVEL, nullable=False))

#: One row per book: its best levels, best first. `state` is `synced` only where the levels can be trusted; `epoch`
#: counts how often the book was built anew.
DEPTH: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),
        pa.field("sequence", pa.int64()),
        pa.field("bids", _DEPTH_SIDE, nullable=False),
        pa.field("asks", _DEPTH_SIDE, nullable=False),
    ]
)

#: One row per message about a derivative; what the message does not say is null. Rates are fractions per funding
#: interval (0.0001 = 1 basis point), `open_interest` is in the exchange's own unit (see the feed).
DERIVATIVES: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("mark_price", pa.float64()),
        pa.field("index_price", pa.float64()),
        pa.field("open_interest", pa.float64()),
        pa.field("funding_rate", pa.float64()),
        pa.field("predicted_funding_rate", pa.float64()),
        pa.field("next_funding_time", pa.int64()),
    ]
)

#: One row per forced trade. `side` is the taker's: 1 (sell) closes a long position.
LIQUIDATIONS: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("ts_recv", pa.int64(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
        pa.field("size", pa.float64(), nullable=False),
        pa.field("side", pa.uint8(), nullable=False),
    ]
)

#: One row per stored trade that stands for `fills` (more than one) trades of the exchange, whose ids end with its own:
#: `trade_id - fills + 1 .. trade_id`.
MERGED: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("trade_id", pa.int64(), nullable=False),
        pa.field("fills", pa.int32(), nullable=False),
    ]
)

#: One row per span of time (both ends inclusive) in which trades of a symbol may have been missed. `from_ns` 0: since
#: the last trade that is stored.
BREAKS: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("from_ns", pa.int64(), nullable=False),
        pa.field("to_ns", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

#: One row per gap: trades of a symbol that were not received, as ids `first_id..last_id` where the exchange counts its
#: trades, and as the time `from_ns..to_ns` in any case (all inclusive). `gap_id` is unique within exchange and symbol.
#: `missing` is how many ids are missing still, `backfilled` how many rows backfill has stored, `attempts` how often it
#: tried. An open gap has no `closed`; a closed one says in `evidence` how that is known. `revision` counts changes.
GAPS: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("gap_id", pa.int64(), nullable=False),
        pa.field("first_id", pa.int64()),
        pa.field("last_id", pa.int64()),
        pa.field("from_ns", pa.int64(), nullable=False),
        pa.field("to_ns", pa.int64(), nullable=False),
        pa.field("missing", pa.int64()),
        pa.field("opened", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("backfilled", pa.int64(), nullable=False),
        pa.field("closed", pa.int64()),
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
    ]
)

#: One row per instrument an exchange lists. `instrument` is the normalised name (BTC-USDT, BTC-PERPETUAL), `kind`
#: one of spot, perpetual, future, option, other. Increments are the steps of prices and sizes; their decimals how
#: many digits follow the point. `contract_size` is the value of one unit of size in `contract_currency`; an
#: `inverse` contract is settled in its base. `expiry` is ns UTC, `option_type` call or put.
_INSTRUMENT_FIELDS: Final[list[Any]] = [
    pa.field("symbol", pa.string(), nullable=False),
    pa.field("instrument", pa.string(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("base", pa.string(), nullable=False),
    pa.field("quote", pa.string(), nullable=False),
    pa.field("settle", pa.string()),
    pa.field("price_increment", pa.float64()),
    pa.field("size_increment", pa.float64()),
    pa.field("price_decimals", pa.int8()),
    pa.field("size_decimals", pa.int8()),
    pa.field("contract_size", pa.float64()),
    pa.field("contract_currency", pa.string()),
    pa.field("inverse", pa.bool_(), nullable=False),
    pa.field("expiry", pa.int64()),
    pa.field("strike", pa.float64()),
    pa.field("option_type", pa.string()),
    pa.field("active", pa.bool_(), nullable=False),
]
INSTRUMENTS: Final = pa.schema(_INSTRUMENT_FIELDS)

#: One row per symbol that an exchange lists or has listed: what it says of it, and whether it is `collected` now.
_SYMBOL_FIELDS: Final = [*_INSTRUMENT_FIELDS, pa.field("collected", pa.bool_(), nullable=False)]
SYMBOLS: Final = pa.schema(_SYMBOL_FIELDS)

#: One row per bar. `time` is the start of the bucket (ns); `vwap` is the average price by volume, null without volume;
#: `revision` counts changes after the bar closed. What a source of bars does not say is null.
BARS: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("open", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("close", pa.float64(), nullable=False),
        pa.field("volume", pa.float64()),
        pa.field("quote_volume", pa.float64()),
        pa.field("trade_count", pa.int64()),
        pa.field("buy_volume", pa.float64()),
        pa.field("vwap", pa.float64()),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("closed", pa.bool_(), nullable=False),
    ]
)

#: What indicators say of a bar; parameters are in the names (`actors.aggregation.indicators`).
INDICATOR_FIELDS: Final = (
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_hist",
    "bb_upper",
    "bb_middle",
    "bb_lower",
    "sma_20",
    "sma_50",
    "sma_100",
    "sma_200",
    "ema_12",
    "ema_26",
    "ema_50",
    "vwap",
    "stoch_k",
    "stoch_d",
    "atr_14",
    "adx_14",
    "volume_sma",
    "obv",
    "cci_14",
    "mfi_14",
    "williams_r_14",
    "roc_10",
)

#: One row per closed bar. What a bar's history is too short for, or says nothing about, is null.
INDICATORS: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in INDICATOR_FIELDS),
    ]
)

#: One row per closed bar: the features of all versions (`storage.feature_names`), in the order of the newest. What a
#: bar's history is too short for, or says nothing about, is null.
FEATURES: Final = pa.schema(
    [
        pa.field("symbol", SYMBOL, nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in VERSIONS[NEWEST]),
    ]
)

#: One row per symbol and hour: `time` is its start (ns), trades belong to the hour they were received in. `passed` and
#: the four checks (trades that failed it first) make up `total`; `score` is that of its end; `lateness_ms` the mean of
#: ts_recv - ts_event of fresh trades, null without any.
_QUALITY_FIELDS: Final[list[Any]] = [
    pa.field("symbol", SYMBOL, nullable=False),
    pa.field("time", pa.int64(), nullable=False),
    pa.field("total", pa.int64(), nullable=False),
    pa.field("passed", pa.int64(), nullable=False),
    pa.field("valid_values", pa.int64(), nullable=False),
    pa.field("data_freshness", pa.int64(), nullable=False),
    pa.field("price_anomaly", pa.int64(), nullable=False),
    pa.field("volume_sanity", pa.int64(), nullable=False),
    pa.field("zero_sizes", pa.int64(), nullable=False),
    pa.field("duplicates", pa.int64(), nullable=False),
    pa.field("level_shifts", pa.int64(), nullable=False),
    pa.field("silences", pa.int64(), nullable=False),
    pa.field("score", pa.float64(), nullable=False),
    pa.field("lateness_ms", pa.float64()),
]
QUALITY: Final = pa.schema(_QUALITY_FIELDS)

#: One row per trade that failed a check: the trade, `check_type`, the value that failed and what it should not pass.
_QUARANTINE_FIELDS: Final[list[Any]] = [
    pa.field("symbol", pa.string(), nullable=False),
    pa.field("ts_event", pa.int64(), nullable=False),
    pa.field("ts_recv", pa.int64(), nullable=False),
    pa.field("trade_id", pa.int64(), nullable=False),
    pa.field("price", pa.float64(), nullable=False),
    pa.field("size", pa.float64(), nullable=False),
    pa.field("side", pa.uint8(), nullable=False),
    pa.field("check_type", pa.string(), nullable=False),
    pa.field("value", pa.float64(), nullable=False),
    pa.field("threshold", pa.float64(), nullable=False),
    pa.field("error_message", pa.string(), nullable=False),
]
QUARANTINE: Final = pa.schema(_QUARANTINE_FIELDS)

#: A quote of one exchange beside those of others: sizes are in the base currency, whatever the exchange counts in.
#: `left_out` says why it does not count: removed, dead, waiting, stale or invalid; "" where it does.
QUOTED: Final[Any] = pa.struct(
    [
        pa.field("exchange", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("bid_price", pa.float64()),
        pa.field("bid_size", pa.float64()),
        pa.field("ask_price", pa.float64()),
        pa.field("ask_size", pa.float64()),
        pa.field("ts_event", pa.int64()),
        pa.field("ts_recv", pa.int64()),
        pa.field("left_out", pa.string(), nullable=False),
    ]
)
_QUOTED_LIST: Final[Any] = pa.list_(pa.field("item", QUOTED, nullable=False))

#: One row per instrument: the best bid and ask of the `exchanges` whose quote counts, null where none does. `spread` is
#: ask minus bid, below zero where one exchange bids more than another asks.
_CONSOLIDATED_FIELDS: Final[list[Any]] = [
    pa.field("instrument", pa.string(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("bid_price", pa.float64()),
    pa.field("bid_size", pa.float64()),
    pa.field("bid_exchange", pa.string()),
    pa.field("ask_price", pa.float64()),
    pa.field("ask_size", pa.float64()),
    pa.field("ask_exchange", pa.string()),
    pa.field("mid", pa.float64()),
    pa.field("spread", pa.float64()),
    pa.field("exchanges", pa.int32(), nullable=False),
    pa.field("quotes", _QUOTED_LIST, nullable=False),
]
CONSOLIDATED: Final = pa.schema(_CONSOLIDATED_FIELDS)

#: One row per episode of arbitrage: buying at the ask of one exchange and selling at the bid of another paid from
#: `opened` to `closed` (ns; null while it does), and most at `peak`. Prices, `size` (base currency), `spread` (fraction
#: of the ask) and `profit` (quote currency), both after fees, are those of the peak, `last_profit` is the newest.
#: `ended` says why it is over: prices, or what became of a quote. `revision` counts changes of the row.
_ARBITRAGE_FIELDS: Final[list[Any]] = [
    pa.field("instrument", pa.string(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("buy_exchange", pa.string(), nullable=False),
    pa.field("buy_symbol", pa.string(), nullable=False),
    pa.field("sell_exchange", pa.string(), nullable=False),
    pa.field("sell_symbol", pa.string(), nullable=False),
    pa.field("opened", pa.int64(), nullable=False),
    pa.field("closed", pa.int64()),
    pa.field("peak", pa.int64(), nullable=False),
    pa.field("buy_price", pa.float64(), nullable=False),
    pa.field("sell_price", pa.float64(), nullable=False),
    pa.field("size", pa.float64(), nullable=False),
    pa.field("spread", pa.float64(), nullable=False),
    pa.field("profit", pa.float64(), nullable=False),
    pa.field("last_profit", pa.float64(), nullable=False),
    pa.field("ended", pa.string(), nullable=False),
    pa.field("revision", pa.int32(), nullable=False),
]
ARBITRAGE: Final = pa.schema(_ARBITRAGE_FIELDS)

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
