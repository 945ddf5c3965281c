"""The timeframes of bars: every bucket of one lies in one bucket of the next, and all of them in a day (UTC)."""

from typing import Final

import numpy as np

#: Nanoseconds of each.
TIMEFRAMES: Final[dict[str, int]] = {
    "1s": 1_000_000_000,
    "1m": 60_000_000_000,
    "5m": 300_000_000_000,
    "15m": 900_000_000_000,
    "1h": 3_600_000_000_000,
    "4h": 14_400_000_000_000,
    "1d": 86_400_000_000_000,
}
MINUTE: Final = "1m"
NAMES: Final = tuple(TIMEFRAMES)
SPANS: Final = np.array(list(TIMEFRAMES.values()), np.int64)
