"""All features of 1,000 symbols at a bar close, beside their pandas form, which computes its 200 bars again."""

import time
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from actors.aggregation import quote_features
from actors.aggregation.features import COLUMNS, LOOK_BACK, WIDTH, fill
from benchmarks.pandas_features import Rolling, pandas_features
from benchmarks.table import Bound, Row
from storage.feature_names import NEWEST, VERSIONS

SYMBOLS: Final = 1_000
#: Symbols the pandas form is asked about in a round: it takes long for each.
SAMPLE: Final = 20
ROUNDS: Final = 7
_MINUTE: Final = 60 * quote_features.SECOND


def rows() -> list[Row]:
    """Symbols in a second of processor time."""
    times, bars, quotes = _made()
    ends = times[-1:] + _MINUTE
    values = np.full((SYMBOLS, 1, WIDTH), np.nan)
    ours, theirs, last = [], [], pd.Series(dtype=float)
    for _ in range(ROUNDS):
        began = time.process_time()
        for symbol in range(SYMBOLS):
            fill(times, *bars[symbol], LOOK_BACK, values[symbol])
            of_quotes = values[symbol, :, WIDTH - quote_features.WIDTH :]
            quote_features.fill(ends, bars[symbol, 3, -1:], *quotes, of_quotes)
        ours.append(SYMBOLS / (time.process_time() - began))
        began = time.process_time()
        for symbol in range(SAMPLE):
            frame = pd.DataFrame(dict(zip(COLUMNS, bars[symbol], strict=True)), index=pd.to_datetime(times, utc=True))
            seen = pd.DataFrame(quotes._asdict()).assign(age=(ends[0] - quotes.ts_event) / quote_features.SECOND)
            last = pandas_features(frame, seen, Rolling())
        theirs.append(SAMPLE / (time.process_time() - began))
    np.testing.assert_allclose(values[SAMPLE - 1, 0], last, rtol=1e-6, atol=1e-6)
    return [
        Row(
            f"features: {len(VERSIONS[NEWEST])} of 1,000 symbols at a bar close",
            median(ours),
            "symbols/s",
            median(theirs),
            "the same in pandas, 200 bars again",
            Bound(ratio_at_least=100),
            f"{SYMBOLS / median(ours) * 1e3:.1f} ms for all of them, one core",
        )
    ]


def _made() -> tuple[Any, Any, quote_features.Quotes]:
    """The times of bars, for each symbol its columns, and a minute of quotes."""
    random = np.random.default_rng(7)
    shape = (SYMBOLS, LOOK_BACK + 1)
    close = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, shape), axis=1))
    opens = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    reach = np.exp(np.abs(random.normal(0, 1e-3, shape)))
    volume = random.exponential(10, shape)
    columns = [opens, np.maximum(opens, close) * reach, np.minimum(opens, close) / reach, close, volume]
    columns += [volume * random.random(shape), volume * close, random.integers(1, 50, shape).astype(float)]
    times = np.arange(LOOK_BACK + 1) * _MINUTE
    seconds = times[-1] + np.arange(60) * quote_features.SECOND
    bid = 100 + np.cumsum(random.normal(0, 0.01, 60))
    quotes = quote_features.Quotes(seconds, bid, random.exponential(5, 60), bid + 0.02, random.exponential(5, 60))
    return times, np.stack(columns, axis=1), quotes
