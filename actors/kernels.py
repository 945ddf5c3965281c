"""Compiles every kernel, or loads what was compiled before: no message has to wait for that.

`python -m actors.kernels` does so once for all processes that come later.
"""

import pyarrow as pa

from actors.aggregation import activity_bars, arbitrage, bars, consolidated, features, indicators, quality
from actors.aggregation.book_sync import BookSync
from actors.feeds.feed import BookRules
from actors.feeds.layouts import KnownLayouts
from storage.schema import BOOK_MESSAGES, CHANGE, SNAPSHOT

_LEVEL = {"side": 0, "price": 1.0, "size": 1.0, "price_decimals": 1, "size_decimals": 1}


def warm_up() -> None:
    """Run every kernel once; a fifth of a second where they were compiled before, else some ten."""
    bars.warm_up()
    activity_bars.warm_up()
    indicators.warm_up()
    features.warm_up()
    quality.warm_up()
    consolidated.warm_up()
    arbitrage.warm_up()
    KnownLayouts([], {})
    for checksum in ("kraken", "okx", "bitfinex"):
        books = BookSync(BookRules("previous", checksum, depth=10), by_request=False, stale_s=1.0)
        books.add(["A"], 0.0)
        books.apply(_messages(SNAPSHOT, 1), 0.0)
        books.apply(_messages(CHANGE, 2), 0.0)
        books.tick(10.0)
    books = BookSync(BookRules("range", "none"), by_request=True)
    books.add(["A"], 0.0)
    books.subscribed(["A"], 0.0)
    books.apply(_messages(CHANGE, 2), 0.0)
    books.snapshot(_messages(SNAPSHOT, 1), 0.0)
    books.depth(["A"], 10)
    books.lost(0.0)


def _messages(kind: int, sequence: int) -> pa.RecordBatch:
    row = {
        "symbol": "A",
        "ts_event": 1,
        "ts_recv": 1,
        "kind": kind,
        "first_sequence": sequence,
        "sequence": sequence,
        "previous_sequence": sequence - 1,
        "checksum": 0,
        "levels": [_LEVEL, {**_LEVEL, "side": 1, "price": 2.0}],
    }
    return pa.RecordBatch.from_pylist([row], schema=BOOK_MESSAGES)


if __name__ == "__main__":
    warm_up()
