"""What layouts give: kinds of rows, and how rows are written before they become columns of `events`."""

from typing import Final

import numpy as np

# Kinds of layouts; a frame may give a row of several.
IGNORED: Final = 0
TRADE: Final = 1
HISTORY: Final = 2
QUOTE: Final = 4
DERIVATIVE: Final = 8
BOOK: Final = 16
BOOK_SNAPSHOT: Final = 32

# Rows as they are written, named as the columns of `events`. An order's id is two words.
_ROW: Final = [("at", np.intp), ("code", np.int32), ("ts_event", np.int64)]
TRADE_ROW: Final = np.dtype(
    [
        *_ROW,
        ("trade_id", np.int64),
        ("side", np.uint8),
        ("price", np.float64),
        ("size", np.float64),
        ("maker_known", np.bool_),
        ("taker_known", np.bool_),
        ("maker_order_id", np.int64, (2,)),
        ("taker_order_id", np.int64, (2,)),
    ],
    align=True,
)
QUOTE_ROW: Final = np.dtype(
    [
        *_ROW,
        ("sequence", np.int64),
        ("bid_price", np.float64),
        ("bid_size", np.float64),
        ("ask_price", np.float64),
        ("ask_size", np.float64),
        ("last_price", np.float64),
        ("last_size", np.float64),
        ("side", np.uint8),
    ],
    align=True,
)
DERIVATIVE_ROW: Final = np.dtype(
    [
        *_ROW,
        ("mark_price", np.float64),
        ("index_price", np.float64),
        ("open_interest", np.float64),
        ("funding_rate", np.float64),
        ("predicted_funding_rate", np.float64),
        ("next_funding_time", np.int64),
    ],
    align=True,
)
BOOK_ROW: Final = np.dtype(
    [
        *_ROW,
        ("kind", np.uint8),
        ("first_sequence", np.int64),
        ("sequence", np.int64),
        ("previous_sequence", np.int64),
        ("checksum", np.int64),
        ("levels", np.int64),
    ],
    align=True,
)
LEVEL_ROW: Final = np.dtype(
    [
        ("level_price", np.float64),
        ("level_size", np.float64),
        ("level_side", np.uint8),
        ("level_price_decimals", np.int8),
        ("level_size_decimals", np.int8),
    ],
    align=True,
)

#: The tables rows are written to: of which kinds, and whether a frame may give several.
TABLES: Final = (
    (TRADE, TRADE_ROW, True),
    (HISTORY, TRADE_ROW, True),
    (QUOTE, QUOTE_ROW, False),
    (DERIVATIVE, DERIVATIVE_ROW, False),
    (BOOK | BOOK_SNAPSHOT, BOOK_ROW, False),
    (BOOK | BOOK_SNAPSHOT, LEVEL_ROW, True),
)
